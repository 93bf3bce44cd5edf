//! One write in flight: what is sent, what each backend made of it, and who waits to hear.
//!
//! A flight is shared by the client's connection and by one job per backend, all on one shard, so an
//! `Rc` counts its holders and no atomic does. The last to let go gives it back to the shard's
//! [`Flights`], buffers and all: a warm write allocates nothing. From the first byte of its body
//! until then it counts against the shard's budget.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_lite::future::poll_fn;

use crate::backend::answer::Reply;
use crate::backend::outcome::Outcome;
use crate::backend::outgoing::Request;
use crate::backend::partial::Rest;
use crate::http::request::Refusal;
use crate::limits;
use crate::metrics::ShardMetrics;
use crate::plan::BackendId;
use crate::spool::disk::Place;
use crate::spool::keeper::Keeper;
use crate::spool::ledger::Heard;

/// What the backends said so far, in the order they spoke. `replies[i]` belongs to `heard[i]`.
#[derive(Debug, Default)]
struct Said {
    heard: Vec<(BackendId, Outcome)>,
    replies: Vec<Reply>,
}

impl Said {
    /// Counts, per backend, that it lacks what another has.
    fn count_missed(&self, home: &Flights) {
        let is_whole = |outcome| {
            matches!(
                outcome,
                Outcome::Accepted | Outcome::Spare { is_part: false }
            )
        };
        let is_whole_somewhere = self.heard.iter().any(|heard| is_whole(heard.1));
        if !self.heard.iter().any(|heard| heard.1.is_taken()) {
            return;
        }
        for (backend, outcome) in &self.heard {
            let has_missed = match outcome {
                Outcome::Accepted | Outcome::Spare { is_part: false } => false,
                Outcome::Spare { is_part: true } => is_whole_somewhere,
                Outcome::Partial { rest, .. } => {
                    is_whole_somewhere && matches!(rest, Rest::Dropped(_))
                }
                Outcome::Refused(_) | Outcome::Failed(_) => true,
            };
            if has_missed {
                home.metrics.backends[backend.0].missed.add(1);
            }
        }
    }
}

/// One write in flight. Held through a [`Ticket`].
pub struct Flight {
    home: RefCell<Weak<Flights>>,
    /// It goes to backends that are new alone: then they decide.
    newcomers_decide: Cell<bool>,
    /// It is on its way to backends, and not only being read.
    launched: Cell<bool>,
    request: RefCell<Request>,
    said: RefCell<Said>,
    waiter: RefCell<Option<Waker>>,
    ruled: Cell<bool>,
    /// One backend is enough: the others miss nothing.
    for_one: Cell<bool>,
    charged: Cell<usize>,
    /// Where it was kept before it was sent, and under which sequence.
    kept: RefCell<Option<(Rc<Keeper<Place>>, u64)>>,
}

impl Flight {
    fn new(home: Weak<Flights>) -> Self {
        Self {
            home: RefCell::new(home),
            launched: Cell::new(false),
            newcomers_decide: Cell::new(false),
            request: RefCell::default(),
            said: RefCell::default(),
            waiter: RefCell::default(),
            ruled: Cell::new(false),
            for_one: Cell::new(false),
            charged: Cell::new(0),
            kept: RefCell::default(),
        }
    }

    /// It was kept: what becomes of it is entered there.
    pub fn keep(&self, keeper: &Rc<Keeper<Place>>, sequence: u64) {
        *self.kept.borrow_mut() = Some((Rc::clone(keeper), sequence));
    }

    /// Says whether all that are to get it are new.
    pub fn set_newcomers_decide(&self, decide: bool) {
        self.newcomers_decide.set(decide);
    }

    /// Whether backends that are new decide, since nobody else is to get it.
    pub fn newcomers_decide(&self) -> bool {
        self.newcomers_decide.get()
    }

    /// What is sent.
    pub fn request(&self) -> Ref<'_, Request> {
        self.request.borrow()
    }

    /// What is sent, while it is being put together.
    pub fn request_mut(&self) -> RefMut<'_, Request> {
        self.request.borrow_mut()
    }

    /// One backend has spoken. What it said is kept only while the client waits to hear.
    pub fn hear(&self, from: BackendId, outcome: Outcome, reply: Option<&Reply>) {
        if let Some((keeper, sequence)) = &*self.kept.borrow() {
            let heard = match outcome {
                Outcome::Accepted | Outcome::Spare { is_part: false } => Heard::Accepted,
                Outcome::Partial { .. } | Outcome::Spare { is_part: true } => Heard::Partial,
                Outcome::Refused(_) => Heard::Refused,
                Outcome::Failed(_) => Heard::Missed,
            };
            keeper.heard(*sequence, from, heard);
        }
        let said = &mut *self.said.borrow_mut();
        let place = said.heard.len();
        said.heard.push((from, outcome));
        if self.ruled.get() {
            return;
        }
        if said.replies.len() <= place {
            said.replies.push(Reply::default());
        }
        if let (Some(kept), Some(reply)) = (said.replies.get_mut(place), reply) {
            kept.status = reply.status;
            kept.headers.extend_from_slice(&reply.headers);
            kept.body.extend_from_slice(&reply.body);
        }
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// What `from` dropped of the write is accounted for: nothing about it will change there.
    pub fn settled_at(&self, from: BackendId) {
        if let Some((keeper, sequence)) = &*self.kept.borrow() {
            keeper.heard(*sequence, from, Heard::Accepted);
        }
    }

    /// What `from` dropped of the write cannot be accounted for now: it is owed the write.
    pub fn missed_at(&self, from: BackendId) {
        if let Some((keeper, sequence)) = &*self.kept.borrow() {
            keeper.heard(*sequence, from, Heard::Missed);
        }
    }

    /// The outcome at `place` in the order of speaking, as soon as there is one.
    pub async fn heard(&self, place: usize) -> (BackendId, Outcome) {
        poll_fn(|cx| self.poll_heard(place, cx)).await
    }

    /// The same for somebody who waits for other things too.
    pub fn poll_heard(&self, place: usize, cx: &Context<'_>) -> Poll<(BackendId, Outcome)> {
        match self.said.borrow().heard.get(place) {
            Some(&heard) => Poll::Ready(heard),
            None => {
                *self.waiter.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The answer that backend `from` gave, for the client. Call before [`Flight::ruled`].
    pub fn with_reply<R>(&self, from: BackendId, read: impl FnOnce(&Reply) -> R) -> Option<R> {
        let said = self.said.borrow();
        let place = said.heard.iter().position(|heard| heard.0 == from)?;
        said.replies.get(place).map(read)
    }

    /// What backend `from` did, if it has spoken.
    pub fn outcome_of(&self, from: BackendId) -> Option<Outcome> {
        self.said
            .borrow()
            .heard
            .iter()
            .find(|heard| heard.0 == from)
            .map(|heard| heard.1)
    }

    /// It is for one backend, whichever takes it: the others miss nothing.
    pub fn is_for_one(&self) {
        self.for_one.set(true);
    }

    /// The client has heard: what comes later is only counted.
    pub fn ruled(&self) {
        self.ruled.set(true);
        self.waiter.take();
    }

    /// Counts what the flight holds now against the shard's budget; whether it is within it.
    pub fn charge(&self) -> bool {
        let bytes = limits::FLIGHT_BYTES + self.request.borrow().bytes();
        let Some(home) = self.home.borrow().upgrade() else {
            return true;
        };
        home.recharge(self.charged.replace(bytes), bytes)
    }

    /// Charges room for `more` bytes of the body and then reserves it; whether the shard's budget has it. Once per
    /// read of a body.
    pub fn reserve_body(&self, more: usize) -> bool {
        let (len, capacity) = {
            let body = &self.request.borrow().body;
            (body.len(), body.capacity())
        };
        let grows = (len + more).saturating_sub(capacity);
        if grows > 0 {
            let Some(home) = self.home.borrow().upgrade() else {
                return true;
            };
            let charged = self.charged.get();
            self.charged.set(charged + grows);
            if !home.recharge(charged, charged + grows) {
                return false;
            }
            self.request.borrow_mut().body.reserve_exact(more);
        }
        true
    }

    /// Gives back room that was reserved for a body and that nothing came for.
    pub fn give_back_room(&self) {
        let is_wasted = {
            let body = &mut self.request.borrow_mut().body;
            let most = limits::BODY_ROOM_FACTOR * body.len() + limits::COPY_BYTES_MAX;
            let is_wasted = body.capacity() > most;
            if is_wasted {
                body.shrink_to_fit();
            }
            is_wasted
        };
        if is_wasted {
            let _less_than_before = self.charge();
        }
    }

    /// It goes to backends now: until everybody has let go of it, a reload waits for it.
    pub fn launch(&self) {
        if !self.launched.replace(true)
            && let Some(home) = self.home.borrow().upgrade()
        {
            home.launched.set(home.launched.get() + 1);
        }
    }

    /// Moves a flight that was not launched to `next`, whose backends it will go to. Once per request, and
    /// seldom to another home.
    pub fn move_to(&self, next: &Rc<Flights>) {
        if std::ptr::eq(self.home.borrow().as_ptr(), Rc::as_ptr(next)) {
            return;
        }
        assert!(!self.launched.get(), "its backends are those of its home");
        let home = self.home.replace(Rc::downgrade(next)).upgrade();
        let bytes = self.charged.get();
        if let Some(home) = home {
            home.recharge(bytes, 0);
            home.under_way.set(home.under_way.get() - 1);
        }
        next.recharge(0, bytes);
        next.under_way.set(next.under_way.get() + 1);
    }

    /// What it counts in the budget.
    pub fn charged(&self) -> usize {
        self.charged.get()
    }

    /// Makes ready for the next write; who missed this one is told to `missed`.
    fn recycle(&self, home: &Flights) {
        let kept = self.kept.take();
        if let Some((keeper, sequence)) = &kept {
            keeper.abandon(*sequence);
        }
        home.recharge(self.charged.replace(0), 0);
        if self.launched.replace(false) {
            home.launched.set(home.launched.get() - 1);
        }
        self.request.borrow_mut().clear(home.keep_bytes());
        let said = &mut *self.said.borrow_mut();
        let for_all = !self.for_one.replace(false);
        if for_all && kept.is_none() {
            said.count_missed(home);
        }
        said.heard.clear();
        said.replies.iter_mut().for_each(Reply::clear);
        self.ruled.set(false);
        self.newcomers_decide.set(false);
        self.waiter.take();
    }
}

/// What finds the shard's memory for bodies used up: see [`Flight::charge`].
pub const NO_ROOM: Refusal = Refusal::new(503, "too many writes in flight: try again later");

/// A hold on a flight.
pub struct Ticket(Rc<Flight>);

impl Clone for Ticket {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl Ticket {
    fn home(&self) -> Option<Rc<Flights>> {
        self.0.home.borrow().upgrade()
    }
}

impl Deref for Ticket {
    type Target = Flight;

    fn deref(&self) -> &Flight {
        &self.0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) == 1
            && let Some(home) = self.home()
        {
            self.0.recycle(&home);
            home.under_way.set(home.under_way.get() - 1);
            let free = &mut *home.free.borrow_mut();
            if free.len() < limits::FLIGHTS_KEEP_MAX {
                free.push_back(Rc::clone(&self.0));
            }
        }
    }
}

/// The flights of one shard, and the memory they may hold.
pub struct Flights {
    free: RefCell<VecDeque<Rc<Flight>>>,
    under_way: Cell<usize>,
    launched: Cell<usize>,
    bytes: Cell<usize>,
    bytes_max: usize,
    metrics: Arc<ShardMetrics>,
}

impl Flights {
    /// None yet; together they may hold `bytes_max`.
    pub fn new(bytes_max: usize, metrics: Arc<ShardMetrics>) -> Rc<Self> {
        Rc::new(Self {
            free: RefCell::default(),
            under_way: Cell::new(0),
            launched: Cell::new(0),
            bytes: Cell::new(0),
            bytes_max,
            metrics,
        })
    }

    /// An empty flight: the one used last, or a new one.
    pub fn begin(self: &Rc<Self>) -> Ticket {
        self.under_way.set(self.under_way.get() + 1);
        let used = self.free.borrow_mut().pop_back();
        Ticket(used.unwrap_or_else(|| Rc::new(Flight::new(Rc::downgrade(self)))))
    }

    /// Flights that somebody holds.
    pub fn under_way(&self) -> usize {
        self.under_way.get()
    }

    /// Those of them that are on their way to backends.
    pub fn launched(&self) -> usize {
        self.launched.get()
    }

    /// What the next idle flight may keep: the one used last is used next, and may stay large.
    fn keep_bytes(&self) -> usize {
        if self.free.borrow().len() < limits::FLIGHTS_KEEP_LARGE_MAX {
            limits::FLIGHT_KEEP_LARGE_BYTES
        } else {
            limits::FLIGHT_KEEP_BYTES
        }
    }

    fn recharge(&self, before: usize, after: usize) -> bool {
        let bytes = self.bytes.get() - before + after;
        self.bytes.set(bytes);
        let more = (after as u64).wrapping_sub(before as u64);
        self.metrics.inflight_bytes.add(more);
        bytes <= self.bytes_max
    }
}
