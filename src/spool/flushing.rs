//! How what a shard keeps gets to its disk: gathered for a turn, written at once, synced off the shard.
//!
//! A disk that is full or failing costs nobody an answer: what is not written goes on without being
//! kept, operators hear of it, and the disk is tried again.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::task::Poll;

use futures_lite::future::poll_fn;

use crate::clock::Clock;
use crate::spool::disk::Disk;
use crate::spool::door::DiskChange;
use crate::spool::keeper::Keeper;
use crate::spool::log::Log;
use crate::spool::record::Parts;
use crate::spool::syncing::Syncing;

/// What a flush is stamped with: the order, read now from the clock that all shards share, and
/// milliseconds since 1970.
pub fn stamp(clock: &Clock) -> (u64, u64) {
    clock.read();
    let wall_ms = u64::try_from(clock.wall_ns() / 1_000_000).unwrap_or(0);
    (clock.now().0, wall_ms)
}

impl<D: Disk> Keeper<D> {
    /// Waits until something is to be flushed.
    pub async fn dirty(&self) {
        poll_fn(|cx| {
            if self.log.borrow().is_dirty() || *self.untold.borrow() != DiskChange::None {
                return Poll::Ready(());
            }
            *self.flusher.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Writes what was kept since the last flush. `order` is read from a clock that all shards share,
    /// after the writes came and before their clients hear. Once per turn.
    pub fn flush(&self, order: u64, wall_ms: u64) -> DiskChange {
        self.flush_early(order, wall_ms);
        self.untold.replace(DiskChange::None)
    }

    /// The same in the middle of a turn, so that what is gathered is still in the CPU's caches. What
    /// changed about the disk is told with the next flush.
    pub(super) fn flush_early(&self, order: u64, wall_ms: u64) {
        if !self.log.borrow().is_dirty() {
            return;
        }
        let order = self.next_order(order, 0);
        self.put(|log, first, written| {
            let mut sequence = first;
            log.flush(first, order, wall_ms, |order, offset| {
                written(sequence, order, offset);
                sequence += 1;
            })
        });
    }

    /// Writes the record that was entered last, a large one, when nothing else waits.
    pub(super) fn write_through(&self, sequence: u64, parts: &Parts<'_>, stamp: (u64, u64)) {
        let order = self.next_order(stamp.0, parts.record_bytes());
        self.put(|log, _, written| {
            log.write_through(sequence, parts, (order, stamp.1), |offset| {
                written(sequence, order, offset);
            })
        });
    }

    /// Before something is written: lets go of what is settled if `more` bytes behind what waits need a
    /// new segment. The order of what is written.
    fn next_order(&self, order: u64, more: usize) -> u64 {
        if self.log.borrow().is_full(more) {
            self.let_go(order);
        }
        let order = order.max(self.last_order.get() + 1);
        self.last_order.set(order);
        order
    }

    /// Has all that was entered written by `write`, and takes note of what was.
    fn put(
        &self,
        write: impl FnOnce(&mut Log<D>, u64, &mut dyn FnMut(u64, u64, u32)) -> std::io::Result<()>,
    ) {
        let first = self.flushed.get();
        let ledger = &mut *self.ledger.borrow_mut();
        let next = ledger.next();
        let mut written = first;
        let flushed = write(
            &mut self.log.borrow_mut(),
            first,
            &mut |sequence, order, offset| {
                ledger.written(sequence, order, offset);
                written = sequence + 1;
            },
        );
        for lost in written..next {
            if let Some(entry) = ledger.lost(lost) {
                self.count_unkept(&self.doors[usize::from(entry.door)], entry.missed);
            }
        }
        self.track.publish_undecided(ledger.undecided(next));
        self.track.end.store(next, Ordering::Release);
        self.flushed.set(next);
        let was_failing = self.failing.replace(self.sync_failed.get());
        let change = match (flushed, was_failing) {
            (Ok(()), _) if self.sync_failed.get() => DiskChange::None, // the next sync decides
            (Ok(()), false) => DiskChange::None,
            (Ok(()), true) => DiskChange::Recovered,
            (Err(why), was) => {
                self.failing.set(true);
                match was {
                    true => DiskChange::None,
                    false => DiskChange::Failed(why.to_string()),
                }
            }
        };
        self.trying.set(false);
        self.board.failing[self.shard].set(u64::from(self.failing.get()));
        if change != DiskChange::None {
            *self.untold.borrow_mut() = change;
        }
        self.wake();
    }

    /// After a failure: lets the next write try the disk. Once per `SPOOL_RETRY`.
    pub fn try_again(&self) {
        self.trying.set(self.failing.get());
    }

    /// Waits until a kept write is on disk, so that no kill can lose it.
    pub async fn flushed(&self, sequence: u64) {
        self.passed(&self.flushed, sequence).await;
    }

    /// Waits until a kept write is as safe as a client is promised before it hears success.
    pub async fn safe(&self, sequence: u64) {
        if self.rules.sync_first {
            self.passed(&self.synced, sequence).await;
        }
    }

    async fn passed(&self, mark: &Cell<u64>, sequence: u64) {
        while mark.get() <= sequence && !self.failing.get() {
            self.news().await;
        }
    }

    /// Waits until something is not safe from a power cut.
    pub async fn unsynced(&self) {
        let is_off = || self.failing.get() && !self.sync_failed.get();
        // A disk that is full is synced for its marks: they let go of files, which makes room.
        let has_marks = || !self.log.borrow().has_safe_marks();
        while !has_marks() && (self.synced.get() >= self.flushed.get() || is_off()) {
            self.news().await;
        }
    }

    /// The sequence behind the last record that was written.
    pub fn end(&self) -> u64 {
        self.flushed.get()
    }

    /// What a sync has to do so that no power cut loses a record below the sequence `up_to`: no more than
    /// to make the marks safe, for what everybody has by now.
    pub fn syncing(&self, up_to: u64) -> Syncing<D> {
        let needed = match self.sync_failed.get() {
            true => 0, // whether it can again is to be seen
            false => self.marked.get(),
        };
        self.log.borrow_mut().syncing(needed, up_to)
    }

    /// A sync has ended; what the disk said.
    pub fn synced(&self, done: &Syncing<D>, result: std::io::Result<()>) -> DiskChange {
        let failed_before = self.sync_failed.replace(result.is_err());
        let change = match result {
            Ok(()) => {
                self.log.borrow_mut().synced(done);
                self.synced.set(self.synced.get().max(done.up_to));
                self.safe.set(self.safe.get().max(done.needed));
                match failed_before {
                    true => DiskChange::Recovered,
                    false => DiskChange::None,
                }
            }
            Err(_) if failed_before || self.failing.get() => DiskChange::None,
            Err(why) => {
                self.log.borrow_mut().close(); // what a disk did not sync is not written behind
                DiskChange::Failed(why.to_string())
            }
        };
        if change != DiskChange::None {
            let failing = self.sync_failed.get();
            self.failing.set(failing);
            self.board.failing[self.shard].set(u64::from(failing));
        }
        self.wake();
        change
    }
}
