//! One request at a time to a backend, on a connection of its own: for replay, which must keep order
//! and never stands in the way of writes that wait for a pooled link.

use std::io;
use std::rc::Rc;

use futures_lite::future::{poll_fn, yield_now};

use crate::backend::answer::{AnswerReader, Fed, Reply};
use crate::backend::compress::{Held, is_worth_it};
use crate::backend::exchange::connect;
use crate::backend::outcome::Failure;
use crate::backend::outgoing::Request;
use crate::backend::own_trouble::lacks;
use crate::backend::pool::Backend;
use crate::backend::request::{Coding, push_head};
use crate::clock::Moment;
use crate::engine::stream::Stream;
use crate::limits;
use crate::limits::beside::COMPRESSED_KEEP_BYTES;

/// A connection to a backend, kept between requests.
pub struct Errand {
    backend: Rc<Backend>,
    stream: Option<Stream>,
    reader: AnswerReader,
    head: Vec<u8>,
    /// The body, where it is compressed for this backend.
    packed: Vec<u8>,
    /// Why the last exchange failed, where more is known than its kind.
    why: Option<String>,
}

impl Errand {
    /// No connection yet.
    pub fn new(backend: &Rc<Backend>) -> Self {
        Self {
            backend: Rc::clone(backend),
            stream: None,
            reader: AnswerReader::default(),
            head: Vec::new(),
            packed: Vec::new(),
            why: None,
        }
    }

    /// Sends one write and waits for the answer, as long as the backend's timeout. What it means for the
    /// backend's health is told to it.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(
        &mut self,
        request: &Request,
        body: &[u8],
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        let due = self
            .backend
            .around
            .driver
            .now()
            .after(self.backend.plan.timeout);
        let mut packed = std::mem::take(&mut self.packed);
        let _held = self.begin(request, body, &mut packed);
        let body = match packed.is_empty() {
            true => body,
            false => &packed,
        };
        let was_open = self.stream.is_some();
        let mut sent = self.exchange(body, reply, due).await;
        if was_open && sent == Err(Failure::Closed) {
            // It may have been closed while it was idle. Writes are idempotent.
            sent = self.exchange(body, reply, due).await;
        }
        match sent {
            Ok(()) => self.backend.answered(),
            Err(failure) => {
                let why = self.why.take();
                let why = why.as_deref().unwrap_or_else(|| failure.words());
                self.backend.failed(failure, why);
            }
        }
        packed.clear();
        if packed.capacity() <= COMPRESSED_KEEP_BYTES {
            self.packed = packed;
        }
        sent
    }

    /// Puts the head together, and the body if it is compressed for this backend.
    fn begin(&mut self, request: &Request, body: &[u8], packed: &mut Vec<u8>) -> Option<Held> {
        let plan = &self.backend.plan;
        self.head.clear();
        packed.clear();
        let held = match is_worth_it(plan, request, body.len()) {
            false => None,
            true => self.backend.around.packer.pack(
                body.len(),
                |deflater| deflater.push(body),
                |whole| packed.extend_from_slice(whole),
            ),
        };
        let (bytes, coding) = match held {
            None => (body.len(), Coding::AsItIs),
            Some(_) => (packed.len(), Coding::Gzip),
        };
        push_head(&mut self.head, plan, request, bytes, coding);
        held
    }

    async fn exchange(
        &mut self,
        body: &[u8],
        reply: &mut Reply,
        due: Moment,
    ) -> Result<(), Failure> {
        reply.clear();
        self.reader.reset();
        self.why = None;
        let kept = self.stream.take();
        let stream = match kept.filter(|stream| self.backend.is_at(stream)) {
            Some(stream) => stream,
            None => connect(&self.backend, due).await.map_err(|error| {
                if let Some(lack) = lacks(&error) {
                    self.backend.own_trouble_begins(&error, lack);
                    return Failure::Local;
                }
                self.why = Some(format!("cannot connect: {error}"));
                match error.kind() == io::ErrorKind::TimedOut {
                    true => Failure::TimedOut,
                    false => Failure::Connect,
                }
            })?,
        };
        stream.set_deadline(due);
        // A backend may answer before it has read everything: what there is to read decides then.
        let is_sent = async {
            stream.send_all(&self.head).await?;
            for piece in body.chunks(limits::REPLAY_BREATH_BYTES) {
                stream.send_all(piece).await?;
                yield_now().await; // writes that have come meanwhile go first
            }
            io::Result::Ok(())
        }
        .await
        .is_ok();
        let answered = answer(&stream, &mut self.reader, reply).await;
        if answered.is_err() {
            self.why = stream.complaint();
        }
        let reusable = answered?;
        if reusable && is_sent {
            stream.set_deadline(Moment::NEVER);
            self.stream = Some(stream);
        }
        Ok(())
    }
}

/// Reads one answer; whether the connection can be used again.
///
/// # Errors
/// Why there is none.
pub(super) async fn answer(
    stream: &Stream,
    reader: &mut AnswerReader,
    reply: &mut Reply,
) -> Result<bool, Failure> {
    loop {
        let read = poll_fn(|cx| {
            stream.poll_read_with(cx, |bytes| {
                if bytes.is_empty() {
                    (reader.end(), true)
                } else {
                    (reader.feed(bytes, reply), false)
                }
            })
        })
        .await;
        return match read {
            Ok((Fed::More, false)) => continue,
            Ok((Fed::Whole { reusable }, _)) => Ok(reusable),
            Ok((_, true)) => Err(Failure::Closed),
            Ok((Fed::Nonsense, false)) => Err(Failure::Nonsense),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Failure::TimedOut),
            Err(_) => Err(Failure::Closed),
        };
    }
}
