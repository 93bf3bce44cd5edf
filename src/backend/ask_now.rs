//! Asking a backend that is remembered as down whether it is there now, because somebody waits for it.
//!
//! One probe per backend and shard is under way at once; all who wait share it, and hear of it within
//! `probe-timeout`. A probe that failed counts for a moment, so that a crowd of writes is no crowd of probes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use crate::backend::pool::Backend;
use crate::backend::probe;
use crate::clock::Moment;
use crate::limits;

/// The probes of one backend, as one shard makes them.
#[derive(Default)]
pub(super) struct Probes {
    is_under_way: Cell<bool>,
    /// When the last one failed, and when the last one was answered.
    failed: Cell<Option<Moment>>,
    answered: Cell<Option<Moment>>,
    /// How often shards had found the backend up again when this one last looked.
    returns_seen: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Probes {
    /// Takes the one probe that may be under way; `None` where another has it.
    pub(super) fn begin(&self) -> Option<Running<'_>> {
        (!self.is_under_way.replace(true)).then_some(Running(self))
    }

    /// A connection was refused, or a probe failed.
    pub(super) fn has_failed(&self, now: Moment) {
        self.failed.set(Some(now));
        self.wake();
    }

    /// A probe was answered.
    pub(super) fn was_answered(&self, now: Moment) {
        self.answered.set(Some(now));
    }

    pub(super) fn wake(&self) {
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

/// A probe that is under way.
pub(super) struct Running<'p>(&'p Probes);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.is_under_way.set(false);
        self.0.wake();
    }
}

impl Backend {
    /// Whether the backend is up, for somebody who has waited since `since`: a probe is made if that is not known.
    pub fn poll_up(self: &Rc<Self>, since: Moment, cx: &Context<'_>) -> Poll<bool> {
        if self.is_up() {
            return Poll::Ready(true);
        }
        self.poll_probe(since, cx)
    }

    /// The same, for somebody who knows that another shard takes it for down: what this shard knows is made sure of.
    pub fn poll_probe(self: &Rc<Self>, since: Moment, cx: &Context<'_>) -> Poll<bool> {
        let counts = |at: &Cell<Option<Moment>>| {
            let lasts = |at: Moment| at.after(limits::PROBE_COUNTS) > since;
            at.get().is_some_and(lasts)
        };
        if self.is_retired() || counts(&self.probes.failed) {
            return Poll::Ready(self.is_up());
        }
        if self.is_up() && counts(&self.probes.answered) {
            return Poll::Ready(true);
        }
        self.probe_soon();
        self.probes.waiting.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }

    /// Begins a probe, if none is under way.
    fn probe_soon(self: &Rc<Self>) {
        if !self.probes.is_under_way.get() {
            let own = Rc::clone(self);
            glommio::spawn_local(async move { probe::once(&own).await }).detach();
        }
    }

    /// Another shard has found it up again: this one asks too. Once per tick.
    pub(super) fn hear_of_return(self: &Rc<Self>) {
        let returns = self.shared.returns.load(Ordering::Relaxed);
        if self.probes.returns_seen.replace(returns) != returns
            && !self.is_up()
            && !self.is_retired()
        {
            self.probe_soon();
        }
    }
}
