//! The words of events, one log line each.

use std::net::IpAddr;

use crate::events::Event;
use crate::plan::BackendId;
use crate::shard::World;
use crate::spool::board::DROPPED;

/// Whether the backend's writes go to another one where it does not take them (`mode = "balance"`).
fn is_one_of_many(world: &World, backend: BackendId) -> bool {
    let mut listeners = world.plan.listeners.iter();
    listeners.any(|listener| listener.balance && listener.outputs.contains(&backend))
}

pub(super) fn is_down(world: &World, backend: BackendId, why: &str) {
    let plan = &world.plan.backends[backend.0];
    if plan.owed_bytes_max > 0 {
        tracing::warn!(backend = %plan.label, why, "backend is down: what it misses is kept for it");
    } else if is_one_of_many(world, backend) {
        tracing::warn!(backend = %plan.label, why, "backend is down: the others take its writes");
    } else {
        tracing::warn!(backend = %plan.label, why, "backend is down: what it misses is gone");
    }
}

pub(super) fn refuses(world: &World, backend: BackendId, why: &str) {
    let plan = &world.plan.backends[backend.0];
    if plan.owed_bytes_max > 0 {
        tracing::warn!(backend = %plan.label, why, "backend takes no writes: what it misses is kept for it");
    } else if is_one_of_many(world, backend) {
        tracing::warn!(backend = %plan.label, why, "backend takes no writes: the others take them");
    } else {
        tracing::warn!(backend = %plan.label, why, "backend takes no writes: what it misses is gone");
    }
}

pub(super) fn is_up(world: &World, backend: BackendId) {
    let plan = &world.plan.backends[backend.0];
    let rows = world.metrics.iter();
    let missed: u64 = rows
        .map(|shard| shard.backends[backend.0].missed.get())
        .sum();
    if plan.owed_bytes_max > 0 || is_one_of_many(world, backend) {
        tracing::info!(backend = %plan.label, "backend is up");
    } else {
        tracing::info!(backend = %plan.label, missed_so_far = missed, "backend is up");
    }
}

/// What concerns one backend's debt; and the rest.
pub(super) fn say(world: &World, event: &Event) {
    let label = |backend: &BackendId| world.plan.backends[backend.0].label.as_str();
    match event {
        Event::Owing { backend } => {
            tracing::warn!(
                backend = label(backend),
                "backend is owed writes: new ones join them, in order"
            );
        }
        Event::Level { backend } => {
            tracing::info!(
                backend = label(backend),
                "backend is level: it is owed nothing"
            );
        }
        Event::Stuck { backend, why } => {
            tracing::warn!(
                backend = label(backend),
                why,
                "backend does not take what it is owed: it is tried again"
            );
        }
        Event::Buried {
            backend,
            pieces,
            status,
            reason,
        } => tracing::warn!(
            backend = label(backend),
            pieces,
            status,
            reason,
            "set aside as dead letters: look at them with `influxdb-relay spool show --dead`"
        ),
        Event::Unburied { backend, why } => {
            tracing::error!(
                backend = label(backend),
                why,
                "dead letters could not be written, and are lost"
            );
        }
        Event::Damaged { backend, records } => tracing::error!(
            backend = label(backend),
            records,
            "records of the spool are damaged and lost: check the disk, and `influxdb-relay spool verify`"
        ),
        Event::Dropped {
            backend,
            row,
            records,
        } => tracing::warn!(
            backend = label(backend),
            reason = DROPPED[*row],
            records,
            "dropped the oldest that the backend was owed"
        ),
        other => say_else(world, other),
    }
}

fn peer_shown(peer: Option<IpAddr>) -> String {
    peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string())
}

/// What concerns no backend alone.
fn say_else(world: &World, event: &Event) {
    let label = |backend: &BackendId| world.plan.backends[backend.0].label.as_str();
    match event {
        Event::Connected { shard, peer } => {
            tracing::debug!(shard, peer = peer_shown(*peer), "connection is open");
        }
        Event::Disconnected {
            shard,
            peer,
            requests,
        } => {
            let peer = peer_shown(*peer);
            tracing::debug!(shard, peer, requests, "connection is closed");
        }
        Event::Answered {
            shard,
            path,
            method,
            status,
            took,
        } => tracing::debug!(
            shard,
            path,
            method,
            status,
            took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "answered"
        ),
        Event::Flushed {
            backend: Some(backend),
            ..
        } => tracing::warn!(
            backend = label(backend),
            "an operator asked to drop what the backend is owed (/admin/flush)"
        ),
        Event::Flushed { backends, .. } => tracing::warn!(
            backends,
            "an operator asked to drop what backends are owed (/admin/flush)"
        ),
        Event::AcceptFailed { shard, why } => tracing::error!(
            shard,
            why,
            "cannot accept connections: raise LimitNOFILE or lower max-connections"
        ),
        Event::TaskPanicked { shard } => tracing::error!(
            shard,
            "a bug ended one connection; please report the panic above"
        ),
        _ => {} // told by who keeps account of it
    }
}
