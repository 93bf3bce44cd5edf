//! When the service manager hears that the relay lives: when every shard has ticked since it heard last. Pure.
//!
//! ```text
//!  heard ──── half of the time that it waits ────┬─ all shards have ticked since ─▶ it hears
//!                                                └─ one has not ─▶ look again, a tick later
//! ```
//!
//! A shard that hangs is thus not spoken for by others that live, nor by the thread that looks. When it hangs
//! for good nothing is sent any more, and the service manager ends the process and starts another.

use std::time::Duration;

use crate::clock::Moment;
use crate::limits;

/// What is to be done after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Tell the service manager that all shards live.
    Alive,
    /// Look again, so much later.
    Wait(Duration),
    /// This shard has not ticked since the service manager heard last, for so long that it will act soon. Once.
    Hangs(usize),
}

/// What was seen of the shards when the service manager heard last.
#[derive(Debug)]
pub(super) struct Vigil {
    /// Half of the time after which the service manager acts.
    half: Duration,
    heard: Moment,
    /// Ticks of each shard until then.
    ticks: Vec<u64>,
    has_said: bool,
}

impl Vigil {
    /// The service manager has just heard of shards that had ticked so often, and acts after `patience`.
    pub(super) fn new(patience: Duration, now: Moment, ticks: Vec<u64>) -> Self {
        Self {
            half: patience / 2,
            heard: now,
            ticks,
            has_said: false,
        }
    }

    /// One look; `ticks` is of as many shards as there were at first.
    pub(super) fn look(&mut self, now: Moment, ticks: &[u64]) -> Sight {
        let waited = now.since(self.heard);
        if waited < self.half {
            return Sight::Wait(self.half - waited);
        }
        let mut shards = self.ticks.iter().zip(ticks);
        match shards.position(|(then, now)| then == now) {
            None => {
                self.heard = now;
                self.ticks.copy_from_slice(ticks);
                self.has_said = false;
                Sight::Alive
            }
            Some(shard) if waited >= self.half + self.half / 2 && !self.has_said => {
                self.has_said = true;
                Sight::Hangs(shard)
            }
            Some(_) => Sight::Wait(limits::TICK),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Sight, Vigil};
    use crate::clock::Moment;
    use crate::limits::TICK;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(milliseconds: u64) -> Moment {
        Moment(milliseconds * 1_000_000)
    }

    #[test]
    fn all_shards_live_or_none_is_spoken_for() {
        // Each of three shards ticks or hangs: every case.
        for living in 0..8_u64 {
            let mut vigil = Vigil::new(2 * SECOND, at(0), vec![7, 8, 9]);
            let moved = |shard: u64| living >> shard & 1;
            let ticks = [7 + moved(0), 8 + moved(1), 9 + moved(2)];
            assert_eq!(
                vigil.look(at(999), &ticks),
                Sight::Wait(Duration::from_millis(1)),
                "not before half of it"
            );
            let expected = match living {
                7 => Sight::Alive,
                _ => Sight::Wait(TICK),
            };
            assert_eq!(vigil.look(at(1000), &ticks), expected, "{living:b}");
        }
    }

    #[test]
    fn a_shard_that_hangs_is_named_once_and_spoken_for_when_it_ticks_again() {
        let mut vigil = Vigil::new(2 * SECOND, at(0), vec![5, 5]);
        assert_eq!(vigil.look(at(1000), &[6, 6]), Sight::Alive);
        // What it had ticked before it was last spoken for does not count.
        assert_eq!(vigil.look(at(2000), &[60, 6]), Sight::Wait(TICK));
        assert_eq!(vigil.look(at(2499), &[70, 6]), Sight::Wait(TICK));
        assert_eq!(vigil.look(at(2500), &[80, 6]), Sight::Hangs(1));
        for late in [2550, 3000, 9000] {
            assert_eq!(vigil.look(at(late), &[90, 6]), Sight::Wait(TICK));
        }
        assert_eq!(vigil.look(at(9050), &[91, 7]), Sight::Alive);
        assert_eq!(
            vigil.look(at(10_550), &[91, 8]),
            Sight::Hangs(0),
            "anew, of another"
        );
        // A counter that wraps has moved too.
        let mut vigil = Vigil::new(2 * SECOND, at(0), vec![u64::MAX]);
        assert_eq!(vigil.look(at(1000), &[0]), Sight::Alive);
    }
}
