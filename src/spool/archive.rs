//! The logs of earlier starts: found, read, and removed once nobody needs them.
//!
//! ```text
//!  DIR/lock                          one relay at a time
//!  DIR/log-RUN-SHARD/SEQUENCE.seg    segments
//!  DIR/log-RUN-SHARD/cursors         where each backend stands
//!  DIR/dead/BACKEND.jsonl            dead letters
//! ```
//!
//! A start never writes to an old log: each shard begins a new one, and the old ones are replayed
//! first, run by run. So the count of shards, the outputs and their order may change from start to
//! start; a backend is known by its name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::limits;
use crate::spool::cursors::Mark;
use crate::spool::disk::PlaceFile;
use crate::spool::old_log::{DONE, END_OF_OLD, OldLog, close, read_log};
use crate::spool::resume::resume;
use crate::spool::track::Track;
use crate::spool::unusable::{Unusable, disk};

/// All logs of earlier starts.
pub struct Archive {
    /// Oldest run first.
    pub logs: Vec<OldLog>,
    /// The run that begins now.
    pub run: u64,
    /// What was found damaged, for the operator.
    pub damage: Vec<String>,
    _lock: Option<fs::File>,
}

/// Takes the spool for this process.
///
/// # Errors
/// [`Unusable`].
pub fn lock(dir: &Path) -> Result<fs::File, Unusable> {
    let disk = |why| disk(dir, why);
    crate::spool::disk::Place::folder(dir).map_err(disk)?;
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))
        .map_err(disk)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(Unusable::Locked(dir.display().to_string())),
    }
}

/// Whether another process uses the spool in `dir`. Our lock is shared, and let go at once: it is in the
/// way of a start for microseconds.
pub fn is_locked(dir: &Path) -> bool {
    let file = fs::File::open(dir.join("lock"));
    file.is_ok_and(|file| {
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}

/// Returns whether a relay has had its spool in `dir`: its lock, logs or dead letters are there, or cannot be
/// looked for.
pub fn is_spool(dir: &Path) -> bool {
    let is_ours = |name: &str| name == "lock" || name == "dead" || parse_folder(name).is_some();
    match fs::read_dir(dir) {
        Ok(mut entries) => entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(is_ours))),
        Err(_) => true, // whoever reads it says why
    }
}

/// The folder of one log.
pub fn log_folder(dir: &Path, run: u64, shard: usize) -> PathBuf {
    dir.join(format!("log-{run:08x}-{shard:03}"))
}

impl Archive {
    /// No old logs: a spool in memory.
    pub fn none() -> Self {
        Self {
            logs: Vec::new(),
            run: 1,
            damage: Vec::new(),
            _lock: None,
        }
    }

    /// The logs of a spool in memory, as shards that are gone have left them: `old` ones, and those that were
    /// written to.
    pub fn in_memory(old: &[Arc<Track<PlaceFile>>], written: &[Arc<Track<PlaceFile>>]) -> Self {
        let mut archive = Self::none();
        let tracks: Vec<_> = old.iter().chain(written).collect();
        for track in &tracks {
            if track.end() != END_OF_OLD {
                close(track);
            }
        }
        resume(&tracks);
        for track in tracks {
            let needs = |place: usize| track.cursor(place) != DONE;
            if (0..track.names.len()).any(needs) {
                archive.logs.push(OldLog {
                    track: Arc::clone(track),
                    folder: None,
                    cursors: None,
                    newest: None,
                    marks: vec![Mark::default(); track.names.len()],
                });
            }
        }
        archive
    }

    /// Takes the spool in `dir` for this process and finds its logs. Reads heads and cursors only.
    ///
    /// # Errors
    /// [`Unusable`]; damage is none.
    pub fn open(dir: &Path) -> Result<Self, Unusable> {
        let lock = lock(dir)?;
        let mut archive = Self::find(dir, true)?;
        archive._lock = Some(lock);
        Ok(archive)
    }

    /// Reads the logs in `dir` once more, saves where backends stand by what their records say, and removes the
    /// logs that no backend needs. The caller holds the lock, and nobody writes to the logs any more.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn settle(dir: &Path) -> Result<(), Unusable> {
        Self::find(dir, true)?.tick();
        Ok(())
    }

    /// Finds the logs in `dir`, without a lock: what is there is not touched, since a relay may run.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn look(dir: &Path) -> Result<Self, Unusable> {
        Self::find(dir, false)
    }

    fn find(dir: &Path, is_ours: bool) -> Result<Self, Unusable> {
        let mut archive = Self::none();
        for (run, shard, folder) in folders(dir)? {
            archive.run = archive.run.max(run.saturating_add(1));
            if let Some(log) = read_log(run, shard, folder, is_ours, &mut archive.damage)? {
                archive.logs.push(log);
            }
        }
        let tracks: Vec<_> = archive.logs.iter().map(|log| &log.track).collect();
        agree(&tracks);
        resume(&tracks);
        Ok(archive)
    }

    /// What the backend called `name` is owed in old logs, as far as they were kept account of.
    pub fn owed(&self, name: &str) -> (u64, u64) {
        self.logs.iter().fold((0, 0), |(records, bytes), log| {
            match log.track.names.iter().position(|own| own == name) {
                Some(place) => {
                    if log.track.cursor(place) == DONE {
                        return (records, bytes);
                    }
                    let cursor = &log.track.cursors[place];
                    (
                        records + cursor.records.load(Ordering::Relaxed),
                        bytes + cursor.bytes.load(Ordering::Relaxed),
                    )
                }
                None => (records, bytes),
            }
        })
    }

    /// Gives up what backends that `is_known` does not know were owed longer ago than `age_max`.
    pub fn forget(&mut self, is_known: impl Fn(&str) -> bool, age_max: Duration) {
        for log in &self.logs {
            let written = log
                .newest_file()
                .and_then(|path| fs::metadata(path).ok()?.modified().ok());
            let age = written.and_then(|written| written.elapsed().ok());
            if age.is_none_or(|age| age < age_max) {
                continue;
            }
            for (place, name) in log.track.names.iter().enumerate() {
                if !is_known(name) {
                    log.track.set_cursor(place, DONE);
                }
            }
        }
    }

    /// Saves the cursors, and removes what nobody needs. Waits for the disk. Once per tick, off the
    /// shards.
    pub fn tick(&mut self) {
        self.logs.iter_mut().for_each(OldLog::save);
        self.logs.retain_mut(|log| !log.let_go());
    }
}

/// Makes one of what the logs say, each for itself, of where backends stand: the highest `had` of a run counts
/// for all its logs, and what has begun with a run is done with all runs before it.
pub fn agree<F>(tracks: &[&Arc<Track<F>>]) {
    let mut highest: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let mut newest_begun: BTreeMap<&str, u64> = BTreeMap::new();
    for track in tracks {
        for (place, name) in track.names.iter().enumerate() {
            let had = track.had(place);
            let most = highest.entry((name, track.run)).or_default();
            *most = had.max(*most);
            if had > 0 {
                let run = newest_begun.entry(name).or_default();
                *run = track.run.max(*run);
            }
        }
    }
    for track in tracks {
        for (place, name) in track.names.iter().enumerate() {
            track.has_had(place, highest[&(name.as_str(), track.run)]);
            if newest_begun.get(name.as_str()) > Some(&track.run) {
                track.set_cursor(place, DONE);
            }
        }
    }
}

/// The run, the shard and the folder of each log in `dir`, oldest run first.
///
/// # Errors
/// [`Unusable`].
pub fn folders(dir: &Path) -> Result<Vec<(u64, u32, PathBuf)>, Unusable> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir).map_err(|why| disk(dir, why))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((run, shard)) = parse_folder(&name) else {
            continue;
        };
        folders.push((run, shard, entry.path()));
        if folders.len() > limits::LOGS_MAX {
            return Err(Unusable::TooMany(dir.display().to_string()));
        }
    }
    folders.sort();
    Ok(folders)
}

fn parse_folder(name: &str) -> Option<(u64, u32)> {
    let (run, shard) = name.strip_prefix("log-")?.split_once('-')?;
    Some((u64::from_str_radix(run, 16).ok()?, shard.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::agree;
    use crate::spool::old_log::DONE;
    use crate::spool::track::Track;

    fn log(run: u64, shard: u32, names: &[&str], had: u64) -> Arc<Track<()>> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let track = Track::new(run, shard, names);
        track.set_cursor(0, 3);
        track.has_had(0, had);
        Arc::new(track)
    }

    #[test]
    fn what_one_log_of_a_run_knows_counts_for_all_and_ends_the_runs_before() {
        let (one, two) = (log(1, 0, &["a", "b"], 5), log(1, 1, &["a", "b"], 9));
        let (next, other) = (log(2, 0, &["a"], 0), log(2, 1, &["b"], 7));
        agree(&[&one, &two, &next]);
        assert_eq!([one.had(0), two.had(0), next.had(0)], [9, 9, 0]);
        assert_eq!([one.had(1), two.had(1)], [0, 0], "another backend's");
        assert_eq!([one.cursor(0), next.cursor(0)], [3, 3]);
        one.set_cursor(1, 4);
        agree(&[&one, &two, &next, &other]);
        assert_eq!([one.cursor(0), one.cursor(1)], [3, DONE]);
        assert_eq!(other.had(0), 7);
    }
}
