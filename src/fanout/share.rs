//! What of a write each output is to get, where filters are set.
//!
//! Outputs with equal filters get the same copy, made once. An output for which nothing is left is not sent
//! the write and not owed it. A body of which nothing is lost goes as it came.

use crate::backend::flight::{NO_ROOM, Ticket};
use crate::backend::outgoing::Kind;
use crate::backend::outgoing::Request;
use crate::fanout::Output;
use crate::http::header::line_value;
use crate::http::request::Refusal;
use crate::payload::filter::{FilterId, Left};
use crate::payload::gzip::Inflate;
use crate::payload::remote_write::{Refused, Schema};
use crate::plan::BackendId;
use crate::shard::Shard;

/// Makes the copies that filters ask for. Once per write, before it goes anywhere.
///
/// # Errors
/// A remote-write body that cannot be read: 400, 413, 415. No memory for copies: 503.
pub fn share(shard: &Shard, ticket: &Ticket, outputs: &[Output]) -> Result<(), Refusal> {
    let is_copied = copy(shard, &mut ticket.request_mut(), outputs)?;
    if is_copied && !ticket.charge() {
        return Err(NO_ROOM);
    }
    Ok(())
}

/// Makes the copies; whether any was asked for.
fn copy(shard: &Shard, request: &mut Request, outputs: &[Output]) -> Result<bool, Refusal> {
    let bit = request.kind.bit();
    let takers = outputs.iter().filter(|output| output.takes & bit != 0);
    if request.kind == Kind::Statement
        || !takers.clone().any(|output| output.backend.filter.is_some())
    {
        return Ok(false);
    }
    let plain = Plain::take(shard, request)?;
    for (filter, _) in shard.filters.iter() {
        let of_filter = takers
            .clone()
            .filter(|output| output.backend.filter == Some(filter));
        let mask = of_filter.fold(0, |mask, output| mask | output.bit);
        if mask == 0 {
            continue;
        }
        match leave(shard, request, &plain, filter) {
            Ok(Left::Some) => {}
            Ok(Left::All) => request.uncopy(),
            Ok(Left::Nothing) => {
                request.uncopy();
                request.left_out |= mask;
            }
            Err(refused) => {
                plain.give_back(request);
                return Err(words(refused));
            }
        }
    }
    plain.give_back(request);
    Ok(true)
}

/// Makes the copy of a write that is owed for this backend, by the filters of today; whether anything of it is
/// left. What is lost of an owed write is lost here, too.
///
/// # Errors
/// As [`share`].
pub fn leave_of(shard: &Shard, id: BackendId, request: &mut Request) -> Result<bool, Refusal> {
    request.uncopy_all();
    let filter = shard.filters.of(id);
    let Some(filter) = filter.filter(|_| request.kind != Kind::Statement) else {
        return Ok(true);
    };
    let plain = Plain::take(shard, request)?;
    let left = leave(shard, request, &plain, filter);
    plain.give_back(request);
    let left = left.map_err(words)?;
    if left != Left::Some {
        request.uncopy();
    }
    Ok(left != Left::Nothing)
}

/// Puts what a filter leaves of a write into a copy.
fn leave(
    shard: &Shard,
    request: &mut Request,
    plain: &Plain,
    filter: FilterId,
) -> Result<Left, Refused> {
    let copy = request.copy_for(filter);
    let filter = shard.filters.get(filter);
    match plain.schema {
        None => {
            let scratch = &mut *shard.scratch.borrow_mut();
            Ok(filter.apply(&plain.body, scratch, &mut copy.body))
        }
        Some(schema) => {
            let bytes_max = shard.world.plan.limits.body_bytes_max;
            let room = &mut *shard.room.borrow_mut();
            let mut opened = room.open(schema, &plain.body, bytes_max)?;
            opened.apply(filter, &mut copy.body)
        }
    }
}

/// A body as filters read it, taken out of its request for so long.
struct Plain {
    body: Vec<u8>,
    /// It was inflated: the request has its body still.
    is_inflated: bool,
    /// Of a remote-write body.
    schema: Option<Schema>,
}

impl Plain {
    fn take(shard: &Shard, request: &mut Request) -> Result<Self, Refusal> {
        let mut schema = None;
        if request.kind == Kind::RemoteWrite {
            let told = line_value(&request.headers, "content-type").unwrap_or_default();
            schema = Some(Schema::told_by(told).ok_or(UNKNOWN_SCHEMA)?);
        } else if line_value(&request.headers, "content-encoding").is_some() {
            let mut body = std::mem::take(&mut request.spare);
            let bytes_max = shard.world.plan.limits.body_bytes_max;
            let mut inflater = shard.inflater.borrow_mut();
            let inflated = inflater.inflate(&request.body, &mut body, bytes_max);
            inflated.map_err(|why| match why {
                Inflate::TooLarge => words(Refused::TooLarge),
                Inflate::Bad(_) => words(Refused::Bad("unable to decode gzip body")),
            })?;
            return Ok(Self {
                body,
                is_inflated: true,
                schema,
            });
        }
        Ok(Self {
            body: std::mem::take(&mut request.body),
            is_inflated: false,
            schema,
        })
    }

    fn give_back(mut self, request: &mut Request) {
        if self.is_inflated {
            self.body.clear();
            request.spare = self.body;
        } else {
            request.body = self.body;
        }
    }
}

fn words(refused: Refused) -> Refusal {
    match refused {
        Refused::Bad(reason) => Refusal::bad_request(reason),
        Refused::TooLarge => Refusal::TOO_LARGE,
    }
}

const UNKNOWN_SCHEMA: Refusal = Refusal {
    status: 415,
    reason: "unsupported remote-write message: filters read io.prometheus.write.v2.Request and prometheus.WriteRequest",
};
