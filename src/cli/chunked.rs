//! A chunked body (RFC 9112, section 7.1), walked without copying. Pure.

use std::ops::Range;

use crate::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// Whole: the body's own bytes, and where what follows begins.
    Whole { body: usize, end: usize },
    /// Right so far; not whole before the buffer holds this many bytes.
    Partial { need: usize },
    /// Wrong.
    Bad,
}

/// Walks the chunks that begin at `from`, telling of each chunk's bytes by their place in `bytes`.
/// Trailer fields are passed over.
pub(super) fn walk(bytes: &[u8], from: usize, mut chunk: impl FnMut(Range<usize>)) -> Chunked {
    let mut at = from;
    let mut body = 0_usize;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(line) = memchr::memchr(b'\n', rest) else {
            let sane = rest.len() <= CHUNK_LINE_BYTES_MAX;
            return if sane {
                Chunked::Partial {
                    need: bytes.len() + 1,
                }
            } else {
                Chunked::Bad
            };
        };
        let Some(size) = size(&rest[..line]) else {
            return Chunked::Bad;
        };
        at += line + 1;
        if size == 0 {
            return trailer(bytes, at, body);
        }
        let Some(end) = at.checked_add(size).filter(|end| *end < usize::MAX / 2) else {
            return Chunked::Bad;
        };
        if bytes.len() < end + 2 {
            return Chunked::Partial { need: end + 2 };
        }
        if &bytes[end..end + 2] != b"\r\n" {
            return Chunked::Bad;
        }
        chunk(at..end);
        body += size;
        at = end + 2;
    }
}

/// Joins the chunks that begin at `from`, in place. A whole body then stands at `from`.
pub(super) fn join(bytes: &mut [u8], from: usize) -> Chunked {
    let walked = walk(bytes, from, |_| {});
    if let Chunked::Whole { .. } = walked {
        let mut to = from;
        let mut at = from;
        // The walk above has proven each line and size; this one only moves.
        while let Some(line) = memchr::memchr(b'\n', &bytes[at..]) {
            let size = size(&bytes[at..at + line]).unwrap_or(0);
            if size == 0 {
                break;
            }
            let start = at + line + 1;
            bytes.copy_within(start..start + size, to);
            to += size;
            at = start + size + 2;
        }
    }
    walked
}

/// The size that a chunk line, without its newline, says. Extensions are passed over.
fn size(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"\r")?;
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
    let sane = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = str::from_utf8(digits).ok().filter(|_| sane)?;
    usize::from_str_radix(text, 16).ok()
}

fn trailer(bytes: &[u8], from: usize, body: usize) -> Chunked {
    let mut at = from;
    loop {
        let rest = &bytes[at..];
        let Some(line) = memchr::memchr(b'\n', rest) else {
            let sane = bytes.len() - from <= TRAILER_BYTES_MAX;
            return if sane {
                Chunked::Partial {
                    need: bytes.len() + 1,
                }
            } else {
                Chunked::Bad
            };
        };
        at += line + 1;
        if matches!(&rest[..line], b"" | b"\r") {
            return Chunked::Whole { body, end: at };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Chunked, join};

    const BODY: &[u8] = b"xx5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nA: b\r\n\r\n";

    #[test]
    fn a_whole_body_is_joined_in_place() {
        let mut bytes = [BODY, b"next"].concat();
        assert_eq!(
            join(&mut bytes, 2),
            Chunked::Whole {
                body: 11,
                end: BODY.len()
            }
        );
        assert_eq!(&bytes[2..13], b"hello world");
    }

    #[test]
    fn every_prefix_asks_for_more_than_it_has() {
        for cut in 2..BODY.len() {
            let Chunked::Partial { need } = join(&mut BODY[..cut].to_vec(), 2) else {
                panic!("cut at {cut}")
            };
            assert!(need > cut && need <= BODY.len(), "cut at {cut}: {need}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_bad() {
        for wrong in [
            "g\r\n",
            "\r\n",
            "5\nhello\r\n",
            "1\r\nab\r\n",
            "fffffffffffffffff\r\n",
            "-1\r\n",
            "+1\r\n",
        ] {
            assert_eq!(
                join(&mut wrong.as_bytes().to_vec(), 0),
                Chunked::Bad,
                "{wrong:?}"
            );
        }
    }
}
