//! What is in a spool's folder: its logs, read-only, and whose they are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::{Stop, letters};
use crate::cli::say;
use crate::spool::archive::{self, Archive};
use crate::spool::old_log::{self, OldLog};
use crate::spool::record::{Nonce, Record};

/// One log.
pub(super) struct Log {
    pub(super) folder: PathBuf,
    pub(super) run: u64,
    pub(super) shard: u32,
    /// What the targets of its records mean; empty where no segment has a whole head.
    pub(super) names: Vec<String>,
    /// Where each of them stands.
    pub(super) cursors: Vec<u64>,
    /// The order below which it has everything of the run.
    pub(super) had: Vec<u64>,
    /// The sequence behind the last record that is known to be on disk; 0 where that is not known.
    pub(super) known_end: u64,
    /// Its segments, oldest first.
    pub(super) pieces: Vec<Piece>,
}

/// One segment.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) path: PathBuf,
    /// The sequence of its first record.
    pub(super) first: u64,
    /// The sequence behind the last record that was written to the segment before it.
    pub(super) follows: u64,
    /// The secret of its records; `None` where its head is damaged.
    pub(super) nonce: Option<Nonce>,
    /// Where its records begin; 0 where its head is damaged.
    pub(super) records_at: u64,
}

/// A spool.
pub(super) struct Spool {
    pub(super) dir: PathBuf,
    /// Oldest run first.
    pub(super) logs: Vec<Log>,
    /// Whether a relay runs on it.
    pub(super) in_use: bool,
}

impl Spool {
    /// Looks into `dir`, and tells the operator if a relay is running there.
    pub(super) fn look(dir: &Path) -> Result<Self, Stop> {
        must_be_there(dir)?;
        let in_use = archive::is_locked(dir);
        if in_use {
            say::error(format_args!(
                "influxdb-relay spool: in use by a running relay: what is shown may be a moment old"
            ));
        }
        let mut logs: Vec<Log> = Archive::look(dir)?.logs.iter().map(Log::of).collect();
        for (run, shard, folder) in archive::folders(dir)? {
            if logs.iter().any(|log| log.folder == folder) {
                continue;
            }
            if let Some(log) = Log::headless(run, shard, folder)? {
                logs.push(log);
            }
        }
        logs.sort_by_key(|log| (log.run, log.shard));
        let dir = dir.to_owned();
        Ok(Self { dir, logs, in_use })
    }

    /// A backend of this name is known here, or the operator hears who is.
    pub(super) fn must_know(&self, wanted: Option<&str>) -> Result<(), Stop> {
        let Some(wanted) = wanted else { return Ok(()) };
        must_know(&self.dir, &self.logs, wanted)
    }
}

/// The spool's folder is there.
pub(super) fn must_be_there(dir: &Path) -> Result<(), Stop> {
    if dir.is_dir() {
        return match archive::is_spool(dir) {
            true => Ok(()),
            false => Err(Stop::Wrong(format!(
                "{}: there is no spool in this folder: give --dir what [spool] dir says",
                dir.display()
            ))),
        };
    }
    let dir = dir.display();
    Err(Stop::Wrong(format!(
        "{dir}: there is no such folder: give --dir what [spool] dir says"
    )))
}

/// A log or a file of dead letters names the backend `wanted`.
pub(super) fn must_know(dir: &Path, logs: &[Log], wanted: &str) -> Result<(), Stop> {
    let files = letters::files(dir)?;
    let dead = files.into_iter().map(|file| file.backend);
    let mut known: BTreeSet<String> = dead.collect();
    known.extend(logs.iter().flat_map(|log| log.names.iter().cloned()));
    if known.contains(wanted) {
        return Ok(());
    }
    let known: Vec<String> = known.into_iter().collect();
    Err(Stop::Wrong(match &known[..] {
        [] => format!("found --backend {wanted:?}; this spool knows no backend"),
        known => format!(
            "found --backend {wanted:?}; write one of {}",
            known.join(", ")
        ),
    }))
}

impl Log {
    /// A log that the archive can read.
    pub(super) fn of(log: &OldLog) -> Self {
        let track = &log.track;
        let segments = track.segments.load();
        let pieces = segments.iter().map(|segment| Piece {
            path: log.folder().join(&segment.name),
            first: segment.first,
            follows: segment.follows,
            nonce: segment.nonce,
            records_at: segment.records_at,
        });
        Self {
            folder: log.folder().to_owned(),
            run: track.run,
            shard: track.shard,
            cursors: (0..track.names.len()).map(|i| track.cursor(i)).collect(),
            had: (0..track.names.len())
                .map(|i| track.from_order(i))
                .collect(),
            names: track.names.clone(),
            known_end: track.known_end.load(Ordering::Relaxed),
            pieces: pieces.collect(),
        }
    }

    /// A log that it cannot: no segment says whose records these are. `None` where there is no segment.
    fn headless(run: u64, shard: u32, folder: PathBuf) -> Result<Option<Self>, Stop> {
        let mut pieces = Vec::new();
        let Ok(entries) = fs::read_dir(&folder) else {
            return Ok(None); // gone since, or no folder
        };
        for entry in entries {
            let entry = entry.map_err(|why| Stop::disk(&folder, why))?;
            if let Some(first) = old_log::parse_segment(&entry.file_name().to_string_lossy()) {
                let path = entry.path();
                if fs::File::open(&path).is_ok_and(|file| old_log::is_blank(&file)) {
                    continue; // nothing was ever written to it
                }
                pieces.push(Piece {
                    path,
                    first,
                    follows: first,
                    nonce: None,
                    records_at: 0,
                });
            }
        }
        pieces.sort_by_key(|piece| piece.first);
        let log = Self {
            folder,
            run,
            shard,
            names: Vec::new(),
            cursors: Vec::new(),
            had: Vec::new(),
            known_end: 0,
            pieces,
        };
        Ok(Some(log).filter(|log| !log.pieces.is_empty()))
    }

    /// Its folder's name.
    pub(super) fn label(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// What a target of its records is called.
    pub(super) fn name(&self, target: usize) -> String {
        match self.names.get(target) {
            Some(name) => name.clone(),
            None => format!("#{target}"),
        }
    }

    /// The targets that a record is for and that lack it.
    pub(super) fn lacking<'r>(&'r self, record: &Record<'r>) -> impl Iterator<Item = usize> + 'r {
        let (void, sequence, order) = (record.void, record.sequence, record.order);
        let targets = record.parts.targets.chunks_exact(2);
        let targets = targets.map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])));
        targets.filter(move |&target| {
            !void
                && self
                    .cursors
                    .get(target)
                    .is_none_or(|&next| next <= sequence)
                && self.had.get(target).is_none_or(|&had| had <= order)
        })
    }

    /// Whether `wanted`, or where it is `None` anybody, lacks a record.
    pub(super) fn is_owed(&self, record: &Record<'_>, wanted: Option<&str>) -> bool {
        let mut lacking = self.lacking(record);
        match wanted {
            Some(wanted) => {
                lacking.any(|target| self.names.get(target).is_some_and(|name| name == wanted))
            }
            None => lacking.next().is_some(),
        }
    }

    /// The sequence of the first record that `wanted`, or anybody, may lack.
    pub(super) fn owed_from(&self, wanted: Option<&str>) -> u64 {
        let own = self.names.iter().zip(&self.cursors);
        let own = own.filter(|(name, _)| wanted.is_none_or(|wanted| *name == wanted));
        match self.names.is_empty() {
            true => 0,
            false => own.map(|(_, &next)| next).min().unwrap_or(u64::MAX),
        }
    }
}
