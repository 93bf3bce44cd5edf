//! What the other relays say, in the numbers that operators see: on `/status` and on `/metrics`. Pure.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::admin::exposition::{self, Page};
use crate::clock::time_shown;
use crate::plan::BackendId;
use crate::shard::World;

/// One of the other relays.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerRow {
    /// Since when it says nothing; not there while it speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    silent_since: Option<String>,
    /// For how long.
    silent_seconds: u64,
}

/// The other relays by their URLs, without credentials. `now_ms` is milliseconds since 1970. Once per page.
pub fn rows(world: &World, now_ms: u64) -> BTreeMap<String, PeerRow> {
    let peers = world.plan.peers.iter().zip(silences(world));
    let rows = peers.map(|(peer, since)| {
        let row = PeerRow {
            silent_since: (since > 0).then(|| time_shown(since)),
            silent_seconds: seconds(since, now_ms),
        };
        (peer.shown.clone(), row)
    });
    rows.collect()
}

/// Their part of `/metrics`. Once per scrape; `now_ms` is milliseconds since 1970.
pub fn write(page: &mut Page, world: &World, now_ms: u64) {
    if world.plan.peers.is_empty() {
        return;
    }
    let help = "Bytes that another relay owes the backend: the most that one of them has said.";
    page.head(OWED, "gauge", help);
    for (b, backend) in world.plan.backends.iter().enumerate() {
        let owed = world.peers_owe(BackendId(b)).unwrap_or(0);
        page.row(OWED, &exposition::backend(&backend.label), owed);
    }
    let help = "How long another relay has not said what it owes; 0 while it does.";
    page.head(SILENT, "gauge", help);
    for (peer, since) in world.plan.peers.iter().zip(silences(world)) {
        let label = exposition::label("peer", &peer.shown);
        page.row(SILENT, &label, seconds(since, now_ms));
    }
}

fn silences(world: &World) -> impl Iterator<Item = u64> {
    let since = world.peers_silent_since.iter();
    since.map(|since| since.load(Ordering::Relaxed))
}

fn seconds(since: u64, now_ms: u64) -> u64 {
    match since {
        0 => 0,
        since => now_ms.saturating_sub(since) / 1000,
    }
}

const OWED: &str = "relay_peers_owed_bytes";
const SILENT: &str = "relay_peer_silent_seconds";
