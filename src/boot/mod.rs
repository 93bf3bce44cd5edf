//! A plan becomes running shards, and running shards stop without losing a request.
//!
//! ```text
//!  claim every address ─▶ helper threads (signals, DNS, log) ─▶ one pinned executor per CPU
//!                                                                │
//!  SIGTERM ─▶ World::stopping ─▶ each shard, at its next tick: drain ─▶ all drained ─▶ exit
//! ```
//!
//! Helper threads are started first: what a pinned thread starts would inherit its one CPU.

pub mod certificates;
pub mod datagrams;
pub mod kernel;
pub mod log;
pub mod peers;
pub mod resolver;
pub mod secret_file;
pub mod shard_main;
pub mod signals;
pub mod spool;
pub mod tls;
mod trust;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, unbounded};
use glommio::{CpuSet, LocalExecutorBuilder, Placement, PoolPlacement};
use rustix::thread::sched_getaffinity;
use socket2::Socket;

use crate::boot::shard_main::{Post, Posts, Report};
use crate::boot::tls::Unfit;
use crate::engine::bell::Bell;
use crate::engine::listener::claim;
use crate::events::Events;
use crate::limits;
use crate::metrics::ShardMetrics;
use crate::plan::{BackendId, ListenerPlan, Plan};
use crate::shard::{LEVEL_EVERYWHERE, World};
use crate::spool::archive::Unusable;
use crate::spool::disk::Place;

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
        remedy: &'static str,
    },
    /// The kernel does not give what a shard needs.
    #[error("{0}")]
    Kernel(#[from] kernel::Missing),
    /// The spool cannot be used.
    #[error("{0}")]
    Spool(#[from] Unusable),
    /// Files of certificates or keys cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Certificates(Vec<Unfit>),
    /// A helper thread or a shard could not be started.
    #[error("cannot start {what}: {why}")]
    Thread {
        /// What was to be started.
        what: String,
        /// What was found.
        why: String,
    },
}

/// Runs the plan until a signal ends it and everything is drained.
///
/// # Errors
/// [`StartError`], before the first request is taken.
pub fn run(plan: Plan) -> Result<(), StartError> {
    kernel::check(plan.cpus.len())?;
    let certificates = certificates::open(&plan).map_err(StartError::Certificates)?;
    let doors = claim_all(&plan)?;
    let datagrams = datagrams::claim_all(&plan)?;
    let (events, log_queue) = Events::queue();
    let opened = spool::open(&plan)?.map(spool::Opened::split);
    let (spool_world, bells, kept) = match opened {
        Some((world, bells, archive, disks)) => (Some(world), bells, Some((archive, disks))),
        None => (None, Vec::new(), None),
    };
    let world = Arc::new(World {
        metrics: plan
            .cpus
            .iter()
            .map(|_| Arc::new(ShardMetrics::new(plan.backends.len(), plan.outputs.len())))
            .collect(),
        backends: plan
            .backends
            .iter()
            .zip(certificates.backends)
            .map(|(backend, tls)| resolver::first_look(&backend.host, backend.port, tls))
            .collect(),
        outputs: plan
            .outputs
            .iter()
            .map(|output| resolver::first_look(&output.host, output.port, None))
            .collect(),
        tls: certificates.doors,
        spool: spool_world,
        peers_owe: plan
            .backends
            .iter()
            .map(|_| AtomicU64::new(LEVEL_EVERYWHERE))
            .collect(),
        stopping: AtomicBool::new(false),
        plan,
    });
    signals::start(&world, certificates::start(&world)?)?;
    resolver::start(&world)?;
    peers::start(&world, certificates.peers)?;
    log::start(&world, log_queue)?;
    let (archive, disks) = kept.unzip();
    let last = match archive {
        Some(archive) => Some(spool::start(
            &world,
            archive,
            disks.clone().unwrap_or_default(),
        )?),
        None => None,
    };
    let spools = disks.unwrap_or_default().into_iter().zip(bells).collect();
    start_shards(&world, &events, doors, datagrams, spools)?;
    if let Some((end, ended)) = last {
        spool::end(&end, &ended);
    }
    Ok(())
}

/// One listener's addresses: what it is, and one socket per shard.
struct Claimed {
    plan: ListenerPlan,
    number: u16,
    admin: bool,
    sockets: Vec<Socket>,
}

fn claim_all(plan: &Plan) -> Result<Vec<Claimed>, StartError> {
    let mut claimed = Vec::new();
    for (number, listener) in plan.listeners.iter().enumerate() {
        claimed.push(claim_one(
            listener.clone(),
            u16::try_from(number).unwrap_or(u16::MAX),
            false,
            plan.cpus.len(),
            plan.tuning.backlog,
        )?);
    }
    if let Some(admin) = &plan.admin {
        let all = (0..plan.backends.len()).map(BackendId).collect();
        let listener = ListenerPlan {
            name: "admin".to_owned(),
            tls: None, // plain: it stands on loopback, or behind a proxy
            bind: admin.bind,
            default_retention_policy: None,
            ping_status: 204,
            health_timeout: limits::HEALTH_WAIT_MAX,
            acks: 1,
            balance: false,
            outputs: all,
        };
        claimed.push(claim_one(listener, u16::MAX, true, 1, plan.tuning.backlog)?);
    }
    Ok(claimed)
}

fn claim_one(
    plan: ListenerPlan,
    number: u16,
    admin: bool,
    count: usize,
    backlog: u32,
) -> Result<Claimed, StartError> {
    match claim(plan.bind, count, backlog) {
        Ok(sockets) => {
            let bound = sockets
                .first()
                .and_then(|socket| socket.local_addr().ok()?.as_socket());
            let address = bound.unwrap_or(plan.bind);
            tracing::info!(listener = %plan.name, %address, "listening");
            Ok(Claimed {
                plan,
                number,
                admin,
                sockets,
            })
        }
        Err(why) => Err(StartError::Listen {
            name: plan.name,
            address: plan.bind,
            remedy: remedy(&why),
            why,
        }),
    }
}

fn remedy(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there: stop it or set another bind-addr"
        }
        io::ErrorKind::PermissionDenied => {
            "use a port above 1023 or give the process CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: set a bind-addr that it has"
        }
        _ => "set a bind-addr that this machine can listen on",
    }
}

fn start_shards(
    world: &Arc<World>,
    events: &Events,
    mut doors: Vec<Claimed>,
    datagrams: Vec<datagrams::Claimed>,
    spools: Vec<(Place, Bell)>,
) -> Result<(), StartError> {
    let (reports, heard) = unbounded(); // two messages per shard
    let mut handles = Vec::new();
    let mut spools = spools.into_iter();
    for (number, &cpu) in world.plan.cpus.iter().enumerate() {
        // The last shard takes the last socket of each door; the admin door has one, for shard 0.
        let posts: Vec<Post> = doors
            .iter_mut()
            .filter(|door| !door.admin || number == 0)
            .filter_map(|door| {
                Some(Post {
                    plan: door.plan.clone(),
                    number: door.number,
                    admin: door.admin,
                    socket: door.sockets.pop()?,
                })
            })
            .collect();
        let posts = Posts {
            http: posts,
            udp: datagrams::posts(&datagrams, number)?,
        };
        let (world, events, reports) = (Arc::clone(world), events.clone(), reports.clone());
        let spool = spools.next();
        let handle = LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .name(&format!("shard-{number}"))
            .io_memory(limits::IO_MEMORY_BYTES)
            .blocking_thread_pool_placement(beside_shards())
            .spawn(move || shard_main::run(number, world, events, posts, spool, reports))
            .map_err(|why| StartError::Thread {
                what: format!("shard {number}"),
                why: why.to_string(),
            })?;
        handles.push(handle);
    }
    drop(reports);
    wait_for(world.plan.cpus.len(), &heard)
}

/// Returns when every shard has drained.
fn wait_for(shards: usize, heard: &crossbeam::channel::Receiver<Report>) -> Result<(), StartError> {
    let (mut up, mut drained) = (0, 0);
    while drained < shards {
        let report = if up < shards {
            heard.recv_timeout(limits::START_WAIT_MAX)
        } else {
            heard.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match report {
            Ok(Report::Up) => {
                up += 1;
                if up == shards {
                    tracing::info!(shards, "ready");
                }
            }
            Ok(Report::Drained { cut }) => {
                drained += 1;
                if cut > 0 {
                    tracing::warn!(
                        cut,
                        "shutdown-timeout passed: connections and sends were cut"
                    );
                }
            }
            Ok(Report::Failed { shard, why }) => {
                return Err(StartError::Thread {
                    what: format!("shard {shard}"),
                    why,
                });
            }
            Err(_) => {
                let why = "its executor ended or did not come up; see the lines above".to_owned();
                return Err(StartError::Thread {
                    what: "a shard".to_owned(),
                    why,
                });
            }
        }
    }
    Ok(())
}

/// Where threads that wait for disks run: on any CPU of the process. Glommio would pin them to the shard's
/// own, where they stand in its way.
fn beside_shards() -> PoolPlacement {
    match (CpuSet::online(), sched_getaffinity(None)) {
        (Ok(online), Ok(own)) => PoolPlacement::Fenced(1, online.filter(|at| own.is_set(at.cpu))),
        _ => PoolPlacement::Unbound(1),
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
