//! How a shard lets go of what everybody has.
//!
//! ```text
//!  tick ─▶ what is settled on all shards ─▶ marks, on file ─▶ segments: written anew, or removed
//! ```
//!
//! A start that follows a kill delivers again what comes behind the marks. That is harmless as long as it
//! is *all* that is newer than something: what was overwritten since is overwritten again. So before a
//! log lets go of a record, marks on file say that everybody has everything up to it, of all shards; and
//! the highest marks of a run count for all its logs (see `Track::had`).
//!
//! A power cut may take the marks of the last moments. What it may take anyway, since it is that young, is
//! let go at once; older records wait until a sync has made the marks safe.

use crate::spool::board::Mode;
use crate::spool::cursors::Mark;
use crate::spool::disk::Disk;
use crate::spool::keeper::Keeper;
use crate::spool::spares::Doomed;
use crate::spool::track::{LEVEL, Track};

impl<D: Disk> Keeper<D> {
    /// Housekeeping: lets go of what is settled, on all shards and on disk. `order` is now, on the
    /// clock of [`Keeper::flush`]. Once per tick.
    pub fn tick(&self, order: u64) {
        self.look();
        self.let_go(order);
        self.wake();
    }

    /// Lets go of what is settled, so that its files are written anew while the CPU still has them in its
    /// caches. Once per tick and once per segment.
    pub(super) fn let_go(&self, order: u64) {
        self.settle(order);
        let needed = self.needed(self.ledger.borrow().first());
        let log = &mut *self.log.borrow_mut();
        let mut safe = self.safe.get();
        if self.rules.lasting && log.has_segments() {
            let marks = &mut *self.marks.borrow_mut();
            self.mark(marks);
            match log.save(marks, self.synced.get()) {
                Ok(()) => self.marked.set(needed),
                Err(_) => safe = needed, // the disk is failing, and what it forgets is counted elsewhere
            }
        }
        let young = match self.rules.power_loss_max {
            None => 0,
            Some(age) => order.saturating_sub(age),
        };
        log.release(needed, safe, young);
    }

    /// Takes note of what nobody can miss any more.
    fn settle(&self, order: u64) {
        let flushed = self.flushed.get();
        let ledger = &mut *self.ledger.borrow_mut();
        let level = |door: u16| {
            let outputs = &self.doors[usize::from(door)];
            let bits = outputs.outputs.iter().enumerate();
            bits.fold(0, |mask, (i, id)| {
                mask | u64::from(self.track.cursor(id.0) == LEVEL) << i
            }) & outputs.spooled
        };
        let unsettled = ledger.unsettled(flushed, level);
        // What is not flushed yet will have a later order than anything flushed.
        let own = unsettled.unwrap_or_else(|| order.saturating_sub(1));
        self.board.horizons[self.shard].set(own);
        // In this order: who is live after the horizon was read has all before it. If it was owing when a
        // shard looked last, all that is older came before the hand-over.
        let mut horizon = self.board.horizon();
        let read = horizon;
        for (name, desk) in self.board.desks.iter().enumerate() {
            if desk.state().mode() == Mode::Live {
                self.track.has_had(name, read);
            } else if self.track.cursor(name) == LEVEL {
                horizon = horizon.min(self.track.had(name)); // others may know already what it misses
            }
        }
        ledger.release(horizon);
        self.track.publish_level(ledger.first());
    }

    /// Where each backend stands. What all shards together owe it is kept account of by the first.
    fn mark(&self, marks: &mut Vec<Mark>) {
        marks.resize(self.board.desks.len(), Mark::default());
        for ((name, desk), mark) in self.board.desks.iter().enumerate().zip(marks) {
            let now = mark_of(&self.track, name);
            if now.next != mark.next {
                *mark = now; // time alone makes no news: nothing is written while nothing comes
            }
            if self.shard == 0 {
                (mark.records, mark.bytes) = desk.owed();
            }
        }
    }

    /// The sequence of the first record that somebody may need.
    fn needed(&self, ledger_first: u64) -> u64 {
        let cursors = (0..self.board.desks.len()).map(|name| self.track.cursor(name));
        cursors.fold(ledger_first, u64::min)
    }

    /// Files that are to be removed, if there are any. Once per tick.
    pub fn doomed(&self) -> Option<Doomed<D>> {
        self.log.borrow_mut().spares.doomed()
    }
}

/// Where a backend would begin after a kill in a log that is written to, and what it has by then of all logs
/// of the run: in this order, since it may go on meanwhile.
pub fn mark_of<F>(track: &Track<F>, name: usize) -> Mark {
    let next = track.restart_at(name);
    Mark {
        next,
        had: track.had(name),
        ..Mark::default()
    }
}

/// The same in a log of an earlier start.
pub fn old_mark_of<F>(track: &Track<F>, name: usize) -> Mark {
    let next = track.cursor(name);
    Mark {
        next,
        ..mark_of(track, name)
    }
}
