//! What a connection reads: heads, through the shard's one buffer, and bodies, straight into their flights.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;

use futures_lite::future::poll_fn;

use crate::backend::flight::NO_ROOM;
use crate::clock::Moment;
use crate::engine::stream::Stream;
use crate::front::in_force::{Current, Entrance, Look};
use crate::front::wish::{Begun, take};
use crate::http::request::Refusal;
use crate::http::response::CONTINUE;
use crate::limits;
use crate::write::Admitted;

/// How the reading of a body ended.
pub(super) enum BodyEnd {
    Whole,
    Refused(Refusal),
}

/// A connection, and what came by it.
pub(super) struct Intake<'a> {
    /// Where it came in.
    pub(super) entrance: &'a Entrance,
    /// What it goes by.
    pub(super) current: Current,
    /// Its socket.
    pub(super) stream: Stream,
    /// What was read and belongs to no request yet.
    pub(super) inbox: Vec<u8>,
    /// Where the client is, once that was asked.
    pub(super) peer: Option<Option<IpAddr>>,
}

impl Intake<'_> {
    /// Takes what is in force now; whether it is another plan.
    ///
    /// # Errors
    /// No plan has this address any more.
    pub(super) fn look(&mut self) -> Result<bool, Refusal> {
        look(&mut self.current, self.entrance)
    }

    /// Where the client is, if it matters to its door; the kernel is asked once.
    fn from(&mut self) -> Option<IpAddr> {
        from(&self.current, &self.stream, &mut self.peer)
    }

    /// When this turn of the shard began.
    pub(super) fn now(&self) -> Moment {
        self.current.shard.driver.now()
    }

    /// Reads until a head is whole; `None` when the client closed, or stayed idle, between requests.
    pub(super) async fn head(&mut self) -> io::Result<Result<Option<Begun>, Refusal>> {
        let shard = Rc::clone(&self.current.shard);
        let mut started = shard.driver.now();
        if self.inbox.is_empty() {
            self.inbox = Vec::new(); // a connection at rest owns no buffer
            let wait = match shard.draining.get() {
                true => limits::DRAIN_IDLE_WAIT_MAX,
                false => shard.world.plan.limits.idle_wait_max,
            };
            self.stream.rest_until(started.after(wait));
        } else {
            match self.take_next(started) {
                Ok(None) => self.limit_head(started),
                taken => return Ok(taken),
            }
        }
        drop(shard); // while it waits, another plan may come into force
        loop {
            let waiting = self.inbox.is_empty();
            let read = poll_fn(|cx| {
                let entrance = self.entrance;
                let (current, inbox) = (&mut self.current, &mut self.inbox);
                let (stream, peer) = (&self.stream, &mut self.peer);
                stream.poll_read_with(cx, |bytes| {
                    if bytes.is_empty() {
                        return None;
                    }
                    if waiting {
                        started = current.shard.driver.now();
                        if let Err(gone) = look(current, entrance) {
                            return Some(Err(gone));
                        }
                    }
                    let from = from(current, stream, peer);
                    let Current { shard, door, .. } = &*current;
                    Some(take(shard, door, from, inbox, bytes, started))
                })
            })
            .await;
            match read {
                Ok(None) => return Ok(Ok(None)),
                Ok(Some(Ok(None))) if waiting => self.limit_head(started),
                Ok(Some(Ok(None))) => {}
                Ok(Some(taken)) => return Ok(taken),
                Err(error) if error.kind() == io::ErrorKind::TimedOut && !waiting => {
                    return Ok(Err(SLOW_HEAD));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A head whose first byte came at `started` has so long.
    fn limit_head(&self, started: Moment) {
        let wait = self.current.shard.world.plan.limits.head_wait_max;
        self.stream.set_deadline(started.after(wait));
    }

    /// Reads a head from what came with the last request.
    fn take_next(&mut self, started: Moment) -> Result<Option<Begun>, Refusal> {
        self.look()?;
        let from = self.from();
        let Current { shard, door, .. } = &self.current;
        take(shard, door, from, &mut self.inbox, &[], started)
    }

    /// Reads what is left of the body into the flight.
    pub(super) async fn body(
        &mut self,
        begun: &mut Begun,
        admitted: &Admitted,
    ) -> io::Result<BodyEnd> {
        let limits = self.current.shard.world.plan.limits;
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
            .set_deadline(self.now().after(limits.body_wait_max));
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
        let bytes_max = self.current.shard.world.plan.limits.body_bytes_max;
        let left = usize::try_from(begun.body.left()).unwrap_or(usize::MAX);
        if left > limits::COPY_BYTES_MAX {
            return self.body_in_place(begun, admitted, left).await;
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

    /// Reads straight into the body. Room for what may have come is charged before it is reserved, and given back
    /// while the client sends nothing: a body costs what has come of it, not what was announced.
    async fn body_in_place(
        &mut self,
        begun: &mut Begun,
        admitted: &Admitted,
        left: usize,
    ) -> io::Result<Option<Refusal>> {
        let ticket = &admitted.ticket;
        let before = ticket.request().body.len();
        let read = poll_fn(|cx| {
            let more = left.min(before.max(limits::BODY_FIRST_BYTES));
            if !ticket.reserve_body(more) {
                return Poll::Ready(Ok(None));
            }
            let polled = self
                .stream
                .poll_read_into(cx, &mut ticket.request_mut().body);
            if polled.is_pending() {
                ticket.give_back_room();
            }
            polled.map_ok(Some)
        })
        .await;
        let Some(count) = read? else {
            return Ok(Some(NO_ROOM));
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let body = &mut ticket.request_mut().body;
        let taken = (body.len() - before).min(left);
        self.inbox.extend_from_slice(&body[before + taken..]);
        body.truncate(before + taken);
        begun.whole = begun.body.came(taken);
        Ok(None)
    }
}

fn from(current: &Current, stream: &Stream, peer: &mut Option<Option<IpAddr>>) -> Option<IpAddr> {
    match current.door.gate.asks_where_from() {
        true => *peer.get_or_insert_with(|| stream.peer()),
        false => None,
    }
}

fn look(current: &mut Current, entrance: &Entrance) -> Result<bool, Refusal> {
    match current.look(entrance) {
        Look::Same => Ok(false),
        Look::New => Ok(true),
        Look::Gone => Err(GONE),
    }
}

const GONE: Refusal = Refusal {
    status: 503,
    reason: "this address is not served any more",
};
const SLOW_HEAD: Refusal = Refusal {
    status: 408,
    reason: "the request head took too long",
};
const SLOW_BODY: Refusal = Refusal {
    status: 408,
    reason: "the request body took too long",
};
