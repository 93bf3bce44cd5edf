//! One shard's spool: a write is kept before it is sent, and what came of it is entered.
//!
//! ```text
//!  keep ─▶ buffer ─▶ flush, once a turn ─▶ the sends ─▶ heard ─┬─ accepted by one: owed to who missed it
//!            └ gates: who is sent it, who is owed it           └─ by none: void
//! ```
//!
//! The gates are read when a write is kept, and never again: so a shard's writes, in the order of
//! their sequences, change from "sent" to "tail" to "held" at clean cuts, and the sequence of a cut is
//! what the shard tells the replaying task.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use futures_lite::future::poll_fn;

use crate::limits;
use crate::plan::{BackendId, WhenFull};
use crate::spool::board::{Board, Mode, State};
use crate::spool::disk::Disk;
use crate::spool::door::{DiskChange, Door, Gates, Kept, Rules};
use crate::spool::ledger::{Change, Entry, Fate, Ledger};
use crate::spool::log::{Log, Syncing};
use crate::spool::record::Parts;
use crate::spool::track::{LEVEL, Track};

/// One shard's spool.
pub struct Keeper<D: Disk> {
    shard: usize,
    board: Arc<Board>,
    rules: Rules,
    doors: Vec<Door>,
    /// Per backend: its listener, its bit, and how much it may be owed.
    places: Vec<(u16, u64, u64)>,
    log: RefCell<Log<D>>,
    track: Arc<Track<D::File>>,
    ledger: RefCell<Ledger>,
    seen: RefCell<Vec<State>>,
    /// Per backend: sends that are under way or held.
    outstanding: RefCell<Vec<usize>>,
    last_order: Cell<u64>,
    flushed: Cell<u64>,
    synced: Cell<u64>,
    failing: Cell<bool>,
    trying: Cell<bool>,
    waiters: RefCell<Vec<Waker>>,
    flusher: RefCell<Option<Waker>>,
}

impl<D: Disk> Keeper<D> {
    /// A shard's spool over an empty log; `owed_max` is how much each backend may be owed, in bytes.
    pub fn new(
        shard: usize,
        board: Arc<Board>,
        doors: Vec<Door>,
        owed_max: &[u64],
        rules: Rules,
        log: Log<D>,
    ) -> Rc<Self> {
        let mut places = vec![(0, 0, 0); owed_max.len()];
        for (d, door) in doors.iter().enumerate() {
            let number = u16::try_from(d).expect("limits: LISTENERS_MAX");
            for (i, id) in door.outputs.iter().enumerate() {
                places[id.0] = (number, 1 << i, owed_max[id.0]);
            }
        }
        let seen = board.desks.iter().map(|desk| desk.state()).collect();
        let keeper = Rc::new(Self {
            shard,
            rules,
            doors,
            outstanding: RefCell::new(vec![0; places.len()]),
            places,
            track: Arc::clone(log.track()),
            log: RefCell::new(log),
            ledger: RefCell::default(),
            seen: RefCell::new(seen),
            board,
            last_order: Cell::new(0),
            flushed: Cell::new(0),
            synced: Cell::new(0),
            failing: Cell::new(false),
            trying: Cell::new(false),
            waiters: RefCell::default(),
            flusher: RefCell::default(),
        });
        keeper.look();
        keeper
    }

    /// What others see of the log.
    pub fn track(&self) -> &Arc<Track<D::File>> {
        &self.track
    }

    /// Keeps a write of listener `door`, whose targets this fills in. Once per request.
    pub fn keep(&self, door: u16, parts: &Parts<'_>) -> Kept {
        let outputs = &self.doors[usize::from(door)];
        let gates = self.gates(outputs);
        if self.rules.when_full == WhenFull::Refuse && self.is_full(outputs, gates) {
            return Kept::Full;
        }
        if outputs.spooled == 0 || (self.failing.get() && !self.trying.get()) {
            self.count_unkept(outputs, gates.tail);
            return Kept::Not(Gates {
                held: 0,
                tail: gates.tail | gates.held,
                ..gates
            });
        }
        let nobody = gates.send | gates.held == 0;
        if nobody && !self.rules.accept_when_all_fail {
            return Kept::Nobody;
        }
        let ledger = &mut *self.ledger.borrow_mut();
        if ledger.len() >= limits::LEDGER_ENTRIES_MAX {
            return Kept::Full;
        }
        let parts = Parts {
            targets: &outputs.targets,
            ..*parts
        };
        let entry = Entry {
            order: 0,
            offset: 0,
            body_bytes: u32::try_from(parts.body.len()).unwrap_or(u32::MAX),
            door,
            fate: if nobody { Fate::Accepted } else { Fate::Open },
            waiting: gates.send | gates.held,
            missed: gates.tail,
        };
        let sequence = ledger.enter(entry);
        self.log.borrow_mut().append(sequence, &parts);
        if nobody {
            let owed = gates.tail;
            self.owe(&entry, Change { owed, void: false });
        }
        self.count_outstanding(outputs, gates.send | gates.held, 1);
        if let Some(flusher) = self.flusher.take() {
            flusher.wake();
        }
        Kept::As(sequence, gates)
    }

    fn gates(&self, outputs: &Door) -> Gates {
        let mut gates = Gates::default();
        for (i, id) in outputs.outputs.iter().enumerate() {
            let bit = 1 << i;
            if outputs.closed & bit != 0 {
                continue;
            }
            match self.look_at(*id).mode() {
                _ if outputs.spooled & bit == 0 => gates.send |= bit,
                Mode::Live => gates.send |= bit,
                Mode::Owing => gates.tail |= bit,
                Mode::HandingOver => gates.held |= bit,
            }
        }
        gates
    }

    fn is_full(&self, outputs: &Door, gates: Gates) -> bool {
        outputs.outputs.iter().enumerate().any(|(i, id)| {
            gates.tail & (1 << i) != 0 && self.board.desks[id.0].owed().1 >= self.places[id.0].2
        })
    }

    fn count_outstanding(&self, outputs: &Door, mut mask: u64, by: isize) {
        let outstanding = &mut *self.outstanding.borrow_mut();
        while mask != 0 {
            let id = outputs.outputs[mask.trailing_zeros() as usize];
            outstanding[id.0] = outstanding[id.0].saturating_add_signed(by);
            mask &= mask - 1;
        }
    }

    fn count_unkept(&self, outputs: &Door, mask: u64) {
        for (i, id) in outputs.outputs.iter().enumerate() {
            if mask & outputs.spooled & (1 << i) != 0 {
                self.board.desks[id.0].rows[self.shard].unkept.add(1);
            }
        }
    }

    /// A backend has spoken of a kept write, or is not asked any more: bit `backend` of its listener.
    pub fn heard(&self, sequence: u64, backend: u64, accepted: bool) {
        let keep_all = self.rules.accept_when_all_fail;
        let (entry, change) = {
            let ledger = &mut *self.ledger.borrow_mut();
            let Some(entry) = ledger.entry(sequence).copied() else {
                return;
            };
            (entry, ledger.heard(sequence, backend, accepted, keep_all))
        };
        if entry.waiting & backend != 0 {
            self.count_outstanding(&self.doors[usize::from(entry.door)], backend, -1);
        }
        if change.void {
            self.void(sequence, entry.offset);
        }
        self.owe(&entry, change);
        self.publish_undecided();
        if entry.waiting & backend != 0 {
            let id = self.doors[usize::from(entry.door)].outputs[backend.trailing_zeros() as usize];
            self.try_quiet(id);
        }
    }

    fn void(&self, sequence: u64, offset: u32) {
        // A record that cannot be voided may be replayed after a restart: the disk is failing anyway.
        let _may_be_replayed = self.log.borrow().void(sequence, offset);
    }

    fn owe(&self, entry: &Entry, change: Change) {
        let door = &self.doors[usize::from(entry.door)];
        let mut owed = change.owed & door.spooled;
        while owed != 0 {
            let id = door.outputs[owed.trailing_zeros() as usize];
            let desk = &self.board.desks[id.0];
            desk.rows[self.shard].records.add(1);
            desk.rows[self.shard].bytes.add(u64::from(entry.body_bytes));
            if desk.owe() {
                self.board.ring();
                self.look_at(id);
            }
            owed &= owed - 1;
        }
    }

    /// Whether a write that was kept counts by now, and for how many it is still open.
    pub fn fate(&self, sequence: u64) -> Option<Fate> {
        self.ledger.borrow().entry(sequence).map(|entry| entry.fate)
    }

    // ---- The desks -----------------------------------------------------------------------------

    /// Takes note of what has changed about the backends. Once per call of the board, and per tick.
    pub fn look(&self) {
        for index in 0..self.places.len() {
            let state = self.look_at(BackendId(index));
            let row = &self.board.desks[index].rows[self.shard];
            if row.seen.get() != state.number() {
                self.note(BackendId(index), state);
            }
        }
    }

    fn look_at(&self, id: BackendId) -> State {
        let state = self.board.desks[id.0].state();
        if self.seen.borrow()[id.0] != state {
            self.note(id, state);
        }
        state
    }

    fn note(&self, id: BackendId, state: State) {
        self.seen.borrow_mut()[id.0] = state;
        let row = &self.board.desks[id.0].rows[self.shard];
        let (door, bit, _) = self.places[id.0];
        match state.mode() {
            Mode::HandingOver => row.tail.set(self.ledger.borrow().next()),
            Mode::Live => self
                .ledger
                .borrow_mut()
                .delivered(door, bit, row.tail.get()),
            Mode::Owing => {}
        }
        row.seen.set(state.number());
        self.try_quiet(id);
        self.wake();
    }

    /// Once none of this shard's sends to an owing backend is under way: from where it may lack
    /// something.
    fn try_quiet(&self, id: BackendId) {
        let state = self.seen.borrow()[id.0];
        let row = &self.board.desks[id.0].rows[self.shard];
        if state.mode() != Mode::Owing
            || self.outstanding.borrow()[id.0] > 0
            || row.quiet.get() == state.number()
        {
            return;
        }
        let (door, bit, _) = self.places[id.0];
        let ledger = self.ledger.borrow();
        let missed_from = ledger.oldest_missed(door, bit);
        row.missed_from
            .set(missed_from.unwrap_or(self.last_order.get() + 1));
        row.start.set(ledger.first());
        if self.track.cursor(id.0) == LEVEL {
            self.track.set_cursor(id.0, ledger.first());
        }
        row.quiet.set(state.number());
    }

    /// Waits while a write that was kept is held for `id`; whether it may be sent then. If not, it has
    /// joined the tail.
    pub async fn released(&self, id: BackendId) -> bool {
        let held = self.seen.borrow()[id.0];
        poll_fn(|cx| {
            let state = self.look_at(id);
            if state == held && held.mode() == Mode::HandingOver {
                self.waiters.borrow_mut().push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(state.releases(held))
        })
        .await
    }

    /// What a new write for `id` would meet.
    pub fn mode(&self, id: BackendId) -> Mode {
        self.look_at(id).mode()
    }

    // ---- The disk ------------------------------------------------------------------------------

    /// Waits until something is to be flushed.
    pub async fn dirty(&self) {
        poll_fn(|cx| {
            if self.log.borrow().is_dirty() {
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
        let first = self.flushed.get();
        let ledger = &mut *self.ledger.borrow_mut();
        let next = ledger.next();
        let mut sequence = first;
        let order = order.max(self.last_order.get() + 1);
        self.last_order.set(order);
        let flushed = self
            .log
            .borrow_mut()
            .flush(first, order, wall_ms, |order, offset| {
                ledger.written(sequence, order, offset);
                sequence += 1;
            });
        for lost in sequence..next {
            ledger.lost(lost);
        }
        self.track.publish_undecided(ledger.undecided(next));
        self.track.end.store(next, Ordering::Release);
        self.flushed.set(next);
        let change = match (flushed, self.failing.replace(false)) {
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
        self.wake();
        change
    }

    fn publish_undecided(&self) {
        let flushed = self.flushed.get();
        let undecided = self.ledger.borrow_mut().undecided(flushed);
        self.track.publish_undecided(undecided);
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
        poll_fn(|cx| {
            if mark.get() > sequence || self.failing.get() {
                return Poll::Ready(());
            }
            self.waiters.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn wake(&self) {
        let mut waiters = self.waiters.take();
        waiters.drain(..).for_each(Waker::wake);
        let mut new = self.waiters.borrow_mut();
        if new.is_empty() {
            *new = waiters; // the buffer is used again
        }
    }

    /// What a sync has to do, if anything is not safe from a power cut yet.
    pub fn syncing(&self) -> Option<Syncing<D>> {
        (self.synced.get() < self.flushed.get()).then(|| self.log.borrow().syncing())
    }

    /// A sync has ended; what the disk said.
    pub fn synced(&self, done: &Syncing<D>, result: std::io::Result<()>) -> DiskChange {
        let change = match result {
            Ok(()) => {
                self.log.borrow_mut().synced(done);
                self.synced.set(self.synced.get().max(done.up_to));
                DiskChange::None
            }
            Err(why) if self.failing.replace(true) => {
                drop(why);
                DiskChange::None
            }
            Err(why) => {
                self.board.failing[self.shard].set(1);
                self.log.borrow_mut().close(); // what a disk did not sync is not written behind
                DiskChange::Failed(why.to_string())
            }
        };
        self.wake();
        change
    }

    /// Housekeeping: lets go of what is settled, on all shards and on disk. `order` is now, on the
    /// clock of [`Keeper::flush`]. Once per tick.
    pub fn tick(&self, order: u64) {
        self.look();
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
        let own = unsettled.unwrap_or(order.saturating_sub(1));
        self.board.horizons[self.shard].set(own);
        ledger.release(self.board.horizon());
        let needed = self.needed(ledger.first());
        self.log.borrow_mut().release(needed);
    }

    /// The sequence of the first record that somebody may need.
    fn needed(&self, ledger_first: u64) -> u64 {
        let cursors = (0..self.places.len()).map(|name| self.track.cursor(name));
        cursors.fold(ledger_first, u64::min)
    }

    /// The sequence of the oldest write that is not settled everywhere: where a backend that is level
    /// would begin after a kill.
    pub fn level_cursor(&self) -> u64 {
        self.ledger.borrow().first()
    }
}
