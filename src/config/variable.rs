//! Outputs in one variable: `RELAY_HTTP_OUTPUTS="a=http://h:8086,b=http://i:8086"`. Pure.
//!
//! They become the tables that a file would hold, and are read as those are. A location may hold a
//! password, and a comma in that tears it apart; so where there is an `@` or a `?`, nothing is quoted.

use crate::config::keys::Key;
use crate::config::kind::List;
use crate::config::reader::Reader;
use crate::config::section::{Section, Source};
use toml::{Table, Value};

const OUTPUTS: List = List {
    want: "outputs with commas between them, such as \"a=http://127.0.0.1:8086,b=http://127.0.0.1:8087\"",
    is_right: |_| true,
};

/// The tables that the variable stands for; `None` where it is not set. A name may be missing.
pub fn tables(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    is_location: fn(&str) -> bool,
) -> Option<Vec<Table>> {
    let (written, Source::Env) = reader.text_of(section, "output")? else {
        return None;
    };
    let at = reader.at(section, "output");
    let Some(items) = reader.quiet(section, "output", &OUTPUTS) else {
        return Some(Vec::new());
    };
    let tables: Vec<Table> = items.iter().map(|item| table(item)).collect();
    let is_right = |table: &Table| {
        table
            .get("location")
            .and_then(Value::as_str)
            .is_some_and(is_location)
    };
    if written.text().is_some_and(|text| text.contains(['@', '?'])) && !tables.iter().all(is_right)
    {
        let want = format!("{}; a comma in a password as %2C", OUTPUTS.want);
        reader.problem(
            at,
            "a location that is wrong, and not shown here, as it may hold a password",
            want,
        );
        return Some(Vec::new());
    }
    Some(tables)
}

fn table(item: &str) -> Table {
    let named = item
        .split_once('=')
        .filter(|(name, _)| !name.contains("://"));
    let (name, location) = named.map_or((None, item), |(name, location)| {
        (Some(name.trim()), location.trim())
    });
    let name = name.map(|name| ("name".to_owned(), Value::from(name)));
    name.into_iter()
        .chain([("location".to_owned(), Value::from(location))])
        .collect()
}

/// The sections of such tables, below `parent`.
pub fn sections<'t>(
    tables: &'t [Table],
    parent: &Section<'_>,
    variable: &str,
    keys: &'static [Key],
) -> Vec<Section<'t>> {
    let section = |(i, table)| Section {
        path: format!("{}[{i}]", parent.key("output")),
        at: format!("{variable}[{i}]"),
        keys,
        table: Some(table),
        source: Source::Env,
        env: true,
    };
    tables.iter().enumerate().map(section).collect()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn a_name_stands_before_the_location_or_nowhere() {
        for (item, name, location) in [
            ("a=http://h:1", Some("a"), "http://h:1"),
            ("http://h:1/?db=x", None, "http://h:1/?db=x"),
            ("a = h:8089", Some("a"), "h:8089"),
            ("h:8089", None, "h:8089"),
            ("a=http://h/?x=y", Some("a"), "http://h/?x=y"),
        ] {
            let table = table(item);
            assert_eq!(
                table.get("name").and_then(|name| name.as_str()),
                name,
                "{item}"
            );
            assert_eq!(table["location"].as_str(), Some(location), "{item}");
        }
    }
}
