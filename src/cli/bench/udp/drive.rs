//! The loop of `bench` by UDP: datagrams out in bursts, datagrams in, on one thread.
//!
//! ```text
//!  due ─▶ burst (≤ 1 ms's worth) ─▶ batch (≤ 64, one socket) ─▶ sendmmsg
//!                                       └─ between batches ─▶ recvmmsg of each receiver ─▶ checked
//! ```
//!
//! Sender and receivers often have one CPU between them, so nothing is handed from thread to thread, and
//! no datagram allocates. Receivers are looked at after each batch that is sent: that bounds what waits
//! in their sockets, and what latencies have in them that is not the relay's.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;

use super::line::{Moment, Said, Shape};
use super::tally::{Heard, Refusal, Sent, Volume};
use crate::cli::bench::drive::Pace;
use crate::cli::bench::load::Schedule;
use crate::cli::datagrams::{Mailbox, Outbox};
use crate::cli::poll::{self, Nanos, Poll, Ready, Trigger};
use crate::limits::TICK;
use crate::limits::tools::{
    BENCH_BATCHES_PER_TURN, BENCH_BURST_GAP, BENCH_LINGER_MAX, BENCH_SOCKET_REST, TOOL_DATAGRAMS,
};

/// One place that receives.
pub(super) struct Receiver {
    /// The socket.
    pub(super) mailbox: Mailbox,
    /// What came.
    pub(super) heard: Heard,
}

/// A run.
pub(super) struct Drive {
    poll: Poll,
    ready: Vec<Ready>,
    pace: Pace,
    shape: Shape,
    lines: usize,
    outboxes: Vec<Outbox>,
    /// Whose turn it is.
    turn: usize,
    /// A batch of datagrams, each with its lines, but for their digits.
    batch: Vec<u8>,
    /// Datagrams that were due and are not sent.
    owed: u64,
    /// No burst before this.
    rest_until: Nanos,
    /// What a monotonic moment lacks to one since 1970.
    wall_offset: Nanos,
    wall_last: Nanos,
    /// When it began, as times of lines are told.
    pub(super) wall_start: Nanos,
    measure_from: Nanos,
    end: Nanos,
    stopped: bool,
    /// What was sent.
    pub(super) sent: Sent,
    /// Where things arrive.
    pub(super) receivers: Vec<Receiver>,
    heard_last: Nanos,
}

impl Drive {
    /// One socket for each of `to`, and those that receive already listen.
    pub(super) fn new(
        to: &[SocketAddr],
        receivers: Vec<Receiver>,
        shape: Shape,
        lines: usize,
        pace: Pace,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (token, receiver) in receivers.iter().enumerate() {
            poll.add(receiver.mailbox.socket(), token, Trigger::Level)?;
        }
        let outboxes = to.iter().map(|to| Outbox::connect(*to));
        Ok(Self {
            poll,
            ready: Vec::new(),
            pace,
            batch: shape.blank(lines * TOOL_DATAGRAMS),
            shape,
            lines,
            outboxes: outboxes.collect::<io::Result<_>>()?,
            turn: 0,
            owed: 0,
            rest_until: 0,
            wall_offset: poll::wall().saturating_sub(poll::now()),
            wall_last: 0,
            wall_start: 0,
            measure_from: 0,
            end: Nanos::MAX,
            stopped: false,
            sent: Sent::new(to.len()),
            receivers,
            heard_last: 0,
        })
    }

    /// Sends to the end, or to a signal, and then waits until nothing has come for `linger`. Returns how
    /// many seconds were measured. `progress` hears of the time gone, now and then.
    pub(super) fn run(
        &mut self,
        linger: Nanos,
        mut progress: impl FnMut(Nanos),
    ) -> io::Result<f64> {
        let stop = poll::stop_signal()?;
        self.poll.add(&stop, STOP, Trigger::Level)?;
        let start = poll::now();
        self.wall_start = start + self.wall_offset;
        self.measure_from = start + self.pace.warmup;
        self.end = self.measure_from + self.pace.duration;
        let pace = &self.pace;
        let mut schedule = pace.rate.map(|rate| Schedule::new(start, rate, pace.seed));
        let (mut tick, mut look) = (start, start);
        loop {
            let now = poll::now();
            if now >= self.end || self.stopped {
                self.end = self.end.min(now);
                break;
            }
            if tick <= now {
                progress(now - start);
                tick = now + poll::span(TICK);
            }
            let until = match &mut schedule {
                Some(schedule) => self.burst(schedule, now),
                None => self.send_some(TOOL_DATAGRAMS as u64),
            };
            self.receive();
            let until = until.min(tick).min(self.end);
            // Signals are looked for now and then, where there is no time to wait.
            if until > now || look <= now {
                look = now + poll::span(BENCH_BURST_GAP);
                self.wait(until)?;
            }
        }
        if let Some(schedule) = &mut schedule {
            self.rest_until = 0;
            self.burst(schedule, self.end);
        }
        self.sent.unsent = self.owed;
        // What follows is short, and a signal that has been heard would cut it to nothing.
        self.poll.remove(&stop)?;
        self.linger(linger)?;
        let measured = self.end.saturating_sub(self.measure_from);
        Ok(measured as f64 / poll::SECOND as f64)
    }

    fn wait(&mut self, until: Nanos) -> io::Result<()> {
        self.poll.wait(&mut self.ready, Some(until))?;
        self.stopped |= self.ready.iter().any(|ready| ready.token == STOP);
        Ok(())
    }

    /// Sends what is due, or the first of it; returns when to come again.
    fn burst(&mut self, schedule: &mut Schedule, now: Nanos) -> Nanos {
        while schedule.due() <= now && schedule.due() < self.end {
            schedule.advance();
            self.owed += 1;
        }
        if now < self.rest_until {
            return self.rest_until;
        }
        let rate = self.pace.rate.unwrap_or_default();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive and bounded"
        )]
        let most = self.owed.min((rate / 1000.0).ceil() as u64);
        self.rest_until = now + poll::span(BENCH_BURST_GAP);
        let sent_before = self.sent.all.datagrams;
        let mut left = most;
        while left > 0 {
            let rest = self.send_some(left);
            left = most - (self.sent.all.datagrams - sent_before).min(most);
            self.receive();
            if rest > 0 {
                self.rest_until = self.rest_until.max(rest);
                break;
            }
        }
        self.owed -= most - left;
        if self.owed > 0 || left > 0 {
            return self.rest_until;
        }
        schedule.due().max(self.rest_until)
    }

    /// Sends one batch, of `most` at most, from the socket whose turn it is; returns how long to rest.
    fn send_some(&mut self, most: u64) -> Nanos {
        let count = usize::try_from(most).map_or(TOOL_DATAGRAMS, |most| most.min(TOOL_DATAGRAMS));
        let socket = self.turn;
        self.turn = (socket + 1) % self.outboxes.len();
        let now = self.write(socket, count);
        let size = self.lines * self.shape.size();
        let outbox = &mut self.outboxes[socket];
        let bytes = &self.batch[..count * size];
        let mut sent = outbox.send(bytes, size);
        if let Err(errno) = sent
            && let Some(refusal) = refusal(errno)
        {
            self.sent.refusals[refusal as usize] += 1;
            // What a socket tells of is often a datagram from before, and then it takes this one.
            sent = outbox.send(bytes, size);
        }
        let Ok(sent) = sent else {
            return now + poll::span(BENCH_SOCKET_REST);
        };
        let volume = Volume {
            datagrams: sent as u64,
            points: (sent * self.lines) as u64,
            bytes: (sent * size) as u64,
        };
        self.sent.add(socket, volume, now >= self.measure_from);
        0
    }

    /// Writes the next datagrams of `socket`; what is not sent is written again.
    fn write(&mut self, socket: usize, count: usize) -> Nanos {
        let now = poll::now();
        let mut number = self.sent.lines[socket];
        let mut lines = self.batch.chunks_exact_mut(self.shape.size());
        // No two datagrams carry the same time, or their points could be the same.
        let mut wall = (now + self.wall_offset).max(self.wall_last + 1);
        for _ in 0..count {
            let moment = Moment::new(wall);
            for line in lines.by_ref().take(self.lines) {
                self.shape.write(line, Said { socket, number }, &moment);
                number += 1;
            }
            wall += 1;
        }
        self.wall_last = wall;
        now
    }

    /// Takes what has come, of each receiver about as much as the others.
    fn receive(&mut self) {
        for Receiver { mailbox, heard } in &mut self.receivers {
            for _ in 0..BENCH_BATCHES_PER_TURN {
                let count = mailbox.take();
                if count > 0 {
                    self.heard_last = poll::now();
                }
                let wall = self.heard_last + self.wall_offset;
                let measure_from = self.measure_from + self.wall_offset;
                for index in 0..count {
                    let body = mailbox.datagram(index);
                    heard.datagram(body, wall, &self.sent.lines, measure_from);
                }
                if count < TOOL_DATAGRAMS {
                    break;
                }
            }
        }
    }

    fn linger(&mut self, linger: Nanos) -> io::Result<()> {
        if self.receivers.is_empty() {
            return Ok(());
        }
        self.heard_last = poll::now();
        let latest = self.heard_last + poll::span(BENCH_LINGER_MAX);
        loop {
            self.receive();
            let until = latest.min(self.heard_last + linger);
            if poll::now() >= until {
                return Ok(());
            }
            self.poll.wait(&mut self.ready, Some(until))?;
        }
    }
}

/// What kind of refusal it is; `None` is a socket that has no room just now.
fn refusal(errno: Errno) -> Option<Refusal> {
    match errno {
        Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS => None,
        Errno::ECONNREFUSED => Some(Refusal::Refused),
        Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EHOSTDOWN => {
            Some(Refusal::Unreachable)
        }
        Errno::EMSGSIZE => Some(Refusal::TooLarge),
        _ => Some(Refusal::Other),
    }
}

const STOP: usize = usize::MAX - 1;
