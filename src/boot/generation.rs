//! One plan in force: what all shards see of it, and the threads that work for it.
//!
//! A reload begins another one. What goes on under it is taken over by name: counters, addresses, what peers
//! owe.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::channel::{Receiver, Sender};

use crate::access::warden::Warden;
use crate::boot::certificates::{self, Opened, Watch};
use crate::boot::newcomers::Known;
use crate::boot::{StartError, peers, resolver, spool};
use crate::engine::bell::Bell;
use crate::metrics::ShardMetrics;
use crate::plan::{OutputPlan, Plan};
use crate::shard::{LEVEL_EVERYWHERE, World};
use crate::spool::disk::Place;

/// One plan in force, as the main thread holds it.
pub(super) struct Generation {
    /// What all shards see.
    pub(super) world: Arc<World>,
    /// The thread that looks at certificates.
    pub(super) watch: Watch,
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
        certificates: Opened,
        before: Option<&World>,
    ) -> Result<(Self, Vec<SpoolPost>), StartError> {
        let opened = spool::open(&plan, before)?.map(spool::Opened::split);
        let (spool_world, bells, mut kept) = match opened {
            Some((world, bells, archive, disks, known)) => {
                (Some(world), bells, Some((archive, disks, known)))
            }
            None => (None, Vec::new(), None),
        };
        let shards = plan.cpus.len();
        let peers_tls = certificates.peers.clone();
        let world = Arc::new(World {
            spool: spool_world,
            ..world(plan, certificates, before)
        });
        match &mut kept {
            Some((_, _, known)) => known.mark(&world, before),
            None => Known::nothing().mark(&world, before),
        }
        resolver::start(&world)?;
        peers::start(&world, peers_tls)?;
        let watch = certificates::start(&world)?;
        let mut posts: Vec<SpoolPost> = Vec::new();
        let mut thread = None;
        if let Some((archive, disks, known)) = kept {
            posts.extend(disks.iter().cloned().zip(bells).map(Some));
            thread = Some(spool::start(&world, archive, disks, known)?);
        }
        posts.resize_with(shards, || None);
        let generation = Self {
            world,
            watch,
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
fn world(plan: Plan, certificates: Opened, before: Option<&World>) -> World {
    let world = first(plan, certificates);
    match before {
        None => world,
        Some(before) => go_on(world, before),
    }
}

fn first(plan: Plan, certificates: Opened) -> World {
    let rows = |_: &usize| {
        let metrics = ShardMetrics::new(plan.backends.len(), plan.outputs.len());
        Arc::new(metrics)
    };
    let backends = plan.backends.iter().zip(certificates.backends);
    let outputs = plan.outputs.iter();
    World {
        generation: 0,
        metrics: plan.cpus.iter().map(rows).collect(),
        backends: backends
            .map(|(backend, tls)| resolver::first_look(&backend.host, backend.port, tls))
            .collect(),
        outputs: outputs
            .map(|output| resolver::first_look(&output.host, output.port, None))
            .collect(),
        tls: certificates.doors,
        wardens: plan.listeners.iter().map(Warden::new).collect(),
        spool: None,
        peers_owe: (plan.backends.iter())
            .map(|_| AtomicU64::new(LEVEL_EVERYWHERE))
            .collect(),
        peers_silent_since: plan.peers.iter().map(|_| AtomicU64::new(0)).collect(),
        stopping: AtomicBool::new(false),
        has_successor: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        plan,
    }
}

/// Takes over what goes on from the plan before.
fn go_on(mut world: World, before: &World) -> World {
    world.generation = before.generation + 1;
    let output_before = |label: &str| {
        let mut outputs = before.plan.outputs.iter();
        outputs.position(|output| output.label == label)
    };
    let plan = &world.plan;
    let metrics = before.metrics.iter().map(|rows| {
        let backends = plan.backends.iter();
        let outputs = plan.outputs.iter();
        Arc::new(rows.succeeding(
            backends.map(|backend| before.place_of(&backend.label)),
            outputs.map(|output| output_before(&output.label)),
        ))
    });
    world.metrics = metrics.collect();
    for (b, backend) in plan.backends.iter().enumerate() {
        if let Some(place) = before.place_of(&backend.label) {
            let owed = before.peers_owe[place].load(Ordering::Relaxed);
            world.peers_owe[b].store(owed, Ordering::Relaxed);
        }
        if let Some(place) = before.same_backend(backend) {
            world.backends[b].go_on(&before.backends[place]);
        }
    }
    for (o, output) in plan.outputs.iter().enumerate() {
        let is_same = |old: &OutputPlan| (&old.host, old.port) == (&output.host, output.port);
        if let Some(place) = output_before(&output.label)
            && is_same(&before.plan.outputs[place])
        {
            world.outputs[o].go_on(&before.outputs[place]);
        }
    }
    world
}
