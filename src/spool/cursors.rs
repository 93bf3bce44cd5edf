//! Where each backend stands in a log, on disk. Pure.
//!
//! ```text
//!   0  8  "ircurs3\n"   8  8  counter    16  4  count of names    20  4  zero
//!  24  8  sequence below which records that somebody needs are on disk
//!  32     per name: next sequence, owed records, owed bytes, order below which it has everything of
//!         the run: 8 bytes each
//!  -4  4  CRC32C of all before it; zeros up to a multiple of 512
//! ```
//!
//! Behind the three places stands the progress of replay, per name:
//!
//! ```text
//!   0  8  next sequence    8  8  its complement    16  8  order below which it has everything    24  8  its complement
//! ```
//!
//! It is written with each request that a backend has taken, so that a kill does not forget it; each number only
//! grows, and is true for ever. The higher of a mark and its progress counts.
//!
//! There are three places, and the whole one with the highest counter counts. Neither the newest that is
//! safe from a power cut nor one that is being synced is written over, so that a torn one leaves these.
//! A cursor that is too old costs a replay of what the backend has; it never costs a write.

use std::io;
use std::sync::Arc;

use crate::spool::disk::DiskFile;
use crate::spool::record::{checksum, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"ircurs3\n";
const FIXED: usize = 32;
const EACH: usize = 32;
/// The name of the file in a log's folder.
pub const FILE: &str = "cursors";

/// Where one backend stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// The sequence of the first record that it may lack.
    pub next: u64,
    /// Records that it is owed.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// The order below which it has everything, of all logs of the run.
    pub had: u64,
}

/// Places in a file.
pub const PLACES: usize = 3;

/// Bytes of one of them.
pub fn place_bytes(names: usize) -> usize {
    (FIXED + names * EACH + 4).next_multiple_of(512)
}

/// Bytes of one name's progress.
const PROGRESS_BYTES: usize = 32;

/// Bytes of a whole file.
pub fn file_bytes(names: usize) -> usize {
    PLACES * place_bytes(names) + names * PROGRESS_BYTES
}

/// How far replay has come for one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The sequence of the first record that it may lack.
    pub next: u64,
    /// The order below which it has everything, of all logs of the run.
    pub had: u64,
}

impl Progress {
    /// Writes it for the backend with index `name` of `names`. Once per request of a replay.
    ///
    /// # Errors
    /// What the disk says.
    pub fn save(self, file: &impl DiskFile, name: usize, names: usize) -> io::Result<()> {
        let mut bytes = [0; PROGRESS_BYTES];
        let numbers = [self.next, !self.next, self.had, !self.had];
        for (piece, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            piece.copy_from_slice(&number.to_le_bytes());
        }
        let at = PLACES * place_bytes(names) + name * PROGRESS_BYTES;
        file.write_at(&bytes, at as u64)
    }

    /// Reads it from a file's bytes; zeros where it was never written, or not as it was written.
    fn read(file: &[u8], name: usize, names: usize) -> Self {
        let at = PLACES * place_bytes(names) + name * PROGRESS_BYTES;
        let Some(bytes) = file.get(at..at + PROGRESS_BYTES) else {
            return Self::default();
        };
        let number = |at| match (u64_at(bytes, at), u64_at(bytes, at + 8)) {
            (number, complement) if number == !complement => number,
            _ => 0,
        };
        Self {
            next: number(0),
            had: number(16),
        }
    }
}

/// Where each of `names` backends stands by a file's bytes: by the newest marks, and by the progress since.
pub fn standing(file: &[u8], names: usize) -> Vec<Mark> {
    let newest = newest(file, names).map(|newest| newest.marks);
    let mut marks = newest.unwrap_or_else(|| vec![Mark::default(); names]);
    for (name, mark) in marks.iter_mut().enumerate() {
        let progress = Progress::read(file, name, names);
        mark.next = mark.next.max(progress.next);
        mark.had = mark.had.max(progress.had);
    }
    marks
}

fn encode(counter: u64, marks: &[Mark], end: u64, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&counter.to_le_bytes());
    let count = u32::try_from(marks.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&end.to_le_bytes());
    for mark in marks {
        for number in [mark.next, mark.records, mark.bytes, mark.had] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    let sum = checksum([out]);
    out.extend_from_slice(&sum.to_le_bytes());
    out.resize(place_bytes(marks.len()), 0);
}

/// One place, if it is whole: the counter, the marks, and the end that is known to be on disk.
pub fn decode(place: &[u8]) -> Option<(u64, Vec<Mark>, u64)> {
    if place.get(..8)? != MAGIC {
        return None;
    }
    let count = usize::try_from(u32_at(place.get(..FIXED)?, 16)).ok()?;
    let end = count.checked_mul(EACH)?.checked_add(FIXED)?;
    let sum = u32_at(place.get(end..end.checked_add(4)?)?, 0);
    if checksum([&place[..end]]) != sum {
        return None;
    }
    let marks = place[FIXED..end].chunks_exact(EACH).map(|mark| Mark {
        next: u64_at(mark, 0),
        records: u64_at(mark, 8),
        bytes: u64_at(mark, 16),
        had: u64_at(mark, 24),
    });
    Some((u64_at(place, 8), marks.collect(), u64_at(place, 24)))
}

/// The newest marks in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// Their number.
    pub counter: u64,
    /// Their place.
    pub place: usize,
    /// The marks, one per name.
    pub marks: Vec<Mark>,
    /// The sequence below which records that somebody needs are on disk.
    pub end: u64,
}

/// The newest marks in a file's bytes, for so many names.
pub fn newest(file: &[u8], names: usize) -> Option<Newest> {
    let places = file.chunks(place_bytes(names)).take(PLACES).enumerate();
    let whole = places.filter_map(|(place, bytes)| {
        let (counter, marks, end) = decode(bytes)?;
        (marks.len() == names).then_some(Newest {
            counter,
            place,
            marks,
            end,
        })
    });
    whole.max_by_key(|newest| newest.counter)
}

/// The file that holds them.
pub struct Cursors<F> {
    file: Arc<F>,
    counter: u64,
    saved: Vec<Mark>,
    bytes: Vec<u8>,
    /// The place of the newest marks, of the newest that are safe from a power cut, and of those that are
    /// being synced.
    place: usize,
    safe: Option<usize>,
    syncing: Option<usize>,
}

impl<F: DiskFile> Cursors<F> {
    /// Marks in `file`, behind the `newest` that are there.
    pub fn new(file: Arc<F>, newest: Option<&Newest>) -> Self {
        Self {
            file,
            counter: newest.map_or(0, |newest| newest.counter),
            saved: Vec::new(),
            bytes: Vec::new(),
            place: 0,
            safe: newest.map(|newest| newest.place),
            syncing: None,
        }
    }

    /// Whether the newest marks are safe from a power cut.
    pub fn is_safe(&self) -> bool {
        self.safe == Some(self.place)
    }

    /// The file, which is to be synced now: see [`Cursors::synced`].
    pub fn syncing(&mut self) -> &Arc<F> {
        self.syncing = Some(self.place);
        &self.file
    }

    /// The sync that was begun last has ended well.
    pub fn synced(&mut self) {
        self.safe = self.syncing.take().or(self.safe);
    }

    /// Saves marks, if they are not those saved last, and the `end` that is known to be on disk. Once per tick. Safe from a kill then, and from a power
    /// cut once the file is synced.
    ///
    /// # Errors
    /// What the disk says.
    pub fn save(&mut self, marks: &[Mark], end: u64) -> io::Result<()> {
        if marks == self.saved {
            return Ok(());
        }
        self.counter += 1;
        encode(self.counter, marks, end, &mut self.bytes);
        let is_free = |place: &usize| ![self.safe, self.syncing].contains(&Some(*place));
        let place = (0..PLACES).find(is_free).unwrap_or(self.place);
        let at = place * self.bytes.len();
        self.file.write_at(&self.bytes, at as u64)?;
        self.place = place; // only now: what was not written is not made safe
        self.saved.clear();
        self.saved.extend_from_slice(marks);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_types)] // a file in a test

    use std::io;
    use std::sync::{Arc, Mutex};

    use super::{Cursors, Mark, decode, encode, newest, place_bytes};
    use crate::spool::disk::DiskFile;

    fn marks(next: u64) -> Vec<Mark> {
        let mark = Mark {
            next,
            records: 1,
            bytes: 2,
            had: 3,
        };
        vec![mark; 3]
    }

    #[test]
    fn the_newest_whole_place_counts() {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        encode(4, &marks(40), 7, &mut old);
        encode(5, &marks(50), 8, &mut new);
        assert_eq!(old.len(), place_bytes(3));
        let found = |file: &[u8]| {
            newest(file, 3).map(|newest| (newest.counter, newest.place, newest.marks))
        };
        let file = [old.clone(), new.clone()].concat();
        assert_eq!(found(&file), Some((5, 1, marks(50))));
        assert_eq!(newest(&file, 2), None, "another count of names");
        for bit in 0..(32 + 3 * 32 + 4) * 8 {
            let mut torn = new.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            let file = [old.clone(), torn].concat();
            assert_eq!(found(&file), Some((4, 0, marks(40))), "bit {bit}");
        }
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[0; 4096]), None);
    }

    /// What it holds; it takes nothing more once it is longer than its bound.
    #[derive(Clone)]
    struct Bytes(Arc<Mutex<Vec<u8>>>, usize);

    impl DiskFile for Bytes {
        fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            let whole = &mut *self.0.lock().unwrap();
            if at + bytes.len() > self.1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            whole.resize(whole.len().max(at + bytes.len()), 0);
            whole[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }

        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn cut(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_safe_and_what_is_being_synced_is_not_written_over() {
        let file = Bytes(Arc::default(), usize::MAX);
        let mut cursors = Cursors::new(Arc::new(file.clone()), None);
        let places = || {
            let whole = file.0.lock().unwrap();
            let decoded = whole.chunks(place_bytes(3)).map(decode);
            decoded
                .map(|place| place.map_or(0, |(_, marks, _)| marks[0].next))
                .collect::<Vec<_>>()
        };
        let mut save = |next| cursors.save(&marks(next), 0).unwrap();
        save(1);
        save(2);
        assert_eq!(places(), [2], "nothing is safe: a kill tears nothing");
        assert!(!cursors.is_safe());
        cursors.syncing();
        cursors.save(&marks(3), 0).unwrap();
        cursors.save(&marks(4), 0).unwrap();
        assert_eq!(places(), [2, 4]);
        cursors.synced();
        assert!(!cursors.is_safe(), "4 is not");
        cursors.syncing();
        cursors.save(&marks(5), 0).unwrap();
        assert_eq!(places(), [2, 4, 5]);
        cursors.synced();
        cursors.save(&marks(6), 0).unwrap();
        assert_eq!(places(), [6, 4, 5]);
        cursors.syncing();
        cursors.synced();
        assert!(cursors.is_safe());
        let found = newest(&file.0.lock().unwrap(), 3).unwrap();
        assert_eq!((found.counter, found.place), (6, 0));
        let mut again = Cursors::new(Arc::new(file.clone()), Some(&found));
        again.save(&marks(7), 0).unwrap();
        assert_eq!(places(), [6, 7, 5], "what was found is not written over");
    }

    #[test]
    fn what_was_not_written_is_not_made_safe() {
        let file = Bytes(Arc::default(), place_bytes(3));
        let mut cursors = Cursors::new(Arc::new(file), None);
        cursors.save(&marks(1), 0).unwrap();
        cursors.syncing();
        cursors.synced();
        assert!(
            cursors.save(&marks(2), 0).is_err(),
            "there is one place only"
        );
        assert!(cursors.is_safe(), "the first are still the newest");
        cursors.syncing();
        cursors.synced();
        assert!(
            cursors.save(&marks(2), 0).is_err(),
            "they are not written over"
        );
    }
}
