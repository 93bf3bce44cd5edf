//! What subcommands say to the operator: on stdout and stderr, and never by panicking.
//!
//! `println!` panics where it cannot write: a full disk, a reader that has seen enough.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use crate::cli::serve::EXIT_START;

/// Writes a line to stderr, if stderr takes it.
pub(super) fn error(words: impl Display) {
    let _nobody_can_be_told = io::stderr().write_all(format!("{words}\n").as_bytes());
}

/// Writes to stdout, and returns the exit code: `code`; or 2, with the reason, if stdout does not take it.
/// A reader that has seen enough is no failure.
pub(super) fn output(text: &str, code: ExitCode) -> ExitCode {
    let mut out = io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(why) if why.kind() != ErrorKind::BrokenPipe => {
            error(format_args!(
                "influxdb-relay: cannot write to stdout: {why}"
            ));
            ExitCode::from(EXIT_START)
        }
        _ => code,
    }
}
