//! A body, to the gzip that stands for it, piece by piece. Pure.
//!
//! It is the other way of `gzip`: fast, not small. Level 6 takes five times the time of level 1, for two
//! thirds of its bytes.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::limits::beside::COMPRESSED_KEEP_BYTES;

/// Compresses bodies, one after the other. One per shard: its state has some 300 KiB, from the first body on.
#[derive(Default)]
pub struct Deflater {
    state: Option<Compress>,
    crc: Crc,
    out: Vec<u8>,
    is_ill: bool,
}

impl Deflater {
    /// Begins a body; what became of the last one is forgotten. Allocates the first time, and after a large
    /// body.
    pub fn begin(&mut self) {
        match &mut self.state {
            Some(state) => state.reset(),
            None => self.state = Some(Compress::new(Compression::fast(), false)),
        }
        self.crc.reset();
        self.is_ill = false;
        if self.out.capacity() > COMPRESSED_KEEP_BYTES {
            self.out = Vec::new();
        }
        self.out.clear();
        self.out.extend_from_slice(&HEADER);
    }

    /// The next piece of the body.
    pub fn push(&mut self, piece: &[u8]) {
        self.crc.update(piece);
        self.run(piece, FlushCompress::None);
    }

    /// All that was pushed, compressed; `None` if the compressor broke down.
    pub fn finish(&mut self) -> Option<&[u8]> {
        self.run(&[], FlushCompress::Finish);
        self.out.extend_from_slice(&self.crc.sum().to_le_bytes());
        self.out.extend_from_slice(&self.crc.amount().to_le_bytes());
        (!self.is_ill).then_some(&self.out)
    }

    fn run(&mut self, mut piece: &[u8], flush: FlushCompress) {
        let Some(state) = &mut self.state else {
            self.is_ill = true;
            return;
        };
        loop {
            if self.out.len() == self.out.capacity() {
                self.out.reserve(piece.len().max(MORE));
            }
            let before = state.total_in();
            let Ok(status) = state.compress_vec(piece, &mut self.out, flush) else {
                self.is_ill = true;
                return;
            };
            let taken = usize::try_from(state.total_in() - before).unwrap_or(usize::MAX);
            piece = piece.get(taken..).unwrap_or_default();
            let is_done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => piece.is_empty(),
            };
            if is_done {
                return;
            }
        }
    }
}

/// RFC 1952, 2.3: deflate, no name, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// Room that is made where there is none left.
const MORE: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::Deflater;
    use crate::payload::gzip::Inflater;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        };
        (0..bytes).map(|_| next()).collect()
    }

    #[test]
    fn what_was_pushed_comes_out_again_whatever_the_pieces() {
        let mut deflater = Deflater::default();
        let mut inflater = Inflater::new();
        let lines = b"cpu,host=a load=0.64 1700000000000000000\n".repeat(5000);
        let junk = noise(300_000);
        for body in [&b""[..], b"x", &lines, &junk] {
            for pieces in [1, 7, 4096, usize::MAX] {
                deflater.begin();
                for piece in body.chunks(pieces.min(body.len().max(1))) {
                    if pieces == 1 && body.len() > 4096 {
                        continue; // slow, and no other case
                    }
                    deflater.push(piece);
                }
                let packed = deflater.finish().unwrap();
                let mut out = Vec::new();
                inflater.inflate(packed, &mut out, body.len()).unwrap();
                if pieces > 1 || body.len() <= 4096 {
                    assert_eq!(out, body, "{} bytes by {pieces}", body.len());
                }
            }
        }
        deflater.begin();
        deflater.push(&lines);
        let packed = deflater.finish().unwrap().len();
        assert!(packed < lines.len() / 20, "{packed}");
    }

    #[test]
    fn without_a_beginning_there_is_no_body() {
        let mut deflater = Deflater::default();
        deflater.push(b"x");
        assert_eq!(deflater.finish(), None);
    }
}
