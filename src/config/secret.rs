//! One secret: from its key, or from the file that the key's twin names. Pure.

use crate::config::kind::Written;
use crate::config::reader::Reader;
use crate::config::section::{Section, Source};
use crate::plan::Secret;

/// A secret, from the key, or from the file that its twin names; one line end is cut.
pub fn read(reader: &mut Reader<'_>, section: &Section<'_>, name: &str) -> Option<Secret> {
    let (secret, source) = quiet(reader, section, name);
    let shown = secret.as_ref().map_or("none", |_| "(secret)");
    reader.row(section.key(name), shown, source);
    secret
}

/// Where a secret stands, for a problem with it.
pub fn at(reader: &Reader<'_>, section: &Section<'_>, name: &str) -> String {
    let twin = format!("{name}-file");
    let found = [name, &twin].map(|name| reader.found(section, name));
    let mut found: Vec<_> = found.into_iter().flatten().collect();
    found.sort_by_key(|found| found.source != Source::Env);
    let first = found.into_iter().next();
    first.map_or_else(|| section.at_key(name), |found| found.at)
}

/// [`read`] without a row.
pub fn quiet(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    name: &str,
) -> (Option<Secret>, Source) {
    let twin = format!("{name}-file");
    let here = reader.found(section, name);
    let there = reader.found(section, &twin);
    let set = match (here, there) {
        (Some(here), Some(there)) if here.source == there.source => {
            reader.problem(
                here.at,
                format!("both it and {}", there.at),
                "only one of them",
            );
            None
        }
        (Some(here), there)
            if there
                .as_ref()
                .is_none_or(|there| there.source == Source::File) =>
        {
            let text = here
                .written
                .text()
                .map(str::to_owned)
                .or_else(|| here.written.list().map(|all| all.join("\n")));
            Some((
                text.ok_or_else(|| "something that is not a text".to_owned()),
                here,
            ))
        }
        (_, Some(there)) => Some((in_file(reader, there.written), there)),
        (_, None) => None,
    };
    let (text, source) = match set {
        None => (None, Source::Default),
        Some((Err(found), at)) => {
            reader.problem(
                at.at,
                found,
                "a text, or the name of a file that this user may read",
            );
            (None, at.source)
        }
        Some((Ok(text), at)) => (checked(reader, text, at.at), at.source),
    };
    (text.map(Secret), source)
}

fn checked(reader: &mut Reader<'_>, text: String, at: String) -> Option<String> {
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        reader.problem(
            at,
            "an empty secret",
            "one that is not, or leave the key out",
        );
        return None;
    }
    Some(text.to_owned())
}

fn in_file(reader: &Reader<'_>, written: Written<'_>) -> Result<String, String> {
    let path = written
        .text()
        .ok_or("something that is not the name of a file")?;
    (reader.secrets)(path).map_err(|reason| format!("{path:?}, which cannot be read ({reason})"))
}
