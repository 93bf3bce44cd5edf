//! One shard's log: records gathered in a turn go to disk in one write, into segments of a fixed
//! size whose space is taken beforehand.
//!
//! - A record never spans segments; one that is larger than a segment has one of its own.
//! - A segment that is closed early is cut to what it holds. Only the last one is written to.
//! - A segment goes once every backend's cursor has passed it. Some files are kept and written anew:
//!   their pages and blocks are there already, which is most of what a write costs. What is left in
//!   them of old records has another nonce, and is no record.
//! - While little is owed segments are small, so that few pages are written again and again, which takes no
//!   system call then: see `window`. What everybody has before a sync is due never reaches the disk.
//! - What could not be written is forgotten, and its segment is closed: what follows begins a new
//!   one, so a torn write never stands before a good record in the same file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits;
use crate::spool::cursors::{self, Cursors, Mark};
use crate::spool::disk::{Disk, DiskFile};
use crate::spool::in_place::fresh_nonce;
use crate::spool::record::{self, Nonce, Parts};
use crate::spool::segment::Head;
use crate::spool::spares::Spares;
use crate::spool::track::{NONE, Segment, Track};

/// The log that a shard writes to.
pub struct Log<D: Disk> {
    pub(super) disk: Arc<D>,
    pub(super) track: Arc<Track<D::File>>,
    segment_bytes: u64,
    /// The segment that is written to.
    open: Option<Open<D::File>>,
    /// Records that wait for the flush, one behind the other.
    buffer: Vec<u8>,
    /// The sequence behind the last record that was written.
    written_to: u64,
    /// Files that nobody needs.
    pub(super) spares: Spares<D>,
    /// Where backends stand, once that was said.
    pub(super) cursors: Option<Cursors<D::File>>,
    /// Segments that are not safe from a power cut yet.
    pub(super) unsynced: Vec<Arc<Segment<D::File>>>,
    /// Files made, and how many of their names are safe from a power cut.
    pub(super) made: u64,
    pub(super) made_safe: u64,
}

struct Open<F> {
    segment: Arc<Segment<F>>,
    nonce: Nonce,
    /// Where its next record goes.
    at: u64,
    /// Where it is full.
    room: u64,
}

impl<F> Clone for Open<F> {
    fn clone(&self) -> Self {
        Self {
            segment: Arc::clone(&self.segment),
            ..*self
        }
    }
}

impl<D: Disk> Log<D> {
    /// An empty log, of which others see `track`. Makes no file yet.
    pub fn new(disk: D, track: Arc<Track<D::File>>, segment_bytes: u64) -> Self {
        let disk = Arc::new(disk);
        Self {
            spares: Spares::new(&disk),
            disk,
            track,
            segment_bytes,
            open: None,
            buffer: Vec::new(),
            written_to: 0,
            cursors: None,
            unsynced: Vec::new(),
            made: 0,
            made_safe: 0,
        }
    }

    /// What others see of it.
    pub fn track(&self) -> &Arc<Track<D::File>> {
        &self.track
    }

    /// Puts a record behind those that wait for the flush. Once per write; copies the body.
    pub fn append(&mut self, sequence: u64, parts: &Parts<'_>) {
        record::encode(&mut self.buffer, sequence, parts);
    }

    /// Writes a large record at once, its body from where it lies; nothing else waits. `written` hears
    /// where it went.
    ///
    /// # Errors
    /// What the disk says; then the record is forgotten.
    pub fn write_through(
        &mut self,
        sequence: u64,
        parts: &Parts<'_>,
        (order, wall_ms): (u64, u64),
        written: impl FnOnce(u32),
    ) -> io::Result<()> {
        let mut head = std::mem::take(&mut self.buffer);
        record::encode_head(&mut head, sequence, parts);
        let bytes = parts.record_bytes() as u64;
        let put = self.room_for(bytes, sequence, order).and_then(|open| {
            let zeros = record::seal_around(&mut head, parts.body, open.nonce, order, wall_ms);
            let pieces = [&head, parts.body, zeros];
            open.segment.file.write_pieces_at(pieces, open.at)?;
            Ok(open)
        });
        head.clear();
        self.buffer = head;
        let put = put.map(|open| {
            written(u32::try_from(open.at).unwrap_or(u32::MAX));
            let at = open.at + bytes;
            self.open = Some(Open { at, ..open });
            self.written_to = sequence + 1;
        });
        if put.is_err() {
            self.close();
        }
        put
    }

    /// Bytes that wait for the flush.
    pub fn gathered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether anything waits for the flush.
    pub fn is_dirty(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether `more` bytes behind what waits need a new segment.
    pub fn is_full(&self, more: usize) -> bool {
        let bytes = (self.buffer.len() + more) as u64;
        let open = self.open.as_ref();
        open.is_none_or(|open| open.at + bytes > open.room)
    }

    /// Writes what waits, whose first record has the sequence `first`. `written` hears where each
    /// record went. Once per turn. Does not move the end that readers see.
    ///
    /// # Errors
    /// What the disk says; so many records as `written` heard of are written, the rest is forgotten.
    pub fn flush(
        &mut self,
        first: u64,
        order: u64,
        wall_ms: u64,
        written: impl FnMut(u64, u32),
    ) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let flushed = self.write(&mut buffer, first, order, wall_ms, written);
        buffer.clear();
        if u64::try_from(buffer.capacity()).unwrap_or(u64::MAX) > self.segment_bytes {
            buffer = Vec::new(); // one turn's flood is not kept for ever
        }
        self.buffer = buffer;
        if flushed.is_err() {
            self.close();
        }
        flushed
    }

    fn write(
        &mut self,
        buffer: &mut [u8],
        mut sequence: u64,
        order: u64,
        wall_ms: u64,
        mut written: impl FnMut(u64, u32),
    ) -> io::Result<()> {
        let mut rest = buffer;
        while !rest.is_empty() {
            let bytes = record::bytes_of(rest);
            let mut open = self.room_for(bytes as u64, sequence, order)?;
            // What fits goes in one write.
            let mut chunk = 0;
            while chunk < rest.len() {
                let more = record::bytes_of(&rest[chunk..]);
                if open.at + (chunk + more) as u64 > open.room {
                    break;
                }
                record::seal(&mut rest[chunk..], open.nonce, order, wall_ms);
                chunk += more;
            }
            let (piece, left) = rest.split_at_mut(chunk);
            open.segment.file.write_at(piece, open.at)?;
            let mut piece = &*piece;
            while !piece.is_empty() {
                written(order, u32::try_from(open.at).unwrap_or(u32::MAX));
                let bytes = record::bytes_of(piece);
                open.at += bytes as u64;
                sequence += 1;
                piece = &piece[bytes..];
            }
            self.open = Some(open);
            self.written_to = sequence;
            rest = left;
        }
        Ok(())
    }

    /// The open segment if a record of `bytes` fits, else a new one that begins with `sequence`.
    fn room_for(&mut self, bytes: u64, sequence: u64, order: u64) -> io::Result<Open<D::File>> {
        if let Some(open) = &self.open
            && open.at + bytes <= open.room
        {
            return Ok(open.clone());
        }
        self.close();
        let (nonce, follows) = (fresh_nonce()?, self.written_to);
        let head = Head {
            run: self.track.run,
            shard: self.track.shard,
            first: sequence,
            follows,
            nonce,
            names: self.track.names.clone(),
        }
        .encode();
        let records_at = head.len() as u64;
        let name = segment_name(sequence);
        let (file, room) = self.file_for(&name, records_at + bytes)?;
        if let Err(why) = file.write_at(&head, 0) {
            let _as_well_as_we_can = self.disk.remove(&name);
            return Err(why);
        }
        let segment = Arc::new(Segment {
            name,
            first: sequence,
            opened: order,
            follows,
            nonce: Some(nonce),
            records_at,
            ends_at: AtomicU64::new(NONE),
            file,
        });
        let mut segments = self.track.segments.load().to_vec();
        segments.push(Arc::clone(&segment));
        self.track.segments.store(Arc::new(segments));
        self.unsynced.push(Arc::clone(&segment));
        self.made += 1;
        let open = Open {
            segment,
            nonce,
            at: records_at,
            room,
        };
        self.open = Some(open.clone());
        Ok(open)
    }

    /// A file for a segment of the usual size, or of at least `least` bytes; and its size. On a disk that
    /// is almost full it is as large as there is room for.
    fn file_for(&mut self, name: &str, least: u64) -> io::Result<(Arc<D::File>, u64)> {
        let is_calm = self.track.segments.load().len() <= limits::CALM_SEGMENTS_MAX;
        let usual = match is_calm {
            true => self.calm_bytes(),
            false => self.segment_bytes,
        };
        let mut bytes = usual.max(least);
        if bytes == self.calm_bytes()
            && let Some((spare, file)) = self.spares.take()
        {
            match self.disk.recycle(&file, &spare, name, bytes) {
                Ok(()) => {
                    if is_calm {
                        file.warm(bytes);
                    }
                    return Ok((file, bytes));
                }
                Err(_) => drop(self.disk.remove(name).or_else(|_| self.disk.remove(&spare))),
            }
        }
        loop {
            match self.disk.create(name, bytes) {
                Ok(file) => return Ok((Arc::new(file), bytes)),
                Err(why) if why.kind() == io::ErrorKind::StorageFull => {
                    if self.spares.make_room() {
                        // Its space is there now.
                    } else if bytes / 2 >= least.max(limits::SET_SEGMENT_BYTES_MIN) {
                        bytes /= 2;
                    } else {
                        return Err(why);
                    }
                }
                Err(why) => return Err(why),
            }
        }
    }

    /// Writes no more to the open segment, and gives back what it does not use.
    pub fn close(&mut self) {
        if let Some(Open {
            segment, at, room, ..
        }) = self.open.take()
        {
            segment.ends_at.store(at, Ordering::Release);
            if room - at > self.segment_bytes / UNCUT {
                let _costs_only_space = segment.file.cut(at);
            }
        }
    }

    /// Whether anything was ever written.
    pub fn has_segments(&self) -> bool {
        !self.track.segments.load().is_empty()
    }

    /// Says on file where backends stand, if it was not said yet, and that records below the sequence `end` are on
    /// disk, but for those that no backend needs.
    ///
    /// # Errors
    /// What the disk says; then the last ones are still there.
    pub fn save(&mut self, marks: &[Mark], end: u64) -> io::Result<()> {
        if self.cursors.is_none() {
            let bytes = cursors::file_bytes(marks.len()) as u64;
            let file = Arc::new(self.disk.create(cursors::FILE, bytes)?);
            self.made += 1;
            self.track.keep_progress_in(&file);
            self.cursors = Some(Cursors::new(file, None));
        }
        self.cursors
            .as_mut()
            .map_or(Ok(()), |cursors| cursors.save(marks, end))
    }

    /// Lets go of segments that hold nothing from `needed` on; those that begin with an order before `young`
    /// only if they hold nothing from `safe` on. Returns how many went.
    pub fn release(&mut self, needed: u64, safe: u64, young: u64) -> usize {
        let segments = self.track.segments.load_full();
        let last_behind = segments.len().saturating_sub(1);
        let gone = segments[..]
            .windows(2)
            .take_while(|pair| {
                let is_young = pair[0].opened >= young;
                pair[1].first <= if is_young { needed } else { needed.min(safe) }
            })
            .count()
            .min(last_behind);
        if gone == 0 {
            return 0;
        }
        self.track
            .segments
            .store(Arc::new(segments[gone..].to_vec()));
        for segment in &segments[..gone] {
            self.unsynced.retain(|left| left.first != segment.first);
            let bytes = segment.ends_at.load(Ordering::Acquire);
            let is_usual = bytes <= self.calm_bytes() && bytes > self.calm_bytes() / 2;
            self.spares
                .add(segment.name.clone(), &segment.file, is_usual);
        }
        gone
    }

    /// Bytes of a segment while little is owed.
    fn calm_bytes(&self) -> u64 {
        self.segment_bytes.min(limits::CALM_SEGMENT_BYTES)
    }
}

/// What a closed segment need not give back: this part of its size. Cutting a file and making it longer
/// again costs more than it is worth.
const UNCUT: u64 = 8;

/// The name of the segment that begins with this record.
pub fn segment_name(first: u64) -> String {
    format!("{first:016x}.seg")
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::Log;
    use crate::spool::disk::Place;
    use crate::spool::record::Parts;
    use crate::spool::track::Track;

    /// Three records, each in a segment of its own, with the orders 10, 20 and 30.
    pub(in crate::spool) fn three() -> Log<Place> {
        let track = Arc::new(Track::new(1, 0, vec!["a".into()]));
        let mut log = Log::new(Place::Memory, track, 64 * 1024);
        let body = [b'x'; 40 * 1024];
        let parts = Parts {
            kind: 0,
            joinable: true,
            targets: &[0, 0],
            query: b"db=x",
            headers: b"",
            authorization: b"",
            body: &body,
        };
        for sequence in 0..3 {
            log.append(sequence, &parts);
            log.flush(sequence, 10 * (sequence + 1), 0, |_, _| {})
                .unwrap();
        }
        log
    }

    #[test]
    fn what_is_old_goes_only_once_marks_are_safe() {
        assert_eq!(three().release(2, 0, 0), 2, "a power cut may take all");
        assert_eq!(three().release(2, 0, u64::MAX), 0, "it may take nothing");
        assert_eq!(three().release(2, 1, u64::MAX), 1);
        assert_eq!(three().release(2, 2, u64::MAX), 2);
        assert_eq!(
            three().release(1, 2, u64::MAX),
            1,
            "somebody needs the second"
        );
        let mut log = three();
        assert_eq!(
            log.release(2, 0, 20),
            0,
            "what is young waits for what is old"
        );
        assert_eq!(log.release(2, 1, 20), 2);
    }
}
