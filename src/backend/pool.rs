//! One backend's links on one shard: which write goes out on which, what waits, what is turned away.
//!
//! The link used last is used next: it is warm, and the others may be let go. A write that finds no
//! idle link opens one, up to a bound, and then waits. What waits, and what a slow backend has been
//! sent, counts against this backend's share of the shard's memory; past it a write fails here at
//! once, so a backend that hangs never takes the memory of one that does not.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::ask_now::Probes;
use crate::backend::asking::Asking;
use crate::backend::compress::Packer;
use crate::backend::exchange::Link;
use crate::backend::flight::Ticket;
use crate::backend::health::{Change, Health};
use crate::backend::lane::{Job, Lane};
use crate::backend::letters::Letters;
use crate::backend::merge::Joiner;
use crate::backend::outcome::{Failure, Outcome};
use crate::backend::refusals::Refusals;
use crate::backend::shared::Shared;
use crate::clock::Moment;
use crate::engine::driver::Driver;
use crate::events::{Event, Events};
use crate::metrics::{self, BackendMetrics, ShardMetrics};
use crate::payload::filter::FilterId;
use crate::plan::{BackendId, BackendPlan, TuningPlan};

/// What a backend needs of its shard.
pub struct Surroundings {
    /// The shard's number.
    pub shard: usize,
    /// The shard's sockets and clock.
    pub driver: Rc<Driver>,
    /// The shard's counters.
    pub metrics: Arc<ShardMetrics>,
    /// The way to the log.
    pub events: Events,
    /// Knobs.
    pub tuning: TuningPlan,
    /// The shard's compressor.
    pub packer: Rc<Packer>,
    /// The dead letters of the shard's live writes.
    pub letters: Rc<Letters>,
    /// Bytes that may wait for this backend; one write is always taken.
    pub held_bytes_max: usize,
}

/// One backend as one shard sees it.
pub struct Backend {
    /// Which one.
    pub id: BackendId,
    /// What was configured.
    pub plan: BackendPlan,
    /// What all shards know of it.
    pub shared: Arc<Shared>,
    /// What it is not to get.
    pub filter: Option<FilterId>,
    pub(super) around: Surroundings,
    pub(super) joiner: Joiner,
    pub(super) idle: RefCell<Vec<Rc<Link>>>,
    /// All that are open, those at rest too.
    pub(super) links: RefCell<Vec<Rc<Link>>>,
    /// Another plan is in force: what becomes of it is nobody's news.
    pub(super) retired: Cell<bool>,
    /// Whether it was up when that began.
    was_up: Cell<bool>,
    /// What was begun under the last plan must not reach it any more.
    cut: Cell<bool>,
    queue: RefCell<VecDeque<Job>>,
    held: Cell<usize>,
    health: RefCell<Health>,
    pub(super) refusals: RefCell<Refusals>,
    pub(super) asking: Asking,
    pub(super) probes: Probes,
    /// The addresses that the links were last compared with.
    pub(super) addresses_known: RefCell<Arc<Vec<SocketAddr>>>,
    /// This machine lacks something for a connection to it.
    pub(super) has_own_trouble: Cell<bool>,
    /// When a link may be opened beside those that there are, in such trouble.
    pub(super) open_after: Cell<Moment>,
}

impl Backend {
    /// A backend without links. Starts nothing.
    pub fn new(
        id: BackendId,
        plan: BackendPlan,
        shared: Arc<Shared>,
        filter: Option<FilterId>,
        around: Surroundings,
    ) -> Rc<Self> {
        let addresses_known = shared.addresses.load_full();
        let backend = Rc::new(Self {
            id,
            plan,
            shared,
            filter,
            around,
            joiner: Joiner::default(),
            idle: RefCell::default(),
            links: RefCell::default(),
            retired: Cell::new(false),
            was_up: Cell::new(true),
            cut: Cell::new(false),
            queue: RefCell::default(),
            held: Cell::new(0),
            health: RefCell::default(),
            refusals: RefCell::default(),
            asking: Asking::default(),
            probes: Probes::default(),
            addresses_known: RefCell::new(addresses_known),
            has_own_trouble: Cell::new(false),
            open_after: Cell::new(Moment(0)),
        });
        backend.metrics().up.set(1);
        backend
    }

    /// Whether it is up, or was when another plan came into force.
    pub fn is_known_up(&self) -> bool {
        match self.retired.get() {
            true => self.was_up.get(),
            false => self.is_up(),
        }
    }

    /// It was down under the last plan: until it answers, it is now.
    pub fn begin_down(&self) {
        let _known = self.health.borrow_mut().failed(Failure::Connect);
        self.metrics().up.set(0);
    }

    /// Takes one write; the flight hears what became of it, perhaps before this returns.
    pub fn submit(self: &Rc<Self>, lane: &Rc<Lane>, ticket: Ticket) {
        let job = Job::new(self, lane, ticket, self.around.driver.now());
        let turned_away = self.turns_away(job.bytes);
        self.held.set(self.held.get() + job.bytes);
        if let Some(failure) = turned_away {
            let mut job = job;
            return job.tell(Outcome::Failed(failure), None);
        }
        if lane.busy.replace(true) {
            return lane.waiting.borrow_mut().push_back(job);
        }
        self.start(job);
    }

    fn turns_away(&self, bytes: usize) -> Option<Failure> {
        if !self.health.borrow().is_up() {
            return Some(Failure::Down);
        }
        let held = self.held.get();
        (held > 0 && held + bytes > self.around.held_bytes_max).then_some(Failure::Overloaded)
    }

    /// Starts a job whose lane is its own; one that is too late, and those behind it that are, fail.
    pub(super) fn start(self: &Rc<Self>, job: Job) {
        let mut next = Some(job);
        while let Some(mut job) = next {
            let Some(failure) = self.is_too_late(&job) else {
                return self.send(job);
            };
            job.tell(Outcome::Failed(failure), None);
            next = job.lane.next();
        }
    }

    fn is_too_late(&self, job: &Job) -> Option<Failure> {
        if job.due <= self.around.driver.now() {
            return Some(Failure::TimedOut);
        }
        (!self.is_up()).then_some(Failure::Down)
    }

    fn send(self: &Rc<Self>, job: Job) {
        if self.plan.merge && !job.alone && self.joins(&job) {
            return self.joiner.push(job);
        }
        match self.idle_or_new() {
            Some(Place::Idle(link)) => link.begin(job),
            Some(Place::New) => Link::open(self, vec![job]),
            None => self.queue.borrow_mut().push_back(job),
        }
    }

    fn joins(&self, job: &Job) -> bool {
        let request = job.request();
        request.joinable && request.body.len() <= self.around.tuning.merge_body_bytes_max
    }

    pub(super) fn idle_or_new(&self) -> Option<Place> {
        let link = self.idle.borrow_mut().pop();
        if let Some(link) = link {
            self.metrics().links_idle.less(1);
            return Some(Place::Idle(link));
        }
        let has_room = self.links.borrow().len() < self.plan.links_max;
        (has_room && self.may_open()).then_some(Place::New)
    }

    /// The lane's write has been settled: the next one starts, or the lane rests.
    pub(super) fn next_in(self: &Rc<Self>, lane: &Rc<Lane>) {
        if let Some(job) = lane.next() {
            self.start(job);
        }
    }

    /// Gives idle links what waits for one.
    pub(super) fn pump(self: &Rc<Self>) {
        loop {
            if self.queue.borrow().is_empty() {
                return;
            }
            let Some(place) = self.idle_or_new() else {
                return;
            };
            let Some(job) = self.queue.borrow_mut().pop_front() else {
                return;
            };
            match place {
                Place::Idle(link) => link.begin(job),
                Place::New => Link::open(self, vec![job]),
            }
        }
    }

    /// Settles what has waited too long for a link, and leaves addresses that the name no longer has. Once
    /// per tick.
    pub fn tick(self: &Rc<Self>) {
        self.leave_old_addresses();
        let now = self.around.driver.now();
        loop {
            let late = self.queue.borrow_mut().pop_front_if(|job| job.due <= now);
            let Some(job) = late.or_else(|| self.joiner.take_late(now)) else {
                break;
            };
            job.settle(Outcome::Failed(Failure::TimedOut), None);
        }
        self.joiner.wake();
        self.hear_of_return();
        if self.has_own_trouble.get() {
            self.pump(); // a link may be tried again
        }
    }

    pub(super) fn link_opened(&self, link: &Rc<Link>) {
        self.links.borrow_mut().push(Rc::clone(link));
        self.metrics().links.add(1);
    }

    pub(super) fn link_rests(&self, link: &Rc<Link>) {
        self.idle.borrow_mut().push(Rc::clone(link));
        self.metrics().links_idle.add(1);
    }

    pub(super) fn link_gone(self: &Rc<Self>, link: &Rc<Link>) {
        let is_other = |other: &Rc<Link>| !Rc::ptr_eq(other, link);
        self.links.borrow_mut().retain(is_other);
        self.metrics().links.less(1);
        let idle = &mut *self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(is_other);
        self.metrics().links_idle.less((before - idle.len()) as u64);
    }

    /// Another plan is in force: no new write will come. Links at rest are closed. With `cut` those at work
    /// are too, and what waits fails; else what was begun goes on. Once per reload.
    pub fn retire(self: &Rc<Self>, cut: bool) {
        self.was_up.set(self.is_known_up());
        self.retired.set(true);
        self.asking.close();
        self.probes.wake();
        if cut {
            self.cut.set(true);
            self.health.borrow_mut().failed(Failure::Connect);
            self.turn_out(Change::Down);
        }
        let now = self.around.driver.now();
        let idle = self.idle.take();
        self.metrics().links_idle.less(idle.len() as u64);
        idle.iter().for_each(|link| link.end_at(now));
        if cut {
            self.links.borrow().iter().for_each(|link| link.end_at(now));
        }
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    pub(super) fn release(&self, bytes: usize) {
        self.held.set(self.held.get() - bytes);
    }

    /// Counts points that it will never want, since they are older than its retention.
    pub fn count_expired(&self, points: u32) {
        self.metrics().expired.add(u64::from(points));
    }

    pub(super) fn metrics(&self) -> &BackendMetrics {
        &self.around.metrics.backends[self.id.0]
    }

    pub(super) fn count(&self, outcome: Outcome) {
        let status = match outcome {
            Outcome::Accepted | Outcome::Spare { .. } => 204,
            Outcome::Refused(status)
            | Outcome::Partial { status, .. }
            | Outcome::Failed(Failure::Status(status)) => status,
            Outcome::Failed(failure) => {
                if let Some(row) = failure.row() {
                    self.metrics().failures[row].add(1);
                }
                return;
            }
        };
        self.metrics().answers[metrics::code_row(status)].add(1);
    }

    /// Whether writes are sent to it.
    pub fn is_up(&self) -> bool {
        self.health.borrow().is_up()
    }

    /// How often it has answered; see [`Health::answers`].
    pub fn answers(&self) -> u64 {
        self.health.borrow().answers()
    }

    pub(super) fn answered(&self) {
        let change = self.health.borrow_mut().answered();
        self.changed(change, "");
    }

    pub(super) fn failed(self: &Rc<Self>, failure: Failure, why: &str) {
        if failure == Failure::Connect {
            self.probes.has_failed(self.around.driver.now());
        }
        if matches!(failure, Failure::Connect | Failure::TimedOut) {
            self.shared.addresses_doubted.store(true, Ordering::Relaxed);
        }
        let change = self.health.borrow_mut().failed(failure);
        self.changed(change, why);
        self.turn_out(change);
    }

    pub(super) fn probe_failed(self: &Rc<Self>, before: u64, why: &str) {
        self.probes.has_failed(self.around.driver.now());
        self.shared.addresses_doubted.store(true, Ordering::Relaxed);
        let change = self.health.borrow_mut().probe_failed(before);
        self.changed(change, why);
        self.turn_out(change);
        if change == Change::None && !self.is_up() {
            self.note(why);
        }
    }

    /// What waits for a backend that has just gone down would wait in vain.
    fn turn_out(self: &Rc<Self>, change: Change) {
        if change != Change::Down {
            return;
        }
        let mut waiting = std::mem::take(&mut *self.queue.borrow_mut());
        waiting.extend(self.joiner.take_all());
        for job in waiting {
            job.settle(Outcome::Failed(Failure::Down), None);
        }
    }

    fn changed(&self, change: Change, why: &str) {
        let (shard, backend) = (self.around.shard, self.id);
        if change == Change::Up {
            self.shared.returns.fetch_add(1, Ordering::Relaxed);
            self.probes.wake();
        }
        match change {
            _ if self.retired.get() => {}
            Change::None => {}
            Change::Up => {
                self.metrics().up.set(1);
                self.shared.is_well();
                self.around.events.tell(Event::BackendUp { shard, backend });
            }
            Change::Down => {
                self.metrics().up.set(0);
                self.note(why);
                self.around.events.tell(Event::BackendDown {
                    shard,
                    backend,
                    why: why.to_owned(),
                });
            }
        }
    }
}

/// Where a write can go out.
pub(super) enum Place {
    /// On a link that waits for work.
    Idle(Rc<Link>),
    /// On one that may be opened.
    New,
}
