//! The `[[udp]]` tables: doors for datagrams, and what is behind each. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::datagram_bind::{DatagramBind, ReceiveAt};
use crate::config::goforks::{Named, endpoints};
use crate::config::keys;
use crate::config::kind::{Bytes, Flag, Text, Wait, Whole, Word};
use crate::config::listener::{Doors, implied};
use crate::config::location::{Location, basic, is_host_name, parse, port_number};
use crate::config::mode::{MODES, Mode};
use crate::config::output::NAME;
use crate::config::process::count;
use crate::config::reader::Reader;
use crate::config::section::Section;
use crate::config::variable;
use crate::http::precision::{Dialect, Precision};
use crate::http::write_query::write_query;
use crate::limits as bound;
use crate::plan::{
    BackendId, BackendKind, BackendPlan, BackendTlsPlan, CarriedPlan, OutputId, OutputPlan, Secret,
    TimeUnit, UdpPlan, UdpSteering,
};

const READ_BUFFER: Bytes = Bytes {
    min: 0,
    max: bound::udp::SET_READ_BUFFER_BYTES_MAX,
};
const WINDOW: Wait = Wait {
    min: Duration::ZERO,
    max: bound::udp::SET_WINDOW_MAX,
};
const BATCH: Whole = Whole {
    min: 1,
    max: bound::udp::SET_BATCH_MAX,
};
const MTU: Whole = Whole {
    min: 0,
    max: bound::udp::PAYLOAD_BYTES_MAX as u64,
};
const STEERING: Word<UdpSteering> = Word(&[
    ("help", UdpSteering::Help),
    ("flow", UdpSteering::Flow),
    ("spread", UdpSteering::Spread),
]);
const UNITS: Word<Precision> = Word(&[
    ("n", Precision::Nanosecond),
    ("ns", Precision::Nanosecond),
    ("", Precision::Nanosecond),
    ("u", Precision::Microsecond),
    ("us", Precision::Microsecond),
    ("µ", Precision::Microsecond),
    ("ms", Precision::Millisecond),
    ("s", Precision::Second),
    ("m", Precision::Minute),
    ("h", Precision::Hour),
]);
const LOCATION: Text = Text {
    want: "host:port, or a URL such as \"http://127.0.0.1:8086/?db=x\"",
    is_right: is_location,
};

/// Every `[[udp]]`, or the one that the environment describes. Their backends join those of `doors`. With
/// each comes where its name stands.
pub fn read(
    reader: &mut Reader<'_>,
    top: &Section<'_>,
    doors: &mut Doors,
) -> (Vec<(UdpPlan, String)>, Vec<OutputPlan>) {
    let mut sections = reader.array(top, "udp", keys::UDP, bound::udp::LISTENERS_MAX);
    let first = implied("udp[0]", keys::UDP);
    let is_described =
        reader.is_described(&first) || reader.is_described(&implied("", keys::UDP_OUTPUT));
    if sections.is_empty() && is_described {
        sections.push(first);
    }
    let mut outputs = Vec::new();
    let udp = sections
        .iter()
        .filter_map(|section| read_one(reader, section, doors, &mut outputs))
        .collect();
    (udp, outputs)
}

fn read_one(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    doors: &mut Doors,
    outputs: &mut Vec<OutputPlan>,
) -> Option<(UdpPlan, String)> {
    if reader.text_of(section, "bind-addr").is_none() {
        let at = if section.table.is_some() {
            section.at_key("bind-addr")
        } else {
            "RELAY_UDP_BIND_ADDR".into()
        };
        reader.problem(at, "nothing", "an address such as \"127.0.0.1:8089\"");
    }
    let bind: Option<ReceiveAt> = reader.maybe(section, "bind-addr", &DatagramBind).flatten();
    let default_name = bind.as_ref().map_or_else(String::new, ToString::to_string);
    let name = reader.take(section, "name", &NAME, default_name.clone());
    let asked = reader.take(section, "read-buffer", &READ_BUFFER, 0);
    let precision = reader.take(section, "precision", &UNITS, Precision::Nanosecond);
    let balance = reader.take(section, "mode", &MODES, Mode::Replicate) == Mode::Balance;
    let mut plan = UdpPlan {
        name: if name.is_empty() { default_name } else { name },
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        interface: None,
        read_buffer_bytes: if asked > 0 {
            asked
        } else {
            bound::udp::READ_BUFFER_BYTES
        },
        read_buffer_is_asked: asked > 0,
        unit: TimeUnit {
            word: precision.spelling(Dialect::V1),
            ns: precision.unit_ns(),
        },
        balance,
        steering: reader.take(section, "steering", &STEERING, UdpSteering::Help),
        gro: reader.take(section, "gro", &Flag, false),
        batch: count(reader, section, "batch", &BATCH, bound::udp::BATCH),
        flush_window: reader.take(section, "flush-window", &WINDOW, Duration::ZERO),
        outputs: Vec::new(),
        carried: Vec::new(),
    };
    let is_off = bind.is_none() && reader.text_of(section, "bind-addr").is_some();
    let (backends_before, outputs_before) = (doors.backends.len(), outputs.len());
    read_outputs(reader, section, &mut plan, doors, outputs);
    let Some(bind) = bind.filter(|_| !is_off) else {
        // Empty is off: what it would send to is read, and no more.
        doors.backends.truncate(backends_before);
        outputs.truncate(outputs_before);
        return None;
    };
    (plan.bind, plan.interface) = (bind.address, bind.interface);
    if plan.outputs.is_empty() && plan.carried.is_empty() {
        reader.notes.push(format!(
            "{} has no outputs: each datagram is counted and dropped",
            section.path
        ));
    }
    Some((plan, reader.at(section, "name")))
}

fn read_outputs(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    plan: &mut UdpPlan,
    doors: &mut Doors,
    outputs: &mut Vec<OutputPlan>,
) {
    let tables = variable::tables(reader, section, is_location);
    let mut sections = match &tables {
        Some(tables) => variable::sections(tables, section, "RELAY_UDP_OUTPUTS", keys::UDP_OUTPUT),
        None => reader.array(section, "output", keys::UDP_OUTPUT, bound::OUTPUTS_MAX),
    };
    sections.truncate(bound::OUTPUTS_MAX);
    let mut names: Vec<String> = Vec::new();
    for output in &mut sections {
        output.env = section.env;
        let Some(read) = read_output(reader, output, plan.unit) else {
            continue;
        };
        let name = match &read {
            Output::Udp(output) => &output.name,
            Output::Http(backend, _) => &backend.name,
        };
        if names.contains(name) {
            let found = format!("{name:?}, which another output of this listener is called too");
            reader.problem(output.at_key("name"), found, "a name of its own");
        }
        names.push(name.clone());
        match read {
            Output::Udp(output) => {
                plan.outputs.push(OutputId(outputs.len()));
                outputs.push(output);
            }
            Output::Http(backend, query) => {
                let id = BackendId(doors.backends.len());
                doors.backends.push(*backend);
                carry(plan, id, query);
            }
        }
    }
}

/// Backends that are sent the same go together; but where each datagram goes to one of them, alone.
fn carry(plan: &mut UdpPlan, id: BackendId, query: Secret) {
    let same = plan
        .carried
        .iter_mut()
        .find(|carried| carried.query == query);
    match same.filter(|_| !plan.balance) {
        Some(carried) => carried.outputs.push(id),
        None => plan.carried.push(CarriedPlan {
            query,
            outputs: vec![id],
        }),
    }
}

enum Output {
    Udp(OutputPlan),
    Http(Box<BackendPlan>, Secret),
}

fn read_output(reader: &mut Reader<'_>, section: &Section<'_>, unit: TimeUnit) -> Option<Output> {
    let name = reader.maybe(section, "name", &NAME).unwrap_or_default();
    let mtu = count(reader, section, "mtu", &MTU, bound::udp::MTU);
    let at = section.at_key("location");
    let Some((written, source)) = reader.text_of(section, "location") else {
        reader.problem(at, "nothing", LOCATION.want);
        return None;
    };
    let Some(text) = written.text().filter(|text| is_location(text)) else {
        reader.problem(at, written.shown(), LOCATION.want);
        return None;
    };
    if let Some(url) = parse(text) {
        reader.row(section.key("location"), url.shown.as_str(), source);
        let query = read_query(reader, section, &url, unit)?;
        return Some(Output::Http(Box::new(backend(name, url)), query));
    }
    reader.row(section.key("location"), text, source);
    let (host, port) = text.rsplit_once(':')?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let name = if name.is_empty() {
        text.to_owned()
    } else {
        name
    };
    Some(Output::Udp(OutputPlan {
        label: name.clone(),
        name,
        host,
        port: port_number(port)?,
        mtu: if mtu == 0 { bound::udp::MTU } else { mtu }, // as in the Go relay
    }))
}

/// The query of each write, with the listener's unit in it.
fn read_query(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    url: &Location,
    unit: TimeUnit,
) -> Option<Secret> {
    let at = section.at_key("location");
    let own = url.query.as_deref().unwrap_or_default();
    if own.split('&').any(|pair| pair.starts_with("precision=")) {
        let want = "precision in the [[udp]] table: it holds for what comes and for what goes";
        reader.problem(at, "a precision in the query", want);
        return None;
    }
    let mut query = Vec::new();
    let whole = format!("{own}&precision={}", unit.word);
    match write_query(
        whole.trim_start_matches('&').as_bytes(),
        Dialect::V1,
        None,
        &mut query,
    ) {
        Ok(_) => String::from_utf8(query).ok().map(Secret),
        Err(_) => {
            let want = "the database in the query, such as \"http://127.0.0.1:8086/?db=x\"";
            reader.problem(at, "a URL without db", want);
            None
        }
    }
}

/// A backend with what `[[http.output]]` has by default.
fn backend(name: String, url: Location) -> BackendPlan {
    let name = if name.is_empty() {
        url.shown.clone()
    } else {
        name
    };
    BackendPlan {
        label: name.clone(),
        name,
        location: url.shown,
        kind: BackendKind::InfluxDb,
        host: url.host,
        port: url.port,
        tls: url.tls.then(BackendTlsPlan::default),
        host_header: url.host_header,
        authorization: url
            .user
            .map(|(user, password)| Secret(basic(&user, &password))),
        endpoints: endpoints(BackendKind::InfluxDb, &url.path, &Named::default()),
        timeout: bound::BACKEND_WAIT_MAX,
        links_max: bound::LINKS_MAX,
        merge: false,
        drop_responses: false,
        compress: false,
        writes: true,
        queries: false,
        filter: None,
        owed_bytes_max: 0,
        replay_batch_bytes_max: bound::REPLAY_BATCH_BYTES_MAX,
        replay_wait_max: bound::REPLAY_WAIT_MAX,
    }
}

fn is_location(text: &str) -> bool {
    if text.contains("://") {
        return parse(text).is_some();
    }
    let is_named = |(host, port): (&str, &str)| is_host_name(host) && port_number(port).is_some();
    text.parse::<SocketAddr>()
        .is_ok_and(|address| address.port() > 0)
        || text.rsplit_once(':').is_some_and(is_named)
}
