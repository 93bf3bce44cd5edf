//! The HTTP addresses: one socket per shard each, held from the plan that first has an address to the last.
//!
//! The sockets are kept here too, so that a process that takes over can be given them. A socket is closed
//! only when nobody holds it any more: see [`Claims::close`].

use std::io;
use std::net::SocketAddr;

use socket2::Socket;

use crate::boot::datagrams;
use crate::boot::succession::{Inheritance, What};
use crate::boot::{StartError, remedy};
use crate::engine::listener::{claim, join};
use crate::limits;
use crate::plan::access::RatesPlan;
use crate::plan::{BackendId, ListenerPlan, Plan};

/// One HTTP address.
struct Claimed {
    /// Its number for all plans.
    id: usize,
    /// As in the plan: a port of 0 is any port.
    bind: SocketAddr,
    admin: bool,
    /// How many before it are written the same.
    nth: usize,
    /// One per shard; the admin address has one, for shard 0. A predecessor may have had more shards: then
    /// some have two, as no queue may be lost.
    sockets: Vec<Socket>,
    /// Whether the shards have been given theirs.
    is_given: bool,
}

/// All addresses that the plan in force has.
pub(super) struct Claims {
    http: Vec<Claimed>,
    udp: Vec<datagrams::Claimed>,
    next: usize,
}

/// One HTTP address for one shard.
pub(super) struct Post {
    /// Its number for all plans.
    pub(super) id: usize,
    /// What it is under this plan.
    pub(super) plan: ListenerPlan,
    /// Its place among the plan's listeners.
    pub(super) number: u16,
    /// Whether it is the admin address.
    pub(super) admin: bool,
    /// Empty if the shard has them already.
    pub(super) sockets: Vec<Socket>,
}

/// All addresses for one shard.
pub(super) struct Posts {
    /// HTTP.
    pub(super) http: Vec<Post>,
    /// One for each UDP door of the plan.
    pub(super) udp: Vec<datagrams::UdpPost>,
}

/// One HTTP address that a plan wants.
struct Wanted {
    listener: ListenerPlan,
    number: u16,
    admin: bool,
    /// How many before it are written the same: with any port, addresses may be.
    nth: usize,
}

/// What a plan listens on: its listeners, and the admin address.
fn wanted(plan: &Plan) -> Vec<Wanted> {
    let admin = plan.admin.as_ref().map(|admin| ListenerPlan {
        name: "admin".to_owned(),
        bind: admin.bind,
        default_retention_policy: None,
        ping_status: 204,
        health_timeout: limits::HEALTH_WAIT_MAX,
        acks: 1,
        balance: false,
        access: None,
        tls: None, // plain: it stands on loopback, or behind a proxy
        rates: RatesPlan::default(),
        outputs: (0..plan.backends.len()).map(BackendId).collect(),
    });
    let http = plan.listeners.iter().cloned().zip(0..);
    let http = http.map(|(listener, number)| (listener, number, false));
    let all = http.chain(admin.map(|admin| (admin, u16::MAX, true)));
    let mut wanted: Vec<Wanted> = Vec::new();
    for (listener, number, admin) in all {
        let same = wanted
            .iter()
            .filter(|other| other.listener.bind == listener.bind && other.admin == admin);
        wanted.push(Wanted {
            nth: same.count(),
            listener,
            number,
            admin,
        });
    }
    wanted
}

impl Claims {
    /// Listens on all addresses of a plan.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub(super) fn open(plan: &Plan, inherited: &mut Inheritance) -> Result<Self, StartError> {
        let mut claims = Self {
            http: Vec::new(),
            udp: Vec::new(),
            next: 0,
        };
        claims.change(plan, inherited)?;
        Ok(claims)
    }

    /// Listens on the addresses that another plan has more, and lets go of those that it has not.
    ///
    /// # Errors
    /// The first that cannot be had; then nothing has changed.
    pub(super) fn change(
        &mut self,
        plan: &Plan,
        inherited: &mut Inheritance,
    ) -> Result<(), StartError> {
        let mut fresh = Vec::new();
        let wanted = wanted(plan);
        for want in &wanted {
            if !self.http.iter().any(|own| own.is(want)) {
                let count = if want.admin { 1 } else { plan.cpus.len() };
                let id = self.next + fresh.len();
                let given = inherited.sockets(want.listener.bind, what(want.admin));
                let sockets = open(&want.listener, given, count, plan.tuning.backlog)?;
                fresh.push(Claimed {
                    id,
                    bind: want.listener.bind,
                    admin: want.admin,
                    nth: want.nth,
                    sockets,
                    is_given: false,
                });
            }
        }
        let udp = datagrams::claim_all(plan, &self.udp, inherited)?;
        self.next += fresh.len();
        self.http
            .retain(|own| wanted.iter().any(|want| own.is(want)));
        self.http.extend(fresh);
        self.http.sort_by_key(|own| own.nth); // a successor finds them in this order
        self.udp = udp;
        Ok(())
    }

    /// What each shard is to listen on. Those that it has already are named only.
    ///
    /// # Errors
    /// Descriptors have run out.
    pub(super) fn posts(&mut self, plan: &Plan) -> Result<Vec<Posts>, StartError> {
        let wanted = wanted(plan);
        let posts = (0..plan.cpus.len()).map(|shard| {
            let mut http = Vec::new();
            for want in &wanted {
                let own = self.http.iter().find(|own| own.is(want));
                let Some(own) = own.filter(|own| shard == 0 || !own.admin) else {
                    continue; // the admin address is shard 0's
                };
                let shards = if want.admin { 1 } else { plan.cpus.len() };
                let sockets = own.sockets.iter().skip(shard).step_by(shards);
                let sockets = sockets.filter(|_| !own.is_given).map(Socket::try_clone);
                let sockets: io::Result<Vec<Socket>> = sockets.collect();
                http.push(Post {
                    id: own.id,
                    plan: want.listener.clone(),
                    number: want.number,
                    admin: want.admin,
                    sockets: sockets.map_err(no_descriptor)?,
                });
            }
            let udp = datagrams::posts(&self.udp, shard)?;
            Ok(Posts { http, udp })
        });
        let posts = posts.collect::<Result<Vec<_>, StartError>>();
        self.http.iter_mut().for_each(|own| own.is_given = true);
        posts
    }

    /// All sockets, for a successor.
    pub(super) fn given(&self) -> Vec<(SocketAddr, What, &[Socket])> {
        let http = self.http.iter();
        let http = http.map(|own| (own.bind, what(own.admin), own.sockets.as_slice()));
        let udp = self.udp.iter().map(datagrams::Claimed::given);
        http.chain(udp).collect()
    }

    /// Lets go of all sockets: they close when the shards have let go of theirs.
    pub(super) fn close(&mut self) {
        self.http.clear();
        self.udp.clear();
    }
}

impl Claimed {
    fn is(&self, want: &Wanted) -> bool {
        (self.bind, self.admin, self.nth) == (want.listener.bind, want.admin, want.nth)
    }
}

fn what(admin: bool) -> What {
    if admin { What::Admin } else { What::Http }
}

/// Goes on with the sockets that were inherited, or opens new ones: at least `count`.
fn open(
    plan: &ListenerPlan,
    inherited: Vec<Socket>,
    count: usize,
    backlog: u32,
) -> Result<Vec<Socket>, StartError> {
    let at = |sockets: &[Socket]| sockets.first()?.local_addr().ok()?.as_socket();
    let opened = match at(&inherited) {
        Some(address) => {
            let more = join(address, count.saturating_sub(inherited.len()), backlog);
            more.map(|more| inherited.into_iter().chain(more).collect())
        }
        None => claim(plan.bind, count, backlog),
    };
    let sockets = opened.map_err(|why| StartError::Listen {
        name: plan.name.clone(),
        address: plan.bind,
        remedy: remedy(&why, plan.bind, "tcp"),
        why,
    })?;
    let address = at(&sockets).unwrap_or(plan.bind);
    tracing::info!(listener = %plan.name, %address, "listening");
    Ok(sockets)
}

fn no_descriptor(why: io::Error) -> StartError {
    StartError::Thread {
        what: "a listener".to_owned(),
        why: why.to_string(),
    }
}
