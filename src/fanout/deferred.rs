//! Outputs that are remembered as down: they are sent a write last, and asked first where no other takes it.
//!
//! While another output is up, what is down changes nothing for the client: it is turned away once the client's
//! answer is known. But before a client hears of a failure each of them is asked whether it is there now.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::backend::flight::Ticket;
use crate::backend::outcome::Outcome;
use crate::backend::pool::Backend;
use crate::clock::Moment;
use crate::fanout::Output;
use crate::plan::BackendId;

/// The outputs of one write that are sent it last, by their bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deferred(u64);

/// What comes next.
pub enum Next {
    /// A backend has spoken.
    Spoken(BackendId, Outcome),
    /// Outputs that were asked are sent the write now.
    Sent,
}

impl Deferred {
    /// Adds an output.
    pub fn add(&mut self, output: &Output) {
        self.0 |= output.bit;
    }

    /// Whether an output is one of them.
    pub fn holds(self, output: &Output) -> bool {
        self.0 & output.bit != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Sends the write to all that are left: to those that are still down it fails at once.
    pub fn submit_all(&mut self, ticket: &Ticket, outputs: &[Output]) {
        for output in outputs.iter().filter(|output| self.holds(output)) {
            output.backend.submit(&output.lane, ticket.clone());
        }
        self.0 = 0;
    }

    /// Waits for the outcome at `place`, and asks the outputs that are left meanwhile: each is sent the write as soon
    /// as it is known whether it is there.
    pub async fn next(
        &mut self,
        ticket: &Ticket,
        place: usize,
        outputs: &[Output],
        since: Moment,
    ) -> Next {
        poll_fn(|cx| {
            if let Poll::Ready((from, outcome)) = ticket.poll_heard(place, cx) {
                return Poll::Ready(Next::Spoken(from, outcome));
            }
            let left = self.0;
            for output in outputs.iter().filter(|output| left & output.bit != 0) {
                if output.backend.poll_up(since, cx).is_ready() {
                    self.0 &= !output.bit;
                    output.backend.submit(&output.lane, ticket.clone());
                }
            }
            match self.0 == left {
                true => Poll::Pending,
                false => Poll::Ready(Next::Sent),
            }
        })
        .await
    }
}

/// Whether any of these is up: where none is known to be, all are asked now.
pub async fn any_up<'b>(
    backends: impl Iterator<Item = &'b Rc<Backend>> + Clone,
    since: Moment,
) -> bool {
    poll_fn(|cx| {
        if backends.clone().any(|backend| backend.is_up()) {
            return Poll::Ready(true);
        }
        let mut is_open = false;
        for backend in backends.clone() {
            match backend.poll_up(since, cx) {
                Poll::Ready(true) => return Poll::Ready(true),
                Poll::Ready(false) => {}
                Poll::Pending => is_open = true,
            }
        }
        match is_open {
            true => Poll::Pending,
            false => Poll::Ready(false),
        }
    })
    .await
}

/// Asks all of these now, and waits until each has answered, or has failed to.
pub async fn all_asked<'b>(backends: impl Iterator<Item = &'b Rc<Backend>> + Clone, since: Moment) {
    poll_fn(|cx| {
        let open = backends
            .clone()
            .filter(|backend| backend.poll_probe(since, cx).is_pending());
        match open.count() {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
}
