//! `influxdb-relay spool`: a look into a spool and its dead letters, also beside a running relay.
//!
//! ```text
//!  look ─▶ logs ─▶ walk: one log, record by record ─┬─▶ owed: all logs, in the order of replay ─▶ show, export
//!                                                   └─▶ list, verify, drop
//!          letters: one file of dead letters ─────────▶ all of them
//! ```
//!
//! Only `drop` changes anything, and only it takes the spool's lock. Whatever is shown is without
//! credentials. Everything is read piece by piece: one record at a time is in memory.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::serve::{EXIT_START, EXIT_WRONG};
use crate::boot::kernel;
use crate::cli::say;
use crate::limits::tools::SHOW_RECORDS;
use crate::spool::unusable::Unusable;

mod drop;
mod export;
mod letters;
mod list;
mod look;
mod owed;
mod show;
mod verify;
mod walk;
mod words;

/// `verify` found damage.
pub const EXIT_DAMAGED: u8 = 3;

/// What the operator types.
#[derive(Debug, clap::Args)]
pub struct SpoolArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Print each log, and what each backend is owed
    List(ListArgs),
    /// Print what is owed, or the dead letters, a line each, without credentials
    Show(ShowArgs),
    /// Read everything and print what is damaged; exit code 3 if anything is
    Verify(VerifyArgs),
    /// Write what is owed, or the dead letters, to stdout as line protocol that can be sent again
    Export(ExportArgs),
    /// Give up what a backend is owed, or its dead letters; not while a relay runs
    Drop(DropArgs),
}

/// Where the spool is.
#[derive(Debug, clap::Args)]
struct Dir {
    /// The spool's folder: `[spool] dir`
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    place: Dir,
    /// The same as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    place: Dir,
    /// Only what this backend lacks
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// How many to show
    #[arg(long, value_name = "N", default_value_t = SHOW_RECORDS)]
    limit: usize,
    /// The dead letters instead
    #[arg(long)]
    dead: bool,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    #[command(flatten)]
    place: Dir,
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    #[command(flatten)]
    place: Dir,
    /// Only what this backend lacks
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// The dead letters instead
    #[arg(long)]
    dead: bool,
    /// One JSON object a line, in the form of dead letters; remote-write too
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct DropArgs {
    #[command(flatten)]
    place: Dir,
    /// Whose; a backend that is no longer configured too
    #[arg(long, value_name = "NAME")]
    backend: String,
    /// The dead letters instead
    #[arg(long)]
    dead: bool,
    /// Do it; without this it is only said what would be dropped
    #[arg(long)]
    yes: bool,
}

/// Why it ended before its end.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// The operator must type something else.
    #[error("{0}")]
    Wrong(String),
    /// The spool cannot be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// A relay runs on it: what it owes is dropped by itself.
    #[error(
        "{path}: another relay uses this spool: ask it to drop what it owes, with POST /admin/flush?backend={backend} at its \
         admin address, or stop it first"
    )]
    Live {
        /// The spool.
        path: String,
        /// Whose debt, as it stands in a query.
        backend: String,
    },
    /// A file cannot be read, written or removed.
    #[error("{path}: {why}: see that you may read and write it, and that the disk is well")]
    Disk {
        /// Which.
        path: String,
        /// What the disk said.
        why: io::Error,
    },
    /// What it prints cannot be written.
    #[error("cannot write to stdout: {0}")]
    Output(#[from] io::Error),
}

impl Stop {
    fn disk(path: &std::path::Path, why: io::Error) -> Self {
        let path = path.display().to_string();
        Self::Disk { path, why }
    }
}

/// 0 well, 1 wrong arguments, 2 the spool is in use or cannot be used, 3 damage found by `verify`.
pub fn run(args: &SpoolArgs) -> ExitCode {
    kernel::raise_descriptors(); // a spool has more files than a shell allows
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match &args.verb {
        Verb::List(args) => list::run(args, &mut out),
        Verb::Show(args) => show::run(args, &mut out),
        Verb::Verify(args) => verify::run(args, &mut out),
        Verb::Export(args) => export::run(args, &mut out),
        Verb::Drop(args) => drop::run(args, &mut out),
    };
    let flushed = out.flush().map_err(Stop::Output);
    let stop = match (done, flushed) {
        (Ok(code), Ok(())) => return ExitCode::from(code),
        (Err(stop), _) | (Ok(_), Err(stop)) => stop,
    };
    match &stop {
        // Whoever read it has seen enough.
        Stop::Output(why) if why.kind() == ErrorKind::BrokenPipe => {}
        stop => say::error(format_args!("influxdb-relay spool: {stop}")),
    }
    ExitCode::from(match (&stop, &args.verb) {
        (Stop::Wrong(_), _) => EXIT_WRONG,
        (Stop::Unusable(Unusable::Foreign { .. }), Verb::Verify(_)) => EXIT_DAMAGED,
        _ => EXIT_START,
    })
}
