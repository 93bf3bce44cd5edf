//! The way through one log, from its first record to its last, over whatever is damaged.
//!
//! It tells damage, which costs records, from what a kill or a power cut leaves behind the last one:
//! space that was never used, a torn record, or what the file held when it was another segment.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::look::{Log, Piece};
use crate::limits::{RECORD_BYTES_MAX, SPOOL_READ_BYTES};
use crate::spool::record::{self, Found, Nonce, Record};

/// What the way comes by.
pub(super) enum Met {
    /// A record: [`Walk::record`].
    Record,
    /// Bytes that are no record.
    Gap(Gap),
    /// The end of the log.
    End,
}

/// Bytes that are no record.
pub(super) struct Gap {
    pub(super) path: PathBuf,
    pub(super) bytes: Range<u64>,
    pub(super) why: Why,
}

/// Why they are none.
pub(super) enum Why {
    /// They are damaged; so many records are lost there.
    Damaged(u64),
    /// The last write was torn: its client never heard of it.
    Torn,
    /// The disk does not give them.
    Unreadable(io::Error),
}

impl Gap {
    /// Whether something is lost: a torn write is not, since its client never heard of it.
    pub(super) fn is_damage(&self) -> bool {
        !matches!(self.why, Why::Torn)
    }
}

/// One log's way.
pub(super) struct Walk {
    pieces: Vec<Piece>,
    /// The next one to be opened.
    next: usize,
    reader: Option<Reader>,
    /// The sequence that follows the last record.
    expected: u64,
    /// The sequence behind the last record that is known to be on disk.
    known_end: u64,
    /// Bytes of the record at hand.
    taken: usize,
}

impl Walk {
    /// Through the segments of a log that may hold records from the sequence `from` on.
    pub(super) fn new(log: &Log, from: u64) -> Self {
        let pieces = &log.pieces;
        let behind = pieces.partition_point(|piece| piece.first <= from);
        Self {
            pieces: pieces[behind.saturating_sub(1)..].to_vec(),
            next: 0,
            reader: None,
            expected: 0,
            known_end: log.known_end,
            taken: 0,
        }
    }

    /// Goes on to the next record, or to the next gap.
    pub(super) fn step(&mut self) -> Met {
        loop {
            let Some(reader) = &mut self.reader else {
                match self.open() {
                    None => return Met::End,
                    Some(Ok(())) => continue,
                    Some(Err(gap)) => return Met::Gap(gap),
                }
            };
            reader.used += std::mem::take(&mut self.taken);
            let piece = &self.pieces[self.next - 1];
            let behind = self.pieces.get(self.next);
            let end = behind.map_or(self.known_end, |piece| piece.follows);
            match reader.find(piece.first..behind.map_or(u64::MAX, |piece| piece.first)) {
                Ok(Some((sequence, bytes))) => {
                    // Before the first record of a segment without a head is the damaged head.
                    let gap = reader.gap.take().filter(|gap| gap.from > 0);
                    let Some(gap) = gap else {
                        self.expected = sequence + 1;
                        self.taken = bytes;
                        return Met::Record;
                    };
                    let lost = sequence.saturating_sub(self.expected);
                    return Met::Gap(Gap {
                        path: piece.path.clone(),
                        bytes: gap.from..reader.here(),
                        why: Why::Damaged(lost),
                    });
                }
                Ok(None) => {
                    let is_begun = reader.gap.as_ref().is_some_and(|gap| gap.is_begun);
                    let why = match end.checked_sub(self.expected) {
                        Some(lost @ 1..) => Some(Why::Damaged(lost)),
                        _ if piece.nonce.is_none() => Some(Why::Damaged(1)),
                        _ => (behind.is_none() && is_begun).then_some(Why::Torn),
                    };
                    let gap = self.close();
                    if let Some((gap, why)) = gap.zip(why) {
                        return Met::Gap(Gap { why, ..gap });
                    }
                }
                Err(why) => {
                    let bytes = reader.end()..reader.len;
                    let path = piece.path.clone();
                    self.reader = None;
                    let why = Why::Unreadable(why);
                    return Met::Gap(Gap { path, bytes, why });
                }
            }
        }
    }

    /// The record that was met; `None` where something else was.
    pub(super) fn record(&self) -> Option<Record<'_>> {
        let reader = self.reader.as_ref().filter(|_| self.taken > 0)?;
        match record::decode(&reader.buffer[reader.used..], reader.nonce?, usize::MAX) {
            Found::Record(record) => Some(record),
            _ => None,
        }
    }

    /// Opens the next segment; `None` behind the last one.
    fn open(&mut self) -> Option<Result<(), Gap>> {
        let piece = self.pieces.get(self.next)?;
        self.next += 1;
        self.expected = self.expected.max(piece.first);
        match Reader::open(piece) {
            Ok(reader) => self.reader = Some(reader),
            // A running relay has removed it.
            Err(why) if why.kind() == ErrorKind::NotFound => {}
            Err(why) => {
                return Some(Err(Gap {
                    path: piece.path.clone(),
                    bytes: 0..0,
                    why: Why::Unreadable(why),
                }));
            }
        }
        Some(Ok(()))
    }

    /// Leaves the segment, with a gap that goes up to its end.
    fn close(&mut self) -> Option<Gap> {
        let reader = self.reader.take()?;
        let from = reader
            .gap
            .as_ref()
            .map_or_else(|| reader.here(), |gap| gap.from);
        Some(Gap {
            path: self.pieces[self.next - 1].path.clone(),
            bytes: from..reader.len,
            why: Why::Torn,
        })
    }
}

/// One segment, read piece by piece.
struct Reader {
    file: File,
    /// The secret of its records; `None` where its head is damaged.
    nonce: Option<Nonce>,
    len: u64,
    /// Where `buffer` begins.
    at: u64,
    buffer: Vec<u8>,
    /// How much of it was passed.
    used: usize,
    gap: Option<Passed>,
}

/// What was passed since the last record.
struct Passed {
    from: u64,
    /// A record of the segment was begun there, and is not as it was written.
    is_begun: bool,
}

impl Reader {
    fn open(piece: &Piece) -> io::Result<Self> {
        let file = File::open(&piece.path)?;
        Ok(Self {
            len: file.metadata()?.len(),
            file,
            nonce: piece.nonce,
            at: piece.records_at,
            buffer: Vec::new(),
            used: 0,
            gap: None,
        })
    }

    fn here(&self) -> u64 {
        self.at + self.used as u64
    }

    fn end(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// The sequence and the bytes of the next record whose sequence is in `own`; it is not passed yet.
    fn find(&mut self, own: Range<u64>) -> io::Result<Option<(u64, usize)>> {
        let bytes_max = usize::try_from(RECORD_BYTES_MAX).unwrap_or(usize::MAX);
        let Some(nonce) = self.nonce else {
            return Ok(None);
        };
        loop {
            let rest = &self.buffer[self.used..];
            let is_last = self.end() >= self.len;
            match record::decode(rest, nonce, bytes_max) {
                Found::Record(record) if own.contains(&record.sequence) => {
                    return Ok(Some((record.sequence, record.bytes)));
                }
                Found::Record(record) => {
                    let bytes = record.bytes;
                    self.gap_at_hand();
                    self.used += bytes;
                }
                Found::Spoiled(bytes) => {
                    self.gap_at_hand().is_begun = true;
                    self.used += bytes;
                }
                Found::Partial(wants) if !is_last => self.read(wants)?,
                Found::End if rest.len() < record::HEAD_BYTES && !is_last => {
                    self.read(record::HEAD_BYTES)?;
                }
                Found::End if rest.is_empty() => return Ok(None),
                Found::End | Found::Partial(_) | Found::Damaged => {
                    let is_begun = record::is_begun(rest, nonce);
                    let next = match record::candidate(rest, nonce) {
                        Some(at) => at,
                        None if is_last => rest.len(),
                        // The last bytes may hold a part of a head.
                        None => {
                            let kept = rest.len().saturating_sub(record::HEAD_BYTES);
                            (kept / record::ALIGN * record::ALIGN).max(record::ALIGN)
                        }
                    };
                    self.gap_at_hand().is_begun |= is_begun;
                    self.used += next;
                }
            }
        }
    }

    fn gap_at_hand(&mut self) -> &mut Passed {
        let from = self.here();
        self.gap.get_or_insert(Passed {
            from,
            is_begun: false,
        })
    }

    /// Reads on, so that there are `wants` bytes from here, or all that the file has.
    fn read(&mut self, wants: usize) -> io::Result<()> {
        self.at += self.used as u64;
        self.buffer.drain(..std::mem::take(&mut self.used));
        let held = self.buffer.len();
        let left = usize::try_from(self.len - self.end()).unwrap_or(usize::MAX);
        let more = SPOOL_READ_BYTES.max(wants.saturating_sub(held)).min(left);
        self.buffer.resize(held + more, 0);
        let mut filled = held;
        while filled < held + more {
            let at = self.at + filled as u64;
            match self.file.read_at(&mut self.buffer[filled..], at) {
                Ok(0) => {
                    // A running relay has cut it.
                    self.len = at;
                    break;
                }
                Ok(count) => filled += count,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => {
                    self.buffer.truncate(filled);
                    return Err(why);
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}
