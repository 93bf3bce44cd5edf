//! SIGTERM and SIGINT begin a drain, and a second one ends the process at once; SIGHUP reloads, SIGUSR2
//! restarts.

use crossbeam::channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::boot::{StartError, helper, log};
use crate::limits;

/// What an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Drain, and end.
    Stop,
    /// Read the configuration again.
    Reload,
    /// Start a successor, and end when it is there.
    Restart,
}

/// Starts the thread that takes signals. What they ask for comes out of the channel.
pub(super) fn start() -> Result<Receiver<Ask>, StartError> {
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR2]);
    let mut signals = signals.map_err(|why| StartError::Thread {
        what: "signal handling".to_owned(),
        why: why.to_string(),
    })?;
    let (asks, asked) = bounded(limits::reload::ASKS_MAX);
    helper("signals", move || {
        let mut is_stopping = false;
        for signal in &mut signals {
            let ask = match signal {
                SIGHUP => Ask::Reload,
                SIGUSR2 => Ask::Restart,
                _ if is_stopping => {
                    tracing::warn!("a second signal: ending at once");
                    log::flush();
                    std::process::exit(1);
                }
                _ => Ask::Stop,
            };
            is_stopping |= ask == Ask::Stop;
            // A full queue holds a reload that is yet to begin, and will read what is there by then.
            match ask {
                Ask::Stop => drop(asks.send(ask)),
                Ask::Reload | Ask::Restart => drop(asks.try_send(ask)),
            }
        }
    })?;
    Ok(asked)
}
