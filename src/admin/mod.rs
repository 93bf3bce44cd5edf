//! What the relay says of itself: to load balancers, to operators, to Prometheus.
//!
//! Everything is read from what shards publish; nothing here is on the path of a write.

pub mod health;
pub mod metrics_page;
pub mod status;

use std::rc::Rc;

use crate::backend::pool::Shared;
use crate::http::response::{Closing, RETRY_AFTER, write_answer, write_error};
use crate::plan::{BackendId, ListenerPlan};
use crate::shard::{Shard, World};

/// What somebody wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// `/ping`
    Ping,
    /// `/health`
    Health,
    /// `/ready`
    Ready,
    /// `/ready/NAME`; `None` where no backend has the name.
    ReadyBackend(Option<BackendId>),
    /// `/status`
    Status,
    /// `/metrics`
    Metrics,
}

const JSON: &[u8] = b"Content-Type: application/json\r\n";
const TEXT: &[u8] = b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n";

/// Appends the answer to `out`; its status.
pub async fn answer(
    shard: &Rc<Shard>,
    listener: &ListenerPlan,
    asked: Asked,
    opts: Closing,
    out: &mut Vec<u8>,
) -> u16 {
    let world = &shard.world;
    match asked {
        Asked::Ping => {
            let version = version(world, &listener.outputs);
            let header = format!("X-Influxdb-Version: {version}\r\n");
            write_answer(out, listener.ping_status, header.as_bytes(), b"", opts);
            listener.ping_status
        }
        Asked::Health => {
            let page = health::page(shard, listener).await;
            write_answer(out, 200, JSON, page.as_bytes(), opts);
            200
        }
        Asked::Ready if shard.draining.get() => not_ready(out, "shutting down", opts),
        Asked::Ready if !can_take_writes(world, listener) => {
            not_ready(out, "too few backends are up", opts)
        }
        Asked::ReadyBackend(None) => {
            write_error(out, 404, "no backend has this name", b"", opts);
            404
        }
        Asked::ReadyBackend(Some(backend)) if !is_up(world, backend) => {
            not_ready(out, "the backend is down", opts)
        }
        Asked::Ready | Asked::ReadyBackend(Some(_)) => {
            write_answer(out, 200, JSON, b"{\"ready\":true}\n", opts);
            200
        }
        Asked::Status => {
            write_answer(
                out,
                200,
                JSON,
                status::page(world, &listener.outputs).as_bytes(),
                opts,
            );
            200
        }
        Asked::Metrics => {
            write_answer(
                out,
                200,
                TEXT,
                metrics_page::page(world, &shard.events).as_bytes(),
                opts,
            );
            200
        }
    }
}

fn not_ready(out: &mut Vec<u8>, why: &str, opts: Closing) -> u16 {
    write_error(out, 503, why, RETRY_AFTER, opts);
    503
}

/// Whether every shard takes the backend for up: one that does not would fail its writes.
pub fn is_up(world: &World, backend: BackendId) -> bool {
    world
        .metrics
        .iter()
        .all(|shard| shard.backends[backend.0].up.get() == 1)
}

/// Whether enough backends are up for a write to succeed at this door.
fn can_take_writes(world: &World, listener: &ListenerPlan) -> bool {
    let counts = |id: &&BackendId| {
        let plan = &world.plan.backends[id.0];
        plan.writes && !plan.drop_responses && is_up(world, **id)
    };
    listener.outputs.iter().filter(counts).count() >= listener.acks
}

/// What the backends call themselves, with `-relay` behind it; `relay` until one has said so.
fn version(world: &World, outputs: &[BackendId]) -> String {
    let known = |id: &BackendId| {
        let shared: &Shared = &world.backends[id.0];
        shared.version.load_full()
    };
    match outputs.iter().find_map(known) {
        Some(version) => format!("{version}-relay"),
        None => "relay".to_owned(),
    }
}
