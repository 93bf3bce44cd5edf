//! What was sent in datagrams, and what one receiver has heard of it. Pure.
//!
//! Every line that comes is one of four things, so nothing can get lost between them:
//! `points = new + duplicated + damaged`, and what was sent and is not among the new is lost. Whatever
//! lies between may pack lines into other datagrams; so lines are counted, not datagrams.

use hdrhistogram::Histogram;
use memchr::memchr;

use super::line::{Reader, Shape};
use super::seen::{Arrival, Seen};

/// Datagrams, the lines in them, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Volume {
    /// Datagrams.
    pub(super) datagrams: u64,
    /// Lines.
    pub(super) points: u64,
    /// Bytes, without headers.
    pub(super) bytes: u64,
}

/// Why datagrams were not taken by a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody listens there; told of a datagram before.
    Refused,
    /// No route, or a net or host that is down.
    Unreachable,
    /// Larger than the path allows.
    TooLarge,
    /// Something else, such as a firewall.
    Other,
}

/// How [`Refusal`] is called, in its order.
pub(super) const REFUSALS: [&str; 4] = ["refused", "unreachable", "too_large", "other"];

/// What was sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// All of it, the warm-up included, so that it can be held against what others counted.
    pub(super) all: Volume,
    /// What was sent after the warm-up.
    pub(super) measured: Volume,
    /// Datagrams that were due and found no room, or no time, before the end.
    pub(super) unsent: u64,
    /// How often a socket refused, by [`Refusal`].
    pub(super) refusals: [u64; REFUSALS.len()],
    /// Lines sent by each socket.
    pub(super) lines: Vec<u64>,
}

impl Sent {
    /// Nothing yet, by so many sockets.
    pub(super) fn new(sockets: usize) -> Self {
        Self {
            lines: vec![0; sockets],
            ..Self::default()
        }
    }

    /// `socket` has sent so many datagrams.
    pub(super) fn add(&mut self, socket: usize, sent: Volume, measured: bool) {
        self.lines[socket] += sent.points;
        self.all.add(sent);
        if measured {
            self.measured.add(sent);
        }
    }
}

impl Volume {
    fn add(&mut self, more: Self) {
        self.datagrams += more.datagrams;
        self.points += more.points;
        self.bytes += more.bytes;
    }
}

/// What one receiver has heard.
pub(super) struct Heard {
    reader: Reader,
    /// By socket.
    seen: Vec<Seen>,
    /// All that came.
    pub(super) all: Volume,
    /// Lines that came for the first time.
    pub(super) new: u64,
    /// Lines that had come before.
    pub(super) duplicated: u64,
    /// Lines that are none of this run's, or not as they were sent.
    pub(super) damaged: u64,
    /// Lines that came after one that the same socket had sent later.
    pub(super) out_of_order: u64,
    /// When the last datagram came, as times of lines are told; 0 if none did.
    pub(super) last_at: u64,
    /// From just before the send to just after the receipt, once per line; nanoseconds.
    pub(super) latency: Histogram<u64>,
}

impl Heard {
    /// Nothing yet.
    pub(super) fn new(shape: &Shape, sockets: usize) -> Self {
        let hour = 3_600_000_000_000;
        Self {
            reader: Reader::new(shape),
            seen: (0..sockets).map(|_| Seen::new()).collect(),
            all: Volume::default(),
            new: 0,
            duplicated: 0,
            damaged: 0,
            out_of_order: 0,
            last_at: 0,
            latency: Histogram::new_with_bounds(1_000, hour, 3).expect("the bounds are in order"),
        }
    }

    /// One datagram that came at `now`. `sent` is what each socket has sent; lines sent before
    /// `measure_from` have no latency. *Once per datagram; allocates nothing.*
    pub(super) fn datagram(&mut self, body: &[u8], now: u64, sent: &[u64], measure_from: u64) {
        self.all.datagrams += 1;
        self.all.bytes += body.len() as u64;
        self.last_at = now;
        // Lines that were sent together have one latency: it is recorded once, so many times.
        let (mut together, mut times) = (0, 0);
        let mut rest = body;
        while !rest.is_empty() {
            let line = &rest[..memchr(b'\n', rest).unwrap_or(rest.len())];
            rest = rest.get(line.len() + 1..).unwrap_or_default();
            if line.is_empty() {
                continue;
            }
            let Some(sent_at) = self.line(line, sent) else {
                continue;
            };
            if sent_at != together {
                self.record(now, together, times, measure_from);
                (together, times) = (sent_at, 0);
            }
            times += 1;
        }
        self.record(now, together, times, measure_from);
    }

    /// When it was sent, if it has come for the first time.
    fn line(&mut self, line: &[u8], sent: &[u64]) -> Option<u64> {
        self.all.points += 1;
        let ours = self
            .reader
            .read(line)
            .filter(|(said, _)| sent.get(said.socket).is_some_and(|all| said.number < *all));
        let Some((said, sent_at)) = ours else {
            self.damaged += 1;
            return None;
        };
        match self.seen[said.socket].hear(said.number) {
            Arrival::InOrder => {}
            Arrival::Late => self.out_of_order += 1,
            Arrival::Again => {
                self.duplicated += 1;
                return None;
            }
        }
        self.new += 1;
        Some(sent_at)
    }

    fn record(&mut self, now: u64, sent_at: u64, times: u64, measure_from: u64) {
        if times > 0 && sent_at >= measure_from {
            let latency = now.saturating_sub(sent_at);
            self.latency.saturating_record_n(latency, times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::{Moment, Said, Shape};
    use super::Heard;

    const SENT: u64 = 1_700_000_000_000_000_000;

    fn line(shape: &Shape, number: u64) -> Vec<u8> {
        let mut line = shape.blank(1);
        let said = Said { socket: 1, number };
        shape.write(&mut line, said, &Moment::new(SENT + number));
        line
    }

    #[test]
    fn every_line_is_counted_as_one_thing() {
        let shape = Shape::new(1, true, None);
        let mut heard = Heard::new(&shape, 2);
        let mut body = Vec::new();
        for number in [0, 2, 1, 2, 5, 10] {
            body.extend_from_slice(&line(&shape, number));
        }
        body.extend_from_slice(b"\ncpu v=1\n");
        body.extend_from_slice(&line(&shape, 6)[..95]);
        // 5 lines later than 5 were never sent, so 10 is none of ours.
        heard.datagram(&body, SENT + 50_000, &[0, 10], SENT + 2);
        assert_eq!((heard.all.datagrams, heard.all.points), (1, 8));
        assert_eq!(heard.all.bytes, body.len() as u64);
        assert_eq!((heard.new, heard.duplicated, heard.damaged), (5, 1, 2));
        assert_eq!(heard.out_of_order, 1);
        assert_eq!(heard.latency.len(), 3, "two were of the warm-up");
        assert!((49_000..51_000).contains(&heard.latency.max()));
    }
}
