//! What has to reach the disk so that no power cut takes what was promised: the marks, always; records, only
//! if somebody may need them still.
//!
//! While all backends take writes nobody needs what is older than a moment, and the marks say so: then
//! hardly anything is written to the disk at all.

use std::io;
use std::sync::Arc;

use crate::spool::cursors::Cursors;
use crate::spool::disk::{Disk, DiskFile};
use crate::spool::log::Log;
use crate::spool::track::Segment;

impl<D: Disk> Log<D> {
    /// What a sync has to do for the records below `up_to`, of which those below `needed` are needed by
    /// nobody: call [`Syncing::run`] where waiting is allowed, then [`Log::synced`]. Once per sync.
    pub fn syncing(&mut self, needed: u64, up_to: u64) -> Syncing<D> {
        let marks = match &mut self.cursors {
            Some(cursors) if !cursors.is_safe() => Some(Arc::clone(cursors.syncing())),
            _ => None,
        };
        let with_state =
            |segment: &Arc<Segment<D::File>>| (Arc::clone(segment), segment.is_closed());
        let is_needed = |segment: &&Arc<Segment<D::File>>| needed < up_to && segment.first < up_to;
        let segments: Vec<_> = self
            .unsynced
            .iter()
            .filter(is_needed)
            .map(with_state)
            .collect();
        Syncing {
            needed,
            up_to,
            disk: Arc::clone(&self.disk),
            names: self.made > self.made_safe,
            made: self.made,
            marks,
            segments,
        }
    }

    /// Whether all that was said of where backends stand is safe from a power cut.
    pub fn has_safe_marks(&self) -> bool {
        self.cursors.as_ref().is_none_or(Cursors::is_safe)
    }

    /// A sync has ended well: what was closed when it began needs no other.
    pub fn synced(&mut self, done: &Syncing<D>) {
        if done.has_work() {
            self.made_safe = self.made_safe.max(done.made);
        }
        if let (Some(_), Some(cursors)) = (&done.marks, &mut self.cursors) {
            cursors.synced();
        }
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
    /// Where backends stand.
    marks: Option<Arc<D::File>>,
    /// Marks on file said that nobody needs what is below this sequence.
    pub needed: u64,
    /// The sequence behind the last record that it makes safe.
    pub up_to: u64,
}

impl<D: Disk> Syncing<D> {
    /// Whether the disk has to do anything.
    pub fn has_work(&self) -> bool {
        !self.segments.is_empty() || self.marks.is_some()
    }

    /// Waits for the disk. Never on a shard.
    ///
    /// # Errors
    /// What the disk says.
    pub fn run(&self) -> io::Result<()> {
        if let Some(file) = &self.marks {
            file.sync()?;
        }
        for (segment, _) in &self.segments {
            segment.file.sync()?;
        }
        if self.names {
            self.disk.sync_names()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::spool::cursors::Mark;
    use crate::spool::disk::Place;
    use crate::spool::log::Log;
    use crate::spool::log::tests::three;

    #[test]
    fn a_sync_has_nothing_to_do_for_what_nobody_needs() {
        let mut log = three();
        let files = |log: &mut Log<Place>, needed, up_to| log.syncing(needed, up_to).segments.len();
        assert_eq!(files(&mut log, 0, 3), 3);
        assert_eq!(files(&mut log, 0, 2), 2, "what came later has time");
        assert_eq!(
            files(&mut log, 1, 2),
            2,
            "others let go of what is needed no more"
        );
        assert_eq!(files(&mut log, 2, 2), 0);
        assert!(!log.syncing(3, 3).has_work());
        assert!(log.syncing(2, 3).has_work());
        let nothing = log.syncing(3, 3);
        log.synced(&nothing);
        assert_eq!(files(&mut log, 0, 3), 3, "nothing was made safe");
        let all = log.syncing(0, 3);
        log.synced(&all);
        assert_eq!(files(&mut log, 0, 3), 1, "the open one");
        log.save(&[Mark::default()], 0).unwrap();
        let marks = log.syncing(3, 3);
        assert!(marks.has_work() && !log.has_safe_marks());
        log.synced(&marks);
        assert!(log.has_safe_marks());
    }
}
