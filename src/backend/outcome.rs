//! What one backend did with one write. Pure.

use crate::backend::answer::Reply;
use crate::backend::outgoing::Kind;
use crate::backend::partial::{self, Rest};
use crate::metrics;

/// What one backend did with one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx: it has the points.
    Accepted,
    /// 4xx: it will not have them, and says why.
    Refused(u16),
    /// 400 or 422: it has a part of the points, and will never take the rest.
    Partial {
        /// Its status.
        status: u16,
        /// The rest.
        rest: Rest,
    },
    /// It is new and decides nothing yet, but has the points, or a part of them: success if no other takes them.
    Spare {
        /// It will never take the rest.
        is_part: bool,
    },
    /// It may have them or not; another try might succeed.
    Failed(Failure),
}

/// Why a write failed at one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It answered, but neither 2xx nor 4xx.
    Status(u16),
    /// No connection to it could be made.
    Connect,
    /// This machine has no port, descriptor or memory left for a connection to it.
    Local,
    /// No answer within its timeout.
    TimedOut,
    /// It closed the connection before an answer.
    Closed,
    /// What it answered is not HTTP, or past every bound.
    Nonsense,
    /// It was known to be down, so nothing was sent.
    Down,
    /// It is owed older writes first, so this one was kept for it and not sent.
    Owed,
    /// It is new, has accepted nothing yet, and did not take this.
    New,
    /// More waits for it than its share of the memory, so nothing was sent.
    Overloaded,
}

impl Outcome {
    /// The outcome that an answer to a request of this kind means. Once per answer.
    pub fn of_reply(kind: Kind, reply: &Reply) -> Self {
        match (Self::of_status(reply.status), partial::rest(kind, reply)) {
            (Self::Refused(status), Some(rest)) => Self::Partial { status, rest },
            (outcome, _) => outcome,
        }
    }

    /// The same of a backend that is new beside others: it decides nothing yet.
    pub fn of_newcomer(self) -> Self {
        match self {
            Self::Accepted => Self::Spare { is_part: false },
            Self::Partial { .. } => Self::Spare { is_part: true },
            Self::Refused(_) | Self::Failed(Failure::Status(_)) => Self::Failed(Failure::New),
            Self::Spare { .. } | Self::Failed(_) => self,
        }
    }

    /// Whether the backend has points of the write now.
    pub fn is_taken(self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Failed(_))
    }

    /// The outcome that a final status means. A redirect is a failure: following it would turn a
    /// write into a GET (SPEC section 4).
    pub fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Accepted,
            400..=499 => Self::Refused(status),
            _ => Self::Failed(Failure::Status(status)),
        }
    }
}

impl Failure {
    /// For the client that hears of it, and the log.
    pub fn words(self) -> &'static str {
        match self {
            Self::Status(300..=399) => "answered with a redirect",
            Self::Status(_) => "answered with an error",
            Self::Connect => "cannot be reached",
            Self::Local => "cannot be connected to: this relay has no port or descriptor left",
            Self::TimedOut => "did not answer in time",
            Self::Closed => "closed the connection without an answer",
            Self::Nonsense => "answered with something that is not HTTP",
            Self::Down => "is down",
            Self::Owed => "is being brought level",
            Self::New => "is new, and did not take it",
            Self::Overloaded => "is too slow: its share of memory is full",
        }
    }

    /// Its row in the metrics; `None` where the status has one.
    pub fn row(self) -> Option<usize> {
        let label = match self {
            Self::Status(_) | Self::New => return None,
            Self::Connect => "connect",
            Self::Local => "local",
            Self::TimedOut => "timeout",
            Self::Closed => "closed",
            Self::Nonsense => "nonsense",
            Self::Down => "down",
            Self::Owed => "owed",
            Self::Overloaded => "overloaded",
        };
        metrics::FAILURES.iter().position(|&row| row == label)
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, Outcome};

    #[test]
    fn every_status_has_one_meaning() {
        for status in 100..=999 {
            let outcome = Outcome::of_status(status);
            match status {
                200..=299 => assert_eq!(outcome, Outcome::Accepted),
                400..=499 => assert_eq!(outcome, Outcome::Refused(status)),
                _ => assert_eq!(outcome, Outcome::Failed(Failure::Status(status))),
            }
        }
    }

    #[test]
    fn every_failure_without_a_status_has_a_row() {
        for failure in [
            Failure::Connect,
            Failure::Local,
            Failure::TimedOut,
            Failure::Closed,
            Failure::Nonsense,
            Failure::Down,
            Failure::Owed,
            Failure::Overloaded,
        ] {
            assert!(failure.row().is_some(), "{failure:?}");
        }
        assert_eq!(Failure::Status(500).row(), None);
    }
}
