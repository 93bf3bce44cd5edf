//! What a request wants, as far as its head tells.

use std::net::IpAddr;
use std::rc::Rc;

use crate::access::gate::Gate;
use crate::admin::Asked;
use crate::admin::flush::Whose;
use crate::admin::permit::{self, At, Sender};
use crate::clock::Moment;
use crate::front::body::{BodyReader, Progress};
use crate::front::gate::{self, Away, Guest};
use crate::front::route::{Route, route, verb};
use crate::http::header::HeaderSpace;
use crate::http::request::{Framing, Method, Parsed, Refusal, RequestHead};
use crate::http::response::Closing;
use crate::http::target::{self, Only, Pair, Params};
use crate::metrics::{Path, Verb};
use crate::plan::{BackendId, ListenerPlan};
use crate::query::question::Question;
use crate::shard::Shard;
use crate::write::{self, Admitted};

/// One listening address, as its connections see it.
pub struct Door {
    /// What was configured.
    pub plan: ListenerPlan,
    /// Its number among the plan's listeners.
    pub number: u16,
    /// Whether it is the admin address.
    pub admin: bool,
    /// Who may do what here, and how often.
    pub gate: Rc<Gate>,
}

/// What a request wants.
pub enum Wish {
    /// To be relayed, once its body has come.
    Write(Admitted),
    /// To be answered by a backend, once its body has come.
    Query(Admitted, Question),
    /// To be asked of every backend, once its body has come.
    Everywhere(Admitted),
    /// To be told something.
    Ask(Asked),
    /// To know the methods.
    Options(&'static str),
    /// What it cannot have; the methods that it could, where its own is wrong.
    Denied(Refusal, Option<&'static str>),
    /// What whoever sends it may not have.
    TurnedAway(Box<Away>),
}

/// One request whose head has been read.
pub struct Begun {
    /// What it wants.
    pub wish: Wish,
    /// Who sends it.
    pub guest: Guest,
    /// What is left of its body.
    pub body: BodyReader,
    /// Whether the body has come whole.
    pub whole: bool,
    /// The label of its path.
    pub path: Path,
    /// The label of its method.
    pub verb: Verb,
    /// It waits for a 100 before it sends its body.
    pub expects_continue: bool,
    /// How its answer is framed.
    pub opts: Closing,
    /// When its first byte came.
    pub started: Moment,
}

/// Reads a head from `bytes`, which begin where the last request ended. With it comes how many bytes
/// it took; `None` asks for more.
///
/// # Errors
/// Whatever is no request: it is answered, and the connection ends.
pub fn begin(
    shard: &Shard,
    door: &Door,
    from: Option<IpAddr>,
    bytes: &[u8],
    started: Moment,
) -> Result<Option<(Begun, usize)>, Refusal> {
    let mut space = HeaderSpace::default();
    let head = match RequestHead::parse(bytes, &mut space, shard.world.plan.limits.head_bytes_max) {
        Parsed::Whole(head) => head,
        Parsed::Partial => return Ok(None),
        Parsed::Refused(refusal) => return Err(refusal),
    };
    let asked = target::split(head.target);
    let (path, route) = route(head.method, asked.path, door.admin);
    let entered = gate::enter(shard, &door.gate, from, route, &head, asked.query);
    let (guest, away) = match entered {
        Ok(guest) => (guest, None),
        Err(away) => (Guest::Anybody, Some(away)),
    };
    let wish = match route {
        _ if let Some(away) = away => Wish::TurnedAway(away),
        Route::Write(kind) => match write::admit(shard, &door.plan, kind, &head, asked.query) {
            Ok(admitted) => Wish::Write(admitted),
            Err(refusal) => Wish::Denied(refusal, None),
        },
        Route::Query(language) => match write::admit_question(shard, &head, asked.query) {
            Ok(admitted) => {
                let question = Question {
                    method: head.method,
                    language,
                    path: asked.path.to_vec(),
                };
                Wish::Query(admitted, question)
            }
            Err(refusal) => Wish::Denied(refusal, None),
        },
        Route::Ping => Wish::Ask(Asked::Ping),
        Route::Health => Wish::Ask(Asked::Health),
        Route::Ready => Wish::Ask(Asked::Ready),
        Route::ReadyBackend(prefix) => {
            Wish::Ask(Asked::ReadyBackend(named(shard, &asked.path[prefix..])))
        }
        Route::Status => Wish::Ask(Asked::Status {
            with_udp: door.admin,
        }),
        Route::Metrics => Wish::Ask(Asked::Metrics),
        Route::Everywhere => match admit_everywhere(shard, door, &head, asked.query) {
            Ok(admitted) => Wish::Everywhere(admitted),
            Err(refusal) => Wish::Denied(refusal, None),
        },
        Route::Flush => match may_change(shard, door, &head) {
            Ok(()) => flush(shard, asked.query),
            Err(refusal) => Wish::Denied(refusal, None),
        },
        Route::Options(allow) => Wish::Options(allow),
        Route::WrongMethod(allow) => Wish::Denied(WRONG_METHOD, Some(allow)),
        Route::Nowhere => Wish::Denied(NOWHERE, None),
    };
    let opts = Closing {
        keep_alive: head.keep_alive && !shard.draining.get(),
        http10: head.http10,
        head_only: head.method == Method::Head,
    };
    let begun = Begun {
        wish,
        guest,
        body: BodyReader::new(&head.framing),
        whole: matches!(head.framing, Framing::None | Framing::Length(0)),
        path,
        verb: verb(head.method),
        expects_continue: head.expect_continue,
        opts,
        started,
    };
    Ok(Some((begun, head.head_len)))
}

impl Wish {
    /// What its body belongs to; `None` if nobody wants it.
    fn admitted(&self) -> Option<&Admitted> {
        match self {
            Self::Write(admitted) | Self::Query(admitted, _) | Self::Everywhere(admitted) => {
                Some(admitted)
            }
            Self::Ask(_) | Self::TurnedAway(_) | Self::Options(_) | Self::Denied(..) => None,
        }
    }
}

impl Begun {
    /// Takes what belongs to the body, and throws it away if nobody wants it.
    fn feed(&mut self, shard: &Shard, bytes: &[u8]) -> Result<Progress, Refusal> {
        let bytes_max = shard.world.plan.limits.body_bytes_max;
        let progress = match self.wish.admitted() {
            Some(admitted) => {
                let body = &mut admitted.ticket.request_mut().body;
                self.body.feed(bytes, body, bytes_max)?
            }
            None => self.body.feed(bytes, &mut Vec::new(), bytes_max)?,
        };
        self.whole = progress.done;
        Ok(progress)
    }
}

/// Reads a head from what was left over and what came; what is beyond it stays in the inbox.
///
/// # Errors
/// As [`begin`].
pub fn take(
    shard: &Shard,
    door: &Door,
    from: Option<IpAddr>,
    inbox: &mut Vec<u8>,
    bytes: &[u8],
    started: Moment,
) -> Result<Option<Begun>, Refusal> {
    if !inbox.is_empty() {
        inbox.extend_from_slice(bytes);
        let Some((mut begun, taken)) = begin(shard, door, from, inbox, started)? else {
            return Ok(None);
        };
        inbox.drain(..taken);
        // A wanted body is read from the inbox later; one that is not is thrown away now, so that the
        // connection may go on where it has come whole.
        if !begun.whole && begun.wish.admitted().is_none() {
            let progress = begun.feed(shard, inbox)?;
            inbox.drain(..progress.taken);
        }
        return Ok(Some(begun));
    }
    let Some((mut begun, taken)) = begin(shard, door, from, bytes, started)? else {
        inbox.extend_from_slice(bytes);
        return Ok(None);
    };
    let mut rest = &bytes[taken..];
    // The usual case: the body has come with its head, and goes straight to the flight.
    if !begun.whole {
        let progress = begun.feed(shard, rest)?;
        rest = &rest[progress.taken..];
    }
    inbox.extend_from_slice(rest);
    Ok(Some(begun))
}

/// Waits until it is known who sends a request, and whether they may. Who may not has
/// [`Wish::TurnedAway`] from then on; a door where everybody may costs one look. Once per request.
pub async fn settle(shard: &Shard, door: &Door, begun: &mut Begun) {
    if door.gate.is_open() {
        return;
    }
    let guest = std::mem::replace(&mut begun.guest, Guest::Anybody);
    let passed = match gate::prove(guest).await {
        Ok(guest) => {
            let passed = match &begun.wish {
                Wish::Write(admitted) => {
                    let request = &admitted.ticket.request();
                    gate::pass(shard, &door.gate, &guest, request, None)
                }
                Wish::Query(admitted, question) => {
                    let (request, language) = (&admitted.ticket.request(), question.language);
                    gate::pass(shard, &door.gate, &guest, request, Some(language))
                }
                _ => Ok(()),
            };
            begun.guest = guest;
            passed
        }
        Err(away) => Err(away),
    };
    if let Err(away) = passed {
        begun.wish = Wish::TurnedAway(away);
    }
}

/// Whether who sent this may change something.
fn may_change(shard: &Shard, door: &Door, head: &RequestHead<'_, '_>) -> Result<(), Refusal> {
    let admin = shard.world.plan.admin.as_ref();
    let token = admin.and_then(|admin| admin.token.as_ref());
    let at = if !door.admin {
        At::Client
    } else if door.plan.bind.ip().to_canonical().is_loopback() {
        At::AdminLoopback
    } else {
        At::AdminOpen
    };
    let sender = Sender {
        authorization: head.header("authorization"),
        has_origin: head.header("origin").is_some(),
    };
    permit::check(token.map(|token| token.0.as_str()), at, sender)
}

/// Takes a question to every backend. The admin token is the relay's own: no backend is sent it.
fn admit_everywhere(
    shard: &Shard,
    door: &Door,
    head: &RequestHead<'_, '_>,
    query: &[u8],
) -> Result<Admitted, Refusal> {
    may_change(shard, door, head)?;
    let admitted = write::admit_question(shard, head, query)?;
    let admin = shard.world.plan.admin.as_ref();
    if admin.is_some_and(|admin| admin.token.is_some()) {
        admitted.ticket.request_mut().authorization.clear();
    }
    Ok(admitted)
}

/// A flush of all, or of the one that `backend` names. Anything else in the query is refused, since a mistyped name
/// would drop what all are owed.
fn flush(shard: &Shard, query: &[u8]) -> Wish {
    let known = ["backend", "u", "p"]; // clients may send their credentials with everything
    let is_known = |pair: Pair<'_>| known.iter().any(|name| target::key_is(pair.key, name));
    let has_more = !query.is_empty() && !Params::new(query).all(is_known);
    match target::only(query, "backend") {
        Only::Value(name) if !has_more => {
            let whose = named(shard, name).map_or(Whose::Nobodys, Whose::One);
            Wish::Ask(Asked::Flush(whose))
        }
        Only::Missing if !has_more => Wish::Ask(Asked::Flush(Whose::All)),
        _ => Wish::Denied(FLUSH_OF_WHAT, None),
    }
}

/// The backend whose name, or label, this path segment is; a name may come percent-encoded.
fn named(shard: &Shard, segment: &[u8]) -> Option<BackendId> {
    let backends = &shard.world.plan.backends;
    let is = |name: &str| target::key_is(segment, name);
    let place = backends
        .iter()
        .position(|plan| is(&plan.name) || is(&plan.label))?;
    Some(BackendId(place))
}

const NOWHERE: Refusal = Refusal {
    status: 404,
    reason: "not found",
};
const FLUSH_OF_WHAT: Refusal = Refusal {
    status: 400,
    reason: "write /admin/flush for all backends, or /admin/flush?backend=NAME for one",
};
const WRONG_METHOD: Refusal = Refusal {
    status: 405,
    reason: "method not allowed",
};
