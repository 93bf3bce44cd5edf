//! A stand-in backend: takes writes, counts them, and answers as it is told to.
//!
//! One thread and one epoll, so that it is never what a measurement is bound by; a delay keeps one
//! connection waiting and no other.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::datagrams::Mailbox;
use super::duration;
use super::poll::{self, Nanos, Poll, Ready, Trigger};
use crate::boot::kernel;
use crate::cli::say;
use crate::limits::ACCEPT_REST;
use crate::limits::tools::{SINK_DATAGRAMS_PER_TURN, TOOL_READ_BYTES};
use client::{Client, Fate};
use desk::Desk;

mod client;
mod count;
mod desk;
mod request;

/// What the operator types.
#[derive(Debug, clap::Args)]
pub struct SinkArgs {
    /// Where it listens for HTTP; port 0 lets the system choose
    #[arg(long, value_name = "ADDR")]
    pub http: SocketAddr,
    /// Where it takes datagrams of line protocol; port 0 lets the system choose
    #[arg(long, value_name = "ADDR")]
    pub udp: Option<SocketAddr>,
    /// What each write is answered
    #[arg(long, value_name = "CODE", default_value_t = 204,
          value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// How much later each write is answered, such as 250ms
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration::parse)]
    pub delay: Duration,
    /// Appends each body and each datagram to this file, a newline after each that has none
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Runs until SIGTERM or SIGINT. Exit code 2 says that it could not start, or not go on.
pub fn run(args: &SinkArgs) -> ExitCode {
    kernel::raise_descriptors();
    let mut sink = match Sink::open(args) {
        Ok(sink) => sink,
        Err(why) => {
            say::error(format_args!("influxdb-relay sink: {why}"));
            return ExitCode::from(2);
        }
    };
    let greeting = sink.greeting.iter().map(|line| format!("{line}\n"));
    // It goes on where nobody reads that.
    let _unheard = say::output(&greeting.collect::<String>(), ExitCode::SUCCESS);
    match sink.serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(format_args!("influxdb-relay sink: {error}"));
            ExitCode::from(2)
        }
    }
}

/// One answer that waits; all wait equally long, so they stand in the order they are due.
struct Held {
    due: Nanos,
    slot: usize,
    age: u64,
}

/// A place for a connection. `age` tells its tenants apart.
#[derive(Default)]
struct Slot {
    age: u64,
    client: Option<Client>,
}

struct Sink {
    greeting: Vec<String>,
    poll: Poll,
    listener: TcpListener,
    /// Set while the system has no descriptor left for another connection.
    resting: Option<Nanos>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    held: VecDeque<Held>,
    delay: Nanos,
    desk: Desk,
    scratch: Vec<u8>,
}

impl Sink {
    fn open(args: &SinkArgs) -> Result<Self, String> {
        let listener = TcpListener::bind(args.http).map_err(|error| {
            format!(
                "cannot listen on {}: {error}; choose another --http",
                args.http
            )
        })?;
        let mailbox = match args.udp {
            Some(addr) => Some(Mailbox::bind(addr).map_err(|error| {
                format!("cannot listen on udp {addr}: {error}; choose another --udp")
            })?),
            None => None,
        };
        let record = match &args.record {
            Some(path) => Some(open_record(path).map_err(|error| {
                format!(
                    "cannot write {}: {error}; choose another --record",
                    path.display()
                )
            })?),
            None => None,
        };
        let delay = poll::span(args.delay);
        let desk = Desk::new(args.status, delay > 0, record, mailbox);
        Self::register(listener, desk, delay).map_err(|error| error.to_string())
    }

    fn register(listener: TcpListener, desk: Desk, delay: Nanos) -> io::Result<Self> {
        let poll = Poll::new()?;
        listener.set_nonblocking(true)?;
        poll.add(&listener, LISTENER, Trigger::Level)?;
        let mut greeting = vec![format!(
            "sink listening on http://{}",
            listener.local_addr()?
        )];
        if let Some(mailbox) = desk.mailbox() {
            poll.add(mailbox.socket(), DATAGRAMS, Trigger::Level)?;
            let address = mailbox.socket().local_addr()?;
            greeting.push(format!("sink listening on udp://{address}"));
        }
        Ok(Self {
            greeting,
            poll,
            listener,
            resting: None,
            slots: Vec::new(),
            free: Vec::new(),
            held: VecDeque::new(),
            delay,
            desk,
            scratch: vec![0; TOOL_READ_BYTES],
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let stop = poll::stop_signal()?;
        self.poll.add(&stop, STOP, Trigger::Level)?;
        let mut ready = Vec::new();
        loop {
            let due = self.held.front().map(|held| held.due);
            self.poll
                .wait(&mut ready, due.into_iter().chain(self.resting).min())?;
            for &Ready { token, hangup } in &ready {
                match token {
                    STOP => return Ok(()),
                    LISTENER => self.accept()?,
                    DATAGRAMS => self.desk.datagrams(SINK_DATAGRAMS_PER_TURN),
                    slot => self.turn(slot, |client, scratch, desk| {
                        client.ready(hangup, scratch, desk)
                    }),
                }
            }
            self.release_due()?;
            if let Some(error) = self.desk.failure() {
                return Err(error);
            }
        }
    }

    /// Takes every connection that waits; rests where the system has no descriptor left.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(_) => {
                    self.poll.remove(&self.listener)?;
                    self.resting = Some(poll::now() + poll::span(ACCEPT_REST));
                    return Ok(());
                }
            };
            stream.set_nonblocking(true)?;
            // Without it small answers may come late; a connection that is already gone shows below.
            let _ = stream.set_nodelay(true);
            let slot = self.free.pop().unwrap_or(self.slots.len());
            if slot == self.slots.len() {
                self.slots.push(Slot::default());
            }
            let client = Client::new(stream);
            self.poll.add(client.stream(), slot, Trigger::Edge)?;
            self.slots[slot].client = Some(client);
            self.desk.counts.opened();
        }
    }

    fn release_due(&mut self) -> io::Result<()> {
        if self.held.is_empty() && self.resting.is_none() {
            return Ok(());
        }
        let now = poll::now();
        if self.resting.is_some_and(|until| until <= now) {
            self.resting = None;
            self.poll.add(&self.listener, LISTENER, Trigger::Level)?;
        }
        while let Some(&Held { slot, age, .. }) = self.held.front().filter(|held| held.due <= now) {
            self.held.pop_front();
            if self.slots[slot].age == age {
                self.turn(slot, Client::release);
            }
        }
        Ok(())
    }

    /// Lets one connection go as far as it can. An event for one that is gone is passed over.
    fn turn(&mut self, slot: usize, step: impl FnOnce(&mut Client, &mut [u8], &mut Desk) -> Fate) {
        let Some(Slot { age, client }) = self.slots.get_mut(slot) else {
            return;
        };
        let Some(tenant) = client else { return };
        match step(tenant, &mut self.scratch, &mut self.desk) {
            Fate::Keep => {}
            Fate::Later => {
                let due = poll::now().saturating_add(self.delay);
                self.held.push_back(Held {
                    due,
                    slot,
                    age: *age,
                });
            }
            Fate::Close => {
                *client = None;
                *age += 1;
                self.free.push(slot);
                self.desk.counts.closed();
            }
        }
    }
}

fn open_record(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

const LISTENER: usize = usize::MAX - 1;
const DATAGRAMS: usize = usize::MAX - 2;
const STOP: usize = usize::MAX - 3;
