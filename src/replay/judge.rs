//! What a backend's answer to something replayed means. Pure.

use std::time::Duration;

use crate::backend::answer::Reply;
use crate::backend::outgoing::Kind;
use crate::limits;

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It answered.
    Answered {
        /// Its status.
        status: u16,
        /// What it said, cut to a bound.
        reason: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// It wrote a part of it, and will never take the rest.
    Partly {
        /// What it said.
        reply: Reply,
    },
    /// It was there, and the connection died before an answer.
    Died,
    /// It could not be reached, or did not answer in time.
    Away {
        /// It may still be at work on it.
        timed_out: bool,
    },
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It has the points.
    Delivered,
    /// It has a part of the points, and will never take the rest.
    Partly,
    /// It will never take this as it is.
    Poison,
    /// It may take it later. If `counts`, a record that always ends so may be what is wrong.
    Later {
        /// Whether the record may be to blame.
        counts: bool,
    },
}

/// Prometheus' words for samples that it has, or that it has something newer than.
const DELIVERED_BEFORE: [&str; 4] = [
    "out of order sample",
    "out-of-order",
    "duplicate sample",
    "duplicate timestamp",
];

/// What an answer means for a request of this kind (SPEC section 6).
pub fn judge(kind: Kind, sent: &Sent) -> Judgement {
    let (status, reason) = match sent {
        Sent::Answered { status, reason, .. } => (*status, reason),
        Sent::Partly { .. } => return Judgement::Partly,
        Sent::Died => return Judgement::Later { counts: true },
        Sent::Away { .. } => return Judgement::Later { counts: false },
    };
    match status {
        200..=299 => Judgement::Delivered,
        400 | 409 if kind == Kind::RemoteWrite && was_delivered(reason) => Judgement::Delivered,
        400 | 413 | 422 => Judgement::Poison,
        401 | 403 | 404 | 408 | 429 => Judgement::Later { counts: false },
        _ => Judgement::Later { counts: true },
    }
}

fn was_delivered(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    DELIVERED_BEFORE.iter().any(|words| reason.contains(words))
}

/// The wait that header lines ask for, if they name seconds. Bounded.
pub fn retry_after(headers: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(headers).ok()?;
    let value = text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("retry-after")
            .then(|| value.trim())
    })?;
    let wait = Duration::from_secs(value.parse().ok()?);
    Some(wait.min(limits::RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::{Judgement, Sent, judge, retry_after};
    use crate::backend::outgoing::Kind;
    use std::time::Duration;

    fn answered(status: u16, reason: &str) -> Sent {
        Sent::Answered {
            status,
            reason: reason.into(),
            retry_after: None,
        }
    }

    #[test]
    fn every_status_has_one_judgement() {
        for status in 200..600 {
            let expected = match status {
                200..=299 => Judgement::Delivered,
                400 | 413 | 422 => Judgement::Poison,
                401 | 403 | 404 | 408 | 429 => Judgement::Later { counts: false },
                _ => Judgement::Later { counts: true },
            };
            assert_eq!(
                judge(Kind::Write, &answered(status, "")),
                expected,
                "{status}"
            );
        }
        assert_eq!(
            judge(Kind::Write, &Sent::Died),
            Judgement::Later { counts: true }
        );
        let away = Sent::Away { timed_out: true };
        assert_eq!(
            judge(Kind::Write, &away),
            Judgement::Later { counts: false }
        );
    }

    #[test]
    fn what_prometheus_has_or_has_outgrown_is_delivered() {
        for reason in ["out of order sample", "duplicate sample for timestamp"] {
            assert_eq!(
                judge(Kind::RemoteWrite, &answered(400, reason)),
                Judgement::Delivered
            );
            assert_eq!(
                judge(Kind::Write, &answered(400, reason)),
                Judgement::Poison
            );
        }
        let bounds = answered(400, "out of bounds");
        assert_eq!(judge(Kind::RemoteWrite, &bounds), Judgement::Poison);
    }

    #[test]
    fn only_seconds_are_honoured_and_not_for_ever() {
        assert_eq!(
            retry_after(b"A: b\r\nretry-AFTER: 7\r\n"),
            Some(Duration::from_secs(7))
        );
        assert_eq!(
            retry_after(b"Retry-After: 99999\r\n"),
            Some(Duration::from_secs(300))
        );
        assert_eq!(retry_after(b"Retry-After: Fri, 31 Dec\r\n"), None);
        assert_eq!(retry_after(b""), None);
    }
}
