//! `/ready` and `/ready/NAME`: what a load balancer asks before it sends writes, or queries, here.
//!
//! A backend that is owed something takes no new write until it has the old ones, so it counts no more
//! than one that is down.

use crate::admin::{debt, is_up};
use crate::fanout::deferred::all_asked;
use crate::plan::{BackendId, ListenerPlan, WhenFull};
use crate::shard::{Shard, World};

/// Why a write at this door would not succeed now; `None` if it would. Where too few backends are up on all shards,
/// the others are asked now, as a write would ask them.
pub async fn why_not_now(shard: &Shard, listener: &ListenerPlan) -> Option<&'static str> {
    let world = &*shard.world;
    why_not(world, listener, |id| is_up(world, id))?;
    let others = listener.outputs.iter().filter(|id| !is_up(world, **id));
    let backends = others.map(|id| &shard.backends[id.0]);
    all_asked(backends, shard.driver.now()).await;
    why_not(world, listener, |id| shard.backends[id.0].is_up())
}

fn why_not(
    world: &World,
    listener: &ListenerPlan,
    is_up: impl Fn(BackendId) -> bool,
) -> Option<&'static str> {
    let outputs: Vec<Output> = listener
        .outputs
        .iter()
        .filter(|id| world.plan.backends[id.0].writes)
        .map(|&id| look(world, id, is_up(id)))
        .collect();
    let spool = world.plan.spool.as_ref();
    let rules = Rules {
        acks: listener.acks,
        refuses_when_full: spool.is_some_and(|spool| spool.when_full == WhenFull::Refuse),
        keeps_all: spool.is_some_and(|spool| spool.accept_when_all_fail)
            && debt::failing(world) == 0,
    };
    rules.why_not(&outputs)
}

/// Why this backend may not be asked: it is down, or lacks something.
pub fn why_not_backend(world: &World, backend: BackendId) -> Option<String> {
    if !is_up(world, backend) {
        return Some("the backend is down".to_owned());
    }
    if !world.is_known(backend) {
        return Some("the backend is new, and has yet to accept what it is owed".to_owned());
    }
    Some(match world.owed(backend)? {
        0 => "the backend is about to be level".to_owned(),
        bytes => format!("the backend is owed {bytes} bytes"),
    })
}

/// One output that takes writes.
#[derive(Debug, Clone, Copy)]
struct Output {
    up: bool,
    level: bool,
    /// Its answers decide.
    judges: bool,
    /// What it misses is kept.
    kept: bool,
    /// It is owed as much as may be.
    full: bool,
}

fn look(world: &World, id: BackendId, up: bool) -> Output {
    let plan = &world.plan.backends[id.0];
    let debt = debt::of(world, id, 0);
    let owed = debt.as_ref().filter(|debt| !debt.is_level());
    Output {
        up,
        level: owed.is_none(),
        judges: !plan.drop_responses,
        kept: debt.is_some(),
        full: owed.is_some_and(|debt| debt.bytes >= plan.owed_bytes_max),
    }
}

/// What decides beside the outputs.
#[derive(Debug, Clone, Copy)]
struct Rules {
    acks: usize,
    refuses_when_full: bool,
    /// What nobody takes is kept, and answered 202.
    keeps_all: bool,
}

impl Rules {
    fn why_not(self, outputs: &[Output]) -> Option<&'static str> {
        if self.refuses_when_full && outputs.iter().any(|output| output.full) {
            return Some("a backend is owed as much as it may be, and when-full is refuse");
        }
        if self.keeps_all && outputs.iter().any(|output| output.kept) {
            return None;
        }
        let up = outputs.iter().filter(|output| output.judges && output.up);
        let able = up.clone().filter(|output| output.level).count();
        if able >= self.acks {
            None
        } else if up.count() >= self.acks {
            Some("too few backends are up and owed nothing")
        } else {
            Some("too few backends are up")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Output, Rules};

    const FINE: Output = Output {
        up: true,
        level: true,
        judges: true,
        kept: true,
        full: false,
    };
    const DOWN: Output = Output { up: false, ..FINE };
    const OWED: Output = Output {
        level: false,
        ..FINE
    };
    const MUTE: Output = Output {
        judges: false,
        ..FINE
    };
    const BARE: Output = Output {
        kept: false,
        ..DOWN
    };
    const FULL: Output = Output { full: true, ..OWED };

    #[test]
    fn who_can_take_a_write() {
        for (outputs, acks, ready) in [
            (&[FINE, DOWN][..], 1, true),
            (&[FINE, OWED], 1, true),
            (&[FINE, OWED], 2, false),
            (&[FINE, FINE], 2, true),
            (&[OWED, DOWN], 1, false),
            (&[OWED, OWED], 1, false),
            (&[MUTE, DOWN], 1, false),
            (&[FULL, FINE], 1, true),
            (&[], 1, false),
        ] {
            let rules = Rules {
                acks,
                refuses_when_full: false,
                keeps_all: false,
            };
            assert_eq!(rules.why_not(outputs).is_none(), ready, "{outputs:?}");
        }
    }

    #[test]
    fn what_nobody_takes_may_be_kept_and_what_is_full_refuses() {
        let keeps = Rules {
            acks: 1,
            refuses_when_full: true,
            keeps_all: true,
        };
        assert_eq!(keeps.why_not(&[DOWN, OWED]), None);
        assert!(keeps.why_not(&[BARE]).is_some(), "for whom nothing is kept");
        assert!(keeps.why_not(&[FULL, FINE]).is_some());
    }
}
