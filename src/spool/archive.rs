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

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::limits;
use crate::spool::cursors::{self, Cursors, Mark};
use crate::spool::segment::{Head, HeadFound, VERSION};
use crate::spool::track::{LEVEL, NONE, Segment, Track};

/// The cursor of a backend that needs nothing more of an old log.
pub const DONE: u64 = LEVEL;

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

/// One log of an earlier start.
pub struct OldLog {
    /// What is in it.
    pub track: Arc<Track<fs::File>>,
    folder: PathBuf,
    /// Where they are saved; `None` where the spool is only looked at.
    cursors: Option<Cursors<fs::File>>,
    /// The number of the newest ones on disk.
    counter: u64,
    marks: Vec<Mark>,
}

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

fn disk(path: &Path, why: io::Error) -> Unusable {
    Unusable::Disk {
        path: path.display().to_string(),
        why,
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
        Ok(archive)
    }

    /// What the backend called `name` is owed in old logs, as far as they were kept account of.
    pub fn owed(&self, name: &str) -> (u64, u64) {
        self.logs.iter().fold((0, 0), |(records, bytes), log| {
            match log.track.names.iter().position(|own| own == name) {
                Some(place) => {
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
        self.logs.retain_mut(|log| !log.tick());
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

/// The sequence of the first record of a segment, from the name of its file.
pub fn parse_segment(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()
}

fn parse_folder(name: &str) -> Option<(u64, u32)> {
    let (run, shard) = name.strip_prefix("log-")?.split_once('-')?;
    Some((u64::from_str_radix(run, 16).ok()?, shard.parse().ok()?))
}

/// One log; `None` where its folder holds nothing that can be read.
fn read_log(
    run: u64,
    shard: u32,
    folder: PathBuf,
    is_ours: bool,
    damage: &mut Vec<String>,
) -> Result<Option<OldLog>, Unusable> {
    let mut found = Vec::new();
    let mut names = None;
    // Beside a running relay, what was there a moment ago may be gone.
    let is_gone = |why: &io::Error| !is_ours && why.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(&folder) {
        Err(why) if is_gone(&why) => return Ok(None),
        entries => entries.map_err(|why| disk(&folder, why))?,
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(first) = parse_segment(&name) else {
            continue;
        };
        let path = entry.path();
        let file = match fs::File::options().read(true).write(is_ours).open(&path) {
            Err(why) if is_gone(&why) => continue,
            file => file.map_err(|why| disk(&path, why))?,
        };
        match read_head(&file, &path)? {
            Some((head, at)) => {
                names.get_or_insert((head.names, at));
            }
            // A power cut came before the first byte.
            None if is_blank(&file) => {
                if is_ours {
                    let _costs_only_space = fs::remove_file(&path);
                }
                continue;
            }
            None => damage.push(format!(
                "{}: its head is damaged; its records are read all the same",
                path.display()
            )),
        }
        found.push((first, name, file));
    }
    found.sort_by_key(|segment| segment.0);
    let Some((names, records_at)) = names else {
        if !found.is_empty() {
            damage.push(format!(
                "{}: no segment has a whole head: nothing of it can be replayed; look into it with `influxdb-relay \
                 spool show`, then remove it",
                folder.display()
            ));
        } else if is_ours {
            let _next_time = fs::remove_dir_all(&folder);
        }
        return Ok(None);
    };
    let mut log = open_log(run, shard, folder, names, records_at, found);
    if is_ours {
        log.open_cursors();
    }
    Ok(Some(log))
}

fn open_log(
    run: u64,
    shard: u32,
    folder: PathBuf,
    names: Vec<String>,
    records_at: usize,
    found: Vec<(u64, String, fs::File)>,
) -> OldLog {
    let marks = fs::read(folder.join(cursors::FILE)).unwrap_or_default();
    let (counter, marks) = cursors::newest(&marks, names.len())
        .unwrap_or_else(|| (0, vec![Mark::default(); names.len()]));
    let track = Track::new(run, shard, names);
    for (cursor, mark) in track.cursors.iter().zip(&marks) {
        cursor.next.store(mark.next, Ordering::Relaxed);
        cursor.records.store(mark.records, Ordering::Relaxed);
        cursor.bytes.store(mark.bytes, Ordering::Relaxed);
    }
    let segments = found.into_iter().map(|(first, name, file)| {
        let ends_at = file.metadata().map_or(0, |metadata| metadata.len());
        Arc::new(Segment {
            name,
            first,
            records_at: records_at as u64,
            ends_at: AtomicU64::new(ends_at),
            file: Arc::new(file),
        })
    });
    track.segments.store(Arc::new(segments.collect()));
    track.end.store(NONE - 1, Ordering::Relaxed);
    OldLog {
        track: Arc::new(track),
        folder,
        cursors: None,
        counter,
        marks,
    }
}

/// Whether nothing was ever written to a segment.
fn is_blank(file: &fs::File) -> bool {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; limits::SPOOL_READ_BYTES];
    let mut at = 0;
    loop {
        match file.read_at(&mut bytes, at) {
            Ok(0) => return true,
            Ok(count) if bytes[..count].iter().all(|&byte| byte == 0) => at += count as u64,
            _ => return false,
        }
    }
}

/// What the head of a segment says, and where its records begin; `None` where it is damaged.
///
/// # Errors
/// [`Unusable`].
pub fn read_head(file: &fs::File, path: &Path) -> Result<Option<(Head, usize)>, Unusable> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; 4096];
    loop {
        let count = file.read_at(&mut bytes, 0).map_err(|why| disk(path, why))?;
        let is_all = count < bytes.len();
        match Head::decode(&bytes[..count]) {
            HeadFound::Head(head, at) => return Ok(Some((head, at))),
            HeadFound::Foreign(found) => {
                return Err(Unusable::Foreign {
                    path: path.display().to_string(),
                    found,
                });
            }
            HeadFound::Partial(wants) if !is_all => bytes.resize(wants, 0),
            HeadFound::Partial(_) | HeadFound::Damaged => return Ok(None),
        }
    }
}

impl OldLog {
    fn open_cursors(&mut self) {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.folder.join(cursors::FILE));
        self.cursors = file.ok().map(|file| Cursors::new(file, self.counter));
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the backend called `name` may lack something of it.
    pub fn needs(&self, name: &str) -> bool {
        let place = self.track.names.iter().position(|own| own == name);
        place.is_some_and(|place| self.track.cursor(place) != DONE)
    }

    fn newest_file(&self) -> Option<PathBuf> {
        let segments = self.track.segments.load();
        Some(self.folder.join(&segments.last()?.name))
    }

    /// Saves the cursors, removes what all have passed; whether nothing of the log is left.
    fn tick(&mut self) -> bool {
        for (place, mark) in self.marks.iter_mut().enumerate() {
            *mark = Mark {
                next: self.track.cursor(place),
                records: 0,
                bytes: 0,
            };
        }
        let needed = self.marks.iter().map(|mark| mark.next).min();
        if needed.is_none_or(|needed| needed == DONE) {
            return fs::remove_dir_all(&self.folder).is_ok();
        }
        if let Some(cursors) = &mut self.cursors {
            let _older_ones_stay = cursors.save(&self.marks);
        }
        let segments = self.track.segments.load_full();
        let passed = |pair: &&[Arc<Segment<fs::File>>]| Some(pair[1].first) <= needed;
        let gone = segments.windows(2).take_while(passed).count();
        if gone > 0 {
            self.track
                .segments
                .store(Arc::new(segments[gone..].to_vec()));
            for segment in &segments[..gone] {
                let _next_time = fs::remove_file(self.folder.join(&segment.name));
            }
        }
        false
    }
}
