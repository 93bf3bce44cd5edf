//! The judge of UDP lines before a real `influxd`: what it calls a point is taken, what it calls none
//! is refused, line by line.
//!
//! Three sources: a table, recorded bodies, and a seeded storm of bent lines. A failing run prints its
//! seed; `SEED=<n> cargo test --test it udp_judge` repeats it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::Path;

use influxdb_relay::limits::UNSORTED_TAGS_MAX;
use influxdb_relay::payload::judge::{Line, judge};

use crate::influxd::Influxd;

/// Precisions of `/write`, and their nanoseconds.
const UNITS: [(&str, i64); 6] = [
    ("n", 1),
    ("u", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
const BENT_LINES: usize = 6_000;

/// What a server makes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Taken,
    /// Read, but not stored, without harm to others: a field of two types, or named `time`.
    Dropped,
    Refused,
}

/// A server, and one connection to it.
struct Court {
    server: Influxd,
    stream: BufReader<TcpStream>,
    databases: usize,
    asked: usize,
    stricter: usize,
    wrong: String,
}

impl Court {
    fn open(test: &str) -> Option<Self> {
        let Some(server) = Influxd::start(test) else {
            eprintln!("skipped: the judge of UDP lines was not held against a real influxd");
            return None;
        };
        let stream = TcpStream::connect(&server.address).unwrap();
        let mut court = Self {
            server,
            stream: BufReader::new(stream),
            databases: 0,
            asked: 0,
            stricter: 0,
            wrong: String::new(),
        };
        court.new_database();
        Some(court)
    }

    /// One with shards that hold centuries: times are wild here, and a shard takes its time to make.
    fn new_database(&mut self) -> String {
        self.databases += 1;
        let name = format!("d{}", self.databases);
        let made = self.server.query(&format!(
            "CREATE DATABASE {name} WITH DURATION INF SHARD DURATION 5000w"
        ));
        assert_eq!(made.status, 200, "{made:?}");
        name
    }

    fn write(&mut self, database: &str, unit: &str, body: &[u8]) -> (u16, String) {
        let head = format!(
            "POST /write?db={database}&precision={unit} HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let shown = String::from_utf8_lossy(body).into_owned();
        // A header repeats the line, whatever its bytes.
        let (mut status, mut length, mut is_chunked) = (0, 0, false);
        loop {
            let mut line = Vec::new();
            self.stream.read_until(b'\n', &mut line).unwrap();
            let line = String::from_utf8_lossy(&line);
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = line.strip_prefix("Content-Length: ") {
                length = rest.trim_end().parse().unwrap();
            } else if line.starts_with("Transfer-Encoding: chunked") {
                is_chunked = true;
            } else if line == "\r\n" {
                break;
            }
            assert!(!line.is_empty(), "no answer to {shown:?}");
        }
        let mut why = Vec::new();
        loop {
            if is_chunked {
                let mut line = String::new();
                self.stream.read_line(&mut line).unwrap();
                length = usize::from_str_radix(line.trim_end(), 16).unwrap() + 2;
            }
            let mut part = vec![0; length];
            self.stream.read_exact(&mut part).unwrap();
            why.append(&mut part);
            if !is_chunked || length == 2 {
                break;
            }
        }
        (status, String::from_utf8_lossy(&why).into_owned())
    }

    /// What the server makes of the bytes, and why.
    fn ask(&mut self, unit: &str, body: &[u8]) -> (Heard, String) {
        // A name that is not UTF-8 fails every later write with a new name: not where others are asked.
        let mut database = "d1".to_owned();
        if std::str::from_utf8(body).is_err() {
            database = self.new_database();
        }
        let (mut status, mut why) = self.write(&database, unit, body);
        if status == 400 && why.contains("field type conflict") {
            // An earlier line was of another type. Without it the line might fail otherwise.
            let fresh = self.new_database();
            (status, why) = self.write(&fresh, unit, body);
        }
        let heard = match status {
            204 => Heard::Taken,
            400 if why.contains("unable to parse") => Heard::Refused,
            400 if why.contains("partial write") || why.contains("field type conflict") => {
                Heard::Dropped
            }
            500 if why.contains("invalid UTF-8") || why.contains("engine: ") => Heard::Refused,
            _ => panic!("{status} {why:?} to {:?}", String::from_utf8_lossy(body)),
        };
        (heard, why)
    }

    /// Holds one line against the server.
    fn hold(&mut self, unit: (&str, i64), line: &[u8], verdict: Line) {
        match verdict {
            Line::Poison => return,
            Line::Nothing if line.ends_with(b"\r") => return, // blank but for that; sent nowhere
            _ => {}
        }
        let (heard, why) = self.ask(unit.0, line);
        self.asked += 1;
        let agrees = match (verdict, &heard) {
            (Line::Nothing, Heard::Taken) => true,
            (Line::Point { .. }, Heard::Taken | Heard::Dropped) => true,
            (Line::Malformed, Heard::Refused | Heard::Dropped) => true,
            (Line::Odd { .. }, Heard::Refused) => true,
            // More tags than the judge looks at.
            (Line::Odd { .. }, _) => line.split(|byte| *byte == b',').count() > UNSORTED_TAGS_MAX,
            _ => false,
        };
        if agrees {
            return;
        }
        if verdict == Line::Malformed && is_stricter(line) {
            self.stricter += 1;
            return;
        }
        let shown = String::from_utf8_lossy(line);
        let _ = writeln!(
            self.wrong,
            "{verdict:?}, but {heard:?}: {shown:?} {unit:?} {why}"
        );
    }

    /// Holds each line of a body against the server, alone.
    fn hold_each(&mut self, unit: (&str, i64), body: &[u8]) {
        let mut start = 0;
        while start < body.len() {
            let (verdict, end) = judge(body, start, unit.1);
            self.hold(unit, &body[start..end], verdict);
            start = end + 1;
        }
    }

    fn close(self, asked_min: usize) {
        eprintln!("{} lines asked, {} stricter", self.asked, self.stricter);
        assert!(self.asked >= asked_min, "{} lines", self.asked);
        assert!(self.wrong.is_empty(), "\n{}", self.wrong);
    }
}

/// Where the judge refuses on purpose what InfluxDB takes.
fn is_stricter(line: &[u8]) -> bool {
    // It would swallow the newline behind it.
    let followed = [line, b"\nm v=1"].concat();
    let swallows = judge(&followed, 0, 1).1 != line.len();
    // A newline that only the parser of lines sees in a string ends the point.
    let breaks = line
        .windows(2)
        .any(|pair| matches!(pair, b" \n" | b"\t\n" | b"\0\n"));
    // The second reading takes what Go can parse.
    let text = String::from_utf8_lossy(line).to_lowercase();
    let numbers = ["nan", "inf", "0x", "_"]
        .iter()
        .any(|word| text.contains(word));
    swallows || breaks || (numbers && line.contains(&b'\\'))
}

fn with_tags(count: usize, rest: &str) -> String {
    let tags: String = (0..count).rev().map(|n| format!(",t{n:05}=1")).collect();
    format!("tags{tags}{rest}")
}

fn table() -> Vec<Vec<u8>> {
    let texts = include_str!("udp_judge.txt");
    let mut lines: Vec<Vec<u8>> = texts
        .lines()
        .filter(|line| !line.starts_with("//"))
        .map(|line| line.replace('␠', " "))
        .map(|line| line.replace("␤", "\n").replace("␍", "\r"))
        .map(|line| line.replace("␉", "\t").replace("␀", "\0").into_bytes())
        .collect();
    for line in [
        with_tags(99, " v=1 1"),
        with_tags(101, ",t00007=1 v=1 1"),
        with_tags(99, ",u=1,t00007=1 v=1 1"),
        with_tags(127, " v=1 1"),
        with_tags(127, ",t00126=2 v=1 1"),
        format!("{} v=1 1", "k".repeat(65_530)),
        format!("{} v=1 1", "k".repeat(65_531)),
        format!("k {}=1 1", "k".repeat(65_530)),
        format!("k {}=1 1", "k".repeat(65_531)),
        format!("k v=1,{}=1 1", "k".repeat(65_531)),
        format!("k v=\"{}\" 1", "k".repeat(70_000)),
        format!("k v={} 1", "1".repeat(309)),
        format!("k v={} 1", "9".repeat(309)),
    ] {
        lines.push(line.into_bytes());
    }
    for line in [
        &b"u8\xFF v=1 1"[..],
        b"u8 \xFF=1 1",
        b"u8 v=1,\xC3\\ =2",
        b"u8,a=\xFF v=1",
        b"u8,\xFF=a v=1",
        b"u8 v=\"\xFF\"",
    ] {
        lines.push(line.to_vec());
    }
    lines
}

#[test]
fn a_table_is_judged_as_a_server_does() {
    let Some(mut court) = Court::open("judge-table") else {
        return;
    };
    for line in table() {
        for unit in UNITS {
            court.hold_each(unit, &line);
        }
    }
    for (unit, nanoseconds) in UNITS {
        for limit in [i64::MAX - 1, i64::MIN + 2] {
            let last = limit / nanoseconds;
            for time in [last, last + limit.signum(), last - limit.signum()] {
                let line = format!("limit v=1 {time}").into_bytes();
                let verdict = judge(&line, 0, nanoseconds).0;
                court.hold((unit, nanoseconds), &line, verdict);
            }
        }
    }
    court.close(1000);
}

#[test]
fn recorded_lines_are_judged_as_a_server_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/lp/lp_cases.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no recorded bodies at {}", path.display());
        return;
    };
    let Some(mut court) = Court::open("judge-recorded") else {
        return;
    };
    for row in text.lines() {
        let case: serde_json::Value = serde_json::from_str(row).unwrap();
        let body = match (case["in"].as_str(), case["in"]["b64"].as_str()) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (_, Some(coded)) => decoded(coded),
            _ => panic!("{row}"),
        };
        if case["poison"].is_string() {
            assert!(
                matches!(judge(&body, 0, 1).0, Line::Poison | Line::Malformed),
                "{row}"
            );
        }
        let name = case["prec"].as_str().unwrap_or("n");
        let unit = UNITS.into_iter().find(|unit| unit.0 == name);
        court.hold_each(unit.unwrap_or(UNITS[0]), &body);
    }
    court.close(1000);
}

/// Base64 as recorded.
fn decoded(coded: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let (mut out, mut bits, mut held) = (Vec::new(), 0, 0_u32);
    for byte in coded.bytes().filter(|byte| *byte != b'=') {
        held = held << 6 | u32::from(value(byte));
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits & 0xFF).try_into().unwrap());
        }
    }
    out
}

/// A xorshift generator: same seed, same storm.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % sides as u64).unwrap()
    }

    /// A line of the table, bent in up to five places with splinters and its own parts.
    fn bend(&mut self, table: &[Vec<u8>]) -> Vec<u8> {
        const SPLINTERS: [&[u8]; 48] = [
            b"\\",
            b"\\\\",
            b"\\\\=",
            b"\"",
            b"\\\"",
            b"=\"",
            b"\",",
            b"=",
            b",",
            b" ",
            b"  ",
            b"\n",
            b"\r",
            b"\t",
            b"\0",
            b"#",
            b"-",
            b"+",
            b".",
            b"e",
            b"E5",
            b"e-3",
            b"i",
            b"u",
            b"0",
            b"1",
            b"17",
            b"9223372036854775807",
            b"9223372036854775808",
            b"1e400",
            b"12345678901234567890.5",
            b"t",
            b"F",
            b"true",
            b"False",
            b"tRUE",
            b"nan",
            b"N",
            b"=5,",
            b"=t,",
            b"=,",
            b"=\"\"",
            b",a=b",
            b",\\,=",
            b"\\ ",
            b" v=1",
            b",c=\"x\"",
            b"\xC3",
        ];
        let mut line = table[self.roll(table.len())].clone();
        for _ in 0..=self.roll(5) {
            let (at, to) = (self.roll(line.len() + 1), self.roll(line.len() + 1));
            let span = at.min(to)..at.max(to).min(at.min(to) + 6);
            match self.roll(7) {
                0 => drop(line.drain(span)),
                1 => {
                    let part = line[span].to_vec();
                    line.splice(at..at, part);
                }
                2 => line.truncate(at.max(to)),
                _ => {
                    // Bytes that are not UTF-8 cost a database.
                    let few = SPLINTERS.len() - usize::from(self.roll(8) > 0);
                    let splinter = SPLINTERS[self.roll(few)];
                    line.splice(at..at, splinter.iter().copied());
                }
            }
        }
        line
    }
}

#[test]
fn a_storm_of_bent_lines_is_judged_as_a_server_does() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(1);
    eprintln!("SEED={seed}");
    let Some(mut court) = Court::open("judge-storm") else {
        return;
    };
    let mut table = table();
    table.retain(|line| line.len() < 200);
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut batch = Vec::new();
    let mut batched = 0;
    for _ in 0..BENT_LINES {
        let line = dice.bend(&table);
        let unit = UNITS[dice.roll(UNITS.len())];
        court.hold_each(unit, &line);
        // What is a point is packed with others, dated where it has no time, and all are taken.
        let (verdict, end) = judge(&line, 0, 1);
        let Line::Point { undated } = verdict else {
            continue;
        };
        let at = undated.unwrap_or(end);
        batch.extend_from_slice(&line[..at]);
        batch.extend_from_slice(undated.map_or(b"", |_| b" 1700000000000000000"));
        batch.extend_from_slice(&line[at..end]);
        batch.push(b'\n');
        batched += 1;
        if batched % 50 == 0 {
            let (heard, why) = court.ask("n", &std::mem::take(&mut batch));
            assert_ne!(heard, Heard::Refused, "SEED={seed} {why}");
        }
    }
    assert!(batched > 500, "{batched} points");
    court.close(BENT_LINES);
}
