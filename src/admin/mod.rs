//! What the relay says of itself: to load balancers, to operators, to Prometheus.
//!
//! Everything is read from what shards publish; nothing here is on the path of a write. The one thing
//! that may be changed here is what backends are owed: `permit` says by whom.

pub mod debt;
pub mod everywhere;
pub mod exposition;
pub mod flush;
pub mod health;
pub mod metrics_page;
pub mod peers_page;
pub mod permit;
pub mod ready;
pub mod spool_page;
pub mod status;
pub mod udp_page;

use std::rc::Rc;

use crate::admin::flush::Whose;
use crate::backend::shared::Shared;
use crate::events::Event;
use crate::fanout::deferred::any_up;
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
    Status {
        /// Of outputs over UDP too, which belong to no HTTP listener.
        with_udp: bool,
    },
    /// `/metrics`
    Metrics,
    /// `/admin/flush`, by somebody who may.
    Flush(Whose),
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
        Asked::Health => page(out, JSON, &health::page(shard, listener).await, opts),
        Asked::Ready if shard.is_ending() => not_ready(out, "shutting down", opts),
        Asked::Ready => readiness(out, ready::why_not_now(shard, listener).await, opts),
        Asked::ReadyBackend(None) => {
            write_error(out, 404, "no backend has this name", b"", opts);
            404
        }
        Asked::ReadyBackend(Some(backend)) => {
            let one = std::iter::once(&shard.backends[backend.0]);
            any_up(one, shard.driver.now()).await;
            let why_not = ready::why_not_backend(world, backend);
            readiness(out, why_not.as_deref(), opts)
        }
        Asked::Status { with_udp } => {
            let status = status::page(world, &listener.outputs, with_udp, wall_ms(shard));
            page(out, JSON, &status, opts)
        }
        Asked::Metrics => {
            let metrics = metrics_page::page(world, &shard.events, wall_ms(shard));
            page(out, TEXT, &metrics, opts)
        }
        Asked::Flush(Whose::All) => flushed(shard, &listener.outputs, None, opts, out),
        Asked::Flush(Whose::One(id)) if listener.outputs.contains(&id) => {
            flushed(shard, &[id], Some(id), opts, out)
        }
        Asked::Flush(_) => {
            let names = listener.outputs.iter();
            let names: Vec<_> = names
                .map(|&id| called(world, &listener.outputs, id))
                .collect();
            let words = format!("no backend has this name; there are {}", names.join(", "));
            write_error(out, 404, &words, b"", opts);
            404
        }
    }
}

fn flushed(
    shard: &Shard,
    outputs: &[BackendId],
    backend: Option<BackendId>,
    opts: Closing,
    out: &mut Vec<u8>,
) -> u16 {
    let backends = flush::all(&shard.world, outputs);
    shard.events.tell(Event::Flushed { backends, backend });
    write_answer(out, 204, b"", b"", opts);
    204
}

fn page(out: &mut Vec<u8>, kind: &[u8], text: &str, opts: Closing) -> u16 {
    write_answer(out, 200, kind, text.as_bytes(), opts);
    200
}

fn readiness(out: &mut Vec<u8>, why_not: Option<&str>, opts: Closing) -> u16 {
    match why_not {
        Some(why) => not_ready(out, why, opts),
        None => page(out, JSON, "{\"ready\":true}\n", opts),
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

/// What a page about `outputs` calls one of them: as in the file, unless two of them are called so.
fn called(world: &World, outputs: &[BackendId], id: BackendId) -> String {
    let plan = |id: &BackendId| &world.plan.backends[id.0];
    let own = plan(&id);
    let namesakes = outputs.iter().filter(|other| plan(other).name == own.name);
    match namesakes.count() {
        0 | 1 => own.name.clone(),
        _ => own.label.clone(),
    }
}

/// Milliseconds since 1970.
fn wall_ms(shard: &Shard) -> u64 {
    u64::try_from(shard.driver.clock().wall_ns() / 1_000_000).unwrap_or(0)
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
