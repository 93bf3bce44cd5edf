//! Whether one backend answers, and takes nothing of what it is sent. Pure.
//!
//! Such a backend is up: its answers cost nobody any time. But what it misses is owed or gone, so operators hear when
//! it begins, and when it ends how many writes it was. A 400, 413 or 422 speaks of the points and not of the backend,
//! so it neither begins nor ends anything.

use crate::backend::outcome::{Failure, Outcome};
use crate::limits;

/// What one backend said lately, on one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    in_a_row: u64,
    is_told: bool,
}

/// What just changed, if anything did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It has refused so many writes in a row that operators hear of it.
    Begins,
    /// It has taken a write again, after it had refused so many.
    Ends(u64),
}

impl Refusals {
    /// The backend's answer to a write. Once per request and backend.
    pub fn heard(&mut self, outcome: Outcome) -> Change {
        match outcome {
            Outcome::Accepted | Outcome::Partial { .. } | Outcome::Spare { .. } => {
                let was = std::mem::take(self);
                match was.is_told {
                    true => Change::Ends(was.in_a_row),
                    false => Change::None,
                }
            }
            Outcome::Refused(400 | 413 | 422) => Change::None,
            Outcome::Refused(_) | Outcome::Failed(Failure::Status(_)) => {
                self.in_a_row += 1;
                let begins = !self.is_told && self.in_a_row >= u64::from(limits::FAILURES_MAX);
                self.is_told |= begins;
                match begins {
                    true => Change::Begins,
                    false => Change::None,
                }
            }
            Outcome::Failed(_) => Change::None, // its health knows
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Refusals};
    use crate::backend::outcome::{Failure, Outcome};
    use crate::limits::FAILURES_MAX;

    #[test]
    fn an_outage_is_told_once_at_its_begin_and_with_its_count_at_its_end() {
        for status in [301, 401, 403, 404, 429, 500, 503] {
            let mut refusals = Refusals::default();
            let refused = Outcome::of_status(status);
            let heard: Vec<_> = (0..10).map(|_| refusals.heard(refused)).collect();
            let begins = heard.iter().position(|change| *change == Change::Begins);
            assert_eq!(begins, Some(FAILURES_MAX as usize - 1), "{status}");
            let told = heard.iter().filter(|change| **change != Change::None);
            assert_eq!(told.count(), 1);
            assert_eq!(refusals.heard(Outcome::Accepted), Change::Ends(10));
            assert_eq!(refusals.heard(Outcome::Accepted), Change::None);
        }
    }

    #[test]
    fn bad_points_and_silence_are_no_refusals() {
        let mut refusals = Refusals::default();
        for _ in 0..20 {
            for outcome in [
                Outcome::Refused(400),
                Outcome::Refused(422),
                Outcome::Failed(Failure::TimedOut),
                Outcome::Failed(Failure::Down),
            ] {
                assert_eq!(refusals.heard(outcome), Change::None);
            }
        }
        for _ in 0..20 {
            refusals.heard(Outcome::Refused(404));
            assert_eq!(
                refusals.heard(Outcome::Accepted),
                Change::None,
                "only one in a row"
            );
        }
    }
}
