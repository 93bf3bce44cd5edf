//! The `[[filter]]` tables: which points an output is to get. Pure.
//!
//! An output is found by its name, in every HTTP listener, as in the Go relay. All filters that name it hold
//! together; what that comes to is put in order, so that outputs which are to get the same have equal plans.

use std::collections::BTreeSet;

use crate::config::keys;
use crate::config::kind::{List, Text};
use crate::config::listener::Doors;
use crate::config::reader::Reader;
use crate::config::section::Section;
use crate::config::unknown::instead_of;
use crate::limits::filter::{EXPRESSION_BYTES_MAX, FILTERS_MAX};
use crate::payload::filter::expression;
use crate::plan::{BackendId, FilterPlan, ListenerPlan, OutputPlan};

const EXPRESSION: Text = Text {
    want: "a regular expression of at most 4 KiB",
    is_right: |text| text.len() <= EXPRESSION_BYTES_MAX,
};
const OUTPUTS: List = List {
    want: "an array of names of outputs",
    is_right: |_| true,
};
const TYPE: Text = Text {
    want: "a text",
    is_right: |_| true,
};
/// Characters of a wrong expression that are shown. The rest is cut.
const SHOWN_CHARS_MAX: usize = 60;

/// Every `[[filter]]`: what it says goes to the backends of `doors`. `outputs` are those over UDP.
pub fn read(reader: &mut Reader<'_>, top: &Section<'_>, doors: &mut Doors, outputs: &[OutputPlan]) {
    for section in reader.array(top, "filter", keys::FILTER, FILTERS_MAX) {
        let measurement = read_expression(reader, &section, "measurement-expression");
        let tag = read_expression(reader, &section, "tag-expression");
        let tag_value = read_expression(reader, &section, "tag-value-expression");
        let names = reader.maybe(&section, "outputs", &OUTPUTS);
        let names = names.unwrap_or_default();
        reader.maybe(&section, "type", &TYPE); // of the Go relay, which does not use it either
        if names.is_empty() {
            let path = &section.path;
            let said = format!("{path} names no outputs: it holds for none");
            reader.not_in_force.push(said);
        }
        for name in &names {
            for BackendId(id) in named(reader, &section, name, doors, outputs) {
                let plan = doors.backends[id].filter.get_or_insert_default();
                plan.measurements.extend(measurement.clone());
                plan.tags.extend(tag.clone());
                plan.tag_values.extend(tag_value.clone());
            }
        }
    }
    for backend in &mut doors.backends {
        backend.filter = backend.filter.take().and_then(in_order);
    }
}

/// An expression that compiles and is not empty; what is empty matches all, as in the Go relay.
fn read_expression(reader: &mut Reader<'_>, section: &Section<'_>, name: &str) -> Option<String> {
    let text = reader.maybe(section, name, &EXPRESSION)?;
    if text.is_empty() {
        return None;
    }
    match expression(&text) {
        Ok(_) => Some(text),
        Err(bad) => {
            let at = reader.at(section, name);
            let found = format!("{}: {}", shown(&text), bad.why);
            reader.problem(at, found, "a regular expression such as \"^cpu\"");
            None
        }
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => format!("{text:?}"),
        Some((cut, _)) => format!("{:?}…", &text[..cut]),
    }
}

/// The backends of that name in all HTTP listeners. What has it only over UDP gets every point, as in the
/// Go relay; that is said. What nobody has is a problem.
fn named(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    name: &str,
    doors: &Doors,
    outputs: &[OutputPlan],
) -> Vec<BackendId> {
    let of = |listener: &ListenerPlan| listener.outputs.clone();
    let over_http: BTreeSet<BackendId> = doors.listeners.iter().flat_map(of).collect();
    let carried = doors.backends.iter().enumerate();
    let carried = carried.filter(|(id, _)| !over_http.contains(&BackendId(*id)));
    let mut over_udp = carried.map(|(_, backend)| &backend.name);
    let is_over_udp =
        over_udp.any(|known| known == name) || outputs.iter().any(|output| output.name == name);
    let name_of = |id: &BackendId| doors.backends[id.0].name.clone();
    let found: Vec<BackendId> = over_http
        .iter()
        .copied()
        .filter(|id| name_of(id) == name)
        .collect();
    let key = section.key("outputs");
    if found.is_empty() && is_over_udp {
        reader.not_in_force.push(format!(
            "{key} names {name:?}, which only a UDP listener has: points that come by UDP are not filtered"
        ));
    } else if found.is_empty() {
        let known: BTreeSet<String> = over_http.iter().map(name_of).collect();
        let want = match known.len() {
            0 => "no filter, as there is no output over HTTP".to_owned(),
            _ => instead_of(name, &known),
        };
        let found = format!("{name:?}, which no output over HTTP is called");
        reader.problem(reader.at(section, "outputs"), found, want);
    } else if is_over_udp {
        reader.notes.push(format!(
            "{key} names {name:?}, which a UDP listener has too: points that come by UDP are not filtered"
        ));
    }
    refuse_balance(reader, section, name, doors, &found);
    found
}

/// Of several outputs of which any one may get a write, a filter at one would lose points by chance.
fn refuse_balance(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    name: &str,
    doors: &Doors,
    found: &[BackendId],
) {
    let has = |listener: &&ListenerPlan| found.iter().any(|id| listener.outputs.contains(id));
    let mut balancing = doors.listeners.iter().filter(|listener| listener.balance);
    if let Some(listener) = balancing.find(has) {
        let found = format!(
            "{name:?}, an output of {:?}, whose mode is \"balance\"",
            listener.name
        );
        let want = "the filter at the relays behind it: here a write goes to any one of the outputs, and a filter would lose points by chance";
        reader.problem(reader.at(section, "outputs"), found, want);
    }
}

/// Sorted, each expression once; `None` if there are none.
fn in_order(mut plan: FilterPlan) -> Option<FilterPlan> {
    for texts in [&mut plan.measurements, &mut plan.tags, &mut plan.tag_values] {
        texts.sort_unstable();
        texts.dedup();
    }
    (plan != FilterPlan::default()).then_some(plan)
}
