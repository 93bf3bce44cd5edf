//! One reading of the file and the environment: each key by its name, problems collected. Pure.
//!
//! A value comes from the environment, else from the file, else from the default. Whatever is
//! wrong is noted and the default taken, so that one reading finds every problem.

use crate::config::keys::{Key, names, variables};
use crate::config::kind::{Kind, Written};
use crate::config::problem::Problem;
use crate::config::section::{Found, Row, Section, Source};
use crate::config::unknown::{PREFIX, instead_of, is_service_link};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// How the contents of a file that holds a secret are had: its path in, its text or the reason out.
pub type SecretFiles<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// One reading.
pub struct Reader<'a> {
    /// The file's name as the operator wrote it.
    file: &'a str,
    env: &'a [(String, String)],
    /// How files that hold secrets are read.
    pub secrets: SecretFiles<'a>,
    /// Everything that is wrong so far.
    pub problems: Vec<Problem>,
    /// Everything in force so far.
    pub rows: Vec<Row>,
    /// See `Plan::not_in_force`.
    pub not_in_force: Vec<String>,
    /// See `Plan::notes`.
    pub notes: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Before the first key.
    pub fn new(file: &'a str, env: &'a [(String, String)], secrets: SecretFiles<'a>) -> Self {
        Self {
            file,
            env,
            secrets,
            problems: Vec::new(),
            rows: Vec::new(),
            not_in_force: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The top of the file.
    pub fn top<'t>(&self, table: Option<&'t Table>, keys: &'static [Key]) -> Section<'t> {
        Section {
            path: String::new(),
            at: format!("{}: ", self.file),
            keys,
            table,
            source: Source::File,
            env: true,
        }
    }

    /// A table inside a table, such as `[limits]`; variables speak of it where they do of its parent.
    pub fn inner<'t>(
        &mut self,
        parent: &Section<'t>,
        name: &str,
        keys: &'static [Key],
    ) -> Section<'t> {
        let table = match parent.table.and_then(|table| table.get(name)) {
            None => None,
            Some(Value::Table(table)) => Some(table),
            Some(other) => {
                let found = format!("{} (not a table)", kind_of(other));
                self.problem(
                    parent.at_key(name),
                    found,
                    format!("a table of its own: [{}]", parent.heading(name)),
                );
                None
            }
        };
        let (path, at) = (parent.key(name), parent.at_key(name));
        let section = Section {
            path,
            at,
            keys,
            table,
            source: parent.source,
            env: parent.env,
        };
        self.unknown(&section);
        section
    }

    /// An array of tables, such as `[[http]]`, or `output = [ { … } ]`; at most `max` of them.
    pub fn array<'t>(
        &mut self,
        parent: &Section<'t>,
        name: &str,
        keys: &'static [Key],
        max: usize,
    ) -> Vec<Section<'t>> {
        let Some(value) = parent.table.and_then(|table| table.get(name)) else {
            return Vec::new();
        };
        let at = parent.at_key(name);
        let items = value.as_array().map_or(&[][..], Vec::as_slice);
        if !value.is_array() || items.iter().any(|item| !item.is_table()) {
            self.problem(
                at.clone(),
                format!("{} (not an array of tables)", kind_of(value)),
                format!("[[{}]]", parent.heading(name)),
            );
        }
        if items.len() > max {
            self.problem(
                at,
                format!("{} tables", items.len()),
                format!("at most {max}"),
            );
        }
        let tables = items
            .iter()
            .take(max)
            .enumerate()
            .filter_map(|(i, item)| Some((i, item.as_table()?)));
        let sections: Vec<Section<'t>> = tables
            .map(|(i, table)| Section {
                path: format!("{}[{i}]", parent.key(name)),
                at: format!("{}[{i}]", parent.at_key(name)),
                keys,
                table: Some(table),
                source: Source::File,
                env: parent.env && i == 0,
            })
            .collect();
        for section in &sections {
            self.unknown(section);
        }
        sections
    }

    /// The value of a key, or its default.
    pub fn take<K: Kind>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        kind: &K,
        default: K::Value,
    ) -> K::Value {
        let set = self.read(section, name, kind);
        let source = set.as_ref().map_or(Source::Default, |(_, source)| *source);
        let value = set.map_or(default, |(value, _)| value);
        self.row(section.key(name), kind.show(&value), source);
        value
    }

    /// The value of a key that may be missing.
    pub fn maybe<K: Kind>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        kind: &K,
    ) -> Option<K::Value> {
        let set = self.read(section, name, kind);
        let source = set.as_ref().map_or(Source::Default, |(_, source)| *source);
        let shown = set
            .as_ref()
            .map_or_else(|| "none".into(), |(value, _)| kind.show(value));
        self.row(section.key(name), shown, source);
        set.map(|(value, _)| value)
    }

    /// What a key says, if it stands in the file or the environment.
    pub fn text_of<'s>(&self, section: &Section<'s>, name: &str) -> Option<(Written<'s>, Source)>
    where
        'a: 's,
    {
        self.found(section, name)
            .map(|found| (found.written, found.source))
    }

    /// Whether anything at all is said of a table.
    pub fn is_described(&self, section: &Section<'_>) -> bool {
        section.table.is_some()
            || names(section.keys).any(|name| self.found(section, &name).is_some())
    }

    /// Where a key stands, for a problem with it; where it would stand in the file, if nowhere.
    pub fn at(&self, section: &Section<'_>, name: &str) -> String {
        self.found(section, name)
            .map_or_else(|| section.at_key(name), |found| found.at)
    }

    /// Notes that something is wrong; the same thing once.
    pub fn problem(
        &mut self,
        at: impl Into<String>,
        found: impl Into<String>,
        want: impl Into<String>,
    ) {
        let problem = Problem {
            at: at.into(),
            found: found.into(),
            want: want.into(),
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Notes a value in force.
    pub fn row(&mut self, key: String, value: impl Into<String>, source: Source) {
        self.rows.push(Row {
            key,
            value: value.into(),
            source,
        });
    }

    /// Every variable `RELAY_…` that does not exist. What a container platform sets for a service
    /// that is called `relay` is left alone.
    pub fn unknown_variables(&mut self) {
        let known: BTreeSet<String> = variables().collect();
        for (name, _) in self.env {
            if name.starts_with(PREFIX) && !known.contains(name) && !is_service_link(name) {
                self.unknown_name(name.clone(), "a variable that does not exist", name, &known);
            }
        }
    }

    /// Every key of a table that does not exist.
    pub fn unknown(&mut self, section: &Section<'_>) {
        let known: BTreeSet<String> = names(section.keys).collect();
        for name in section
            .table
            .iter()
            .flat_map(|table| table.keys())
            .filter(|name| !known.contains(*name))
        {
            self.unknown_name(
                section.at_key(name),
                "a key that does not exist here",
                name,
                &known,
            );
        }
    }

    fn unknown_name(&mut self, at: String, found: &str, name: &str, known: &BTreeSet<String>) {
        self.problem(at, found, instead_of(name, known));
    }

    /// The value of a key that gets no row, as more is in it than may be shown.
    pub fn quiet<K: Kind>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        kind: &K,
    ) -> Option<K::Value> {
        self.read(section, name, kind).map(|(value, _)| value)
    }

    fn read<K: Kind>(
        &mut self,
        section: &Section<'_>,
        name: &str,
        kind: &K,
    ) -> Option<(K::Value, Source)> {
        let found = self.found(section, name)?;
        let value = kind.read(found.written);
        let (at, shown, source) = (found.at, found.written.shown(), found.source);
        if value.is_none() {
            self.problem(at, shown, kind.want());
        }
        value.map(|value| (value, source))
    }

    /// A value as it is written, and where: in the environment, else in the file.
    pub fn found<'s>(&self, section: &Section<'s>, name: &str) -> Option<Found<'s>>
    where
        'a: 's,
    {
        let variable = section.variable(name);
        if let Some((_, text)) = self
            .env
            .iter()
            .find(|(known, _)| Some(known) == variable.as_ref())
        {
            return Some(Found {
                written: Written::Text(text),
                at: variable?,
                source: Source::Env,
            });
        }
        let value = section.table?.get(name)?;
        Some(Found {
            written: Written::Toml(value),
            at: section.at_key(name),
            source: section.source,
        })
    }

    /// What a sentence calls a key: the variable that sets it, or its path.
    pub fn called(&self, section: &Section<'_>, name: &str) -> String {
        match self.found(section, name) {
            Some(found) if found.source == Source::Env && section.source != Source::Env => found.at,
            _ => section.key(name),
        }
    }
}

/// What a TOML value is, in a word.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a number",
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}
