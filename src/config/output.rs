//! One `[[http.output]]`: a backend. Pure.

use crate::config::goforks::{Named, endpoints};
use crate::config::keys;
use crate::config::kind::{Flag, Kind, Text, Wait, Whole, Word, Written};
use crate::config::location::{Location, WANT, basic, parse};
use crate::config::mode::Mode;
use crate::config::process::count;
use crate::config::reader::Reader;
use crate::config::secret;
use crate::config::section::Section;
use crate::config::tls;
use crate::config::units::show_duration;
use crate::limits as bound;
use crate::plan::{BackendKind, BackendPlan, Secret};
use std::time::Duration;

/// A name: for logs, metrics and paths such as `/ready/NAME`.
pub const NAME: Text = Text {
    want: "a name of at most 256 bytes, without control characters",
    is_right: |name| name.len() <= bound::NAME_BYTES_MAX && !name.contains(char::is_control),
};

const KINDS: Word<BackendKind> = Word(&[
    ("influxdb", BackendKind::InfluxDb),
    ("prometheus", BackendKind::Prometheus),
    ("victoriametrics", BackendKind::VictoriaMetrics),
    ("kapacitor", BackendKind::Kapacitor),
    ("relay", BackendKind::Relay),
]);
const MERGE: Word<bool> = Word(&[("off", false), ("auto", true)]);
const TIMEOUT: Wait = Wait {
    min: Duration::ZERO,
    max: bound::SET_WAIT_MAX,
};
const USER: Text = Text {
    want: "a user name without a colon and control characters",
    is_right: |user| !user.is_empty() && !user.contains(|c: char| c == ':' || c.is_control()),
};
const ENDPOINT: Text = Text {
    want: "a path such as \"/write\"",
    is_right: |path| path.bytes().all(|byte| byte.is_ascii_graphic()) && !path.contains('#'),
};

/// The backend, or `None` where it has no location that can be used (which is noted).
/// Its label is its name, and it may be owed what its own buffer holds; the caller makes labels
/// unique, and `spool` knows what it may be owed with a directory.
pub fn read(reader: &mut Reader<'_>, section: &Section<'_>, mode: Mode) -> Option<BackendPlan> {
    let location = read_location(reader, section);
    let shown = location.as_ref().map_or("", |location| &location.shown);
    let name = reader.take(section, "name", &NAME, shown.to_owned());
    let name = if name.is_empty() {
        shown.to_owned()
    } else {
        name
    };
    let default_kind = match mode {
        Mode::Replicate => BackendKind::InfluxDb,
        Mode::Balance => BackendKind::Relay,
    };
    let kind = reader.take(section, "type", &KINDS, default_kind);
    let path = location.as_ref().map_or("", |location| &location.path);
    let endpoints = endpoints(kind, path, &read_endpoints(reader, section, path));
    let timeout = read_timeout(reader, section);
    let user = location.as_ref().and_then(|location| location.user.clone());
    let authorization = read_authorization(reader, section, user);
    let links = Whole {
        min: 1,
        max: bound::SET_LINKS_MAX,
    };
    let links_max = count(reader, section, "max-connections", &links, bound::LINKS_MAX);
    let merge = reader.take(section, "merge", &MERGE, false);
    let drop_responses = reader.take(section, "drop-responses", &Flag, false);
    let compress = reader.take(section, "compress", &Flag, false);
    let writes = reader.take(section, "write", &Flag, true);
    let queries = reader.take(section, "query", &Flag, true);
    let owed_bytes_max = read_buffer(reader, section, writes);
    let replay_batch_bytes_max = read_batch(reader, section);
    let replay_wait_max = read_delay(reader, section);
    let is_https = location.as_ref().is_some_and(|location| location.tls);
    let tls = tls::of_output(reader, section, is_https, &name);
    let location = location?;
    Some(BackendPlan {
        label: name.clone(),
        name,
        location: location.shown,
        kind,
        host: location.host,
        port: location.port,
        tls,
        host_header: location.host_header,
        authorization,
        endpoints,
        timeout,
        links_max,
        merge,
        drop_responses,
        compress,
        writes,
        queries,
        filter: None,
        owed_bytes_max,
        replay_batch_bytes_max,
        replay_wait_max,
    })
}

/// Not through a kind: what is shown of it is less than what is written.
fn read_location(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Location> {
    let at = section.at_key("location");
    let Some((written, source)) = reader.text_of(section, "location") else {
        reader.problem(at, "nothing", WANT);
        return None;
    };
    let Some(location) = written.text().and_then(parse) else {
        let found = written.shown();
        reader.problem(at, found, WANT);
        return None;
    };
    let key = section.key("location");
    if location.query.is_some() {
        reader.notes.push(format!(
            "{key} has a query, which is ignored: each request brings its own"
        ));
    }
    reader.row(key, location.shown.as_str(), source);
    Some(location)
}

fn read_endpoints(reader: &mut Reader<'_>, output: &Section<'_>, path: &str) -> Named {
    let section = &reader.inner(output, "endpoints", keys::ENDPOINTS);
    let mut one = |name: &str| {
        reader.text_of(section, name)?; // rows only of those that are named
        let endpoint = reader
            .maybe(section, name, &ENDPOINT)
            .filter(|endpoint| !endpoint.is_empty())?;
        if path.is_empty() && !endpoint.starts_with('/') {
            reader.problem(section.at_key(name), format!("{endpoint:?}"), ENDPOINT.want);
        }
        match endpoint.split_once('?') {
            None => Some(endpoint),
            Some((path, _)) => {
                let key = section.key(name);
                reader.notes.push(format!(
                    "{key} has a query, which is ignored: each request brings its own"
                ));
                Some(path.to_owned())
            }
        }
    };
    Named {
        write: one("write"),
        write_v2: one("write_v2"),
        write_v3: one("write_v3"),
        remote_write: one("write_prom"),
        ping: one("ping"),
        query: one("query"),
    }
}

fn read_timeout(reader: &mut Reader<'_>, section: &Section<'_>) -> Duration {
    let timeout = reader.take(section, "timeout", &TIMEOUT, bound::BACKEND_WAIT_MAX);
    if !timeout.is_zero() {
        return timeout;
    }
    let called = reader.called(section, "timeout");
    reader.notes.push(format!(
        "{called} is 0 (no bound); a write waits for that backend at most 1h"
    ));
    bound::SET_WAIT_MAX
}

/// From the location, from `username` and `password`, or from `token`; at most one of the three.
fn read_authorization(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    in_location: Option<(String, String)>,
) -> Option<Secret> {
    let username = reader.maybe(section, "username", &USER);
    let password = secret::read(reader, section, "password");
    let token = secret::read(reader, section, "token");
    if let Some(Secret(token)) = &token
        && !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        let at = reader.at(section, "token");
        reader.problem(
            at,
            "characters that a header cannot hold",
            "a token of visible ASCII characters",
        );
    }
    let keyed = match (username, password) {
        (Some(username), password) => Some(basic(
            &username,
            &password.map_or_else(String::new, |Secret(password)| password),
        )),
        (None, None) => None,
        (None, Some(_)) => {
            let at = reader.at(section, "password");
            reader.problem(at, "a password without a username", "both, or none");
            None
        }
    };
    let in_location = in_location.map(|(user, password)| basic(&user, &password));
    let token = token.map(|Secret(token)| format!("Token {token}"));
    let all = [in_location, keyed, token];
    if all.iter().flatten().count() > 1 {
        let at = section.at_key("location").replace(".location", "");
        let want = "one of: user and password in the location, username and password, token";
        reader.problem(at, "more than one credential", want);
    }
    all.into_iter().flatten().next().map(Secret)
}

/// `buffer-size-mb`, in bytes. What takes no writes is owed none.
fn read_buffer(reader: &mut Reader<'_>, section: &Section<'_>, writes: bool) -> u64 {
    let kind = Whole {
        min: 0,
        max: bound::SET_OWED_BYTES_MAX / bound::MIB as u64,
    };
    let mebibytes = reader.take(section, "buffer-size-mb", &kind, 0);
    if mebibytes > 0 && !writes {
        let called = reader.called(section, "buffer-size-mb");
        let output = &section.path;
        note(
            reader,
            format!("{called} is set, but {output} takes no writes: nothing is kept for it"),
        );
        return 0;
    }
    mebibytes * bound::MIB as u64
}

/// `max-batch-kb`, in bytes.
fn read_batch(reader: &mut Reader<'_>, section: &Section<'_>) -> usize {
    let kibibytes = reader.take(section, "max-batch-kb", &Batch, 0);
    usize::try_from(Batch::in_force(kibibytes)).unwrap_or(usize::MAX) * bound::KIB
}

/// `max-delay-interval`.
fn read_delay(reader: &mut Reader<'_>, section: &Section<'_>) -> Duration {
    let written = reader.take(section, "max-delay-interval", &Delay, Duration::ZERO);
    let delay = Delay::in_force(written);
    if !written.is_zero() && written < delay {
        let called = reader.called(section, "max-delay-interval");
        let (written, least) = (show_duration(written), show_duration(delay));
        note(
            reader,
            format!("{called} is {written}, and {least} is in force, the least there is"),
        );
    }
    delay
}

/// Once, as one variable may speak of many outputs.
fn note(reader: &mut Reader<'_>, note: String) {
    if !reader.notes.contains(&note) {
        reader.notes.push(note);
    }
}

/// `max-batch-kb` as it is written, shown as it is in force.
struct Batch;

impl Batch {
    const WRITTEN: Whole = Whole {
        min: 0,
        max: (bound::SET_REPLAY_BATCH_BYTES_MAX / bound::KIB) as u64,
    };

    /// 0 is the default, as in the Go relay.
    fn in_force(written: u64) -> u64 {
        match written {
            0 => (bound::REPLAY_BATCH_BYTES_MAX / bound::KIB) as u64,
            kibibytes => kibibytes,
        }
    }
}

impl Kind for Batch {
    type Value = u64;
    fn read(&self, written: Written<'_>) -> Option<u64> {
        Self::WRITTEN.read(written)
    }
    fn want(&self) -> String {
        Self::WRITTEN.want()
    }
    fn show(&self, value: &u64) -> String {
        Self::in_force(*value).to_string()
    }
}

/// `max-delay-interval` as it is written, shown as it is in force.
struct Delay;

impl Delay {
    /// 0 is the default, as in the Go relay; the first wait is never longer than the longest.
    fn in_force(written: Duration) -> Duration {
        if written.is_zero() {
            bound::REPLAY_WAIT_MAX
        } else {
            written.max(bound::REPLAY_WAIT_MIN)
        }
    }
}

impl Kind for Delay {
    type Value = Duration;
    fn read(&self, written: Written<'_>) -> Option<Duration> {
        TIMEOUT.read(written)
    }
    fn want(&self) -> String {
        TIMEOUT.want()
    }
    fn show(&self, value: &Duration) -> String {
        show_duration(Self::in_force(*value))
    }
}
