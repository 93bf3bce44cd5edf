//! `/status`: what is known of each backend, for scripts that read the veepee fork's page.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::admin::debt::{self, Debt};
use crate::admin::peers_page::{self, PeerRow};
use crate::admin::{called, is_up};
use crate::clock::time_shown;
use crate::metrics::{Counter, OutputMetrics};
use crate::plan::BackendId;
use crate::shard::World;

#[derive(Debug, Serialize)]
struct Page {
    status: BTreeMap<String, Row>,
    /// Outputs over UDP, which the fork does not show.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    udp: BTreeMap<String, UdpRow>,
    /// The other relays, which the fork does not know.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    peers: BTreeMap<String, PeerRow>,
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
    /// Bytes that another relay owes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    peers_owe: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error_at: Option<String>,
}

/// One output over UDP: nobody answers there, so this is what was sent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UdpRow {
    location: String,
    mtu: usize,
    sent_datagrams: u64,
    sent_bytes: u64,
    refused: u64,
    failed: u64,
}

/// The page for these backends; all of them, and the outputs over UDP, for the admin address. `now_ms` is
/// milliseconds since 1970.
pub fn page(world: &World, outputs: &[BackendId], for_operators: bool, now_ms: u64) -> String {
    let rows = outputs
        .iter()
        .map(|&id| (called(world, outputs, id), row(world, id, now_ms)));
    let udp = (0..world.plan.outputs.len()).filter(|_| for_operators);
    let page = Page {
        status: rows.collect(),
        udp: udp.map(|place| udp_row(world, place)).collect(),
        peers: match for_operators {
            true => peers_page::rows(world, now_ms),
            false => BTreeMap::new(),
        },
    };
    serde_json::to_string(&page).unwrap_or_default() + "\n"
}

fn row(world: &World, id: BackendId, now_ms: u64) -> Row {
    let plan = &world.plan.backends[id.0];
    let debt = debt::of(world, id, now_ms);
    let of = |number: fn(&Debt) -> u64| debt.as_ref().map_or(0, number);
    let is_level = debt.as_ref().is_none_or(Debt::is_level);
    let rows = world.metrics.iter();
    let last_error = world.backends[id.0].last_error.load_full();
    let last_error = last_error.as_deref();
    Row {
        location: plan.location.clone(),
        state: match (is_up(world, id), world.backends[id.0].voice.is_new()) {
            (true, true) => "new",
            (is_up, _) => state(is_up, is_level),
        },
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
        peers_owe: world.peers_owe(id),
        last_error: last_error.map(|error| error.words.clone()),
        last_error_at: last_error.map(|error| time_shown(error.wall_ms)),
    }
}

fn udp_row(world: &World, place: usize) -> (String, UdpRow) {
    let plan = &world.plan.outputs[place];
    let sum = |of: fn(&OutputMetrics) -> &Counter| -> u64 {
        let shards = world.metrics.iter();
        shards.map(|shard| of(&shard.outputs[place]).get()).sum()
    };
    let host = match plan.host.contains(':') {
        true => format!("[{}]", plan.host),
        false => plan.host.clone(),
    };
    let row = UdpRow {
        location: format!("{host}:{}", plan.port),
        mtu: plan.mtu,
        sent_datagrams: sum(|output| &output.datagrams),
        sent_bytes: sum(|output| &output.bytes),
        refused: sum(|output| &output.refused),
        failed: sum(|output| &output.failed),
    };
    (plan.label.clone(), row)
}

fn state(is_up: bool, is_level: bool) -> &'static str {
    match (is_up, is_level) {
        (false, _) => "down",
        (true, false) => "catching-up",
        (true, true) => "up",
    }
}
