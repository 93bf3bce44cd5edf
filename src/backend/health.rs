//! Whether one backend takes writes, judged by what came of them and by probes. Pure.
//!
//! Any answer means that it is there: a backend that answers 500 to all writes costs nobody any
//! time, and `/ping` stays 204 on a full disk, so neither says more than "up". Down is what would
//! make a write wait: a connection that cannot be made, or silence, some times in a row.

use crate::backend::outcome::Failure;
use crate::limits;

/// What is known of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    up: bool,
    silences: u32,
    answers: u64,
}

/// What just changed, if anything did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It is up again: writes go to it.
    Up,
    /// It is down: writes to it fail at once, probes go on.
    Down,
}

impl Default for Health {
    /// Taken for up until the contrary is seen, so that the first write is tried.
    fn default() -> Self {
        Self {
            up: true,
            silences: 0,
            answers: 0,
        }
    }
}

impl Health {
    /// Whether writes are sent to it.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// How many answers there were; a probe remembers it to see if there was one meanwhile.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// It answered, whatever it said.
    pub fn answered(&mut self) -> Change {
        self.answers += 1;
        self.silences = 0;
        if self.up {
            return Change::None;
        }
        self.up = true;
        Change::Up
    }

    /// A write got no answer.
    pub fn failed(&mut self, failure: Failure) -> Change {
        match failure {
            Failure::Connect => self.down(),
            Failure::TimedOut | Failure::Closed | Failure::Nonsense => {
                self.silences += 1;
                if self.silences >= limits::FAILURES_MAX {
                    self.down()
                } else {
                    Change::None
                }
            }
            Failure::Status(_)
            | Failure::New
            | Failure::Local
            | Failure::Down
            | Failure::Owed
            | Failure::Overloaded => Change::None,
        }
    }

    /// A probe failed that began when `answers` stood at `before`. A busy backend that goes on
    /// answering writes is not down because its probe was slow.
    pub fn probe_failed(&mut self, before: u64) -> Change {
        if self.answers == before {
            self.down()
        } else {
            Change::None
        }
    }

    fn down(&mut self) -> Change {
        if !self.up {
            return Change::None;
        }
        self.up = false;
        Change::Down
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Health};
    use crate::backend::outcome::Failure;
    use crate::limits;

    #[test]
    fn a_refused_connection_is_down_at_once_and_an_answer_is_up_at_once() {
        let mut health = Health::default();
        assert!(health.is_up());
        assert_eq!(health.failed(Failure::Connect), Change::Down);
        assert_eq!(health.failed(Failure::Connect), Change::None, "told once");
        assert_eq!(health.answered(), Change::Up);
        assert_eq!(health.answered(), Change::None, "told once");
    }

    #[test]
    fn only_silences_in_a_row_count() {
        let mut health = Health::default();
        for _ in 0..10 {
            for _ in 1..limits::FAILURES_MAX {
                assert_eq!(health.failed(Failure::TimedOut), Change::None);
            }
            assert_eq!(health.answered(), Change::None);
        }
        for _ in 1..limits::FAILURES_MAX {
            assert_eq!(health.failed(Failure::Closed), Change::None);
        }
        assert_eq!(health.failed(Failure::TimedOut), Change::Down);
    }

    #[test]
    fn answers_of_any_status_and_our_own_refusals_never_mean_down() {
        let mut health = Health::default();
        for failure in [Failure::Status(500), Failure::Down, Failure::Overloaded] {
            for _ in 0..100 {
                assert_eq!(health.failed(failure), Change::None);
            }
        }
    }

    #[test]
    fn a_slow_probe_of_a_busy_backend_says_nothing() {
        let mut health = Health::default();
        let before = health.answers();
        assert_eq!(health.answered(), Change::None);
        assert_eq!(health.probe_failed(before), Change::None);
        assert_eq!(health.probe_failed(health.answers()), Change::Down);
    }
}
