//! What others may see of one shard's log: its segments, how far it goes, where each backend stands.
//!
//! The shard that owns the log writes `segments`, `end` and `undecided`; the task that replays to a
//! backend writes that backend's cursor. Readers hold a segment's file, so it may be removed under
//! them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use crate::spool::cursors::Progress;
use crate::spool::disk::DiskFile;
use crate::spool::record::Nonce;

/// A cursor of a backend that is level: its owner's ledger knows where it stands.
pub const LEVEL: u64 = u64::MAX;
/// No write is undecided.
pub const NONE: u64 = u64::MAX;

/// One file of a log.
#[derive(Debug)]
pub struct Segment<F> {
    /// Its name on disk.
    pub name: String,
    /// Sequence of its first record.
    pub first: u64,
    /// The order of its first record; 0 where that is unknown.
    pub opened: u64,
    /// The sequence behind the last record that was written to the segment before it.
    pub follows: u64,
    /// The secret of its records; `None` where its head is damaged, so that they cannot be read.
    pub nonce: Option<Nonce>,
    /// Where its records begin.
    pub records_at: u64,
    /// Where they end; [`NONE`] while it is written to.
    pub ends_at: AtomicU64,
    /// The file. Once nobody needs the segment, it may become another one.
    pub file: Arc<F>,
}

impl<F> Segment<F> {
    /// Whether it is written to no more.
    pub fn is_closed(&self) -> bool {
        self.ends_at.load(Ordering::Acquire) != NONE
    }
}

/// Where one backend stands in one log, and what it is owed there.
#[derive(Debug)]
pub struct Cursor {
    /// The sequence of the first record that it may lack; [`LEVEL`].
    pub next: AtomicU64,
    /// It has everything of the whole run that is older than this order: see [`Track::had`].
    pub had: AtomicU64,
    /// A start after a kill resumes at this order: what is older the backend has accepted. Not saved: see
    /// `resume`.
    resume_at: AtomicU64,
    /// Records it was owed when the log was adopted.
    pub records: AtomicU64,
    /// The same in bytes of bodies.
    pub bytes: AtomicU64,
}

/// One log as others see it.
#[derive(Debug)]
pub struct Track<F> {
    /// Which start of the relay wrote it. Orders are comparable within a run; runs follow one another.
    pub run: u64,
    /// Which shard wrote it.
    pub shard: u32,
    /// Labels of backends; targets of records are indices into it.
    pub names: Vec<String>,
    /// Its files, oldest first.
    pub segments: ArcSwap<Vec<Arc<Segment<F>>>>,
    /// The sequence behind the last record that can be read.
    pub end: AtomicU64,
    /// The order of the oldest record whose fate is open; [`NONE`].
    undecided: AtomicU64,
    /// Its sequence; [`NONE`].
    undecided_sequence: AtomicU64,
    /// The sequence from which a backend that is level may lack something after a kill.
    level_from: AtomicU64,
    /// One per name.
    pub cursors: Vec<Cursor>,
    /// The sequence behind the last record that is known to be on disk; 0 where that is not known.
    pub known_end: AtomicU64,
    /// The file that holds the progress of replay, once there is one.
    progress: OnceLock<Arc<F>>,
}

impl<F> Track<F> {
    /// A log without segments, with all backends level.
    pub fn new(run: u64, shard: u32, names: Vec<String>) -> Self {
        let level = |_: &String| Cursor {
            next: AtomicU64::new(LEVEL),
            had: AtomicU64::new(0),
            resume_at: AtomicU64::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        Self {
            run,
            shard,
            cursors: names.iter().map(level).collect(),
            names,
            segments: ArcSwap::default(),
            end: AtomicU64::new(0),
            level_from: AtomicU64::new(0),
            undecided: AtomicU64::new(NONE),
            undecided_sequence: AtomicU64::new(NONE),
            known_end: AtomicU64::new(0),
            progress: OnceLock::new(),
        }
    }

    /// Has the progress of replay kept in the file of the cursors from now on.
    pub fn keep_progress_in(&self, file: &Arc<F>) {
        let _is_kept_there_already = self.progress.set(Arc::clone(file));
    }

    /// How far it can be read: the sequence behind the last record. Read this before
    /// [`Track::undecided`], which tells of the records before an end that was read earlier.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The order of the oldest record below the sequence `limit` whose fate is open; [`NONE`].
    pub fn undecided(&self, limit: u64) -> u64 {
        // Both only grow, so an old sequence below the limit is met by an order at most as old.
        if self.undecided_sequence.load(Ordering::Acquire) >= limit {
            return NONE;
        }
        self.undecided.load(Ordering::Acquire)
    }

    /// Says which record is the oldest whose fate is open. Before the end is moved past it.
    pub fn publish_undecided(&self, oldest: Option<(u64, u64)>) {
        let (sequence, order) = oldest.unwrap_or((NONE, NONE));
        self.undecided.store(order, Ordering::Release);
        self.undecided_sequence.store(sequence, Ordering::Release);
    }

    /// The index of a backend's label among the names.
    pub fn place_of(&self, label: &str) -> Option<usize> {
        self.names.iter().position(|name| name == label)
    }

    /// Where a backend stands: a sequence, or [`LEVEL`].
    pub fn cursor(&self, name: usize) -> u64 {
        self.cursors[name].next.load(Ordering::Acquire)
    }

    /// Moves a backend's cursor.
    pub fn set_cursor(&self, name: usize, next: u64) {
        self.cursors[name].next.store(next, Ordering::Release);
    }

    /// The order below which a backend has everything, of all logs of the run; 0 where that is unknown.
    ///
    /// What a start delivers again of a run must be all that is newer than something, never a part of it:
    /// a log that knows where it stands beside one that has forgotten would put an old value above a
    /// newer one. So this is saved beside the cursors, is never behind what a log lets go of, and the
    /// highest that any log of a run has saved counts for all of them.
    pub fn had(&self, name: usize) -> u64 {
        self.cursors[name].had.load(Ordering::Acquire)
    }

    /// The backend has everything of the run that is older than `order`. Before a cursor is moved past it.
    pub fn has_had(&self, name: usize, order: u64) {
        self.cursors[name].had.fetch_max(order, Ordering::AcqRel);
    }

    /// The order from which a backend is to be sent records of this log: older ones it has.
    pub fn from_order(&self, name: usize) -> u64 {
        let resume_at = self.cursors[name].resume_at.load(Ordering::Acquire);
        self.had(name).max(resume_at)
    }

    /// The backend has accepted everything of the run that is older than `order`.
    pub fn resume_at(&self, name: usize, order: u64) {
        self.cursors[name]
            .resume_at
            .fetch_max(order, Ordering::AcqRel);
    }

    /// Says from where a backend that is level may lack something after a kill.
    pub fn publish_level(&self, from: u64) {
        self.level_from.store(from, Ordering::Release);
    }

    /// Where a backend would begin after a kill.
    pub fn restart_at(&self, name: usize) -> u64 {
        // In this order: what is level later has everything that was settled earlier.
        let level_from = self.level_from.load(Ordering::Acquire);
        match self.cursor(name) {
            LEVEL => level_from,
            next => next,
        }
    }

    /// The backend has everything: where it stands is the business of the log's shard again.
    pub fn level(&self, name: usize) {
        self.set_cursor(name, LEVEL);
    }
}

impl<F: DiskFile> Track<F> {
    /// Moves a backend's cursor to `next`, and says so on file: a kill does not forget it. Once per request of a
    /// replay.
    pub fn advance(&self, name: usize, next: u64) {
        if self.cursors[name].next.swap(next, Ordering::AcqRel) == next {
            return;
        }
        if let Some(file) = self.progress.get() {
            let had = self.had(name);
            let progress = Progress { next, had };
            // A disk that does not take it costs a replay of what the backend has.
            let _is_sent_again = progress.save(&**file, name, self.names.len());
        }
    }
}

impl<F> Track<F> {
    /// The segment that holds `sequence`, or else the first one behind it.
    pub fn segment_of(&self, sequence: u64) -> Option<Arc<Segment<F>>> {
        let segments = self.segments.load();
        let behind = segments.partition_point(|segment| segment.first <= sequence);
        segments.get(behind.saturating_sub(1)).cloned()
    }

    /// The segment behind the one that begins with `first`.
    pub fn segment_behind(&self, first: u64) -> Option<Arc<Segment<F>>> {
        let segments = self.segments.load();
        let behind = segments.partition_point(|segment| segment.first <= first);
        segments.get(behind).cloned()
    }
}
