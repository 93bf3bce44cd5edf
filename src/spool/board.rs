//! Whether each backend takes writes as they come or is owed some first; how shards and the task that
//! replays agree on when that changes. Pure.
//!
//! ```text
//!            a shard: a backend missed what another accepted
//!   LIVE ───────────────────────────────────────────────▶ OWING ◀─┐ the tail was not delivered
//!    ▲                                                      │      │ within the pause
//!    │ replay: all tails delivered               replay: the tail is short
//!    └───────────────────────── HANDING OVER ◀──────────────┘──────┘
//! ```
//!
//! Each backend's state is one number, an epoch and a mode, that every shard loads when it keeps a
//! write. Only two kinds of change exist: a shard moves LIVE to OWING, with a compare-and-swap; the
//! one task that replays to the backend makes all others. Every other cell has one writer.

use std::sync::atomic::{AtomicU64, Ordering};

/// What becomes of a new write for a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is sent at once.
    Live,
    /// It joins the tail of what is owed.
    Owing,
    /// It is held, and its client with it, until the tail has been delivered.
    HandingOver,
}

/// A mode, and how often it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State(u64);

impl State {
    /// The mode.
    pub fn mode(self) -> Mode {
        match self.0 & 3 {
            0 => Mode::Live,
            1 => Mode::Owing,
            _ => Mode::HandingOver,
        }
    }

    /// Whether this is the LIVE that ended the hand-over `held`, with no change between.
    pub fn releases(self, held: Self) -> bool {
        self == held.next(Mode::Live)
    }

    fn next(self, mode: Mode) -> Self {
        let mode = match mode {
            Mode::Live => 0,
            Mode::Owing => 1,
            Mode::HandingOver => 2,
        };
        Self(((self.0 >> 2) + 1) << 2 | mode)
    }

    /// As a number that only ever grows.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Replaces the value; only its one writer may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// Adds; only its one writer may.
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }
}

/// What one shard says of one backend. The shard is the only writer.
#[derive(Debug, Default)]
pub struct Row {
    /// The state that the shard has taken note of: no later write will go by an older one.
    pub seen: Cell,
    /// The OWING state since which none of the shard's sends to it is under way. With it stand:
    pub quiet: Cell,
    /// the order of the oldest write that it may lack (`track::NONE`: it lacks none of this shard's).
    pub missed_from: Cell,
    /// In HANDING OVER: the sequence behind the last write that joined the tail.
    pub tail: Cell,
    /// Records that it came to be owed.
    pub records: Cell,
    /// Bytes of their bodies.
    pub bytes: Cell,
    /// Records that it missed and that could not be kept, since the disk is full or failing.
    pub unkept: Cell,
    /// Live writes of which it dropped lines that were set aside, by its status (its row in the metrics),
    pub dead: Vec<Cell>,
    /// and those of them that found no room among the dead letters.
    pub unlettered: Cell,
}

impl Row {
    /// Nothing was said yet; `codes` rows for statuses.
    fn new(codes: usize) -> Self {
        Self {
            dead: (0..codes).map(|_| Cell::default()).collect(),
            ..Self::default()
        }
    }
}

/// How often and how long new writes were held for a backend.
#[derive(Debug, Default)]
pub struct Held {
    /// Times.
    pub times: Cell,
    /// Together.
    pub sum_ns: Cell,
    /// The longest of all.
    pub max_ns: Cell,
}

impl Held {
    /// They were held for so long.
    pub fn add(&self, ns: u64) {
        self.times.add(1);
        self.sum_ns.add(ns);
        self.max_ns.set(self.max_ns.get().max(ns));
    }
}

/// What is known of one backend's debt.
#[derive(Debug)]
pub struct Desk {
    state: AtomicU64,
    /// One per shard.
    pub rows: Vec<Row>,
    /// Records that were replayed, dropped or set aside. Written by the replaying task, like all below.
    pub settled_records: Cell,
    /// Bytes of their bodies.
    pub settled_bytes: Cell,
    /// When the oldest that it is owed was kept: milliseconds since 1970; 0 where unknown.
    pub oldest_ms: Cell,
    /// Records delivered.
    pub replayed: Cell,
    /// Records dropped, by [`DROPPED`].
    pub dropped: [Cell; DROPPED.len()],
    /// Records or parts of them set aside, by the status that condemned them (its row in the metrics).
    pub dead: Vec<Cell>,
    /// Records that could not be read.
    pub damaged: Cell,
    /// Hand-overs, and tries of them: how many, and how long clients were held, in nanoseconds.
    pub held: Held,
    /// How often an operator asked to drop what is owed. Written by the admin page.
    pub flushes: AtomicU64,
}

/// Why something owed was dropped, by the number of its row.
pub const DROPPED: [&str; 4] = ["full", "age", "flush", "unlettered"];
/// The row of what was dropped because more than `max-size` was owed.
pub const DROPPED_FULL: usize = 0;
/// The row of what was older than `max-age`.
pub const DROPPED_AGE: usize = 1;
/// The row of what an operator dropped.
pub const DROPPED_FLUSH: usize = 2;
/// The row of poison that found no room among the dead letters.
pub const DROPPED_UNLETTERED: usize = 3;

impl Desk {
    /// The desk of a backend that is level; `codes` rows for statuses.
    pub fn new(shards: usize, codes: usize) -> Self {
        Self {
            state: AtomicU64::new(0),
            rows: (0..shards).map(|_| Row::new(codes)).collect(),
            settled_records: Cell::default(),
            settled_bytes: Cell::default(),
            oldest_ms: Cell::default(),
            replayed: Cell::default(),
            dropped: Default::default(),
            dead: (0..codes).map(|_| Cell::default()).collect(),
            damaged: Cell::default(),
            held: Held::default(),
            flushes: AtomicU64::new(0),
        }
    }

    /// What becomes of a write now.
    pub fn state(&self) -> State {
        State(self.state.load(Ordering::SeqCst))
    }

    /// LIVE becomes OWING; whether this call made it so. Any shard may.
    pub fn owe(&self) -> bool {
        let state = self.state();
        state.mode() == Mode::Live && self.change(state, Mode::Owing).is_some()
    }

    /// OWING becomes HANDING OVER, that becomes LIVE, or OWING again. Only the replaying task may.
    /// `None` if the state is not `from` any more.
    pub fn change(&self, from: State, to: Mode) -> Option<State> {
        let next = from.next(to);
        let changed =
            self.state
                .compare_exchange(from.0, next.0, Ordering::SeqCst, Ordering::SeqCst);
        changed.ok().map(|_| next)
    }

    /// Records and bytes that the backend is owed.
    pub fn owed(&self) -> (u64, u64) {
        if self.state().mode() == Mode::Live {
            return (0, 0);
        }
        let records: u64 = self.rows.iter().map(|row| row.records.get()).sum();
        let bytes: u64 = self.rows.iter().map(|row| row.bytes.get()).sum();
        (
            records.saturating_sub(self.settled_records.get()),
            bytes.saturating_sub(self.settled_bytes.get()),
        )
    }

    /// Goes on with what was counted for the backend under the last plan. Before any shard runs.
    pub fn go_on(&self, before: &Self) {
        let cells = [
            (&self.replayed, &before.replayed),
            (&self.damaged, &before.damaged),
            (&self.held.times, &before.held.times),
            (&self.held.sum_ns, &before.held.sum_ns),
            (&self.held.max_ns, &before.held.max_ns),
        ];
        let dropped = self.dropped.iter().zip(&before.dropped);
        let dead = self.dead.iter().zip(&before.dead);
        for (own, old) in cells.into_iter().chain(dropped).chain(dead) {
            own.set(old.get());
        }
        for (own, old) in self.rows.iter().zip(&before.rows) {
            own.unkept.set(old.unkept.get());
            own.unlettered.set(old.unlettered.get());
            for (own, old) in own.dead.iter().zip(&old.dead) {
                own.set(old.get());
            }
        }
    }

    /// Nothing is owed any more: the counts begin anew.
    pub fn level(&self) {
        let records = self.rows.iter().map(|row| row.records.get()).sum();
        let bytes = self.rows.iter().map(|row| row.bytes.get()).sum();
        self.settled_records.set(records);
        self.settled_bytes.set(bytes);
        self.oldest_ms.set(0);
    }
}

/// All backends' desks, and how shards are called to look at them.
pub struct Board {
    /// One per backend, in the order of the plan.
    pub desks: Vec<Desk>,
    /// Per shard: the order of the oldest write about which something may change, or of its last look.
    pub horizons: Vec<Cell>,
    /// Per shard: 1 while its disk takes no writes.
    pub failing: Vec<Cell>,
    ring: Box<dyn Fn() + Send + Sync>,
}

impl Board {
    /// Desks for `backends` backends; `ring` calls all shards, and is rare.
    pub fn new(
        backends: usize,
        shards: usize,
        codes: usize,
        ring: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            desks: (0..backends).map(|_| Desk::new(shards, codes)).collect(),
            horizons: (0..shards).map(|_| Cell::default()).collect(),
            failing: (0..shards).map(|_| Cell::default()).collect(),
            ring,
        }
    }

    /// Calls all shards to look at the desks.
    pub fn ring(&self) {
        (self.ring)();
    }

    /// The order of the oldest write of all shards about which something may change.
    pub fn horizon(&self) -> u64 {
        self.horizons.iter().map(Cell::get).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Desk, Mode};

    #[test]
    fn only_the_allowed_changes_happen_and_the_number_grows() {
        let desk = Desk::new(2, 1);
        let first = desk.state();
        assert_eq!(first.mode(), Mode::Live);
        assert!(desk.owe());
        assert!(!desk.owe(), "once");
        let owing = desk.state();
        assert_eq!(desk.change(first, Mode::Live), None, "out of date");
        let handing = desk.change(owing, Mode::HandingOver).unwrap();
        assert!(!desk.owe(), "no shard ends a hand-over");
        assert_eq!(handing.mode(), Mode::HandingOver);
        let live = desk.change(handing, Mode::Live).unwrap();
        assert_eq!(live.mode(), Mode::Live);
        assert!(first.number() < owing.number() && owing.number() < handing.number());
        assert!(handing.number() < live.number());
    }

    #[test]
    fn debts_are_what_came_in_less_what_went_out() {
        let desk = Desk::new(2, 1);
        desk.owe();
        desk.rows[0].records.add(2);
        desk.rows[1].records.add(1);
        desk.rows[1].bytes.add(10);
        desk.settled_records.add(1);
        assert_eq!(desk.owed(), (2, 10));
        desk.level();
        assert_eq!(desk.owed(), (0, 0));
    }
}
