//! SIGTERM and SIGINT begin a drain; a second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::boot::certificates::{self, Watch};
use crate::boot::{StartError, helper};
use crate::shard::World;

/// Starts the thread that takes signals.
pub(super) fn start(world: &Arc<World>, certificates: Watch) -> Result<(), StartError> {
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]);
    let mut signals = signals.map_err(|why| StartError::Thread {
        what: "signal handling".to_owned(),
        why: why.to_string(),
    })?;
    let world = Arc::clone(world);
    helper("signals", move || {
        for signal in &mut signals {
            if signal == SIGHUP {
                certificates::look_again(&certificates);
                tracing::warn!(
                    "SIGHUP: certificates are read again, the rest of the configuration is not; restart it for that"
                );
            } else if world.stopping.swap(true, Ordering::Relaxed) {
                tracing::warn!("a second signal: ending at once");
                std::process::exit(1);
            } else {
                tracing::info!(timeout = ?world.plan.shutdown_timeout, "draining");
            }
        }
    })
}
