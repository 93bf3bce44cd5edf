//! A gzip body, to the bytes it stands for, within a bound. Pure.
//!
//! The danger is a small body that stands for a huge one. So room is made as the data comes, never
//! by the length that the trailer claims, and inflating stops at the bound. What a stranger may get
//! wrong — header, data, checksum, length, bytes behind the end — is refused, as InfluxDB does.
//!
//! ```text
//!  1f 8b 08 flags mtime(4) xfl os [extra] [name\0] [comment\0] [crc16]   RFC 1952, 2.3
//!  deflate data
//!  crc32 of the plain bytes (4)  their count modulo 2³² (4)              then another member, or the end
//! ```

use flate2::{Crc, Decompress, FlushDecompress, Status};

use crate::limits::BODY_FIRST_BYTES;

/// Why a body was not inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inflate {
    /// It is not gzip, or damaged; what is wrong. To be answered 400.
    Bad(&'static str),
    /// It stands for more bytes than allowed. To be answered 413.
    TooLarge,
}

/// Inflates bodies, one after the other. One per shard: it holds the window of 32 KiB.
pub struct Inflater {
    deflate: Decompress,
    crc: Crc,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// Allocates the window; once per shard.
    pub fn new() -> Self {
        Self {
            deflate: Decompress::new(false),
            crc: Crc::new(),
        }
    }

    /// Inflates all members of `compressed` into `out`, which is emptied first; at most `bytes_max`
    /// bytes. Once per compressed write; allocates only where `out` is too small, and never past
    /// `bytes_max` and one byte.
    ///
    /// # Errors
    /// See [`Inflate`]; what `out` holds then means nothing.
    pub fn inflate(
        &mut self,
        compressed: &[u8],
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<(), Inflate> {
        out.clear();
        let mut rest = compressed;
        loop {
            rest = self.member(skip_header(rest)?, out, bytes_max)?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Inflates one member behind its header; what is left behind its trailer.
    fn member<'a>(
        &mut self,
        data: &'a [u8],
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<&'a [u8], Inflate> {
        self.deflate.reset(false);
        self.crc.reset();
        let mut rest = data;
        loop {
            if out.len() == out.capacity() {
                make_room(rest.len(), out, bytes_max);
            }
            let (taken, held) = (self.deflate.total_in(), out.len());
            let status = self
                .deflate
                .decompress_vec(rest, out, FlushDecompress::None)
                .map_err(|_| Inflate::Bad("damaged data"))?;
            if out.len() > bytes_max {
                return Err(Inflate::TooLarge);
            }
            self.crc.update(&out[held..]);
            let taken = usize::try_from(self.deflate.total_in() - taken).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            match status {
                Status::StreamEnd => return check_trailer(rest, &self.crc),
                _ if taken == 0 && out.len() == held => return Err(Inflate::Bad("cut off")),
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

/// Room for more plain bytes: twice what there is, or four times what is still compressed to begin
/// with; one byte past the bound at most, so that what is too large is seen to be.
fn make_room(compressed: usize, out: &mut Vec<u8>, bytes_max: usize) {
    let first = compressed.saturating_mul(4).clamp(64, BODY_FIRST_BYTES);
    let wanted = out
        .len()
        .max(first)
        .min((bytes_max + 1).saturating_sub(out.len()))
        .max(1);
    out.reserve_exact(wanted);
}

/// What stands behind the header of one member.
fn skip_header(member: &[u8]) -> Result<&[u8], Inflate> {
    const CRC: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    let cut = Inflate::Bad("cut off within its header");
    let (head, mut rest) = member.split_first_chunk::<10>().ok_or(cut)?;
    let [0x1f, 0x8b, 8, flags, ..] = *head else {
        return Err(Inflate::Bad("not gzip"));
    };
    if flags & !(CRC | EXTRA | NAME | COMMENT | 1) != 0 {
        return Err(Inflate::Bad("unknown flags")); // RFC 1952, 2.3.1.2: must be refused
    }
    if flags & EXTRA != 0 {
        let (bytes, behind) = rest.split_first_chunk::<2>().ok_or(cut)?;
        rest = behind
            .get(usize::from(u16::from_le_bytes(*bytes))..)
            .ok_or(cut)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = memchr::memchr(0, rest).ok_or(cut)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & CRC != 0 {
        let (sum, behind) = rest.split_first_chunk::<2>().ok_or(cut)?;
        let mut crc = Crc::new();
        crc.update(&member[..member.len() - rest.len()]);
        if crc.sum().to_le_bytes()[..2] != *sum {
            return Err(Inflate::Bad("wrong header checksum"));
        }
        rest = behind;
    }
    Ok(rest)
}

/// What stands behind the trailer of one member, if the trailer is right.
fn check_trailer<'a>(trailer: &'a [u8], crc: &Crc) -> Result<&'a [u8], Inflate> {
    let (sum, rest) = trailer
        .split_first_chunk::<4>()
        .ok_or(Inflate::Bad("cut off"))?;
    let (count, rest) = rest
        .split_first_chunk::<4>()
        .ok_or(Inflate::Bad("cut off"))?;
    if *sum != crc.sum().to_le_bytes() {
        return Err(Inflate::Bad("wrong checksum"));
    }
    if *count != crc.amount().to_le_bytes() {
        return Err(Inflate::Bad("wrong length"));
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder, write::GzEncoder};

    use super::{Inflate, Inflater};

    fn pack(plain: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(plain).unwrap();
        gzip.finish().unwrap()
    }

    fn unpack(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, Inflate> {
        let mut out = Vec::new();
        let result = Inflater::new().inflate(packed, &mut out, bytes_max);
        assert!(out.capacity() <= bytes_max + 65, "{} held", out.capacity());
        result.map(|()| out)
    }

    #[test]
    fn members_are_joined_and_an_inflater_is_used_again() {
        let mut inflater = Inflater::new();
        let mut out = b"left over".to_vec();
        let mut both = pack(b"m v=1\n");
        both.extend(pack(b""));
        both.extend(pack(b"m v=2\n"));
        for _ in 0..3 {
            assert_eq!(inflater.inflate(&both, &mut out, 100), Ok(()));
            assert_eq!(out, b"m v=1\nm v=2\n");
            assert!(inflater.inflate(&both[..20], &mut out, 100).is_err());
        }
    }

    #[test]
    fn a_header_may_have_every_part() {
        let mut gzip = GzBuilder::new()
            .extra(&b"ab"[..])
            .filename("name")
            .comment("why")
            .mtime(1)
            .write(Vec::new(), Compression::fast());
        gzip.write_all(b"m v=1").unwrap();
        assert_eq!(unpack(&gzip.finish().unwrap(), 5).unwrap(), b"m v=1");
        let mut summed = pack(b"m v=1");
        summed[3] |= 2;
        let mut crc = flate2::Crc::new();
        crc.update(&summed[..10]);
        let sum = crc.sum().to_le_bytes();
        summed.splice(10..10, [sum[0], sum[1]]);
        assert_eq!(unpack(&summed, 5).unwrap(), b"m v=1");
        summed[10] ^= 1;
        assert_eq!(
            unpack(&summed, 5),
            Err(Inflate::Bad("wrong header checksum"))
        );
    }

    #[test]
    fn every_cut_and_every_wrong_byte_is_refused_or_harmless() {
        let plain = b"cpu,host=a load=0.64 17\n".repeat(9);
        let packed = pack(&plain);
        for cut in 0..packed.len() {
            assert!(
                matches!(unpack(&packed[..cut], 999), Err(Inflate::Bad(_))),
                "cut at {cut}"
            );
        }
        for at in 0..packed.len() {
            for bit in 0..8 {
                let mut wrong = packed.clone();
                wrong[at] ^= 1 << bit;
                if let Ok(out) = unpack(&wrong, 999) {
                    assert_eq!(out, plain, "bit {bit} of {at}"); // the header's free bytes, or padding
                }
            }
        }
        let behind = [&packed[..], b"\0"].concat();
        assert!(matches!(unpack(&behind, 999), Err(Inflate::Bad(_))));
        assert_eq!(
            unpack(b"m v=1, not gzip", 999),
            Err(Inflate::Bad("not gzip"))
        );
        assert!(matches!(unpack(b"", 999), Err(Inflate::Bad(_))));
    }

    #[test]
    fn a_bomb_is_stopped_at_the_bound() {
        let bomb = pack(&vec![0; 20 << 20]);
        assert!(bomb.len() < 64 << 10);
        assert_eq!(unpack(&bomb, 1 << 20), Err(Inflate::TooLarge));
        assert_eq!(unpack(&bomb, (20 << 20) - 1), Err(Inflate::TooLarge));
        assert_eq!(unpack(&bomb, 20 << 20).unwrap().len(), 20 << 20);
        let plain = pack(b"m v=1");
        assert_eq!(unpack(&plain, 4), Err(Inflate::TooLarge));
        assert_eq!(unpack(&plain, 0), Err(Inflate::TooLarge));
        assert_eq!(unpack(&pack(b""), 0).unwrap(), b"");
    }
}
