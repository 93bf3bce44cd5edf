//! What the stand-in backend has seen: requests, points and bytes, by path. Pure.

use memchr::{memchr, memchr2};
use serde_json::{Map, Value, json};

use super::request::{PATHS, Route};

/// Points in a body of line protocol: its lines, but for empty ones and comments. A newline within a
/// quoted field value is part of that value.
pub(super) fn points(body: &[u8]) -> u64 {
    let mut count = 0;
    let mut rest = body;
    while !rest.is_empty() {
        let line = &rest[..line_len(rest)];
        rest = rest.get(line.len() + 1..).unwrap_or_default();
        count += u64::from(!matches!(line.trim_ascii().first(), None | Some(b'#')));
    }
    count
}

/// Bytes before the newline that ends the first line.
fn line_len(bytes: &[u8]) -> usize {
    if bytes.trim_ascii_start().first() == Some(&b'#') {
        return memchr(b'\n', bytes).unwrap_or(bytes.len());
    }
    let (mut at, mut quoted) = (0, false);
    while let Some(found) = memchr2(b'"', b'\n', &bytes[at..]) {
        let here = at + found;
        if bytes[here] == b'"' {
            let escapes = bytes[..here]
                .iter()
                .rev()
                .take_while(|byte| **byte == b'\\')
                .count();
            quoted ^= escapes % 2 == 0;
        } else if !quoted {
            return here;
        }
        at = here + 1;
    }
    bytes.len()
}

/// One row of counts.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    requests: u64,
    points: u64,
    bytes: u64,
}

/// Everything counted since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    rows: [Row; PATHS.len() + 1],
    datagrams: Row,
    refused: u64,
    accepted: u64,
    open: u64,
}

impl Counts {
    /// One request, with the points and the bytes of its body as it came.
    pub(super) fn request(&mut self, route: Route, points: u64, bytes: usize) {
        add(&mut self.rows[route as usize], points, bytes);
    }

    /// One datagram of line protocol.
    pub(super) fn datagram(&mut self, body: &[u8]) {
        add(&mut self.datagrams, points(body), body.len());
    }

    /// One request that was none, or was wrong.
    pub(super) fn refused(&mut self) {
        self.refused += 1;
    }

    /// One more connection.
    pub(super) fn opened(&mut self) {
        self.accepted += 1;
        self.open += 1;
    }

    /// One connection less.
    pub(super) fn closed(&mut self) {
        self.open -= 1;
    }

    /// What `GET /stats` says. `requests`, `points` and `bytes` are of writes over HTTP alone;
    /// `kernel_drops` are datagrams that came and never got here, as far as that is known.
    pub(super) fn to_json(&self, kernel_drops: Option<u64>) -> String {
        let json =
            |row: &Row| json!({"requests": row.requests, "points": row.points, "bytes": row.bytes});
        let mut writes = Row::default();
        let mut paths = Map::new();
        for (route, path) in PATHS {
            let row = self.rows[route as usize];
            if route.is_write() {
                writes.requests += row.requests;
                writes.points += row.points;
                writes.bytes += row.bytes;
            }
            paths.insert(path.to_owned(), json(&row));
        }
        paths.insert("other".to_owned(), json(&self.rows[Route::Other as usize]));
        json!({
            "requests": writes.requests,
            "points": writes.points,
            "bytes": writes.bytes,
            "refused": self.refused,
            "connections": self.accepted,
            "connections_open": self.open,
            "udp": {
                "datagrams": self.datagrams.requests,
                "points": self.datagrams.points,
                "bytes": self.datagrams.bytes,
                "kernel_drops": kernel_drops,
            },
            "paths": Value::Object(paths),
        })
        .to_string()
    }
}

fn add(row: &mut Row, points: u64, bytes: usize) {
    row.requests += 1;
    row.points += points;
    row.bytes += bytes as u64;
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Counts, points};
    use crate::cli::sink::request::{PATHS, Route};

    #[test]
    fn points_are_lines_that_say_something() {
        for (body, count) in [
            ("", 0),
            ("\n\n  \n", 0),
            ("m v=1", 1),
            ("m v=1\nm v=2\r\n", 2),
            ("# it's a \"comment\nm v=1\n#m v=2", 1),
            ("m v=\"a\nb\"\nm v=1", 2),
            ("m v=\"a\\\"\nb\" 1\nm v=1", 2),
            ("m v=\"a\\\\\"\nm v=1", 2),
        ] {
            assert_eq!(points(body.as_bytes()), count, "{body:?}");
        }
    }

    #[test]
    fn a_route_is_the_number_of_its_row() {
        for (row, (route, path)) in PATHS.iter().enumerate() {
            assert_eq!(*route as usize, row, "{path}");
        }
        assert_eq!(Route::Other as usize, PATHS.len());
    }

    #[test]
    fn writes_are_summed_and_pings_are_not() {
        let mut counts = Counts::default();
        counts.request(Route::Write, 2, 10);
        counts.request(Route::RemoteWrite, 0, 5);
        counts.request(Route::Ping, 0, 0);
        counts.datagram(b"m v=1\nm v=2");
        let json: Value = serde_json::from_str(&counts.to_json(Some(3))).unwrap();
        assert_eq!(
            (&json["requests"], &json["points"], &json["bytes"]),
            (&2.into(), &2.into(), &15.into())
        );
        assert_eq!(
            (&json["paths"]["/ping"]["requests"], &json["udp"]["points"]),
            (&1.into(), &2.into())
        );
        assert_eq!(json["udp"]["kernel_drops"], 3);
    }
}
