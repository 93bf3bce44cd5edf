//! One backend's way through one log: record by record, from its cursor to an end. Pure.
//!
//! It asks for bytes and is given them; what is not for the backend, or void, is passed over; what is
//! damaged is counted and passed over, up to the next whole record.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::limits;
use crate::spool::disk::DiskFile;
use crate::spool::record::{self, Found, Record};
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
    /// The order of the record that was taken last.
    taken: u64,
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
            taken: 0,
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
        let record = self.record();
        if let Some((bytes, sequence, order)) =
            record.map(|record| (record.bytes, record.sequence, record.order))
        {
            self.used += bytes;
            self.next = sequence + 1;
            self.taken = order;
            self.ready = false;
        }
    }

    /// The order of the record that was taken last; 0 before the first.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The backend has everything of the run that is older than `order`.
    pub fn has_had(&self, order: u64) {
        self.track.has_had(self.name, order);
    }

    /// Moves the backend's cursor behind what was taken.
    pub fn settle(&self) {
        self.track.advance(self.name, self.next);
    }

    /// Moves the backend's cursor behind the whole log, which is written to no more.
    pub fn finish(&self) {
        self.track.advance(self.name, LEVEL);
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::{Bound, Source, Step};
    use crate::spool::disk::DiskFile;
    use crate::spool::record::{Parts, encode, seal};
    use crate::spool::track::{NONE, Segment, Track};

    struct Bytes(Vec<u8>);

    impl DiskFile for Bytes {
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Ok(())
        }

        fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
            let from = usize::try_from(at).unwrap().min(self.0.len());
            let count = buffer.len().min(self.0.len() - from);
            buffer[..count].copy_from_slice(&self.0[from..from + count]);
            Ok(count)
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn cut(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    /// A log of these segments, each with the sequence of its first record.
    fn track(segments: Vec<(u64, Vec<u8>)>) -> Arc<Track<Bytes>> {
        let track = Track::new(1, 0, vec!["a".into(), "b".into()]);
        let segments = segments.into_iter().map(|(first, bytes)| {
            Arc::new(Segment {
                name: String::new(),
                first,
                opened: 0,
                records_at: 0,
                ends_at: AtomicU64::new(bytes.len() as u64),
                file: Arc::new(Bytes(bytes)),
            })
        });
        track.segments.store(Arc::new(segments.collect()));
        track.end.store(NONE - 1, Ordering::Relaxed);
        Arc::new(track)
    }

    fn record(sequence: u64, target: u16) -> Vec<u8> {
        let body = format!("m v={sequence}\n").repeat(1 + usize::try_from(sequence % 5).unwrap());
        let mut out = Vec::new();
        let parts = Parts {
            kind: 0,
            joinable: true,
            targets: &target.to_le_bytes(),
            query: b"db=x",
            headers: b"",
            authorization: b"",
            body: body.as_bytes(),
        };
        encode(&mut out, sequence, &parts);
        seal(&mut out, sequence + 100, 7);
        out
    }

    /// Sequences and bodies that backend `name` is given, and how much was damaged.
    fn read(track: &Arc<Track<Bytes>>, name: usize) -> (Vec<(u64, Vec<u8>)>, u64) {
        let mut source = Source::new(Arc::clone(track), name, 0, 0);
        let mut found = Vec::new();
        for _ in 0..100_000 {
            match source.step(Bound::ALL) {
                Step::Ready => {
                    let record = source.record().unwrap();
                    found.push((record.sequence, record.parts.body.to_vec()));
                    source.take();
                }
                Step::Want(want) => {
                    let mut buffer = vec![0; want.bytes.min(1 << 20)];
                    let count = want.segment.file.read_at(&mut buffer, want.at).unwrap();
                    source.fill(&want, &buffer[..count]);
                }
                Step::Empty => return (found, source.take_damaged()),
            }
        }
        panic!("it goes on for ever");
    }

    fn segment(sequences: std::ops::Range<u64>) -> Vec<u8> {
        sequences
            .flat_map(|n| record(n, u16::from(n % 2 == 1)))
            .collect()
    }

    #[test]
    fn each_backend_gets_its_own_in_order_over_segments() {
        let track = track(vec![
            (0, segment(0..5)),
            (5, segment(5..9)),
            (9, Vec::new()),
        ]);
        let sequences = |name| read(&track, name).0.iter().map(|r| r.0).collect::<Vec<_>>();
        assert_eq!(sequences(0), [0, 2, 4, 6, 8]);
        assert_eq!(sequences(1), [1, 3, 5, 7]);
    }

    #[test]
    fn what_a_file_held_before_is_no_record_and_no_damage() {
        let mut reused = segment(100..104);
        let old = segment(20..40);
        reused.extend_from_slice(&old[reused.len()..]);
        let (found, damaged) = read(&track(vec![(100, reused)]), 0);
        assert_eq!(found.iter().map(|r| r.0).collect::<Vec<_>>(), [100, 102]);
        assert_eq!(damaged, 0);
    }

    #[test]
    fn damage_costs_the_records_that_it_hit_and_nothing_is_invented() {
        for seed in 0..3000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut dice = |sides: usize| rng.random_range(0..sides);
            let (mut one, two) = (segment(0..12), segment(12..20));
            let (right, _) = read(&track(vec![(0, one.clone()), (12, two.clone())]), 0);
            let mut hits = 0;
            for _ in 0..1 + dice(3) {
                hits += 1;
                let at = dice(one.len());
                match dice(4) {
                    0 => one[at] ^= 1 << dice(8),
                    1 => one[at..].iter_mut().take(64).for_each(|byte| *byte = 0),
                    2 => one.truncate(at.max(1)),
                    _ => drop(one.splice(at..at, [0xAA; 8])),
                }
            }
            let (found, _) = read(&track(vec![(0, one), (12, two)]), 0);
            for record in &found {
                assert!(
                    right.contains(record),
                    "seed {seed}: {record:?} is invented"
                );
            }
            let sorted = found.windows(2).all(|pair| pair[0].0 < pair[1].0);
            assert!(sorted, "seed {seed}: {found:?}");
            let behind = found.iter().filter(|record| record.0 >= 12).count();
            assert_eq!(
                behind, 4,
                "seed {seed}: the next segment is whole, {hits} hits"
            );
        }
    }
}
