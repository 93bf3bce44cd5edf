//! The HTTP addresses: one socket per shard each, held from the plan that first has an address to the last.
//!
//! The sockets are kept here too, so that a process that takes over can be given them. A socket is closed
//! only when nobody holds it any more: see [`Claims::close`].

use std::io;
use std::net::SocketAddr;

use socket2::Socket;

use crate::boot::datagrams;
use crate::boot::{StartError, remedy};
use crate::engine::listener::claim;
use crate::limits;
use crate::plan::{BackendId, ListenerPlan, Plan};

/// One HTTP address.
struct Claimed {
    /// Its number for all plans.
    id: usize,
    /// As in the plan: a port of 0 is any port.
    bind: SocketAddr,
    admin: bool,
    /// One per shard; the admin address has one, for shard 0.
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
    /// `None` if the shard has it already.
    pub(super) socket: Option<Socket>,
}

/// All addresses for one shard.
pub(super) struct Posts {
    /// HTTP.
    pub(super) http: Vec<Post>,
    /// One for each UDP door of the plan.
    pub(super) udp: Vec<datagrams::UdpPost>,
}

/// What a plan listens on: its listeners, and the admin address.
fn doors(plan: &Plan) -> Vec<(ListenerPlan, u16, bool)> {
    let http = plan.listeners.iter().cloned().zip(0..);
    let mut doors: Vec<_> = http
        .map(|(listener, number)| (listener, number, false))
        .collect();
    if let Some(admin) = &plan.admin {
        let listener = ListenerPlan {
            name: "admin".to_owned(),
            bind: admin.bind,
            default_retention_policy: None,
            ping_status: 204,
            health_timeout: limits::HEALTH_WAIT_MAX,
            acks: 1,
            balance: false,
            outputs: (0..plan.backends.len()).map(BackendId).collect(),
        };
        doors.push((listener, u16::MAX, true));
    }
    doors
}

impl Claims {
    /// Listens on all addresses of a plan.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub(super) fn open(plan: &Plan) -> Result<Self, StartError> {
        let mut claims = Self {
            http: Vec::new(),
            udp: Vec::new(),
            next: 0,
        };
        claims.change(plan)?;
        Ok(claims)
    }

    /// Listens on the addresses that another plan has more, and lets go of those that it has not.
    ///
    /// # Errors
    /// The first that cannot be had; then nothing has changed.
    pub(super) fn change(&mut self, plan: &Plan) -> Result<(), StartError> {
        let mut fresh = Vec::new();
        for (listener, _, admin) in doors(plan) {
            if !self.http.iter().any(|own| own.is(&listener, admin)) {
                let count = if admin { 1 } else { plan.cpus.len() };
                let id = self.next + fresh.len();
                fresh.push(claim_one(&listener, id, admin, count, plan.tuning.backlog)?);
            }
        }
        let udp = datagrams::claim_all(plan, &self.udp)?;
        self.next += fresh.len();
        let wanted = doors(plan);
        self.http.retain(|own| {
            wanted
                .iter()
                .any(|(listener, _, admin)| own.is(listener, *admin))
        });
        self.http.extend(fresh);
        self.udp = udp;
        Ok(())
    }

    /// What each shard is to listen on. Those that it has already are named only.
    ///
    /// # Errors
    /// Descriptors have run out.
    pub(super) fn posts(&mut self, plan: &Plan) -> Result<Vec<Posts>, StartError> {
        let wanted = doors(plan);
        let posts = (0..plan.cpus.len()).map(|shard| {
            let mut http = Vec::new();
            for (listener, number, admin) in &wanted {
                let own = self.http.iter().find(|own| own.is(listener, *admin));
                let Some((own, socket)) = own.and_then(|own| Some((own, own.sockets.get(shard)?)))
                else {
                    continue; // the admin address is shard 0's
                };
                let socket = match own.is_given {
                    true => None,
                    false => Some(socket.try_clone().map_err(no_descriptor)?),
                };
                http.push(Post {
                    id: own.id,
                    plan: listener.clone(),
                    number: *number,
                    admin: *admin,
                    socket,
                });
            }
            let udp = datagrams::posts(&self.udp, shard)?;
            Ok(Posts { http, udp })
        });
        let posts = posts.collect::<Result<Vec<_>, StartError>>();
        self.http.iter_mut().for_each(|own| own.is_given = true);
        posts
    }

    /// Lets go of all sockets: they close when the shards have let go of theirs.
    pub(super) fn close(&mut self) {
        self.http.clear();
        self.udp.clear();
    }
}

impl Claimed {
    fn is(&self, listener: &ListenerPlan, admin: bool) -> bool {
        self.bind == listener.bind && self.admin == admin
    }
}

fn claim_one(
    plan: &ListenerPlan,
    id: usize,
    admin: bool,
    count: usize,
    backlog: u32,
) -> Result<Claimed, StartError> {
    let sockets = claim(plan.bind, count, backlog).map_err(|why| StartError::Listen {
        name: plan.name.clone(),
        address: plan.bind,
        remedy: remedy(&why),
        why,
    })?;
    let bound = sockets
        .first()
        .and_then(|socket| socket.local_addr().ok()?.as_socket());
    let address = bound.unwrap_or(plan.bind);
    tracing::info!(listener = %plan.name, %address, "listening");
    Ok(Claimed {
        id,
        bind: plan.bind,
        admin,
        sockets,
        is_given: false,
    })
}

fn no_descriptor(why: io::Error) -> StartError {
    StartError::Thread {
        what: "a listener".to_owned(),
        why: why.to_string(),
    }
}
