//! What one pinned executor owns under one plan. State only: it starts no task, and nobody else writes it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::access::gate::Turn;
use crate::access::warden::Warden;
use crate::backend::compress::Packer;
use crate::backend::flight::Flights;
use crate::backend::letters::Letters;
use crate::backend::pool::{Backend, Surroundings};
use crate::backend::shared::Shared;
use crate::engine::driver::Driver;
use crate::engine::tls::ServerTls;
use crate::events::Events;
use crate::limits;
use crate::metrics::ShardMetrics;
use crate::payload::filter::{Filters, Scratch};
use crate::payload::gzip::Inflater;
use crate::payload::remote_write::Room;
use crate::plan::{BackendId, BackendPlan, LogLevel, Plan, SpoolPlan};
use crate::spool::board::{Board, Mode};
use crate::spool::disk::{Place, PlaceFile};
use crate::spool::keeper::Keeper;
use crate::spool::track::Track;

/// What all shards and the admin page see: configuration, counters, what is known of the backends.
pub struct World {
    /// What to run.
    pub plan: Plan,
    /// How many plans were in force before it.
    pub generation: u64,
    /// One row of counters per shard.
    pub metrics: Vec<Arc<ShardMetrics>>,
    /// One per backend, in the order of the plan.
    pub backends: Vec<Arc<Shared>>,
    /// One per output over UDP, in the order of the plan.
    pub outputs: Vec<Arc<Shared>>,
    /// Who may enter each HTTP door, and how often, in the order of the plan's listeners.
    pub wardens: Vec<Arc<Warden>>,
    /// What each HTTP listener shows its clients, in the order of the plan; `None` is plain HTTP.
    pub tls: Vec<Option<ServerTls>>,
    /// What is kept of what backends miss; `None` is off.
    pub spool: Option<SpoolWorld>,
    /// Per backend, bytes that other relays owe it; [`LEVEL_EVERYWHERE`] for none.
    pub peers_owe: Vec<AtomicU64>,
    /// Per peer, since when it says nothing: milliseconds since 1970; 0 while it speaks.
    pub peers_silent_since: Vec<AtomicU64>,
    /// Whether a drain has begun.
    pub stopping: AtomicBool,
    /// Whether another process has the listening sockets too: what comes from now on is for it.
    pub has_successor: AtomicBool,
    /// Whether another plan is in force: who works for this one ends.
    pub is_over: AtomicBool,
}

/// What other relays owe a backend that is level with all of them.
pub const LEVEL_EVERYWHERE: u64 = u64::MAX;

impl World {
    /// The place of the backend that `other` is, under another plan: of its name, at its address.
    pub fn same_backend(&self, other: &BackendPlan) -> Option<usize> {
        let place = self.place_of(&other.label)?;
        let own = &self.plan.backends[place];
        ((&own.host, own.port) == (&other.host, other.port)).then_some(place)
    }

    /// The place of the backend with this label.
    pub fn place_of(&self, label: &str) -> Option<usize> {
        let backends = &self.plan.backends;
        backends.iter().position(|plan| plan.label == label)
    }

    /// Whether a backend has a say, and may be read from: one that was new has accepted something since, and is owed
    /// nothing.
    pub fn is_known(&self, id: BackendId) -> bool {
        let voice = &self.backends[id.0].voice;
        voice.is_known() || (self.owed(id).is_none() && voice.is_level())
    }

    /// Bytes that a backend is owed, here or by another relay; `None` if it is level with all of them, as
    /// far as they have said.
    pub fn owed(&self, id: BackendId) -> Option<u64> {
        let own = self.spool.as_ref().and_then(|spool| {
            let desk = &spool.board.desks[id.0];
            (desk.state().mode() != Mode::Live).then(|| desk.owed().1)
        });
        own.max(self.peers_owe(id))
    }

    /// Bytes that other relays owe a backend, the most that one of them has said; `None` if none said so.
    pub fn peers_owe(&self, id: BackendId) -> Option<u64> {
        let theirs = self.peers_owe[id.0].load(Ordering::Relaxed);
        (theirs != LEVEL_EVERYWHERE).then_some(theirs)
    }
}

/// What all shards see of the spool.
pub struct SpoolWorld {
    /// What was configured.
    pub plan: SpoolPlan,
    /// Who is live, and who is owed what.
    pub board: Arc<Board>,
    /// The shards' logs, in their order.
    pub tracks: Vec<Arc<Track<PlaceFile>>>,
    /// Logs of earlier starts, oldest run first.
    pub old: Vec<Arc<Track<PlaceFile>>>,
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
    /// The dead letters of its live writes.
    pub letters: Rc<Letters>,
    /// Its counters.
    pub metrics: Arc<ShardMetrics>,
    /// Its way to the log.
    pub events: Events,
    /// One inflater for all gzip bodies: a body is inflated in one go.
    pub inflater: RefCell<Inflater>,
    /// What backends are not to get.
    pub filters: Filters,
    /// What filters look at lines with.
    pub scratch: RefCell<Scratch>,
    /// What filters look at remote-write bodies with.
    pub room: RefCell<Room>,
    /// One buffer to put answers together in; each is sent before the next is begun.
    pub answer: RefCell<Vec<u8>>,
    /// Whose turn it is among equal backends.
    turns: Cell<usize>,
    /// Passwords are verified one after the other.
    pub verifying: Turn,
    /// UDP doors that take datagrams, and tasks that help others with theirs.
    pub datagram_doors: Cell<usize>,
    /// A drain has begun: answers close their connections.
    pub draining: Cell<bool>,
    /// Another plan is about to be in force: the UDP doors stop, and leave the rest in the kernel's queue.
    pub leaving: Cell<bool>,
}

impl Shard {
    /// Whether each connection and each request is logged.
    pub fn tells_details(&self) -> bool {
        self.world.plan.log.level == LogLevel::Debug
    }

    /// The shard's state, with all backends taken for up and no link open.
    pub fn new(
        number: usize,
        world: &Arc<World>,
        driver: Rc<Driver>,
        events: Events,
        keeper: Option<Rc<Keeper<Place>>>,
    ) -> Rc<Self> {
        let plan = &world.plan;
        let filters = plan.backends.iter().map(|plan| plan.filter.as_ref());
        let filters = Filters::compile(filters).expect("config has compiled each expression");
        let metrics = Arc::clone(&world.metrics[number]);
        let share = plan.limits.inflight_bytes_max / (plan.backends.len() + 1);
        let packer = Rc::<Packer>::default();
        let spool = world.spool.as_ref();
        let letters = Letters::new(
            number,
            spool.map(|spool| Arc::clone(&spool.board)),
            spool.and_then(|spool| spool.plan.dir.clone()),
        );
        let backends = plan.backends.iter().enumerate().map(|(index, backend)| {
            let around = Surroundings {
                shard: number,
                driver: Rc::clone(&driver),
                metrics: Arc::clone(&metrics),
                events: events.clone(),
                tuning: plan.tuning,
                packer: Rc::clone(&packer),
                letters: Rc::clone(&letters),
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
                filters.of(BackendId(index)),
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
            letters,
            metrics,
            events,
            inflater: RefCell::default(),
            filters,
            scratch: RefCell::default(),
            room: RefCell::default(),
            answer: RefCell::default(),
            turns: Cell::new(0),
            verifying: Turn::default(),
            datagram_doors: Cell::new(0),
            draining: Cell::new(false),
            leaving: Cell::new(false),
        })
    }

    /// Whether it drains, and nobody takes its place.
    pub fn is_ending(&self) -> bool {
        self.draining.get() && !self.world.has_successor.load(Ordering::Relaxed)
    }

    /// Whose turn it is now. Once per request that goes to one of several.
    pub fn next_turn(&self) -> usize {
        let turn = self.turns.get().wrapping_add(1);
        self.turns.set(turn);
        turn
    }

    /// Whether what backends refuse or miss at this door of the spool is owed all the same.
    pub fn keeps_all(&self, door: u16) -> bool {
        let keeper = self.keeper.as_ref();
        keeper.is_some_and(|keeper| keeper.keeps_all(door))
    }
}
