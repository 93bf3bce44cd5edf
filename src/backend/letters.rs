//! Dead letters of live writes: a backend has written a part of one, and said so. That is final there, so the lines
//! that it dropped go to its dead letters, once, and nothing is sent again.
//!
//! The write is held until its letter is on file: a kill before that leaves the backend owing it, and the answer to
//! the replay is the same. One task per shard writes what has gathered. What is more than may wait
//! is owed to the backend instead: the replay of it ends in the letter.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use futures_lite::future::poll_fn;

use crate::backend::answer::Reply;
use crate::backend::flight::Ticket;
use crate::backend::outgoing::Kind;
use crate::backend::partial::dropped_lines;
use crate::backend::pool::Backend;
use crate::clock::Clock;
use crate::events::{Event, Events};
use crate::http::header::line_value;
use crate::limits;
use crate::metrics::code_row;
use crate::payload::gzip::Inflater;
use crate::spool::board::{Board, Row};
use crate::spool::dead_letter::{DeadLetter, bury, without_credentials};

/// A write of which a backend has dropped some lines.
struct Waiting {
    ticket: Ticket,
    backend: Rc<Backend>,
    reply: Reply,
}

/// The dead letters of one shard's live writes.
pub struct Letters {
    shard: usize,
    board: Option<Arc<Board>>,
    /// Where they go; `None` where the spool is in memory, or off.
    dir: Option<PathBuf>,
    waiting: RefCell<VecDeque<Waiting>>,
    bytes: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    /// Backends, by their bits modulo 64, whose first letter was told; and whether the last could be written.
    told: Cell<u64>,
    is_failing: Cell<bool>,
}

impl Letters {
    /// No letters yet.
    pub fn new(shard: usize, board: Option<Arc<Board>>, dir: Option<PathBuf>) -> Rc<Self> {
        Rc::new(Self {
            shard,
            board,
            dir,
            waiting: RefCell::default(),
            bytes: Cell::new(0),
            waker: RefCell::default(),
            told: Cell::new(0),
            is_failing: Cell::new(false),
        })
    }

    /// Takes a write of which `backend` has dropped some lines, and settles it there once its letter is on file.
    /// Not once per request: only where a backend says so.
    pub(super) fn push(&self, ticket: &Ticket, backend: &Rc<Backend>, reply: &Reply) {
        let bytes = ticket.charged() + reply.body.len();
        if self.dir.is_none() {
            if let Some(row) = self.row(backend) {
                row.unlettered.add(1);
            }
            return ticket.settled_at(backend.id);
        }
        if self.bytes.get() + bytes > limits::LETTERS_WAITING_BYTES_MAX {
            return ticket.missed_at(backend.id);
        }
        self.bytes.set(self.bytes.get() + bytes);
        self.waiting.borrow_mut().push_back(Waiting {
            ticket: ticket.clone(),
            backend: Rc::clone(backend),
            reply: reply.clone(),
        });
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn row(&self, backend: &Backend) -> Option<&Row> {
        let keeps = backend.plan.owed_bytes_max > 0;
        let board = self.board.as_ref().filter(|_| keeps)?;
        Some(&board.desks[backend.id.0].rows[self.shard])
    }

    /// The next writes of one backend that wait for their letters.
    async fn next(&self) -> Vec<Waiting> {
        poll_fn(|cx| {
            let waiting = &mut *self.waiting.borrow_mut();
            let Some(first) = waiting.front().map(|one| one.backend.id) else {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let mut batch = Vec::new();
            while batch.len() < limits::LETTERS_BATCH_MAX
                && let Some(one) = waiting.pop_front_if(|one| one.backend.id == first)
            {
                batch.push(one);
            }
            Poll::Ready(batch)
        })
        .await
    }

    /// Writes the letters of these writes, which are of one backend, and settles them there.
    async fn write(&self, batch: Vec<Waiting>, letters: Vec<DeadLetter>, events: &Events) {
        let (Some(first), Some(dir)) = (batch.first(), self.dir.clone()) else {
            return;
        };
        let backend = Rc::clone(&first.backend);
        let (status, reason) = (first.reply.status, reason(&first.reply));
        let label = backend.plan.label.clone();
        let work = move || {
            let work = AssertUnwindSafe(|| bury(&dir, &label, &letters));
            std::panic::catch_unwind(work)
        };
        let written = match glommio::executor().spawn_blocking(work).await {
            Ok(written) => written,
            Err(_) => Err(std::io::Error::other("a bug ended the work on this file")),
        };
        self.count(&backend, &batch, written.is_ok());
        match written {
            Ok(()) => {
                self.is_failing.set(false);
                let bit = 1 << (backend.id.0 % 64);
                if self.told.replace(self.told.get() | bit) & bit == 0 {
                    events.tell(Event::Buried {
                        backend: backend.id,
                        pieces: batch.len(),
                        status,
                        reason,
                    });
                }
            }
            Err(why) if !self.is_failing.replace(true) => events.tell(Event::Unburied {
                backend: backend.id,
                why: why.to_string(),
            }),
            Err(_) => {}
        }
        for one in batch {
            let bytes = one.ticket.charged() + one.reply.body.len();
            self.bytes.set(self.bytes.get().saturating_sub(bytes));
            one.ticket.settled_at(backend.id);
        }
    }

    fn count(&self, backend: &Backend, batch: &[Waiting], is_written: bool) {
        let Some(row) = self.row(backend) else { return };
        for one in batch {
            if let Some(dead) = row.dead.get(code_row(one.reply.status)) {
                dead.add(1);
            }
        }
        if !is_written {
            row.unlettered.add(batch.len() as u64);
        }
    }
}

/// Writes letters for ever. One task per shard with a spool.
pub async fn run(letters: Rc<Letters>, clock: &Clock, events: Events, body_max: usize) {
    loop {
        let mut batch = VecDeque::from(letters.next().await);
        while !batch.is_empty() {
            let (part, of_part) = begin(&mut batch, clock, body_max);
            letters.write(part, of_part, &events).await;
        }
    }
}

/// Puts together the letters of the first of these writes, as many as memory allows; a compressed body may become large.
fn begin(
    batch: &mut VecDeque<Waiting>,
    clock: &Clock,
    body_max: usize,
) -> (Vec<Waiting>, Vec<DeadLetter>) {
    let body_max = body_max.min(limits::LETTERS_WAITING_BYTES_MAX);
    let ms = clock.wall_ns() / 1_000_000;
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    let (mut part, mut letters, mut bytes) = (Vec::new(), Vec::new(), 0);
    while bytes < limits::LETTERS_WAITING_BYTES_MAX
        && let Some(one) = batch.pop_front()
    {
        let letter = letter(&one, time.to_string(), body_max);
        let body = letter.body.as_ref().or(letter.base64.as_ref());
        bytes += body.map_or(0, String::len);
        letters.push(letter);
        part.push(one);
    }
    (part, letters)
}

/// The letter of one write: the lines that were dropped, or all of it where they cannot be told apart.
fn letter(one: &Waiting, time: String, body_max: usize) -> DeadLetter {
    let request = one.ticket.request();
    let request = request.for_filter(one.backend.filter);
    let mut letter = DeadLetter {
        time,
        backend: one.backend.plan.label.clone(),
        status: one.reply.status,
        reason: reason(&one.reply),
        path: request.kind.path(&one.backend.plan.endpoints).to_owned(),
        query: without_credentials(&String::from_utf8_lossy(&request.query)),
        body: None,
        base64: None,
    };
    let mut inflated = Vec::new();
    let mut body = &request.body;
    let is_remote_write = request.kind == Kind::RemoteWrite;
    if !is_remote_write && !request.has_plain_lines() {
        match Inflater::new().inflate(&request.body, &mut inflated, body_max) {
            Ok(()) => body = &inflated,
            Err(_) => {
                letter.set_body(&request.body);
                return letter;
            }
        }
    }
    letter.set_body(&match request.kind {
        Kind::RemoteWrite | Kind::Statement => body.clone(),
        _ => dropped(body, &one.reply),
    });
    letter
}

/// The lines of a body that were dropped, or all of it.
pub fn dropped(body: &[u8], reply: &Reply) -> Vec<u8> {
    let Some(lines) = dropped_lines(body, reply) else {
        return body.to_vec();
    };
    let mut all = Vec::new();
    for line in lines {
        all.extend_from_slice(&body[line]);
        all.push(b'\n');
    }
    all
}

/// The words of a backend, cut to a bound: its body, or its header where it has none.
pub fn reason(reply: &Reply) -> String {
    let mut words = reply.body.trim_ascii();
    if words.is_empty() {
        let header = line_value(&reply.headers, "x-influxdb-error");
        words = header.unwrap_or_default();
    }
    let end = words.len().min(limits::REASON_BYTES_MAX);
    String::from_utf8_lossy(&words[..end]).trim().to_owned()
}
