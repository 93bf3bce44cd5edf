//! What one pinned executor owns. State only: it starts no task, and nobody else writes it.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::flight::Flights;
use crate::backend::pool::{Backend, Shared, Surroundings};
use crate::engine::driver::Driver;
use crate::engine::tls::ServerTls;
use crate::events::Events;
use crate::limits;
use crate::metrics::ShardMetrics;
use crate::payload::gzip::Inflater;
use crate::plan::{BackendId, Plan, SpoolPlan};
use crate::spool::board::{Board, Mode};
use crate::spool::disk::Place;
use crate::spool::keeper::Keeper;
use crate::spool::track::Track;

/// What all shards and the admin page see: configuration, counters, what is known of the backends.
pub struct World {
    /// What to run.
    pub plan: Plan,
    /// One row of counters per shard.
    pub metrics: Vec<Arc<ShardMetrics>>,
    /// One per backend, in the order of the plan.
    pub backends: Vec<Arc<Shared>>,
    /// One per output over UDP, in the order of the plan.
    pub outputs: Vec<Arc<Shared>>,
    /// What each HTTP listener shows its clients, in the order of the plan; `None` is plain HTTP.
    pub tls: Vec<Option<ServerTls>>,
    /// What is kept of what backends miss; `None` is off.
    pub spool: Option<SpoolWorld>,
    /// Per backend, bytes that other relays owe it; [`LEVEL_EVERYWHERE`] for none.
    pub peers_owe: Vec<AtomicU64>,
    /// Whether a drain has begun.
    pub stopping: std::sync::atomic::AtomicBool,
}

/// What other relays owe a backend that is level with all of them.
pub const LEVEL_EVERYWHERE: u64 = u64::MAX;

impl World {
    /// Bytes that a backend is owed, here or by another relay; `None` if it is level with all of them, as
    /// far as they have said.
    pub fn owed(&self, id: BackendId) -> Option<u64> {
        let own = self.spool.as_ref().and_then(|spool| {
            let desk = &spool.board.desks[id.0];
            (desk.state().mode() != Mode::Live).then(|| desk.owed().1)
        });
        let theirs = self.peers_owe[id.0].load(Ordering::Relaxed);
        let theirs = (theirs != LEVEL_EVERYWHERE).then_some(theirs);
        own.max(theirs)
    }
}

/// What all shards see of the spool.
pub struct SpoolWorld {
    /// What was configured.
    pub plan: SpoolPlan,
    /// Who is live, and who is owed what.
    pub board: Arc<Board>,
    /// The shards' logs, in their order.
    pub tracks: Vec<Arc<Track<File>>>,
    /// Logs of earlier starts, oldest run first.
    pub old: Vec<Arc<Track<File>>>,
}

/// One shard.
pub struct Shard {
    /// Its number: its place in the plan's `cpus`.
    pub number: usize,
    /// What it shares with the others.
    pub world: Arc<World>,
    /// Its sockets and its clock.
    pub driver: Rc<Driver>,
    /// Its writes in flight, and the memory they hold.
    pub flights: Rc<Flights>,
    /// The backends, in the order of the plan.
    pub backends: Vec<Rc<Backend>>,
    /// Its spool; `None` is off.
    pub keeper: Option<Rc<Keeper<Place>>>,
    /// Its counters.
    pub metrics: Arc<ShardMetrics>,
    /// Its way to the log.
    pub events: Events,
    /// One inflater for all gzip bodies: a body is inflated in one go.
    pub inflater: RefCell<Inflater>,
    /// One buffer to put answers together in; each is sent before the next is begun.
    pub answer: RefCell<Vec<u8>>,
    /// Client connections open.
    pub connections: Cell<usize>,
    /// Questions asked: whose turn it is among equal backends.
    pub questions: Cell<usize>,
    /// UDP doors that take datagrams.
    pub datagram_doors: Cell<usize>,
    /// A drain has begun: answers close their connections.
    pub draining: Cell<bool>,
}

impl Shard {
    /// The shard's state, with all backends taken for up and no link open.
    pub fn new(
        number: usize,
        world: &Arc<World>,
        driver: Rc<Driver>,
        events: Events,
        keeper: Option<Rc<Keeper<Place>>>,
    ) -> Rc<Self> {
        let plan = &world.plan;
        let metrics = Arc::clone(&world.metrics[number]);
        let share = plan.limits.inflight_bytes_max / (plan.backends.len() + 1);
        let backends = plan.backends.iter().enumerate().map(|(index, backend)| {
            let around = Surroundings {
                shard: number,
                driver: Rc::clone(&driver),
                metrics: Arc::clone(&metrics),
                events: events.clone(),
                tuning: plan.tuning,
                // What is kept on disk anyway need not wait in memory for a backend that hangs.
                held_bytes_max: match backend.owed_bytes_max {
                    0 => share,
                    _ => share.min(limits::HELD_KEPT_BYTES_MAX),
                },
            };
            Backend::new(
                BackendId(index),
                backend.clone(),
                Arc::clone(&world.backends[index]),
                around,
            )
        });
        Rc::new(Self {
            number,
            backends: backends.collect(),
            world: Arc::clone(world),
            flights: Flights::new(plan.limits.inflight_bytes_max, Arc::clone(&metrics)),
            driver,
            keeper,
            metrics,
            events,
            inflater: RefCell::default(),
            answer: RefCell::default(),
            connections: Cell::new(0),
            questions: Cell::new(0),
            datagram_doors: Cell::new(0),
            draining: Cell::new(false),
        })
    }

    /// Whether what backends refuse or miss at this door of the spool is owed all the same.
    pub fn keeps_all(&self, door: u16) -> bool {
        let keeper = self.keeper.as_ref();
        keeper.is_some_and(|keeper| keeper.keeps_all(door))
    }
}
