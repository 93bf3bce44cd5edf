//! The loop of `bench`: events in, requests out, on time.
//!
//! In the open loop a request is due whether or not a connection is free, and its latency counts
//! from then: a server that stalls is charged with every request that had to wait for it.

use std::io;
use std::net::SocketAddr;

use super::client::{Client, Flight, Heard};
use super::load::{Load, Schedule};
use super::report::{Loss, Tally};
use crate::cli::poll::{self, Nanos, Poll, Ready, Trigger};
use crate::limits::TICK;
use crate::limits::tools::{BENCH_CONNECT_REST, BENCH_CONNECT_WAIT_MAX, TOOL_READ_BYTES};

/// One target, with what is sent to it.
pub(super) struct Lane {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// The writes.
    pub(super) load: Load,
    /// What an idle connection says once.
    pub(super) hello: Vec<u8>,
}

/// How long, and how fast.
pub(super) struct Pace {
    /// Requests a second over all connections; `None` is as fast as the answers come.
    pub(super) rate: Option<f64>,
    /// Arrivals as of independent clients.
    pub(super) seed: Option<u64>,
    /// Not measured.
    pub(super) warmup: Nanos,
    /// Measured.
    pub(super) duration: Nanos,
    /// One answer.
    pub(super) timeout: Nanos,
}

/// A run.
pub(super) struct Drive {
    poll: Poll,
    lanes: Vec<Lane>,
    pace: Pace,
    clients: Vec<Client>,
    /// How many of the clients carry load; the others are idle.
    active: usize,
    /// Clients that may send. One may be here twice, or no longer be free.
    free: Vec<usize>,
    in_flight: usize,
    /// What a monotonic moment lacks to one since 1970.
    wall_offset: Nanos,
    wall_last: Nanos,
    measure_from: Nanos,
    end: Nanos,
    stopped: bool,
    scratch: Vec<u8>,
    /// What has been seen.
    pub(super) tally: Tally,
}

impl Drive {
    /// `active` connections with load and `idle` ones without, spread over the targets in turn.
    pub(super) fn new(
        lanes: Vec<Lane>,
        pace: Pace,
        active: usize,
        idle: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            lanes,
            pace,
            clients: (0..active + idle).map(|_| Client::new()).collect(),
            active,
            free: Vec::new(),
            in_flight: 0,
            wall_offset: poll::wall().saturating_sub(poll::now()),
            wall_last: 0,
            measure_from: 0,
            end: Nanos::MAX,
            stopped: false,
            scratch: vec![0; TOOL_READ_BYTES],
            tally: Tally::new(),
        })
    }

    /// How many connections stand.
    pub(super) fn connections_up(&self) -> usize {
        self.clients.iter().filter(|client| client.is_up()).count()
    }

    /// Runs to the end, or to a signal; returns how many seconds were measured, or `None` if nothing
    /// could be reached. `progress` hears of the time gone, now and then.
    pub(super) fn run(&mut self, mut progress: impl FnMut(Nanos)) -> io::Result<Option<f64>> {
        let stop = poll::stop_signal()?;
        self.poll.add(&stop, STOP, Trigger::Level)?;
        if !self.gather()? {
            return Ok(None);
        }
        let start = poll::now();
        self.measure_from = start + self.pace.warmup;
        self.end = self.measure_from + self.pace.duration;
        let mut schedule = self
            .pace
            .rate
            .map(|rate| Schedule::new(start, rate, self.pace.seed));
        if schedule.is_none() {
            (0..self.active).for_each(|index| self.send_next(index, poll::now()));
        }
        let (mut ready, mut tick) = (Vec::new(), start);
        loop {
            let now = poll::now();
            if self.stopped {
                self.end = self.end.min(now);
            }
            if now >= self.end && self.in_flight == 0 {
                break;
            }
            if tick <= now {
                self.tick(now);
                progress(now.min(self.end) - start);
                tick = now + poll::span(TICK);
            }
            let mut until = if now < self.end {
                tick.min(self.end)
            } else {
                tick
            };
            if let Some(schedule) = &mut schedule {
                until = until.min(self.dispatch(schedule, now));
            }
            self.poll.wait(&mut ready, Some(until))?;
            self.events(&ready);
        }
        self.count_unsent(schedule);
        let measured = poll::now().max(self.end).saturating_sub(self.measure_from);
        Ok(Some(measured as f64 / poll::SECOND as f64))
    }

    /// Connects; true once every connection stands, or some do and the others take too long.
    fn gather(&mut self) -> io::Result<bool> {
        let until = poll::now() + poll::span(BENCH_CONNECT_WAIT_MAX);
        let mut ready = Vec::new();
        loop {
            let now = poll::now();
            self.tick(now);
            let up = self.connections_up();
            if up == self.clients.len() || now >= until || self.stopped {
                return Ok(up > 0);
            }
            self.poll.wait(
                &mut ready,
                Some(until.min(now + poll::span(BENCH_CONNECT_REST))),
            )?;
            self.events(&ready);
        }
    }

    fn events(&mut self, ready: &[Ready]) {
        for &Ready { token, hangup } in ready {
            if token == STOP {
                self.stopped = true;
            } else if let Some(client) = self.clients.get_mut(token) {
                let heard = client.ready(hangup, &mut self.scratch);
                self.hear(token, heard);
            }
        }
    }

    /// Connects what is down, and gives up what takes too long.
    fn tick(&mut self, now: Nanos) {
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            let heard = client.expire(now);
            if client.is_down() && client.rest_until <= now && now < self.end {
                self.connect(index);
            }
            self.hear(index, heard);
        }
    }

    fn connect(&mut self, index: usize) {
        let address = self.lanes[index % self.lanes.len()].address;
        if self.clients[index]
            .connect(address, &self.poll, index)
            .is_err()
        {
            self.hear(index, Heard::Lost(Loss::Connect, None));
        }
    }

    /// Sends what is due on the connections that are free; returns when the next is due, as far as
    /// there is a connection for it.
    fn dispatch(&mut self, schedule: &mut Schedule, now: Nanos) -> Nanos {
        loop {
            let due = schedule.due();
            if due >= self.end {
                return Nanos::MAX;
            }
            while self
                .free
                .last()
                .is_some_and(|index| !self.clients[*index].is_free())
            {
                self.free.pop();
            }
            let Some(index) = self.free.last().copied() else {
                return Nanos::MAX;
            };
            if due > now {
                return due;
            }
            self.free.pop();
            schedule.advance();
            self.send(index, due);
        }
    }

    /// The connection may send: at once in the closed loop, when something is due in the open one.
    fn send_next(&mut self, index: usize, now: Nanos) {
        if self.pace.rate.is_some() {
            // Twice in a row is at most twice as many as there are connections.
            if self.free.len() < 2 * self.clients.len() {
                self.free.push(index);
            }
        } else if self.measure_from > 0 && now < self.end && self.clients[index].is_free() {
            self.send(index, now);
        }
    }

    fn send(&mut self, index: usize, due: Nanos) {
        let now = poll::now();
        let measured = due >= self.measure_from;
        // No two requests carry the same time, or their points would be the same.
        self.wall_last = (now + self.wall_offset).max(self.wall_last + 1);
        let lanes = self.lanes.len();
        let request = self.lanes[index % lanes].load.next(self.wall_last);
        let (deadline, bytes) = (now + self.pace.timeout, request.len());
        self.tally.sent += u64::from(measured);
        self.in_flight += 1;
        let heard = self.clients[index].send(
            request,
            Flight {
                due,
                deadline,
                bytes,
                measured,
            },
        );
        self.hear(index, heard);
    }

    fn hear(&mut self, index: usize, heard: Heard) {
        let is_active = index < self.active;
        match heard {
            Heard::Nothing => {}
            Heard::Connected if is_active => self.send_next(index, poll::now()),
            Heard::Connected => self.say_hello(index),
            Heard::Answered(status, flight) => {
                let now = poll::now();
                if is_active {
                    self.in_flight -= 1;
                }
                if flight.measured {
                    self.tally
                        .answered(status, now.saturating_sub(flight.due), flight.bytes);
                }
                if self.clients[index].is_down() && now < self.end {
                    self.connect(index);
                } else if is_active {
                    self.send_next(index, now);
                }
            }
            Heard::Lost(why, flight) => {
                let now = poll::now();
                if is_active {
                    self.in_flight -= usize::from(flight.is_some());
                    if flight.is_none_or(|flight| flight.measured) {
                        self.tally.lost(why);
                    }
                }
                // Connected again with a later tick, so that a dead server is not stormed.
                self.clients[index].rest_until = now + poll::span(BENCH_CONNECT_REST);
            }
            Heard::Closed if poll::now() < self.end => self.connect(index),
            Heard::Closed => {}
        }
    }

    fn say_hello(&mut self, index: usize) {
        let deadline = poll::now() + self.pace.timeout;
        let hello = &self.lanes[index % self.lanes.len()].hello;
        let flight = Flight {
            due: 0,
            deadline,
            bytes: hello.len(),
            measured: false,
        };
        let heard = self.clients[index].send(hello, flight);
        self.hear(index, heard);
    }

    /// What was due and found no connection has waited until the end, at least.
    fn count_unsent(&mut self, schedule: Option<Schedule>) {
        let Some(mut schedule) = schedule else { return };
        while schedule.due() < self.end {
            if schedule.due() >= self.measure_from {
                self.tally.unsent(self.end - schedule.due());
            }
            schedule.advance();
        }
    }
}

const STOP: usize = usize::MAX - 1;
