//! How often something may happen: a token bucket in one number. Pure.
//!
//! The number is when the bucket will be full again (GCRA, ITU-T I.371: the theoretical arrival
//! time). A request moves it by one interval, and is taken if it then lies no more than a burst ahead of
//! now. An idle bucket needs no refilling: its number lies in the past.
//!
//! ```text
//!  interval = 1 s / rate      ahead = (burst − 1) × interval
//!  full = max(full, now)      taken if full ≤ now + ahead, then full += interval
//! ```

use crate::clock::Moment;
use crate::plan::access::RatePlan;

const SECOND_NS: u64 = 1_000_000_000;

/// A rate, as it is held against a bucket. Nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    interval: u64,
    ahead: u64,
}

impl Pace {
    /// So many per second, so many at once.
    pub fn new(plan: RatePlan) -> Self {
        let interval = SECOND_NS / u64::from(plan.per_second.max(1));
        let interval = interval.max(1);
        Self {
            interval,
            ahead: u64::from(plan.burst.max(1) - 1).saturating_mul(interval),
        }
    }

    /// What a request makes of the bucket. Once per request.
    ///
    /// # Errors
    /// It is empty: for so many nanoseconds, at least one.
    pub fn take(self, full: u64, now: Moment) -> Result<u64, u64> {
        let full = full.max(now.0);
        let latest = now.0.saturating_add(self.ahead);
        match full.checked_sub(latest) {
            None | Some(0) => Ok(full.saturating_add(self.interval)),
            Some(wait) => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, SECOND_NS};
    use crate::clock::Moment;
    use crate::plan::access::RatePlan;

    fn pace(per_second: u32, burst: u32) -> Pace {
        Pace::new(RatePlan { per_second, burst })
    }

    #[test]
    fn a_burst_then_one_each_interval_to_the_nanosecond() {
        let pace = pace(10, 3);
        let start = 7 * SECOND_NS;
        let mut full = 0;
        for _ in 0..3 {
            full = pace.take(full, Moment(start)).unwrap();
        }
        assert_eq!(pace.take(full, Moment(start)), Err(100_000_000));
        assert_eq!(pace.take(full, Moment(start + 99_999_999)), Err(1));
        full = pace.take(full, Moment(start + 100_000_000)).unwrap();
        assert_eq!(
            pace.take(full, Moment(start + 100_000_000)),
            Err(100_000_000)
        );
        // A rest fills it, and never more than it holds.
        let later = start + 3600 * SECOND_NS;
        for _ in 0..3 {
            full = pace.take(full, Moment(later)).unwrap();
        }
        assert!(pace.take(full, Moment(later)).is_err());
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let pace = pace(1, 1);
        let full = pace.take(0, Moment(0)).unwrap();
        for now in 0..1000 {
            assert_eq!(pace.take(full, Moment(now)), Err(SECOND_NS - now));
        }
        assert!(pace.take(full, Moment(SECOND_NS)).is_ok());
    }

    #[test]
    fn over_a_long_time_it_is_the_rate() {
        for (rate, burst) in [(1, 1), (3, 1), (7, 5), (1000, 10), (1_000_000, 1)] {
            let (pace, mut full, mut taken) = (pace(rate, burst), 0, 0);
            // Asked far more often than is allowed, for ten seconds.
            let step = SECOND_NS / u64::from(rate) / 7 + 1;
            let mut now = 0;
            while now <= 10 * SECOND_NS && taken <= 20_000 {
                if let Ok(next) = pace.take(full, Moment(now)) {
                    full = next;
                    taken += 1;
                }
                now += step;
            }
            let most = u64::from(rate) * now / SECOND_NS + u64::from(burst) + 1;
            assert!(
                taken <= most && taken * 10 >= most * 8,
                "{rate} {burst}: {taken} {most}"
            );
        }
    }

    #[test]
    fn a_clock_of_another_shard_that_is_a_little_behind_does_no_harm() {
        let pace = pace(2, 1);
        let full = pace.take(0, Moment(SECOND_NS)).unwrap();
        assert_eq!(pace.take(full, Moment(SECOND_NS - 10)), Err(500_000_010));
        assert!(pace.take(u64::MAX, Moment(5)).is_err());
        assert!(pace.take(0, Moment(u64::MAX)).is_ok());
    }
}
