//! The life of one write, top to bottom: admit the head, make the body ready, relay it, answer.
//!
//! The connection reads the bytes; what they mean is decided here. Nothing in a body is changed but
//! that a point without a time gets one, the same for all backends.

use crate::backend::answer::Reply;
use crate::backend::flight::{NO_ROOM, Ticket};
use crate::backend::outcome::Outcome;
use crate::backend::outgoing::Kind;
use crate::backend::outgoing::Request;
use crate::clock::Clock;
use crate::fanout::Output;
use crate::fanout::verdict::Ruling;
use crate::http::precision::{Dialect, Precision};
use crate::http::request::{Encoding, Framing, Refusal, RequestHead};
use crate::http::response::{Closing, RETRY_AFTER, push_decimal, write_answer, write_error};
use crate::http::write_query::{remote_write_query, write_query};
use crate::metrics::Path;
use crate::payload::gzip::Inflate;
use crate::payload::line;
use crate::plan::ListenerPlan;
use crate::shard::Shard;

/// A write whose head was taken and whose body is coming.
pub struct Admitted {
    /// What will be sent; its body is filled by the connection.
    pub ticket: Ticket,
    gzip: bool,
    precision: Precision,
}

/// Takes a write by its head, or says why not. Once per request.
///
/// # Errors
/// 400, 411, 413, 415 of SPEC section 4, in the order in which InfluxDB looks.
pub fn admit(
    shard: &Shard,
    listener: &ListenerPlan,
    kind: Kind,
    head: &RequestHead<'_, '_>,
    query: &[u8],
) -> Result<Admitted, Refusal> {
    let ticket = shard.flights.begin();
    let mut precision = Precision::Nanosecond;
    let gzip = kind != Kind::RemoteWrite && head.encoding == Encoding::Gzip;
    {
        let request = &mut *ticket.request_mut();
        request.kind = kind;
        match dialect(kind) {
            Some(dialect) => {
                let default_rp = listener.default_retention_policy.as_deref();
                precision = write_query(query, dialect, default_rp, &mut request.query)?.precision;
                if head.encoding == Encoding::Other {
                    return Err(Refusal {
                        status: 415,
                        reason: "unsupported content encoding: use gzip or none",
                    });
                }
            }
            None => {
                let default_rp = listener.default_retention_policy.as_deref();
                remote_write_query(query, default_rp, &mut request.query);
            }
        }
        head.pass_on(kind == Kind::RemoteWrite, &mut request.headers);
        if let Some(authorization) = head.header("authorization") {
            request.authorization.extend_from_slice(authorization);
        }
    }
    match head.framing {
        Framing::None => Err(Refusal {
            status: 411,
            reason: "a length is required",
        }),
        Framing::Length(length) if length > shard.world.plan.limits.body_bytes_max as u64 => {
            Err(Refusal::TOO_LARGE)
        }
        Framing::Length(_) | Framing::Chunked => Ok(Admitted {
            ticket,
            gzip,
            precision,
        }),
    }
}

/// Takes a question by its head, or says why not: it is read, and held, as a write is. Once per query.
///
/// # Errors
/// 413.
pub fn admit_question(
    shard: &Shard,
    head: &RequestHead<'_, '_>,
    query: &[u8],
) -> Result<Admitted, Refusal> {
    let ticket = shard.flights.begin();
    {
        let request = &mut *ticket.request_mut();
        request.kind = Kind::Statement;
        request.query.extend_from_slice(query);
        head.pass_on(true, &mut request.headers);
        if let Some(authorization) = head.header("authorization") {
            request.authorization.extend_from_slice(authorization);
        }
    }
    match head.framing {
        Framing::Length(length) if length > shard.world.plan.limits.body_bytes_max as u64 => {
            Err(Refusal::TOO_LARGE)
        }
        _ => Ok(Admitted {
            ticket,
            gzip: false,
            precision: Precision::Nanosecond,
        }),
    }
}

const SPOOL_FULL: &str =
    "a backend is owed as much as the spool may hold: raise spool.max-size, or bring it back";

fn dialect(kind: Kind) -> Option<Dialect> {
    match kind {
        Kind::Write => Some(Dialect::V1),
        Kind::WriteV2 => Some(Dialect::V2),
        Kind::WriteV3 => Some(Dialect::V3),
        Kind::RemoteWrite | Kind::Statement => None,
    }
}

/// Makes a whole body ready to be sent: inflated where a stamp is needed, stamped. Once per request.
///
/// # Errors
/// Bad gzip 400, too large once inflated 413, a line that would kill a backend 400 (already
/// written to `out`'s words by [`Unfit::Poison`]), no memory 503.
pub fn make_ready(shard: &Shard, path: Path, admitted: &Admitted) -> Result<(), Unfit> {
    let ticket = &admitted.ticket;
    {
        let request = &mut *ticket.request_mut();
        let points = if request.kind == Kind::RemoteWrite {
            0
        } else if admitted.gzip {
            stamp_inflated(shard, request, admitted.precision)?
        } else {
            stamp_plain(shard.driver.clock(), request, admitted.precision)?
        };
        shard.metrics.points[path as usize].add(points);
    }
    if ticket.charge() {
        Ok(())
    } else {
        Err(Unfit::Refused(NO_ROOM))
    }
}

/// Why a body is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// For the reason given.
    Refused(Refusal),
    /// This line is of the kind that crashes an `influxd`.
    Poison {
        /// Counted from 1.
        line: usize,
    },
}

fn stamp_plain(clock: &Clock, request: &mut Request, precision: Precision) -> Result<u64, Unfit> {
    let time = precision.of_ns(clock.wall_ns());
    let scan = line::stamp(&request.body, time, &mut request.spare).map_err(poison)?;
    request.joinable = scan.ends_clean && !request.body.is_empty();
    if scan.unstamped > 0 {
        std::mem::swap(&mut request.body, &mut request.spare);
    }
    request.spare.clear();
    Ok(scan.points)
}

/// A compressed body goes on as it came if all its points have times; else inflated and stamped.
fn stamp_inflated(
    shard: &Shard,
    request: &mut Request,
    precision: Precision,
) -> Result<u64, Unfit> {
    let bytes_max = shard.world.plan.limits.body_bytes_max;
    let inflated =
        shard
            .inflater
            .borrow_mut()
            .inflate(&request.body, &mut request.spare, bytes_max);
    inflated.map_err(|why| {
        Unfit::Refused(match why {
            Inflate::TooLarge => Refusal::TOO_LARGE,
            Inflate::Bad(_) => Refusal {
                status: 400,
                reason: "unable to decode gzip body",
            },
        })
    })?;
    let mut stamped = Vec::new();
    let time = precision.of_ns(shard.driver.clock().wall_ns());
    let scan = line::stamp(&request.spare, time, &mut stamped).map_err(poison)?;
    if scan.unstamped > 0 {
        request.body = stamped;
        request.joinable = scan.ends_clean;
    } else {
        request
            .headers
            .extend_from_slice(b"Content-Encoding: gzip\r\n");
    }
    request.spare = Vec::new();
    Ok(scan.points)
}

fn poison(found: line::Poison) -> Unfit {
    Unfit::Poison { line: found.line }
}

/// Puts what the client hears into `out`; its status. Once per request.
pub fn put_answer(
    out: &mut Vec<u8>,
    ticket: &Ticket,
    ruling: Ruling,
    outputs: &[Output],
    opts: Closing,
) -> u16 {
    out.clear();
    let status = match ruling {
        // What a statement did is in the answer.
        Ruling::Success(from) if ticket.request().kind != Kind::Statement => {
            ticket.with_reply(from, |reply| {
                write_answer(out, 204, &reply.headers, b"", opts)
            });
            204
        }
        Ruling::Success(from) | Ruling::Refusal(from) | Ruling::Failure(from) => ticket
            .with_reply(from, |reply| pass_on(out, reply, opts))
            .unwrap_or(503),
        Ruling::NobodyAnswered => nobody_answered(out, ticket, outputs, opts),
        Ruling::NotForAnybody => {
            write_answer(out, 204, b"", b"", opts);
            204
        }
        Ruling::Kept => {
            write_answer(out, 202, b"", b"", opts);
            202
        }
        Ruling::Full => {
            write_error(out, 503, SPOOL_FULL, RETRY_AFTER, opts);
            503
        }
    };
    ticket.ruled();
    status
}

fn pass_on(out: &mut Vec<u8>, reply: &Reply, opts: Closing) -> u16 {
    write_answer(out, reply.status, &reply.headers, &reply.body, opts);
    reply.status
}

/// 503 with each backend and its reason: for the operator who sees it in a client's log. Only when
/// every backend failed, so it may allocate.
fn nobody_answered(out: &mut Vec<u8>, ticket: &Ticket, outputs: &[Output], opts: Closing) -> u16 {
    let mut words = String::from("no backend took the write");
    for (index, output) in outputs.iter().enumerate() {
        words.push_str(if index == 0 { ": " } else { "; " });
        words.push_str(&output.backend.plan.name);
        words.push(' ');
        words.push_str(match ticket.outcome_of(output.backend.id) {
            Some(Outcome::Failed(failure)) => failure.words(),
            Some(Outcome::Accepted | Outcome::Spare { .. }) => "accepted it",
            Some(Outcome::Refused(_)) => "refused it",
            Some(Outcome::Partial { .. }) => "took a part of it",
            None if output.takes & ticket.request().kind.bit() == 0 => "does not take such writes",
            None if output.bit & ticket.request().left_out != 0 => "is not to get these points",
            None => "has not answered yet",
        });
    }
    write_error(out, 503, &words, RETRY_AFTER, opts);
    503
}

/// Tells a client that its body is not sent; the status.
pub fn refuse(out: &mut Vec<u8>, unfit: Unfit, opts: Closing) -> u16 {
    match unfit {
        Unfit::Refused(refusal) => {
            let retry = if refusal.status == 503 {
                RETRY_AFTER
            } else {
                b""
            };
            write_error(out, refusal.status, refusal.reason, retry, opts);
            refusal.status
        }
        Unfit::Poison { line } => {
            let mut number = Vec::new();
            push_decimal(line as u64, &mut number);
            let number = String::from_utf8(number).unwrap_or_default();
            let words = format!(
                "unable to parse: line {number} has an empty field key, which InfluxDB does not survive"
            );
            write_error(out, 400, &words, b"", opts);
            400
        }
    }
}
