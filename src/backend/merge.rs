//! `merge`: small writes with the same target and credentials that wait for one backend go as one
//! request.
//!
//! The task of this file runs behind those that were woken in the same turn, so it finds what all of
//! them submitted; and while its few links are at work, more gathers. Each client still hears only
//! what came of its own points: after a 400, 413 or 422 the writes go again one by one, and any
//! other answer is that of all.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures_lite::future::poll_fn;

use crate::backend::exchange::Link;
use crate::backend::lane::Job;
use crate::backend::pool::{Backend, Place};
use crate::backend::request::same_target;
use crate::clock::Moment;
use crate::limits;

/// What waits to be joined, and how many joined requests are under way.
#[derive(Default)]
pub(super) struct Joiner {
    waiting: RefCell<VecDeque<Job>>,
    passed: RefCell<VecDeque<Job>>,
    group: RefCell<Vec<Job>>,
    under_way: Cell<usize>,
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Joiner {
    pub(super) fn push(&self, job: Job) {
        self.waiting.borrow_mut().push_back(job);
        self.wake();
    }

    /// A joined request has ended, one way or another.
    pub(super) fn landed(&self) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
        self.wake();
    }

    pub(super) fn take_all(&self) -> VecDeque<Job> {
        self.waiting.take()
    }

    pub(super) fn take_late(&self, now: Moment) -> Option<Job> {
        self.waiting.borrow_mut().pop_front_if(|job| job.due <= now)
    }

    pub(super) fn wake(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        self.called.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn called(&self) {
        poll_fn(|cx| {
            if self.called.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Moves the first that waits, and what goes with it, into `group`.
    fn gather(&self, group: &mut Vec<Job>, bytes_max: usize) {
        let waiting = &mut *self.waiting.borrow_mut();
        let passed = &mut *self.passed.borrow_mut();
        let Some(first) = waiting.pop_front() else {
            return;
        };
        let mut bytes = first.request().body.len() + 1;
        group.push(first);
        for _ in 0..limits::MERGE_LOOK_MAX {
            let Some(job) = waiting.pop_front() else {
                break;
            };
            let more = job.request().body.len() + 1;
            let fits = bytes + more <= bytes_max;
            if fits && same_target(&group[0].request(), &job.request()) {
                bytes += more;
                group.push(job);
            } else {
                passed.push_back(job);
            }
        }
        while let Some(job) = passed.pop_back() {
            waiting.push_front(job);
        }
    }
}

/// Joins and sends what waits, for ever. One task per shard and backend with `merge`.
pub async fn run(backend: Rc<Backend>) {
    loop {
        backend.joiner.called().await;
        send(&backend);
    }
}

fn send(backend: &Rc<Backend>) {
    let joiner = &backend.joiner;
    let tuning = backend.around.tuning;
    while joiner.under_way.get() < tuning.merge_links_max && !joiner.waiting.borrow().is_empty() {
        let Some(place) = backend.idle_or_new() else {
            return;
        };
        let group = &mut *joiner.group.borrow_mut();
        joiner.gather(group, tuning.merge_batch_bytes_max);
        joiner.under_way.set(joiner.under_way.get() + 1);
        match place {
            Place::Idle(link) => link.begin_joined(group),
            Place::New => Link::open_joined(backend, group),
        }
    }
}
