//! Words for operators: one line per change of state, written by a thread of its own.
//!
//! Each shard has its own view of a backend; the operator hears once that it is down, from the first
//! shard that sees it, and once that it is up, when the last shard does.

use std::io::IsTerminal;
use std::sync::Arc;

use crossbeam::channel::Receiver;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

use crate::boot::{StartError, helper};
use crate::events::Event;
use crate::plan::{LogFormat, LogLevel, LogPlan};
use crate::shard::World;

/// Sends what is logged to stderr. Once per process.
pub fn open(plan: LogPlan) {
    let level = match plan.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let lines = fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false);
    match plan.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// Starts the thread that makes words of events.
pub(super) fn start(world: &Arc<World>, queue: Receiver<Event>) -> Result<(), StartError> {
    let world = Arc::clone(world);
    helper("log", move || {
        let mut down = vec![vec![false; world.plan.cpus.len()]; world.plan.backends.len()];
        for event in queue {
            match event {
                Event::BackendDown {
                    shard,
                    backend,
                    why,
                } => {
                    let first = down[backend.0].iter().all(|down| !down);
                    down[backend.0][shard] = true;
                    if first {
                        let label = &world.plan.backends[backend.0].label;
                        tracing::warn!(backend = %label, why, "backend is down: what it misses is gone");
                    }
                }
                Event::BackendUp { shard, backend } => {
                    let was_down = std::mem::replace(&mut down[backend.0][shard], false);
                    if was_down && down[backend.0].iter().all(|down| !down) {
                        let label = &world.plan.backends[backend.0].label;
                        let missed: u64 = world
                            .metrics
                            .iter()
                            .map(|shard| shard.backends[backend.0].missed.get())
                            .sum();
                        tracing::info!(backend = %label, missed_so_far = missed, "backend is up");
                    }
                }
                Event::AcceptFailed { shard, why } => {
                    tracing::error!(
                        shard,
                        why,
                        "cannot accept connections: raise LimitNOFILE or lower max-connections"
                    );
                }
                Event::TaskPanicked { shard } => {
                    tracing::error!(
                        shard,
                        "a bug ended one connection; please report the panic above"
                    );
                }
            }
        }
    })
}
