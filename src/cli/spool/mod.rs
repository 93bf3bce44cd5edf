//! `spool`: a look into a spool and its dead letters, without a relay.
//!
//! `list`, `show`, `verify` and `export` read, also beside a relay that runs; `drop` gives up on what a
//! backend is owed, and needs the spool for itself. Everything is read piece by piece: a spool may be
//! larger than memory. Credentials are never shown.

pub mod drop;
pub mod export;
pub mod list;
pub mod reading;
pub mod show;
pub mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::serve::EXIT_WRONG;
use crate::spool::archive::{Archive, Unusable, is_locked};

/// Another process uses the spool.
pub const EXIT_IN_USE: u8 = 2;
/// `verify` found damage.
pub const EXIT_DAMAGED: u8 = 3;

/// What to do with a spool.
#[derive(Debug, Subcommand)]
pub enum SpoolCommand {
    /// Logs, and what each backend is owed
    List(ListArgs),
    /// What is owed, record by record, or the dead letters
    Show(ShowArgs),
    /// Read everything and report damage (exit code 3)
    Verify(DirArgs),
    /// What is owed, or the dead letters, as line protocol that can be sent again
    Export(ExportArgs),
    /// Give up on what a backend is owed, or on its dead letters
    Drop(DropArgs),
}

/// Which spool.
#[derive(Debug, Args)]
pub struct DirArgs {
    /// The spool's folder
    #[arg(long)]
    pub dir: PathBuf,
}

/// `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    spool: DirArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    spool: DirArgs,
    /// Only this backend
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// So many at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Dead letters instead
    #[arg(long)]
    dead: bool,
}

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    spool: DirArgs,
    /// Only this backend
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Dead letters instead
    #[arg(long)]
    dead: bool,
    /// One JSON object a line, for bodies of any kind
    #[arg(long)]
    json: bool,
}

/// `drop`.
#[derive(Debug, Args)]
pub struct DropArgs {
    #[command(flatten)]
    spool: DirArgs,
    /// Whose
    #[arg(long, value_name = "NAME")]
    backend: String,
    /// Its dead letters instead
    #[arg(long)]
    dead: bool,
    /// Do it; without this it is only said what would be dropped
    #[arg(long)]
    yes: bool,
}

/// Why a command did not do what it was to.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// There is no such spool.
    #[error("{0}: there is no such folder: name the spool's folder (spool.dir)")]
    Missing(String),
    /// It cannot be used.
    #[error("{0}")]
    Unusable(#[from] Unusable),
    /// Nothing was changed: it was not asked for twice.
    #[error("{0}; say --yes to do it")]
    NotConfirmed(String),
    /// What was written to, or read from, failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Runs the command; its exit code.
#[allow(clippy::print_stderr)] // the operator asked
pub fn run(command: &SpoolCommand) -> ExitCode {
    let done = match command {
        SpoolCommand::List(args) => {
            open(&args.spool.dir).and_then(|spool| list::run(&spool, args.json))
        }
        SpoolCommand::Show(args) => open(&args.spool.dir).and_then(|spool| show::run(&spool, args)),
        SpoolCommand::Verify(args) => verify::run(&args.dir),
        SpoolCommand::Export(args) => {
            open(&args.spool.dir).and_then(|spool| export::run(&spool, args))
        }
        SpoolCommand::Drop(args) => drop::run(args),
    };
    match done {
        Ok(code) => code,
        Err(Trouble::Io(why)) if why.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("influxdb-relay: {trouble}");
            ExitCode::from(match trouble {
                Trouble::Unusable(Unusable::Locked(_)) => EXIT_IN_USE,
                Trouble::Unusable(Unusable::Foreign { .. }) => EXIT_DAMAGED,
                _ => EXIT_WRONG,
            })
        }
    }
}

/// A spool that is looked at.
pub struct Spool {
    /// Its folder.
    pub dir: PathBuf,
    /// Its logs.
    pub archive: Archive,
}

impl Spool {
    /// Names of all backends that its logs know, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for log in &self.archive.logs {
            for name in &log.track.names {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        names.sort();
        names
    }
}

/// Finds the logs of a spool that may be in use.
#[allow(clippy::print_stderr)] // the operator asked
fn open(dir: &Path) -> Result<Spool, Trouble> {
    if !dir.is_dir() {
        return Err(Trouble::Missing(dir.display().to_string()));
    }
    if is_locked(dir) {
        eprintln!("influxdb-relay: a relay uses this spool: what is shown may be a moment old");
    }
    let archive = Archive::look(dir)?;
    for damage in &archive.damage {
        eprintln!("influxdb-relay: {damage}");
    }
    let dir = dir.to_owned();
    Ok(Spool { dir, archive })
}
