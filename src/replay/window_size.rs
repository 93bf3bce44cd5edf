//! How many bytes the next window of a replay holds. Pure.
//!
//! An answer takes as long as the way there and back, and as long as the backend works on the bytes. A long way is no
//! reason for small windows: they would bring less, and spare nobody anything. So windows grow until their answers
//! take several times as long as the quickest one, which is mostly the way.

use std::time::Duration;

use crate::limits;

/// The size of a replay's windows.
#[derive(Debug, Clone)]
pub struct WindowSize {
    bytes: usize,
    bytes_max: usize,
    /// The quickest answer so far.
    quickest: Duration,
}

impl WindowSize {
    /// Small windows at first, of at most `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes: limits::WINDOW_BYTES_FIRST.min(bytes_max),
            bytes_max,
            quickest: Duration::MAX,
        }
    }

    /// Bytes of the next window, at most.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A window was delivered, and its answers took so long; `is_full` says that there is more. Once per window.
    pub fn delivered(&mut self, took: Duration, is_full: bool) {
        self.quickest = self.quickest.min(took);
        let slow = self
            .quickest
            .saturating_mul(limits::WINDOW_SLOW_FACTOR)
            .max(limits::WINDOW_SLOW);
        if took > slow {
            self.shrink();
        } else if is_full && took * 2 < slow {
            self.bytes = (self.bytes * 2).min(self.bytes_max);
        }
    }

    /// An answer did not come in time.
    pub fn timed_out(&mut self) {
        self.shrink();
    }

    fn shrink(&mut self) {
        let least = (limits::WINDOW_BYTES_FIRST / 8).min(self.bytes_max);
        self.bytes = (self.bytes / 2).max(least);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::WindowSize;
    use crate::limits::{KIB, MIB, WINDOW_BYTES_FIRST};

    /// Delivers windows to a backend that is so far away and takes so many bytes per second; the bytes that were
    /// delivered, the time that it took, and the size at the end.
    fn deliver(
        away: Duration,
        bytes_per_second: usize,
        windows: usize,
    ) -> (usize, Duration, usize) {
        let mut size = WindowSize::new(MIB);
        let (mut bytes, mut time) = (0, Duration::ZERO);
        for _ in 0..windows {
            let work = Duration::from_secs(1) * u32::try_from(size.bytes()).unwrap()
                / u32::try_from(bytes_per_second).unwrap();
            bytes += size.bytes();
            time += away + work;
            size.delivered(away + work, true);
        }
        (bytes, time, size.bytes())
    }

    #[test]
    fn a_backend_that_is_far_away_gets_the_largest_windows() {
        for away in [1, 60, 300, 900, 5000] {
            let (_, _, size) = deliver(Duration::from_millis(away), 200 * MIB, 200);
            assert_eq!(size, MIB, "{away} ms away");
        }
        let (bytes, time, _) = deliver(Duration::from_millis(300), 200 * MIB, 16);
        assert!(bytes > 11 * 1000 * KIB, "{bytes}");
        assert!(time < Duration::from_secs(6), "{time:?}");
    }

    #[test]
    fn a_backend_that_works_slowly_is_not_kept_busy_for_long() {
        // 200 kB/s: a window of 1 MiB would take five seconds, and come no faster.
        for windows in 60..200 {
            let (_, _, size) = deliver(Duration::from_millis(1), 200_000, windows);
            assert!(size <= 4 * WINDOW_BYTES_FIRST, "{size}");
        }
        let (_, _, size) = deliver(Duration::from_millis(1), 50 * MIB, 60);
        assert_eq!(size, MIB, "a quick one gets large windows");
    }

    #[test]
    fn a_chance_delay_costs_a_few_windows() {
        let mut size = WindowSize::new(MIB);
        let usual = Duration::from_millis(300);
        (0..40).for_each(|_| size.delivered(usual, true));
        size.delivered(9 * usual, true);
        assert_eq!(size.bytes(), MIB / 2);
        size.delivered(usual, true);
        assert_eq!(size.bytes(), MIB);
    }

    #[test]
    fn what_is_not_full_makes_nothing_larger() {
        let mut size = WindowSize::new(MIB);
        size.delivered(Duration::from_millis(1), false);
        assert_eq!(size.bytes(), WINDOW_BYTES_FIRST);
        size.timed_out();
        assert_eq!(size.bytes(), WINDOW_BYTES_FIRST / 2);
    }
}
