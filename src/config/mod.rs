//! The file and the environment as written become a `Plan`, or everything that is wrong. Pure.
//!
//! ```text
//!  file ──▶ toml ──┐                         ┌─▶ Plan, and a row per value in force
//!  RELAY_… ────────┼─▶ reader ─▶ one file ───┤
//!  CPUs allowed ───┘   (by key)  per table   └─▶ every problem: where, found, what to write
//! ```
//!
//! The danger here is a setting that is silently not what its writer meant. So each key is known
//! by name, an unknown one is refused with the nearest known, a value is taken whole or not at
//! all, and what this version does not act on is said, not passed over. `keys` lists what exists,
//! `kind` what a key may hold, `reader` fetches one, the other files read one table each.

pub mod access;
pub mod datagram_bind;
pub mod filter;
pub mod goforks;
pub mod inline;
pub mod keys;
pub mod kind;
pub mod listener;
pub mod location;
pub mod mode;
pub mod output;
pub mod problem;
pub mod process;
pub mod quota;
pub mod reader;
pub mod secret;
pub mod section;
pub mod special;
pub mod spool;
pub mod tls;
pub mod udp;
pub mod units;
pub mod unknown;
pub mod variable;

use crate::config::listener::Doors;
use crate::config::problem::Problem;
use crate::config::quota::CpuQuota;
use crate::config::reader::{Reader, SecretFiles};
use crate::config::section::Row;
use crate::plan::{AdminPlan, BackendId, OutputId, OutputPlan, Plan, UdpPlan};
use std::net::SocketAddr;
use toml::Table;

/// What is known of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// CPUs that this process may use, ascending.
    pub cpus_allowed: Vec<usize>,
    /// How much of them it gets, where that is bounded.
    pub cpu_quota: Option<CpuQuota>,
}

impl Facts {
    fn cpus(&self) -> (&[usize], Option<&CpuQuota>) {
        (&self.cpus_allowed, self.cpu_quota.as_ref())
    }
}

/// Everything that decides how the relay is set up.
pub struct Input<'a> {
    /// The file's path as the operator wrote it, and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// All variables; only those that begin with `RELAY_` are looked at.
    pub env: &'a [(String, String)],
    /// How files that hold secrets are read.
    pub secrets: SecretFiles<'a>,
    /// What is known of the machine.
    pub facts: &'a Facts,
}

/// The plan, and how each value came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// What to run.
    pub plan: Plan,
    /// Each value in force, in the order of the tables.
    pub rows: Vec<Row>,
    /// The keys whose secrets stand in the file itself, which should not be open to all users then.
    pub inline_secrets: Vec<String>,
}

/// The checked plan, or everything that is wrong with the file and the environment. Once per start.
///
/// # Errors
///
/// Every problem of one reading; after an error of TOML's syntax only those of the environment's
/// names, as the rest cannot be told apart.
pub fn read(input: &Input<'_>) -> Result<Effective, Vec<Problem>> {
    let (name, text) = input.file.unwrap_or(("(no file)", ""));
    let mut reader = Reader::new(name, input.env, input.secrets);
    reader.unknown_variables();
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => {
            let at = format!(
                "{name}: {}",
                line_and_column(text, error.span().map_or(0, |span| span.start))
            );
            reader.problem(at, error.message().replace('\n', ", "), "valid TOML");
            return Err(reader.problems);
        }
    };
    let top = reader.top(input.file.map(|_| &table), keys::TOP);
    reader.unknown(&top);
    let cpus = process::cpus(&mut reader, &top, input.facts.cpus());
    let shutdown_timeout = process::shutdown_timeout(&mut reader, &top);
    let peers = process::peers(&mut reader, &top);
    let admin = process::admin(&mut reader, &top);
    let log = process::log(&mut reader, &top);
    let limits = process::limits(&mut reader, &top);
    let tuning = process::tuning(&mut reader, &top);
    let spool = spool::read(&mut reader, &top);
    let mut doors = listener::read(&mut reader, &top);
    let (udp, mut outputs) = udp::read(&mut reader, &top, &mut doors);
    let spool = spool::settle(&mut reader, spool, &mut doors.backends);
    keep_nothing_for_balance(&mut reader, &mut doors, spool.is_some());
    filter::read(&mut reader, &top, &mut doors, &outputs);
    check_names(&mut reader, &doors, &udp);
    check_addresses(&mut reader, &doors, admin.as_ref(), &udp);
    let udp: Vec<UdpPlan> = udp.into_iter().map(|(plan, _)| plan).collect();
    label(&mut doors, &udp, &mut outputs);
    let Doors {
        listeners,
        backends,
    } = doors;
    let Reader {
        problems,
        rows,
        not_in_force,
        notes,
        ..
    } = reader;
    if !problems.is_empty() {
        return Err(problems);
    }
    let plan = Plan {
        cpus,
        shutdown_timeout,
        admin,
        log,
        limits,
        tuning,
        spool,
        listeners,
        udp,
        backends,
        outputs,
        peers,
        not_in_force,
        notes,
    };
    Ok(Effective {
        plan,
        rows,
        inline_secrets: inline::secrets(&table),
    })
}

/// Who is one of several to get a write is owed none that another took.
fn keep_nothing_for_balance(reader: &mut Reader<'_>, doors: &mut Doors, is_kept: bool) {
    for listener in doors.listeners.iter().filter(|listener| listener.balance) {
        for BackendId(id) in &listener.outputs {
            doors.backends[*id].owed_bytes_max = 0;
        }
        if is_kept {
            reader.notes.push(format!(
                "{} has mode = \"balance\": nothing is kept for its outputs, as each write goes to one of them",
                listener.name
            ));
        }
    }
}

/// HTTP and UDP listeners share one space of names, as in the Go relay.
fn check_names(reader: &mut Reader<'_>, doors: &Doors, udp: &[(UdpPlan, String)]) {
    let http = doors
        .listeners
        .iter()
        .enumerate()
        .map(|(i, door)| (door.name.clone(), format!("http[{i}].name")));
    let udp = udp.iter().map(|(plan, at)| (plan.name.clone(), at.clone()));
    let all: Vec<(String, String)> = http.chain(udp).collect();
    for (i, (name, at)) in all.iter().enumerate() {
        if let Some((_, other)) = all[..i].iter().find(|(other, _)| other == name) {
            reader.problem(
                at.clone(),
                format!("{name:?}, which {other} is too"),
                "a name of its own",
            );
        }
    }
}

/// Two listeners on one address would both be bound (`SO_REUSEPORT`), and each get some clients.
fn check_addresses(
    reader: &mut Reader<'_>,
    doors: &Doors,
    admin: Option<&AdminPlan>,
    udp: &[(UdpPlan, String)],
) {
    let http = doors
        .listeners
        .iter()
        .enumerate()
        .map(|(i, door)| (door.bind, format!("http[{i}].bind-addr")));
    let admin = admin.map(|admin| (admin.bind, "admin.bind-addr".to_owned()));
    check_apart(reader, admin.into_iter().chain(http).collect());
    let udp = udp.iter().enumerate();
    let udp = udp.map(|(i, (plan, _))| (plan.bind, format!("udp[{i}].bind-addr")));
    check_apart(reader, udp.collect());
}

fn check_apart(reader: &mut Reader<'_>, all: Vec<(SocketAddr, String)>) {
    for (i, (bind, at)) in all.iter().enumerate() {
        if let Some((_, other)) = all[..i]
            .iter()
            .find(|(other, _)| is_same_address(other, bind))
        {
            reader.problem(
                at.clone(),
                format!("{bind}, where {other} listens too"),
                "an address of its own",
            );
        }
    }
}

/// A label of its own for each backend, and for each output: the name, or `listener/name` where a name is
/// used twice.
fn label(doors: &mut Doors, udp: &[UdpPlan], outputs: &mut [OutputPlan]) {
    let listeners = doors.listeners.iter();
    let http = listeners.map(|listener| (listener.name.as_str(), listener.outputs.as_slice()));
    let carried = udp.iter().flat_map(|udp| {
        let groups = udp.carried.iter();
        groups.map(|carried| (udp.name.as_str(), carried.outputs.as_slice()))
    });
    let names: Vec<String> = doors
        .backends
        .iter()
        .map(|plan| plan.name.clone())
        .collect();
    for (listener, ids) in http.chain(carried) {
        for &BackendId(id) in ids {
            label_one(&mut doors.backends[id].label, listener, id, &names);
        }
    }
    let names: Vec<String> = outputs.iter().map(|plan| plan.name.clone()).collect();
    for udp in udp {
        for &OutputId(id) in &udp.outputs {
            label_one(&mut outputs[id].label, &udp.name, id, &names);
        }
    }
}

fn label_one(label: &mut String, listener: &str, id: usize, names: &[String]) {
    if names.iter().filter(|name| **name == names[id]).count() > 1 {
        *label = format!("{listener}/{}", names[id]);
    }
}

fn is_same_address(one: &SocketAddr, other: &SocketAddr) -> bool {
    let are_wild = one.ip().is_unspecified() && other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (are_wild || one.ip() == other.ip())
}

fn line_and_column(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |tail| tail.chars().count())
        + 1;
    format!("line {line}, column {column}")
}
