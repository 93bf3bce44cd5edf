//! How long to wait between two tries: doubling, bounded, with jitter so that relays do not knock
//! in step. Pure.

use std::time::Duration;

/// The waits of one run of tries.
#[derive(Debug, Clone)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
    dice: u64,
}

impl Backoff {
    /// From `least`, doubled to `most`; `seed` decides the jitter.
    pub fn new(least: Duration, most: Duration, seed: u64) -> Self {
        assert!(least <= most && !least.is_zero(), "a back-off that grows");
        Self {
            least,
            most,
            next: least,
            dice: seed | 1,
        }
    }

    /// The next wait: between half of the step and all of it.
    pub fn wait(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.most);
        step / 2 + (step / 2).mul_f64(self.roll())
    }

    /// The next run begins with `least` again.
    pub fn reset(&mut self) {
        self.next = self.least;
    }

    /// A number from 0 to 1 (xorshift64*, Vigna 2016).
    fn roll(&mut self) -> f64 {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        let bits =
            u32::try_from(self.dice.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32).unwrap_or(u32::MAX);
        f64::from(bits) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    #[test]
    fn waits_stay_within_half_and_all_of_their_step() {
        for seed in 0..200 {
            let (least, most) = (Duration::from_millis(250), Duration::from_secs(2));
            let mut backoff = Backoff::new(least, most, seed);
            for step in [250, 500, 1000, 2000, 2000, 2000] {
                let (wait, step) = (backoff.wait(), Duration::from_millis(step));
                assert!(
                    wait >= step / 2 && wait <= step,
                    "seed {seed}: {wait:?} of {step:?}"
                );
            }
            backoff.reset();
            assert!(backoff.wait() <= least);
        }
    }

    #[test]
    fn two_seeds_do_not_knock_in_step() {
        let waits = |seed| {
            let mut backoff =
                Backoff::new(Duration::from_millis(250), Duration::from_secs(2), seed);
            (0..4).map(|_| backoff.wait()).collect::<Vec<_>>()
        };
        assert_ne!(waits(0x9E37_79B9), waits(0x7F4A_7C15));
        assert_eq!(waits(7), waits(7));
    }
}
