//! The spool's part of `/metrics`: who is owed what, and what became of it.

use crate::admin::debt::{self, Debt};
use crate::admin::exposition::{self, Page};
use crate::plan::BackendId;
use crate::shard::World;
use crate::spool::board::Mode;

/// Writes all its metrics: their heads always, rows for the backends that writes are kept for. Once per
/// scrape; `now_ms` is milliseconds since 1970.
pub fn write(page: &mut Page, world: &World, now_ms: u64) {
    let debts: Vec<(String, Debt)> = (0..world.plan.backends.len())
        .filter_map(|b| {
            let label = exposition::backend(&world.plan.backends[b].label);
            Some((label, debt::of(world, BackendId(b), now_ms)?))
        })
        .collect();
    for (name, kind, help, of) in NUMBERS {
        page.head(name, kind, help);
        for (label, debt) in &debts {
            page.row(name, label, of(debt));
        }
    }
    page.head(OLDEST, "gauge", "Age of the oldest that it is owed.");
    for (label, debt) in &debts {
        let age = exposition::seconds(debt.oldest_ms.saturating_mul(1_000_000));
        page.row(OLDEST, label, age);
    }
    let help = "How long new writes, and their clients, were held while it was handed over.";
    page.head(HELD, "summary", help);
    for (label, debt) in &debts {
        page.row(
            &format!("{HELD}_sum"),
            label,
            exposition::seconds(debt.held[1]),
        );
        page.row(&format!("{HELD}_count"), label, debt.held[0]);
    }
    page.head(HELD_MAX, "gauge", "The longest of them since the start.");
    for (label, debt) in &debts {
        page.row(HELD_MAX, label, exposition::seconds(debt.held[2]));
    }
    page.head(LOST, "counter", "Owed writes that were dropped, by reason.");
    for (label, debt) in &debts {
        for (reason, count) in &debt.dropped {
            page.row(LOST, &format!("{label},reason=\"{reason}\""), count);
        }
    }
    let help = "What a backend will never take, set aside, by the status it answered.";
    page.head(DEAD, "counter", help);
    for (label, debt) in &debts {
        for (row, &count) in debt.dead.iter().enumerate() {
            page.nonzero(DEAD, label, &exposition::code(row), count);
        }
    }
    page.head(FAILING, "gauge", "Shards whose spool's disk takes nothing.");
    page.row(FAILING, "", debt::failing(world));
}

type Number = (&'static str, &'static str, &'static str, fn(&Debt) -> u64);

/// Metrics of one number a backend: name, type, help, number.
const NUMBERS: [Number; 5] = [
    (
        "relay_spool_owed_bytes",
        "gauge",
        "Bytes of the bodies that the backend is owed.",
        |debt| debt.bytes,
    ),
    (
        "relay_spool_owed_records",
        "gauge",
        "Writes that the backend is owed.",
        |debt| debt.records,
    ),
    (
        "relay_spool_state",
        "gauge",
        "0: it is sent new writes at once; 1: it is owed some first; 2: it is being handed over.",
        |debt| match debt.mode {
            Mode::Live => 0,
            Mode::Owing => 1,
            Mode::HandingOver => 2,
        },
    ),
    (
        "relay_spool_replayed_total",
        "counter",
        "Owed writes that were delivered.",
        |debt| debt.replayed,
    ),
    (
        "relay_spool_damaged_total",
        "counter",
        "Owed writes that could not be read from the disk.",
        |debt| debt.damaged,
    ),
];
const OLDEST: &str = "relay_spool_oldest_seconds";
const HELD: &str = "relay_spool_hand_over_seconds";
const HELD_MAX: &str = "relay_spool_hand_over_max_seconds";
const LOST: &str = "relay_spool_dropped_total";
const DEAD: &str = "relay_dead_letters_total";
const FAILING: &str = "relay_spool_failing";
