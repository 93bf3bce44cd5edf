//! What later versions do, read and checked today: filters. Pure.
//!
//! A file of the Go relay, or of a newer version of this one, is held to the same rules now, so
//! that it does not turn out wrong on the day the feature comes.

use crate::config::keys;
use crate::config::kind::{List, Text};
use crate::config::reader::Reader;
use crate::config::section::Section;
use crate::limits as bound;

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
