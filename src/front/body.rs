//! How much of a body has come, and where it ends. Pure.

use crate::http::body::Chunked;
use crate::http::request::{Framing, Refusal};

/// What is left of one body.
#[derive(Debug, Clone)]
pub enum BodyReader {
    /// So many bytes.
    Length(u64),
    /// Whatever the chunks say.
    Chunked(Chunked),
}

/// How far one piece went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the piece that belong to the body.
    pub taken: usize,
    /// Whether the body is whole.
    pub done: bool,
}

impl BodyReader {
    /// A reader for a body framed so. A request that names no length has none.
    pub fn new(framing: &Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(*length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
        }
    }

    /// Takes what belongs to the body from `bytes`, and puts it behind `body`.
    ///
    /// # Errors
    /// A bad chunk 400, more than `bytes_max` 413.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        body: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<Progress, Refusal> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                body.extend_from_slice(&bytes[..taken]);
                *left -= taken as u64;
                Ok(Progress {
                    taken,
                    done: *left == 0,
                })
            }
            Self::Chunked(chunked) => {
                let progress = chunked.decode(bytes, body, bytes_max)?;
                Ok(Progress {
                    taken: progress.taken,
                    done: progress.done,
                })
            }
        }
    }

    /// So many bytes, not more than are [`BodyReader::left`], came by another way; whether the body is
    /// whole.
    pub fn came(&mut self, bytes: usize) -> bool {
        match self {
            Self::Length(left) => {
                *left = left.saturating_sub(bytes as u64);
                *left == 0
            }
            Self::Chunked(_) => false,
        }
    }

    /// Bytes that are certain to come; 0 where only the chunks know.
    pub fn left(&self) -> u64 {
        match self {
            Self::Length(left) => *left,
            Self::Chunked(_) => 0,
        }
    }
}
