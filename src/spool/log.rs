//! One shard's log: records gathered in a turn go to disk in one write, into segments of a fixed
//! size whose space is taken beforehand.
//!
//! - A record never spans segments; one that is larger than a segment has one of its own.
//! - A segment that is full is cut to what it holds. Only the last one is written to.
//! - A segment goes once every backend's cursor has passed it. A few files are kept and written anew:
//!   their pages and blocks are there already, which is most of what a write costs. What is left in
//!   them of old records has sequences below the segment's first, and is no record.
//! - What could not be written is forgotten, and its segment is closed: what follows begins a new
//!   one, so a torn write never stands before a good record in the same file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits;
use crate::spool::disk::{Disk, DiskFile};
use crate::spool::record::{self, Parts, VOID};
use crate::spool::segment::Head;
use crate::spool::track::{NONE, Segment, Track};

/// The log that a shard writes to.
pub struct Log<D: Disk> {
    disk: Arc<D>,
    track: Arc<Track<D::File>>,
    segment_bytes: u64,
    /// The segment that is written to.
    open: Option<Open<D::File>>,
    /// Records that wait for the flush, one behind the other.
    buffer: Vec<u8>,
    /// Files that are to be written anew.
    spares: Vec<(String, Arc<D::File>)>,
    /// Segments that are not safe from a power cut yet.
    unsynced: Vec<Arc<Segment<D::File>>>,
    /// Files made, and how many of their names are safe from a power cut.
    made: u64,
    made_safe: u64,
}

struct Open<F> {
    segment: Arc<Segment<F>>,
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
        Self {
            disk: Arc::new(disk),
            track,
            segment_bytes,
            open: None,
            buffer: Vec::new(),
            spares: Vec::new(),
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

    /// Bytes that wait for the flush.
    pub fn gathered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether anything waits for the flush.
    pub fn is_dirty(&self) -> bool {
        !self.buffer.is_empty()
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
            let bytes = record::seal(rest, order, wall_ms);
            let mut open = self.room_for(bytes as u64, sequence)?;
            // What fits goes in one write.
            let mut chunk = bytes;
            while chunk < rest.len() {
                let more = record::seal(&mut rest[chunk..], order, wall_ms);
                if open.at + (chunk + more) as u64 > open.room {
                    break;
                }
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
            rest = left;
        }
        Ok(())
    }

    /// The open segment if a record of `bytes` fits, else a new one that begins with `sequence`.
    fn room_for(&mut self, bytes: u64, sequence: u64) -> io::Result<Open<D::File>> {
        if let Some(open) = &self.open
            && open.at + bytes <= open.room
        {
            return Ok(open.clone());
        }
        self.close();
        let head = Head {
            run: self.track.run,
            shard: self.track.shard,
            first: sequence,
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
            at: records_at,
            room,
        };
        self.open = Some(open.clone());
        Ok(open)
    }

    /// A file for a segment of the usual size, or of at least `least` bytes; and its size. On a disk that
    /// is almost full it is as large as there is room for.
    fn file_for(&mut self, name: &str, least: u64) -> io::Result<(Arc<D::File>, u64)> {
        let mut bytes = self.segment_bytes.max(least);
        if bytes == self.segment_bytes
            && let Some((spare, file)) = self.spares.pop()
        {
            match self.disk.recycle(&file, &spare, name, bytes) {
                Ok(()) => return Ok((file, bytes)),
                Err(_) => drop(self.disk.remove(name).or_else(|_| self.disk.remove(&spare))),
            }
        }
        loop {
            match self.disk.create(name, bytes) {
                Ok(file) => return Ok((Arc::new(file), bytes)),
                Err(why) if why.kind() == io::ErrorKind::StorageFull => {
                    if let Some((spare, _)) = self.spares.pop() {
                        let _its_space_is_wanted = self.disk.remove(&spare);
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
        if let Some(Open { segment, at, .. }) = self.open.take() {
            segment.ends_at.store(at, Ordering::Release);
            let _costs_only_space = segment.file.cut(at);
        }
    }

    /// Marks a record, refused to its client, as owed to nobody.
    ///
    /// # Errors
    /// What the disk says: then it may be replayed after a restart.
    pub fn void(&self, sequence: u64, offset: u32) -> io::Result<()> {
        match self.track.segment_of(sequence) {
            Some(segment) => segment.file.write_at(VOID, u64::from(offset)),
            None => Ok(()),
        }
    }

    /// Removes segments that hold nothing from `needed` on. Returns how many went.
    pub fn release(&mut self, needed: u64) -> usize {
        let segments = self.track.segments.load_full();
        let last_behind = segments.len().saturating_sub(1);
        let gone = segments[..]
            .windows(2)
            .take_while(|pair| pair[1].first <= needed)
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
            self.spare(segment);
        }
        gone
    }

    /// Keeps the file of a segment that is not needed, or removes it.
    fn spare(&mut self, segment: &Segment<D::File>) {
        let bytes = segment.ends_at.load(Ordering::Acquire);
        let is_usual = bytes <= self.segment_bytes && bytes > self.segment_bytes / 2;
        if is_usual && self.spares.len() < limits::SPARE_SEGMENTS_MAX {
            let name = format!("{SPARE}{:016x}", segment.first);
            let file = &segment.file;
            if self.disk.recycle(file, &segment.name, &name, bytes).is_ok() {
                self.spares.push((name, Arc::clone(file)));
                return;
            }
        }
        let _found_at_the_next_start = self.disk.remove(&segment.name);
    }

    /// What a sync has to make safe: call [`Syncing::run`] where waiting is allowed, then
    /// [`Log::synced`]. Once per sync.
    pub fn syncing(&self) -> Syncing<D> {
        let with_state =
            |segment: &Arc<Segment<D::File>>| (Arc::clone(segment), segment.is_closed());
        Syncing {
            up_to: self.track.end(),
            disk: Arc::clone(&self.disk),
            segments: self.unsynced.iter().map(with_state).collect(),
            made: self.made,
            names: self.made > self.made_safe,
        }
    }

    /// A sync has ended well: what was closed when it began needs no other.
    pub fn synced(&mut self, done: &Syncing<D>) {
        self.made_safe = self.made_safe.max(done.made);
        let is_done = |segment: &Arc<Segment<D::File>>| {
            let mut synced = done.segments.iter();
            synced.any(|(synced, closed)| *closed && synced.first == segment.first)
        };
        self.unsynced.retain(|segment| !is_done(segment));
    }
}

/// A sync under way.
pub struct Syncing<D: Disk> {
    disk: Arc<D>,
    /// With each, whether it was closed when the sync began.
    segments: Vec<(Arc<Segment<D::File>>, bool)>,
    made: u64,
    names: bool,
    /// The sequence behind the last record that it makes safe.
    pub up_to: u64,
}

impl<D: Disk> Syncing<D> {
    /// Waits for the disk. Never on a shard.
    ///
    /// # Errors
    /// What the disk says.
    pub fn run(&self) -> io::Result<()> {
        for (segment, _) in &self.segments {
            segment.file.sync()?;
        }
        if self.names {
            self.disk.sync_names()?;
        }
        Ok(())
    }
}

/// What the name of a file that is to be written anew begins with.
pub const SPARE: &str = "spare-";

/// The name of the segment that begins with this record.
pub fn segment_name(first: u64) -> String {
    format!("{first:016x}.seg")
}
