//! Where each backend stands in a log, on disk: two places that are written in turn. Pure.
//!
//! ```text
//!   0  8  "ircursor"    8  8  counter    16  4  count of names    20  4  zero
//!  24     per name: next sequence, owed records, owed bytes: 8 bytes each
//!  -4  4  CRC32C of all before it; zeros up to a multiple of 512
//! ```
//!
//! The place with the higher counter counts; one that was torn by a power cut leaves the other.
//! A cursor that is too old costs a replay of what the backend has; it never costs a write.

use std::io;

use crate::spool::disk::DiskFile;
use crate::spool::record::{checksum, u32_at, u64_at};

const MAGIC: &[u8; 8] = b"ircursor";
const FIXED: usize = 24;
const EACH: usize = 24;
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
}

/// Bytes of one of the two places.
pub fn place_bytes(names: usize) -> usize {
    (FIXED + names * EACH + 4).next_multiple_of(512)
}

fn encode(counter: u64, marks: &[Mark], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&counter.to_le_bytes());
    let count = u32::try_from(marks.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for mark in marks {
        for number in [mark.next, mark.records, mark.bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    let sum = checksum([out]);
    out.extend_from_slice(&sum.to_le_bytes());
    out.resize(place_bytes(marks.len()), 0);
}

/// The counter and the marks of one place, if it is whole.
pub fn decode(place: &[u8]) -> Option<(u64, Vec<Mark>)> {
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
    });
    Some((u64_at(place, 8), marks.collect()))
}

/// The newest marks in a file's bytes, for so many names.
pub fn newest(file: &[u8], names: usize) -> Option<(u64, Vec<Mark>)> {
    let bytes = place_bytes(names);
    let places = file.chunks(bytes).take(2).filter_map(decode);
    places
        .filter(|(_, marks)| marks.len() == names)
        .max_by_key(|place| place.0)
}

/// The file that holds them.
pub struct Cursors<F> {
    file: F,
    counter: u64,
    saved: Vec<Mark>,
    bytes: Vec<u8>,
}

impl<F: DiskFile> Cursors<F> {
    /// Marks in `file`, of which the newest are numbered `counter`.
    pub fn new(file: F, counter: u64) -> Self {
        Self {
            file,
            counter,
            saved: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Saves marks, if they are not those saved last. Once per tick.
    ///
    /// # Errors
    /// What the disk says.
    pub fn save(&mut self, marks: &[Mark]) -> io::Result<()> {
        if marks == self.saved {
            return Ok(());
        }
        self.counter += 1;
        encode(self.counter, marks, &mut self.bytes);
        let at = (self.counter % 2) * self.bytes.len() as u64;
        self.file.write_at(&self.bytes, at)?;
        self.saved.clear();
        self.saved.extend_from_slice(marks);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Mark, encode, newest, place_bytes};

    #[test]
    fn the_newest_whole_place_counts() {
        let marks = |next| {
            vec![
                Mark {
                    next,
                    records: 1,
                    bytes: 2
                };
                3
            ]
        };
        let (mut old, mut new) = (Vec::new(), Vec::new());
        encode(4, &marks(40), &mut old);
        encode(5, &marks(50), &mut new);
        assert_eq!(old.len(), place_bytes(3));
        let file = [old.clone(), new.clone()].concat();
        assert_eq!(newest(&file, 3), Some((5, marks(50))));
        assert_eq!(newest(&file, 2), None, "another count of names");
        for bit in 0..(24 + 3 * 24 + 4) * 8 {
            let mut torn = new.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            let file = [old.clone(), torn].concat();
            assert_eq!(newest(&file, 3), Some((4, marks(40))), "bit {bit}");
        }
        assert_eq!(newest(&[], 3), None);
        assert_eq!(newest(&[0; 4096], 3), None);
    }
}
