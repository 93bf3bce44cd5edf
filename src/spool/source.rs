//! One backend's way through one log: record by record, from its cursor to an end. Pure.
//!
//! It asks for bytes and is given them; what is not for the backend, or void, is passed over; what is damaged is
//! passed over, up to the next place where the segment's nonce stands (see `record`). Sequences follow one another
//! without a gap, so a gap is so many records that damage has cost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::limits;
use crate::spool::disk::DiskFile;
use crate::spool::record::{self, ALIGN, Found, Nonce, Record};
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
    /// The sequence that follows the last record that was found in the segment.
    expected: u64,
    damaged: u64,
    /// A record was found ready, and is not taken yet.
    ready: bool,
    /// What was within the bound when the buffer was read is in it as it is. What was not may have been
    /// half written, or its fate open.
    read_within: Bound,
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
            expected: 0,
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
            let Some(nonce) = segment.nonce.filter(|_| !self.is_at_the_end_of(&segment)) else {
                if !self.leave(&segment) {
                    return Step::Empty;
                }
                continue;
            };
            let is_stale = self.read_within.is_within(bound);
            let rest = &self.buffer[self.used..];
            match record::decode(rest, nonce, bytes_max) {
                Found::Record(record)
                    if self.is_of(&record, &segment) && !is_within(&record, bound) =>
                {
                    return Step::Empty;
                }
                Found::Record(record) if self.is_of(&record, &segment) && self.knows(&record) => {
                    let (sequence, bytes) = (record.sequence, record.bytes);
                    let is_old = sequence < self.next || record.order < self.from_order;
                    let is_wanted = !record.void && record.parts.is_for(self.name);
                    self.damaged += self.missing_below(sequence);
                    self.expected = sequence + 1;
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
                Found::End if rest.len() < record::HEAD_BYTES && !self.is_last_piece => {
                    return Step::Want(self.want(segment, bound));
                }
                Found::Spoiled(bytes) => self.used += bytes,
                _ => {
                    if !self.skip(&segment, nonce) && !self.leave(&segment) {
                        return Step::Empty;
                    }
                }
            }
        }
    }

    /// Records below the sequence `end` that should stand before this place in the segment, and do not.
    fn missing_below(&self, end: u64) -> u64 {
        end.saturating_sub(self.expected.max(self.next))
    }

    /// Whether the buffer's copy of a record is as it will stay.
    fn knows(&self, record: &Record<'_>) -> bool {
        is_within(record, self.read_within)
    }

    /// Whether a closed segment has been read to its end.
    fn is_at_the_end_of(&self, segment: &Segment<F>) -> bool {
        self.at + self.used as u64 >= segment.ends_at.load(Ordering::Acquire)
    }

    /// Whether a record's sequence is one of the segment's.
    fn is_of(&self, record: &Record<'_>, segment: &Segment<F>) -> bool {
        let behind = || self.track.segment_behind(segment.first);
        record.sequence >= segment.first
            && (record.sequence == self.next
                || behind().is_none_or(|behind| record.sequence < behind.first))
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
        let nonce = self.segment.as_ref()?.nonce?;
        match record::decode_again(&self.buffer[self.used..], nonce) {
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

    /// A piece could not be read: what is left of the segment counts as damaged.
    pub fn unreadable(&mut self, want: &Want<F>) {
        let before = self.damaged;
        self.leave(&want.segment);
        self.damaged = self.damaged.max(before + 1);
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
        self.expected = segment.first;
        self.segment = Some(segment);
    }

    /// Goes on to the segment behind this one; whether there is one. What should stand in this one and was not found is
    /// damaged.
    fn leave(&mut self, segment: &Segment<F>) -> bool {
        match self.track.segment_behind(segment.first) {
            Some(behind) => {
                self.damaged += self.missing_below(behind.follows);
                self.next = self.next.max(behind.first);
                self.open(behind);
                true
            }
            None => {
                if segment.is_closed() && self.expected != NONE {
                    let missing = self.missing_below(self.track.known_end.load(Ordering::Acquire));
                    let is_lost = segment.nonce.is_none();
                    self.damaged += missing.max(u64::from(is_lost));
                    self.expected = NONE; // it is counted once
                }
                self.refresh(); // what may still be written here is read then
                false
            }
        }
    }

    /// Passes what is no record, up to where the next one may begin; `false` where the records of the segment end.
    fn skip(&mut self, segment: &Segment<F>, nonce: Nonce) -> bool {
        let rest = &self.buffer[self.used..];
        if let Some(at) = record::candidate(rest, nonce) {
            self.used += at;
            return true;
        }
        let ends_at = segment.ends_at.load(Ordering::Acquire);
        if ends_at == NONE {
            return false; // it is written to, and nothing is written behind this
        }
        if self.is_last_piece {
            self.at = ends_at;
            self.used = 0;
            self.buffer.clear();
        } else {
            // The last bytes may hold a part of a head. Pieces begin at multiples of the records' alignment.
            let kept = self.buffer.len().saturating_sub(record::HEAD_BYTES) / ALIGN * ALIGN;
            self.used = kept.max(self.used + ALIGN).min(self.buffer.len());
        }
        true
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
    use crate::spool::record::{Nonce, Parts, encode, seal};
    use crate::spool::track::{NONE, Segment, Track};

    const NONCE: Nonce = Nonce(*b"0123456789abcdef");

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
        let segments = segments.into_iter();
        track_of(
            segments
                .map(|(first, bytes)| (first, first, NONCE, bytes))
                .collect(),
        )
    }

    /// A log of these segments: the first sequence, that behind the segment before, the nonce and the bytes.
    fn track_of(segments: Vec<(u64, u64, Nonce, Vec<u8>)>) -> Arc<Track<Bytes>> {
        let track = Track::new(1, 0, vec!["a".into(), "b".into()]);
        let segments = segments.into_iter().map(|(first, follows, nonce, bytes)| {
            Arc::new(Segment {
                name: String::new(),
                first,
                opened: 0,
                follows,
                nonce: Some(nonce),
                records_at: 0,
                ends_at: AtomicU64::new(bytes.len() as u64),
                file: Arc::new(Bytes(bytes)),
            })
        });
        track.segments.store(Arc::new(segments.collect()));
        track.end.store(NONE - 1, Ordering::Relaxed);
        Arc::new(track)
    }

    fn parts(body: &[u8]) -> Parts<'_> {
        Parts {
            kind: 0,
            joinable: true,
            targets: &[0, 0],
            query: b"db=x",
            headers: b"",
            authorization: b"",
            body,
        }
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
        seal(&mut out, NONCE, sequence + 100, 7);
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

    /// Makes whole records ones of a segment with another nonce.
    fn renew(bytes: &mut [u8], nonce: Nonce) {
        let mut at = 0;
        while at < bytes.len() {
            at += seal(&mut bytes[at..], nonce, 100, 7);
        }
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
        let mut old = segment(20..40);
        renew(&mut old, Nonce([7; 16]));
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

    /// One file that is written again and again. Bodies are whole records of all that it held before, with their
    /// nonces and at each alignment; and damage hits it. Only what was appended to the segment is read.
    #[test]
    fn bodies_that_are_records_of_earlier_segments_are_bodies() {
        for seed in 0..1500 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut dice = |sides: usize| rng.random_range(0..sides);
            let mut file: Vec<u8> = Vec::new();
            let mut earlier: Vec<u8> = Vec::new();
            let (mut first, mut right, mut places) = (0, Vec::new(), Vec::new());
            let mut nonce = NONCE;
            for life in 0..4 {
                nonce = Nonce([u8::try_from(life).unwrap() + 1; 16]);
                let (mut written, mut next) = (Vec::new(), first + dice(3) as u64);
                (first, right, places) = (next, Vec::new(), Vec::new());
                for _ in 0..2 + dice(6) {
                    let from = dice(earlier.len() + 1);
                    let mut body = vec![b' '; dice(8)];
                    body.extend_from_slice(&earlier[from..]);
                    body.truncate(2000);
                    let start = written.len();
                    encode(&mut written, next, &parts(&body));
                    seal(&mut written[start..], nonce, next + 100, 7);
                    right.push((next, body));
                    places.push(start..written.len());
                    next += 1;
                }
                earlier.extend_from_slice(&written);
                let longer = file.len().max(written.len());
                file.resize(longer, 0);
                file[..written.len()].copy_from_slice(&written);
            }
            let used = places.last().unwrap().end;
            let mut hits = Vec::new();
            for _ in 0..dice(4) {
                let at = dice(used);
                let many = 1 + dice(40).min(used - at - 1);
                // A state may become VOID, which costs the record too, and acceptances are no structure.
                file[at..at + many]
                    .iter_mut()
                    .for_each(|byte| *byte ^= 0x5a);
                hits.push(at..at + many);
            }
            let is_hit = |place: &std::ops::Range<usize>| {
                let mut hits = hits.iter();
                hits.any(|hit| hit.start < place.end && place.start < hit.end)
            };
            let spared = right
                .iter()
                .zip(&places)
                .filter(|(_, place)| !is_hit(place));
            let spared: Vec<_> = spared.map(|(record, _)| record.clone()).collect();
            let end = right.last().unwrap().0 + 1;
            let track = track_of(vec![(first, first, nonce, file)]);
            track.known_end.store(end, Ordering::Relaxed);
            let (found, damaged) = read(&track, 0);
            for record in &found {
                assert!(
                    right.contains(record),
                    "seed {seed}: {} is invented",
                    record.0
                );
            }
            for record in &spared {
                let times = found.iter().filter(|found| *found == record).count();
                assert_eq!(times, 1, "seed {seed}: {} was not hit", record.0);
            }
            assert!(
                found.windows(2).all(|pair| pair[0].0 < pair[1].0),
                "seed {seed}"
            );
            let lost = right.len() - found.len();
            assert_eq!(damaged, lost as u64, "seed {seed}: what is lost is counted");
        }
    }

    /// What looks like the beginning of a large record costs no more than other bytes.
    #[test]
    fn what_is_read_is_linear_in_what_there_is() {
        let mut lies = Vec::new();
        encode(&mut lies, 1, &parts(b"x"));
        seal(&mut lies, Nonce([9; 16]), 1, 1);
        lies[40..44].copy_from_slice(&900_000_u32.to_le_bytes());
        let body = lies.repeat(8000);
        let mut bytes = Vec::new();
        encode(&mut bytes, 0, &parts(&body));
        let large = bytes.len();
        encode(&mut bytes, 1, &parts(b"behind"));
        seal(&mut bytes, NONCE, 100, 7);
        seal(&mut bytes[large..], NONCE, 101, 7);
        bytes[40] ^= 1; // the length of the large one
        let all = bytes.len();
        let track = track_of(vec![(0, 0, NONCE, bytes)]);
        let mut source = Source::new(Arc::clone(&track), 0, 0, 0);
        let (mut read, mut steps) = (0, 0);
        loop {
            steps += 1;
            match source.step(Bound::ALL) {
                Step::Ready => {
                    assert_eq!(source.record().unwrap().parts.body, b"behind");
                    source.take();
                }
                Step::Want(want) => {
                    let mut buffer = vec![0; want.bytes.min(1 << 22)];
                    let count = want.segment.file.read_at(&mut buffer, want.at).unwrap();
                    read += count;
                    source.fill(&want, &buffer[..count]);
                }
                Step::Empty => break,
            }
        }
        assert!(read <= all + (1 << 20), "{read} bytes read of {all}");
        assert!(steps < 100, "{steps} steps");
        assert_eq!(source.take_damaged(), 1);
    }

    /// A segment without a head costs its records, and says so; those around it are read.
    #[test]
    fn a_segment_without_a_head_costs_its_records_and_they_are_counted() {
        let track = track(vec![
            (0, segment(0..5)),
            (5, segment(5..9)),
            (9, segment(9..12)),
        ]);
        let mut segments = track.segments.load().to_vec();
        let lost = &segments[1];
        segments[1] = Arc::new(Segment {
            name: String::new(),
            first: 5,
            opened: 0,
            follows: 5,
            nonce: None,
            records_at: 0,
            ends_at: AtomicU64::new(lost.ends_at.load(Ordering::Relaxed)),
            file: Arc::clone(&lost.file),
        });
        track.segments.store(Arc::new(segments));
        let (found, damaged) = read(&track, 0);
        assert_eq!(found.iter().map(|r| r.0).collect::<Vec<_>>(), [0, 2, 4, 10]);
        assert_eq!(damaged, 4);
    }

    /// A log that is known to reach further than its last segment does.
    #[test]
    fn what_a_power_cut_took_of_the_last_segment_is_counted() {
        for bytes in [Vec::new(), vec![0; 4096], segment(0..3)] {
            let records = match bytes.iter().any(|&byte| byte != 0) {
                true => 3,
                false => 0,
            };
            let track = track(vec![(0, bytes)]);
            track.known_end.store(7, Ordering::Relaxed);
            let (_, damaged) = read(&track, 0);
            assert_eq!(damaged, 7 - records);
        }
    }
}
