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
use crate::spool::track::{NONE, Segment, Track};

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
    /// Nothing more, below the end.
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

    /// Goes on to the next record for the backend whose sequence is below `end`.
    pub fn step(&mut self, end: u64) -> Step<F> {
        loop {
            if self.next >= end {
                return Step::Empty;
            }
            let Some(segment) = self.segment.clone() else {
                if !self.enter() {
                    return Step::Empty;
                }
                continue;
            };
            let bytes_max = usize::try_from(limits::RECORD_BYTES_MAX).unwrap_or(usize::MAX);
            match record::decode(&self.buffer[self.used..], bytes_max) {
                Found::Record(record) => {
                    if self.gap != Gap::None {
                        self.gap = Gap::None;
                        self.damaged += 1;
                    }
                    let is_old = record.sequence < self.next || record.order < self.from_order;
                    if record.sequence >= end {
                        return Step::Empty;
                    }
                    if !record.void && !is_old && record.parts.is_for(self.name) {
                        self.next = record.sequence;
                        return Step::Ready;
                    }
                    self.next = self.next.max(record.sequence + 1);
                    self.used += record.bytes;
                }
                Found::Partial(wants) if !self.is_last_piece => {
                    self.wants = wants;
                    return Step::Want(self.want(segment));
                }
                Found::End
                    if self.buffer.len() - self.used < record::HEAD_BYTES
                        && !self.is_last_piece =>
                {
                    return Step::Want(self.want(segment));
                }
                Found::End if !self.is_cut_short(&segment) => {
                    if !self.leave(&segment) {
                        return Step::Empty;
                    }
                }
                Found::End => self.skip(Gap::Zeros, bytes_max),
                Found::Partial(_) | Found::Damaged => self.skip(Gap::Garbage, bytes_max),
            }
        }
    }

    /// The record that [`Source::step`] found ready.
    pub fn record(&self) -> Option<Record<'_>> {
        match record::decode(&self.buffer[self.used..], usize::MAX) {
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
        }
    }

    /// Everything below `end` was looked at.
    pub fn pass_to(&mut self, end: u64) {
        self.next = self.next.max(end);
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

    fn want(&self, segment: Arc<Segment<F>>) -> Want<F> {
        let unused = self.buffer.len() - self.used;
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
        self.at = segment.records_at;
        self.segment = Some(segment);
        self.buffer.clear();
        self.used = 0;
        self.is_last_piece = false;
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
                // What may still be written here is read anew.
                self.at += self.used as u64;
                self.buffer.clear();
                self.used = 0;
                self.is_last_piece = false;
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

const _: () = assert!(
    HEAD_BYTES_MAX < limits::RECORD_BYTES_MAX as usize,
    "a head is read whole"
);
