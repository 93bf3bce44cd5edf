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
use std::net::IpAddr;
use std::rc::Rc;

use futures_lite::future::poll_fn;

use crate::admin::{self, everywhere};
use crate::engine::stream::Stream;
use crate::events::Event;
use crate::fanout::share::share;
use crate::fanout::{self, Output};
use crate::front::gate;
use crate::front::in_force::{Current, Entrance};
use crate::front::intake::{BodyEnd, Intake};
use crate::front::wish::{Begun, Wish, settle};
use crate::http::request::Refusal;
use crate::http::response::{CHALLENGE, Closing, RETRY_AFTER, write_answer, write_error};
use crate::limits;
use crate::metrics::{PATHS, Path, VERBS, Verb};
use crate::query::ask::{Client, ask};
use crate::query::influxql::Does;
use crate::query::question::Question;
use crate::write::{self, Admitted};

/// Serves one connection until one side has had enough. A client that is gone needs no answer, so an
/// error of its socket just ends it.
pub async fn serve(entrance: &Entrance, stream: Stream) {
    let Some(current) = Current::at(entrance) else {
        return;
    };
    let mut connection = Connection {
        intake: Intake {
            entrance,
            current,
            stream,
            inbox: Vec::new(),
            peer: None,
        },
        outputs: Vec::new(),
    };
    let details = Details::begin(&connection.intake);
    let mut requests = 1;
    while let Ok(true) = connection.one_request().await {
        requests += 1;
    }
    details.end(&connection.intake, requests);
}

/// A connection that is logged.
struct Details {
    peer: Option<Option<IpAddr>>,
}

impl Details {
    fn begin(intake: &Intake<'_>) -> Self {
        let shard = &intake.current.shard;
        let peer = shard.tells_details().then(|| intake.stream.peer());
        if let Some(peer) = peer {
            shard.events.tell_detail(Event::Connected {
                shard: shard.number,
                peer,
            });
        }
        Self { peer }
    }

    fn end(self, intake: &Intake<'_>, requests: u64) {
        let shard = &intake.current.shard;
        if let Some(peer) = self.peer {
            shard.events.tell_detail(Event::Disconnected {
                shard: shard.number,
                peer,
                requests,
            });
        }
    }
}

pub(super) struct Connection<'a> {
    /// What it reads.
    pub(super) intake: Intake<'a>,
    /// The backends of its door, with lanes of its own; empty until its first write.
    outputs: Vec<Output>,
}

impl Connection<'_> {
    /// Reads and answers one request; whether there may be another.
    async fn one_request(&mut self) -> io::Result<bool> {
        let mut begun = match self.intake.head().await? {
            Ok(Some(begun)) => begun,
            Ok(None) => return Ok(false),
            Err(refusal) => return self.not_a_request(refusal).await,
        };
        let Current { shard, door, .. } = &self.intake.current;
        settle(shard, door, &mut begun).await;
        let opts = begun.opts;
        match std::mem::replace(&mut begun.wish, Wish::Options("")) {
            Wish::Write(admitted) => self.write(begun, admitted).await,
            Wish::Query(admitted, question) => self.query(begun, admitted, &question).await,
            Wish::Everywhere(admitted) => self.everywhere(begun, admitted).await,
            Wish::Ask(asked) => {
                let mut out = Vec::new();
                let Current { shard, door, .. } = &self.intake.current;
                let status = admin::answer(shard, &door.plan, asked, opts, &mut out).await;
                self.answer(&begun, status, &out).await
            }
            Wish::TurnedAway(away) => self.turn_away(&mut begun, &away).await,
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

    /// Reads the body, makes it ready, relays it, answers.
    async fn write(&mut self, mut begun: Begun, admitted: Admitted) -> io::Result<bool> {
        if let BodyEnd::Refused(refusal) = self.intake.body(&mut begun, &admitted).await? {
            drop(admitted);
            return self.refuse(&begun, refusal, b"").await;
        }
        let shard = &self.intake.current.shard;
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
        if let Err(gone) = self.ready(&admitted).await {
            drop(admitted);
            return self.refuse(&begun, gone, b"").await;
        }
        let Current { shard, door, .. } = &self.intake.current;
        if self.outputs.is_empty() {
            self.outputs = Output::all(shard, &door.plan.outputs);
        }
        let (plan, ticket) = (&door.plan, &admitted.ticket);
        if let Err(refusal) = share(shard, ticket, &self.outputs) {
            drop(admitted);
            return self.refuse(&begun, refusal, b"").await;
        }
        let relaying = self.intake.entrance.in_force.relay();
        let ruling = match plan.balance {
            true => fanout::balance(shard, ticket, &self.outputs).await,
            false => fanout::relay(shard, door.number, ticket, &self.outputs, plan.acks).await,
        };
        drop(relaying);
        let (status, rest) = {
            let out = &mut *shard.answer.borrow_mut();
            let status =
                write::put_answer(out, &admitted.ticket, ruling, &self.outputs, begun.opts);
            let sent = self.intake.stream.try_send(out)?;
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

    /// Waits out a reload, and takes what is in force then.
    ///
    /// # Errors
    /// No plan has this address any more.
    async fn ready(&mut self, admitted: &Admitted) -> Result<(), Refusal> {
        self.intake.entrance.in_force.released().await;
        self.intake.look()?;
        let shard = &self.intake.current.shard;
        admitted.ticket.move_to(&shard.flights);
        let is_of_shard =
            |output: &Output| Rc::ptr_eq(&output.backend, &shard.backends[output.backend.id.0]);
        if !self.outputs.first().is_none_or(is_of_shard) {
            self.outputs.clear();
        }
        Ok(())
    }

    /// Reads the body of a question. What changes something goes to every backend, all else to one.
    async fn query(
        &mut self,
        mut begun: Begun,
        admitted: Admitted,
        question: &Question,
    ) -> io::Result<bool> {
        if let BodyEnd::Refused(refusal) = self.intake.body(&mut begun, &admitted).await? {
            drop(admitted);
            return self.refuse(&begun, refusal, b"").await;
        }
        let may = gate::may_ask(
            &self.intake.current.door.gate,
            &begun.guest,
            question,
            &admitted.ticket.request(),
        );
        if let Err(away) = may {
            drop(admitted);
            return self.turn_away(&mut begun, &away).await;
        }
        if question.does(&admitted.ticket.request()) == Does::Writes {
            return self.relay(begun, admitted).await;
        }
        if let Err(gone) = self.ready(&admitted).await {
            drop(admitted);
            return self.refuse(&begun, gone, b"").await;
        }
        let Current { shard, door, .. } = &self.intake.current;
        let client = &mut Client {
            stream: &self.intake.stream,
            inbox: &mut self.intake.inbox,
            opts: begun.opts,
        };
        let outputs = &door.plan.outputs;
        let answered = ask(shard, outputs, question, &admitted.ticket, client).await?;
        begun.opts.keep_alive = answered.reusable;
        drop(admitted);
        self.answer(&begun, answered.status, b"").await
    }

    /// Reads the body of a question to every backend, and answers what they say.
    async fn everywhere(&mut self, mut begun: Begun, admitted: Admitted) -> io::Result<bool> {
        if let BodyEnd::Refused(refusal) = self.intake.body(&mut begun, &admitted).await? {
            drop(admitted);
            return self.refuse(&begun, refusal, b"").await;
        }
        if let Err(gone) = self.ready(&admitted).await {
            drop(admitted);
            return self.refuse(&begun, gone, b"").await;
        }
        let Current { shard, door, .. } = &self.intake.current;
        let (outputs, ticket) = (&door.plan.outputs, &admitted.ticket);
        let mut out = Vec::new();
        let status = everywhere::ask(shard, outputs, ticket, begun.opts, &mut out).await;
        drop(admitted);
        self.answer(&begun, status, &out).await
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
        let metrics = &self.intake.current.shard.metrics;
        metrics.answered(Path::Other, Verb::Other, refusal.status);
        self.intake
            .stream
            .set_deadline(self.intake.now().after(limits::LINGER_WAIT_MAX));
        self.intake.stream.send_all(&out).await?;
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
    pub(super) async fn answer(
        &mut self,
        begun: &Begun,
        status: u16,
        out: &[u8],
    ) -> io::Result<bool> {
        let (shard, now) = (&self.intake.current.shard, self.intake.now());
        shard.metrics.answered(begun.path, begun.verb, status);
        let took = now.since(begun.started);
        shard.metrics.request_duration.observe(took);
        if shard.tells_details() {
            shard.events.tell_detail(Event::Answered {
                shard: shard.number,
                path: PATHS[begun.path as usize],
                method: VERBS[begun.verb as usize],
                status,
                took,
            });
        }
        if !out.is_empty() || self.intake.stream.has_unsent()? {
            let wait = shard.world.plan.limits.idle_wait_max;
            self.intake.stream.set_deadline(now.after(wait));
            self.intake.stream.send_all(out).await?;
        }
        if begun.opts.keep_alive && begun.whole {
            return Ok(true);
        }
        self.linger().await;
        Ok(false)
    }

    /// Says that no more will come, and throws away what the client still sends, within bounds.
    async fn linger(&mut self) {
        self.intake.stream.finish();
        self.intake
            .stream
            .set_deadline(self.intake.now().after(limits::LINGER_WAIT_MAX));
        let mut thrown = 0;
        while thrown < limits::LINGER_BYTES_MAX {
            match poll_fn(|cx| self.intake.stream.poll_read_with(cx, <[u8]>::len)).await {
                Ok(0) | Err(_) => return,
                Ok(count) => thrown += count,
            }
        }
    }
}

fn allow_line(methods: &str) -> Vec<u8> {
    [b"Allow: ", methods.as_bytes(), b"\r\n"].concat()
}
