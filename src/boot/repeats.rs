//! Events that may come in thousands: the first of a kind is told at once, what follows at most once per
//! [`limits::REPEAT_INTERVAL`], with the sum. Pure.

use std::collections::BTreeMap;

use crate::clock::Moment;
use crate::events::Event;
use crate::limits;

/// What is counted together: the backend, and the kind of event.
type Key = (usize, Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Buried,
    Unburied,
    Damaged,
    Dropped(usize),
}

/// Events of one kind that were told lately.
#[derive(Debug)]
struct Recent {
    told: Moment,
    /// Those that came since, as one.
    since: Option<Event>,
}

/// Events that repeat.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    recent: BTreeMap<Key, Recent>,
}

impl Repeats {
    /// Whether nothing was told lately, so that nothing will be due.
    pub(super) fn is_quiet(&self) -> bool {
        self.recent.is_empty()
    }

    /// The event, if it is to be told now. One that repeats another is kept for [`Repeats::due`].
    pub(super) fn heard(&mut self, event: Event, now: Moment) -> Option<Event> {
        let Some(key) = key_of(&event) else {
            return Some(event);
        };
        match self.recent.get_mut(&key) {
            Some(recent) => {
                recent.since = Some(match recent.since.take() {
                    Some(before) => join(before, event),
                    None => event,
                });
                None
            }
            None => {
                let recent = Recent {
                    told: now,
                    since: None,
                };
                self.recent.insert(key, recent);
                Some(event)
            }
        }
    }

    /// Events that are to be told now, each the sum of those since the last of its kind. About once per second.
    pub(super) fn due(&mut self, now: Moment) -> Vec<Event> {
        let mut due = Vec::new();
        self.recent.retain(|_, recent| {
            if now.since(recent.told) < limits::REPEAT_INTERVAL {
                return true;
            }
            recent.told = now;
            let event = recent.since.take();
            let is_recent = event.is_some();
            due.extend(event);
            is_recent
        });
        due
    }
}

fn key_of(event: &Event) -> Option<Key> {
    match event {
        Event::Buried { backend, .. } => Some((backend.0, Kind::Buried)),
        Event::Unburied { backend, .. } => Some((backend.0, Kind::Unburied)),
        Event::Damaged { backend, .. } => Some((backend.0, Kind::Damaged)),
        Event::Dropped { backend, row, .. } => Some((backend.0, Kind::Dropped(*row))),
        _ => None,
    }
}

/// Two events of one kind as one: the counts of both, and the words of the newer one.
fn join(older: Event, mut newer: Event) -> Event {
    match (older, &mut newer) {
        (Event::Buried { pieces: more, .. }, Event::Buried { pieces, .. }) => *pieces += more,
        (Event::Damaged { records: more, .. }, Event::Damaged { records, .. })
        | (Event::Dropped { records: more, .. }, Event::Dropped { records, .. }) => {
            *records += more
        }
        _ => {}
    }
    newer
}

#[cfg(test)]
mod tests {
    use super::Repeats;
    use crate::clock::Moment;
    use crate::events::Event;
    use crate::limits::REPEAT_INTERVAL;
    use crate::plan::BackendId;

    fn buried(backend: usize, pieces: usize, reason: &str) -> Event {
        Event::Buried {
            backend: BackendId(backend),
            pieces,
            status: 400,
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn thousands_are_told_in_a_few_lines_and_none_is_left_out_of_the_sum() {
        let mut repeats = Repeats::default();
        let mut told = Vec::new();
        let mut now = Moment(0);
        for n in 0..23_000 {
            told.extend(repeats.heard(buried(0, 1, &format!("line {n}")), now));
            now = now.after(REPEAT_INTERVAL / 10_000);
            told.extend(repeats.due(now));
        }
        now = now.after(REPEAT_INTERVAL);
        told.extend(repeats.due(now));
        assert_eq!(told.len(), 4);
        assert_eq!(told[0], buried(0, 1, "line 0"));
        let sum = told.iter().map(|event| match event {
            Event::Buried { pieces, .. } => *pieces,
            _ => 0,
        });
        assert_eq!(sum.sum::<usize>(), 23_000);
        now = now.after(REPEAT_INTERVAL);
        assert_eq!(repeats.due(now), []);
        assert!(
            repeats.heard(buried(0, 1, "later"), now).is_some(),
            "at once"
        );
    }

    #[test]
    fn backends_reasons_and_other_events_do_not_wait_for_each_other() {
        let mut repeats = Repeats::default();
        let now = Moment(5);
        let dropped = |row| Event::Dropped {
            backend: BackendId(0),
            row,
            records: 1,
        };
        let level = Event::Level {
            backend: BackendId(0),
        };
        for event in [buried(0, 1, "a"), buried(1, 1, "a"), dropped(0), dropped(1)] {
            assert_eq!(repeats.heard(event.clone(), now), Some(event.clone()));
            assert_eq!(repeats.heard(event, now), None);
        }
        for _ in 0..3 {
            assert_eq!(repeats.heard(level.clone(), now), Some(level.clone()));
        }
    }
}
