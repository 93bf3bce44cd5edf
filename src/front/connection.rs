//! One client connection: a request is read whole, answered, and only then is the next one read.
//!
//! ```text
//!  read ─▶ head ─▶ wish ─┬─▶ a write: read the body ─▶ make ready ─▶ relay ─▶ answer ─┐
//!    ▲                   └─▶ anything else: answer ───────────────────────────────────┤
//!    └───────────────────────────────── keep-alive ◀──────────────────────────────────┘
//! ```
//!
//! Requests are read into the shard's one buffer, so a connection that waits owns none. An answer
//! that comes before the whole request was read closes the connection, but not before what the
//! client still sends has been thrown away: a reset would take the answer with it.

use std::io;
use std::rc::Rc;

use futures_lite::future::poll_fn;

use crate::admin;
use crate::clock::Moment;
use crate::engine::stream::Stream;
use crate::fanout::{self, Output};
use crate::front::wish::{Begun, Door, Wish, take};
use crate::http::request::Refusal;
use crate::http::response::{CHALLENGE, CONTINUE, Closing, RETRY_AFTER, write_answer, write_error};
use crate::limits;
use crate::metrics::{Path, Verb};
use crate::query::ask::{Client, ask};
use crate::query::influxql::Does;
use crate::query::question::Question;
use crate::shard::Shard;
use crate::write::{self, Admitted, NO_ROOM};

/// Serves one connection until one side has had enough. A client that is gone needs no answer, so an
/// error of its socket just ends it.
pub async fn serve(shard: &Rc<Shard>, door: &Door, stream: Stream) {
    let mut connection = Connection {
        shard,
        door,
        stream,
        inbox: Vec::new(),
        outputs: Vec::new(),
    };
    while let Ok(true) = connection.one_request().await {}
}

struct Connection<'a> {
    shard: &'a Rc<Shard>,
    door: &'a Door,
    stream: Stream,
    /// What was read and belongs to no request yet.
    inbox: Vec<u8>,
    outputs: Vec<Output>,
}

/// How the reading of a body ended.
enum BodyEnd {
    Whole,
    Refused(Refusal),
}

impl Connection<'_> {
    /// Reads and answers one request; whether there may be another.
    async fn one_request(&mut self) -> io::Result<bool> {
        let mut begun = match self.head().await? {
            Ok(Some(begun)) => begun,
            Ok(None) => return Ok(false),
            Err(refusal) => return self.not_a_request(refusal).await,
        };
        let opts = begun.opts;
        match std::mem::replace(&mut begun.wish, Wish::Options("")) {
            Wish::Write(admitted) => self.write(begun, admitted).await,
            Wish::Query(admitted, question) => self.query(begun, admitted, &question).await,
            Wish::Ask(asked) => {
                let mut out = Vec::new();
                let status =
                    admin::answer(self.shard, &self.door.plan, asked, opts, &mut out).await;
                self.answer(&begun, status, &out).await
            }
            Wish::Options(allow) => {
                let out = &mut Vec::new();
                write_answer(out, 204, &allow_line(allow), b"", opts);
                self.answer(&begun, 204, out).await
            }
            Wish::Denied(refusal, allow) => {
                let headers = allow.map(allow_line).unwrap_or_default();
                self.refuse(&begun, refusal, &headers).await
            }
        }
    }

    /// Reads until a head is whole; `None` when the client closed, or stayed idle, between requests.
    async fn head(&mut self) -> io::Result<Result<Option<Begun>, Refusal>> {
        let limits = &self.shard.world.plan.limits;
        let mut started = self.shard.driver.now();
        if self.inbox.is_empty() {
            self.inbox = Vec::new(); // a connection at rest owns no buffer
            let draining = self.shard.draining.get();
            let wait = if draining {
                limits::DRAIN_IDLE_WAIT_MAX
            } else {
                limits.idle_wait_max
            };
            self.stream.rest_until(started.after(wait));
        } else {
            match self.take(&[], started) {
                Ok(None) => self
                    .stream
                    .set_deadline(started.after(limits.head_wait_max)),
                taken => return Ok(taken),
            }
        }
        loop {
            let (shard, door, inbox) = (self.shard, self.door, &mut self.inbox);
            let waiting = inbox.is_empty();
            let read = poll_fn(|cx| {
                self.stream.poll_read_with(cx, |bytes| {
                    if waiting {
                        started = shard.driver.now();
                    }
                    (bytes.is_empty(), take(shard, door, inbox, bytes, started))
                })
            })
            .await;
            match read {
                Ok((true, _)) => return Ok(Ok(None)),
                Ok((false, Ok(None))) if waiting => self
                    .stream
                    .set_deadline(started.after(limits.head_wait_max)),
                Ok((false, Ok(None))) => {}
                Ok((false, taken)) => return Ok(taken),
                Err(error) if error.kind() == io::ErrorKind::TimedOut && !waiting => {
                    return Ok(Err(SLOW_HEAD));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], started: Moment) -> Result<Option<Begun>, Refusal> {
        take(self.shard, self.door, &mut self.inbox, bytes, started)
    }

    /// Reads the body, makes it ready, relays it, answers.
    async fn write(&mut self, mut begun: Begun, admitted: Admitted) -> io::Result<bool> {
        if let BodyEnd::Refused(refusal) = self.body(&mut begun, &admitted).await? {
            drop(admitted);
            return self.refuse(&begun, refusal, b"").await;
        }
        let shard = self.shard;
        shard
            .metrics
            .request_bytes
            .add(admitted.ticket.request().body.len() as u64);
        if let Err(unfit) = write::make_ready(shard, begun.path, &admitted) {
            drop(admitted);
            let mut out = Vec::new();
            let status = write::refuse(&mut out, unfit, begun.opts);
            return self.answer(&begun, status, &out).await;
        }
        self.relay(begun, admitted).await
    }

    /// Sends what is ready to every backend, and answers.
    async fn relay(&mut self, begun: Begun, admitted: Admitted) -> io::Result<bool> {
        let shard = self.shard;
        if self.outputs.is_empty() {
            self.outputs = Output::all(shard, &self.door.plan.outputs);
        }
        let (plan, ticket) = (&self.door.plan, &admitted.ticket);
        let ruling = match plan.balance {
            true => fanout::balance(shard, ticket, &self.outputs).await,
            false => fanout::relay(shard, self.door.number, ticket, &self.outputs, plan.acks).await,
        };
        let (status, rest) = {
            let out = &mut *shard.answer.borrow_mut();
            let status =
                write::put_answer(out, &admitted.ticket, ruling, &self.outputs, begun.opts);
            let sent = self.stream.try_send(out)?;
            (
                status,
                if sent == out.len() {
                    Vec::new()
                } else {
                    out[sent..].to_vec()
                },
            )
        };
        drop(admitted);
        self.answer(&begun, status, &rest).await
    }

    /// Reads the body of a question. What changes something goes to every backend, all else to one.
    async fn query(
        &mut self,
        mut begun: Begun,
        admitted: Admitted,
        question: &Question,
    ) -> io::Result<bool> {
        if let BodyEnd::Refused(refusal) = self.body(&mut begun, &admitted).await? {
            drop(admitted);
            return self.refuse(&begun, refusal, b"").await;
        }
        if question.does(&admitted.ticket.request()) == Does::Writes {
            return self.relay(begun, admitted).await;
        }
        let client = &mut Client {
            stream: &self.stream,
            inbox: &mut self.inbox,
            opts: begun.opts,
        };
        let outputs = &self.door.plan.outputs;
        let answered = ask(self.shard, outputs, question, &admitted.ticket, client).await?;
        begun.opts.keep_alive = answered.reusable;
        drop(admitted);
        self.answer(&begun, answered.status, b"").await
    }

    /// Reads what is left of the body into the flight.
    async fn body(&mut self, begun: &mut Begun, admitted: &Admitted) -> io::Result<BodyEnd> {
        let limits = self.shard.world.plan.limits;
        let ticket = &admitted.ticket;
        if !begun.whole && !self.inbox.is_empty() {
            let body = &mut ticket.request_mut().body;
            match begun.body.feed(&self.inbox, body, limits.body_bytes_max) {
                Err(refusal) => return Ok(BodyEnd::Refused(refusal)),
                Ok(progress) => {
                    begun.whole = progress.done;
                    self.inbox.drain(..progress.taken);
                }
            }
        }
        if !ticket.charge() {
            return Ok(BodyEnd::Refused(NO_ROOM));
        }
        if begun.whole {
            return Ok(BodyEnd::Whole);
        }
        self.stream
            .set_deadline(self.shard.driver.now().after(limits.body_wait_max));
        if begun.expects_continue {
            self.stream.send_all(CONTINUE).await?;
        }
        while !begun.whole {
            match self.body_piece(begun, admitted).await {
                Ok(None) => {}
                Ok(Some(refusal)) => return Ok(BodyEnd::Refused(refusal)),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(BodyEnd::Refused(SLOW_BODY));
                }
                Err(error) => return Err(error),
            }
            if !ticket.charge() {
                return Ok(BodyEnd::Refused(NO_ROOM));
            }
        }
        Ok(BodyEnd::Whole)
    }

    /// One read of the body: through the shard's buffer, or in place where much is to come.
    async fn body_piece(
        &mut self,
        begun: &mut Begun,
        admitted: &Admitted,
    ) -> io::Result<Option<Refusal>> {
        let bytes_max = self.shard.world.plan.limits.body_bytes_max;
        let left = usize::try_from(begun.body.left()).unwrap_or(usize::MAX);
        if left > limits::COPY_BYTES_MAX {
            return self
                .body_in_place(begun, admitted, left)
                .await
                .map(|()| None);
        }
        let inbox = &mut self.inbox;
        let fed = poll_fn(|cx| {
            self.stream.poll_read_with(cx, |bytes| {
                if bytes.is_empty() {
                    return None;
                }
                let fed =
                    begun
                        .body
                        .feed(bytes, &mut admitted.ticket.request_mut().body, bytes_max);
                if let Ok(progress) = fed {
                    inbox.extend_from_slice(&bytes[progress.taken..]);
                }
                Some(fed)
            })
        })
        .await?;
        match fed {
            None => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Err(refusal)) => Ok(Some(refusal)),
            Some(Ok(progress)) => {
                begun.whole = progress.done;
                Ok(None)
            }
        }
    }

    /// Reads straight into the body, whose buffer grows with what has come, not with what was
    /// announced.
    async fn body_in_place(
        &mut self,
        begun: &mut Begun,
        admitted: &Admitted,
        left: usize,
    ) -> io::Result<()> {
        let mut body = std::mem::take(&mut admitted.ticket.request_mut().body);
        let grow = left.min(body.len().max(limits::BODY_FIRST_BYTES));
        body.reserve_exact(grow);
        let before = body.len();
        let read = poll_fn(|cx| self.stream.poll_read_into(cx, &mut body)).await;
        let taken = (body.len() - before).min(left);
        self.inbox.extend_from_slice(&body[before + taken..]);
        body.truncate(before + taken);
        begun.whole = begun.body.came(taken);
        admitted.ticket.request_mut().body = body;
        if read? == 0 {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(())
        }
    }

    /// What came is no request: it is answered, and nothing that follows it can be trusted.
    async fn not_a_request(&mut self, refusal: Refusal) -> io::Result<bool> {
        let opts = Closing {
            keep_alive: false,
            http10: false,
            head_only: false,
        };
        let mut out = Vec::new();
        write_error(&mut out, refusal.status, refusal.reason, b"", opts);
        self.shard
            .metrics
            .answered(Path::Other, Verb::Other, refusal.status);
        self.stream
            .set_deadline(self.shard.driver.now().after(limits::LINGER_WAIT_MAX));
        self.stream.send_all(&out).await?;
        self.linger().await;
        Ok(false)
    }

    async fn refuse(
        &mut self,
        begun: &Begun,
        refusal: Refusal,
        headers: &[u8],
    ) -> io::Result<bool> {
        let mut out = Vec::new();
        let keep_alive = begun.opts.keep_alive && begun.whole;
        let headers = match refusal.status {
            503 => RETRY_AFTER,
            401 => CHALLENGE,
            _ => headers,
        };
        let opts = Closing {
            keep_alive,
            ..begun.opts
        };
        write_error(&mut out, refusal.status, refusal.reason, headers, opts);
        self.answer(begun, refusal.status, &out).await
    }

    /// Counts the answer, sends what of it is still to be sent, and says whether another request may
    /// follow.
    async fn answer(&mut self, begun: &Begun, status: u16, out: &[u8]) -> io::Result<bool> {
        let shard = self.shard;
        shard.metrics.answered(begun.path, begun.verb, status);
        shard
            .metrics
            .request_duration
            .observe(shard.driver.now().since(begun.started));
        if !out.is_empty() || self.stream.has_unsent()? {
            self.stream.set_deadline(
                shard
                    .driver
                    .now()
                    .after(shard.world.plan.limits.idle_wait_max),
            );
            self.stream.send_all(out).await?;
        }
        if begun.opts.keep_alive && begun.whole {
            return Ok(true);
        }
        self.linger().await;
        Ok(false)
    }

    /// Says that no more will come, and throws away what the client still sends, within bounds.
    async fn linger(&mut self) {
        self.stream.finish();
        self.stream
            .set_deadline(self.shard.driver.now().after(limits::LINGER_WAIT_MAX));
        let mut thrown = 0;
        while thrown < limits::LINGER_BYTES_MAX {
            match poll_fn(|cx| self.stream.poll_read_with(cx, <[u8]>::len)).await {
                Ok(0) | Err(_) => return,
                Ok(count) => thrown += count,
            }
        }
    }
}

fn allow_line(methods: &str) -> Vec<u8> {
    [b"Allow: ", methods.as_bytes(), b"\r\n"].concat()
}

const SLOW_HEAD: Refusal = Refusal {
    status: 408,
    reason: "the request head took too long",
};
const SLOW_BODY: Refusal = Refusal {
    status: 408,
    reason: "the request body took too long",
};
