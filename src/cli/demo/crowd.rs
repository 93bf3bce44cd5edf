//! The writers and the reader of the demo: threads that talk to the balancer and keep account.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::account::{Account, Points, lines};
use super::cast::rest;
use super::talk::Talk;

/// What has come of it so far.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Points sent.
    pub(super) sent: AtomicU64,
    /// Points acknowledged.
    pub(super) acknowledged: AtomicU64,
    /// Writes that failed.
    pub(super) failed: AtomicU64,
    /// Queries answered.
    pub(super) read: AtomicU64,
    /// Queries that failed.
    pub(super) unread: AtomicU64,
    stop: AtomicBool,
}

/// Writers and a reader.
pub(super) struct Crowd {
    numbers: Arc<Numbers>,
    writers: Vec<JoinHandle<Points>>,
    reader: JoinHandle<()>,
}

impl Crowd {
    /// They begin.
    pub(super) fn start(balancer: &str) -> Self {
        let numbers: Arc<Numbers> = Arc::default();
        let writers = (0..WRITERS).map(|writer| {
            let (numbers, balancer) = (Arc::clone(&numbers), balancer.to_owned());
            thread::spawn(move || write(&balancer, writer, &numbers))
        });
        let writers = writers.collect();
        let (own, balancer) = (Arc::clone(&numbers), balancer.to_owned());
        let reader = thread::spawn(move || read(&balancer, &own));
        Self {
            numbers,
            writers,
            reader,
        }
    }

    /// What has come of it so far.
    pub(super) fn numbers(&self) -> Arc<Numbers> {
        Arc::clone(&self.numbers)
    }

    /// They end; what was sent and acknowledged.
    pub(super) fn end(self) -> Account {
        self.numbers.stop.store(true, Ordering::Relaxed);
        let mut account = Account::default();
        for writer in self.writers {
            account
                .acknowledged
                .extend(writer.join().unwrap_or_default());
        }
        let _ended = self.reader.join();
        account.sent = self.numbers.sent.load(Ordering::Relaxed);
        account.failed = self.numbers.failed.load(Ordering::Relaxed);
        account
    }
}

fn write(balancer: &str, writer: u64, numbers: &Numbers) -> Points {
    let (mut talk, mut acknowledged) = (Talk::to(balancer), Points::new());
    let mut next = writer * WRITER_POINTS_MAX;
    while !numbers.stop.load(Ordering::Relaxed) {
        let range = next..next + LINES;
        next += LINES;
        numbers.sent.fetch_add(LINES, Ordering::Relaxed);
        match talk.ask("POST", "/write?db=demo", "", &lines(range.clone())) {
            Ok(answer) if answer.status == 204 => {
                acknowledged.extend(range);
                numbers.acknowledged.fetch_add(LINES, Ordering::Relaxed);
            }
            _ => drop(numbers.failed.fetch_add(1, Ordering::Relaxed)),
        }
        rest(PAUSE);
    }
    acknowledged
}

fn read(balancer: &str, numbers: &Numbers) {
    let mut talk = Talk::to(balancer);
    while !numbers.stop.load(Ordering::Relaxed) {
        let target = "/query?db=demo&q=SELECT+count(v)+FROM+demo";
        let count = match talk.ask("GET", target, "", "") {
            Ok(answer) if answer.status == 200 => &numbers.read,
            _ => &numbers.unread,
        };
        count.fetch_add(1, Ordering::Relaxed);
        rest(READ_PAUSE);
    }
}

const WRITERS: u64 = 4;
/// Points of one write.
const LINES: u64 = 20;
/// More than one writer writes: so their numbers never meet.
const WRITER_POINTS_MAX: u64 = 1_000_000_000;
const PAUSE: Duration = Duration::from_millis(20);
const READ_PAUSE: Duration = Duration::from_millis(200);
