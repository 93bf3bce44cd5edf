//! One connection of `bench`: connect, send one request, read its answer, again.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_nodelay, socket_error};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use super::answer::{Parsed, parse};
use super::report::Loss;
use crate::cli::poll::{Nanos, Poll, Trigger};

/// One request under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flight {
    /// When it was due; latency counts from here.
    pub(super) due: Nanos,
    /// When it is given up.
    pub(super) deadline: Nanos,
    /// Bytes of the request.
    pub(super) bytes: usize,
    /// Whether it is measured; what belongs to the warm-up, or only says hello, is not.
    pub(super) measured: bool,
}

/// What one event meant.
#[derive(Debug)]
pub(super) enum Heard {
    /// Nothing yet.
    Nothing,
    /// It may send its first request.
    Connected,
    /// Its request was answered. The connection is free again, or closed.
    Answered(u16, Flight),
    /// The connection is gone, and its request with it, where it had one.
    Lost(Loss, Option<Flight>),
    /// It was closed between two requests, which is the server's right.
    Closed,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Down,
    Connecting,
    Free,
    Busy(Flight),
}

/// One connection, or the place for one.
#[derive(Debug)]
pub(super) struct Client {
    socket: Option<OwnedFd>,
    state: State,
    /// What the socket did not take at once.
    output: Vec<u8>,
    /// The beginning of an answer.
    input: Vec<u8>,
    /// Not connected again before this.
    pub(super) rest_until: Nanos,
}

impl Client {
    /// Not connected.
    pub(super) fn new() -> Self {
        let (output, input) = (Vec::new(), Vec::new());
        Self {
            socket: None,
            state: State::Down,
            output,
            input,
            rest_until: 0,
        }
    }

    /// Begins to connect; an event as `token` tells how it went.
    pub(super) fn connect(
        &mut self,
        to: SocketAddr,
        poll: &Poll,
        token: usize,
    ) -> Result<(), Errno> {
        self.close();
        let family = if to.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        set_tcp_nodelay(&socket, true)?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        poll.add(&socket, token, Trigger::Edge)
            .map_err(|_| Errno::NOMEM)?;
        self.socket = Some(socket);
        self.state = State::Connecting;
        Ok(())
    }

    /// Whether it may send.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.state, State::Free)
    }

    /// Whether it stands.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Free | State::Busy(_))
    }

    /// Whether it must be connected.
    pub(super) fn is_down(&self) -> bool {
        matches!(self.state, State::Down)
    }

    /// Sends `request`; the connection must be free. What does not go at once goes with later events.
    pub(super) fn send(&mut self, request: &[u8], flight: Flight) -> Heard {
        let Some(socket) = self.socket.as_ref().filter(|_| self.is_free()) else {
            return Heard::Nothing;
        };
        let sent = match send(socket, request, SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => return self.lose(Loss::Reset, Some(flight)),
        };
        self.output.extend_from_slice(&request[sent..]);
        self.state = State::Busy(flight);
        Heard::Nothing
    }

    /// Gives up a request whose time is over.
    pub(super) fn expire(&mut self, now: Nanos) -> Heard {
        match self.state {
            State::Busy(flight) if flight.deadline <= now => self.lose(Loss::Timeout, Some(flight)),
            _ => Heard::Nothing,
        }
    }

    /// Something has changed: goes as far as it can. `scratch` serves all connections.
    pub(super) fn ready(&mut self, hangup: bool, scratch: &mut [u8]) -> Heard {
        let Some(socket) = &self.socket else {
            return Heard::Nothing;
        };
        match self.state {
            State::Down => Heard::Nothing,
            State::Connecting => match socket_error(socket) {
                Ok(Ok(())) if !hangup => {
                    self.state = State::Free;
                    Heard::Connected
                }
                _ => self.lose(Loss::Connect, None),
            },
            State::Free => match recv(socket, scratch, RecvFlags::empty()) {
                Err(Errno::AGAIN) => Heard::Nothing,
                Ok((1.., _)) => self.lose(Loss::Answer, None),
                _ => {
                    self.close();
                    Heard::Closed
                }
            },
            State::Busy(flight) => {
                // A server may answer and close before it has read all: its answer still counts.
                self.flush();
                self.receive(flight, hangup, scratch)
            }
        }
    }

    fn flush(&mut self) {
        let Some(socket) = &self.socket else { return };
        while !self.output.is_empty() {
            match send(socket, &self.output, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn receive(&mut self, flight: Flight, hangup: bool, scratch: &mut [u8]) -> Heard {
        loop {
            let Some(socket) = &self.socket else {
                return Heard::Nothing;
            };
            let got = match recv(socket, &mut *scratch, RecvFlags::empty()) {
                Ok((got, _)) => got,
                Err(Errno::AGAIN) => return Heard::Nothing,
                Err(Errno::INTR) => continue,
                Err(_) => return self.lose(Loss::Reset, Some(flight)),
            };
            let bytes = if self.input.is_empty() {
                &scratch[..got]
            } else {
                self.input.extend_from_slice(&scratch[..got]);
                &self.input[..]
            };
            match parse(bytes) {
                Parsed::Whole { status, end, keep } => {
                    let keep = keep && end == bytes.len() && self.output.is_empty() && !hangup;
                    self.settle(keep);
                    return Heard::Answered(status, flight);
                }
                Parsed::UntilClose { status } if got == 0 => {
                    self.settle(false);
                    return Heard::Answered(status, flight);
                }
                Parsed::Partial if got == 0 => return self.lose(Loss::Reset, Some(flight)),
                Parsed::Bad => return self.lose(Loss::Answer, Some(flight)),
                Parsed::Partial | Parsed::UntilClose { .. } => {}
            }
            if self.input.is_empty() {
                self.input.extend_from_slice(&scratch[..got]);
            }
            if got < scratch.len() && !hangup {
                return Heard::Nothing;
            }
        }
    }

    fn settle(&mut self, keep: bool) {
        self.input.clear();
        if keep {
            self.state = State::Free;
        } else {
            self.close();
        }
    }

    fn lose(&mut self, why: Loss, flight: Option<Flight>) -> Heard {
        self.close();
        Heard::Lost(why, flight)
    }

    fn close(&mut self) {
        self.socket = None;
        self.state = State::Down;
        self.output.clear();
        self.input.clear();
    }
}
