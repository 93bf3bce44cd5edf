//! One answer of a backend, piece by piece as it comes. Pure.
//!
//! What comes is junk until proven otherwise: interim answers are counted, heads and bodies are
//! bounded, and whatever cannot be read is a failure of the backend, never of the relay.

use crate::http::body::Chunked;
use crate::http::header::HeaderSpace;
use crate::http::request::Parsed;
use crate::http::response::{AnswerFraming, AnswerHead};
use crate::limits;

/// An answer, as far as the client may hear of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status; 0 while there is none.
    pub status: u16,
    /// End-to-end header lines, each with its CRLF.
    pub headers: Vec<u8>,
    /// The body, decoded.
    pub body: Vec<u8>,
}

impl Reply {
    /// Empties it, keeping small buffers.
    pub fn clear(&mut self) {
        self.status = 0;
        self.headers.clear();
        self.body.clear();
        if self.body.capacity() > limits::FLIGHT_KEEP_BYTES {
            self.body = Vec::new();
        }
    }
}

/// What the bytes so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// The answer goes on.
    More,
    /// It is whole; the link can be used again, or not.
    Whole {
        /// Whether another request may follow on the link.
        reusable: bool,
    },
    /// It is no answer.
    Nonsense,
}

enum State {
    Head,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// Reads one answer after another from one link.
pub struct AnswerReader {
    state: State,
    inbox: Vec<u8>,
    interim: usize,
    keep_alive: bool,
    begun: bool,
    /// Of the body, as far as it is not taken out of the reply.
    body_bytes_max: usize,
}

impl Default for AnswerReader {
    fn default() -> Self {
        Self {
            state: State::Head,
            inbox: Vec::new(),
            interim: 0,
            keep_alive: true,
            begun: false,
            body_bytes_max: limits::ANSWER_BODY_BYTES_MAX,
        }
    }
}

impl AnswerReader {
    /// Whether any byte of the current answer has come.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// For answers of any size, whose body is taken out of the reply piece by piece.
    pub fn streaming() -> Self {
        Self {
            body_bytes_max: usize::MAX,
            ..Self::default()
        }
    }

    /// Bytes of the body that are still to come, where the head has told them.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Makes ready for the next answer.
    pub fn reset(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.clear();
        *self = Self {
            inbox,
            body_bytes_max: self.body_bytes_max,
            ..Self::default()
        };
    }

    /// Takes what came from the link.
    pub fn feed(&mut self, bytes: &[u8], reply: &mut Reply) -> Fed {
        self.begun = true;
        if self.inbox.is_empty() {
            return self.advance(bytes, reply);
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.extend_from_slice(bytes);
        let fed = self.advance(&inbox, reply);
        if self.inbox.is_empty() {
            inbox.clear();
            self.inbox = inbox;
        }
        fed
    }

    /// The link has ended: an answer without a length is whole then, any other is cut off.
    pub fn end(&mut self) -> Fed {
        match self.state {
            State::UntilClose => Fed::Whole { reusable: false },
            _ => Fed::Nonsense,
        }
    }

    fn advance(&mut self, mut bytes: &[u8], reply: &mut Reply) -> Fed {
        while let State::Head = self.state {
            let mut space = HeaderSpace::default();
            match AnswerHead::parse(bytes, &mut space) {
                Parsed::Whole(head) => {
                    bytes = &bytes[head.head_len..];
                    if head.status < 200 {
                        self.interim += 1;
                        if self.interim > limits::INTERIM_ANSWERS_MAX || head.status == 101 {
                            return Fed::Nonsense;
                        }
                        continue;
                    }
                    reply.clear();
                    reply.status = head.status;
                    head.pass_on(&mut reply.headers);
                    self.keep_alive = head.keep_alive;
                    self.state = match head.framing {
                        AnswerFraming::None => State::Length(0),
                        AnswerFraming::Length(length) => State::Length(length),
                        AnswerFraming::Chunked => State::Chunked(Chunked::default()),
                        AnswerFraming::UntilClose => State::UntilClose,
                    };
                }
                Parsed::Partial => {
                    self.inbox = bytes.to_vec();
                    return Fed::More;
                }
                Parsed::Refused(_) => return self.clean(bytes, reply),
            }
        }
        self.body(bytes, reply)
    }

    /// Reads a head again whose values hold control characters: `influxd` quotes a bad line in
    /// `X-Influxdb-Error` as it came. Each becomes a space, since nobody may be sent such a header.
    fn clean(&mut self, bytes: &[u8], reply: &mut Reply) -> Fed {
        let is_control =
            |byte: u8| byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t');
        let head_len = head_len(bytes);
        if !bytes.starts_with(b"HTTP/1.") || !bytes[..head_len].iter().copied().any(is_control) {
            return Fed::Nonsense;
        }
        let mut cleaned = bytes.to_vec();
        for byte in cleaned[..head_len]
            .iter_mut()
            .filter(|byte| is_control(**byte))
        {
            *byte = b' ';
        }
        self.advance(&cleaned, reply)
    }

    fn body(&mut self, bytes: &[u8], reply: &mut Reply) -> Fed {
        let room = self.body_bytes_max - reply.body.len();
        match &mut self.state {
            State::Length(left) => {
                if *left > room as u64 {
                    return Fed::Nonsense;
                }
                let take = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                reply.body.extend_from_slice(&bytes[..take]);
                *left -= take as u64;
                let whole = *left == 0;
                self.settle(whole, bytes.len() - take)
            }
            State::Chunked(chunked) => {
                match chunked.decode(bytes, &mut reply.body, self.body_bytes_max) {
                    Ok(progress) => self.settle(progress.done, bytes.len() - progress.taken),
                    Err(_) => Fed::Nonsense,
                }
            }
            State::UntilClose => {
                if bytes.len() > room {
                    return Fed::Nonsense;
                }
                reply.body.extend_from_slice(bytes);
                Fed::More
            }
            State::Head => Fed::More,
        }
    }

    /// Bytes behind a whole answer were not asked for: the link cannot be trusted with another.
    fn settle(&self, whole: bool, beyond: usize) -> Fed {
        if whole {
            Fed::Whole {
                reusable: self.keep_alive && beyond == 0,
            }
        } else {
            Fed::More
        }
    }
}

/// Bytes of a head with its empty line, whose lines may end in a bare line feed (RFC 9112, 2.2); all bytes where the
/// empty line has not come.
fn head_len(bytes: &[u8]) -> usize {
    let ends = memchr::memchr_iter(b'\n', bytes);
    let empty_line_behind = |end: usize| match bytes.get(end + 1..)? {
        [b'\n', ..] => Some(end + 2),
        [b'\r', b'\n', ..] => Some(end + 3),
        _ => None,
    };
    let mut ends = ends.filter_map(empty_line_behind);
    ends.next().unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::{AnswerReader, Fed, Reply};

    const PLAIN: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\nX-Influxdb-Error: e\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    const INTERIM: &[u8] =
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n";

    fn read(pieces: &[&[u8]]) -> (Fed, Reply) {
        let (mut reader, mut reply) = (AnswerReader::default(), Reply::default());
        let mut last = Fed::More;
        for piece in pieces {
            assert_eq!(last, Fed::More, "nothing is fed to a whole answer");
            last = reader.feed(piece, &mut reply);
        }
        (last, reply)
    }

    #[test]
    fn every_cut_of_an_answer_reads_the_same() {
        for (answer, status, body) in [
            (PLAIN, 400, "hello"),
            (CHUNKED, 500, "hello"),
            (INTERIM, 204, ""),
        ] {
            for cut in 1..answer.len() {
                let (fed, reply) = read(&[&answer[..cut], &answer[cut..]]);
                assert_eq!(fed, Fed::Whole { reusable: true }, "cut at {cut}");
                assert_eq!(
                    (reply.status, reply.body.as_slice()),
                    (status, body.as_bytes()),
                    "cut at {cut}"
                );
            }
            let bytes: Vec<&[u8]> = answer.chunks(1).collect();
            assert_eq!(read(&bytes).0, Fed::Whole { reusable: true });
        }
    }

    #[test]
    fn control_characters_in_a_header_become_spaces() {
        let answer = b"HTTP/1.1 400 Bad\r\nX-Influxdb-Error: unable to parse '\x0b\x01'\r\nContent-Length: 2\r\n\r\n\x0b\x01";
        for cut in 1..answer.len() {
            let (fed, reply) = read(&[&answer[..cut], &answer[cut..]]);
            assert_eq!(fed, Fed::Whole { reusable: true }, "cut at {cut}");
            assert_eq!(reply.body, b"\x0b\x01");
            let headers = String::from_utf8(reply.headers).unwrap();
            assert_eq!(headers, "X-Influxdb-Error: unable to parse '  '\r\n");
        }
        assert_eq!(read(&[b"\x01\x02\x03\r\n\r\n"]).0, Fed::Nonsense);
    }

    #[test]
    fn bytes_behind_an_answer_end_the_link() {
        let mut answer = PLAIN.to_vec();
        answer.push(b'x');
        assert_eq!(read(&[&answer]).0, Fed::Whole { reusable: false });
    }

    #[test]
    fn without_a_length_the_end_of_the_link_is_the_end_of_the_answer() {
        let (mut reader, mut reply) = (AnswerReader::default(), Reply::default());
        assert_eq!(
            reader.feed(b"HTTP/1.0 200 OK\r\n\r\nall of", &mut reply),
            Fed::More
        );
        assert_eq!(reader.feed(b" it", &mut reply), Fed::More);
        assert_eq!(reader.end(), Fed::Whole { reusable: false });
        assert_eq!(reply.body, b"all of it");
    }

    #[test]
    fn a_cut_answer_junk_and_endless_interim_answers_are_nonsense() {
        let (mut reader, mut reply) = (AnswerReader::default(), Reply::default());
        assert_eq!(
            reader.feed(&PLAIN[..PLAIN.len() - 1], &mut reply),
            Fed::More
        );
        assert_eq!(reader.end(), Fed::Nonsense);
        assert_eq!(read(&[b"SSH-2.0-OpenSSH_9.2\r\n"]).0, Fed::Nonsense);
        assert_eq!(
            read(&[&b"HTTP/1.1 102 Wait\r\n\r\n".repeat(50)]).0,
            Fed::Nonsense
        );
        assert_eq!(
            read(&[b"HTTP/1.1 101 Switching Protocols\r\n\r\n"]).0,
            Fed::Nonsense
        );
        assert_eq!(
            read(&[b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"]).0,
            Fed::Nonsense
        );
    }

    /// Control characters are taken out of a head, however its lines end, and out of nothing behind it.
    #[test]
    fn a_head_with_bare_line_feeds_changes_no_body() {
        let body = "a\x01b\r\n\r\nc\x02d";
        for (line, end) in [
            ("\r\n", "\r\n"),
            ("\n", "\n"),
            ("\r\n", "\n"),
            ("\n", "\r\n"),
        ] {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 400 Bad{line}X-Influxdb-Error: a\x01b{line}Content-Length: {length}{line}{end}"
            );
            let whole = format!("{head}{body}");
            for cut in 0..whole.len() {
                let (mut reader, mut reply) = (AnswerReader::default(), Reply::default());
                let (first, rest) = whole.as_bytes().split_at(cut);
                let mut fed = Fed::More;
                for piece in [first, rest].into_iter().filter(|piece| !piece.is_empty()) {
                    fed = reader.feed(piece, &mut reply);
                }
                let place = format!("{line:?} {end:?} cut at {cut}");
                assert!(matches!(fed, Fed::Whole { .. }), "{place}: {fed:?}");
                assert_eq!(reply.body, body.as_bytes(), "{place}");
                assert!(!reply.headers.contains(&1), "{place}");
            }
        }
    }
}
