//! One backend's way through one log: record by record, from its cursor to an end. Pure.
//!
//! It asks for bytes and is given them; what is not for the backend, or void, is passed over; what is
//! damaged is counted and passed over, up to the next whole record.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::limits;
use crate::spool::disk::DiskFile;
use crate::spool::record::{self, Found, Record};
use crate::spool::segment::HEAD_BYTES_MAX;
use crate::spool::track::{LEVEL, NONE, Segment, Track};

/// How far a source may go: to records below both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// A sequence.
    pub end: u64,
    /// An order.
    pub cut: u64,
}

impl Bound {
    /// To the last record of a log that is written to no more.
    pub const ALL: Self = Self {
        end: NONE - 1,
        cut: NONE,
    };

    fn is_within(self, later: Self) -> bool {
        self.end < later.end || self.cut < later.cut
    }
}

/// Bytes that are wanted.
#[derive(Debug)]
pub struct Want<F> {
    /// Of which segment.
    pub segment: Arc<Segment<F>>,
    /// From where.
    pub at: u64,
    /// How many, at most.
    pub bytes: usize,
}

/// What there is at the source's place.
#[derive(Debug)]
pub enum Step<F> {
    /// A record for the backend: [`Source::record`].
    Ready,
    /// Bytes are to be read first: [`Source::fill`].
    Want(Want<F>),
    /// Nothing more within the bound.
    Empty,
}

/// One backend's way through one log.
#[derive(Debug)]
pub struct Source<F> {
    /// The log.
    pub track: Arc<Track<F>>,
    name: usize,
    /// Records of an older order are passed over: the backend has them.
    from_order: u64,
    /// The sequence of the next record that was not looked at.
    next: u64,
    segment: Option<Arc<Segment<F>>>,
    /// Where `buffer` begins in the segment.
    at: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` was looked at.
    used: usize,
    /// The bytes that the record at hand wants, if more than are in the buffer.
    wants: usize,
    /// The segment has no more bytes than those in the buffer.
    is_last_piece: bool,
    gap: Gap,
    damaged: u64,
    /// A record was found ready, and is not taken yet.
    ready: bool,
    /// What was within the bound when the buffer was read is in it as it is. What was not may have been
    /// half written, or its fate open.
    read_within: Bound,
}

/// What was passed over since the last whole record. It is damage once a record follows; at the end of
/// a log it is a write that was torn, or space that was never used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    None,
    Zeros,
    Garbage,
}

impl<F> Clone for Source<F> {
    fn clone(&self) -> Self {
        Self {
            track: Arc::clone(&self.track),
            segment: self.segment.clone(),
            buffer: self.buffer.clone(),
            ..*self
        }
    }
}

impl<F: DiskFile> Source<F> {
    /// The way of the backend with index `name` through a log, from `next` on.
    pub fn new(track: Arc<Track<F>>, name: usize, next: u64, from_order: u64) -> Self {
        Self {
            track,
            name,
            from_order,
            next,
            segment: None,
            at: 0,
            buffer: Vec::new(),
            used: 0,
            wants: 0,
            is_last_piece: false,
            gap: Gap::None,
            damaged: 0,
            ready: false,
            read_within: Bound { end: 0, cut: 0 },
        }
    }

    /// The sequence of the first record that was not taken.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Records lost to damage since the last call.
    pub fn take_damaged(&mut self) -> u64 {
        std::mem::take(&mut self.damaged)
    }

    /// Goes on to the next record for the backend within `bound`, which only ever grows.
    pub fn step(&mut self, bound: Bound) -> Step<F> {
        let bytes_max = usize::try_from(limits::RECORD_BYTES_MAX).unwrap_or(usize::MAX);
        loop {
            if self.next >= bound.end {
                return Step::Empty;
            }
            if self.ready {
                return Step::Ready;
            }
            let Some(segment) = self.segment.clone() else {
                if !self.enter() {
                    return Step::Empty;
                }
                continue;
            };
            if self.is_at_the_end_of(&segment) {
                if !self.leave(&segment) {
                    return Step::Empty;
                }
                continue;
            }
            let is_stale = self.read_within.is_within(bound);
            match record::decode(&self.buffer[self.used..], bytes_max) {
                // What the file held when it was another segment.
                Found::Record(record) if !is_stale && !self.is_of(&record, &segment) => {
                    self.used += record.bytes;
                }
                Found::Record(record)
                    if self.is_of(&record, &segment) && !is_within(&record, bound) =>
                {
                    return Step::Empty;
                }
                Found::Record(record) if self.is_of(&record, &segment) && self.knows(&record) => {
                    let (sequence, bytes) = (record.sequence, record.bytes);
                    let is_old = sequence < self.next || record.order < self.from_order;
                    let is_wanted = !record.void && record.parts.is_for(self.name);
                    self.end_gap();
                    if is_wanted && !is_old {
                        self.next = sequence;
                        self.ready = true;
                        return Step::Ready;
                    }
                    self.next = self.next.max(sequence + 1);
                    self.used += bytes;
                }
                // Whatever stands here may be what was there before it was written.
                _ if is_stale => self.refresh(),
                Found::Partial(wants) if !self.is_last_piece => {
                    self.wants = wants;
                    return Step::Want(self.want(segment, bound));
                }
                Found::End
                    if self.buffer.len() - self.used < record::HEAD_BYTES
                        && !self.is_last_piece =>
                {
                    return Step::Want(self.want(segment, bound));
                }
                Found::End if !self.is_cut_short(&segment) => {
                    if !self.leave(&segment) {
                        return Step::Empty;
                    }
                }
                Found::End => self.skip(Gap::Zeros, bytes_max),
                _ => self.skip(Gap::Garbage, bytes_max),
            }
        }
    }

    /// Whether the buffer's copy of a record is as it will stay.
    fn knows(&self, record: &Record<'_>) -> bool {
        is_within(record, self.read_within)
    }

    /// Whether a closed segment has been read to its end.
    fn is_at_the_end_of(&self, segment: &Segment<F>) -> bool {
        self.at + self.used as u64 >= segment.ends_at.load(Ordering::Acquire)
    }

    /// Whether a record belongs to the segment: not to an older one in the same file, nor to a newer
    /// one.
    fn is_of(&self, record: &Record<'_>, segment: &Segment<F>) -> bool {
        let behind = || self.track.segment_behind(segment.first);
        record.sequence >= segment.first
            && (record.sequence == self.next
                || behind().is_none_or(|behind| record.sequence < behind.first))
    }

    fn end_gap(&mut self) {
        if self.gap != Gap::None {
            self.gap = Gap::None;
            self.damaged += 1;
        }
    }

    /// Forgets what was read and not looked at.
    fn refresh(&mut self) {
        self.at += self.used as u64;
        self.used = 0;
        self.buffer.clear();
        self.is_last_piece = false;
        self.read_within = Bound {
            end: NONE,
            cut: NONE,
        }; // nothing is in it
    }

    /// The record that [`Source::step`] found ready.
    pub fn record(&self) -> Option<Record<'_>> {
        match record::decode_again(&self.buffer[self.used..]) {
            Found::Record(record) => Some(record),
            _ => None,
        }
    }

    /// Passes the record that is ready.
    pub fn take(&mut self) {
        if let Some((bytes, sequence)) = self.record().map(|record| (record.bytes, record.sequence))
        {
            self.used += bytes;
            self.next = sequence + 1;
            self.ready = false;
        }
    }

    /// Moves the backend's cursor behind what was taken.
    pub fn settle(&self) {
        self.track.set_cursor(self.name, self.next);
    }

    /// Moves the backend's cursor behind the whole log.
    pub fn finish(&self) {
        self.track.set_cursor(self.name, LEVEL);
    }

    /// Gives the bytes that were wanted; fewer than wanted mean that the segment ends there.
    pub fn fill(&mut self, want: &Want<F>, bytes: &[u8]) {
        let place = want.at.saturating_sub(self.at);
        let keep = usize::try_from(place)
            .unwrap_or(usize::MAX)
            .min(self.buffer.len());
        self.buffer.truncate(keep);
        self.buffer.drain(..self.used);
        self.at += self.used as u64;
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
        self.is_last_piece = bytes.len() < want.bytes;
        self.wants = 0;
    }

    /// A piece could not be read: it counts as damaged.
    pub fn unreadable(&mut self, want: &Want<F>) {
        self.damaged += 1;
        self.leave(&want.segment);
    }

    fn want(&mut self, segment: Arc<Segment<F>>, bound: Bound) -> Want<F> {
        let unused = self.buffer.len() - self.used;
        if unused == 0 {
            self.read_within = bound;
        }
        Want {
            at: self.at + self.buffer.len() as u64,
            bytes: limits::SPOOL_READ_BYTES.max(self.wants.saturating_sub(unused)),
            segment,
        }
    }

    /// Begins with the segment that holds the next record; whether there is one.
    fn enter(&mut self) -> bool {
        let Some(segment) = self.track.segment_of(self.next) else {
            return false;
        };
        self.at = segment.records_at;
        self.open(segment);
        true
    }

    fn open(&mut self, segment: Arc<Segment<F>>) {
        self.refresh();
        self.at = segment.records_at;
        self.segment = Some(segment);
        self.gap = Gap::None;
    }

    /// Goes on to the segment behind this one; whether there is one.
    fn leave(&mut self, segment: &Segment<F>) -> bool {
        match self.track.segment_behind(segment.first) {
            Some(behind) => {
                self.next = self.next.max(behind.first);
                if self.gap == Gap::Garbage {
                    self.damaged += 1;
                }
                self.open(behind);
                true
            }
            None => {
                self.refresh(); // what may still be written here is read then
                false
            }
        }
    }

    /// Whether there are bytes behind this place that must be records: zeros are damage then.
    fn is_cut_short(&self, segment: &Segment<F>) -> bool {
        let here = self.at + self.used as u64;
        match segment.ends_at.load(Ordering::Acquire) {
            NONE => false,
            ends_at => here < ends_at && self.used < self.buffer.len(),
        }
    }

    /// Passes what is no record, up to what may be one.
    fn skip(&mut self, gap: Gap, bytes_max: usize) {
        if self.gap != Gap::Garbage {
            self.gap = gap;
        }
        let rest = &self.buffer[self.used..];
        match record::candidate(rest, bytes_max, self.is_last_piece) {
            Some(at) => self.used += at,
            None => {
                // Nothing here: on behind it. Pieces begin at multiples of the records' alignment.
                self.used = self.buffer.len();
                if self.is_last_piece {
                    self.buffer.clear();
                    self.at += self.used as u64;
                    self.used = 0;
                }
            }
        }
    }
}

fn is_within(record: &Record<'_>, bound: Bound) -> bool {
    record.sequence < bound.end && record.order < bound.cut
}

const _: () = assert!(
    (HEAD_BYTES_MAX as u64) < limits::RECORD_BYTES_MAX,
    "a head is read whole"
);
