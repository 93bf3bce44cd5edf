//! One write, every backend of its listener at once, one verdict.
//!
//! With a spool the write is kept first; what was kept decides who is sent it now, who is owed it, and
//! for whom it is held a moment (see `spool::keeper`). The sends are started here, in the client's own
//! turn; what the backends say is heard one by one, in the order they speak, until nothing that comes
//! later may change what the client is told.

pub mod deferred;
pub mod share;
pub mod verdict;

use std::rc::Rc;

use crate::backend::flight::Ticket;
use crate::backend::lane::Lane;
use crate::backend::outcome::{Failure, Outcome};
use crate::backend::outgoing::Kind;
use crate::backend::pool::Backend;
use crate::fanout::deferred::{Deferred, Next};
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
    /// Whether it decides nothing yet.
    fn is_new(&self) -> bool {
        self.backend.shared.voice.is_new()
    }

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
    let decides = |output: &Output| !output.backend.plan.drop_responses && !output.is_new();
    ticket.set_newcomers_decide(!outputs.iter().filter(takes).any(decides));
    let way = match &shard.keeper {
        Some(keeper) => match keep(shard, keeper, door, ticket, outputs).await {
            Ok(way) => way,
            Err(ruling) => return ruling,
        },
        None => Way::to_all(),
    };
    // What nobody takes is kept for all all the same: then nobody is waited for.
    let asks = !shard.keeps_all(door);
    let mut deferred = Deferred::default();
    for output in outputs.iter().filter(takes) {
        if way.gates.send & output.bit != 0 && asks && !output.backend.is_up() {
            deferred.add(output);
        } else if way.gates.send & output.bit != 0 {
            output.backend.submit(&output.lane, ticket.clone());
        } else if way.gates.tail & output.bit != 0 {
            ticket.hear(output.backend.id, Outcome::Failed(Failure::Owed), None);
        }
    }
    if let Some(keeper) = &shard.keeper {
        release(keeper, &way, ticket, outputs).await;
    }
    let ruling = hear_out(shard, ticket, outputs, acks, &mut deferred).await;
    deferred.submit_all(ticket, outputs);
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
    let decides = |output: &Output| output.takes & kind.bit() != 0 && !output.is_new();
    ticket.set_newcomers_decide(!outputs.iter().any(decides));
    ticket.is_for_one();
    let turn = shard.next_turn();
    let in_turn = || {
        let steps = (0..outputs.len()).map(|step| turn.wrapping_add(step) % outputs.len());
        steps.map(|place| &outputs[place])
    };
    let mut left = outputs
        .iter()
        .filter(|output| output.takes & kind.bit() != 0)
        .fold(0, |left, output| left | output.bit);
    let (mut spoken, mut worst) = (0, None);
    loop {
        let of_left = in_turn().filter(|output| left & output.bit != 0);
        let mut of_up = of_left.clone().filter(|output| output.backend.is_up());
        let Some(output) = of_up.next() else {
            // Where none is known to be up, all are asked now.
            let backends = of_left.map(|output| &output.backend);
            match deferred::any_up(backends, shard.driver.now()).await {
                true => continue,
                false => break,
            }
        };
        left &= !output.bit;
        output.backend.submit(&output.lane, ticket.clone());
        let (from, outcome) = ticket.heard(spoken).await;
        spoken += 1;
        match outcome {
            Outcome::Accepted | Outcome::Spare { .. } => return Ruling::Success(from),
            Outcome::Refused(_) | Outcome::Partial { .. } => return Ruling::Refusal(from),
            Outcome::Failed(Failure::Status(500..=599)) => worst = Some(from),
            Outcome::Failed(_) => {}
        }
    }
    for output in outputs.iter().filter(|output| left & output.bit != 0) {
        // For the words that the client hears.
        ticket.hear(output.backend.id, Outcome::Failed(Failure::Down), None);
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
                let backends = outputs.iter().map(|output| &output.backend);
                let now = shard.driver.now();
                if now >= due || !deferred::any_up(backends, now).await {
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

/// Hears the backends until nothing that comes later may change what the client is told. Before it is told of a
/// failure, the outputs that are `deferred` are asked whether they are there now.
async fn hear_out(
    shard: &Shard,
    ticket: &Ticket,
    outputs: &[Output],
    acks: usize,
    deferred: &mut Deferred,
) -> Ruling {
    let (kind, left_out) = {
        let request = ticket.request();
        (request.kind, request.left_out)
    };
    let judging = outputs
        .iter()
        .filter(|output| output.takes & kind.bit() != 0 && output.bit & left_out == 0)
        .filter(|output| !output.backend.plan.drop_responses);
    let judges = judging.clone().count();
    // Not all outputs take all kinds, or all points: `acks` is of those that do, and that are not new.
    let known = judging.clone().filter(|output| !output.is_new());
    let deciding = match ticket.newcomers_decide() {
        true => judges,
        false => known.count(),
    };
    let mut verdict = Verdict::new(judges, acks.min(deciding.max(1)));
    let mut place = 0;
    let mut asked_since = None;
    loop {
        if let Some(ruling) = verdict.ruling() {
            return ruling;
        }
        let deferred_judges = judging.clone().filter(|output| deferred.holds(output));
        let is_last_hope = !deferred.is_empty() && verdict.pending() <= deferred_judges.count();
        let (from, outcome) = if is_last_hope {
            let since = *asked_since.get_or_insert_with(|| shard.driver.now());
            match deferred.next(ticket, place, outputs, since).await {
                Next::Spoken(from, outcome) => (from, outcome),
                Next::Sent => continue,
            }
        } else {
            ticket.heard(place).await
        };
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
