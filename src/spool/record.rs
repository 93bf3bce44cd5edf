//! One record of a log, as bytes and as a type. Pure.
//!
//! ```text
//!   0  4  state: `KEPT`, or `VOID` once the write was refused to its client (outside both checksums)
//!   4  4  CRC32C of all from byte 24 on
//!   8  8  acceptances: bit `i` is set once target `i` has accepted the write (outside both checksums)
//!  16  8  the complement of the acceptances; where it is not, no acceptance counts
//!  24 16  the nonce of the segment
//!  40  4  bytes of the record, this head included, a multiple of 8
//!  44  1  kind of write          45  1  flags: 1 = may be joined with others
//!  46  2  count of targets
//!  48  8  sequence in its log    56  8  order in its run, nanoseconds    64  8  wall clock, milliseconds
//!  72  4  bytes of the query     76  4  of the headers   80  4  of the credentials   84  4  of the body
//!  88  4  CRC32C of bytes 24 to 88            92  4  zero
//!  96     targets, two bytes each: indices into the log's names; query, headers, credentials, body;
//!         zeros up to the next multiple of 8
//! ```
//!
//! All numbers are little endian. Bytes from a disk are never trusted: whatever does not add up is damage, and the
//! reader goes on behind it.
//!
//! # Why nothing that a client sends is read as a record
//!
//! Clients choose bodies, and a body may hold the bytes of whole records. A record counts only if its head holds the
//! nonce of its segment: 128 bits from the kernel's random numbers, drawn when a file becomes a segment and again each
//! time that the file is written anew. The nonce stands in the file and nowhere else: it is not logged, shown,
//! exported or sent. So a body cannot hold it, but by a guess of 2⁻¹²⁸; what a file held when it was another segment
//! has another nonce; and a reader that looks for the next record behind damage looks for the nonce, so it cannot stop
//! inside a body. A checksum alone would not do: it is no secret.
//!
//! The head has a checksum of its own, so that a length counts only as it was written: bytes are read and summed once,
//! however many of them claim to begin something.
//!
//! State and acceptances are written in place as answers arrive, so they stand outside the checksums. A kill or a
//! power cut between the two halves of the acceptances leaves none: the write is then sent once more.

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};
use memchr::memmem;

/// The secret of one segment, which its records hold and nothing else does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; Self::BYTES]);

impl Nonce {
    /// Bytes of it.
    pub const BYTES: usize = 16;
}

impl fmt::Debug for Nonce {
    /// Nothing of it: it is a secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Nonce(..)")
    }
}

/// What the bytes at one place amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<'a> {
    /// A whole record.
    Record(Record<'a>),
    /// Nothing was ever written here.
    End,
    /// The record goes on past the bytes at hand; it says that it has so many.
    Partial(usize),
    /// A record that is not as it was written, with so many bytes: its head is whole.
    Spoiled(usize),
    /// No record of this segment, or one whose head is damaged.
    Damaged,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Whether the write was refused to its client, so that nobody is owed it.
    pub void: bool,
    /// Its place in its log.
    pub sequence: u64,
    /// Its place among the records of all shards of its run.
    pub order: u64,
    /// When it was kept: milliseconds since 1970.
    pub wall_ms: u64,
    /// The targets that have accepted it: bit `i` is target `i`.
    pub accepted: u64,
    /// What was written.
    pub parts: Parts<'a>,
    /// Bytes on disk.
    pub bytes: usize,
}

/// What a write consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Which endpoint, as a number.
    pub kind: u8,
    /// Whether the body is whole lines and may be joined with others by a newline.
    pub joinable: bool,
    /// Which backends it is for: indices into the log's names, two little-endian bytes each.
    pub targets: &'a [u8],
    /// The query, without `?`.
    pub query: &'a [u8],
    /// Header lines, each with its CRLF.
    pub headers: &'a [u8],
    /// The client's `Authorization`.
    pub authorization: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// Bytes before the targets.
pub const HEAD_BYTES: usize = 96;
/// Where a record holds its acceptances: see [`acceptances`].
pub const ACCEPTED_AT: u64 = 8;
/// Where a head holds the nonce; from here on the checksums cover it.
const NONCE_AT: usize = 24;
const LENGTH_AT: usize = 40;
/// Where a head holds its own checksum, of all from the nonce on.
const HEAD_SUM_AT: usize = 88;
const KEPT: &[u8; 4] = b"KEPT";
/// What replaces the state of a record that was refused to its client.
pub const VOID: &[u8; 4] = b"VOID";
/// Records begin at multiples of this, behind the head of their segment.
pub const ALIGN: usize = 8;

impl Parts<'_> {
    /// Bytes that a record of these parts has on disk.
    pub fn record_bytes(&self) -> usize {
        let bytes = HEAD_BYTES
            + self.targets.len()
            + self.query.len()
            + self.headers.len()
            + self.authorization.len()
            + self.body.len();
        bytes.next_multiple_of(ALIGN)
    }

    /// Whether backend number `name` is among the targets.
    pub fn is_for(&self, name: usize) -> bool {
        self.target_of(name).is_some()
    }

    /// The place of backend number `name` among the targets.
    fn target_of(&self, name: usize) -> Option<usize> {
        let is = |pair: &[u8]| usize::from(u16::from_le_bytes([pair[0], pair[1]])) == name;
        self.targets.chunks_exact(2).position(is)
    }
}

impl Record<'_> {
    /// Whether backend number `name` is to have it and has not accepted it.
    pub fn is_lacked_by(&self, name: usize) -> bool {
        let target = self.parts.target_of(name).filter(|_| !self.void);
        target.is_some_and(|target| target >= 64 || self.accepted >> target & 1 == 0)
    }
}

/// The bytes that stand for these acceptances at [`ACCEPTED_AT`].
pub fn acceptances(accepted: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&accepted.to_le_bytes());
    bytes[8..].copy_from_slice(&(!accepted).to_le_bytes());
    bytes
}

/// Appends a record whose order and time [`seal`] will fill in; what is too long for its field is
/// the caller's bug.
pub fn encode(out: &mut Vec<u8>, sequence: u64, parts: &Parts<'_>) {
    let start = out.len();
    encode_head(out, sequence, parts);
    out.extend_from_slice(parts.body);
    out.resize(start + parts.record_bytes(), 0);
}

/// Appends a record but for its body and the zeros behind it: [`seal_around`] will fill in the rest.
pub fn encode_head(out: &mut Vec<u8>, sequence: u64, parts: &Parts<'_>) {
    out.extend_from_slice(KEPT);
    out.extend_from_slice(&[0; LENGTH_AT - 4]);
    put_length(out, parts.record_bytes());
    out.push(parts.kind);
    out.push(u8::from(parts.joinable));
    let targets = u16::try_from(parts.targets.len() / 2).expect("as many as there are names");
    out.extend_from_slice(&targets.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&[0; 16]);
    let before_body = [parts.query, parts.headers, parts.authorization];
    for piece in before_body {
        put_length(out, piece.len());
    }
    put_length(out, parts.body.len());
    out.extend_from_slice(&[0; HEAD_BYTES - HEAD_SUM_AT]);
    out.extend_from_slice(parts.targets);
    for piece in before_body {
        out.extend_from_slice(piece);
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("limits: no body reaches 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
}

/// Makes the encoded record at the start of `record` one of the segment with this nonce: dates it, and makes its
/// checksums. Its bytes.
pub fn seal(record: &mut [u8], nonce: Nonce, order: u64, wall_ms: u64) -> usize {
    let bytes = bytes_of(record);
    seal_around(&mut record[..bytes], &[], nonce, order, wall_ms);
    bytes
}

/// The same for a record that [`encode_head`] has begun and that goes on with `body`. The zeros that
/// belong behind that.
pub fn seal_around(
    head: &mut [u8],
    body: &[u8],
    nonce: Nonce,
    order: u64,
    wall_ms: u64,
) -> &'static [u8] {
    head[NONCE_AT..LENGTH_AT].copy_from_slice(&nonce.0);
    head[56..64].copy_from_slice(&order.to_le_bytes());
    head[64..72].copy_from_slice(&wall_ms.to_le_bytes());
    let head_sum = checksum([&head[NONCE_AT..HEAD_SUM_AT]]);
    head[HEAD_SUM_AT..HEAD_SUM_AT + 4].copy_from_slice(&head_sum.to_le_bytes());
    let bytes = head.len() + body.len();
    let zeros = &[0; ALIGN][..bytes.next_multiple_of(ALIGN) - bytes];
    let sum = checksum([&head[NONCE_AT..], body, zeros]);
    head[4..8].copy_from_slice(&sum.to_le_bytes());
    zeros
}

/// CRC32C (RFC 3720, appendix B.4) of the pieces, one behind the other.
pub fn checksum<const N: usize>(pieces: [&[u8]; N]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    pieces.iter().for_each(|piece| digest.update(piece));
    u32::try_from(digest.finalize()).expect("32 bits")
}

/// Bytes of the encoded record at the start of `record`.
pub fn bytes_of(record: &[u8]) -> usize {
    usize_at(record, LENGTH_AT)
}

/// Reads what begins at the start of `bytes`, in the segment with this nonce; a record of more than `bytes_max` is
/// damage.
pub fn decode(bytes: &[u8], nonce: Nonce, bytes_max: usize) -> Found<'_> {
    read(bytes, nonce, bytes_max, true)
}

/// Reads again a record that [`decode`] has found whole, without its checksums.
pub fn decode_again(bytes: &[u8], nonce: Nonce) -> Found<'_> {
    read(bytes, nonce, usize::MAX, false)
}

fn read(bytes: &[u8], nonce: Nonce, bytes_max: usize, check: bool) -> Found<'_> {
    let Some(head) = bytes.get(..HEAD_BYTES) else {
        return match bytes.iter().all(|&byte| byte == 0) {
            true => Found::End,
            false => Found::Partial(HEAD_BYTES),
        };
    };
    if head[NONCE_AT..LENGTH_AT] != nonce.0 {
        return match head.iter().all(|&byte| byte == 0) {
            true => Found::End,
            false => Found::Damaged,
        };
    }
    if check && checksum([&head[NONCE_AT..HEAD_SUM_AT]]) != u32_at(head, HEAD_SUM_AT) {
        return Found::Damaged;
    }
    let length = bytes_of(head);
    if length < HEAD_BYTES || !length.is_multiple_of(ALIGN) || length > bytes_max {
        return Found::Damaged;
    }
    let Some(whole) = bytes.get(..length) else {
        return Found::Partial(length);
    };
    let void = match &head[..4] {
        state if state == KEPT => false,
        state if state == VOID => true,
        _ => return Found::Spoiled(length),
    };
    if check && checksum([&whole[NONCE_AT..]]) != u32_at(head, 4) {
        return Found::Spoiled(length);
    }
    let lengths = [
        2 * usize::from(u16::from_le_bytes([head[46], head[47]])),
        usize_at(head, 72),
        usize_at(head, 76),
        usize_at(head, 80),
        usize_at(head, 84),
    ];
    let mut rest = &whole[HEAD_BYTES..];
    let mut pieces = [&[][..]; 5];
    for (piece, length) in pieces.iter_mut().zip(lengths) {
        let Some((taken, left)) = rest.split_at_checked(length) else {
            return Found::Spoiled(length);
        };
        (*piece, rest) = (taken, left);
    }
    let [targets, query, headers, authorization, body] = pieces;
    let (accepted, complement) = (u64_at(head, 8), u64_at(head, 16));
    Found::Record(Record {
        void,
        sequence: u64_at(head, 48),
        order: u64_at(head, 56),
        wall_ms: u64_at(head, 64),
        accepted: if accepted == !complement { accepted } else { 0 },
        parts: Parts {
            kind: head[44],
            joinable: head[45] & 1 != 0,
            targets,
            query,
            headers,
            authorization,
            body,
        },
        bytes: length,
    })
}

/// Whether a record of the segment with this nonce was begun at the start of `bytes`, whole or not.
pub fn is_begun(bytes: &[u8], nonce: Nonce) -> bool {
    bytes.get(NONCE_AT..LENGTH_AT) == Some(&nonce.0)
}

/// Where, behind what is no record, the next one of the segment may begin: where its nonce stands. `None` where it
/// stands nowhere in `bytes`; the last [`HEAD_BYTES`] of them may hold a part of it.
pub fn candidate(bytes: &[u8], nonce: Nonce) -> Option<usize> {
    let from = ALIGN + NONCE_AT;
    let places = memmem::find_iter(bytes.get(from..)?, &nonce.0);
    let mut starts = places.map(|at| ALIGN + at);
    starts.find(|start| start.is_multiple_of(ALIGN))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn usize_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u32_at(bytes, at)).unwrap_or(usize::MAX)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let low = u64::from(u32_at(bytes, at));
    low | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::{
        Found, LENGTH_AT, Nonce, Parts, VOID, acceptances, candidate, checksum, decode, encode,
        encode_head, seal, seal_around,
    };

    const MAX: usize = 1 << 20;
    const NONCE: Nonce = Nonce(*b"0123456789abcdef");

    fn parts() -> Parts<'static> {
        Parts {
            kind: 2,
            joinable: true,
            targets: &[0, 0, 7, 1],
            query: b"db=x",
            headers: b"A: b\r\n",
            authorization: b"Basic eA==",
            body: b"cpu load=1 2\n",
        }
    }

    fn record(sequence: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, sequence, &parts());
        assert_eq!(seal(&mut out, NONCE, 11, 12), out.len());
        out
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = record(9);
        let Found::Record(read) = decode(&bytes, NONCE, MAX) else {
            panic!("a record");
        };
        assert_eq!((read.sequence, read.order, read.wall_ms), (9, 11, 12));
        assert_eq!(read.parts, parts());
        assert_eq!(read.bytes, bytes.len());
        assert!(read.parts.is_for(0) && read.parts.is_for(263) && !read.parts.is_for(7));
        assert!(!read.void);
    }

    #[test]
    fn around_its_body_a_record_is_the_same() {
        for cut in 0..=parts().body.len() {
            let mut parts = parts();
            parts.body = &parts.body[..cut];
            let mut whole = Vec::new();
            encode(&mut whole, 9, &parts);
            seal(&mut whole, NONCE, 11, 12);
            let mut head = Vec::new();
            encode_head(&mut head, 9, &parts);
            let zeros = seal_around(&mut head, parts.body, NONCE, 11, 12);
            assert_eq!([&head, parts.body, zeros].concat(), whole, "{cut} bytes");
        }
    }

    #[test]
    fn the_checksum_is_crc32c() {
        // RFC 3720, appendix B.4: 32 zeros, 32 ones, and the check value of the catalogue.
        assert_eq!(checksum([&[0; 32]]), 0x8a91_36aa);
        assert_eq!(checksum([&[0xff; 16], &[0xff; 16]]), 0x62a8_ab43);
        assert_eq!(checksum([&b"1234"[..], b"", b"56789"]), 0xe306_9283);
    }

    #[test]
    fn voiding_changes_nothing_else() {
        let mut bytes = record(9);
        bytes[..4].copy_from_slice(VOID);
        let Found::Record(read) = decode(&bytes, NONCE, MAX) else {
            panic!("a record");
        };
        assert!(read.void);
        assert_eq!(read.parts, parts());
    }

    #[test]
    fn acceptances_count_only_as_they_were_written() {
        let mut bytes = record(9);
        let lacked = |bytes: &[u8], name| match decode(bytes, NONCE, MAX) {
            Found::Record(read) => read.is_lacked_by(name),
            other => panic!("{other:?}"),
        };
        assert!(lacked(&bytes, 0) && lacked(&bytes, 263) && !lacked(&bytes, 7));
        bytes[8..24].copy_from_slice(&acceptances(0b10));
        assert!(lacked(&bytes, 0) && !lacked(&bytes, 263));
        for bit in 64..192 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(lacked(&wrong, 0) && lacked(&wrong, 263), "bit {bit}");
        }
        bytes[..4].copy_from_slice(VOID);
        assert!(!lacked(&bytes, 0), "nobody is owed it");
    }

    #[test]
    fn every_prefix_is_partial_and_every_flipped_bit_is_damage() {
        let bytes = record(1);
        for cut in 1..bytes.len() {
            assert!(
                matches!(decode(&bytes[..cut], NONCE, MAX), Found::Partial(_)),
                "cut at {cut}"
            );
        }
        let in_place = |bit: &usize| (64..192).contains(bit); // acceptances have a complement
        for bit in (0..bytes.len() * 8).filter(|bit| !in_place(bit)) {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let found = decode(&wrong, NONCE, MAX);
            assert!(
                matches!(found, Found::Damaged | Found::Spoiled(_)),
                "bit {bit}: {found:?}"
            );
        }
        assert_eq!(decode(&[0; 128], NONCE, MAX), Found::End);
        assert_eq!(decode(&[], NONCE, MAX), Found::End);
        assert_eq!(decode(&bytes, NONCE, bytes.len() - 8), Found::Damaged);
    }

    #[test]
    fn the_next_record_is_found_behind_damage_and_never_inside_a_body() {
        let one = record(1).len();
        let mut bytes = [record(1), record(2)].concat();
        bytes[LENGTH_AT] ^= 0xff;
        assert_eq!(decode(&bytes, NONCE, MAX), Found::Damaged);
        assert_eq!(candidate(&bytes, NONCE), Some(one));
        assert_eq!(candidate(&bytes[..one], NONCE), None);
        assert_eq!(candidate(&bytes[..one + 16], NONCE), None, "a part of it");
        // A body that holds whole records, at each alignment, of a nonce that somebody guessed.
        for pad in 0..8 {
            let mut forged = Vec::new();
            encode(&mut forged, 7, &parts());
            seal(&mut forged, Nonce([7; 16]), 11, 12);
            let body = [&vec![b' '; pad][..], &forged, &forged].concat();
            let mut outer = Vec::new();
            encode(
                &mut outer,
                1,
                &Parts {
                    body: &body,
                    ..parts()
                },
            );
            seal(&mut outer, NONCE, 11, 12);
            outer[LENGTH_AT] ^= 1;
            let at = outer.len();
            outer.extend(record(2));
            assert_eq!(candidate(&outer, NONCE), Some(at), "{pad} bytes before it");
        }
    }

    #[test]
    fn a_body_that_is_damaged_is_passed_by_its_length() {
        let mut bytes = record(1);
        let end = bytes.len();
        bytes[end - 1] ^= 1;
        assert_eq!(decode(&bytes, NONCE, MAX), Found::Spoiled(end));
        assert_eq!(decode(&record(1), Nonce([0; 16]), MAX), Found::Damaged);
        assert_eq!(format!("{NONCE:?}"), "Nonce(..)");
    }
}
