//! One request at the stand-in backend, from bytes to what is asked and where its body lies. Pure.
//!
//! Stricter than InfluxDB on purpose: what two servers could read in two ways is refused, so a relay
//! that sends such a thing is found out here.

use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{Request as Head, Status};

use crate::cli::chunked::{self, Chunked};
use crate::limits::tools::SINK_BODY_BYTES_MAX;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

/// What is asked for. The number of each is its row in the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Line protocol, InfluxDB 1.x.
    Write,
    /// Line protocol, InfluxDB 2.x.
    WriteV2,
    /// Line protocol, InfluxDB 3.x.
    WriteV3,
    /// Prometheus remote-write.
    RemoteWrite,
    /// Prometheus remote-write, where InfluxDB 1.x has it.
    PromWrite,
    /// Is it up?
    Ping,
    /// The same, in words.
    Health,
    /// InfluxQL: always an empty answer.
    Query,
    /// The counts.
    Stats,
    /// Anything else: 404.
    Other,
}

/// Every route that has a path, with it, in the order of [`Route`].
pub(super) const PATHS: [(Route, &str); 9] = [
    (Route::Write, "/write"),
    (Route::WriteV2, "/api/v2/write"),
    (Route::WriteV3, "/api/v3/write_lp"),
    (Route::RemoteWrite, "/api/v1/write"),
    (Route::PromWrite, "/api/v1/prom/write"),
    (Route::Ping, "/ping"),
    (Route::Health, "/health"),
    (Route::Query, "/query"),
    (Route::Stats, "/stats"),
];

impl Route {
    fn of(target: &str) -> Self {
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        PATHS
            .iter()
            .find(|(_, known)| *known == path)
            .map_or(Self::Other, |(route, _)| *route)
    }

    /// Whether points come with it.
    pub(super) fn is_write(self) -> bool {
        self.is_lines() || matches!(self, Self::RemoteWrite | Self::PromWrite)
    }

    /// Whether its body is line protocol.
    pub(super) fn is_lines(self) -> bool {
        matches!(self, Self::Write | Self::WriteV2 | Self::WriteV3)
    }
}

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// What is asked for.
    pub(super) route: Route,
    /// Where the body lies, its chunks joined.
    pub(super) body: Range<usize>,
    /// Where the next request begins.
    pub(super) end: usize,
    /// Whether the client will send another on this connection.
    pub(super) keep: bool,
    /// Whether the body is compressed.
    pub(super) gzip: bool,
    /// Whether the answer must bring no body.
    pub(super) head_only: bool,
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Whole, and right.
    Whole(Request),
    /// Right so far; not whole before the buffer holds `need` bytes. `expects` is a client that waits
    /// for `100 Continue`.
    Partial { need: usize, expects: bool },
    /// Wrong. Answer with this status and close.
    Refused(u16),
}

/// Reads the request that begins `bytes`; joins the chunks of a body that is sent in chunks.
pub(super) fn parse(bytes: &mut [u8]) -> Parsed {
    let facts = match Facts::of(bytes) {
        Ok(Some(facts)) => facts,
        Ok(None) => {
            return Parsed::Partial {
                need: bytes.len() + 1,
                expects: false,
            };
        }
        Err(status) => return Parsed::Refused(status),
    };
    let Facts {
        head,
        length,
        route,
        keep,
        gzip,
        head_only,
        ..
    } = facts;
    let expects = facts.expects && bytes.len() == head;
    let (body, end) = match length {
        Some(length) if head + length <= bytes.len() => (head..head + length, head + length),
        Some(length) => return partial(head, head + length, expects),
        None => match chunked::join(bytes, head) {
            Chunked::Whole { body, end } => (head..head + body, end),
            Chunked::Partial { need } => return partial(head, need, expects),
            Chunked::Bad => return Parsed::Refused(400),
        },
    };
    Parsed::Whole(Request {
        route,
        body,
        end,
        keep,
        gzip,
        head_only,
    })
}

fn partial(head: usize, need: usize, expects: bool) -> Parsed {
    let sane = need - head <= SINK_BODY_BYTES_MAX;
    if sane {
        Parsed::Partial { need, expects }
    } else {
        Parsed::Refused(413)
    }
}

/// What a head says that matters here.
struct Facts {
    head: usize,
    /// `None` is a chunked body.
    length: Option<usize>,
    route: Route,
    keep: bool,
    gzip: bool,
    expects: bool,
    head_only: bool,
}

impl Facts {
    fn of(bytes: &[u8]) -> Result<Option<Self>, u16> {
        let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut parsed = Head::new(&mut []);
        let head = match parsed.parse_with_uninit_headers(bytes, &mut fields) {
            Ok(Status::Complete(head)) => head,
            Ok(Status::Partial) if bytes.len() > HEAD_BYTES_MAX => return Err(431),
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(431),
            Err(_) => return Err(400),
        };
        let (mut length, mut chunked) = (None, false);
        let mut facts = Self {
            head,
            length: None,
            route: Route::of(parsed.path.unwrap_or_default()),
            keep: parsed.version == Some(1),
            gzip: false,
            expects: false,
            head_only: parsed.method == Some("HEAD"),
        };
        for field in &*parsed.headers {
            let value = field.value.trim_ascii();
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                let found = number(value).ok_or(400_u16)?;
                if length.replace(found).is_some_and(|before| before != found) {
                    return Err(400);
                }
            } else if is("transfer-encoding") {
                if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(400);
                }
                chunked = true;
            } else if is("connection") {
                facts.keep &= !value.eq_ignore_ascii_case(b"close");
            } else if is("content-encoding") {
                facts.gzip = value.eq_ignore_ascii_case(b"gzip");
            } else if is("expect") {
                facts.expects = value.eq_ignore_ascii_case(b"100-continue");
            }
        }
        if chunked && length.is_some() {
            return Err(400);
        }
        facts.length = if chunked {
            None
        } else {
            Some(length.unwrap_or(0))
        };
        if facts.route.is_write() && parsed.method != Some("POST") {
            return Err(405);
        }
        Ok(Some(facts))
    }
}

/// Digits only: no sign, no list.
fn number(text: &[u8]) -> Option<usize> {
    let sane = (1..=15).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| sane)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Parsed, Request, Route, parse};

    const WRITE: &str = "POST /write?db=a HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nm v=1";
    const CHUNKS: &str = "POST /api/v2/write HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nm v\r\n2\r\n=1\r\n0\r\n\r\n";

    fn read(text: &str) -> Parsed {
        parse(&mut text.as_bytes().to_vec())
    }

    fn whole(text: &str) -> Request {
        let Parsed::Whole(request) = read(text) else {
            panic!("{text:?}: {:?}", read(text))
        };
        request
    }

    #[test]
    fn every_prefix_asks_for_more_than_it_has() {
        for text in [WRITE, CHUNKS] {
            for cut in 0..text.len() {
                let Parsed::Partial { need, .. } = read(&text[..cut]) else {
                    panic!("cut at {cut}")
                };
                assert!(need > cut && need <= text.len(), "cut at {cut}: {need}");
            }
        }
    }

    #[test]
    fn a_body_is_found_by_length_and_by_chunks() {
        let write = whole(&format!("{WRITE}GET /ping"));
        assert_eq!(
            (write.route, write.body, write.end),
            (Route::Write, WRITE.len() - 5..WRITE.len(), WRITE.len())
        );
        assert!(write.keep);
        let mut bytes = CHUNKS.as_bytes().to_vec();
        let Parsed::Whole(request) = parse(&mut bytes) else {
            panic!()
        };
        assert_eq!(&bytes[request.body], b"m v=1");
        assert_eq!((request.route, request.end), (Route::WriteV2, CHUNKS.len()));
    }

    #[test]
    fn a_client_that_waits_is_seen() {
        let head = "POST /write HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(
            read(head),
            Parsed::Partial {
                need: head.len() + 3,
                expects: true
            }
        );
    }

    #[test]
    fn who_closes_says_so() {
        assert!(!whole("GET /ping HTTP/1.0\r\n\r\n").keep);
        assert!(!whole("GET /ping HTTP/1.1\r\nConnection: Close\r\n\r\n").keep);
        assert!(whole("HEAD /ping HTTP/1.1\r\n\r\n").head_only);
    }

    #[test]
    fn what_two_could_read_in_two_ways_is_refused() {
        for (status, fields) in [
            (400, "Content-Length: 5\r\nContent-Length: 6\r\n"),
            (400, "Content-Length: +5\r\n"),
            (400, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            (400, "Transfer-Encoding: gzip, chunked\r\n"),
            (413, "Content-Length: 999999999\r\n"),
        ] {
            let text = format!("POST /write HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(read(&text), Parsed::Refused(status), "{fields}");
        }
        assert_eq!(read("\u{0}\u{1}junk\r\n\r\n"), Parsed::Refused(400));
        assert_eq!(read("GET /write HTTP/1.1\r\n\r\n"), Parsed::Refused(405));
        assert_eq!(
            read(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(20_000))),
            Parsed::Refused(431)
        );
    }
}
