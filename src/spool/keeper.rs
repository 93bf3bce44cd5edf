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
use std::task::{Poll, Waker};

use futures_lite::future::poll_fn;

use crate::limits;
use crate::plan::{BackendId, WhenFull};
use crate::spool::board::{Board, Mode, State};
use crate::spool::cursors::Mark;
use crate::spool::disk::Disk;
use crate::spool::door::{DiskChange, Door, Gates, Keep, Kept, Rules};
use crate::spool::ledger::{Change, Entry, Fate, Heard, Ledger};
use crate::spool::log::Log;
use crate::spool::record::Parts;
use crate::spool::track::{LEVEL, NONE, Track};

/// One shard's spool.
pub struct Keeper<D: Disk> {
    pub(super) shard: usize,
    pub(super) board: Arc<Board>,
    pub(super) rules: Rules,
    pub(super) doors: Vec<Door>,
    /// Per backend: its listener, its bit, and how much it may be owed.
    places: Vec<(u16, u64, u64)>,
    pub(super) log: RefCell<Log<D>>,
    pub(super) track: Arc<Track<D::File>>,
    pub(super) ledger: RefCell<Ledger>,
    seen: RefCell<Vec<State>>,
    /// Per backend: sends that are under way or held.
    outstanding: RefCell<Vec<usize>>,
    pub(super) last_order: Cell<u64>,
    /// What nobody needs lies below: as marks on file say, and as those that are safe from a power cut say.
    pub(super) marked: Cell<u64>,
    pub(super) safe: Cell<u64>,
    pub(super) marks: RefCell<Vec<Mark>>,
    pub(super) flushed: Cell<u64>,
    pub(super) synced: Cell<u64>,
    pub(super) untold: RefCell<DiskChange>,
    pub(super) failing: Cell<bool>,
    pub(super) sync_failed: Cell<bool>,
    pub(super) trying: Cell<bool>,
    pub(super) waiters: RefCell<Vec<Waker>>,
    pub(super) flusher: RefCell<Option<Waker>>,
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
            marked: Cell::new(0),
            safe: Cell::new(0),
            marks: RefCell::default(),
            flushed: Cell::new(0),
            synced: Cell::new(0),
            untold: RefCell::new(DiskChange::None),
            failing: Cell::new(false),
            sync_failed: Cell::new(false),
            trying: Cell::new(false),
            waiters: RefCell::default(),
            flusher: RefCell::default(),
        });
        keeper.look();
        keeper
    }

    /// Whether a write at this door that nobody took is owed all the same.
    pub fn keeps_all(&self, door: u16) -> bool {
        self.doors[usize::from(door)].keep != Keep::Accepted && !self.failing.get()
    }

    /// Whether nothing about any write may change.
    pub fn is_settled(&self) -> bool {
        self.ledger.borrow().is_empty()
    }

    /// What others see of the log.
    pub fn track(&self) -> &Arc<Track<D::File>> {
        &self.track
    }

    /// Keeps a write of listener `door`, whose targets this fills in: all that take its kind, but for the
    /// outputs that are `left_out`. `stamp` is asked where it
    /// is large, or much was gathered already, and is flushed at once: see [`Keeper::flush`]. Once per request.
    pub fn keep(
        &self,
        door: u16,
        left_out: u64,
        parts: &Parts<'_>,
        stamp: impl Fn() -> (u64, u64),
    ) -> Kept {
        let is_large = parts.body.len() >= self.rules.write_through_bytes;
        let stamped = is_large.then(&stamp);
        if let Some((order, wall_ms)) = stamped {
            self.flush_early(order, wall_ms); // what waits goes before it
        }
        let outputs = &self.doors[usize::from(door)];
        let takers = outputs.takers(parts.kind);
        let gates = self.gates(outputs, takers.mask & !left_out);
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
        // A hand-over may end in the tail: a write that is held for that alone would be refused then.
        if gates.send == 0 && outputs.keep == Keep::Accepted {
            return Kept::Nobody;
        }
        let nobody = gates.send | gates.held == 0;
        if self.ledger.borrow().len() >= limits::LEDGER_ENTRIES_MAX {
            return Kept::Full;
        }
        let fewer = (takers.mask & left_out != 0).then(|| outputs.targets(parts.kind, left_out));
        let parts = Parts {
            targets: fewer.as_deref().unwrap_or(&takers.targets),
            ..*parts
        };
        let entry = Entry {
            order: 0,
            offset: 0,
            body_bytes: u32::try_from(parts.body.len()).unwrap_or(u32::MAX),
            door,
            fate: if nobody { Fate::Accepted } else { Fate::Open },
            refused: false,
            waiting: gates.send | gates.held,
            missed: gates.tail,
            targets: takers.mask & outputs.spooled & !left_out,
        };
        let sequence = self.ledger.borrow_mut().enter(entry);
        if nobody {
            let owed = gates.tail;
            self.owe(&entry, Change { owed, void: false });
        }
        self.count_outstanding(outputs, gates.send | gates.held);
        if let Some(stamped) = stamped {
            self.write_through(sequence, &parts, stamped);
        } else {
            self.log.borrow_mut().append(sequence, &parts);
            if self.log.borrow().gathered() >= limits::GATHER_BYTES_MAX {
                let (order, wall_ms) = stamp();
                self.flush_early(order, wall_ms);
            }
        }
        if let Some(flusher) = self.flusher.take() {
            flusher.wake();
        }
        Kept::As(sequence, gates)
    }

    fn gates(&self, outputs: &Door, takers: u64) -> Gates {
        let mut gates = Gates::default();
        for (i, id) in outputs.outputs.iter().enumerate() {
            let bit = 1 << i;
            if takers & bit == 0 {
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

    fn count_outstanding(&self, outputs: &Door, mut mask: u64) {
        let outstanding = &mut *self.outstanding.borrow_mut();
        while mask != 0 {
            let id = outputs.outputs[mask.trailing_zeros() as usize];
            outstanding[id.0] += 1;
            mask &= mask - 1;
        }
    }

    pub(super) fn count_unkept(&self, outputs: &Door, mask: u64) {
        for (i, id) in outputs.outputs.iter().enumerate() {
            if mask & outputs.spooled & (1 << i) != 0 {
                self.board.desks[id.0].rows[self.shard].unkept.add(1);
            }
        }
    }

    /// Backend `id` has spoken of a kept write, or is not asked any more. Once per request and backend.
    pub fn heard(&self, sequence: u64, id: BackendId, heard: Heard) {
        let (_, bit, _) = self.places[id.0];
        let (entry, change) = {
            let ledger = &mut *self.ledger.borrow_mut();
            let Some(entry) = ledger.entry(sequence).copied() else {
                return;
            };
            let keep = self.doors[usize::from(entry.door)].keep;
            (entry, ledger.heard(sequence, bit, heard, keep))
        };
        if change.void {
            self.void(sequence, entry.offset);
        }
        if heard == Heard::Accepted {
            self.note_accepted(sequence);
        }
        self.owe(&entry, change);
        self.publish_undecided();
        if entry.waiting & bit != 0 && heard != Heard::Partial {
            let outstanding = &mut self.outstanding.borrow_mut()[id.0];
            *outstanding = outstanding.saturating_sub(1);
        }
        self.try_quiet(id);
    }

    /// Nobody will tell any more what became of a write: who has not spoken has missed it.
    pub fn abandon(&self, sequence: u64) {
        let Some(entry) = self.ledger.borrow().entry(sequence).copied() else {
            return;
        };
        let door = &self.doors[usize::from(entry.door)];
        for (i, &id) in door.outputs.iter().enumerate() {
            if entry.waiting & (1 << i) != 0 {
                self.heard(sequence, id, Heard::Missed);
            }
        }
    }

    fn void(&self, sequence: u64, offset: u32) {
        // A record that cannot be voided may be replayed after a restart: the disk is failing anyway.
        let _may_be_replayed = self.track.void(sequence, offset);
    }

    /// Says on file who has accepted a write, before its client hears: so a kill leaves uncertain only what was
    /// under way.
    fn note_accepted(&self, sequence: u64) {
        let ledger = self.ledger.borrow();
        let Some(entry) = ledger.entry(sequence).filter(|entry| entry.order != 0) else {
            return; // it is not on disk
        };
        let accepted = entry.accepted_targets();
        // A disk that does not take it costs a second delivery after a kill.
        let _may_be_sent_again = self.track.note_accepted(sequence, entry.offset, accepted);
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
        row.missed_from.set(missed_from.unwrap_or(NONE));
        if self.track.cursor(id.0) == LEVEL {
            self.track.set_cursor(id.0, ledger.first());
        }
        row.quiet.set(state.number());
    }

    /// The state that the shard has last taken note of.
    pub fn seen(&self, id: BackendId) -> State {
        self.seen.borrow()[id.0]
    }

    /// Waits while a write that was kept in the state `held` is held for `id`; whether it may be sent
    /// then. If not, it has joined the tail.
    pub async fn released(&self, id: BackendId, held: State) -> bool {
        loop {
            let state = self.look_at(id);
            if state != held {
                return state.releases(held);
            }
            self.news().await;
        }
    }

    /// Waits until the backend is not live.
    pub async fn while_live(&self, id: BackendId) {
        while self.look_at(id).mode() == Mode::Live {
            self.news().await;
        }
    }

    /// Waits until anything has changed, a tick at most.
    pub async fn news(&self) {
        let mut waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            self.waiters.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn publish_undecided(&self) {
        let flushed = self.flushed.get();
        let undecided = self.ledger.borrow_mut().undecided(flushed);
        self.track.publish_undecided(undecided);
    }

    pub(super) fn wake(&self) {
        let mut waiters = self.waiters.take();
        waiters.drain(..).for_each(Waker::wake);
        let mut new = self.waiters.borrow_mut();
        if new.is_empty() {
            *new = waiters; // the buffer is used again
        }
    }
}
