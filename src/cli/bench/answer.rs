//! One answer, from bytes to its status and where it ends. Pure.

use std::mem::MaybeUninit;

use httparse::{Response, Status};

use crate::cli::chunked::{self, Chunked};
use crate::limits::{ANSWER_BODY_BYTES_MAX, ANSWER_HEAD_BYTES_MAX, HEADERS_MAX};

/// What the bytes so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Whole: the status, how many bytes it took, and whether the connection lives on.
    Whole { status: u16, end: usize, keep: bool },
    /// Right so far; read more.
    Partial,
    /// It ends where the connection ends.
    UntilClose { status: u16 },
    /// Wrong, or too large.
    Bad,
}

/// Reads the answer that begins `bytes`, past interim ones.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut at = 0;
    loop {
        match one(&bytes[at..]) {
            Parsed::Whole {
                status: 100..=199,
                end,
                ..
            } => at += end,
            Parsed::Whole { status, end, keep } => {
                return Parsed::Whole {
                    status,
                    end: at + end,
                    keep,
                };
            }
            Parsed::Partial if bytes.len() > ANSWER_HEAD_BYTES_MAX + ANSWER_BODY_BYTES_MAX => {
                return Parsed::Bad;
            }
            other => return other,
        }
    }
}

fn one(bytes: &[u8]) -> Parsed {
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut answer = Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let head = match config.parse_response_with_uninit_headers(&mut answer, bytes, &mut fields) {
        Ok(Status::Complete(head)) => head,
        Ok(Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Bad,
    };
    let status = answer.code.unwrap_or(0);
    let (mut keep, mut length, mut is_chunked) = (answer.version == Some(1), None, false);
    for field in &*answer.headers {
        let value = field.value.trim_ascii();
        if field.name.eq_ignore_ascii_case("content-length") {
            let text = str::from_utf8(value).unwrap_or_default();
            let Ok(found) = text.parse::<u32>() else {
                return Parsed::Bad;
            };
            length = Some(found as usize);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            is_chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if field.name.eq_ignore_ascii_case("connection") {
            keep = value.eq_ignore_ascii_case(b"keep-alive")
                || (keep && !value.eq_ignore_ascii_case(b"close"));
        }
    }
    if matches!(status, 100..=199 | 204 | 304) {
        return Parsed::Whole {
            status,
            end: head,
            keep,
        };
    }
    if is_chunked {
        return match chunked::walk(bytes, head, |_| {}) {
            Chunked::Whole { end, .. } => Parsed::Whole { status, end, keep },
            Chunked::Partial { .. } => Parsed::Partial,
            Chunked::Bad => Parsed::Bad,
        };
    }
    match length {
        Some(length) if head + length <= bytes.len() => Parsed::Whole {
            status,
            end: head + length,
            keep,
        },
        Some(_) => Parsed::Partial,
        None => Parsed::UntilClose { status },
    }
}

#[cfg(test)]
mod tests {
    use super::{Parsed, parse};

    #[test]
    fn answers_end_where_they_say() {
        for (text, status, keep) in [
            ("HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", 204, true),
            (
                "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
                204,
                false,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, false),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
                200,
                true,
            ),
            (
                "HTTP/1.1 503 -\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                503,
                true,
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 -\r\nContent-Length: 1\r\n\r\nx",
                400,
                true,
            ),
        ] {
            let end = text.len();
            assert_eq!(
                parse(format!("{text}HTTP").as_bytes()),
                Parsed::Whole { status, end, keep },
                "{text}"
            );
            for cut in 0..end {
                assert_eq!(
                    parse(&text.as_bytes()[..cut]),
                    Parsed::Partial,
                    "{text:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn what_has_no_end_or_no_sense_is_told_apart() {
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\n\r\nabc"),
            Parsed::UntilClose { status: 200 }
        );
        assert_eq!(parse(b"SSH-2.0-x\r\n"), Parsed::Bad);
        assert_eq!(
            parse(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
            Parsed::Bad
        );
    }
}
