//! Answers: what a backend said, read; what a client hears, written. Pure.
//!
//! A backend that frames its answer in two ways has failed, whatever its status: what is left over
//! on the link would be taken for the answer to the next write. Beside that, old and odd servers
//! are understood: a bare LF, a missing reason, an end by closing.

use httparse::{Error, Response, Status};

use crate::http::header::{Connection, Field, HeaderSpace, Headers, content_length, is_chunked};
use crate::http::request::{Parsed, Refusal};
use crate::limits::{ANSWER_HEAD_BYTES_MAX, ERROR_HEADER_BYTES_MAX, RETRY_AFTER_SECS};

/// Where the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFraming {
    /// There is none: 1xx, 204, 304.
    None,
    /// After this many bytes.
    Length(u64),
    /// Where [`Chunked`](crate::http::body::Chunked) says so.
    Chunked,
    /// Where the backend closes the link.
    UntilClose,
}

/// A whole, unambiguous answer head. Borrows from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerHead<'b, 'h> {
    /// 100 to 599, and not 101. Below 200 the final answer is still to come.
    pub status: u16,
    /// Bytes of the head, the empty line included: where the body begins.
    pub head_len: usize,
    /// Where the body ends. An answer to HEAD has none, whatever stands here: only who asked knows.
    pub framing: AnswerFraming,
    /// Whether the link may be used again once the body has been read.
    pub keep_alive: bool,
    headers: Headers<'b, 'h>,
}

impl<'b, 'h> AnswerHead<'b, 'h> {
    /// Reads the head that `bytes` begin with. Once per read.
    ///
    /// Refused is what is malformed, ambiguous, or longer than `limits` allows; the reason says
    /// which, and the status is 502.
    pub fn parse(bytes: &'b [u8], space: &'h mut HeaderSpace<'b>) -> Parsed<Self> {
        Self::read(bytes, space)
            .map_err(|reason| Refusal::new(502, reason))
            .into()
    }

    fn read(bytes: &'b [u8], space: &'h mut HeaderSpace<'b>) -> Result<Option<Self>, &'static str> {
        let window = &bytes[..bytes.len().min(ANSWER_HEAD_BYTES_MAX)];
        let mut response = Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            window,
            &mut space.0,
        );
        let Status::Complete(head_len) = parsed.map_err(complaint)? else {
            let is_full = window.len() == ANSWER_HEAD_BYTES_MAX;
            return if is_full {
                Err("answer head too large")
            } else {
                Ok(None)
            };
        };
        let (Some(status), Some(minor)) = (response.code, response.version) else {
            return Err(STATUS_LINE); // a whole head has both
        };
        if !(100..600).contains(&status) || status == 101 {
            return Err("impossible status in an answer");
        }
        let (http10, fields) = (minor == 0, &*response.headers);
        let (mut length, mut chunked) = (None, false);
        let mut connection = Connection::default();
        for field in fields {
            match Field::of(field.name) {
                Field::ContentLength => {
                    let next = content_length(field.value)?;
                    if length.replace(next).is_some_and(|before| before != next) {
                        return Err("two lengths in an answer");
                    }
                }
                Field::TransferEncoding if chunked || http10 || !is_chunked(field.value) => {
                    return Err("unsupported Transfer-Encoding in an answer");
                }
                Field::TransferEncoding => chunked = true,
                Field::Connection => connection.hear(field.value)?,
                _ => {}
            }
        }
        let has_body = may_have_body(status);
        let framing = match (length, chunked) {
            (Some(_), true) => return Err("both a length and chunks in an answer"),
            _ if !has_body => AnswerFraming::None,
            (Some(length), false) => AnswerFraming::Length(length),
            (None, true) => AnswerFraming::Chunked,
            (None, false) => AnswerFraming::UntilClose,
        };
        // What announces a body that it cannot have may send one all the same.
        let is_odd = !has_body && (chunked || length.is_some_and(|length| length > 0));
        let ends_by_closing = framing == AnswerFraming::UntilClose;
        Ok(Some(Self {
            status,
            head_len,
            framing,
            keep_alive: connection.persists(http10) && !ends_by_closing && !is_odd,
            headers: Headers {
                fields,
                names_fields: connection.names_fields(),
            },
        }))
    }

    /// The first value of this name, in any case, without the blanks around it.
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.headers.first(name)
    }

    /// Appends every end-to-end field as the backend wrote it, one line each, for the client. Left
    /// out are `Content-Length` and all that is of the link: `Connection` and what it names,
    /// `Keep-Alive`, `Proxy-…`, `TE`, `Trailer`, `Transfer-Encoding`, `Upgrade`.
    pub fn pass_on(&self, out: &mut Vec<u8>) {
        let left_out = |field| {
            use Field::{Connection, ContentLength, HopByHop, TransferEncoding};
            matches!(
                field,
                Connection | ContentLength | HopByHop | TransferEncoding
            )
        };
        self.headers.pass_on(left_out, out);
    }

    /// Seconds of a `Retry-After`; `None` without one, or if it is a date.
    pub fn retry_after(&self) -> Option<u32> {
        content_length(self.header("retry-after")?)
            .ok()?
            .try_into()
            .ok()
    }
}

/// What the end of an answer depends on, beside the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Whether another request may follow on this connection.
    pub keep_alive: bool,
    /// Whether the client spoke HTTP/1.0, and must be told that the connection stays.
    pub http10: bool,
    /// Whether the client asked with HEAD: the length is told, the body is not sent.
    pub head_only: bool,
}

/// What a client is told that waits before it sends its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The line of every 503 that is about load or backends.
pub const RETRY_AFTER: &[u8] = b"Retry-After: 1\r\n";
const _: () = assert!(RETRY_AFTER_SECS == 1, "RETRY_AFTER says so");
/// The line of a 401 of our own. It asks for no password: a browser would keep that, and send it along
/// with whatever a web page posts here.
pub const CHALLENGE: &[u8] = b"WWW-Authenticate: Bearer\r\n";

/// Appends a whole answer. `headers` are whole lines, `Name: value\r\n`, none of them about framing
/// or the connection. 1xx, 204 and 304 get neither a length nor a body. Once per request.
pub fn write_answer(out: &mut Vec<u8>, status: u16, headers: &[u8], body: &[u8], closing: Closing) {
    write_head(out, status, headers, body.len(), closing);
    if may_have_body(status) && !closing.head_only {
        out.extend_from_slice(body);
    }
}

/// Appends an error as InfluxDB writes it: `{"error":"…"}` and a line break, the message in
/// `X-Influxdb-Error` too. `extra_headers` are whole lines.
pub fn write_error(
    out: &mut Vec<u8>,
    status: u16,
    message: &str,
    extra_headers: &[u8],
    closing: Closing,
) {
    let body_len =
        ERROR_OPEN.len() + message.bytes().map(escaped_len).sum::<usize>() + ERROR_CLOSE.len();
    write_status(out, status);
    out.extend_from_slice(b"Content-Type: application/json\r\nX-Influxdb-Error: ");
    out.extend(
        message
            .bytes()
            .take(ERROR_HEADER_BYTES_MAX)
            .map(header_safe),
    );
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(extra_headers);
    write_ending(out, status, body_len, closing);
    if may_have_body(status) && !closing.head_only {
        out.extend_from_slice(ERROR_OPEN);
        message.bytes().for_each(|byte| push_escaped(byte, out));
        out.extend_from_slice(ERROR_CLOSE);
    }
}

/// Appends the head of an answer whose body of `body_len` bytes follows by other means.
pub fn write_head(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[u8],
    body_len: usize,
    closing: Closing,
) {
    write_status(out, status);
    out.extend_from_slice(headers);
    write_ending(out, status, body_len, closing);
}

/// How a body is framed that is sent as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// So many bytes.
    Length(u64),
    /// In chunks: see [`write_chunk`].
    Chunks,
    /// Until the connection closes.
    UntilClose,
}

/// Appends the head of an answer whose body is sent as it comes. `headers` as in [`write_answer`].
pub fn write_stream_head(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[u8],
    stream: Stream,
    closing: Closing,
) {
    if let Stream::Length(length) = stream {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        return write_head(out, status, headers, length, closing);
    }
    write_status(out, status);
    out.extend_from_slice(headers);
    if stream == Stream::Chunks {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if !closing.keep_alive || stream == Stream::UntilClose {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends one chunk (RFC 9112 section 7.1); an empty piece would be the end, and is left out.
pub fn write_chunk(out: &mut Vec<u8>, piece: &[u8]) {
    if piece.is_empty() {
        return;
    }
    let digits = (usize::BITS - piece.len().leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let digit = (piece.len() >> (place * 4)) & 15;
        out.push(b"0123456789abcdef"[digit]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(piece);
    out.extend_from_slice(b"\r\n");
}

/// What ends a body in chunks.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

fn write_status(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(u64::from(status), out);
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The fields that frame, and the empty line.
fn write_ending(out: &mut Vec<u8>, status: u16, body_len: usize, closing: Closing) {
    if may_have_body(status) {
        out.extend_from_slice(b"Content-Length: ");
        push_decimal(body_len as u64, out);
        out.extend_from_slice(b"\r\n");
    }
    match closing {
        Closing {
            keep_alive: false, ..
        } => out.extend_from_slice(b"Connection: close\r\n"),
        Closing { http10: true, .. } => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in digits; no `format!`, no allocation once `out` is warm.
pub fn push_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20]; // of u64::MAX
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = DIGITS[usize::try_from(number % 10).unwrap_or_default()];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The words behind a status (RFC 9110 section 15); clients must not read them.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

/// RFC 9112 section 6.3, rule 1.
const fn may_have_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

const fn complaint(error: Error) -> &'static str {
    match error {
        Error::TooManyHeaders => "too many header fields in an answer",
        Error::HeaderName | Error::HeaderValue => "malformed header in an answer",
        _ => STATUS_LINE,
    }
}

/// A control character would end the field, or the head.
const fn header_safe(byte: u8) -> u8 {
    if byte.is_ascii_control() { b' ' } else { byte }
}

/// Bytes of one byte in a JSON string.
const fn escaped_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' => 2,
        ..b' ' => 6,
        _ => 1,
    }
}

fn push_escaped(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        ..b' ' => {
            let low = b"0123456789abcdef"[usize::from(byte & 15)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), low]);
        }
        _ => out.push(byte),
    }
}

const STATUS_LINE: &str = "malformed status line in an answer";
const ERROR_OPEN: &[u8] = b"{\"error\":\"";
const ERROR_CLOSE: &[u8] = b"\"}\n";
const DIGITS: &[u8; 10] = b"0123456789";

#[cfg(test)]
mod tests {
    use super::{AnswerFraming, AnswerHead, Closing, push_decimal, write_answer, write_error};
    use crate::http::header::HeaderSpace;
    use crate::http::request::Parsed;
    use crate::limits::ERROR_HEADER_BYTES_MAX;

    const GO: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n\
        Request-Id: 1\r\nX-Influxdb-Error: partial write\r\nX-Influxdb-Version: 1.8.10\r\n\
        Retry-After: 7\r\nKeep-Alive: timeout=5\r\nContent-Length: 26\r\n\r\n";
    const STAY: Closing = Closing {
        keep_alive: true,
        http10: false,
        head_only: false,
    };

    fn framing(head: &str) -> Option<(AnswerFraming, bool)> {
        match AnswerHead::parse(head.as_bytes(), &mut HeaderSpace::new()) {
            Parsed::Whole(head) => Some((head.framing, head.keep_alive)),
            Parsed::Partial => panic!("{head:?} is whole"),
            Parsed::Refused(_) => None,
        }
    }

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_real_answer_is_read_and_passed_on() {
        let mut space = HeaderSpace::new();
        let Parsed::Whole(head) = AnswerHead::parse(GO, &mut space) else {
            panic!("a right head was not taken");
        };
        assert_eq!(
            (head.status, head.head_len, head.keep_alive),
            (400, GO.len(), true)
        );
        assert_eq!(
            (head.framing, head.retry_after()),
            (AnswerFraming::Length(26), Some(7))
        );
        let passed = text(|out| head.pass_on(out));
        assert!(passed.starts_with("Content-Type: application/json\r\nRequest-Id: 1\r\n"));
        assert!(passed.ends_with("Retry-After: 7\r\n"));
    }

    #[test]
    fn every_prefix_asks_for_more() {
        for cut in 0..GO.len() {
            let mut space = HeaderSpace::new();
            let parsed = AnswerHead::parse(&GO[..cut], &mut space);
            assert!(matches!(parsed, Parsed::Partial), "cut at {cut}");
        }
    }

    #[test]
    fn an_answer_ends_in_one_place() {
        use AnswerFraming::{Chunked, Length, None as Nothing, UntilClose};
        for (head, want) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", (Nothing, true)),
            ("HTTP/1.1 204\r\n\r\n", (Nothing, true)),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
                (Nothing, true),
            ),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
                (Nothing, false),
            ),
            ("HTTP/1.1 100 Continue\r\n\r\n", (Nothing, true)),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                (Length(5), true),
            ),
            (
                "HTTP/1.1 200 OK\nContent-Length: 5\nConnection: close\n\n",
                (Length(5), false),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                (Chunked, true),
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", (UntilClose, false)),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
                (Length(5), false),
            ),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n",
                (Length(5), true),
            ),
        ] {
            assert_eq!(framing(head), Some(want), "{head:?}");
        }
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "HTTP/1.1 600 High\r\n\r\n",
            "HTTP/1.1 2xx OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
        ] {
            assert_eq!(framing(head), None, "{head:?}");
        }
    }

    #[test]
    fn answers_are_framed_once() {
        assert_eq!(
            text(|out| write_answer(out, 204, b"X-A: 1\r\n", b"lost", STAY)),
            "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"
        );
        let closing = Closing {
            keep_alive: false,
            ..STAY
        };
        assert_eq!(
            text(|out| write_answer(out, 200, b"", b"pass", closing)),
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npass"
        );
        let old_head = Closing {
            keep_alive: true,
            http10: true,
            head_only: true,
        };
        assert_eq!(
            text(|out| write_answer(out, 200, b"", b"pass", old_head)),
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn an_error_cannot_break_out_of_its_line_or_its_string() {
        let answer = text(|out| {
            write_error(
                out,
                400,
                "a \"b\\\r\n\u{b5}\u{7f}",
                b"Allow: POST\r\n",
                STAY,
            )
        });
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            head,
            format!(
                "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n\
                 X-Influxdb-Error: a \"b\\  \u{b5} \r\nAllow: POST\r\nContent-Length: {}",
                body.len()
            )
        );
        let read: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(read["error"], "a \"b\\\r\n\u{b5}\u{7f}");
        assert!(body.ends_with("\"}\n"));

        let long = "x".repeat(ERROR_HEADER_BYTES_MAX + 1);
        let answer = text(|out| write_error(out, 503, &long, b"", STAY));
        assert!(answer.contains(&format!(": {}\r\n", &long[1..])) && answer.contains(&long));
    }

    #[test]
    fn numbers_are_written_in_digits() {
        for number in [0, 7, 10, 204, 25_000_000, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
