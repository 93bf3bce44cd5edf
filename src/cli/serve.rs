//! `serve`: what the operator reads until the first request, and the exit code after the last.

use std::path::Path;

use crate::boot::{self, log};
use crate::cli::load;
use crate::plan::{LogLevel, Plan};

/// Wrong configuration or arguments.
pub const EXIT_WRONG: u8 = 1;
/// Could not start.
pub const EXIT_START: u8 = 2;

/// Runs the relay, and ends the process: 0 after a drain, 1 for a wrong configuration, 2 when it could not start.
/// `verbose` logs more than is configured.
pub fn run(config: Option<&Path>, verbose: bool) -> ! {
    log::start_sink();
    let code = start(config, verbose);
    log::flush();
    std::process::exit(i32::from(code)) // the shards wait for this
}

fn start(config: Option<&Path>, verbose: bool) -> u8 {
    let loaded = match load::load(config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in &problems {
                log::write_plain(&format!("influxdb-relay: {problem}"));
            }
            return EXIT_WRONG;
        }
    };
    let unfit = loaded.unfit();
    if !unfit.is_empty() {
        for why in &unfit {
            log::write_plain(&format!("influxdb-relay: {why}"));
        }
        return EXIT_WRONG;
    }
    let plan = spoken_as(loaded.effective.plan, verbose);
    log::open(plan.log);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), cpus = ?plan.cpus, "influxdb-relay");
    for sentence in plan.not_in_force.iter().chain(&plan.notes) {
        tracing::warn!("{sentence}");
    }
    let again = || again(config, verbose);
    match boot::run(plan, &again) {
        Ok(()) => {
            tracing::info!("drained");
            0
        }
        Err(error) => {
            log::write_plain(&format!("influxdb-relay: {error}"));
            EXIT_START
        }
    }
}

/// The plan as the file and the environment make it now.
fn again(config: Option<&Path>, verbose: bool) -> Result<Plan, Vec<String>> {
    let loaded = load::load(config)?;
    match loaded.exposed.is_empty() {
        true => Ok(spoken_as(loaded.effective.plan, verbose)),
        false => Err(loaded.exposed.iter().map(ToString::to_string).collect()),
    }
}

/// The plan with the level of the log that `-v` asks for.
fn spoken_as(mut plan: Plan, verbose: bool) -> Plan {
    if verbose {
        plan.log.level = LogLevel::Debug;
    }
    plan
}
