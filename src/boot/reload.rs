//! Another plan comes into force while the relay runs: SIGHUP.
//!
//! ```text
//!  read again ─▶ what may change? ─▶ claim new addresses     │ until here nothing has changed
//!  ─▶ shards hold new requests and settle what was begun ────┤
//!  ─▶ the spool is closed, and opened for the new plan ──────┤ clients wait, some tens of milliseconds
//!  ─▶ shards go by the new plan ─▶ requests go on ───────────┘
//! ```
//!
//! Connections and listening sockets stay as they are. With a spool this is a restart without its end: what
//! was owed is found by the names of the backends, whatever has become of their places and their count, by
//! the same way as after a kill. What a backend is owed that the new plan does not have stays in the spool.

use std::sync::Arc;

use crate::boot::certificates::{self, Opened};
use crate::boot::generation::Generation;
use crate::boot::shard_main::{Founding, Order, Report};
use crate::boot::succession::Inheritance;
use crate::boot::unfit::Unfit;
use crate::boot::{Again, Relay, StartError, kernel, lost};
use crate::limits;
use crate::plan::{Plan, UdpPlan};

/// What a reload finds.
enum Next {
    /// What is in force already.
    Same,
    /// Another plan, and what its TLS is spoken with.
    Other(Box<Plan>, Opened),
}

impl Relay {
    /// Puts in force what the configuration says now. What is wrong with it is said, and changes nothing.
    ///
    /// # Errors
    /// The relay cannot go on: a shard is lost, or the spool cannot be used any more.
    pub(super) fn reload(&mut self, again: Again<'_>) -> Result<(), StartError> {
        self.notifier.reloading();
        let is_in_force = match self.ask(again) {
            Ok(Next::Same) => {
                certificates::look_again(&self.generation.watch);
                tracing::info!("reloaded: nothing has changed but, perhaps, certificates");
                true
            }
            Ok(Next::Other(plan, certificates)) => {
                self.change(*plan, certificates)?;
                true
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!("{problem}");
                }
                tracing::error!("the configuration was not reloaded: nothing has changed");
                false
            }
        };
        let before = match is_in_force {
            true => "",
            false => "the configuration was not reloaded, its log says why; ",
        };
        self.notifier.ready(&format!("{before}{}", self.status()));
        Ok(())
    }

    /// What the configuration says now, or everything that speaks against it. New addresses are claimed.
    fn ask(&mut self, again: Again<'_>) -> Result<Next, Vec<String>> {
        let plan = again()?;
        let problems = fixed(&self.generation.world.plan, &plan);
        if !problems.is_empty() {
            return Err(problems);
        }
        if plan == self.generation.world.plan {
            return Ok(Next::Same);
        }
        let words = |unfit: Vec<Unfit>| unfit.iter().map(Unfit::to_string).collect::<Vec<_>>();
        let certificates = certificates::open(&plan).map_err(words)?;
        let claimed = self.claims.change(&plan, &mut Inheritance::default());
        claimed.map_err(|why| vec![why.to_string()])?;
        Ok(Next::Other(Box::new(plan), certificates))
    }

    fn change(&mut self, plan: Plan, certificates: Opened) -> Result<(), StartError> {
        for sentence in plan.not_in_force.iter().chain(&plan.notes) {
            tracing::warn!("{sentence}");
        }
        kernel::say_few_descriptors(&plan);
        let before = Arc::clone(&self.generation.world);
        let wait = before.plan.shutdown_timeout + limits::START_WAIT_MAX;
        self.tell(|| Some(Order::Hold))?;
        self.wait_for(|report| matches!(report, Report::Held), wait)?;
        self.generation.end();
        let (generation, spools) = Generation::begin(plan, certificates, Some(&before))?;
        let world = Arc::clone(&generation.world);
        self.in_force.store(Arc::clone(&world));
        self.generation = generation;
        let posts = self.claims.posts(&world.plan)?;
        let mut parts = posts.into_iter().zip(spools);
        self.tell(|| {
            let (posts, spool) = parts.next()?;
            let world = Arc::clone(&world);
            let founding = Founding {
                world,
                posts,
                spool,
            };
            Some(Order::Take(Box::new(founding)))
        })?;
        self.wait_for(|report| matches!(report, Report::Up), wait)?;
        tracing::info!(backends = world.plan.backends.len(), "reloaded");
        Ok(())
    }

    fn tell(&self, mut order: impl FnMut() -> Option<Order>) -> Result<(), StartError> {
        for shard in &self.shards {
            let order = order().ok_or_else(lost)?;
            shard.send(order).map_err(|_| lost())?;
        }
        Ok(())
    }
}

/// What only a restart can change, of what has changed: one sentence each.
fn fixed(old: &Plan, new: &Plan) -> Vec<String> {
    let spool = |plan: &Plan| plan.spool.as_ref().map(|spool| spool.dir.clone());
    let bind = |plan: &Plan| plan.admin.as_ref().map(|admin| admin.bind);
    let sockets = |plan: &Plan, other: &Plan| {
        let mut udp = plan.udp.iter();
        udp.all(|udp| {
            let mut others = other.udp.iter().filter(|other| other.bind == udp.bind);
            others.all(|other| {
                let wish = |udp: &UdpPlan| (udp.read_buffer_bytes, udp.gro, udp.steering);
                wish(udp) == wish(other) && udp.interface == other.interface
            })
        })
    };
    let tuning = |plan: &Plan| {
        let tuning = plan.tuning;
        (tuning.poll_spins, tuning.read_buffer_bytes, tuning.backlog)
    };
    let changes = [
        ("cpus", old.cpus != new.cpus),
        ("admin.bind-addr", bind(old) != bind(new)),
        ("log", old.log != new.log),
        (
            "spool.dir, or whether there is a spool",
            spool(old) != spool(new),
        ),
        (
            "tuning.poll-spins, tuning.read-buffer or tuning.backlog",
            tuning(old) != tuning(new),
        ),
        (
            "read-buffer, gro, steering or the interface of a [[udp]] that stays",
            !sockets(old, new),
        ),
    ];
    let changed = changes.iter().filter(|(_, has_changed)| *has_changed);
    changed
        .map(|(what, _)| {
            format!("{what}: changed, which takes a restart (SIGUSR2 loses no request)")
        })
        .collect()
}
