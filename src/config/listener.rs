//! The `[[http]]` tables: doors, and the backends behind each. Pure.

use crate::config::access;
use crate::config::keys;
use crate::config::kind::{Kind, Text, Whole};
use crate::config::location::parse;
use crate::config::mode::{MODES, Mode};
use crate::config::output;
use crate::config::reader::Reader;
use crate::config::section::{Section, Source};
use crate::config::special::{Acks, AcksWish, Bind};
use crate::config::tls;
use crate::config::variable;
use crate::limits as bound;
use crate::plan::{BackendId, BackendPlan, ListenerPlan};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const BIND: Bind = Bind {
    empty: "any free port on all addresses",
};
const DEFAULT_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9096);
const ANY_BIND: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
const RETENTION_POLICY: Text = Text {
    want: "the name of a retention policy, without control characters",
    is_right: |name| name.len() <= bound::NAME_BYTES_MAX && !name.contains(char::is_control),
};

/// The doors, and the backends of all of them.
#[derive(Default)]
pub struct Doors {
    /// See `Plan::listeners`.
    pub listeners: Vec<ListenerPlan>,
    /// See `Plan::backends`.
    pub backends: Vec<BackendPlan>,
}

/// Every listener of the file, or the one that the environment describes.
pub fn read(reader: &mut Reader<'_>, top: &Section<'_>) -> Doors {
    let mut sections = reader.array(top, "http", keys::HTTP, bound::LISTENERS_MAX);
    let file_has = |name: &str| top.table.is_some_and(|table| table.contains_key(name));
    let first = implied("http[0]", keys::HTTP);
    let is_described =
        reader.is_described(&first) || reader.is_described(&implied("", keys::OUTPUT));
    let is_udp_only = file_has("udp")
        || reader.is_described(&implied("", keys::UDP))
        || reader.is_described(&implied("", keys::UDP_OUTPUT));
    if !file_has("http") && (is_described || !is_udp_only) {
        if reader.text_of(&first, "output").is_none() {
            let want = "where writes go, such as \"a=http://127.0.0.1:8086,b=http://127.0.0.1:8087\", or [[http]] in a file";
            reader.problem("RELAY_HTTP_OUTPUTS", "no outputs here or in a file", want);
        }
        sections.push(first);
    }
    let mut doors = Doors::default();
    for (i, section) in sections.iter().enumerate() {
        read_one(reader, section, i == 0, &mut doors);
    }
    doors
}

fn read_one(reader: &mut Reader<'_>, section: &Section<'_>, is_first: bool, doors: &mut Doors) {
    let is_bound = reader.text_of(section, "bind-addr").is_some();
    if !is_first && !is_bound {
        reader.problem(
            section.at_key("bind-addr"),
            "nothing",
            "an address, as only the first listener has a default",
        );
    }
    let bind = reader
        .take(section, "bind-addr", &BIND, Some(DEFAULT_BIND))
        .unwrap_or(ANY_BIND);
    let retention_policy = reader.maybe(section, "default-retention-policy", &RETENTION_POLICY);
    let ping_status = read_ping(reader, section);
    let health_timeout = read_health_timeout(reader, section);
    let tls = tls::of_listener(reader, section);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let default_name = format!("{scheme}://{bind}");
    let name = reader.take(section, "name", &output::NAME, default_name.clone());
    let name = if name.is_empty() { default_name } else { name };
    let access = access::read(reader, section);
    let rates = access::read_rates(reader, section, access.is_some());
    let mode = reader.take(section, "mode", &MODES, Mode::Replicate);
    let first_backend = doors.backends.len();
    read_outputs(reader, section, mode, &mut doors.backends);
    let acks = read_acks(reader, section, &doors.backends[first_backend..]);
    doors.listeners.push(ListenerPlan {
        name,
        tls,
        bind,
        default_retention_policy: retention_policy.filter(|name| !name.is_empty()),
        ping_status,
        health_timeout,
        acks,
        balance: mode == Mode::Balance,
        outputs: (first_backend..doors.backends.len())
            .map(BackendId)
            .collect(),
        access,
        rates,
    });
}

/// A table that the file does not hold: only variables speak of it.
pub fn implied(path: &str, keys: &'static [keys::Key]) -> Section<'static> {
    Section {
        path: path.into(),
        at: path.into(),
        keys,
        table: None,
        source: Source::Default,
        env: true,
    }
}

/// 0 is the Go relay's way to say 204; a final status begins at 200.
fn read_ping(reader: &mut Reader<'_>, section: &Section<'_>) -> u16 {
    let status = reader.take(
        section,
        "default-ping-response",
        &Whole { min: 0, max: 599 },
        204,
    );
    if (1..200).contains(&status) {
        let at = reader.at(section, "default-ping-response");
        reader.problem(at, status.to_string(), "a status from 200 to 599");
    }
    if status == 0 {
        204
    } else {
        u16::try_from(status).unwrap_or(204)
    }
}

/// 0 is "no bound" in the Go relay, where a hung backend hangs `/health` too; here it is the default.
fn read_health_timeout(reader: &mut Reader<'_>, section: &Section<'_>) -> Duration {
    let default = u64::try_from(bound::HEALTH_WAIT_MAX.as_millis()).unwrap_or(u64::MAX);
    let kind = Whole {
        min: 0,
        max: bound::SET_WAIT_MAX.as_secs() * 1000,
    };
    let millis = reader.take(section, "health-timeout-ms", &kind, default);
    if millis == 0 {
        let called = reader.called(section, "health-timeout-ms");
        reader.notes.push(format!(
            "{called} is 0 (no bound); /health waits for one backend at most {default} ms"
        ));
    }
    Duration::from_millis(if millis == 0 { default } else { millis })
}

/// The outputs of the file, or those of the variable in their place.
fn read_outputs(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    mode: Mode,
    backends: &mut Vec<BackendPlan>,
) {
    let tables = variable::tables(reader, section, |location| parse(location).is_some());
    let mut outputs = match &tables {
        Some(tables) => variable::sections(tables, section, "RELAY_HTTP_OUTPUTS", keys::OUTPUT),
        None => reader.array(section, "output", keys::OUTPUT, bound::OUTPUTS_MAX),
    };
    if outputs.len() > bound::OUTPUTS_MAX {
        reader.problem(
            "RELAY_HTTP_OUTPUTS",
            format!("{} outputs", outputs.len()),
            format!("at most {}", bound::OUTPUTS_MAX),
        );
        outputs.truncate(bound::OUTPUTS_MAX);
    }
    if outputs.is_empty() {
        reader.notes.push(format!(
            "{} has no outputs: each write is answered 503",
            section.path
        ));
    }
    let first = backends.len();
    for output in &mut outputs {
        output.env = section.env; // what the variables say holds for all outputs
        let Some(backend) = output::read(reader, output, mode) else {
            continue;
        };
        if let Some(same) = backends[first..]
            .iter()
            .find(|other| other.name == backend.name)
        {
            let found = format!(
                "{:?}, which another output of this listener is called too",
                same.name
            );
            reader.problem(output.at_key("name"), found, "a name of its own");
        } else if let Some(same) = backends[first..]
            .iter()
            .find(|other| is_same_place(other, &backend))
        {
            reader.notes.push(format!(
                "{} and {:?} are the same backend: it gets each write twice",
                output.path, same.name
            ));
        }
        backends.push(backend);
    }
}

fn is_same_place(one: &BackendPlan, other: &BackendPlan) -> bool {
    let place = |backend: &BackendPlan| {
        (
            backend.host.clone(),
            backend.port,
            backend.endpoints.write.clone(),
        )
    };
    place(one) == place(other)
}

/// How many of the outputs whose answers count.
fn read_acks(reader: &mut Reader<'_>, section: &Section<'_>, backends: &[BackendPlan]) -> usize {
    let wish = reader.take(section, "acks", &Acks, AcksWish::Number(1));
    let counted = backends
        .iter()
        .filter(|backend| backend.writes && !backend.drop_responses)
        .count();
    if counted == 0 && !backends.is_empty() {
        reader.notes.push(format!(
            "{} has no output whose answer to a write counts: no write succeeds",
            section.path
        ));
    }
    match wish {
        AcksWish::Quorum => counted / 2 + 1,
        AcksWish::All => counted.max(1),
        AcksWish::Number(number) => {
            if number > counted.max(1) {
                let at = reader.at(section, "acks");
                reader.problem(
                    at,
                    format!("{number}, and {counted} outputs whose answers count"),
                    Acks.want(),
                );
            }
            number
        }
    }
}
