//! The only clock: read once a turn by the shard that owns it, and asked by everybody else.
//!
//! A request costs no clock call. The driver reads the monotonic clock once per turn of its loop;
//! the wall clock is that plus an offset, which the housekeeping tick corrects.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A point on the monotonic clock, in nanoseconds since some start. Copy, ordered, cheap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than everything.
    pub const NEVER: Self = Self(u64::MAX);

    /// This moment and `span` more; never past [`Moment::NEVER`].
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(span))
    }

    /// How long ago `earlier` was; zero if it was not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// One shard's clock.
#[derive(Debug)]
pub struct Clock {
    now: Cell<u64>,
    wall_offset: Cell<u64>,
}

impl Default for Clock {
    fn default() -> Self {
        let clock = Self {
            now: Cell::new(0),
            wall_offset: Cell::new(0),
        };
        clock.read();
        clock.correct();
        clock
    }
}

impl Clock {
    /// When the current turn began.
    pub fn now(&self) -> Moment {
        Moment(self.now.get())
    }

    /// Nanoseconds since 1970 when the current turn began.
    pub fn wall_ns(&self) -> i64 {
        let wall = self.now.get().saturating_add(self.wall_offset.get());
        i64::try_from(wall).unwrap_or(i64::MAX)
    }

    /// Reads the monotonic clock: once per turn.
    pub fn read(&self) {
        self.now.set(nanoseconds(clock_gettime(ClockId::Monotonic)));
    }

    /// Corrects the wall clock: once per tick, since an operator or NTP may set it.
    pub fn correct(&self) {
        let wall = nanoseconds(clock_gettime(ClockId::Realtime));
        let now = nanoseconds(clock_gettime(ClockId::Monotonic));
        self.wall_offset.set(wall.saturating_sub(now));
    }
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
/// A time for people, in UTC; `wall_ms` is milliseconds since 1970.
pub fn time_shown(wall_ms: u64) -> String {
    let time = i64::try_from(wall_ms).ok();
    match time.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        Some(time) => format!("{time:.3}"),
        None => format!("{wall_ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::time_shown;

    #[test]
    fn times_are_shown_as_people_write_them() {
        assert_eq!(time_shown(1_767_323_045_000), "2026-01-02T03:04:05.000Z");
        assert_eq!(time_shown(u64::MAX), format!("{}ms", u64::MAX));
    }
}
