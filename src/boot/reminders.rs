//! Outages that last are said again, every [`limits::REMIND_INTERVAL`]. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::limits;

/// What is wrong with a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outage {
    /// It is down.
    Down,
    /// It takes no writes.
    Refusing,
    /// It is owed writes.
    Owing,
}

/// The outages that have not ended, by the labels of their backends.
#[derive(Debug, Default)]
pub(super) struct Reminders {
    begun: BTreeMap<(String, Outage), Begun>,
}

#[derive(Debug)]
struct Begun {
    at: Moment,
    told: Moment,
}

impl Reminders {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Takes note of the outages that there are now. Those that are to be said again, each with how long it has
    /// lasted. About once per second while there are any.
    pub(super) fn look(
        &mut self,
        outages: impl IntoIterator<Item = (String, Outage)>,
        now: Moment,
    ) -> Vec<(String, Outage, Duration)> {
        let mut before = std::mem::take(&mut self.begun);
        let mut due = Vec::new();
        for key in outages {
            let fresh = Begun { at: now, told: now };
            let mut begun = before.remove(&key).unwrap_or(fresh);
            if now.since(begun.told) >= limits::REMIND_INTERVAL {
                begun.told = now;
                due.push((key.0.clone(), key.1, now.since(begun.at)));
            }
            self.begun.insert(key, begun);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::{Outage, Reminders};
    use crate::clock::Moment;
    use crate::limits::REMIND_INTERVAL;

    #[test]
    fn an_outage_that_lasts_is_said_again_until_it_ends() {
        let mut reminders = Reminders::default();
        let begun = Moment(7);
        let outage = || [("b".to_owned(), Outage::Down)];
        assert_eq!(reminders.look(outage(), begun), []);
        assert_eq!(
            reminders.look(outage(), begun.after(REMIND_INTERVAL / 2)),
            []
        );
        for times in 1..4 {
            let now = begun.after(REMIND_INTERVAL * times);
            let due = [("b".to_owned(), Outage::Down, REMIND_INTERVAL * times)];
            assert_eq!(reminders.look(outage(), now), due);
            assert_eq!(reminders.look(outage(), now), [], "once");
        }
        let end = begun.after(REMIND_INTERVAL * 5);
        assert_eq!(reminders.look([], end), [], "it is over");
        assert!(reminders.is_empty());
        assert_eq!(reminders.look(outage(), end), [], "another one begins");
    }
}
