//! A chunked body, decoded as it comes, and where it ends. Pure.
//!
//! Chunks are the other place, beside two lengths, where two readers can see two ends: a lone LF,
//! a size with a sign, a blank or too many digits. RFC 9112 section 7.1 is held to the letter:
//!
//! ```text
//! 6;name="value" CR LF      size in hex, extensions (bounded, ignored)
//! m v=1\n        CR LF      that many bytes
//! 0              CR LF      the last one
//! X-Sum: 1       CR LF      trailer fields (bounded, checked, thrown away)
//!                CR LF
//! ```

use crate::http::header::{is_token_byte, is_value_byte};
use crate::http::request::Refusal;
use crate::limits::{CHUNK_EXCESS_BYTES_MAX, CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

/// How far one call of [`Chunked::decode`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that belong to the body; all of them unless it has ended.
    pub taken: usize,
    /// Whether the body has ended; what follows is another message.
    pub done: bool,
}

/// The decoder of one chunked body. Once per body; holds no bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    /// In a chunk: bytes still to come. In its size line: the size so far.
    left: u64,
    /// Bytes of the size line, or of all trailer lines, so far.
    line_bytes: usize,
    /// Bytes decoded, those of the chunk that has begun included.
    decoded: u64,
    /// Bytes of framing beyond what small chunks honestly cost.
    excess: u64,
}

/// What the next byte is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SizeStart,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl Default for Chunked {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunked {
    /// Before the first byte of a body.
    pub const fn new() -> Self {
        let state = State::SizeStart;
        Self {
            state,
            left: 0,
            line_bytes: 0,
            decoded: 0,
            excess: 0,
        }
    }

    /// Takes what belongs to the body from the front of `input` and appends it, decoded, to `out`.
    /// However the input is cut, the result is the same. Once per read.
    ///
    /// `out_bytes_max` bounds all that this body decodes to, whatever became of `out` in between.
    ///
    /// # Errors
    /// 413 as soon as a chunk announces bytes past `out_bytes_max`, 400 for everything malformed or
    /// past the bounds of `limits`. The decoder is of no use after it.
    pub fn decode(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        out_bytes_max: usize,
    ) -> Result<Progress, Refusal> {
        let mut taken = 0;
        while self.state != State::Done {
            let rest = &input[taken..];
            let Some(&byte) = rest.first() else { break };
            if self.state == State::Data {
                taken += self.copy(rest, out);
            } else {
                self.step(byte, out_bytes_max)?;
                taken += 1;
            }
        }
        Ok(Progress {
            taken,
            done: self.state == State::Done,
        })
    }

    /// Data, as much as there is. Returns how many bytes.
    fn copy(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let len = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
        out.extend_from_slice(&input[..len]);
        self.left -= len as u64;
        if self.left == 0 {
            self.state = State::DataCr;
        }
        len
    }

    /// One byte that is not data.
    fn step(&mut self, byte: u8, out_bytes_max: usize) -> Result<(), Refusal> {
        self.state = match (self.state, byte) {
            (State::SizeStart | State::Size, _) if byte.is_ascii_hexdigit() => self.size(byte)?,
            (State::Size, b';') => State::Extension,
            (State::Size | State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) if is_value_byte(byte) => State::Extension,
            (State::SizeLf, b'\n') => return self.begin_chunk(out_bytes_max),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => {
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_value_byte(byte) => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            (state, _) => return Err(Refusal::bad_request(state.complaint())),
        };
        self.count()
    }

    /// One more digit of a size.
    fn size(&mut self, digit: u8) -> Result<State, Refusal> {
        let value = char::from(digit).to_digit(16).unwrap_or_default();
        let shifted = self
            .left
            .checked_mul(16)
            .ok_or(Refusal::bad_request(SIZE))?;
        self.left = shifted | u64::from(value);
        Ok(State::Size)
    }

    /// The size line is whole.
    fn begin_chunk(&mut self, out_bytes_max: usize) -> Result<(), Refusal> {
        // One byte a chunk is honest, if wasteful; a kilobyte of extensions for each is an attack.
        self.excess += self.line_bytes as u64 + CHUNK_ENDS;
        self.excess = self
            .excess
            .saturating_sub(CHUNK_ALLOWANCE.saturating_add(self.left));
        if self.excess > CHUNK_EXCESS_BYTES_MAX {
            return Err(Refusal::bad_request("more framing than data in chunks"));
        }
        self.decoded = self.decoded.saturating_add(self.left);
        if self.decoded > out_bytes_max as u64 {
            return Err(Refusal::new(413, "request body too large"));
        }
        self.line_bytes = 0;
        self.state = if self.left == 0 {
            State::TrailerStart
        } else {
            State::Data
        };
        Ok(())
    }

    /// Bounds what is neither data nor the end of it.
    fn count(&mut self) -> Result<(), Refusal> {
        let (bytes_max, complaint) = match self.state {
            State::Size | State::Extension | State::SizeLf => {
                (CHUNK_LINE_BYTES_MAX, "chunk size line too long")
            }
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                (TRAILER_BYTES_MAX, "trailer too long")
            }
            _ => return Ok(()),
        };
        self.line_bytes += 1;
        if self.line_bytes > bytes_max {
            Err(Refusal::bad_request(complaint))
        } else {
            Ok(())
        }
    }
}

impl State {
    /// What is wrong with a byte that has no place here.
    const fn complaint(self) -> &'static str {
        match self {
            Self::SizeStart | Self::Size => SIZE,
            Self::Extension | Self::SizeLf => "malformed chunk extension or line end",
            Self::Data | Self::DataCr | Self::DataLf => "chunk does not end where its size says",
            _ => "malformed trailer",
        }
    }
}

const SIZE: &str = "malformed chunk size";
/// LF of the size line and CR LF of the data: what a chunk costs beside the line up to its CR.
const CHUNK_ENDS: u64 = 3;
/// Framing that each chunk may have for nothing.
const CHUNK_ALLOWANCE: u64 = 16;

#[cfg(test)]
mod tests {
    use super::{Chunked, Progress};
    use crate::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

    const BODY: &[u8] =
        b"6;a=b;c=\"d e\"\r\nm v=1\n\r\n00A\r\n0123456789\r\n000;z\r\nX-T: 1\r\nY:\r\n\r\n";
    const DECODED: &[u8] = b"m v=1\n0123456789";

    /// Everything that `input` decodes to, read in pieces that end at `cuts`; or the status.
    fn decode(input: &[u8], cuts: &[usize], max: usize) -> Result<(Vec<u8>, Progress), u16> {
        let (mut chunked, mut out) = (Chunked::new(), Vec::new());
        let mut progress = Progress {
            taken: 0,
            done: false,
        };
        let mut from = 0;
        for &to in cuts.iter().chain([&input.len()]) {
            let now = chunked
                .decode(&input[from..to], &mut out, max)
                .map_err(|r| r.status)?;
            assert!(now.taken == to - from || now.done);
            progress = Progress {
                taken: progress.taken + now.taken,
                done: now.done,
            };
            from = to;
        }
        Ok((out, progress))
    }

    fn status(input: &str) -> u16 {
        decode(input.as_bytes(), &[], 100).map_or_else(|status| status, |(_, p)| u16::from(p.done))
    }

    #[test]
    fn every_split_decodes_the_same() {
        let input = [BODY, b"POST /next"].concat();
        let whole = Ok((
            DECODED.to_vec(),
            Progress {
                taken: BODY.len(),
                done: true,
            },
        ));
        assert_eq!(decode(&input, &[], DECODED.len()), whole);
        for first in 0..=input.len() {
            for second in first..=input.len() {
                assert_eq!(decode(&input, &[first, second], DECODED.len()), whole);
            }
        }
        let each: Vec<usize> = (0..input.len()).collect();
        assert_eq!(decode(&input, &each, DECODED.len()), whole);
    }

    #[test]
    fn every_prefix_asks_for_more() {
        for cut in 0..BODY.len() {
            let (out, progress) = decode(&BODY[..cut], &[], 100).unwrap();
            assert!(DECODED.starts_with(&out));
            assert_eq!(
                progress,
                Progress {
                    taken: cut,
                    done: false
                }
            );
        }
    }

    #[test]
    fn every_flip_is_the_same_in_one_piece_and_in_bytes() {
        let each: Vec<usize> = (0..BODY.len()).collect();
        for at in 0..BODY.len() {
            for byte in 0..=u8::MAX {
                let mut input = BODY.to_vec();
                input[at] = byte;
                assert_eq!(
                    decode(&input, &[], 16),
                    decode(&input, &each, 16),
                    "{byte:#x} at {at}"
                );
            }
        }
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        assert_eq!(status("5\r\nhello\r\n0\r\n\r\n"), 1);
        assert_eq!(status("0\r\n\r\n"), 1);
        for ill in [
            "5\nhello\n0\n\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\rhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5_\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "\r\n\r\n",
            ";a\r\n\r\n",
            ";a\r\nhello\r\n0\r\n\r\n",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            "4\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\rx0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "5;a\0\r\nhello\r\n0\r\n\r\n",
            "0\r\nX\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\n: y\r\n\r\n",
            "0\r\nX: y\r\n z\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(status(ill), 400, "{ill:?}");
        }
    }

    #[test]
    fn the_bounds_hold() {
        assert_eq!(decode(BODY, &[], DECODED.len() - 1), Err(413));
        assert_eq!(status("ffffffffffffffff\r\n"), 413);
        let line = |len: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(len - 3));
        assert_eq!(status(&line(CHUNK_LINE_BYTES_MAX)), 1);
        assert_eq!(status(&line(CHUNK_LINE_BYTES_MAX + 1)), 400);
        let trailer = |len: usize| format!("0\r\nX:{}\r\n\r\n", "a".repeat(len - 4));
        assert_eq!(status(&trailer(TRAILER_BYTES_MAX)), 1);
        assert_eq!(status(&trailer(TRAILER_BYTES_MAX + 1)), 400);
    }

    #[test]
    fn bytes_one_by_one_are_honest_and_padded_ones_are_not() {
        let plain = "1\r\nx\r\n".repeat(100_000) + "0\r\n\r\n";
        assert_eq!(
            decode(plain.as_bytes(), &[], 100_000).unwrap().0.len(),
            100_000
        );
        let padded = format!("1;{}\r\nx\r\n", "a".repeat(900)).repeat(20);
        assert_eq!(status(&padded), 400);
    }
}
