//! One log of an earlier start: found, read, and removed once nobody needs it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits;
use crate::spool::cursors::{self, Cursors, Mark, Newest};
use crate::spool::disk::{DiskFile, PlaceFile};
use crate::spool::letting_go::old_mark_of;
use crate::spool::segment::{Head, HeadFound};
use crate::spool::track::{LEVEL, NONE, Segment, Track};
use crate::spool::unusable::{Unusable, disk};

/// The cursor of a backend that needs nothing more of an old log.
pub const DONE: u64 = LEVEL;

/// The end of an old log: its segments say where it is.
pub(super) const END_OF_OLD: u64 = NONE - 1;

/// One log of an earlier start.
pub struct OldLog {
    /// What is in it.
    pub track: Arc<Track<PlaceFile>>,
    /// Where it lies; `None` in memory.
    pub(super) folder: Option<PathBuf>,
    /// Where they are saved; `None` where the spool is only looked at.
    pub(super) cursors: Option<Cursors<PlaceFile>>,
    /// The newest ones on disk, as they were found.
    pub(super) newest: Option<Newest>,
    pub(super) marks: Vec<Mark>,
}

/// A segment as it was found.
struct Piece {
    first: u64,
    name: String,
    file: fs::File,
    head: Option<(Head, usize)>,
}

/// One log; `None` where its folder holds nothing that can be read.
pub(super) fn read_log(
    run: u64,
    shard: u32,
    folder: PathBuf,
    is_ours: bool,
    damage: &mut Vec<String>,
) -> Result<Option<OldLog>, Unusable> {
    let mut pieces = read_pieces(&folder, is_ours, damage)?;
    let names = pieces.iter().find_map(|piece| {
        let names = &piece.head.as_ref()?.0.names;
        (!names.is_empty()).then(|| names.clone())
    });
    let saved = fs::read(folder.join(cursors::FILE)).unwrap_or_default();
    let known_end = names.as_ref().map_or(0, |names| {
        cursors::newest(&saved, names.len()).map_or(0, |newest| newest.end)
    });
    // A power cut came before the first byte of the last one.
    if let Some(last) = pieces.pop_if(|last| is_unused(last, known_end))
        && is_ours
    {
        let _costs_only_space = fs::remove_file(folder.join(&last.name));
    }
    for piece in pieces.iter().filter(|piece| piece.head.is_none()) {
        damage.push(format!(
            "{}: its head is damaged in both copies, or was never written: its records are lost",
            folder.join(&piece.name).display()
        ));
    }
    let Some(names) = names else {
        if !pieces.is_empty() {
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
    let mut log = open_log(run, shard, folder, names, &saved, pieces);
    if is_ours {
        log.open_cursors();
    }
    Ok(Some(log))
}

/// The segments of a log, oldest first.
fn read_pieces(
    folder: &Path,
    is_ours: bool,
    damage: &mut Vec<String>,
) -> Result<Vec<Piece>, Unusable> {
    let mut pieces = Vec::new();
    // Beside a running relay, what was there a moment ago may be gone.
    let is_gone = |why: &io::Error| !is_ours && why.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(folder) {
        Err(why) if is_gone(&why) => return Ok(pieces),
        entries => entries.map_err(|why| disk(folder, why))?,
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
        let found = read_head(&file, &path)?;
        if let Some(found) = found.as_ref().filter(|found| found.damaged > 0) {
            damage.push(format!(
                "{}: {} of 4 copies of its head are damaged: the others are read",
                path.display(),
                found.damaged
            ));
        }
        // A file that is written anew may hold the head of the segment that it was.
        let found = found.filter(|found| found.head.first == first);
        pieces.push(Piece {
            first,
            name,
            file,
            head: found.map(|found| (found.head, found.records_at)),
        });
    }
    pieces.sort_by_key(|piece| piece.first);
    Ok(pieces)
}

/// Whether nothing was ever written to a segment that was made last, as far as is known.
fn is_unused(last: &mut Piece, known_end: u64) -> bool {
    last.head.is_none() && known_end <= last.first && is_blank(&last.file)
}

fn open_log(
    run: u64,
    shard: u32,
    folder: PathBuf,
    names: Vec<String>,
    saved: &[u8],
    pieces: Vec<Piece>,
) -> OldLog {
    let newest = cursors::newest(saved, names.len());
    let marks = cursors::standing(saved, names.len());
    let track = Track::new(run, shard, names);
    for (cursor, mark) in track.cursors.iter().zip(&marks) {
        cursor.next.store(mark.next, Ordering::Relaxed);
        cursor.had.store(mark.had, Ordering::Relaxed);
        cursor.records.store(mark.records, Ordering::Relaxed);
        cursor.bytes.store(mark.bytes, Ordering::Relaxed);
    }
    let segments = pieces.into_iter().map(|piece| {
        let ends_at = piece.file.metadata().map_or(0, |metadata| metadata.len());
        let head = piece.head.as_ref().map(|(head, _)| head);
        Arc::new(Segment {
            first: piece.first,
            opened: 0,
            follows: head.map_or(piece.first, |head| head.follows),
            nonce: head.map(|head| head.nonce),
            records_at: piece.head.as_ref().map_or(0, |(_, at)| *at as u64),
            ends_at: AtomicU64::new(ends_at),
            name: piece.name,
            file: Arc::new(piece.file.into()),
        })
    });
    track.segments.store(Arc::new(segments.collect()));
    track.end.store(END_OF_OLD, Ordering::Relaxed);
    let known_end = newest.as_ref().map_or(0, |newest| newest.end);
    track.known_end.store(known_end, Ordering::Relaxed);
    OldLog {
        track: Arc::new(track),
        folder: Some(folder),
        cursors: None,
        newest,
        marks,
    }
}

/// Makes an old log of one that is written to no more: where each backend stands is where it would begin
/// after a kill.
pub(super) fn close(track: &Track<PlaceFile>) {
    for place in 0..track.names.len() {
        let next = track.restart_at(place);
        let is_done = track.cursor(place) == LEVEL && next == track.end();
        track.set_cursor(place, if is_done { DONE } else { next });
    }
    for segment in track.segments.load().iter() {
        if !segment.is_closed() {
            let bytes = segment.file.bytes().unwrap_or(0);
            segment.ends_at.store(bytes, Ordering::Release);
        }
    }
    track.end.store(END_OF_OLD, Ordering::Relaxed);
}

/// Waits for the disk, if anything is to be made safe; whether all is.
fn make_safe(cursors: &mut Cursors<PlaceFile>) -> bool {
    if !cursors.is_safe() && cursors.syncing().sync().is_ok() {
        cursors.synced();
    }
    cursors.is_safe()
}

/// Saves where backends stand in a log that is written to no more, in its folder; its records end before the sequence
/// `end`.
///
/// # Errors
/// What the disk says; then older ones are still there.
pub fn save_last(folder: &Path, marks: &[Mark], end: u64) -> io::Result<()> {
    let path = folder.join(cursors::FILE);
    let found = fs::read(&path).unwrap_or_default();
    let found = cursors::newest(&found, marks.len());
    let file = Arc::new(open_cursors(folder)?.into());
    let mut cursors = Cursors::<PlaceFile>::new(file, found.as_ref());
    cursors.save(marks, end)?;
    match make_safe(&mut cursors) {
        true => Ok(()),
        false => Err(io::Error::other("not synced")),
    }
}

fn open_cursors(folder: &Path) -> io::Result<fs::File> {
    fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(cursors::FILE))
}

/// The sequence of the first record of a segment, from the name of its file.
pub fn parse_segment(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()
}

/// Whether nothing was ever written to a segment.
pub fn is_blank(file: &fs::File) -> bool {
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

/// The head of a segment.
#[derive(Debug)]
pub struct FoundHead {
    /// What it says.
    pub head: Head,
    /// Where the records begin.
    pub records_at: usize,
    /// How many of its four copies are damaged.
    pub damaged: usize,
}

/// Reads the head of a segment; `None` where no copy is whole.
///
/// # Errors
/// [`Unusable`].
pub fn read_head(file: &fs::File, path: &Path) -> Result<Option<FoundHead>, Unusable> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; 4096];
    loop {
        let count = file.read_at(&mut bytes, 0).map_err(|why| disk(path, why))?;
        let is_all = count < bytes.len();
        match Head::decode(&bytes[..count]) {
            HeadFound::Head {
                head,
                records_at,
                damaged,
            } => {
                return Ok(Some(FoundHead {
                    head,
                    records_at,
                    damaged,
                }));
            }
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
        let Some(folder) = &self.folder else { return };
        if let Ok(file) = open_cursors(folder) {
            let file = Arc::new(file.into());
            self.track.keep_progress_in(&file);
            self.cursors = Some(Cursors::new(file, self.newest.as_ref()));
        }
    }

    /// Where it lies; nowhere in memory.
    pub fn folder(&self) -> &Path {
        self.folder.as_deref().unwrap_or_else(|| Path::new(""))
    }

    /// Whether the backend called `name` may lack something of it.
    pub fn needs(&self, name: &str) -> bool {
        let place = self.track.names.iter().position(|own| own == name);
        place.is_some_and(|place| self.track.cursor(place) != DONE)
    }

    pub(super) fn newest_file(&self) -> Option<PathBuf> {
        let segments = self.track.segments.load();
        Some(self.folder.as_ref()?.join(&segments.last()?.name))
    }

    /// Saves where backends stand, safe from a power cut. Where the disk does not take it, older marks stay:
    /// what is let go of makes room all the same.
    pub(super) fn save(&mut self) {
        for (place, mark) in self.marks.iter_mut().enumerate() {
            let now = old_mark_of(&self.track, place);
            if (now.next, now.had) != (mark.next, mark.had) {
                *mark = now; // how much is left is known to who replays it
            }
        }
        let end = self.track.known_end.load(Ordering::Relaxed);
        if let Some(cursors) = &mut self.cursors {
            let _older_ones_stay = cursors.save(&self.marks, end).is_ok() && make_safe(cursors);
        }
    }

    /// Removes what all have passed; whether nothing of the log is left. After [`OldLog::save`] of all logs:
    /// what one of them forgets, the others know that everybody has.
    pub(super) fn let_go(&mut self) -> bool {
        let needed = self.marks.iter().map(|mark| mark.next).min();
        if needed.is_none_or(|needed| needed == DONE) {
            let folder = self.folder.as_ref();
            return folder.is_none_or(|folder| fs::remove_dir_all(folder).is_ok());
        }
        let segments = self.track.segments.load_full();
        let passed = |pair: &&[Arc<Segment<PlaceFile>>]| Some(pair[1].first) <= needed;
        let gone = segments.windows(2).take_while(passed).count();
        if gone > 0 {
            self.track
                .segments
                .store(Arc::new(segments[gone..].to_vec()));
            for segment in self.folder.iter().flat_map(|_| &segments[..gone]) {
                let _next_time = fs::remove_file(self.folder().join(&segment.name));
            }
        }
        false
    }
}
