//! The last step: all shards stop adding to the tail, it is delivered, the backend is live again.
//!
//! New writes are held meanwhile, and their clients with them; so it is tried only when the tail is
//! short, it may take two milliseconds at first, and it is given up in time. A slow backend gets more
//! time with each try, in proportion to what its writes take anyway.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future::poll_fn;

use crate::clock::Moment;
use crate::limits;
use crate::replay::catch_up::CatchUp;
use crate::replay::ground::Ground;
use crate::spool::board::{Mode, State};

/// How long the next try may take, and when it may begin.
#[derive(Debug, Clone)]
pub struct Patience {
    wait: Duration,
    next: Moment,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            wait: limits::HAND_OVER_WAIT_MIN,
            next: Moment(0),
        }
    }
}

impl Patience {
    /// Whether another try may begin.
    pub fn is_over(&self, now: Moment) -> bool {
        now >= self.next
    }

    fn failed(&mut self, now: Moment) {
        self.wait = (self.wait * 2).min(limits::HAND_OVER_WAIT_MAX);
        self.next = now.after(self.wait * 8); // clients are held a ninth of the time at most
    }

    fn succeeded(&mut self) {
        self.wait = (self.wait / 2).max(limits::HAND_OVER_WAIT_MIN);
        self.next = Moment(0);
    }
}

/// Tries it; whether the backend is live now.
pub async fn run<G: Ground>(catch_up: &mut CatchUp<'_, G>, patience: &mut Patience) -> bool {
    let (ground, board, desk) = (catch_up.ground, catch_up.board, catch_up.desk);
    let Some(held) = desk.change(desk.state(), Mode::HandingOver) else {
        return false;
    };
    board.ring();
    let index = catch_up.rules.index;
    let give_up = || {
        desk.change(held, Mode::Owing);
        board.ring();
    };
    // What is under way to the backend when the time is up goes on; the clients are let go.
    let (delivered, in_time) =
        watched(deliver(catch_up, held), ground.rest(patience.wait), give_up).await;
    if !in_time || !delivered {
        if in_time {
            give_up();
        }
        patience.failed(ground.now());
        return false;
    }
    for log in ground.logs() {
        log.level(index);
    }
    desk.level();
    desk.change(held, Mode::Live);
    board.ring();
    patience.succeeded();
    true
}

/// What comes of `work`, and whether that was before the `alarm`; if not, `late` was called then.
async fn watched<T>(
    work: impl Future<Output = T>,
    alarm: impl Future<Output = ()>,
    late: impl Fn(),
) -> (T, bool) {
    let (mut work, mut alarm) = (pin!(work), pin!(alarm));
    let mut in_time = true;
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready((done, in_time));
        }
        if in_time && alarm.as_mut().poll(cx).is_ready() {
            in_time = false;
            late();
        }
        Poll::Pending
    })
    .await
}

/// Delivers all tails, as long as the hand-over lasts; whether nothing is left of them.
async fn deliver<G: Ground>(catch_up: &mut CatchUp<'_, G>, held: State) -> bool {
    let (ground, desk, rules) = (catch_up.ground, catch_up.desk, catch_up.rules);
    while desk.rows.iter().any(|row| row.seen.get() != held.number()) {
        if desk.state() != held {
            return false;
        }
        ground.rest(limits::HAND_OVER_LOOK).await;
    }
    let tails: Vec<u64> = desk.rows.iter().map(|row| row.tail.get()).collect();
    while desk.state() == held {
        let mut logs = ground.logs().iter().zip(&tails);
        let is_readable = logs.all(|(log, &tail)| log.end() >= tail);
        let bounds = catch_up.bounds_below(&tails, u64::MAX);
        let is_decided = bounds.iter().all(|bound| bound.cut == u64::MAX);
        let (window, is_all) = catch_up
            .gather(&bounds, rules.batch_bytes_max, limits::WINDOW_RECORDS_MAX)
            .await;
        if !window.is_empty() && !catch_up.attempt_last(&window).await {
            return false;
        }
        if window.is_empty() && is_all && is_readable && is_decided {
            return true;
        }
        if window.is_empty() {
            ground.rest(limits::HAND_OVER_LOOK).await;
        }
    }
    false
}
