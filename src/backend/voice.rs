//! The say that a backend has in what clients hear: a new one beside known ones has none until it has accepted
//! something, and is not read from until it owes nothing either. Pure.

use std::sync::atomic::{AtomicU8, Ordering};

/// The say of one backend; all shards share it.
#[derive(Debug, Default)]
pub struct Voice(AtomicU8);

const KNOWN: u8 = 0;
const NEW: u8 = 1;
const ACCEPTED: u8 = 2;

impl Voice {
    /// Takes it for new, or for one that is known.
    pub fn set_new(&self, is_new: bool) {
        let value = if is_new { NEW } else { KNOWN };
        self.0.store(value, Ordering::Relaxed);
    }

    /// Goes on with what was known of it under the last plan.
    pub fn go_on(&self, before: &Self) {
        self.0
            .store(before.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether it decides nothing yet. Once per answer.
    pub fn is_new(&self) -> bool {
        self.0.load(Ordering::Relaxed) == NEW
    }

    /// Whether it has a say, and may be read from.
    pub fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) == KNOWN
    }

    /// It has accepted something.
    pub fn accepted(&self) {
        let _was_no_longer_new =
            self.0
                .compare_exchange(NEW, ACCEPTED, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// It is owed nothing: if it has accepted something, it is known from now on. Whether it is.
    pub fn is_level(&self) -> bool {
        let _was_new_or_known =
            self.0
                .compare_exchange(ACCEPTED, KNOWN, Ordering::Relaxed, Ordering::Relaxed);
        self.is_known()
    }
}

#[cfg(test)]
mod tests {
    use super::Voice;

    #[test]
    fn a_new_one_is_known_once_it_has_accepted_and_owes_nothing() {
        let voice = Voice::default();
        assert!(voice.is_known(), "until it is said to be new");
        voice.set_new(true);
        assert!(voice.is_new() && !voice.is_level());
        voice.accepted();
        assert!(!voice.is_new() && !voice.is_known());
        assert!(voice.is_level() && voice.is_known());
        voice.accepted();
        assert!(voice.is_known());
    }
}
