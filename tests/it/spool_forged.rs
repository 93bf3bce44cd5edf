//! Clients that post bodies which are records of a log: nothing of them is ever sent as if the relay had kept it.

use std::fs;

use crate::client::{ask, until};
use crate::reload::{Filed, config};
use crate::spool_site::{Folder, Site};
use crate::store::Store;

/// A whole record as a client can make it: right magic, lengths and CRC32C, for both backends.
struct Forged {
    kind: u8,
    query: &'static str,
    body: &'static str,
}

const STATEMENT: Forged = Forged {
    kind: 4,
    query: "db=victim&q=DROP+DATABASE+victim",
    body: "",
};
const WRITE: Forged = Forged {
    kind: 0,
    query: "db=victim",
    body: "stolen v=1 1",
};

/// The sequences that forged records claim: some of them follow what a log holds.
const SEQUENCES: [u64; 6] = [0, 1, 5, 60, 200, 1 << 40];

impl Forged {
    /// In the first format, whose head begins with its state and has no nonce.
    fn old(&self, sequence: u64) -> Vec<u8> {
        let mut record = vec![0; 56];
        record[..4].copy_from_slice(b"KEPT");
        record[12] = self.kind;
        record[14] = 2;
        record[16..24].copy_from_slice(&sequence.to_le_bytes());
        record[24..32].copy_from_slice(&(1_u64 << 60).to_le_bytes());
        record[40..44].copy_from_slice(&u32::try_from(self.query.len()).unwrap().to_le_bytes());
        record[52..56].copy_from_slice(&u32::try_from(self.body.len()).unwrap().to_le_bytes());
        record.extend_from_slice(&[0, 0, 1, 0]);
        record.extend_from_slice(self.query.as_bytes());
        record.extend_from_slice(self.body.as_bytes());
        record.resize(record.len().next_multiple_of(8), 0);
        let length = u32::try_from(record.len()).unwrap();
        record[8..12].copy_from_slice(&length.to_le_bytes());
        let sum = crc32c::crc32c(&record[8..]);
        record[4..8].copy_from_slice(&sum.to_le_bytes());
        record
    }

    /// In the format of today, with a nonce that is guessed.
    fn renewed(&self, sequence: u64) -> Vec<u8> {
        let mut record = vec![0; 96];
        record[..4].copy_from_slice(b"KEPT");
        record[44] = self.kind;
        record[46] = 2;
        record[48..56].copy_from_slice(&sequence.to_le_bytes());
        record[56..64].copy_from_slice(&(1_u64 << 60).to_le_bytes());
        record[72..76].copy_from_slice(&u32::try_from(self.query.len()).unwrap().to_le_bytes());
        record[84..88].copy_from_slice(&u32::try_from(self.body.len()).unwrap().to_le_bytes());
        record.extend_from_slice(&[0, 0, 1, 0]);
        record.extend_from_slice(self.query.as_bytes());
        record.extend_from_slice(self.body.as_bytes());
        record.resize(record.len().next_multiple_of(8), 0);
        let length = u32::try_from(record.len()).unwrap();
        record[40..44].copy_from_slice(&length.to_le_bytes());
        let head_sum = crc32c::crc32c(&record[24..88]);
        record[88..92].copy_from_slice(&head_sum.to_le_bytes());
        let sum = crc32c::crc32c(&record[24..]);
        record[4..8].copy_from_slice(&sum.to_le_bytes());
        record
    }
}

/// A body that is a comment line of whole records, behind so many bytes that one of eight bodies has them aligned.
fn body(pad: usize) -> Vec<u8> {
    let mut body = vec![b'#'; 1 + pad];
    for sequence in SEQUENCES {
        for forged in [STATEMENT, WRITE] {
            body.extend(forged.old(sequence));
            body.extend(forged.renewed(sequence));
        }
    }
    // Newlines within would end the comment.
    body.extend_from_slice(b"\nm v=1i 1\n");
    body
}

/// Posts such bodies, and plain ones between them.
fn attack(http: &str, rounds: usize) {
    for round in 0..rounds {
        for pad in 0..8 {
            let answer = ask(http, "POST", "/write?db=a", "", &body(pad));
            assert!(answer.status < 500, "{answer:?}");
            let line = format!("plain,n={round} v=1i {pad}");
            assert_eq!(
                ask(http, "POST", "/write?db=a", "", line.as_bytes()).status,
                204
            );
        }
    }
}

/// Nothing came that no client asked for.
fn is_clean(store: &Store) {
    for seen in store.seen() {
        assert!(!seen.head.contains("victim"), "{}", seen.head);
        assert!(!seen.head.contains("/query"), "{}", seen.head);
    }
}

/// So small that files are written again and again.
const SMALL: (&str, &str) = ("RELAY_SPOOL_SEGMENT_SIZE", "64KiB");

#[test]
fn spool_takes_no_body_for_records_after_a_kill_with_all_backends_well() {
    let (a, b) = (Store::new(), Store::new());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[SMALL]);
    for round in 0..3 {
        attack(&site.http, 12);
        site.kill();
        site.start();
        let last = format!("last v=1i {round}");
        site.write(&last);
        until("both have what came last", || {
            [&a, &b]
                .iter()
                .all(|store| store.value(&format!("last {round}")).is_some())
        });
    }
    is_clean(&a);
    is_clean(&b);
}

#[test]
fn spool_takes_no_body_for_records_after_an_end_with_one_backend_away() {
    let (a, mut b) = (Store::new(), Store::new());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[SMALL]);
    attack(&site.http, 12); // files are written again and again
    b.stop();
    attack(&site.http, 1);
    site.term();
    site.start();
    attack(&site.http, 1);
    b.start();
    site.level("b");
    site.write("last v=1i 1");
    until("b has what came last", || b.value("last 1").is_some());
    is_clean(&a);
    is_clean(&b);
}

#[test]
fn spool_takes_no_body_for_records_after_a_reload_that_adds_an_output() {
    let (a, b, c) = (Store::new(), Store::new(), Store::new());
    let folder = Folder::new();
    let spool = format!(
        "spool.dir = \"{}\"\nspool.segment-size = \"64KiB\"",
        folder.path().display()
    );
    let before = config(&spool, &[("a", &a.address), ("b", &b.address)]);
    let after = config(
        &spool,
        &[("a", &a.address), ("b", &b.address), ("c", &c.address)],
    );
    let site = Filed::start(&before);
    for round in 0..3 {
        attack(&site.relay.http, 12);
        site.becomes(&after);
        attack(&site.relay.http, 1);
        until("all have what came last", || {
            [&a, &b, &c].iter().all(|store| store.seen().len() > round)
        });
        site.becomes(&before);
    }
    is_clean(&a);
    is_clean(&b);
    is_clean(&c);
}

/// A disk that flips one bit in the head of a record whose body holds others, without any reuse of a file.
#[test]
fn spool_takes_no_body_for_records_where_a_bit_has_flipped() {
    for bit in [4_usize * 8, 9 * 8, 26 * 8, 41 * 8, 50 * 8, 89 * 8] {
        let (a, mut b) = (Store::new(), Store::away());
        let mut site = Site::new(&[("a", &a), ("b", &b)], &[("RELAY_CPUS", "0")]);
        site.write("first v=1i 1");
        for pad in 0..8 {
            ask(&site.http, "POST", "/write?db=a", "", &body(pad));
        }
        site.write("behind v=1i 1");
        site.kill();
        for path in site.folder.files(".seg") {
            let mut bytes = fs::read(&path).unwrap();
            // The records around the forged ones: their bodies begin with `#`.
            let heads: Vec<usize> = (0..bytes.len() - 4)
                .step_by(8)
                .filter(|&at| bytes[at..].starts_with(b"KEPT"))
                .filter(|&at| {
                    let rest = &bytes[at..(at + 200).min(bytes.len())];
                    rest.windows(6)
                        .any(|part| part == b"db=a#K" || part == b"db=a##")
                })
                .collect();
            for at in heads {
                bytes[at + bit / 8] ^= 1 << (bit % 8);
            }
            fs::write(path, bytes).unwrap();
        }
        site.start();
        b.start();
        until("b has what is whole", || b.value("behind 1").is_some());
        is_clean(&a);
        is_clean(&b);
    }
}
