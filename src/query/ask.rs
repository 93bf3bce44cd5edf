//! A question to one backend, its answer streamed to the client as it comes.
//!
//! Until the first byte of an answer has gone to the client another backend can be asked instead: one that
//! cannot be reached, hangs up, or answers 5xx is left for the next. What a slow client does not take
//! waits in the kernel's buffers and at the backend, never here. A client that goes away takes its
//! question with it: the connection to the backend is closed.

use std::io;
use std::rc::Rc;
use std::task::Poll;

use futures_lite::future::poll_fn;

use crate::backend::answer::{AnswerReader, Fed, Reply};
use crate::backend::flight::Ticket;
use crate::backend::outgoing::Request;
use crate::backend::pool::Backend;
use crate::clock::Moment;
use crate::engine::stream::Stream;
use crate::fanout::deferred::any_up;
use crate::http::header::line_value;
use crate::http::request::Method;
use crate::http::response::{
    Closing, LAST_CHUNK, RETRY_AFTER, Stream as Framing, write_chunk, write_error,
    write_stream_head,
};
use crate::limits;
use crate::plan::BackendId;
use crate::query::choose::{Candidate, how_many, order};
use crate::query::question::Question;
use crate::shard::Shard;

/// Who asks.
pub struct Client<'a> {
    /// Its connection.
    pub stream: &'a Stream,
    /// What it has sent beyond its question.
    pub inbox: &'a mut Vec<u8>,
    /// How its answer is framed.
    pub opts: Closing,
}

/// What the client got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// Whether the connection can be used again.
    pub reusable: bool,
}

/// What came of one backend.
enum Tried {
    Answered(Answered),
    /// It did not answer, and the client has heard nothing yet.
    Failed(String),
}

/// Asks the backends among `outputs` that speak the language, one after another, until one answers.
///
/// # Errors
/// The client is gone, or the answer broke off: its connection has to be closed.
pub async fn ask(
    shard: &Shard,
    outputs: &[BackendId],
    question: &Question,
    ticket: &Ticket,
    client: &mut Client<'_>,
) -> io::Result<Answered> {
    let mut candidates = up_now(shard, outputs, question).await;
    order(&mut candidates, shard.next_turn());
    let count = how_many(&candidates);
    // Taken out of the flight, which nobody may hold while it waits; it counts in the budget all the same.
    let request = std::mem::take(&mut *ticket.request_mut());
    let mut words = String::from("no backend answers the query");
    for (n, candidate) in candidates[..count].iter().enumerate() {
        let backend = &shard.backends[candidate.id.0];
        if !candidate.up {
            words.push_str(if n == 0 { ": " } else { "; " });
            words.push_str(&backend.plan.name);
            words.push_str(" is down");
            continue;
        }
        let _under_way = backend.question();
        let attempt = Attempt {
            shard,
            backend,
            question,
            request: &request,
            owed: candidate.owed,
            is_last: n + 1 == count,
        };
        match attempt.run(client).await? {
            Tried::Answered(answered) => return Ok(answered),
            Tried::Failed(why) => {
                words.push_str(if n == 0 { ": " } else { "; " });
                words.push_str(&backend.plan.name);
                words.push(' ');
                words.push_str(&why);
            }
        }
    }
    let status = if count == 0 { 404 } else { 503 };
    if count == 0 {
        words = "no output answers such queries".to_owned();
    }
    let mut out = Vec::new();
    write_error(&mut out, status, &words, RETRY_AFTER, client.opts);
    send(shard, client, &out).await?;
    let reusable = client.opts.keep_alive;
    Ok(Answered { status, reusable })
}

/// The candidates; where none is known to be up, all are asked now, and those that do not answer are left out.
async fn up_now(shard: &Shard, outputs: &[BackendId], question: &Question) -> Vec<Candidate> {
    let all = candidates(shard, outputs, question);
    if all.iter().any(|one| one.up) {
        return all;
    }
    let backends = all.iter().map(|one| &shard.backends[one.id.0]);
    any_up(backends, shard.driver.now()).await;
    candidates(shard, outputs, question)
}

/// The backends that speak the language; one that is new is among them only where no other does.
fn candidates(shard: &Shard, outputs: &[BackendId], question: &Question) -> Vec<Candidate> {
    let backends = outputs.iter().map(|id| &shard.backends[id.0]);
    let who = backends
        .filter(|backend| backend.plan.queries && question.path_at(&backend.plan).is_some());
    let is_known = |backend: &Rc<Backend>| shard.world.is_known(backend.id);
    let any_known = who.clone().any(is_known);
    let who = who.filter(|backend| !any_known || is_known(backend));
    who.map(|backend| Candidate {
        id: backend.id,
        up: backend.is_up(),
        owed: shard.world.owed(backend.id),
        outstanding: backend.outstanding(),
    })
    .collect()
}

/// What comes first.
enum Came {
    Answer(Fed),
    Broken(String),
    Late,
    ClientGone,
}

/// Whether the client may hear of an answer: one that is short is read whole first, since another backend
/// can be asked until then.
fn is_enough(fed: Fed, reader: &AnswerReader, reply: &Reply) -> bool {
    let is_short = |left: u64| left + reply.body.len() as u64 <= limits::QUERY_HOLD_BYTES_MAX;
    let is_whole = matches!(fed, Fed::Whole { .. });
    reply.status != 0 && (is_whole || !reader.left().is_some_and(is_short))
}

struct Attempt<'a> {
    shard: &'a Shard,
    backend: &'a Rc<Backend>,
    question: &'a Question,
    request: &'a Request,
    owed: Option<u64>,
    is_last: bool,
}

impl Attempt<'_> {
    async fn run(&self, client: &mut Client<'_>) -> io::Result<Tried> {
        let now = || self.shard.driver.now();
        if let Some(stream) = self.backend.used_connection() {
            match self.on(stream, client).await? {
                Tried::Answered(answered) => return Ok(Tried::Answered(answered)),
                Tried::Failed(_) => {} // it may have been closed while it was idle
            }
        }
        let due = now().after(self.backend.plan.timeout);
        match self.backend.new_connection(due).await {
            Ok(stream) => self.on(stream, client).await,
            Err(why) => Ok(Tried::Failed(format!("cannot be reached: {why}"))),
        }
    }

    /// Asks on this connection.
    async fn on(&self, stream: Stream, client: &mut Client<'_>) -> io::Result<Tried> {
        if let Err(why) = self.send_question(&stream).await {
            return Ok(Tried::Failed(format!("does not take it: {why}")));
        }
        let (mut reader, mut reply) = (AnswerReader::streaming(), Reply::default());
        let due = self.shard.driver.now().after(limits::QUERY_WAIT_MAX);
        let mut fed = loop {
            let look = self.shard.driver.now().after(limits::QUERY_LOOK);
            match self
                .next(&stream, look, &mut reader, &mut reply, client)
                .await
            {
                Came::Answer(Fed::Nonsense) => {
                    return Ok(Tried::Failed("answers nonsense".to_owned()));
                }
                Came::Answer(fed) if is_enough(fed, &reader, &reply) => break fed,
                Came::Answer(_) => {}
                Came::Late if self.shard.driver.now() >= due => {
                    return Ok(Tried::Failed("does not answer in time".to_owned()));
                }
                // It hangs, as probes have found; one that is only slow answers them.
                Came::Late if !self.is_last && !self.backend.is_up() => {
                    return Ok(Tried::Failed("does not answer, and is down".to_owned()));
                }
                Came::Late => {}
                Came::Broken(why) => return Ok(Tried::Failed(why)),
                Came::ClientGone => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        };
        if reply.status >= 500 && !self.is_last {
            return Ok(Tried::Failed(format!("answers {}", reply.status)));
        }
        let framing = self.send_head(&reader, &reply, client).await?;
        loop {
            self.pass_on(&mut reply, framing, client).await?;
            match fed {
                Fed::Whole { reusable } => {
                    if reusable {
                        self.backend.give_back(stream);
                    }
                    return self.finish(reply.status, framing, client).await;
                }
                Fed::Nonsense => return Err(io::ErrorKind::InvalidData.into()),
                Fed::More => {}
            }
            let due = self.shard.driver.now().after(limits::QUERY_WAIT_MAX);
            fed = match self
                .next(&stream, due, &mut reader, &mut reply, client)
                .await
            {
                Came::Answer(fed) => fed,
                // The client must see that it was cut: its connection ends without the end of the body.
                Came::Late | Came::Broken(_) | Came::ClientGone => {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            };
        }
    }

    async fn send_question(&self, stream: &Stream) -> io::Result<()> {
        let request = self.request;
        let Some(path) = self.question.path_at(&self.backend.plan) else {
            return Err(io::Error::other("it does not speak the language"));
        };
        let method = match self.question.method {
            Method::Get => "GET",
            _ => "POST",
        };
        let mut head = Vec::new();
        self.backend
            .push_question(&mut head, method, &path, request);
        stream.set_deadline(self.shard.driver.now().after(limits::QUERY_WAIT_MAX));
        stream.send_all(&head).await?;
        stream.send_all(&request.body).await
    }

    /// Waits for the next piece of the answer, or for the client's end; until `due` at most.
    async fn next(
        &self,
        stream: &Stream,
        due: Moment,
        reader: &mut AnswerReader,
        reply: &mut Reply,
        client: &mut Client<'_>,
    ) -> Came {
        stream.set_deadline(due);
        client.stream.set_deadline(due.after(limits::TICK));
        poll_fn(|cx| {
            let answer = stream.poll_read_with(cx, |bytes| match bytes {
                [] => (reader.end(), true),
                bytes => (reader.feed(bytes, reply), false),
            });
            match answer {
                Poll::Ready(Ok((Fed::Nonsense, true))) => {
                    return Poll::Ready(Came::Broken("hangs up without an answer".to_owned()));
                }
                Poll::Ready(Ok((fed, _))) => return Poll::Ready(Came::Answer(fed)),
                Poll::Ready(Err(why)) if why.kind() == io::ErrorKind::TimedOut => {
                    return Poll::Ready(Came::Late);
                }
                Poll::Ready(Err(why)) => return Poll::Ready(Came::Broken(why.to_string())),
                Poll::Pending => {}
            }
            while client.inbox.len() < limits::HEAD_BYTES_MAX {
                let inbox = &mut *client.inbox;
                let heard = client.stream.poll_read_with(cx, |bytes| {
                    inbox.extend_from_slice(bytes);
                    bytes.len()
                });
                match heard {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Came::ClientGone),
                    Poll::Ready(Ok(_)) => {} // its next request, early
                    Poll::Pending => break,
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Sends the head; how the body is framed behind it.
    async fn send_head(
        &self,
        reader: &AnswerReader,
        reply: &Reply,
        client: &mut Client<'_>,
    ) -> io::Result<Framing> {
        let mut headers = reply.headers.clone();
        // Another relay has named its backend already.
        if line_value(&headers, "x-relay-backend").is_none() {
            headers.extend_from_slice(b"X-Relay-Backend: ");
            let visible = |byte: &u8| matches!(byte, b' '..=b'~');
            headers.extend(self.backend.plan.name.bytes().filter(visible));
            headers.extend_from_slice(b"\r\n");
        }
        if let Some(owed) = self.owed {
            headers.extend_from_slice(format!("X-Relay-Owed: {owed}\r\n").as_bytes());
        }
        let framing = match reader.left() {
            Some(left) => Framing::Length(left + reply.body.len() as u64),
            None if client.opts.http10 => Framing::UntilClose,
            None => Framing::Chunks,
        };
        let mut out = Vec::new();
        write_stream_head(&mut out, reply.status, &headers, framing, client.opts);
        send(self.shard, client, &out).await?;
        Ok(framing)
    }

    /// Sends what has come of the body.
    async fn pass_on(
        &self,
        reply: &mut Reply,
        framing: Framing,
        client: &Client<'_>,
    ) -> io::Result<()> {
        if reply.body.is_empty() {
            return Ok(());
        }
        if framing == Framing::Chunks {
            let mut out = Vec::with_capacity(reply.body.len() + limits::CHUNK_FRAME_BYTES);
            write_chunk(&mut out, &reply.body);
            send(self.shard, client, &out).await?;
        } else {
            send(self.shard, client, &reply.body).await?;
        }
        reply.body.clear();
        Ok(())
    }

    async fn finish(
        &self,
        status: u16,
        framing: Framing,
        client: &Client<'_>,
    ) -> io::Result<Tried> {
        if framing == Framing::Chunks {
            send(self.shard, client, LAST_CHUNK).await?;
        }
        let reusable = client.opts.keep_alive && framing != Framing::UntilClose;
        Ok(Tried::Answered(Answered { status, reusable }))
    }
}

/// Sends to the client, who must take something every now and then.
async fn send(shard: &Shard, client: &Client<'_>, mut bytes: &[u8]) -> io::Result<()> {
    let wait = shard.world.plan.limits.idle_wait_max;
    while !bytes.is_empty() {
        client.stream.set_deadline(shard.driver.now().after(wait));
        let sent = client.stream.try_send(bytes)?;
        bytes = &bytes[sent..];
        if !bytes.is_empty() {
            poll_fn(|cx| client.stream.poll_writable(cx)).await?;
        }
    }
    Ok(())
}
