//! Why a spool cannot be used, in words for the operator.

use std::io;
use std::path::Path;

use crate::limits;
use crate::spool::segment::VERSION;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Another process uses it.
    #[error("{0}: another relay uses this spool: stop it, or set another spool.dir")]
    Locked(String),
    /// A later version wrote it.
    #[error(
        "{path}: has format version {found}, and this relay reads version {VERSION}: run the relay that wrote \
         it until nothing is owed, or move the file away"
    )]
    Foreign {
        /// Which file.
        path: String,
        /// Its version.
        found: u32,
    },
    /// Too many old logs.
    #[error(
        "{0}: more than {max} logs: run `influxdb-relay spool list` and drop what is not needed",
        max = limits::LOGS_MAX
    )]
    TooMany(String),
    /// The disk said no.
    #[error("{path}: {why}: give the relay's user a folder of its own that it may write to")]
    Disk {
        /// Where.
        path: String,
        /// What it said.
        why: io::Error,
    },
}

/// What the disk said of a path.
pub(super) fn disk(path: &Path, why: io::Error) -> Unusable {
    Unusable::Disk {
        path: path.display().to_string(),
        why,
    }
}
