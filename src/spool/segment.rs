//! The head of a segment: whose log it is, and the names that its records' targets mean. Pure.
//!
//! ```text
//!   0  8  "irspool\n"         8  4  format version         12  4  bytes of this head
//!  16  8  run                24  4  shard                  28  4  count of names
//!  32  8  sequence of the first record
//!  40     names: two bytes of length, then the bytes; zeros up to a multiple of 8
//!  -4  4  CRC32C of all before it
//! ```
//!
//! The names are the same in all segments of a log, so one damaged head costs nothing.

use crate::limits;
use crate::spool::record::{checksum, u32_at, u64_at};

/// The format that this relay writes, and the only one that it reads.
pub const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"irspool\n";
const FIXED: usize = 40;

/// What the head of a segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Which start of the relay wrote it; later runs have higher numbers.
    pub run: u64,
    /// Which shard wrote it.
    pub shard: u32,
    /// The sequence of its first record.
    pub first: u64,
    /// Labels of backends.
    pub names: Vec<String>,
}

/// What the bytes at the start of a segment amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadFound {
    /// A head, and where the records begin.
    Head(Head, usize),
    /// A head of another version of the format.
    Foreign(u32),
    /// It goes on; it says that it has so many bytes.
    Partial(usize),
    /// Not a head, or not as it was written.
    Damaged,
}

impl Head {
    /// The head's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.run.to_le_bytes());
        out.extend_from_slice(&self.shard.to_le_bytes());
        let names = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&names.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        for name in &self.names {
            let length = u16::try_from(name.len()).expect("limits: NAME_BYTES_MAX");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        let bytes = (out.len() + 4).next_multiple_of(8);
        let length = u32::try_from(bytes).unwrap_or(u32::MAX);
        out[12..16].copy_from_slice(&length.to_le_bytes());
        out.resize(bytes - 4, 0);
        let sum = checksum([&out]);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads a head from the start of a segment.
    pub fn decode(bytes: &[u8]) -> HeadFound {
        if bytes.len() < FIXED {
            return HeadFound::Partial(FIXED);
        }
        let length = usize::try_from(u32_at(bytes, 12)).unwrap_or(usize::MAX);
        if &bytes[..8] != MAGIC || !(FIXED + 4..=limits::SEGMENT_HEAD_BYTES_MAX).contains(&length) {
            return HeadFound::Damaged;
        }
        let Some(whole) = bytes.get(..length) else {
            return HeadFound::Partial(length);
        };
        if checksum([&whole[..length - 4]]) != u32_at(whole, length - 4) {
            return HeadFound::Damaged;
        }
        let version = u32_at(whole, 8);
        if version != VERSION {
            return HeadFound::Foreign(version);
        }
        match read_names(&whole[FIXED..length - 4], u32_at(whole, 28)) {
            Some(names) => {
                let head = Self {
                    run: u64_at(whole, 16),
                    shard: u32_at(whole, 24),
                    first: u64_at(whole, 32),
                    names,
                };
                HeadFound::Head(head, length)
            }
            None => HeadFound::Damaged,
        }
    }
}

fn read_names(mut bytes: &[u8], count: u32) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for _ in 0..count {
        let (length, rest) = bytes.split_at_checked(2)?;
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        let (name, rest) = rest.split_at_checked(length)?;
        names.push(String::from_utf8(name.to_vec()).ok()?);
        bytes = rest;
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::{Head, HeadFound};
    use crate::spool::record::checksum;

    fn head() -> Head {
        Head {
            run: 3,
            shard: 1,
            first: 77,
            names: vec!["a".into(), "listener/b".into()],
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_flipped_bit_is_found() {
        let bytes = head().encode();
        assert_eq!(Head::decode(&bytes), HeadFound::Head(head(), bytes.len()));
        for cut in 0..bytes.len() {
            assert!(matches!(Head::decode(&bytes[..cut]), HeadFound::Partial(_)));
        }
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(
                Head::decode(&wrong),
                HeadFound::Damaged | HeadFound::Partial(_)
            ));
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut bytes = head().encode();
        bytes[8] = 2;
        let end = bytes.len() - 4;
        let sum = checksum([&bytes[..end]]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Head::decode(&bytes), HeadFound::Foreign(2));
    }
}
