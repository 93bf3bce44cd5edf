//! One plan in force: what all shards see of it, and the threads that work for it.
//!
//! A reload begins another one. What goes on under it is taken over by name: counters, addresses, what peers
//! owe.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::channel::{Receiver, Sender};

use crate::access::warden::Warden;
use crate::boot::{StartError, peers, resolver, spool};
use crate::engine::bell::Bell;
use crate::metrics::ShardMetrics;
use crate::plan::Plan;
use crate::shard::{LEVEL_EVERYWHERE, World};
use crate::spool::disk::Place;

/// One plan in force, as the main thread holds it.
pub(super) struct Generation {
    /// What all shards see.
    pub(super) world: Arc<World>,
    /// The thread of the spool.
    spool: Option<(Sender<()>, Receiver<()>)>,
}

/// One shard's part of the spool.
pub(super) type SpoolPost = Option<(Place, Bell)>;

impl Generation {
    /// Makes a plan ready: the spool is opened, and the threads beside the shards are started. With it comes
    /// each shard's part of the spool.
    ///
    /// # Errors
    /// The spool cannot be used, or a thread cannot be started.
    pub(super) fn begin(
        plan: Plan,
        before: Option<&World>,
    ) -> Result<(Self, Vec<SpoolPost>), StartError> {
        let opened = spool::open(&plan, before)?.map(spool::Opened::split);
        let (spool_world, bells, kept) = match opened {
            Some((world, bells, archive, disks)) => (Some(world), bells, Some((archive, disks))),
            None => (None, Vec::new(), None),
        };
        let shards = plan.cpus.len();
        let world = Arc::new(World {
            spool: spool_world,
            ..world(plan, before)
        });
        resolver::start(&world)?;
        peers::start(&world)?;
        let mut posts: Vec<SpoolPost> = Vec::new();
        let mut thread = None;
        if let Some((archive, disks)) = kept {
            posts.extend(disks.iter().cloned().zip(bells).map(Some));
            thread = Some(spool::start(&world, archive, disks)?);
        }
        posts.resize_with(shards, || None);
        let generation = Self {
            world,
            spool: thread,
        };
        Ok((generation, posts))
    }

    /// Ends it, once no shard goes by it any more: where backends stand in the spool is saved, and the spool
    /// is let go of.
    pub(super) fn end(&self) {
        self.world.is_over.store(true, Ordering::Relaxed);
        if let Some((end, ended)) = &self.spool {
            spool::end(end, ended);
        }
    }
}

/// What all shards see of a plan, without its spool.
fn world(plan: Plan, before: Option<&World>) -> World {
    match before {
        None => first(plan),
        Some(before) => next(plan, before),
    }
}

fn first(plan: Plan) -> World {
    let rows = |_: &usize| {
        let metrics = ShardMetrics::new(plan.backends.len(), plan.outputs.len());
        Arc::new(metrics)
    };
    World {
        generation: 0,
        metrics: plan.cpus.iter().map(rows).collect(),
        backends: (plan.backends.iter())
            .map(|backend| resolver::first_look(&backend.host, backend.port))
            .collect(),
        outputs: (plan.outputs.iter())
            .map(|output| resolver::first_look(&output.host, output.port))
            .collect(),
        wardens: plan.listeners.iter().map(Warden::new).collect(),
        spool: None,
        peers_owe: (plan.backends.iter())
            .map(|_| AtomicU64::new(LEVEL_EVERYWHERE))
            .collect(),
        stopping: AtomicBool::new(false),
        has_successor: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        plan,
    }
}

fn next(plan: Plan, before: &World) -> World {
    let output_before = |label: &str| {
        let mut outputs = before.plan.outputs.iter();
        outputs.position(|output| output.label == label)
    };
    let metrics = before.metrics.iter().map(|rows| {
        let backends = plan.backends.iter();
        let outputs = plan.outputs.iter();
        Arc::new(rows.succeeding(
            backends.map(|backend| before.place_of(&backend.label)),
            outputs.map(|output| output_before(&output.label)),
        ))
    });
    World {
        generation: before.generation + 1,
        metrics: metrics.collect(),
        backends: (plan.backends.iter())
            .map(|backend| match before.same_backend(backend) {
                Some(place) => Arc::clone(&before.backends[place]),
                None => resolver::first_look(&backend.host, backend.port),
            })
            .collect(),
        outputs: (plan.outputs.iter())
            .map(|output| {
                let same = output_before(&output.label).filter(|&place| {
                    let old = &before.plan.outputs[place];
                    (&old.host, old.port) == (&output.host, output.port)
                });
                match same {
                    Some(place) => Arc::clone(&before.outputs[place]),
                    None => resolver::first_look(&output.host, output.port),
                }
            })
            .collect(),
        wardens: plan.listeners.iter().map(Warden::new).collect(),
        spool: None,
        peers_owe: (plan.backends.iter())
            .map(|backend| {
                let owe = before.place_of(&backend.label);
                let owe = owe.map(|place| before.peers_owe[place].load(Ordering::Relaxed));
                AtomicU64::new(owe.unwrap_or(LEVEL_EVERYWHERE))
            })
            .collect(),
        stopping: AtomicBool::new(false),
        has_successor: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        plan,
    }
}
