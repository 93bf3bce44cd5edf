//! The answer rule as a value: what the backends said, in; what the client hears, out. Pure.
//!
//! The first success answers, the first refusal answers, failures are held back while anybody is
//! still to speak (SPEC section 4). With several acks asked for, success is that many acceptances. No
//! lock, no socket and no race in it: one task hears the outcomes one by one.

use crate::backend::outcome::{Failure, Outcome};
use crate::plan::BackendId;

/// What the client is to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Success, in the words of the backend whose acceptance made it one.
    Success(BackendId),
    /// This backend's 4xx, word for word.
    Refusal(BackendId),
    /// All have spoken and too few accepted: this backend's 5xx, word for word.
    Failure(BackendId),
    /// The same, and none of them has a 5xx of its own to pass on.
    NobodyAnswered,
    /// Filters leave nothing of it for any backend: success.
    NotForAnybody,
    /// No backend took it, and it is kept for all of them.
    Kept,
    /// A backend is owed as much as may be, so that nothing more is taken.
    Full,
}

/// What has been heard so far.
#[derive(Debug, Clone)]
pub struct Verdict {
    pending: usize,
    acks_wanted: usize,
    accepted: usize,
    /// Acceptances by backends that decide nothing yet, and the first of them.
    spare: usize,
    first_spare: Option<BackendId>,
    worst: Option<BackendId>,
    ruling: Option<Ruling>,
}

impl Verdict {
    /// Nothing heard yet from `judges` backends, of which `acks` must accept.
    pub fn new(judges: usize, acks: usize) -> Self {
        let ruling = (judges == 0).then_some(Ruling::NobodyAnswered);
        Self {
            pending: judges,
            acks_wanted: acks,
            accepted: 0,
            spare: 0,
            first_spare: None,
            worst: None,
            ruling,
        }
    }

    /// How many have not spoken yet.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// What the client is to hear, as soon as nothing later may change it.
    pub fn ruling(&self) -> Option<Ruling> {
        self.ruling
    }

    /// One backend has spoken; each speaks once. After a ruling nothing is heard.
    pub fn hear(&mut self, from: BackendId, outcome: Outcome) {
        if self.ruling.is_some() {
            return;
        }
        assert!(self.pending > 0, "no backend speaks twice");
        self.pending -= 1;
        match outcome {
            Outcome::Accepted => {
                self.accepted += 1;
                if self.accepted >= self.acks_wanted {
                    self.ruling = Some(Ruling::Success(from));
                }
            }
            Outcome::Refused(_) | Outcome::Partial { .. } => {
                self.ruling = Some(Ruling::Refusal(from));
            }
            Outcome::Spare { .. } => {
                self.spare += 1;
                self.first_spare.get_or_insert(from);
            }
            Outcome::Failed(failure) => self.remember(from, failure),
        }
        if self.ruling.is_none() && self.pending == 0 {
            self.ruling = Some(self.last());
        }
    }

    /// All have spoken, and too few of those that decide have accepted: those that are new count now.
    fn last(&self) -> Ruling {
        match self.first_spare {
            Some(from) if self.accepted + self.spare >= self.acks_wanted => Ruling::Success(from),
            _ => self.worst.map_or(Ruling::NobodyAnswered, Ruling::Failure),
        }
    }

    /// The first backend in the file that has a 5xx of its own, whoever spoke first: so the answer
    /// does not depend on a race.
    fn remember(&mut self, from: BackendId, failure: Failure) {
        if let Failure::Status(500..=599) = failure {
            self.worst = Some(self.worst.map_or(from, |worst| worst.min(from)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ruling, Verdict};
    use crate::backend::outcome::{Failure, Outcome};
    use crate::backend::partial::Rest;
    use crate::plan::BackendId;

    const OUTCOMES: [Outcome; 7] = [
        Outcome::Accepted,
        Outcome::Partial {
            status: 400,
            rest: Rest::Dropped(1),
        },
        Outcome::Refused(400),
        Outcome::Failed(Failure::Status(500)),
        Outcome::Failed(Failure::Status(302)),
        Outcome::Failed(Failure::TimedOut),
        Outcome::Failed(Failure::Down),
    ];
    const ORDERS: [[usize; 3]; 6] = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];

    /// The rule as the SPEC words it, over the whole list at once.
    fn rule(spoken: &[(BackendId, Outcome)], acks: usize) -> Ruling {
        let mut accepted = 0;
        for &(from, outcome) in spoken {
            match outcome {
                Outcome::Accepted => {
                    accepted += 1;
                    if accepted == acks {
                        return Ruling::Success(from);
                    }
                }
                Outcome::Refused(_) | Outcome::Partial { .. } => return Ruling::Refusal(from),
                Outcome::Failed(_) | Outcome::Spare { .. } => {}
            }
        }
        let own = |&&(_, outcome): &&(BackendId, Outcome)| {
            outcome == Outcome::Failed(Failure::Status(500))
        };
        let first = spoken.iter().filter(own).map(|spoken| spoken.0).min();
        first.map_or(Ruling::NobodyAnswered, Ruling::Failure)
    }

    #[test]
    fn every_outcome_of_three_backends_in_every_order() {
        let mut walked = 0;
        for outcomes in (0..343).map(|n| [OUTCOMES[n / 49], OUTCOMES[n / 7 % 7], OUTCOMES[n % 7]]) {
            for order in ORDERS {
                for acks in 1..=3 {
                    let spoken = order.map(|index| (BackendId(index), outcomes[index]));
                    let mut verdict = Verdict::new(3, acks);
                    for (from, outcome) in spoken {
                        verdict.hear(from, outcome);
                    }
                    assert_eq!(
                        verdict.ruling(),
                        Some(rule(&spoken, acks)),
                        "{spoken:?}, {acks} acks"
                    );
                    walked += 1;
                }
            }
        }
        assert_eq!(walked, 343 * 6 * 3);
    }

    #[test]
    fn a_ruling_is_never_early_and_never_changes() {
        let mut verdict = Verdict::new(2, 1);
        assert_eq!(verdict.ruling(), None);
        verdict.hear(BackendId(1), Outcome::Failed(Failure::Status(503)));
        assert_eq!(
            verdict.ruling(),
            None,
            "a failure is held back while another may speak"
        );
        verdict.hear(BackendId(0), Outcome::Accepted);
        assert_eq!(verdict.ruling(), Some(Ruling::Success(BackendId(0))));
        verdict.hear(BackendId(1), Outcome::Refused(400));
        assert_eq!(verdict.ruling(), Some(Ruling::Success(BackendId(0))));
    }

    #[test]
    fn a_new_backend_counts_if_too_few_others_accept() {
        let spare = Outcome::Spare { is_part: false };
        let (known, new) = (BackendId(0), BackendId(1));
        for (said, acks, want) in [
            (Outcome::Accepted, 1, Ruling::Success(known)),
            (Outcome::Refused(400), 1, Ruling::Refusal(known)),
            (
                Outcome::Failed(Failure::Status(500)),
                1,
                Ruling::Success(new),
            ),
            (Outcome::Failed(Failure::Down), 1, Ruling::Success(new)),
            (
                Outcome::Failed(Failure::Status(500)),
                2,
                Ruling::Failure(known),
            ),
        ] {
            for is_first in [true, false] {
                let mut verdict = Verdict::new(2, acks);
                let spoken = [(new, spare), (known, said)];
                let order = if is_first { [0, 1] } else { [1, 0] };
                for (from, outcome) in order.map(|n: usize| spoken[n]) {
                    verdict.hear(from, outcome);
                }
                assert_eq!(verdict.ruling(), Some(want), "{said:?} {acks} {is_first}");
            }
        }
    }

    #[test]
    fn without_backends_nobody_answers() {
        assert_eq!(Verdict::new(0, 1).ruling(), Some(Ruling::NobodyAnswered));
    }
}
