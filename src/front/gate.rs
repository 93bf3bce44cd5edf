//! Whether a request may pass: who sends it, what they may do, how often.
//!
//! ```text
//!  head ─▶ enter: the client's rate, who it is ─▶ prove ─▶ pass: rights, rates ─▶ body ─▶ may_ask
//! ```
//!
//! Nobody's body is read before it is known who they are. What an InfluxQL text touches may stand in
//! the body, so its rights are looked at behind it. A door without users, tokens and rates
//! passes all of this with one look.

use std::net::IpAddr;
use std::rc::Rc;

use crate::access::credentials::Refused;
use crate::access::gate::{Gate, Look, Proof};
use crate::access::rights::{Right, may};
use crate::backend::outgoing::{Kind, Request};
use crate::front::route::Route;
use crate::http::request::RequestHead;
use crate::http::response::RETRY_AFTER;
use crate::http::target::{Only, decoded, only};
use crate::limits::access::RETRY_AFTER_SECS_MAX;
use crate::query::form::{QueryText, only_value};
use crate::query::question::{Language, Question};
use crate::query::touches::needs;
use crate::shard::Shard;

/// Who sends a request.
pub enum Guest {
    /// Nobody is asked at this door, or for this.
    Anybody,
    /// This entry of the door's list.
    Known(usize),
    /// It will be known when this has come out.
    Unproven(Rc<Proof>),
}

/// Why somebody does not pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Away {
    /// 401, 403, 429, or 503 where too many passwords wait to be verified.
    pub status: u16,
    /// What the client reads.
    pub words: String,
    /// Whole lines.
    pub headers: Vec<u8>,
}

/// As `influxd` writes it.
const CHALLENGE: &[u8] = b"WWW-Authenticate: Basic realm=\"InfluxDB\"\r\n";
const SECOND_NS: u64 = 1_000_000_000;

/// Looks at who sends a head. Once per request.
///
/// # Errors
/// Somebody who does not pass.
pub fn enter(
    shard: &Shard,
    gate: &Rc<Gate>,
    from: Option<IpAddr>,
    route: Route,
    head: &RequestHead<'_, '_>,
    query: &[u8],
) -> Result<Guest, Box<Away>> {
    if gate.is_open() || !matches!(route, Route::Write(_) | Route::Query(_)) {
        return Ok(Guest::Anybody);
    }
    if let Some(from) = from
        && let Err(wait) = gate.warden.rates.take_client(from, shard.driver.now())
    {
        return Err(Box::new(Away::too_often("this client address", wait)));
    }
    match gate.look(query, head.header("authorization"), from) {
        Ok(None) => Ok(Guest::Anybody),
        Ok(Some(Look::Known(entry))) => Ok(Guest::Known(entry)),
        Ok(Some(Look::Unproven(proof))) => Ok(Guest::Unproven(proof)),
        Err(refused) => Err(Box::new(Away::unknown(refused))),
    }
}

/// Waits for the proof, where there is one to wait for.
///
/// # Errors
/// They are nobody's credentials.
pub async fn prove(guest: Guest) -> Result<Guest, Box<Away>> {
    match guest {
        Guest::Unproven(proof) => match proof.outcome().await {
            Ok(entry) => Ok(Guest::Known(entry)),
            Err(refused) => Err(Box::new(Away::unknown(refused))),
        },
        guest => Ok(guest),
    }
}

/// Looks at what a head asks for: a write of this request, or a question in this language. Once per request.
///
/// # Errors
/// A right is missing, or it is too often.
pub fn pass(
    shard: &Shard,
    gate: &Gate,
    guest: &Guest,
    request: &Request,
    language: Option<Language>,
) -> Result<(), Box<Away>> {
    let (now, rates) = (shard.driver.now(), &gate.warden.rates);
    let late = |whose| move |wait| Box::new(Away::too_often(whose, wait));
    match guest {
        Guest::Anybody => {}
        Guest::Known(entry) => {
            match language {
                None => may_write(gate, *entry, request)?,
                Some(Language::InfluxQl) => {} // the body says what it touches
                Some(_) => may_touch(gate, *entry, Right::Read, None)?,
            }
            rates.take_user(*entry, now).map_err(late("this user"))?;
        }
        Guest::Unproven(_) => return Err(Box::new(Away::unknown(Refused::Wrong))),
    }
    rates.take_listener(now).map_err(late("this listener"))
}

/// Looks at what a question in InfluxQL touches, when its body has come. Once per query.
///
/// # Errors
/// A right is missing.
pub fn may_ask(
    gate: &Gate,
    guest: &Guest,
    question: &Question,
    request: &Request,
) -> Result<(), Box<Away>> {
    let (Guest::Known(entry), Language::InfluxQl) = (guest, question.language) else {
        return Ok(());
    };
    let body = question.body(request);
    let (mut text, mut own) = (Vec::new(), Vec::new());
    let own = match only_value("db", &request.query, body, &mut own) {
        QueryText::Text(own) if !own.is_empty() => Some(own),
        _ => None,
    };
    let QueryText::Text(text) = only_value("q", &request.query, body, &mut text) else {
        return may_touch(gate, *entry, Right::Admin, None);
    };
    for (right, database) in needs(text, own) {
        may_touch(gate, *entry, right, database)?;
    }
    Ok(())
}

fn may_touch(
    gate: &Gate,
    entry: usize,
    right: Right,
    database: Option<&[u8]>,
) -> Result<(), Box<Away>> {
    let roll = gate.warden.roll.as_ref();
    let Some(entry) = roll.and_then(|roll| roll.entry(entry)) else {
        return Err(Box::new(Away::unknown(Refused::Wrong)));
    };
    if may(
        &entry.rights,
        right,
        database.map(|name| name.iter().copied()),
    ) {
        return Ok(());
    }
    let name = called(&entry.name);
    let wanted = match database {
        Some(database) => format!("{} on {}", right.word(), String::from_utf8_lossy(database)),
        None if right == Right::Admin => "admin privilege".to_owned(),
        None => format!("{} on all databases", right.word()),
    };
    let words = format!(
        "error authorizing query: {name} not authorized to execute statement, requires {wanted}"
    );
    Err(Box::new(Away::forbidden(words)))
}

fn may_write(gate: &Gate, entry: usize, request: &Request) -> Result<(), Box<Away>> {
    let roll = gate.warden.roll.as_ref();
    let Some(entry) = roll.and_then(|roll| roll.entry(entry)) else {
        return Err(Box::new(Away::unknown(Refused::Wrong)));
    };
    let key = match request.kind {
        Kind::WriteV2 => "bucket",
        _ => "db",
    };
    let named = match only(&request.query, key) {
        Only::Value(value) if !value.is_empty() => Some(value),
        _ => None,
    };
    // A bucket of InfluxDB 1.8 is `database/policy`.
    let end = (request.kind == Kind::WriteV2).then_some(b'/');
    let database = named.map(|raw| decoded(raw).take_while(move |&byte| Some(byte) != end));
    if may(&entry.rights, Right::Write, database.clone()) {
        return Ok(());
    }
    let name = called(&entry.name);
    let place = match database {
        Some(database) => {
            let database: Vec<u8> = database.collect();
            format!("database {:?}", String::from_utf8_lossy(&database))
        }
        None => "all databases, and it names none, or more than one".to_owned(),
    };
    let words = format!("{name:?} user is not authorized to write to {place}");
    Err(Box::new(Away::forbidden(words)))
}

/// What an entry is called where it is refused.
fn called(name: &str) -> &str {
    match name {
        "" => "(token)",
        name => name,
    }
}

impl Away {
    fn unknown(refused: Refused) -> Self {
        let (status, headers) = match refused {
            Refused::Busy => (503, RETRY_AFTER),
            _ => (401, CHALLENGE),
        };
        Self {
            status,
            words: refused.words().to_owned(),
            headers: headers.to_vec(),
        }
    }

    fn forbidden(words: String) -> Self {
        Self {
            status: 403,
            words,
            headers: Vec::new(),
        }
    }

    /// `wait` is nanoseconds until the next may come.
    fn too_often(whose: &str, wait: u64) -> Self {
        let seconds = wait.div_ceil(SECOND_NS).clamp(1, RETRY_AFTER_SECS_MAX);
        Self {
            status: 429,
            words: format!("rate limit exceeded for {whose}: try again in {seconds} s"),
            headers: format!("Retry-After: {seconds}\r\n").into_bytes(),
        }
    }
}
