//! `/status`: what is known of each backend, for scripts that read the veepee fork's page.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::admin::is_up;
use crate::plan::BackendId;
use crate::shard::World;

#[derive(Debug, Serialize)]
struct Page {
    status: BTreeMap<String, Row>,
}

/// One backend. `buffering`, `size` and `maxSize` are the fork's; without a spool nothing is owed.
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
    missed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// The page for these backends; all of them for the admin address.
pub fn page(world: &World, outputs: &[BackendId]) -> String {
    let rows = outputs.iter().map(|&id| {
        let plan = &world.plan.backends[id.0];
        let missed = world
            .metrics
            .iter()
            .map(|shard| shard.backends[id.0].missed.get())
            .sum();
        let row = Row {
            location: plan.location.clone(),
            state: if is_up(world, id) { "up" } else { "down" },
            owed_bytes: 0,
            owed_records: 0,
            oldest_seconds: 0.0,
            buffering: 0,
            size: 0,
            max_size: 0,
            missed,
            last_error: world.backends[id.0]
                .last_error
                .load_full()
                .map(|words| words.to_string()),
        };
        (plan.label.clone(), row)
    });
    let page = Page {
        status: rows.collect(),
    };
    serde_json::to_string(&page).unwrap_or_default() + "\n"
}
