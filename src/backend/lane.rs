//! One client connection's writes to one backend, one behind the other.
//!
//! Pooled links would let a client's second write pass its first. A lane lets one write out at a
//! time; those that follow wait in it until the backend has spoken. A client that waits for its
//! answers rarely meets a busy lane.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::backend::answer::Reply;
use crate::backend::flight::Ticket;
use crate::backend::outcome::{Failure, Outcome};
use crate::backend::outgoing::Request;
use crate::backend::partial::{self, Rest};
use crate::backend::pool::Backend;
use crate::clock::Moment;

/// One client connection's writes to one backend.
#[derive(Default)]
pub struct Lane {
    pub(super) busy: Cell<bool>,
    pub(super) waiting: RefCell<VecDeque<Job>>,
}

impl Lane {
    /// The next write, which has the lane then; or the lane rests.
    pub(super) fn next(&self) -> Option<Job> {
        let next = self.waiting.borrow_mut().pop_front();
        self.busy.set(next.is_some());
        next
    }
}

/// One write on its way to one backend. Whatever becomes of it, the flight hears of it exactly once.
pub struct Job {
    /// The write.
    pub ticket: Ticket,
    pub(super) backend: Rc<Backend>,
    pub(super) lane: Rc<Lane>,
    /// When the backend has failed, answer or not.
    pub(super) due: Moment,
    /// When it was sent.
    pub(super) sent: Moment,
    /// Not to be joined with others again.
    pub(super) alone: bool,
    /// Sent a second time already.
    pub(super) retried: bool,
    pub(super) bytes: usize,
    settled: bool,
}

impl Job {
    pub(super) fn new(backend: &Rc<Backend>, lane: &Rc<Lane>, ticket: Ticket, now: Moment) -> Self {
        Self {
            bytes: ticket.charged(),
            due: now.after(backend.plan.timeout),
            ticket,
            backend: Rc::clone(backend),
            lane: Rc::clone(lane),
            sent: now,
            alone: false,
            retried: false,
            settled: false,
        }
    }

    /// What is sent to this backend.
    pub(super) fn request(&self) -> Ref<'_, Request> {
        let filter = self.backend.filter;
        Ref::map(self.ticket.request(), |request| request.for_filter(filter))
    }

    /// The backend has spoken, or will not: the flight hears it, and the lane goes on.
    pub(super) fn settle(mut self, outcome: Outcome, reply: Option<&Reply>) {
        self.tell(outcome, reply);
        let (backend, lane) = (Rc::clone(&self.backend), Rc::clone(&self.lane));
        drop(self);
        backend.next_in(&lane);
    }

    /// The outcome as far as it decides anything.
    fn heeded(&self, outcome: Outcome) -> Outcome {
        let voice = &self.backend.shared.voice;
        if !voice.is_new() {
            return outcome;
        }
        if outcome.is_taken() {
            voice.accepted();
        }
        match self.ticket.newcomers_decide() {
            true => outcome,
            false => outcome.of_newcomer(),
        }
    }

    /// The backend has taken a part of the write, and will never take the rest.
    fn tell_rest(&self, rest: Rest, reply: &Reply) {
        match rest {
            Rest::Dropped(_) => {
                let letters = &self.backend.around.letters;
                letters.push(&self.ticket, &self.backend, reply);
            }
            Rest::Expired(points) => {
                let most = {
                    let request = self.request();
                    partial::points_max(&request.body, !request.has_plain_lines())
                };
                self.backend.count_expired(points.min(most));
                self.ticket.settled_at(self.backend.id);
            }
        }
    }

    /// Tells the flight, without looking at the lane.
    pub(super) fn tell(&mut self, outcome: Outcome, reply: Option<&Reply>) {
        self.settled = true;
        self.backend.release(self.bytes);
        self.backend.count(outcome);
        self.backend.heard(outcome, reply);
        let heeded = self.heeded(outcome);
        self.ticket.hear(self.backend.id, heeded, reply);
        if let (Outcome::Partial { rest, .. }, Some(reply)) = (outcome, reply) {
            self.tell_rest(rest, reply);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.settled {
            // Only a bug ends here: the lane is emptied too, so that nobody waits for ever.
            self.tell(Outcome::Failed(Failure::Closed), None);
            self.lane.busy.set(false);
            drop(self.lane.waiting.take());
        }
    }
}
