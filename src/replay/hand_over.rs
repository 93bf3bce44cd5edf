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
use crate::replay::delivery::Delivery;
use crate::replay::ground::Ground;
use crate::replay::queue::Queue;
use crate::spool::board::{Board, Mode, State};

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
        self.next = now.after(self.wait * limits::HAND_OVER_RESTS);
    }

    fn succeeded(&mut self) {
        self.wait = (self.wait / 2).max(limits::HAND_OVER_WAIT_MIN);
        self.next = Moment(0);
    }
}

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The backend is live.
    Live,
    /// It is owing again.
    NotYet,
    /// The same, and it may still be at work on what it was sent.
    TimedOut,
}

/// Tries it for the backend at place `index` of the board.
pub async fn run<G: Ground>(
    board: &Board,
    index: usize,
    queue: &mut Queue<'_, G>,
    delivery: &Delivery<'_, G>,
    patience: &mut Patience,
) -> Held {
    let (ground, desk) = (delivery.ground, delivery.desk);
    let Some(held) = desk.change(desk.state(), Mode::HandingOver) else {
        return Held::NotYet;
    };
    board.ring();
    let begun = ground.now();
    let end = |mode| {
        desk.change(held, mode);
        board.ring();
        let span = ground.now().since(begun);
        desk.held
            .add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    };
    let give_up = || end(Mode::Owing);
    // What is under way to the backend when the time is up goes on; the clients are let go.
    let work = deliver(queue, delivery, held);
    let (delivered, in_time) = watched(work, ground.rest(patience.wait), give_up).await;
    if !in_time || delivered != Held::Live {
        if in_time {
            give_up();
        }
        patience.failed(ground.now());
        return match delivered {
            Held::TimedOut => Held::TimedOut,
            _ => Held::NotYet,
        };
    }
    for log in ground.logs() {
        log.level(index);
    }
    desk.level();
    end(Mode::Live);
    patience.succeeded();
    Held::Live
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

/// Delivers all tails, as long as the hand-over lasts; LIVE if nothing is left of them.
async fn deliver<G: Ground>(
    queue: &mut Queue<'_, G>,
    delivery: &Delivery<'_, G>,
    held: State,
) -> Held {
    let (ground, desk) = (delivery.ground, delivery.desk);
    while desk.rows.iter().any(|row| row.seen.get() != held.number()) {
        if desk.state() != held {
            return Held::NotYet;
        }
        ground.rest(limits::HAND_OVER_LOOK).await;
    }
    let tails: Vec<u64> = desk.rows.iter().map(|row| row.tail.get()).collect();
    while desk.state() == held {
        let mut logs = ground.logs().iter().zip(&tails);
        let is_readable = logs.all(|(log, &tail)| log.end() >= tail);
        let bounds = queue.bounds_below(&tails, u64::MAX);
        let is_decided = bounds.iter().all(|bound| bound.cut == u64::MAX);
        let (window, is_all) = queue
            .gather(&bounds, queue.batch_bytes_max(), limits::WINDOW_RECORDS_MAX)
            .await;
        if window.is_empty() {
            if is_all && is_readable && is_decided {
                return Held::Live;
            }
            ground.rest(limits::HAND_OVER_LOOK).await;
            continue;
        }
        match delivery.deliver(&window).await {
            Ok(()) => {
                desk.replayed.add(window.records as u64);
                queue.settle(window.records, window.bytes);
            }
            Err(obstacle) if obstacle.timed_out => return Held::TimedOut,
            Err(_) => return Held::NotYet,
        }
    }
    Held::NotYet
}
