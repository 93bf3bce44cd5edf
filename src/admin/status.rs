//! `/status`: what is known of each backend, for scripts that read the veepee fork's page.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::admin::debt::{self, Debt};
use crate::admin::is_up;
use crate::plan::BackendId;
use crate::shard::World;

#[derive(Debug, Serialize)]
struct Page {
    status: BTreeMap<String, Row>,
}

/// One backend. `buffering`, `size` and `maxSize` are the fork's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    location: String,
    state: &'static str,
    owed_bytes: u64,
    owed_records: u64,
    oldest_seconds: f64,
    buffering: u8,
    size: u64,
    max_size: u64,
    replayed: u64,
    dead_letters: u64,
    dropped: u64,
    missed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// The page for these backends; all of them for the admin address. `now_ms` is milliseconds since 1970.
pub fn page(world: &World, outputs: &[BackendId], now_ms: u64) -> String {
    let rows = outputs.iter().map(|&id| {
        let plan = &world.plan.backends[id.0];
        (plan.label.clone(), row(world, id, now_ms))
    });
    let page = Page {
        status: rows.collect(),
    };
    serde_json::to_string(&page).unwrap_or_default() + "\n"
}

fn row(world: &World, id: BackendId, now_ms: u64) -> Row {
    let plan = &world.plan.backends[id.0];
    let debt = debt::of(world, id, now_ms);
    let of = |number: fn(&Debt) -> u64| debt.as_ref().map_or(0, number);
    let is_level = debt.as_ref().is_none_or(Debt::is_level);
    let rows = world.metrics.iter();
    Row {
        location: plan.location.clone(),
        state: state(is_up(world, id), is_level),
        owed_bytes: of(|debt| debt.bytes),
        owed_records: of(|debt| debt.records),
        oldest_seconds: Duration::from_millis(of(|debt| debt.oldest_ms)).as_secs_f64(),
        buffering: u8::from(!is_level),
        size: of(|debt| debt.bytes),
        max_size: plan.owed_bytes_max,
        replayed: of(|debt| debt.replayed),
        dead_letters: of(Debt::dead_in_all),
        dropped: of(Debt::dropped_in_all),
        missed: rows.map(|shard| shard.backends[id.0].missed.get()).sum(),
        last_error: world.backends[id.0]
            .last_error
            .load_full()
            .map(|words| words.to_string()),
    }
}

fn state(is_up: bool, is_level: bool) -> &'static str {
    match (is_up, is_level) {
        (false, _) => "down",
        (true, false) => "catching-up",
        (true, true) => "up",
    }
}
