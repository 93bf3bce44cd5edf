//! What later versions do, read and checked today: UDP, filters. Pure.
//!
//! A file of the Go relay, or of a newer version of this one, is held to the same rules now, so
//! that it does not turn out wrong on the day the feature comes.

use crate::config::keys;
use crate::config::kind::{Bytes, List, Text, Whole, Word};
use crate::config::listener::{MODES, Mode, implied};
use crate::config::location::{is_host_name, parse, port_number};
use crate::config::output::NAME;
use crate::config::reader::Reader;
use crate::config::section::Section;
use crate::config::special::Bind;
use crate::config::variable;
use crate::limits as bound;
use std::net::SocketAddr;

const SIZE: Bytes = Bytes {
    min: 0,
    max: usize::MAX,
};
const NO_UDP: &str = "this version has no UDP: no datagram is received";

/// Every `[[udp]]`, or the one that the environment describes: its name, and where it stands.
pub fn udp(reader: &mut Reader<'_>, top: &Section<'_>) -> Vec<(String, String)> {
    let mut sections = reader.array(top, "udp", keys::UDP, bound::LISTENERS_MAX);
    let first = implied("udp[0]", keys::UDP);
    let is_described =
        reader.is_described(&first) || reader.is_described(&implied("", keys::UDP_OUTPUT));
    if sections.is_empty() && is_described {
        sections.push(first);
    }
    sections
        .iter()
        .filter_map(|section| read_udp(reader, section))
        .collect()
}

fn read_udp(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<(String, String)> {
    let precisions: Word<&str> = Word(&[
        ("n", "n"),
        ("ns", "n"),
        ("", "n"),
        ("u", "u"),
        ("us", "u"),
        ("µ", "u"),
        ("ms", "ms"),
        ("s", "s"),
        ("m", "m"),
        ("h", "h"),
    ]);
    if reader.text_of(section, "bind-addr").is_none() {
        let at = if section.table.is_some() {
            section.at_key("bind-addr")
        } else {
            "RELAY_UDP_BIND_ADDR".into()
        };
        reader.problem(at, "nothing", "an address such as \"127.0.0.1:8089\"");
    }
    let bind: Option<SocketAddr> = reader
        .maybe(section, "bind-addr", &Bind { empty: "off" })
        .flatten();
    let default_name = bind.map_or_else(String::new, |bind| bind.to_string());
    let name = reader.take(section, "name", &NAME, default_name.clone());
    reader.maybe(section, "read-buffer", &SIZE);
    reader.maybe(section, "precision", &precisions);
    reader.take(section, "mode", &MODES, Mode::Replicate);
    let tables = variable::tables(reader, section, is_udp_location);
    let outputs = match &tables {
        Some(tables) => variable::sections(tables, section, "RELAY_UDP_OUTPUTS", keys::UDP_OUTPUT),
        None => reader.array(section, "output", keys::UDP_OUTPUT, bound::OUTPUTS_MAX),
    };
    for mut output in outputs {
        output.env = section.env;
        read_udp_output(reader, &output);
    }
    bind?; // empty is off
    reader
        .not_in_force
        .push(format!("{} is set, but {NO_UDP}", section.path));
    Some((
        if name.is_empty() { default_name } else { name },
        reader.at(section, "name"),
    ))
}

fn read_udp_output(reader: &mut Reader<'_>, section: &Section<'_>) {
    let location = Text {
        want: "host:port, or a URL such as \"http://127.0.0.1:8086/?db=x\"",
        is_right: is_udp_location,
    };
    reader.maybe(section, "name", &NAME);
    reader.take(
        section,
        "mtu",
        &Whole {
            min: 0,
            max: 65_507,
        },
        1024,
    );
    let at = section.at_key("location");
    let Some((written, source)) = reader.text_of(section, "location") else {
        return reader.problem(at, "nothing", location.want);
    };
    match written.text().filter(|text| is_udp_location(text)) {
        None => reader.problem(at, written.shown(), location.want),
        Some(text) => {
            let shown = parse(text).map_or_else(|| text.to_owned(), |url| url.shown);
            reader.row(section.key("location"), shown, source);
        }
    }
}

fn is_udp_location(text: &str) -> bool {
    if text.contains("://") {
        return parse(text).is_some();
    }
    let is_named = |(host, port): (&str, &str)| is_host_name(host) && port_number(port).is_some();
    text.parse::<SocketAddr>()
        .is_ok_and(|address| address.port() > 0)
        || text.rsplit_once(':').is_some_and(is_named)
}

/// Every `[[filter]]`. Its expressions are not compiled yet.
pub fn filters(reader: &mut Reader<'_>, top: &Section<'_>) {
    let text = Text {
        want: "a text",
        is_right: |_| true,
    };
    let list = List {
        want: "an array of names of outputs",
        is_right: |_| true,
    };
    for section in reader.array(top, "filter", keys::FILTER, bound::OUTPUTS_MAX) {
        reader.maybe(&section, "tag-expression", &text);
        reader.maybe(&section, "measurement-expression", &text);
        reader.maybe(&section, "outputs", &list);
        reader.maybe(&section, "type", &text);
        reader.not_in_force.push(format!(
            "{} is set, but this version filters nothing: each output gets every point",
            section.path
        ));
    }
}
