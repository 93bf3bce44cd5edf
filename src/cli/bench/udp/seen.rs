//! Which lines of one socket have come, in a window that moves on with them. Pure.

use crate::limits::tools::BENCH_SEEN_LINES;

/// One bit per line, in a ring.
pub(super) struct Seen {
    words: Vec<u64>,
    /// One more than the highest number that has come.
    next: u64,
}

/// How a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// For the first time, and behind all that came before.
    InOrder,
    /// For the first time, and after one that was sent later.
    Late,
    /// Once more, or so late that it cannot be told whether it has come before.
    Again,
}

impl Seen {
    /// Nothing has come. The memory is taken as the window moves over it.
    pub(super) fn new() -> Self {
        Self {
            words: vec![0; BENCH_SEEN_LINES / 64],
            next: 0,
        }
    }

    /// Line `number` has come. *Once per point.*
    pub(super) fn hear(&mut self, number: u64) -> Arrival {
        let (word, bit) = (number / 64, 1 << (number % 64));
        let length = self.words.len() as u64;
        let newest = self.next.saturating_sub(1) / 64;
        if word + length <= newest {
            return Arrival::Again;
        }
        let is_next = number >= self.next;
        if is_next {
            for passed in (newest + 1..=word).take(self.words.len()) {
                *self.word(passed) = 0;
            }
            // The window may have moved by more than its length, past the words just emptied.
            *self.word(word) &= bit - 1;
            self.next = number + 1;
        }
        let held = self.word(word);
        if *held & bit != 0 {
            return Arrival::Again;
        }
        *held |= bit;
        if is_next {
            Arrival::InOrder
        } else {
            Arrival::Late
        }
    }

    fn word(&mut self, word: u64) -> &mut u64 {
        let length = self.words.len() as u64;
        // What is left of a division by a length is an index below it.
        &mut self.words[usize::try_from(word % length).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Arrival, Seen};
    use crate::limits::tools::BENCH_SEEN_LINES;

    #[test]
    fn in_order_late_and_again() {
        let mut seen = Seen::new();
        for (number, arrival) in [
            (0, Arrival::InOrder),
            (1, Arrival::InOrder),
            (1, Arrival::Again),
            (200, Arrival::InOrder),
            (64, Arrival::Late),
            (64, Arrival::Again),
            (199, Arrival::Late),
            (0, Arrival::Again),
            (201, Arrival::InOrder),
        ] {
            assert_eq!(seen.hear(number), arrival, "{number}");
        }
    }

    #[test]
    fn the_window_moves_on_and_forgets() {
        let window = BENCH_SEEN_LINES as u64;
        let mut seen = Seen::new();
        for number in (0..3 * window).step_by(7) {
            assert_eq!(seen.hear(number), Arrival::InOrder, "{number}");
        }
        assert_eq!(seen.hear(0), Arrival::Again, "it is past telling");
        assert_eq!(seen.hear(2 * window + 100), Arrival::Late);
        // A leap over all of it and more.
        assert_eq!(seen.hear(9 * window + 5), Arrival::InOrder);
        for number in 8 * window + 64..9 * window + 5 {
            assert_eq!(seen.hear(number), Arrival::Late, "{number}");
        }
    }

    #[test]
    fn any_order_within_the_window_is_as_a_set_has_it() {
        let (mut seen, mut set, mut highest, mut dice) = (Seen::new(), HashSet::new(), None, 1_u64);
        for step in 0..200_000_u64 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let number = step * 3 + (dice >> 33) % 5_000;
            let expected = match (set.insert(number), highest < Some(number)) {
                (false, _) => Arrival::Again,
                (true, true) => Arrival::InOrder,
                (true, false) => Arrival::Late,
            };
            highest = highest.max(Some(number));
            assert_eq!(seen.hear(number), expected, "{number} at {step}");
        }
    }
}
