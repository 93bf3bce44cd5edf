//! What goes to a backend next: records by order, gathered into as few requests as their targets
//! allow. Pure.
//!
//! Whole lines with the same target, credentials and headers become one body, a newline between them. A later
//! record never passes an earlier one of the same database: it joins the last request for its
//! database, or begins a new one behind it. Prometheus bodies, compressed ones, and those that end
//! within a string go alone.

use crate::backend::outgoing::Kind;
use crate::http::target::{Params, decoded, key_is};
use crate::spool::record::Record;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which endpoint.
    pub kind: Kind,
    /// The query, without `?`.
    pub query: Vec<u8>,
    /// Header lines, the same of all records in it.
    pub headers: Vec<u8>,
    /// The client's `Authorization`.
    pub authorization: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether it is whole lines, so that more may follow.
    pub joinable: bool,
    /// How many records are in it.
    pub records: u64,
    database: Vec<u8>,
}

/// Requests, in the order in which they go, and what they amount to.
#[derive(Debug, Default)]
pub struct Window {
    /// The requests.
    pub groups: Vec<Group>,
    /// Records in them.
    pub records: usize,
    /// Bytes of their bodies.
    pub bytes: usize,
    /// When the first record was kept: milliseconds since 1970.
    pub oldest_ms: u64,
    /// The first record: run, shard and sequence.
    pub first: (u64, u32, u64),
}

impl Window {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether a record of so many bytes is too much for a window of `bytes_max`.
    pub fn is_full(&self, more: usize, bytes_max: usize) -> bool {
        let newlines = self.records; // at most one between two that are joined
        self.records > 0 && self.bytes + newlines + more > bytes_max
    }

    /// Adds a record; a request may become as large as `batch_max`. A kind that this version does not
    /// know is counted, and sent to nobody.
    pub fn add(&mut self, record: &Record<'_>, batch_max: usize) {
        if self.records == 0 {
            self.oldest_ms = record.wall_ms;
        }
        self.records += 1;
        self.bytes += record.parts.body.len();
        let Some(kind) = Kind::of_number(record.parts.kind) else {
            return;
        };
        let parts = &record.parts;
        let database = database(kind, parts.query);
        // A statement may concern any database: nothing passes it, on either side.
        let groups = self.groups.iter_mut().rev();
        let last = groups
            .take_while(|group| group.kind != Kind::Statement)
            .find(|group| group.database == database);
        if let Some(last) = last
            && last.takes(kind, record, batch_max)
        {
            return last.join(parts.body);
        }
        self.groups.push(Group {
            kind,
            query: parts.query.to_vec(),
            headers: parts.headers.to_vec(),
            authorization: parts.authorization.to_vec(),
            body: parts.body.to_vec(),
            joinable: parts.joinable,
            records: 1,
            database,
        });
    }
}

impl Group {
    /// Whether the body is compressed.
    pub fn is_gzip(&self) -> bool {
        let headers = self.headers.to_ascii_lowercase();
        memchr::memmem::find(&headers, b"content-encoding: gzip").is_some() && self.has_lines()
    }

    /// Header lines for a part of the body, which is not compressed.
    pub fn headers_of_lines(&self) -> Vec<u8> {
        let lines = self.headers.split_inclusive(|&byte| byte == b'\n');
        let is_coding = |line: &&[u8]| {
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
            name.eq_ignore_ascii_case(b"content-encoding")
        };
        lines
            .filter(|line| !is_coding(line))
            .flatten()
            .copied()
            .collect()
    }

    /// Whether the body is line protocol, once inflated.
    pub fn has_lines(&self) -> bool {
        !matches!(self.kind, Kind::RemoteWrite | Kind::Statement)
    }

    fn takes(&self, kind: Kind, record: &Record<'_>, batch_max: usize) -> bool {
        let parts = &record.parts;
        self.joinable
            && parts.joinable
            && self.kind == kind
            && self.query == parts.query
            && self.authorization == parts.authorization
            && self.headers == parts.headers
            && self.body.len() + 1 + parts.body.len() <= batch_max
    }

    fn join(&mut self, body: &[u8]) {
        if !self.body.ends_with(b"\n") {
            self.body.push(b'\n');
        }
        self.body.extend_from_slice(body);
        self.records += 1;
    }
}

/// The database that a write is for, as far as the order of writes matters: `bucket=db/rp` of version 2
/// is `db` of the others.
fn database(kind: Kind, query: &[u8]) -> Vec<u8> {
    let key = if kind == Kind::WriteV2 {
        "bucket"
    } else {
        "db"
    };
    let found = Params::new(query).find(|pair| key_is(pair.key, key));
    let mut name: Vec<u8> = found.map_or_else(Vec::new, |pair| decoded(pair.value).collect());
    if kind == Kind::WriteV2
        && let Some(slash) = name.iter().position(|&byte| byte == b'/')
    {
        name.truncate(slash);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::Window;
    use crate::spool::record::{Parts, Record};

    fn record<'a>(kind: u8, query: &'a str, body: &'a str) -> Record<'a> {
        Record {
            accepted: 0,
            void: false,
            sequence: 0,
            order: 0,
            wall_ms: 7,
            bytes: 0,
            parts: Parts {
                kind,
                joinable: kind != 3,
                targets: &[],
                query: query.as_bytes(),
                headers: b"A: b\r\n",
                authorization: b"",
                body: body.as_bytes(),
            },
        }
    }

    fn window(records: &[(u8, &str, &str)]) -> Vec<(String, String)> {
        let mut window = Window::default();
        for (kind, query, body) in records {
            window.add(&record(*kind, query, body), 1000);
        }
        assert_eq!(window.records, records.len());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let groups = window.groups.iter();
        groups
            .map(|group| (text(&group.query), text(&group.body)))
            .collect()
    }

    fn expect(expected: &[(&str, &str)], found: &[(String, String)]) {
        let found: Vec<_> = found
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn whole_lines_of_one_target_are_joined_across_others() {
        let found = window(&[
            (0, "db=x", "a\n"),
            (0, "db=y", "b"),
            (0, "db=x", "c"),
            (0, "db=y", "d\n"),
        ]);
        expect(&[("db=x", "a\nc"), ("db=y", "b\nd\n")], &found);
    }

    #[test]
    fn nothing_passes_what_is_older_in_its_database() {
        let found = window(&[
            (0, "db=x", "a"),
            (0, "db=x&precision=s", "b"),
            (0, "db=x", "c"),
            (1, "bucket=x/r", "d"),
            (1, "bucket=x%2Fr", "e"),
            (0, "db=x", "f"),
        ]);
        let bodies: Vec<&str> = found.iter().map(|group| group.1.as_str()).collect();
        assert_eq!(bodies, ["a", "b", "c", "d", "e", "f"]);
    }

    #[test]
    fn prometheus_bodies_and_full_requests_are_not_joined() {
        let long = "l".repeat(600);
        let found = window(&[
            (3, "", "p"),
            (3, "", "q"),
            (0, "db=x", &long),
            (0, "db=x", &long),
        ]);
        expect(
            &[("", "p"), ("", "q"), ("db=x", &long), ("db=x", &long)],
            &found,
        );
    }
}
