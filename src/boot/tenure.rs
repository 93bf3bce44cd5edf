//! One shard under one plan: its state, and the tasks that work for it until another plan is in force.

use std::rc::Rc;
use std::sync::Arc;

use glommio::Task;

use crate::backend::{merge, probe};
use crate::boot::generation::SpoolPost;
use crate::boot::spool;
use crate::engine::driver::Driver;
use crate::engine::timer;
use crate::events::Events;
use crate::limits;
use crate::plan::BackendId;
use crate::replay;
use crate::shard::{Shard, World};
use crate::spool::board::Mode;

/// One shard under one plan.
pub(super) struct Tenure {
    pub(super) shard: Rc<Shard>,
    /// Probes and merges.
    tasks: Vec<Task<()>>,
    /// All that touches the spool.
    keeping: Vec<Task<()>>,
}

impl Tenure {
    /// The shard's state under a plan, and its tasks. `last` is what it was under the last one.
    ///
    /// # Errors
    /// Descriptors have run out.
    pub(super) fn begin(
        number: usize,
        world: &Arc<World>,
        driver: &Rc<Driver>,
        events: &Events,
        spool: SpoolPost,
        last: Option<&Rc<Shard>>,
    ) -> std::io::Result<Self> {
        let (disk, bell) = spool.unzip();
        let keeper = disk.and_then(|disk| spool::keeper(world, number, disk));
        let events = events.of(world.generation);
        let shard = Shard::new(number, world, Rc::clone(driver), events, keeper);
        let mut tasks = Vec::new();
        for backend in &shard.backends {
            let known = last.and_then(|last| {
                let place = last.world.same_backend(&backend.plan)?;
                Some(&last.backends[place])
            });
            if known.is_some_and(|known| !known.is_known_up()) {
                backend.begin_down();
            }
            let seed = driver.now().0 ^ ((backend.id.0 as u64) << 32) ^ number as u64;
            tasks.push(glommio::spawn_local(probe::run(Rc::clone(backend), seed)));
            if backend.plan.merge {
                tasks.push(glommio::spawn_local(merge::run(Rc::clone(backend))));
            }
        }
        let mut keeping = Vec::new();
        if let Some(bell) = bell {
            keeping = spool::run(&shard, bell)?;
            let own = (0..shard.backends.len()).filter(|b| b % world.plan.cpus.len() == number);
            for id in own.map(BackendId) {
                if world.plan.backends[id.0].owed_bytes_max > 0 {
                    let replay = replay::shell::run(Rc::clone(&shard), id);
                    keeping.push(glommio::spawn_local(replay));
                }
            }
        }
        Ok(Self {
            shard,
            tasks,
            keeping,
        })
    }

    /// Whether nothing about any write may change.
    pub(super) fn is_settled(&self) -> bool {
        let keeper = self.shard.keeper.as_ref();
        keeper.is_none_or(|keeper| keeper.is_settled())
    }

    /// What was begun must not reach backends any more.
    pub(super) fn cut(&self) {
        self.shard
            .backends
            .iter()
            .for_each(|backend| backend.retire(true));
    }

    /// Ends all tasks that touch the spool; whether anything may have been on its way from there.
    pub(super) fn leave_spool(&mut self) -> bool {
        self.keeping.clear();
        let spool = self.shard.world.spool.as_ref();
        spool.is_some_and(|spool| {
            let mut desks = spool.board.desks.iter();
            desks.any(|desk| desk.state().mode() != Mode::Live)
        })
    }

    /// Another plan is in force: what was begun under this one ends by itself.
    pub(super) fn retire(self) {
        let Self {
            shard,
            tasks,
            keeping,
        } = self;
        drop(keeping);
        shard
            .backends
            .iter()
            .for_each(|backend| backend.retire(false));
        glommio::spawn_local(async move {
            while shard.flights.under_way() > 0 {
                timer::sleep(limits::TICK).await;
                shard.backends.iter().for_each(|backend| backend.tick());
            }
            drop(tasks);
            shard
                .backends
                .iter()
                .for_each(|backend| backend.retire(false));
        })
        .detach();
    }
}
