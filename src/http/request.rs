//! One request head, from bytes to a type that cannot be ambiguous. Pure.
//!
//! The danger in a relay is a body whose end two parties see in two places. So a head with both
//! a length and a chunked body, or with two lengths, is refused, never guessed at; and so is each
//! spelling that some server somewhere reads otherwise: a bare LF, a folded line, a blank before a
//! colon. `httparse` splits the bytes; this file says what they mean.

use httparse::{Error, Header, Request, Status};
use memchr::{memchr, memchr_iter};

use crate::http::header::{Connection, Field, HeaderSpace, Headers, content_length, is_chunked};
use crate::http::target::{is_authority_byte, origin_form};
use crate::limits::{METHOD_BYTES_MAX, TARGET_BYTES_MAX};

/// What the bytes so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<T> {
    /// Whole, and right.
    Whole(T),
    /// Right so far; read more.
    Partial,
    /// Wrong, and nothing that could follow makes it right. Answer, and close.
    Refused(Refusal),
}

impl<T> From<Result<Option<T>, Refusal>> for Parsed<T> {
    fn from(read: Result<Option<T>, Refusal>) -> Self {
        match read {
            Ok(Some(whole)) => Self::Whole(whole),
            Ok(None) => Self::Partial,
            Err(refusal) => Self::Refused(refusal),
        }
    }
}

/// Why bytes are not taken. Where a message ends is then unknown, so the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: u16,
    /// What the client reads in `{"error":"…"}`.
    pub reason: &'static str,
}

impl Refusal {
    /// What is past `max-body-size`, before or after decompression. InfluxDB's own words.
    pub const TOO_LARGE: Self = Self::new(413, "Request Entity Too Large");

    /// A refusal with this status.
    pub const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }

    /// The refusal of what is malformed: 400.
    pub const fn bad_request(reason: &'static str) -> Self {
        Self::new(400, reason)
    }
}

/// What is to be done. Names are case-sensitive (RFC 9110 section 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names are the methods'")]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    Put,
    Delete,
    Patch,
    /// Well-formed, and nothing that is served here.
    Other,
}

impl Method {
    fn of(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "OPTIONS" => Self::Options,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// Where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Neither a length nor chunks are announced: there is no body.
    None,
    /// After this many bytes.
    Length(u64),
    /// Where [`Chunked`](crate::http::body::Chunked) says so.
    Chunked,
}

/// How the body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// `gzip` or `x-gzip`.
    Gzip,
    /// Something else, or more than one coding.
    Other,
}

impl Encoding {
    /// What one more `Content-Encoding` makes of it.
    fn and(self, value: &[u8]) -> Self {
        let is = |coding: &[u8]| value.eq_ignore_ascii_case(coding);
        match self {
            _ if is(b"") || is(b"identity") => self,
            Self::Identity if is(b"gzip") || is(b"x-gzip") => Self::Gzip,
            _ => Self::Other,
        }
    }
}

/// A whole, unambiguous request head. Borrows from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead<'b, 'h> {
    /// What is to be done.
    pub method: Method,
    /// Path and query as the client wrote them; begins with `/`, or is `*` for OPTIONS. The path
    /// is ASCII, the query UTF-8, at most [`TARGET_BYTES_MAX`] bytes.
    pub target: &'b [u8],
    /// HTTP/1.0, else 1.1.
    pub http10: bool,
    /// Bytes of the head, the empty line included: where the body begins.
    pub head_len: usize,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether another request may follow on this connection.
    pub keep_alive: bool,
    /// Whether the client waits for a `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// How the body is coded.
    pub encoding: Encoding,
    headers: Headers<'b, 'h>,
}

impl<'b, 'h> RequestHead<'b, 'h> {
    /// Reads the head that `bytes` begin with; what follows it is not looked at. Once per read.
    ///
    /// Refuses with 400 what is malformed or ambiguous (RFC 9112), 414 and 431 what is too long
    /// (`head_bytes_max`, [`TARGET_BYTES_MAX`], `HEADERS_MAX`), 417 an unknown `Expect`, 505
    /// another version; all of these as soon as it is certain.
    pub fn parse(
        bytes: &'b [u8],
        space: &'h mut HeaderSpace<'b>,
        head_bytes_max: usize,
    ) -> Parsed<Self> {
        Self::read(bytes, space, head_bytes_max).into()
    }

    fn read(
        bytes: &'b [u8],
        space: &'h mut HeaderSpace<'b>,
        head_bytes_max: usize,
    ) -> Result<Option<Self>, Refusal> {
        let window = &bytes[..bytes.len().min(head_bytes_max)];
        let skipped = leading_line(window)?;
        let head = &window[skipped..];
        let mut request = Request::new(&mut []);
        let status = request
            .parse_with_uninit_headers(head, &mut space.0)
            .map_err(|error| refusal_of(error, head))?;
        check_request_line(request.method, request.path, head)?;
        let Status::Complete(head_len) = status else {
            check_line_ends(head)?;
            return if window.len() < head_bytes_max {
                Ok(None)
            } else {
                Err(too_long(head))
            };
        };
        check_line_ends(&head[..head_len])?;
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(Refusal::bad_request(REQUEST_LINE)); // a whole head has all three
        };
        let (http10, fields) = (minor == 0, &*request.headers);
        let mut meaning = Meaning::default();
        for field in fields {
            meaning.hear(field).map_err(Refusal::bad_request)?;
        }
        let target = origin_form(method, target).map_err(Refusal::bad_request)?;
        let framing = meaning.framing(http10).map_err(Refusal::bad_request)?;
        Ok(Some(Self {
            method: Method::of(method),
            target,
            http10,
            head_len: skipped + head_len,
            framing,
            keep_alive: meaning.connection.persists(http10),
            expect_continue: meaning.expect_continue(http10)?,
            encoding: meaning.encoding,
            headers: Headers {
                fields,
                names_fields: meaning.connection.names_fields(),
            },
        }))
    }

    /// The first value of this name, in any case, without the blanks around it.
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.headers.first(name)
    }

    /// Appends every end-to-end field as the client wrote it, one line each, for a backend.
    ///
    /// Left out, because it is framed and addressed anew: `Host`, `Authorization` (a backend may
    /// have credentials of its own: ask [`Self::header`] for the client's), `Content-Length`,
    /// `Expect`, `Content-Encoding` unless `keep_encoding`, and all that is of this connection: `Connection`
    /// and what it names, `Keep-Alive`, `Proxy-…`, `TE`, `Trailer`, `Transfer-Encoding`, `Upgrade`.
    /// Credentials and the kind of content stay even if `Connection` names them: without them it
    /// would be another write.
    pub fn pass_on(&self, keep_encoding: bool, out: &mut Vec<u8>) {
        let left_out = |field| match field {
            Field::EndToEnd => false,
            Field::ContentEncoding => !keep_encoding,
            _ => true,
        };
        self.headers.pass_on(left_out, out);
    }
}

/// What the fields of one head say so far.
struct Meaning {
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    encoding: Encoding,
    /// Of the last `Expect`: whether it is the only one there is.
    expects: Option<bool>,
    connection: Connection,
}

impl Default for Meaning {
    fn default() -> Self {
        Self {
            hosts: 0,
            length: None,
            chunked: false,
            encoding: Encoding::Identity,
            expects: None,
            connection: Connection::default(),
        }
    }
}

impl Meaning {
    fn hear(&mut self, Header { name, value }: &Header<'_>) -> Result<(), &'static str> {
        match Field::of(name) {
            Field::Host if !value.iter().copied().all(is_authority_byte) => {
                return Err("malformed Host");
            }
            Field::Host => self.hosts += 1,
            Field::ContentLength => {
                if self.length.replace(content_length(value)?).is_some() {
                    return Err("more than one Content-Length");
                }
            }
            Field::TransferEncoding if self.chunked => {
                return Err("more than one Transfer-Encoding");
            }
            Field::TransferEncoding if !is_chunked(value) => {
                return Err("unsupported Transfer-Encoding");
            }
            Field::TransferEncoding => self.chunked = true,
            Field::Connection => self.connection.hear(value)?,
            Field::Expect => {
                let known = value.eq_ignore_ascii_case(b"100-continue");
                self.expects = Some(known && self.expects != Some(false));
            }
            Field::ContentEncoding => self.encoding = self.encoding.and(value),
            Field::Authorization | Field::HopByHop | Field::EndToEnd => {}
        }
        Ok(())
    }

    /// RFC 9112 sections 3.2 and 6.1 to 6.3, without their leniency.
    fn framing(&self, http10: bool) -> Result<Framing, &'static str> {
        match (self.hosts, self.length, self.chunked) {
            (0, _, _) if !http10 => Err("missing Host"),
            (2.., _, _) => Err("more than one Host"),
            (_, Some(_), true) => Err("both Content-Length and Transfer-Encoding"),
            (_, _, true) if http10 => Err("Transfer-Encoding in HTTP/1.0"),
            (_, _, true) => Ok(Framing::Chunked),
            (_, Some(length), _) => Ok(Framing::Length(length)),
            _ => Ok(Framing::None),
        }
    }

    /// RFC 9110 section 10.1.1: HTTP/1.0 knows no `100 Continue`, and is not held to it.
    fn expect_continue(&self, http10: bool) -> Result<bool, Refusal> {
        match self.expects {
            Some(false) if !http10 => Err(Refusal::new(417, "unknown Expect")),
            expects => Ok(expects.is_some() && !http10),
        }
    }
}

/// Bytes of the one empty line that a client may leave before a request (RFC 9112 section 2.2).
fn leading_line(bytes: &[u8]) -> Result<usize, Refusal> {
    match bytes {
        [b'\r'] => Ok(0),
        [b'\r', b'\n', b'\r' | b'\n', ..] => Err(Refusal::bad_request("empty lines")),
        [b'\r', b'\n', ..] => Ok(2),
        [b'\r' | b'\n', ..] => Err(Refusal::bad_request(LINE_END)),
        _ => Ok(0),
    }
}

/// Lengths of method and target, also while the request line is still coming.
fn check_request_line(
    method: Option<&str>,
    target: Option<&str>,
    head: &[u8],
) -> Result<(), Refusal> {
    let method_len = method.map_or(head.len(), str::len);
    if method_len > METHOD_BYTES_MAX {
        return Err(Refusal::bad_request(REQUEST_LINE));
    }
    let target_len = target.map_or(head.len() - method_len, str::len);
    if target_len > TARGET_BYTES_MAX + usize::from(target.is_none()) {
        return Err(TARGET_TOO_LONG);
    }
    Ok(())
}

/// A line ends in CR LF: what takes a bare LF for an end sees other fields than what does not.
fn check_line_ends(head: &[u8]) -> Result<(), Refusal> {
    let is_bare = |at: usize| at == 0 || head[at - 1] != b'\r';
    if memchr_iter(b'\n', head).any(is_bare) {
        Err(Refusal::bad_request(LINE_END))
    } else {
        Ok(())
    }
}

/// A head that fills its room and is not whole.
fn too_long(head: &[u8]) -> Refusal {
    match memchr(b'\n', head) {
        None => TARGET_TOO_LONG,
        Some(_) => Refusal::new(431, "request head too large"),
    }
}

fn refusal_of(error: Error, head: &[u8]) -> Refusal {
    match error {
        Error::TooManyHeaders => Refusal::new(431, "too many header fields"),
        Error::HeaderName => Refusal::bad_request("malformed header name"),
        Error::HeaderValue => Refusal::bad_request("malformed header value"),
        Error::NewLine => Refusal::bad_request(LINE_END),
        Error::Version => version_refusal(head),
        Error::Token | Error::Status => Refusal::bad_request(REQUEST_LINE),
    }
}

/// 505 for what is a version, but not ours; the preface of HTTP/2 is another protocol.
fn version_refusal(head: &[u8]) -> Refusal {
    let version = head
        .splitn(3, |&byte| byte == b' ')
        .nth(2)
        .unwrap_or_default();
    match version {
        _ if head.starts_with(b"PRI ") => Refusal::bad_request("HTTP/2 is not spoken here"),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, ..]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Refusal::new(505, "HTTP/1.1 and HTTP/1.0 are spoken here")
        }
        _ => Refusal::bad_request("malformed HTTP version"),
    }
}

const REQUEST_LINE: &str = "malformed request line";
const LINE_END: &str = "a line must end in CR LF";
const TARGET_TOO_LONG: Refusal = Refusal::new(414, "request target too long");

#[cfg(test)]
mod tests {
    use super::{Encoding, Framing, Method, Parsed, RequestHead};
    use crate::http::header::HeaderSpace;
    use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, METHOD_BYTES_MAX, TARGET_BYTES_MAX};

    const WRITE: &[u8] = b"\r\nPOST http://[::1]:8086/write?db=x&precision=s HTTP/1.1\r\n\
        Host: [::1]:8086\r\nUser-Agent: Telegraf/1.30.0\r\nContent-Length: 6\r\n\
        Content-Encoding: GZIP\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
        Authorization: Token a:b\r\nExpect: 100-Continue\r\n\r\n";

    /// `Ok` of what the test looks at, or the status of the refusal; 0 for a partial head.
    fn look<T>(bytes: &[u8], at: impl Fn(RequestHead<'_, '_>) -> T) -> Result<T, u16> {
        match RequestHead::parse(bytes, &mut HeaderSpace::new(), HEAD_BYTES_MAX) {
            Parsed::Whole(head) => Ok(at(head)),
            Parsed::Partial => Err(0),
            Parsed::Refused(refusal) => Err(refusal.status),
        }
    }

    fn framing(fields: &str) -> Result<Framing, u16> {
        let head = format!("POST /write?db=x HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        look(head.as_bytes(), |head| head.framing)
    }

    #[test]
    fn a_right_head_is_read() {
        let mut space = HeaderSpace::new();
        let Parsed::Whole(head) = RequestHead::parse(WRITE, &mut space, HEAD_BYTES_MAX) else {
            panic!("a right head was not taken");
        };
        assert_eq!(head.method, Method::Post);
        assert_eq!(head.target, b"/write?db=x&precision=s");
        assert_eq!(
            (head.head_len, head.framing),
            (WRITE.len(), Framing::Length(6))
        );
        assert!(head.keep_alive && head.expect_continue && !head.http10);
        assert_eq!(head.encoding, Encoding::Gzip);
        assert_eq!(head.header("user-agent"), Some(&b"Telegraf/1.30.0"[..]));
        let mut out = Vec::new();
        head.pass_on(false, &mut out);
        assert_eq!(out, b"User-Agent: Telegraf/1.30.0\r\n");
        out.clear();
        head.pass_on(true, &mut out);
        assert!(
            out.windows(26)
                .any(|line| line == b"\r\nContent-Encoding: GZIP\r\n")
        );
    }

    #[test]
    fn every_prefix_of_a_right_head_asks_for_more() {
        for cut in 0..WRITE.len() {
            assert_eq!(look(&WRITE[..cut], |_| ()), Err(0), "cut at {cut}");
        }
    }

    #[test]
    fn every_flip_of_a_byte_keeps_the_meaning_or_is_refused() {
        for at in 0..WRITE.len() {
            for byte in 0..=u8::MAX {
                let mut bytes = WRITE.to_vec();
                bytes[at] = byte;
                let Ok((len, framing)) = look(&bytes, |head| (head.head_len, head.framing)) else {
                    continue;
                };
                assert_eq!(len, WRITE.len());
                let text = String::from_utf8_lossy(&bytes).to_lowercase();
                let want = text
                    .split("\r\ncontent-length:")
                    .nth(1)
                    .and_then(|rest| rest.lines().next())
                    .map_or(Framing::None, |value| {
                        Framing::Length(value.trim().parse().unwrap())
                    });
                assert_eq!(framing, want, "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn a_body_ends_in_one_place() {
        assert_eq!(framing(""), Ok(Framing::None));
        assert_eq!(framing("content-LENGTH:\t007 \r\n"), Ok(Framing::Length(7)));
        assert_eq!(
            framing("Transfer-Encoding: Chunked\r\n"),
            Ok(Framing::Chunked)
        );
        for fields in [
            "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 6\r\nContent-Length: 6\r\n",
            "Content-Length: 6, 6\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length : 6\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding:\r\n",
            "X: a\r\n b\r\n",
            "X: a\nContent-Length: 6\r\n",
            "X: a\rb\r\n",
            "X: a\0b\r\n",
            "X: a\x7fb\r\n",
            ": a\r\n",
            "X\r\n",
            "Host: y\r\n",
        ] {
            assert_eq!(framing(fields), Err(400), "{fields:?}");
        }
        assert_eq!(
            look(
                b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
                |_| ()
            ),
            Err(400)
        );
    }

    #[test]
    fn the_request_line_is_read_strictly() {
        let target = |line: &str| {
            look(format!("{line}\r\nHost: x\r\n\r\n").as_bytes(), |head| {
                head.target.to_vec()
            })
        };
        assert_eq!(target("GET HTTPS://h:1 HTTP/1.1"), Ok(b"/".to_vec()));
        assert_eq!(target("GET http://h/a?b HTTP/1.1"), Ok(b"/a?b".to_vec()));
        assert_eq!(target("OPTIONS * HTTP/1.1"), Ok(b"*".to_vec()));
        assert_eq!(
            target("POST /write?precision=\u{b5} HTTP/1.1"),
            Ok("/write?precision=\u{b5}".into())
        );
        for (line, status) in [
            ("GET * HTTP/1.1", 400),
            ("GET http://u@h/ HTTP/1.1", 400),
            ("GET http:///a HTTP/1.1", 400),
            ("GET ftp://h/a HTTP/1.1", 400),
            ("CONNECT h:443 HTTP/1.1", 400),
            ("GET  / HTTP/1.1", 400),
            ("GET /\u{b5} HTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            ("GET / http/1.1", 400),
            ("GET / HTTP/111", 400),
            ("GET / HTTP/1.2", 505),
            ("GET / HTTP/2.0", 505),
            ("PRI * HTTP/2.0", 400),
            ("G@T / HTTP/1.1", 400),
        ] {
            assert_eq!(target(line), Err(status), "{line}");
        }
        assert_eq!(look(b"\x16\x03\x01", |_| ()), Err(400));
        assert_eq!(look(b"GET / HTTP/1.1\nHo", |_| ()), Err(400));
        assert_eq!(look(b"GET / HTTP/1.1\r\n\r\n", |_| ()), Err(400));
        assert_eq!(
            look(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", |_| ()),
            Err(400)
        );
        assert_eq!(
            look(b"GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n", |_| ()),
            Err(417)
        );
        assert_eq!(
            look(b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", |head| {
                head.expect_continue
            }),
            Ok(false)
        );
        assert_eq!(look(b"\r\n\r\nGET / HTTP/1.0\r\n\r\n", |_| ()), Err(400));
    }

    #[test]
    fn codings_and_expectations_add_up() {
        let with = |fields: &str| format!("PUT / HTTP/1.1\r\nHost:\r\n{fields}\r\n").into_bytes();
        let coded = "Content-Encoding: ";
        for (codings, want) in [
            (vec![], Encoding::Identity),
            (vec!["", "identity"], Encoding::Identity),
            (vec!["identity", "X-Gzip"], Encoding::Gzip),
            (vec!["gzip", "gzip"], Encoding::Other),
            (vec!["gzip, identity"], Encoding::Other),
            (vec!["snappy"], Encoding::Other),
            (vec!["br", "gzip"], Encoding::Other),
        ] {
            let fields: String = codings.iter().map(|c| format!("{coded}{c}\r\n")).collect();
            assert_eq!(
                look(&with(&fields), |head| head.encoding),
                Ok(want),
                "{codings:?}"
            );
        }
        let continues = |fields| look(&with(fields), |head| head.expect_continue);
        assert_eq!(continues("Expect: 100-CONTINUE\r\n"), Ok(true));
        assert_eq!(
            continues("Expect: tea\r\nExpect: 100-continue\r\n"),
            Err(417)
        );
        assert_eq!(
            continues("Expect: tea\r\nContent-Length: 1, 1\r\n"),
            Err(400)
        );
    }

    #[test]
    fn bounds_hold_before_the_head_is_whole() {
        let line = |target_len: usize| format!("POST /{}", "a".repeat(target_len - 1));
        let whole = |target_len: usize| line(target_len) + " HTTP/1.0\r\n\r\n";
        assert_eq!(look(line(TARGET_BYTES_MAX).as_bytes(), |_| ()), Err(0));
        assert_eq!(
            look(line(TARGET_BYTES_MAX + 1).as_bytes(), |_| ()),
            Err(414)
        );
        assert_eq!(look(whole(TARGET_BYTES_MAX).as_bytes(), |_| ()), Ok(()));
        assert_eq!(
            look(whole(TARGET_BYTES_MAX + 1).as_bytes(), |_| ()),
            Err(414)
        );
        assert_eq!(look(&[b'A'; METHOD_BYTES_MAX], |_| ()), Err(0));
        assert_eq!(look(&[b'A'; METHOD_BYTES_MAX + 1], |_| ()), Err(400));

        let field = |len: usize| format!("GET / HTTP/1.0\r\nX: {}", "a".repeat(len - 19));
        assert_eq!(look(field(HEAD_BYTES_MAX - 1).as_bytes(), |_| ()), Err(0));
        assert_eq!(look(field(HEAD_BYTES_MAX).as_bytes(), |_| ()), Err(431));
        assert_eq!(
            look((field(HEAD_BYTES_MAX - 4) + "\r\n\r\n").as_bytes(), |_| ()),
            Ok(())
        );
        assert_eq!(
            look((field(HEAD_BYTES_MAX - 3) + "\r\n\r\n").as_bytes(), |_| ()),
            Err(431)
        );

        let fields = |count| format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert_eq!(look(fields(HEADERS_MAX).as_bytes(), |_| ()), Ok(()));
        assert_eq!(look(fields(HEADERS_MAX + 1).as_bytes(), |_| ()), Err(431));
    }
}
