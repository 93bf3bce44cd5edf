//! The head of a segment: whose log it is, its secret, and the names that its records' targets mean. Pure.
//!
//! ```text
//!    0     the fixed part      512  the fixed part again
//! 1024     the names          1024 + N  the names again          1024 + 2 N  records
//!
//!  the fixed part
//!   0  8  "irspool\n"         8  4  format version         12  4  N: bytes of the names, a multiple of 512
//!  16  8  run                24  4  shard                  28  4  count of names
//!  32  8  sequence of the first record
//!  40  8  sequence behind the last record of the segment before
//!  48 16  nonce
//!  64  4  CRC32C of all before it; zeros up to 512
//!
//!  the names
//!   two bytes of length, then the bytes, for each; zeros; in the last 4 bytes the CRC32C of all before it
//! ```
//!
//! All records of a segment need its head, so each part stands twice, in sectors of its own: no flipped byte and no torn
//! sector costs more than a copy. Both copies stand at places that no record can reach, so nothing that a client sends
//! is ever taken for one. The names are the same in all segments of a log, which is a third copy.
//!
//! The end of a segment's records is known from the head of the next one. In the last segment records end where its
//! nonce stands no more (see `record`).

use crate::limits;
use crate::spool::record::{Nonce, checksum, u32_at, u64_at};

/// The format that this relay writes, and the only one that it reads.
pub const VERSION: u32 = 2;
const MAGIC: &[u8; 8] = b"irspool\n";
const SECTOR: usize = 512;
const NAMES_AT: usize = 2 * SECTOR;
const NONCE_AT: usize = 48;
const SUM_AT: usize = 64;

/// What the head of a segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Which start of the relay wrote it; later runs have higher numbers.
    pub run: u64,
    /// Which shard wrote it.
    pub shard: u32,
    /// The sequence of its first record.
    pub first: u64,
    /// The sequence behind the last record that was written to the segment before it.
    pub follows: u64,
    /// The secret of its records.
    pub nonce: Nonce,
    /// Labels of backends; empty where both copies are damaged.
    pub names: Vec<String>,
}

/// What the bytes at the start of a segment amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadFound {
    /// A head.
    Head {
        /// It.
        head: Head,
        /// Where the records begin.
        records_at: usize,
        /// How many of its four copies are damaged.
        damaged: usize,
    },
    /// A head of another version of the format.
    Foreign(u32),
    /// It goes on; it has so many bytes.
    Partial(usize),
    /// Not a head, or no copy is as it was written.
    Damaged,
}

impl Head {
    /// The head's bytes, with all copies.
    pub fn encode(&self) -> Vec<u8> {
        let mut names = Vec::new();
        for name in &self.names {
            let length = u16::try_from(name.len()).expect("limits: NAME_BYTES_MAX");
            names.extend_from_slice(&length.to_le_bytes());
            names.extend_from_slice(name.as_bytes());
        }
        names.resize((names.len() + 4).next_multiple_of(SECTOR) - 4, 0);
        let sum = checksum([&names]);
        names.extend_from_slice(&sum.to_le_bytes());
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let mut fixed = Vec::with_capacity(SECTOR);
        fixed.extend_from_slice(MAGIC);
        fixed.extend_from_slice(&VERSION.to_le_bytes());
        fixed.extend_from_slice(&number(names.len()));
        fixed.extend_from_slice(&self.run.to_le_bytes());
        fixed.extend_from_slice(&self.shard.to_le_bytes());
        fixed.extend_from_slice(&number(self.names.len()));
        fixed.extend_from_slice(&self.first.to_le_bytes());
        fixed.extend_from_slice(&self.follows.to_le_bytes());
        fixed.extend_from_slice(&self.nonce.0);
        let sum = checksum([&fixed]);
        fixed.extend_from_slice(&sum.to_le_bytes());
        fixed.resize(SECTOR, 0);
        [&fixed[..], &fixed, &names, &names].concat()
    }

    /// Reads a head from the start of a segment.
    pub fn decode(bytes: &[u8]) -> HeadFound {
        let Some(fixed) = bytes.get(..NAMES_AT) else {
            return match is_first_format(bytes) {
                true => HeadFound::Foreign(1),
                false => HeadFound::Partial(NAMES_AT),
            };
        };
        let copies = [&fixed[..SECTOR], &fixed[SECTOR..]];
        let whole = copies.map(is_whole);
        let Some(place) = whole.iter().position(|&is_whole| is_whole) else {
            return match is_first_format(fixed) {
                true => HeadFound::Foreign(1),
                false => HeadFound::Damaged,
            };
        };
        let fixed = copies[place];
        let version = u32_at(fixed, 8);
        if version != VERSION {
            return HeadFound::Foreign(version);
        }
        let names_bytes = usize::try_from(u32_at(fixed, 12)).unwrap_or(usize::MAX);
        if !(SECTOR..=limits::SEGMENT_HEAD_BYTES_MAX).contains(&names_bytes) {
            return HeadFound::Damaged;
        }
        let records_at = NAMES_AT + 2 * names_bytes;
        let Some(names) = bytes.get(NAMES_AT..records_at) else {
            return HeadFound::Partial(records_at);
        };
        let (one, two) = names.split_at(names_bytes);
        let names = [one, two].map(|copy| read_names(copy, u32_at(fixed, 28)));
        let bad = |of: usize| 2 - of;
        let damaged = bad(whole.iter().filter(|&&is_whole| is_whole).count())
            + bad(names.iter().flatten().count());
        let mut nonce = [0; Nonce::BYTES];
        nonce.copy_from_slice(&fixed[NONCE_AT..SUM_AT]);
        HeadFound::Head {
            head: Self {
                run: u64_at(fixed, 16),
                shard: u32_at(fixed, 24),
                first: u64_at(fixed, 32),
                follows: u64_at(fixed, 40),
                nonce: Nonce(nonce),
                names: names.into_iter().flatten().next().unwrap_or_default(),
            },
            records_at,
            damaged,
        }
    }
}

/// Whether a copy of the fixed part is as it was written.
fn is_whole(fixed: &[u8]) -> bool {
    fixed.starts_with(MAGIC) && checksum([&fixed[..SUM_AT]]) == u32_at(fixed, SUM_AT)
}

/// Whether the bytes begin as a segment of the first format, which had one copy of its head.
fn is_first_format(bytes: &[u8]) -> bool {
    bytes.len() >= 12 && bytes.starts_with(MAGIC) && u32_at(bytes, 8) == 1
}

fn read_names(copy: &[u8], count: u32) -> Option<Vec<String>> {
    let (mut bytes, sum) = copy.split_at_checked(copy.len().checked_sub(4)?)?;
    if checksum([bytes]) != u32_at(sum, 0) {
        return None;
    }
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
    use super::{Head, HeadFound, SECTOR, SUM_AT};
    use crate::spool::record::{Nonce, checksum};

    fn head() -> Head {
        Head {
            run: 3,
            shard: 1,
            first: 77,
            follows: 76,
            nonce: Nonce(*b"0123456789abcdef"),
            names: vec!["a".into(), "listener/b".into()],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = head().encode();
        let found = HeadFound::Head {
            head: head(),
            records_at: bytes.len(),
            damaged: 0,
        };
        assert_eq!(Head::decode(&bytes), found);
        for cut in 0..bytes.len() {
            assert!(matches!(Head::decode(&bytes[..cut]), HeadFound::Partial(_)));
        }
    }

    #[test]
    fn one_flipped_bit_or_one_torn_sector_costs_a_copy_and_nothing_else() {
        let bytes = head().encode();
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let HeadFound::Head { head: found, .. } = Head::decode(&wrong) else {
                panic!("bit {bit}");
            };
            assert_eq!(found, head(), "bit {bit}");
        }
        for sector in 0..bytes.len() / SECTOR {
            let mut wrong = bytes.clone();
            wrong[sector * SECTOR..][..SECTOR].fill(0xaa);
            let HeadFound::Head {
                head: found,
                damaged,
                ..
            } = Head::decode(&wrong)
            else {
                panic!("sector {sector}");
            };
            assert_eq!((found, damaged), (head(), 1), "sector {sector}");
        }
    }

    #[test]
    fn without_a_copy_of_the_fixed_part_there_is_no_head() {
        let mut bytes = head().encode();
        bytes[1] ^= 1;
        bytes[SECTOR + 50] ^= 1;
        assert_eq!(Head::decode(&bytes), HeadFound::Damaged);
        let mut bytes = head().encode();
        bytes[2 * SECTOR] ^= 1;
        bytes[3 * SECTOR] ^= 1;
        let HeadFound::Head { head, damaged, .. } = Head::decode(&bytes) else {
            panic!("its names are known from other segments");
        };
        assert_eq!((head.names, damaged), (Vec::new(), 2));
    }

    #[test]
    fn another_format_is_told_from_damage() {
        let mut bytes = head().encode();
        for copy in [0, SECTOR] {
            bytes[copy + 8] = 3;
            let sum = checksum([&bytes[copy..copy + SUM_AT]]);
            bytes[copy + SUM_AT..][..4].copy_from_slice(&sum.to_le_bytes());
        }
        assert_eq!(Head::decode(&bytes), HeadFound::Foreign(3));
        // The first format, as an earlier build wrote it.
        let mut old = b"irspool\n\x01\0\0\0\x38\0\0\0".to_vec();
        old.resize(52, 7);
        let sum = checksum([&old]);
        old.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(Head::decode(&old), HeadFound::Foreign(1));
        old.resize(4096, 0);
        assert_eq!(Head::decode(&old), HeadFound::Foreign(1));
    }
}
