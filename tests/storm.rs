//! Seeded storms of bytes into every parser: never a panic, never a byte too many.
//!
//! Right messages are bent in a few places, since pure noise dies at its first byte. What a parser
//! still takes is held against a second, slow reading. A failing run prints its seed;
//! `SEED=<n> cargo test --test storm` repeats it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // a test fails by panicking

use std::ops::Range;

use influxdb_relay::http::body::{Chunked, Progress};
use influxdb_relay::http::header::HeaderSpace;
use influxdb_relay::http::precision::Dialect;
use influxdb_relay::http::request::{Framing, Parsed, Refusal, RequestHead};
use influxdb_relay::http::response::{AnswerFraming, AnswerHead};
use influxdb_relay::http::write_query::write_query;
use influxdb_relay::limits::HEAD_BYTES_MAX;
use proptest::prelude::{Just, any, prop_assert_eq, prop_oneof, proptest};

/// Seeds of one run, and bent messages of one seed.
const SEEDS: Range<u64> = 0..64;
const ROUNDS: usize = 400;

/// A xorshift generator: same seed, same storm.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % sides.max(1) as u64).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).unwrap_or_default()
    }

    fn pick<'a>(&mut self, from: &[&'a [u8]]) -> &'a [u8] {
        from[self.roll(from.len())]
    }

    fn span(&mut self, len: usize) -> Range<usize> {
        let (a, b) = (self.roll(len + 1), self.roll(len + 1));
        a.min(b)..a.max(b)
    }

    /// One of `right`, bent in up to four places with bytes, its own parts, or `splinters`.
    fn bend(&mut self, right: &[&[u8]], splinters: &[&[u8]]) -> Vec<u8> {
        let mut bytes = self.pick(right).to_vec();
        for _ in 0..self.roll(5) {
            let at = self.roll(bytes.len() + 1);
            let span = self.span(bytes.len());
            match self.roll(6) {
                0 if at < bytes.len() => bytes[at] = self.byte(),
                1 => bytes.insert(at, self.byte()),
                2 => drop(bytes.drain(span)),
                3 => {
                    let part = bytes[span].to_vec();
                    bytes.splice(at..at, part);
                }
                4 => bytes.truncate(at),
                _ => drop(bytes.splice(at..at, self.pick(splinters).iter().copied())),
            }
        }
        bytes
    }
}

/// Runs `round` on many dice; a panic within names the seed.
fn storm(round: impl Fn(&mut Dice)) {
    let only = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse::<u64>().ok());
    for seed in only.map_or(SEEDS, |seed| seed..seed + 1) {
        let mut dice = Dice::new(seed);
        let shown = ShownOnPanic(seed);
        for _ in 0..ROUNDS {
            round(&mut dice);
        }
        drop(shown);
    }
}

struct ShownOnPanic(u64);

impl Drop for ShownOnPanic {
    #[expect(clippy::print_stderr, reason = "a failing test says how to repeat it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with SEED={}", self.0);
        }
    }
}

const REQUESTS: &[&[u8]] = &[
    b"POST /write?db=x&precision=s HTTP/1.1\r\nHost: a:8086\r\nContent-Length: 6\r\n\r\nm v=1\n",
    b"POST /write?db=x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    b"\r\nGET http://a/ping HTTP/1.0\r\nConnection: keep-alive, X\r\nX: y\r\nContent-Encoding: gzip\r\n\r\n",
];

const SPLINTERS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b",",
    b"\x7f",
    b"\xff",
    b"\r\nContent-Length: 7",
    b"\r\ncontent-length:7",
    b"\r\nTransfer-Encoding: chunked",
    b"\r\nTRANSFER-ENCODING:chunked",
    b"\r\nHost: b",
    b"\r\nConnection: close",
    b"\r\n folded",
    b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HTTP/1.0",
    b"chunked",
    b"0",
];

/// What may stand around a value; a Unicode blank is no blank to HTTP.
const BLANKS: [char; 2] = [' ', '\t'];

/// Lower-case names and values of a head, by a second and simpler reading.
fn fields_of(head: &[u8]) -> Vec<(String, String)> {
    let text: String = head.iter().map(|&byte| char::from(byte)).collect();
    let lines = text.trim_end_matches("\r\n").split("\r\n").skip(1);
    let fields = lines.filter_map(|line| line.split_once(':'));
    fields
        .map(|(name, value)| {
            (
                name.to_ascii_lowercase(),
                value.trim_matches(BLANKS).to_ascii_lowercase(),
            )
        })
        .collect()
}

fn values<'f>(fields: &'f [(String, String)], name: &str) -> Vec<&'f str> {
    fields
        .iter()
        .filter(|field| field.0 == name)
        .map(|field| field.1.as_str())
        .collect()
}

/// No line of what is passed on is about framing, and none is more than one line.
fn assert_harmless(passed: &[u8], own: &[&str]) {
    let with_line: Vec<u8> = [b"line\r\n", passed].concat();
    for (name, value) in fields_of(&with_line) {
        assert!(!own.contains(&name.as_str()), "{name} was passed on");
        assert!(!value.contains(['\r', '\n', '\0']), "{value:?}");
    }
}

#[test]
fn bent_requests_keep_one_meaning() {
    storm(|dice| {
        let bytes = dice.bend(REQUESTS, SPLINTERS);
        let mut space = HeaderSpace::new();
        let parsed = RequestHead::parse(&bytes, &mut space, HEAD_BYTES_MAX);
        let more = [&bytes[..], dice.pick(SPLINTERS), &[dice.byte()]].concat();
        let mut space_for_more = HeaderSpace::new();
        let with_more = RequestHead::parse(&more, &mut space_for_more, HEAD_BYTES_MAX);
        match parsed {
            Parsed::Partial => {}
            Parsed::Refused(_) => {
                assert!(matches!(with_more, Parsed::Refused(_)), "{bytes:?}");
            }
            Parsed::Whole(head) => {
                assert_eq!(with_more, Parsed::Whole(head), "what follows has no say");
                let text = &bytes[..head.head_len];
                assert!(text.ends_with(b"\r\n\r\n"));
                assert!(
                    !text[2..head.head_len - 4]
                        .windows(4)
                        .any(|four| four == b"\r\n\r\n")
                );
                let cut = dice.roll(head.head_len);
                let mut space = HeaderSpace::new();
                let prefix = RequestHead::parse(&bytes[..cut], &mut space, HEAD_BYTES_MAX);
                assert_eq!(prefix, Parsed::Partial, "{:?}", &bytes[..cut]);

                let fields = fields_of(text.strip_prefix(b"\r\n").unwrap_or(text));
                let lengths = values(&fields, "content-length");
                let codings = values(&fields, "transfer-encoding");
                let framing = match (&lengths[..], &codings[..]) {
                    ([], []) => Framing::None,
                    ([length], []) => Framing::Length(length.parse().unwrap()),
                    ([], ["chunked"]) => Framing::Chunked,
                    _ => panic!("taken, with {fields:?}"),
                };
                assert_eq!(head.framing, framing);
                assert!(values(&fields, "host").len() == 1 || head.http10);
                let mut passed = Vec::new();
                head.pass_on(true, &mut passed);
                let connections = values(&fields, "connection").join(",");
                let mut own: Vec<&str> = connections
                    .split(',')
                    .map(|t| t.trim_matches(BLANKS))
                    .collect();
                own.extend(["content-length", "transfer-encoding", "host", "connection"]);
                assert_harmless(&passed, &own);
            }
        }
    });
}

#[test]
fn bent_answers_keep_one_meaning() {
    const ANSWERS: &[&[u8]] = &[
        b"HTTP/1.1 204 No Content\r\nX-Influxdb-Version: 1.8.10\r\nDate: x\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\nConnection: close\r\n\r\n{}\n{}\n",
        b"HTTP/1.0 200 OK\nTransfer-Encoding: chunked\nRetry-After: 3\n\n",
    ];
    storm(|dice| {
        let bytes = dice.bend(ANSWERS, SPLINTERS);
        let mut space = HeaderSpace::new();
        let Parsed::Whole(head) = AnswerHead::parse(&bytes, &mut space) else {
            return;
        };
        assert!(head.head_len <= bytes.len() && (100..600).contains(&head.status));
        assert!(!head.keep_alive || head.framing != AnswerFraming::UntilClose);
        let _ = head.retry_after();
        let mut passed = Vec::new();
        head.pass_on(&mut passed);
        assert_harmless(
            &passed,
            &["content-length", "transfer-encoding", "connection"],
        );
    });
}

/// All of `input`, in pieces that end at `cuts`.
fn decode(input: &[u8], cuts: &[usize], max: usize) -> Result<(Vec<u8>, Progress), Refusal> {
    let (mut chunked, mut out) = (Chunked::new(), Vec::new());
    let mut all = Progress {
        taken: 0,
        done: false,
    };
    let mut from = 0;
    for &to in cuts.iter().chain([&input.len()]) {
        let now = chunked.decode(&input[from..to], &mut out, max)?;
        assert!(
            now.taken <= to - from && out.len() <= max,
            "a byte too many"
        );
        assert!(now.taken == to - from || now.done, "a byte too few");
        all = Progress {
            taken: all.taken + now.taken,
            done: now.done,
        };
        from = to;
    }
    Ok((out, all))
}

#[test]
fn bent_chunks_decode_the_same_however_they_are_cut() {
    const BODIES: &[&[u8]] = &[
        b"6\r\nm v=1\n\r\nA;a=\"b c\"\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
        b"1\r\na\r\n1\r\nb\r\n000\r\n\r\nPOST /next",
    ];
    const CHUNK_SPLINTERS: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r",
        b"0\r\n",
        b"ffffffffffffffff",
        b";",
        b" ",
        b"-",
        b"+",
        b"0x",
        b"_",
        b"\0",
    ];
    storm(|dice| {
        let input = dice.bend(BODIES, CHUNK_SPLINTERS);
        let max = dice.roll(40);
        let mut cuts: Vec<usize> = (0..dice.roll(8))
            .map(|_| dice.roll(input.len() + 1))
            .collect();
        cuts.sort_unstable();
        assert_eq!(
            decode(&input, &cuts, max),
            decode(&input, &[], max),
            "{input:?} at {cuts:?}"
        );
    });
}

#[test]
fn a_rewritten_query_is_rewritten_to_itself() {
    const QUERIES: &[&[u8]] = &[
        b"db=a&rp=b&precision=us&consistency=&u=x&p=%2F+y",
        b"precision=%C2%B5s&d%62=x&rp=&foo&db=",
        b"org=o&bucket=b&precision=second",
    ];
    const QUERY_SPLINTERS: &[&[u8]] = &[
        b"&",
        b"=",
        b";",
        b"%",
        b"%4",
        b"%zz",
        b"+",
        b"&rp",
        b"&db=",
        b"precision=",
        b"ms",
        b"\xff",
    ];
    storm(|dice| {
        let query = dice.bend(QUERIES, QUERY_SPLINTERS);
        let dialect = [Dialect::V1, Dialect::V2, Dialect::V3][dice.roll(3)];
        let rp = [None, Some("a b"), Some("autogen")][dice.roll(3)];
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        let Ok(read) = write_query(&query, dialect, rp, &mut once) else {
            return;
        };
        assert_eq!(
            write_query(&once, dialect, rp, &mut twice),
            Ok(read),
            "{query:?}"
        );
        assert_eq!(once, twice, "{query:?}");
    });
}

proptest! {
    #[test]
    fn what_is_chunked_comes_back(chunks: Vec<Vec<u8>>, rest: Vec<u8>, seed: u64) {
        let mut input = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            input.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            input.extend_from_slice(chunk);
            input.extend_from_slice(b"\r\n");
        }
        input.extend_from_slice(b"0\r\n\r\n");
        let taken = input.len();
        input.extend_from_slice(&rest);
        let body = chunks.concat();
        let mut dice = Dice::new(seed);
        let mut cuts = [dice.roll(taken), dice.roll(taken)];
        cuts.sort_unstable();
        let want = Ok((body.clone(), Progress { taken, done: true }));
        prop_assert_eq!(decode(&input, &cuts, body.len()), want);
    }

    #[test]
    fn noise_never_panics(noise: Vec<u8>, start in prop_oneof![Just(""), Just("GET / HTTP/1.1\r\n"), Just("HTTP/1.1 200 OK\r\n")], max in any::<u16>()) {
        let bytes = [start.as_bytes(), &noise].concat();
        let _ = RequestHead::parse(&bytes, &mut HeaderSpace::new(), usize::from(max));
        let _ = AnswerHead::parse(&bytes, &mut HeaderSpace::new());
        let _ = Chunked::new().decode(&bytes, &mut Vec::new(), usize::from(max));
        let _ = write_query(&bytes, Dialect::V1, Some("x"), &mut Vec::new());
    }
}
