//! One connection to the stand-in backend: read, answer, flush, in the order the requests came.

use std::mem;
use std::net::{Shutdown, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::desk::{Desk, Then};
use super::request::{Parsed, parse};
use crate::limits::tools::TOOL_READ_BYTES;

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Wait for the next event.
    Keep,
    /// An answer waits for the delay: call [`Client::release`] then.
    Later,
    /// Forget it.
    Close,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    /// The beginning of a request that is not whole; empty between requests.
    input: Vec<u8>,
    /// Not worth reading as a request before `input` holds this much.
    need: usize,
    output: Vec<u8>,
    sent: usize,
    /// Its output waits for the delay.
    held: bool,
    /// Nothing more is answered once the output is out.
    closing: bool,
    /// What still comes after a refusal is thrown away, so that the refusal is not lost to a reset.
    refused: bool,
    told_to_continue: bool,
    /// The other side has hung up: read to the end.
    hangup: bool,
}

impl Client {
    /// A connection that has just been accepted, and does not block.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            need: 0,
            output: Vec::new(),
            sent: 0,
            held: false,
            closing: false,
            refused: false,
            told_to_continue: false,
            hangup: false,
        }
    }

    /// Something has changed: goes as far as it can. `scratch` serves all connections.
    pub(super) fn ready(&mut self, hangup: bool, scratch: &mut [u8], desk: &mut Desk) -> Fate {
        self.hangup |= hangup;
        if self.held {
            return Fate::Keep;
        }
        // An edge that came while answers were unsent was passed over: then look to the end.
        let thorough = self.hangup || !self.output.is_empty();
        self.go(thorough, scratch, desk)
    }

    /// The delay is over.
    pub(super) fn release(&mut self, scratch: &mut [u8], desk: &mut Desk) -> Fate {
        self.held = false;
        self.go(true, scratch, desk)
    }

    fn go(&mut self, thorough: bool, scratch: &mut [u8], desk: &mut Desk) -> Fate {
        loop {
            if let Some(fate) = self.settle() {
                return fate;
            }
            if !self.input.is_empty() && self.input.len() >= self.need {
                let mut input = mem::take(&mut self.input);
                let used = self.answer_all(&mut input, desk);
                input.drain(..used);
                self.input = input;
                if used > 0 {
                    continue;
                }
            }
            let (got, room) = self.receive(scratch);
            match got {
                Ok(0) => return Fate::Close,
                Ok(got) => {
                    if self.input.is_empty() {
                        let used = self.answer_all(&mut scratch[..got], desk);
                        self.input.extend_from_slice(&scratch[used..got]);
                    } else if self.input.len() >= self.need {
                        continue;
                    }
                    // A short read has emptied the socket: the next edge tells of more.
                    if got < room && !thorough {
                        return self.settle().unwrap_or(Fate::Keep);
                    }
                }
                Err(Errno::AGAIN) => return self.settle().unwrap_or(Fate::Keep),
                Err(Errno::INTR) => {}
                Err(_) => return Fate::Close,
            }
        }
    }

    /// Reads into `scratch`, or behind what is there already; says how much there was room for.
    fn receive(&mut self, scratch: &mut [u8]) -> (Result<usize, Errno>, usize) {
        let flags = RecvFlags::empty();
        if self.refused {
            self.input.clear();
        }
        if self.input.is_empty() {
            return (
                recv(&self.stream, &mut *scratch, flags).map(|(got, _)| got),
                scratch.len(),
            );
        }
        let missing = self.need.saturating_sub(self.input.len());
        self.input.reserve(missing.clamp(4096, 4 * TOOL_READ_BYTES));
        let room = self.input.capacity() - self.input.len();
        let got = recv(&self.stream, spare_capacity(&mut self.input), flags);
        (got.map(|(got, _)| got), room)
    }

    /// Answers every whole request; returns how many bytes they were.
    fn answer_all(&mut self, bytes: &mut [u8], desk: &mut Desk) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.closing && !self.held {
            match parse(&mut bytes[at..]) {
                Parsed::Whole(request) => {
                    let body = &bytes[at..][request.body.clone()];
                    self.held = desk.answer(&request, body, &mut self.output) == Then::Hold;
                    self.closing = !request.keep;
                    self.told_to_continue = false;
                    self.need = 0;
                    at += request.end;
                }
                Parsed::Partial { need, expects } => {
                    if expects && !self.told_to_continue {
                        self.output
                            .extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                        self.told_to_continue = true;
                    }
                    self.need = need;
                    return at;
                }
                Parsed::Refused(status) => {
                    desk.refuse(status, &mut self.output);
                    self.closing = true;
                    self.refused = true;
                }
            }
        }
        if self.closing { bytes.len() } else { at }
    }

    /// Sends what may be sent; `None` is to go on reading.
    fn settle(&mut self) -> Option<Fate> {
        if self.held {
            return Some(Fate::Later);
        }
        while self.sent < self.output.len() {
            match send(&self.stream, &self.output[self.sent..], SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(Errno::AGAIN) => return Some(Fate::Keep),
                Err(Errno::INTR) => {}
                Err(_) => return Some(Fate::Close),
            }
        }
        let spoke = self.sent > 0;
        self.output.clear();
        self.sent = 0;
        if self.closing && !self.refused {
            return Some(Fate::Close);
        }
        if self.refused && spoke && self.stream.shutdown(Shutdown::Write).is_err() {
            return Some(Fate::Close);
        }
        None
    }
}

impl Client {
    /// The socket, to register it.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}
