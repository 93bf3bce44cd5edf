//! The simulated world: a clock, dice, tasks that are polled in any order, shards, and one write.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use futures_lite::future::poll_fn;
use influxdb_relay::plan::BackendId;
use influxdb_relay::replay::judge::Sent;
use influxdb_relay::spool::door::{Gates, Kept};
use influxdb_relay::spool::keeper::Keeper;
use influxdb_relay::spool::ledger::Heard;
use influxdb_relay::spool::record::Parts;

use crate::backend::{Health, SimBackend};
use crate::disk::SimDisk;
use crate::run::Plant;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What outlives a kill.
pub(crate) struct Common {
    pub(crate) now: Cell<u64>,
    pub(crate) backends: Vec<SimBackend>,
    pub(crate) plant: Plant,
    dice: RefCell<SmallRng>,
    tasks: RefCell<Vec<Task>>,
    new: RefCell<Vec<Task>>,
}

impl Common {
    pub(crate) fn new(seed: u64, backends: Vec<SimBackend>, plant: Plant) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(1_000_000_000),
            backends,
            plant,
            dice: RefCell::new(SmallRng::seed_from_u64(seed)),
            tasks: RefCell::default(),
            new: RefCell::default(),
        })
    }

    /// A number below `sides`.
    pub(crate) fn dice(&self, sides: u64) -> u64 {
        self.dice.borrow_mut().random_range(0..sides)
    }

    /// Another task of the process.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.new.borrow_mut().push(Box::pin(task));
    }

    /// The process is killed: all its tasks are gone.
    pub(crate) fn kill(&self) {
        self.tasks.borrow_mut().clear();
        self.new.borrow_mut().clear();
    }

    /// Lets each task run once, in any order, and time pass.
    pub(crate) fn turn(&self) {
        let mut tasks = self.tasks.take();
        tasks.append(&mut self.new.take());
        for last in (1..tasks.len()).rev() {
            let other = usize::try_from(self.dice(last as u64 + 1)).unwrap();
            tasks.swap(last, other);
        }
        let mut cx = Context::from_waker(Waker::noop());
        let left = tasks
            .into_iter()
            .filter_map(|mut task| task.as_mut().poll(&mut cx).is_pending().then_some(task));
        let left: Vec<Task> = left.collect();
        self.tasks.borrow_mut().extend(left);
        let step = 20_000 + self.dice(200_000);
        self.now.set(self.now.get() + step);
    }

    /// Waits for the clock.
    pub(crate) async fn rest(&self, span: Duration) {
        let until = self.now.get() + u64::try_from(span.as_nanos()).unwrap();
        poll_fn(|_| match self.now.get() >= until {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        })
        .await;
    }

    /// One request to a backend, and its answer.
    pub(crate) async fn exchange(&self, backend: usize, body: &[u8]) -> Sent {
        let backend = &self.backends[backend];
        self.rest(Duration::from_micros(self.dice(400))).await;
        let sent = backend.receive(body);
        let wait = match sent {
            Sent::Away { timed_out: true } => Duration::from_millis(30),
            _ => Duration::from_micros(self.dice(400)),
        };
        self.rest(wait).await;
        sent
    }
}

/// One connection's way to one backend: one live send at a time, in order.
#[derive(Default)]
pub(crate) struct Lane {
    issued: Cell<u64>,
    served: Cell<u64>,
}

impl Lane {
    /// Whether nothing is on the way.
    pub(crate) fn is_free(&self) -> bool {
        self.issued == self.served
    }
}

/// One connection's lanes.
pub(crate) type Lanes = Rc<Vec<Lane>>;

/// One write, as `fanout::relay` does it: kept, flushed, sent or tailed or held, and answered by the
/// first success. Whether the client hears success.
pub(crate) async fn write(
    common: &Rc<Common>,
    keeper: &Rc<Keeper<SimDisk>>,
    lanes: &Lanes,
    body: Vec<u8>,
    sync_first: bool,
) -> bool {
    let body = Rc::new(body);
    let parts = Parts {
        kind: 0,
        joinable: true,
        targets: &[],
        query: b"db=x",
        headers: b"",
        authorization: b"",
        body: &body,
    };
    let (sequence, gates) = match keeper.keep(0, 0, &parts, || {
        (common.now.get(), common.now.get() / 1_000_000)
    }) {
        Kept::As(sequence, gates) => (Some(sequence), gates),
        Kept::Not(gates) => (None, gates),
        Kept::Full | Kept::Nobody => return false,
    };
    let backends = common.backends.len();
    let held: Vec<_> = (0..backends).map(|b| keeper.seen(BackendId(b))).collect();
    if let (Some(sequence), false) = (sequence, common.plant == Plant::AnswerBeforeFlush) {
        keeper.flushed(sequence).await;
    }
    let heard = Rc::new(RefCell::new(Vec::new()));
    for b in 0..backends {
        if gates.send & (1 << b) != 0 {
            send(common, keeper, lanes, b, &body, sequence, &heard);
        } else if gates.tail & (1 << b) != 0 {
            hear(keeper, sequence, b, Heard::Missed, &heard);
        }
    }
    release(common, keeper, lanes, &body, sequence, gates, &held, &heard).await;
    let mut place = 0;
    loop {
        let said = heard.borrow().get(place).copied();
        match said {
            Some(Heard::Accepted) => break,
            Some(Heard::Refused | Heard::Partial) => return false, // the first refusal answers at once
            Some(Heard::Missed) if place + 1 == backends => return false,
            Some(Heard::Missed) => place += 1,
            None => keeper.news().await,
        }
    }
    if let (Some(sequence), true) = (sequence, sync_first) {
        keeper.safe(sequence).await;
    }
    true
}

type HeardAll = Rc<RefCell<Vec<Heard>>>;

#[allow(clippy::too_many_arguments)] // the parts of one write
async fn release(
    common: &Rc<Common>,
    keeper: &Rc<Keeper<SimDisk>>,
    lanes: &Lanes,
    body: &Rc<Vec<u8>>,
    sequence: Option<u64>,
    gates: Gates,
    held: &[influxdb_relay::spool::board::State],
    heard: &HeardAll,
) {
    for (b, &state) in held.iter().enumerate() {
        if gates.held & (1 << b) == 0 {
            continue;
        }
        if keeper.released(BackendId(b), state).await {
            send(common, keeper, lanes, b, body, sequence, heard);
        } else {
            hear(keeper, sequence, b, Heard::Missed, heard);
        }
    }
}

fn hear(
    keeper: &Keeper<SimDisk>,
    sequence: Option<u64>,
    backend: usize,
    said: Heard,
    heard: &HeardAll,
) {
    if let Some(sequence) = sequence {
        keeper.heard(sequence, BackendId(backend), said);
    }
    heard.borrow_mut().push(said);
}

fn send(
    common: &Rc<Common>,
    keeper: &Rc<Keeper<SimDisk>>,
    lanes: &Lanes,
    backend: usize,
    body: &Rc<Vec<u8>>,
    sequence: Option<u64>,
    heard: &HeardAll,
) {
    let (own, keeper, lanes) = (Rc::clone(common), Rc::clone(keeper), Rc::clone(lanes));
    let (body, heard) = (Rc::clone(body), Rc::clone(heard));
    let number = lanes[backend].issued.get();
    lanes[backend].issued.set(number + 1);
    common.spawn(async move {
        while lanes[backend].served.get() < number {
            own.rest(Duration::from_micros(50)).await;
        }
        if let (Some(sequence), Plant::AcceptedBeforeAnswer) = (sequence, own.plant) {
            keeper.heard(sequence, BackendId(backend), Heard::Accepted);
        }
        let sent = match own.backends[backend].health.get() {
            Health::Down => Sent::Away { timed_out: false },
            _ => own.exchange(backend, &body).await,
        };
        lanes[backend].served.set(number + 1);
        let said = match sent {
            Sent::Answered { status: 204, .. } => Heard::Accepted,
            Sent::Answered {
                status: 400..=499, ..
            } => Heard::Refused,
            _ => Heard::Missed,
        };
        hear(&keeper, sequence, backend, said, &heard);
    });
}
