//! A record in words: its path, its query without credentials, its body as it was before gzip. Pure.

use std::borrow::Cow;
use std::fmt::Write;

use crate::limits::SET_BODY_BYTES_MAX;
use crate::limits::tools::SHOW_BODY_BYTES;
use crate::payload::gzip::{Inflate, Inflater};
use crate::spool::dead_letter::{without_credentials, without_passwords};
use crate::spool::record::Parts;

/// The path of a kind of write; `None` for one that this version does not know.
fn path(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0 => "/write",
        1 => "/api/v2/write",
        2 => "/api/v3/write_lp",
        REMOTE_WRITE => "/api/v1/write",
        STATEMENT => "/query",
        _ => return None,
    })
}

/// The same in words.
pub(super) fn path_shown(kind: u8) -> Cow<'static, str> {
    match path(kind) {
        Some(path) => path.into(),
        None => format!("kind-{kind}").into(),
    }
}

/// Whether the body of a kind is line protocol.
pub(super) fn is_lines(kind: u8) -> bool {
    ![REMOTE_WRITE, STATEMENT].contains(&kind) && path(kind).is_some()
}

/// What may be shown of the body of a record.
pub(super) fn body_of_kind(kind: u8, body: &[u8]) -> &[u8] {
    match kind {
        STATEMENT => without_passwords(body),
        _ => body,
    }
}

/// Whether what goes to a path is remote-write: bytes, and no lines.
pub(super) fn is_remote_write(path: &str) -> bool {
    path.ends_with("/api/v1/write") || path.ends_with("/api/v1/prom/write")
}

/// A query without credentials, on one line whatever is in it.
pub(super) fn query_shown(query: &[u8]) -> String {
    on_one_line(&without_credentials(&String::from_utf8_lossy(query)))
}

/// A text whose control characters are escaped as in a URL.
pub(super) fn on_one_line(text: &str) -> String {
    let mut line = String::new();
    for char in text.chars() {
        match char.is_control() {
            true => {
                let mut bytes = [0; 4];
                for byte in char.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(line, "%{byte:02X}"); // a String takes all
                }
            }
            false => line.push(char),
        }
    }
    line
}

/// A path with its query.
pub(super) fn target(path: &str, query: &str) -> String {
    match query {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// The first bytes of a body, in quotes.
pub(super) fn body_shown(body: &[u8]) -> String {
    let (first, more) = match body.get(..SHOW_BODY_BYTES) {
        Some(first) if body.len() > SHOW_BODY_BYTES => (first, "…"),
        _ => (body, ""),
    };
    format!("\"{}\"{more}", first.escape_ascii())
}

/// Bodies as they were before gzip.
#[derive(Default)]
pub(super) struct Plain {
    inflater: Inflater,
    out: Vec<u8>,
}

impl Plain {
    /// The body of a record, inflated if it is gzip.
    pub(super) fn body<'b>(&'b mut self, parts: &Parts<'b>) -> Result<&'b [u8], Inflate> {
        if !is_lines(parts.kind) || !is_gzip(parts.headers) {
            return Ok(parts.body);
        }
        self.inflater
            .inflate(parts.body, &mut self.out, SET_BODY_BYTES_MAX)?;
        Ok(&self.out)
    }
}

fn is_gzip(headers: &[u8]) -> bool {
    headers.split(|&byte| byte == b'\n').any(|line| {
        let mut halves = line.splitn(2, |&byte| byte == b':');
        let mut is = |text: &str| {
            let half = halves.next().unwrap_or_default();
            half.trim_ascii().eq_ignore_ascii_case(text.as_bytes())
        };
        is("content-encoding") && is("gzip")
    })
}

const STATEMENT: u8 = 4;
const REMOTE_WRITE: u8 = 3;

#[cfg(test)]
mod tests {
    use super::{body_shown, is_gzip, query_shown};

    #[test]
    fn what_is_shown_is_short_and_on_one_line() {
        assert_eq!(query_shown(b"db=x\n&p=s&rp=\xc2\x85"), "db=x%0A&rp=%C2%85");
        assert_eq!(body_shown(b"a \"b\"\n\xff"), r#""a \"b\"\n\xff""#);
        assert_eq!(body_shown(&[b'x'; 80]), format!("\"{}\"", "x".repeat(80)));
        assert_eq!(body_shown(&[b'x'; 81]), format!("\"{}\"…", "x".repeat(80)));
    }

    #[test]
    fn gzip_is_told_by_its_header() {
        assert!(is_gzip(b"A: b\r\ncontent-encoding:gzip\r\n"));
        assert!(is_gzip(b"Content-Encoding: GZIP \r\n"));
        assert!(!is_gzip(b"A: Content-Encoding: gzip\r\n"));
        assert!(!is_gzip(b"Content-Encoding: identity\r\n"));
    }
}
