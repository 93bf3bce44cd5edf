//! A backend that holds the last value of each key, and fails as it is told.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use influxdb_relay::replay::judge::Sent;

/// How it does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Well.
    Well,
    /// Nobody listens.
    Down,
    /// It answers 500, and takes nothing.
    Failing,
    /// It has no such database yet.
    NoDatabase,
    /// It takes what it is sent, and nobody hears of it.
    Mute,
    /// It does nothing; what it was sent it does when it is well again.
    Hung,
}

/// A backend.
pub(crate) struct SimBackend {
    pub(crate) health: Cell<Health>,
    /// The last value of each key.
    pub(crate) values: RefCell<BTreeMap<u32, u64>>,
    /// Everything that it ever took.
    pub(crate) taken: RefCell<BTreeSet<(u32, u64)>>,
    /// Lines that make no sense, which it took for points: there must be none.
    pub(crate) nonsense: Cell<u64>,
    /// It refuses these keys' values that are divisible by 7.
    pub(crate) picky: Cell<bool>,
    ghosts: RefCell<Vec<Vec<u8>>>,
}

impl SimBackend {
    pub(crate) fn new(picky: bool) -> Self {
        Self {
            health: Cell::new(Health::Well),
            values: RefCell::default(),
            taken: RefCell::default(),
            nonsense: Cell::new(0),
            picky: Cell::new(picky),
            ghosts: RefCell::default(),
        }
    }

    /// Whether a probe would find it.
    pub(crate) fn is_up(&self) -> bool {
        !matches!(self.health.get(), Health::Down | Health::Hung)
    }

    /// What it says to a body of lines `key value`.
    pub(crate) fn receive(&self, body: &[u8]) -> Sent {
        match self.health.get() {
            Health::Well => self.take(body),
            Health::Down => Sent::Away { timed_out: false },
            Health::Failing => answered(500, "disk full"),
            Health::NoDatabase => answered(404, "database not found"),
            Health::Mute => {
                self.take(body);
                Sent::Died
            }
            Health::Hung => {
                self.ghosts.borrow_mut().push(body.to_vec());
                Sent::Away { timed_out: true }
            }
        }
    }

    /// It is well again: what it was sent while it hung is done now.
    pub(crate) fn wake(&self) {
        self.health.set(Health::Well);
        for ghost in self.ghosts.take() {
            self.take(&ghost);
        }
    }

    /// As InfluxDB does it: good lines are taken, and a 400 tells of the others.
    fn take(&self, body: &[u8]) -> Sent {
        let mut refused = 0;
        for line in body
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let text = String::from_utf8_lossy(line);
            let point = text
                .strip_prefix('k')
                .and_then(|text| text.split_once(" v="))
                .and_then(|(key, value)| Some((key.parse().ok()?, value.parse::<u64>().ok()?)));
            let Some((key, value)) = point else {
                self.nonsense.set(self.nonsense.get() + 1);
                continue;
            };
            if self.picky.get() && is_poison(value) {
                refused += 1;
                continue;
            }
            self.values.borrow_mut().insert(key, value);
            self.taken.borrow_mut().insert((key, value));
        }
        match refused {
            0 => answered(204, ""),
            _ => answered(400, "partial write"),
        }
    }
}

/// What a picky backend refuses.
pub(crate) fn is_poison(value: u64) -> bool {
    value.is_multiple_of(7)
}

fn answered(status: u16, reason: &str) -> Sent {
    Sent::Answered {
        status,
        reason: reason.to_owned(),
        retry_after: None,
    }
}
