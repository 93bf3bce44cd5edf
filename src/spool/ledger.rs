//! What became of the writes that a shard kept lately: who has them, who missed them, what is still
//! open. Pure.
//!
//! Only the young end of a log is here. An entry leaves once nothing about it can change and no
//! backend could be sent back to it; what is owed for longer is known by the log and its cursors.
//!
//! Backends are bits of a mask: the places of a listener's outputs.

use std::collections::VecDeque;

use crate::limits;
use crate::spool::door::Keep;

/// Whether a write counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody has taken it yet; somebody still may.
    Open,
    /// Somebody has taken it: it is owed to everybody else.
    Accepted,
    /// Nobody took it, and its client was told so.
    Void,
}

/// What a backend said of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It has it.
    Accepted,
    /// It has a part of it and will not have the rest, which is still to be accounted for: it speaks again.
    Partial,
    /// It will not have it, and the client may be told so.
    Refused,
    /// It does not have it now.
    Missed,
}

/// One write that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its place among the records of all shards; 0 until it is on disk.
    pub order: u64,
    /// Where its record begins in its segment.
    pub offset: u32,
    /// Bytes of its body.
    pub body_bytes: u32,
    /// Which listener took it.
    pub door: u16,
    /// Whether it counts.
    pub fate: Fate,
    /// Somebody has refused it: it is not kept for its own sake.
    pub refused: bool,
    /// Backends that are to answer.
    pub waiting: u64,
    /// Backends that do not have it.
    pub missed: u64,
    /// Backends that its record names, in the order of their bits.
    pub targets: u64,
}

impl Entry {
    /// The targets that have accepted it, as its record counts them: bit `i` is its target `i`.
    pub fn accepted_targets(&self) -> u64 {
        if self.fate != Fate::Accepted {
            return 0;
        }
        let has_it = self.targets & !self.waiting & !self.missed;
        let (mut left, mut accepted) = (self.targets, 0);
        for target in 0..self.targets.count_ones() {
            let bit = left & left.wrapping_neg();
            accepted |= u64::from(has_it & bit != 0) << target;
            left ^= bit;
        }
        accepted
    }
}

const _: () = assert!(
    size_of::<Entry>() <= limits::LEDGER_ENTRY_BYTES,
    "what the sum of a shard's memory counts"
);

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// Backends that the write is owed to from now on.
    pub owed: u64,
    /// The write was refused by all: its record is to be voided.
    pub void: bool,
}

/// The young end of one log.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: VecDeque<Entry>,
    /// Sequence of the first entry, or of the next where there is none.
    first: u64,
    /// Entries, from the first on, whose fate is known.
    decided: usize,
    /// Entries, from the first on, about which nothing can change.
    settled: usize,
}

impl Ledger {
    /// Enters the next write; its sequence.
    pub fn enter(&mut self, entry: Entry) -> u64 {
        self.entries.push_back(entry);
        self.next() - 1
    }

    /// The sequence that the next write will have.
    pub fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The sequence of the oldest entry still here, or of the next where there is none.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// How many entries are here.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An entry that is still here.
    pub fn entry(&self, sequence: u64) -> Option<&Entry> {
        self.entries.get(self.place(sequence)?)
    }

    fn place(&self, sequence: u64) -> Option<usize> {
        usize::try_from(sequence.checked_sub(self.first)?).ok()
    }

    /// The entry is on disk, there.
    pub fn written(&mut self, sequence: u64, order: u64, offset: u32) {
        let Some(place) = self.place(sequence) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(place) {
            (entry.order, entry.offset) = (order, offset);
        }
    }

    /// The entry is not on disk and never will be: it is owed to nobody, though it is still sent to
    /// those it waits for. What it was.
    pub fn lost(&mut self, sequence: u64) -> Option<Entry> {
        let place = self.place(sequence)?;
        let entry = self.entries.get_mut(place)?;
        let was = *entry;
        (entry.fate, entry.missed) = (Fate::Void, 0);
        Some(was)
    }

    /// Replay has delivered all that `backend` of `door` had missed below `tail`.
    pub fn delivered(&mut self, door: u16, backend: u64, tail: u64) {
        let below = self.place(tail).unwrap_or(0);
        for entry in self.entries.iter_mut().take(below) {
            if entry.door == door {
                entry.missed &= !backend;
            }
        }
    }

    /// `backend` has spoken, or is not asked any more. `keep` says whether a write that
    /// nobody took is owed.
    pub fn heard(&mut self, sequence: u64, backend: u64, heard: Heard, keep: Keep) -> Change {
        let place = self.place(sequence);
        let Some(entry) = place.and_then(|place| self.entries.get_mut(place)) else {
            return Change::default();
        };
        if heard != Heard::Partial {
            entry.waiting &= !backend;
        }
        let missed_before = match entry.fate {
            Fate::Accepted => entry.missed,
            _ => 0,
        };
        match (heard, entry.fate) {
            (_, Fate::Void) => return Change::default(),
            (Heard::Accepted | Heard::Partial, _) => {
                entry.fate = Fate::Accepted;
                entry.missed &= !backend;
            }
            (Heard::Refused, _) => {
                entry.refused = true;
                entry.missed |= backend;
            }
            (Heard::Missed, _) => entry.missed |= backend,
        }
        if entry.fate == Fate::Open && entry.waiting == 0 {
            let is_kept = match keep {
                Keep::Accepted => false,
                Keep::Unrefused => !entry.refused,
                Keep::All => true,
            };
            if is_kept {
                entry.fate = Fate::Accepted;
            } else {
                (entry.fate, entry.missed) = (Fate::Void, 0);
                return Change {
                    owed: 0,
                    void: true,
                };
            }
        }
        let owed = match entry.fate {
            Fate::Accepted => entry.missed & !missed_before,
            _ => 0,
        };
        Change { owed, void: false }
    }

    /// Sequence and order of the oldest write whose fate is open, among those below `end`; `None` if
    /// all are known.
    pub fn undecided(&mut self, end: u64) -> Option<(u64, u64)> {
        let ends = self.place(end).unwrap_or(0);
        while self.decided < ends {
            match self.entries.get(self.decided) {
                Some(entry) if entry.fate == Fate::Open => {
                    return Some((self.first + self.decided as u64, entry.order));
                }
                Some(_) => self.decided += 1,
                None => return None,
            }
        }
        None
    }

    /// The order of the oldest write about which something may change, among those below `end`.
    /// `live` tells, per listener, which of its backends would be sent back if they missed it.
    pub fn unsettled(&mut self, end: u64, live: impl Fn(u16) -> u64) -> Option<u64> {
        let ends = self.place(end).unwrap_or(0);
        while self.settled < ends {
            let entry = self.entries.get(self.settled)?;
            let open = entry.fate == Fate::Open || entry.waiting != 0;
            if open || entry.missed & live(entry.door) != 0 {
                return Some(entry.order);
            }
            self.settled += 1;
        }
        None
    }

    /// Lets go of settled entries older than `horizon`, the oldest unsettled order of all shards.
    pub fn release(&mut self, horizon: u64) {
        while self.settled > 0
            && self
                .entries
                .front()
                .is_some_and(|entry| entry.order < horizon)
        {
            self.entries.pop_front();
            self.first += 1;
            self.settled -= 1;
            self.decided = self.decided.saturating_sub(1);
        }
    }

    /// The order of the oldest write that `backend` of `door` does not have; `None` where there is
    /// none on disk.
    pub fn oldest_missed(&self, door: u16, backend: u64) -> Option<u64> {
        let misses =
            |entry: &&Entry| entry.door == door && entry.missed & backend != 0 && entry.order != 0;
        self.entries.iter().find(misses).map(|entry| entry.order)
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Entry, Fate, Heard, Ledger};
    use crate::spool::door::Keep;

    fn sent_to(waiting: u64, missed: u64) -> Entry {
        Entry {
            order: 0,
            offset: 0,
            body_bytes: 1,
            door: 0,
            fate: Fate::Open,
            refused: false,
            waiting,
            missed,
            targets: waiting | missed,
        }
    }

    fn owed(owed: u64) -> Change {
        Change { owed, void: false }
    }

    #[test]
    fn acceptances_are_counted_as_the_record_names_its_targets() {
        let mut ledger = Ledger::default();
        let mut entry = sent_to(0b1011_0000, 0b0100_0000);
        entry.targets = 0b1101_0000; // output 5 takes it, and is owed nothing
        let sequence = ledger.enter(entry);
        let accepted = |ledger: &Ledger| ledger.entry(sequence).unwrap().accepted_targets();
        assert_eq!(accepted(&ledger), 0, "nobody has spoken");
        ledger.heard(sequence, 1 << 5, Heard::Accepted, Keep::Accepted);
        assert_eq!(accepted(&ledger), 0);
        ledger.heard(sequence, 1 << 7, Heard::Accepted, Keep::Accepted);
        assert_eq!(accepted(&ledger), 0b100, "the third target");
        ledger.heard(sequence, 1 << 4, Heard::Refused, Keep::Accepted);
        assert_eq!(accepted(&ledger), 0b100);
        ledger.delivered(0, 0b0101_0000, sequence + 1);
        assert_eq!(accepted(&ledger), 0b111, "replay has brought it");
    }

    #[test]
    fn what_one_accepted_is_owed_to_the_other_whoever_speaks_first() {
        for order in [[1, 2], [2, 1]] {
            let mut ledger = Ledger::default();
            let sequence = ledger.enter(sent_to(0b11, 0));
            let said = |backend| match backend {
                1 => Heard::Accepted,
                _ => Heard::Refused,
            };
            let changes =
                order.map(|backend| ledger.heard(sequence, backend, said(backend), Keep::Accepted));
            let expected = match order {
                [1, _] => [owed(0), owed(0b10)],
                _ => [owed(0), owed(0b10)],
            };
            assert_eq!(changes, expected, "{order:?}");
        }
    }

    #[test]
    fn what_nobody_took_is_void_or_kept_for_all() {
        let mut ledger = Ledger::default();
        let sequence = ledger.enter(sent_to(0b01, 0b10));
        let change = ledger.heard(sequence, 1, Heard::Missed, Keep::Accepted);
        assert!(change.void);
        assert_eq!(
            ledger.heard(sequence, 2, Heard::Accepted, Keep::Accepted),
            owed(0),
            "too late"
        );
        let sequence = ledger.enter(sent_to(0b11, 0));
        assert_eq!(
            ledger.heard(sequence, 1, Heard::Missed, Keep::Unrefused),
            owed(0)
        );
        assert_eq!(
            ledger.heard(sequence, 2, Heard::Missed, Keep::Unrefused),
            owed(0b11)
        );
        let sequence = ledger.enter(sent_to(0b11, 0));
        assert_eq!(
            ledger.heard(sequence, 1, Heard::Refused, Keep::Unrefused),
            owed(0)
        );
        assert!(
            ledger
                .heard(sequence, 2, Heard::Missed, Keep::Unrefused)
                .void,
            "its client was refused"
        );
    }

    #[test]
    fn a_part_is_an_acceptance_and_stays_open_until_the_rest_is_accounted_for() {
        let mut ledger = Ledger::default();
        let sequence = ledger.enter(sent_to(0b01, 0b10));
        ledger.written(sequence, 10, 0);
        let said = ledger.heard(sequence, 1, Heard::Partial, Keep::Accepted);
        assert_eq!(said, owed(0b10), "to the other");
        assert_eq!(ledger.undecided(1), None);
        assert_eq!(ledger.unsettled(1, |_| 0b01), Some(10));
        let settled = ledger.heard(sequence, 1, Heard::Accepted, Keep::Accepted);
        assert_eq!(settled, owed(0));
        assert_eq!(ledger.unsettled(1, |_| 0b01), None);
        let sequence = ledger.enter(sent_to(0b01, 0));
        ledger.heard(sequence, 1, Heard::Partial, Keep::Accepted);
        let gone = ledger.heard(sequence, 1, Heard::Missed, Keep::Accepted);
        assert_eq!(gone, owed(0b01), "its letter was not written");
    }

    #[test]
    fn entries_stay_until_nothing_older_is_open_anywhere() {
        let mut ledger = Ledger::default();
        for order in 1..=3 {
            let sequence = ledger.enter(sent_to(0b11, 0));
            ledger.written(sequence, order * 10, 0);
        }
        let live = |_| 0b11;
        assert_eq!(ledger.unsettled(3, live), Some(10));
        for sequence in [0, 1] {
            ledger.heard(sequence, 1, Heard::Accepted, Keep::Accepted);
            ledger.heard(sequence, 2, Heard::Accepted, Keep::Accepted);
        }
        assert_eq!(ledger.undecided(3), Some((2, 30)));
        assert_eq!(ledger.unsettled(3, live), Some(30));
        ledger.release(10);
        assert_eq!(ledger.first(), 0, "another shard has something as old");
        ledger.release(30);
        assert_eq!((ledger.first(), ledger.len()), (2, 1));
        ledger.heard(2, 1, Heard::Accepted, Keep::Accepted);
        ledger.heard(2, 2, Heard::Missed, Keep::Accepted);
        assert_eq!(ledger.undecided(3), None);
        assert_eq!(
            ledger.unsettled(3, live),
            Some(30),
            "a live backend missed it"
        );
        assert_eq!(ledger.oldest_missed(0, 0b10), Some(30));
        assert_eq!(ledger.unsettled(3, |_| 0b01), None, "replay has it now");
        ledger.release(u64::MAX);
        assert!(ledger.is_empty());
        assert_eq!(ledger.next(), 3);
    }
}
