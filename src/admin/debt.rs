//! What one backend is owed, and what became of what it was owed, in the numbers that operators see. Pure.
//!
//! Every page reads a desk through this file, so that none of them tells another story.

use crate::plan::BackendId;
use crate::shard::World;
use crate::spool::board::{DROPPED, DROPPED_UNLETTERED, Desk, Mode};

/// One backend's debt at one moment. Once per page and backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debt {
    /// What becomes of a new write for it.
    pub mode: Mode,
    /// Records that it is owed.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// How long ago the oldest of them was kept, in milliseconds; 0 if nothing is owed, and until replay
    /// has looked.
    pub oldest_ms: u64,
    /// Records delivered.
    pub replayed: u64,
    /// Records dropped, each row with its reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Dead letters, by the row of the status that condemned them.
    pub dead: Vec<u64>,
    /// Records that could not be read.
    pub damaged: u64,
    /// Hand-overs and tries of them; how long clients were held by all, and at most, in nanoseconds.
    pub held: [u64; 3],
}

/// Why something is gone that could not be kept at all.
const DISK: &str = "disk";
const UNLETTERED: &str = DROPPED[DROPPED_UNLETTERED];

/// What this backend is owed; `None` if nothing is ever kept for it. `now_ms` is milliseconds since 1970.
pub fn of(world: &World, backend: BackendId, now_ms: u64) -> Option<Debt> {
    let spool = world.spool.as_ref()?;
    let is_kept_for = world.plan.backends[backend.0].owed_bytes_max > 0;
    is_kept_for.then(|| Debt::read(&spool.board.desks[backend.0], now_ms))
}

/// Shards whose disk takes nothing.
pub fn failing(world: &World) -> u64 {
    let spool = world.spool.iter();
    spool
        .flat_map(|spool| &spool.board.failing)
        .map(|shard| shard.get())
        .sum()
}

impl Debt {
    fn read(desk: &Desk, now_ms: u64) -> Self {
        let mode = desk.state().mode();
        let (records, bytes) = desk.owed();
        let oldest_ms = match desk.oldest_ms.get() {
            kept_ms if kept_ms > 0 && records > 0 => now_ms.saturating_sub(kept_ms),
            _ => 0,
        };
        let unkept = desk.rows.iter().map(|row| row.unkept.get()).sum();
        let reasons = DROPPED.into_iter().zip(&desk.dropped);
        let unlettered: u64 = desk.rows.iter().map(|row| row.unlettered.get()).sum();
        let reasons = reasons.map(|(reason, count)| match reason {
            UNLETTERED => (reason, count.get() + unlettered),
            _ => (reason, count.get()),
        });
        let dead = |code: usize| {
            let live = desk.rows.iter().filter_map(|row| row.dead.get(code));
            desk.dead[code].get() + live.map(|count| count.get()).sum::<u64>()
        };
        Self {
            mode,
            records,
            bytes,
            oldest_ms,
            replayed: desk.replayed.get(),
            dropped: reasons.chain([(DISK, unkept)]).collect(),
            dead: (0..desk.dead.len()).map(dead).collect(),
            damaged: desk.damaged.get(),
            held: [&desk.held.times, &desk.held.sum_ns, &desk.held.max_ns].map(|cell| cell.get()),
        }
    }

    /// Whether new writes go to the backend at once.
    pub fn is_level(&self) -> bool {
        self.mode == Mode::Live
    }

    /// Records dropped, for whatever reason.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.iter().map(|row| row.1).sum()
    }

    /// Dead letters, whatever condemned them.
    pub fn dead_in_all(&self) -> u64 {
        self.dead.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Debt;
    use crate::spool::board::{DROPPED_AGE, Desk, Mode};

    #[test]
    fn a_level_backend_is_owed_nothing_however_old() {
        let desk = Desk::new(2, 1);
        desk.oldest_ms.set(5);
        let debt = Debt::read(&desk, 1_000);
        assert!(debt.is_level());
        assert_eq!((debt.records, debt.bytes, debt.oldest_ms), (0, 0, 0));
    }

    #[test]
    fn debts_of_all_shards_are_one() {
        let desk = Desk::new(2, 3);
        desk.owe();
        for row in &desk.rows {
            row.records.add(2);
            row.bytes.add(30);
            row.unkept.add(4);
        }
        let debt = Debt::read(&desk, 1_000);
        assert_eq!((debt.mode, debt.records, debt.bytes), (Mode::Owing, 4, 60));
        assert_eq!(debt.oldest_ms, 0, "not looked at yet");
        desk.oldest_ms.set(400);
        desk.dropped[DROPPED_AGE].add(1);
        desk.dead[2].add(7);
        let debt = Debt::read(&desk, 1_000);
        assert_eq!(debt.oldest_ms, 600);
        assert_eq!(
            Debt::read(&desk, 100).oldest_ms,
            0,
            "the clock was set back"
        );
        assert!(debt.dropped.contains(&("age", 1)) && debt.dropped.contains(&("disk", 8)));
        assert_eq!((debt.dropped_in_all(), debt.dead_in_all()), (9, 7));
        desk.settled_records.set(4);
        assert_eq!(
            Debt::read(&desk, 1_000).oldest_ms,
            0,
            "all of it is settled"
        );
    }
}
