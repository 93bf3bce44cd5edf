//! One write, every backend of its listener at once, one verdict.
//!
//! With a spool the write is kept first; what was kept decides who is sent it now, who is owed it, and
//! for whom it is held a moment (see `spool::keeper`). The sends are started here, in the client's own
//! turn; what the backends say is heard one by one, in the order they speak, until nothing that comes
//! later may change what the client is told.

pub mod share;
pub mod verdict;

use std::rc::Rc;

use crate::backend::flight::Ticket;
use crate::backend::lane::Lane;
use crate::backend::outcome::{Failure, Outcome};
use crate::backend::outgoing::Kind;
use crate::backend::pool::Backend;
use crate::fanout::verdict::{Ruling, Verdict};
use crate::plan::BackendId;
use crate::shard::Shard;
use crate::spool::board::State;
use crate::spool::disk::Place;
use crate::spool::door::{Gates, Kept};
use crate::spool::flushing::stamp;
use crate::spool::keeper::Keeper;
use crate::spool::record::Parts;

/// One backend of a listener, and the client connection's lane to it.
pub struct Output {
    /// The backend.
    pub backend: Rc<Backend>,
    /// This connection's writes to it.
    pub lane: Rc<Lane>,
    /// Its bit among the listener's outputs, as the spool counts them.
    pub bit: u64,
    /// The kinds of write that it takes, as a mask.
    pub takes: u8,
}

impl Output {
    /// The outputs among these backends that take any writes, with lanes of their own.
    pub fn all(shard: &Shard, backends: &[BackendId]) -> Vec<Self> {
        let outputs = backends.iter().enumerate().map(|(place, id)| {
            let backend = Rc::clone(&shard.backends[id.0]);
            let takes = match backend.plan.writes {
                true => Kind::taken_by(backend.plan.kind),
                false => 0,
            };
            Self {
                backend,
                lane: Rc::new(Lane::default()),
                bit: 1 << place,
                takes,
            }
        });
        outputs.filter(|output| output.takes != 0).collect()
    }
}

/// Sends a write of listener number `door` to every output and returns what the client is to hear.
/// Sends that are still under way then go on by themselves.
pub async fn relay(
    shard: &Shard,
    door: u16,
    ticket: &Ticket,
    outputs: &[Output],
    acks: usize,
) -> Ruling {
    let (kind, left_out) = {
        let request = ticket.request();
        (request.kind, request.left_out)
    };
    let of_kind = |output: &&Output| output.takes & kind.bit() != 0;
    let takes = |output: &&Output| of_kind(output) && output.bit & left_out == 0;
    if !outputs.iter().any(|output| takes(&output)) {
        return match outputs.iter().any(|output| of_kind(&output)) {
            true => Ruling::NotForAnybody,
            false => Ruling::NobodyAnswered,
        };
    }
    ticket.launch();
    let way = match &shard.keeper {
        Some(keeper) => match keep(shard, keeper, door, ticket, outputs).await {
            Ok(way) => way,
            Err(ruling) => return ruling,
        },
        None => Way::to_all(),
    };
    for output in outputs.iter().filter(takes) {
        if way.gates.send & output.bit != 0 {
            output.backend.submit(&output.lane, ticket.clone());
        } else if way.gates.tail & output.bit != 0 {
            ticket.hear(output.backend.id, Outcome::Failed(Failure::Owed), None);
        }
    }
    if let Some(keeper) = &shard.keeper {
        release(keeper, &way, ticket, outputs).await;
    }
    let ruling = hear_out(ticket, outputs, acks).await;
    match (&shard.keeper, way.sequence) {
        (Some(keeper), Some(sequence)) => promise(keeper, door, sequence, ruling).await,
        _ => ruling,
    }
}

/// Sends a write to one output after another, until one of them takes or refuses it: those that are up first,
/// by turns. It was stamped before, so a second try is the same points.
pub async fn balance(shard: &Shard, ticket: &Ticket, outputs: &[Output]) -> Ruling {
    let kind = ticket.request().kind;
    ticket.launch();
    ticket.is_for_one();
    let turn = shard.next_turn();
    let (mut tried, mut spoken, mut worst) = (0_u64, 0, None);
    for wants_up in [true, false] {
        for step in 0..outputs.len() {
            let output = &outputs[turn.wrapping_add(step) % outputs.len()];
            let takes = output.takes & kind.bit() != 0;
            if !takes || tried & output.bit != 0 || (wants_up && !output.backend.is_up()) {
                continue;
            }
            tried |= output.bit;
            output.backend.submit(&output.lane, ticket.clone());
            let (from, outcome) = ticket.heard(spoken).await;
            spoken += 1;
            match outcome {
                Outcome::Accepted => return Ruling::Success(from),
                Outcome::Refused(_) => return Ruling::Refusal(from),
                Outcome::Failed(Failure::Status(500..=599)) => worst = Some(from),
                Outcome::Failed(_) => {}
            }
        }
    }
    worst.map_or(Ruling::NobodyAnswered, Ruling::Failure)
}

/// Who is sent a write, and how it was kept.
struct Way {
    gates: Gates,
    sequence: Option<u64>,
    /// The states in which it is held, by the place of the output.
    held: Vec<(usize, State)>,
}

impl Way {
    fn to_all() -> Self {
        Self::unkept(Gates {
            send: u64::MAX,
            ..Gates::default()
        })
    }

    fn unkept(gates: Gates) -> Self {
        Self {
            gates,
            sequence: None,
            held: Vec::new(),
        }
    }
}

/// Keeps a write and waits until no kill can lose it. If all backends are owed something and one of
/// them is being brought level, waits for that: its client would be refused otherwise.
async fn keep(
    shard: &Shard,
    keeper: &Rc<Keeper<Place>>,
    door: u16,
    ticket: &Ticket,
    outputs: &[Output],
) -> Result<Way, Ruling> {
    let timeouts = outputs.iter().map(|output| output.backend.plan.timeout);
    let due = shard.driver.now().after(timeouts.max().unwrap_or_default());
    loop {
        let kept = {
            let request = ticket.request();
            keeper.keep(
                door,
                request.left_out,
                &Parts {
                    kind: request.kind.number(),
                    joinable: request.joinable,
                    targets: &[],
                    query: &request.query,
                    headers: &request.headers,
                    authorization: &request.authorization,
                    body: &request.body,
                },
                || stamp(shard.driver.clock()),
            )
        };
        match kept {
            Kept::As(sequence, gates) => {
                ticket.keep(keeper, sequence);
                let held = outputs.iter().enumerate();
                let held = held
                    .filter(|(_, output)| gates.held & output.bit != 0)
                    .map(|(place, output)| (place, keeper.seen(output.backend.id)))
                    .collect();
                keeper.flushed(sequence).await;
                return Ok(Way {
                    gates,
                    sequence: Some(sequence),
                    held,
                });
            }
            Kept::Not(gates) => return Ok(Way::unkept(gates)),
            Kept::Full => return Err(Ruling::Full),
            Kept::Nobody => {
                let some_return = outputs.iter().any(|output| output.backend.is_up());
                if !some_return || shard.driver.now() >= due {
                    let tail = u64::MAX;
                    return Ok(Way::unkept(Gates {
                        tail,
                        ..Gates::default()
                    }));
                }
                keeper.news().await;
            }
        }
    }
}

/// Waits for hand-overs that the write came into: each ends in the send, or in the tail.
async fn release(keeper: &Keeper<Place>, way: &Way, ticket: &Ticket, outputs: &[Output]) {
    for &(place, held) in &way.held {
        let output = &outputs[place];
        if keeper.released(output.backend.id, held).await {
            output.backend.submit(&output.lane, ticket.clone());
        } else {
            ticket.hear(output.backend.id, Outcome::Failed(Failure::Owed), None);
        }
    }
}

async fn hear_out(ticket: &Ticket, outputs: &[Output], acks: usize) -> Ruling {
    let (kind, left_out) = {
        let request = ticket.request();
        (request.kind, request.left_out)
    };
    let judges = outputs
        .iter()
        .filter(|output| output.takes & kind.bit() != 0 && output.bit & left_out == 0)
        .filter(|output| !output.backend.plan.drop_responses)
        .count();
    // Not all outputs take all kinds, or all points: `acks` is of those that do.
    let mut verdict = Verdict::new(judges, acks.min(judges.max(1)));
    let mut place = 0;
    loop {
        if let Some(ruling) = verdict.ruling() {
            return ruling;
        }
        let (from, outcome) = ticket.heard(place).await;
        place += 1;
        let judges = outputs
            .iter()
            .any(|output| output.backend.id == from && !output.backend.plan.drop_responses);
        if judges {
            verdict.hear(from, outcome);
        }
    }
}

/// Success is told once the write is as safe as was promised; what nobody took may be kept for all.
async fn promise(keeper: &Keeper<Place>, door: u16, sequence: u64, ruling: Ruling) -> Ruling {
    match ruling {
        Ruling::Success(_) => keeper.safe(sequence).await,
        Ruling::Failure(_) | Ruling::NobodyAnswered if keeper.keeps_all(door) => {
            keeper.safe(sequence).await;
            return Ruling::Kept;
        }
        _ => {}
    }
    ruling
}
