//! Tells the service manager that the relay lives, as long as every shard does (`WatchdogSec=`).
//!
//! It has a thread of its own: the main thread may take seconds over a reload, while a spool is closed and
//! opened, and shards tick meanwhile. What is watched is the shards; the waits of the main thread for them
//! are bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use crate::boot::notify::Notifier;
use crate::boot::vigil::{Sight, Vigil};
use crate::boot::{StartError, helper, rest};
use crate::clock::Clock;

/// How often one shard has kept house: it counts, and the watchdog reads. Once per tick.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<CachePadded<AtomicU64>>);

impl Pulse {
    /// One tick more. Only its shard does this.
    pub(super) fn beat(&self) {
        let ticks = self.0.load(Ordering::Relaxed);
        self.0.store(ticks.wrapping_add(1), Ordering::Relaxed);
    }

    fn ticks(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Starts the thread, if the service manager asked for it. It runs until the process ends: in a drain that
/// makes room for a successor the service goes on.
pub(super) fn start(notifier: &Notifier, pulses: Vec<Pulse>) -> Result<(), StartError> {
    let Some(patience) = notifier.patience() else {
        return Ok(());
    };
    let notifier = notifier.clone();
    helper("watchdog", move || {
        let (clock, all) = (Clock::default(), || pulses.iter().map(Pulse::ticks));
        let mut ticks: Vec<u64> = all().collect();
        let mut vigil = Vigil::new(patience, clock.now(), ticks.clone());
        loop {
            clock.read();
            ticks.clear();
            ticks.extend(all());
            match vigil.look(clock.now(), &ticks) {
                Sight::Alive => notifier.alive(),
                Sight::Wait(span) => rest(span),
                Sight::Hangs(shard) => tracing::error!(
                    shard,
                    "a shard hangs: the service manager is not told that the relay lives, and will start it anew"
                ),
            }
        }
    })
}
