//! A plan becomes running shards, and running shards stop without losing a request.
//!
//! ```text
//!  claim every address ─▶ helper threads (signals, DNS, log) ─▶ one pinned executor per CPU
//!                                                                │
//!  SIGHUP ──▶ another plan ─▶ each shard holds and settles, then goes by it
//!  SIGTERM ─▶ World::stopping ─▶ each shard, at its next tick: drain ─▶ all drained ─▶ exit
//! ```
//!
//! Helper threads are started first: what a pinned thread starts would inherit its one CPU.

pub mod certificates;
pub mod claims;
pub mod datagrams;
mod descriptors;
pub mod doors;
mod event_words;
mod executor;
pub mod generation;
pub mod kernel;
pub mod log;
mod log_sink;
pub mod newcomers;
pub mod notify;
pub mod peers;
pub mod reload;
mod reminders;
mod repeats;
pub mod resolver;
pub mod secret_file;
pub mod shard_main;
pub mod signals;
pub mod spool;
pub mod succession;
mod taken;
pub mod tenure;
pub mod tls;
mod trust;
pub mod unfit;
pub mod vigil;
pub mod watchdog;

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, Sender, bounded, never, unbounded};

use crate::boot::claims::Claims;
use crate::boot::generation::{Generation, SpoolPost};
use crate::boot::notify::Notifier;
use crate::boot::shard_main::{Founding, Order, Report};
use crate::boot::signals::Ask;
use crate::boot::succession::{Inheritance, News, Successor};
use crate::boot::taken::Holder;
use crate::boot::unfit::Unfit;
use crate::boot::watchdog::Pulse;
use crate::events::Events;
use crate::limits;
use crate::plan::Plan;
use crate::shard::World;
use crate::spool::unusable::Unusable;

/// Why the relay did not start: where, what was found, what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("{name}: cannot listen on {address}: {why}; {remedy}")]
    Listen {
        /// Which listener.
        name: String,
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        why: io::Error,
        /// What to do.
        remedy: Cow<'static, str>,
    },
    /// The kernel does not give what a shard needs.
    #[error("{0}")]
    Kernel(#[from] kernel::Missing),
    /// Files of certificates or keys cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Certificates(Vec<Unfit>),
    /// It was given something by a predecessor that is not there.
    #[error("{0}")]
    Inherited(String),
    /// The spool cannot be used.
    #[error("{0}")]
    Spool(#[from] Unusable),
    /// A helper thread or a shard could not be started, or has ended.
    #[error("cannot start {what}: {why}")]
    Thread {
        /// What was to be started.
        what: String,
        /// What was found.
        why: String,
    },
}

/// Reads the configuration again: the plan, or everything that is wrong with it, in words.
pub type Again<'a> = &'a dyn Fn() -> Result<Plan, Vec<String>>;

/// Runs the plan until a signal ends it and everything is drained. `again` is asked at a reload.
///
/// # Errors
/// [`StartError`], before the first request is taken.
pub fn run(plan: Plan, again: Again<'_>) -> Result<(), StartError> {
    let mut inherited = Inheritance::take().map_err(StartError::Inherited)?;
    let notifier = Notifier::from_env();
    kernel::check(plan.cpus.len())?;
    kernel::say_few_descriptors(&plan);
    let certificates = certificates::open(&plan).map_err(StartError::Certificates)?;
    let claims = Claims::open(&plan, &mut inherited)?;
    let asked = signals::start()?;
    let (events, log_queue) = Events::queue();
    if inherited.has_predecessor() && spool::has_folder(&plan)? {
        notifier.successor();
        inherited.here();
        inherited.alone(plan.shutdown_timeout + limits::START_WAIT_MAX);
        notifier.alive(); // until now its predecessor said so
    }
    let (generation, spools) = Generation::begin(plan, certificates, None)?;
    let in_force = Arc::new(ArcSwap::from(Arc::clone(&generation.world)));
    log::start(&in_force, log_queue)?;
    let mut relay = Relay {
        claims,
        generation,
        in_force,
        shards: Vec::new(),
        heard: never(),
        successor: None,
        notifier,
    };
    relay.start_shards(&events, spools)?;
    match inherited.has_predecessor() {
        true => relay.notifier.ready_instead(&relay.status()),
        false => relay.notifier.ready(&relay.status()),
    }
    inherited.here();
    drop(inherited);
    relay.rule(&asked, again)?;
    relay.generation.end();
    Ok(())
}

/// The running relay, as the main thread holds it.
struct Relay {
    claims: Claims,
    generation: Generation,
    /// What is in force, for the log.
    in_force: Arc<ArcSwap<World>>,
    /// What each shard is told.
    shards: Vec<Sender<Order>>,
    /// What they tell.
    heard: Receiver<Report>,
    /// Who takes its place, once somebody has asked for that.
    successor: Option<Successor>,
    notifier: Notifier,
}

impl Relay {
    fn start_shards(&mut self, events: &Events, spools: Vec<SpoolPost>) -> Result<(), StartError> {
        let (reports, heard) = unbounded(); // a few messages per shard and reload
        self.heard = heard;
        let world = Arc::clone(&self.generation.world);
        let posts = self.claims.posts(&world.plan)?;
        let parts = posts.into_iter().zip(spools);
        let mut pulses = Vec::new();
        for ((number, &cpu), (posts, spool)) in world.plan.cpus.iter().enumerate().zip(parts) {
            let (orders, told) = bounded(1);
            self.shards.push(orders);
            let founding = Founding {
                world: Arc::clone(&world),
                posts,
                spool,
            };
            let pulse = Pulse::default();
            pulses.push(pulse.clone());
            let (events, reports) = (events.clone(), reports.clone());
            let failures = reports.clone();
            let run = move || shard_main::run(number, founding, events, pulse, (told, reports));
            executor::start(number, cpu, run, move |why| {
                let _main_is_gone = failures.send(Report::Failed { shard: number, why });
            })?;
        }
        drop(reports);
        self.wait_for(
            |report| matches!(report, Report::Up),
            limits::START_WAIT_MAX,
        )?;
        watchdog::start(&self.notifier, pulses)?;
        tracing::info!(shards = self.shards.len(), "ready");
        Ok(())
    }

    /// What it does, for the service manager to show.
    fn status(&self) -> String {
        let backends = self.generation.world.plan.backends.len();
        format!("serving: shards {}, backends {backends}", self.shards.len())
    }

    /// Does what operators ask for, until every shard has drained.
    fn rule(&mut self, asked: &Receiver<Ask>, again: Again<'_>) -> Result<(), StartError> {
        let mut drained = 0;
        while drained < self.shards.len() {
            let successor = self.successor.as_ref();
            let news = successor.map_or_else(never, |successor| successor.news.clone());
            crossbeam::channel::select! {
                recv(asked) -> ask => match ask {
                    Ok(Ask::Stop) => self.stop(),
                    Ok(_) if self.is_stopping() => {}
                    Ok(Ask::Reload) => self.reload(again)?,
                    Ok(Ask::Restart) => self.restart(),
                    Err(_) => return Err(lost()),
                },
                recv(news) -> news => self.hear(news.unwrap_or(News::Gone)),
                recv(self.heard) -> report => match report {
                    Ok(Report::Drained { cut }) => {
                        drained += 1;
                        if cut > 0 {
                            tracing::warn!(
                                cut,
                                "shutdown-timeout passed: connections and sends were cut"
                            );
                        }
                    }
                    Ok(Report::Failed { shard, why }) => return Err(failed(shard, why)),
                    Ok(Report::Up | Report::Held) => {}
                    Err(_) => return Err(lost()),
                },
            }
        }
        Ok(())
    }

    /// Starts a successor.
    fn restart(&mut self) {
        if self.successor.is_some() {
            return tracing::warn!("SIGUSR2: a successor is on its way already");
        }
        if std::process::id() == 1 {
            return tracing::error!(
                "SIGUSR2: this relay is process 1 of its container, which ends with it, successor and all: it goes \
                 on; to restart, start another container and stop this one"
            );
        }
        match succession::start(&self.claims.given()) {
            Ok(successor) => {
                tracing::info!(pid = successor.pid, "a successor was started");
                self.successor = Some(successor);
            }
            Err(why) => {
                tracing::error!(%why, "SIGUSR2: a successor cannot be started: this relay goes on");
            }
        }
    }

    /// What becomes of the successor.
    fn hear(&mut self, news: News) {
        if let Some(successor) = &mut self.successor {
            successor.news = never(); // that was all of it
        }
        match news {
            _ if self.is_stopping() => {}
            News::Here => {
                tracing::info!("the successor is there: this relay ends");
                let world = &self.generation.world;
                world.has_successor.store(true, Ordering::Relaxed);
                self.stop();
            }
            News::Gone => {
                tracing::error!(
                    "the successor did not come up, see its lines above: this relay goes on"
                );
                self.successor = None;
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.generation.world.stopping.load(Ordering::Relaxed)
    }

    fn stop(&mut self) {
        let world = &self.generation.world;
        tracing::info!(timeout = ?world.plan.shutdown_timeout, "draining");
        if !world.has_successor.load(Ordering::Relaxed) {
            self.notifier.stopping(world.plan.shutdown_timeout);
        }
        self.claims.close();
        world.stopping.store(true, Ordering::Relaxed);
    }

    /// Waits until every shard has reported so.
    fn wait_for(&self, is_it: impl Fn(&Report) -> bool, wait: Duration) -> Result<(), StartError> {
        let mut count = 0;
        while count < self.shards.len() {
            match self.heard.recv_timeout(wait) {
                Ok(Report::Failed { shard, why }) => return Err(failed(shard, why)),
                Ok(report) => count += usize::from(is_it(&report)),
                Err(_) => return Err(lost()),
            }
        }
        Ok(())
    }
}

fn failed(shard: usize, why: String) -> StartError {
    StartError::Thread {
        what: format!("shard {shard}"),
        why,
    }
}

fn lost() -> StartError {
    StartError::Thread {
        what: "a shard".to_owned(),
        why: "its executor ended or did not come up; see the lines above".to_owned(),
    }
}

/// What to do where an address cannot be listened on. `protocol` is `tcp` or `udp`.
fn remedy(why: &io::Error, address: SocketAddr, protocol: &str) -> Cow<'static, str> {
    match why.kind() {
        io::ErrorKind::AddrInUse => return held_by(address, protocol),
        io::ErrorKind::PermissionDenied => {
            "use a port above 1023 or give the process CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: set a bind-addr that it has"
        }
        _ => "set a bind-addr that this machine can listen on",
    }
    .into()
}

/// Who has an address that is in use, and what to do about it.
fn held_by(address: SocketAddr, protocol: &str) -> Cow<'static, str> {
    let tables = ["", "6"].map(|family| {
        std::fs::read_to_string(format!("/proc/net/{protocol}{family}")).unwrap_or_default()
    });
    match taken::holder(address, tables.iter().map(String::as_str)) {
        Holder::Listener => "another process listens there: stop it or set another bind-addr".into(),
        Holder::Connection(far) => format!(
            "nobody listens there, but a connection to {far} has this port as its near end: start again once it is \
             gone; and set a port outside of net.ipv4.ip_local_port_range, or name it in \
             net.ipv4.ip_local_reserved_ports"
        )
        .into(),
        Holder::Unknown => {
            "another process has it: stop it or set another bind-addr (`ss -anp` shows it to root)".into()
        }
    }
}

/// Starts a helper thread.
fn helper(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    let started = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work);
    started.map(drop).map_err(|why| StartError::Thread {
        what: format!("thread {name}"),
        why: why.to_string(),
    })
}

/// Rests a helper thread; never a shard.
#[allow(clippy::disallowed_methods)] // helper threads have nothing else to do
fn rest(span: Duration) {
    std::thread::sleep(span);
}
