//! The line-protocol corpus, real samples and mutations of them, through the scan that dates points.
//!
//! Property: dating puts ` <time>` behind points that have no time, and does nothing else. What
//! InfluxDB makes of the body — which lines it takes, which it refuses — is the same before and after.
//! A failing run of the mutations prints its seed; `SEED=<n> cargo test --test lines` repeats it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // a test fails by panicking

#[path = "lines/reference.rs"]
mod reference;

use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use influxdb_relay::payload::gzip::Inflater;
use influxdb_relay::payload::line::{Poison, Scan, scan, stamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reference::{Lines, parse};
use serde_json::Value;

/// One body of the corpus, and what InfluxDB 1.6.7 made of it.
struct Case {
    id: u64,
    body: Vec<u8>,
    default_time: i64,
    /// How many of the default time make one of the write's unit.
    unit: i64,
    ok: bool,
    why: String,
    times: Vec<i64>,
    poison: bool,
}

/// A file of the shared test data; `DATA=<dir>` says where it is if it is not beside the repository.
fn data(name: &str) -> Option<Vec<u8>> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let path = std::env::var_os("DATA")
        .map_or_else(beside, PathBuf::from)
        .join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        eprintln!("skipped: {} is not here", path.display());
    }
    bytes
}

fn corpus() -> Vec<Case> {
    let text = String::from_utf8(data("lp/lp_cases.jsonl").unwrap_or_default()).unwrap();
    text.lines()
        .map(|row| case(&serde_json::from_str(row).unwrap()))
        .collect()
}

fn case(row: &Value) -> Case {
    let points = row["points"].as_array().cloned().unwrap_or_default();
    Case {
        id: row["id"].as_u64().unwrap(),
        body: row["in"].as_str().map_or_else(
            || base64(row["in"]["b64"].as_str().unwrap()),
            |text| text.as_bytes().to_vec(),
        ),
        default_time: row["default_t"].as_str().unwrap().parse().unwrap(),
        unit: match row["prec"].as_str() {
            None | Some("ns" | "n") => 1,
            Some("u") => 1_000,
            Some("ms") => 1_000_000,
            Some("s") => 1_000_000_000,
            Some(other) => panic!("a unit this test does not know: {other}"),
        },
        ok: row["ok"].as_bool().unwrap(),
        why: row["why"].as_str().unwrap_or_default().to_owned(),
        times: points
            .iter()
            .map(|point| point["t"].as_str().unwrap().parse().unwrap())
            .collect(),
        poison: row.get("poison").is_some(),
    }
}

fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u32> = text
        .bytes()
        .filter_map(|byte| LETTERS.iter().position(|&letter| letter == byte))
        .map(|bits| u32::try_from(bits).unwrap())
        .collect();
    let mut bytes = Vec::new();
    for four in bits.chunks(4) {
        let word = four.iter().fold(0, |word, bits| word << 6 | bits) << (6 * (4 - four.len()));
        bytes.extend_from_slice(&word.to_be_bytes()[1..four.len()]);
    }
    bytes
}

/// The times of the points that InfluxDB would store, in nanoseconds.
fn times(lines: &Lines, case: &Case) -> Vec<i64> {
    let now = case.default_time / case.unit * case.unit;
    let times = lines
        .iter()
        .flatten()
        .map(|point| point.time.map_or(now, |time| time * case.unit));
    times.collect()
}

/// The same lines, with a time for those that lack one and have a place for it: behind a last `\`
/// it would be escaped.
fn dated(mut lines: Lines, time: i64) -> Lines {
    for point in lines.iter_mut().flatten() {
        let escapes = point
            .fields
            .iter()
            .rev()
            .take_while(|&&byte| byte == b'\\')
            .count();
        if escapes.is_multiple_of(2) {
            point.time.get_or_insert(time);
        }
    }
    lines
}

/// Which lines InfluxDB takes, and as what.
fn taken(lines: Lines) -> Vec<Option<reference::Point>> {
    lines.into_iter().map(Result::ok).collect()
}

#[test]
fn the_reference_parser_reads_the_corpus_as_influxdb_does() {
    let mut wrong = Vec::new();
    let cases = corpus();
    for case in &cases {
        let lines = parse(&case.body);
        // These pass the parser and fail in a later reading, which is not our subject.
        let fails_later = ["unable to unmarshal", "invalid value: field-key"]
            .iter()
            .any(|later| case.why.starts_with(later))
            || case.poison;
        let ok = lines.iter().all(Result::is_ok);
        if !fails_later && (times(&lines, case) != case.times || ok != case.ok) {
            wrong.push((
                case.id,
                ok,
                case.ok,
                case.why.clone(),
                String::from_utf8_lossy(&case.body).into_owned(),
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        cases.len()
    );
}

/// Dates a body and checks what is to hold for every body; what was inserted where, if it is no poison.
fn check(name: &str, body: &[u8], time: i64) -> Result<Scan, Poison> {
    let mut out = vec![b'x'];
    let found = stamp(body, time, &mut out);
    assert_eq!(found, scan(body), "{name}: scan and stamp agree");
    let Ok(found) = found else {
        assert!(out.is_empty(), "{name}: nothing is left of a refused body");
        return found;
    };
    assert_eq!(
        out.is_empty(),
        found.unstamped == 0,
        "{name}: copied only where something is dated"
    );
    let after = if found.unstamped == 0 { body } else { &out };
    let text = format!(" {time}");
    assert_eq!(
        after.len(),
        body.len() + found.unstamped * text.len(),
        "{name}: length"
    );
    assert!(
        is_body_with(text.as_bytes(), body, after),
        "{name}: only times are inserted"
    );
    let lines = parse(body);
    assert_eq!(
        u64::try_from(lines.len()).unwrap(),
        found.points,
        "{name}: points"
    );
    if !body.ends_with(b"\\") {
        assert_eq!(
            taken(parse(after)),
            taken(dated(lines, time)),
            "{name}: the backend's judgement"
        );
    }
    let mut again = Vec::new();
    let second = stamp(after, time, &mut again).map(|scan| scan.unstamped);
    assert_eq!(second, Ok(0), "{name}: dated once is dated");
    Ok(found)
}

/// Whether `after` is `body` with nothing but `text` inserted.
fn is_body_with(text: &[u8], body: &[u8], after: &[u8]) -> bool {
    // Where both fit, either reading leads to the same bytes, but not to the same rest: try greedily
    // what was inserted, and step back at most once for each.
    let (mut from, mut to) = (0, 0);
    let extra = after.len() - body.len();
    let mut inserted = 0;
    while to < after.len() {
        if inserted < extra && after[to..].starts_with(text) && !body[from..].starts_with(text) {
            to += text.len();
            inserted += text.len();
        } else if body.get(from) == after.get(to) {
            from += 1;
            to += 1;
        } else {
            return false;
        }
    }
    from == body.len()
}

#[test]
fn the_corpus_is_dated_and_otherwise_untouched() {
    let cases = corpus();
    let (mut dated, mut refused) = (0, 0);
    for case in &cases {
        let name = format!("case {} {:?}", case.id, String::from_utf8_lossy(&case.body));
        let time = case.default_time / case.unit;
        let found = check(&name, &case.body, time);
        assert_eq!(found.is_err(), case.poison, "{name}: {found:?}");
        refused += usize::from(found.is_err());
        if found.is_ok_and(|scan| scan.unstamped > 0) {
            dated += 1;
            let mut out = Vec::new();
            stamp(&case.body, time, &mut out).unwrap();
            let lines = parse(&out);
            assert!(
                lines.iter().flatten().all(|point| point.time.is_some()),
                "{name}: all dated"
            );
            if case.ok {
                assert_eq!(
                    times(&lines, case),
                    case.times,
                    "{name}: as InfluxDB would date it"
                );
            }
        }
    }
    eprintln!("{} bodies, {dated} dated, {refused} refused", cases.len());
}

#[test]
fn clean_bodies_join() {
    let cases = corpus();
    let others: Vec<_> = cases
        .iter()
        .step_by(41)
        .filter(|case| !case.poison)
        .collect();
    let (mut clean, mut pairs) = (0, 0);
    for first in cases
        .iter()
        .filter(|case| scan(&case.body).is_ok_and(|scan| scan.ends_clean))
    {
        clean += 1;
        for second in &others {
            pairs += 1;
            let joined = [&first.body[..], &second.body].join(&b'\n');
            let apart = [parse(&first.body), parse(&second.body)].concat();
            assert_eq!(
                parse(&joined),
                apart,
                "cases {} and {}",
                first.id,
                second.id
            );
            let [one, two, both] =
                [&first.body, &second.body, &joined].map(|body| scan(body).unwrap());
            assert_eq!(both.points, one.points + two.points);
            assert_eq!(both.ends_clean, two.ends_clean);
        }
    }
    eprintln!("{clean} of {} bodies are clean; {pairs} pairs", cases.len());
}

#[test]
fn documented_samples_are_dated_line_by_line() {
    let Some(body) = data("samples/docs_examples.lp") else {
        return;
    };
    let found = check("docs", &body, 1).unwrap();
    let dated = parse(&body)
        .iter()
        .flatten()
        .filter(|point| point.time.is_some())
        .count();
    assert_eq!(
        found.unstamped + dated,
        usize::try_from(found.points).unwrap()
    );
    assert_eq!(found.points, 1716);
    eprintln!("{found:?}");
}

#[test]
fn a_hundred_thousand_lines_without_times_are_all_dated() {
    let Some(packed) = data("samples/influxdb_tsi1_100k.lp.gz") else {
        return;
    };
    let mut body = Vec::new();
    Inflater::new()
        .inflate(&packed, &mut body, 64 << 20)
        .unwrap();
    let mut same = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut same).unwrap();
    assert!(body == same, "another gzip reader agrees");
    let found = check("tsi1", &body, 1_700_000_000_000_000_000).unwrap();
    assert_eq!(
        (found.points, found.unstamped, found.ends_clean),
        (100_000, 100_000, true)
    );
    let mut out = Vec::new();
    stamp(&body, 1_700_000_000_000_000_000, &mut out).unwrap();
    let text = std::str::from_utf8(&out).unwrap();
    assert!(
        text.lines()
            .all(|line| line.ends_with(" 1700000000000000000"))
    );
}

/// Were the time for any of these quadratic, this would take an hour.
#[test]
fn no_body_is_slow() {
    const BYTES: usize = 300_000;
    let repeated: [&[u8]; 18] = [
        b"\n",
        b" ",
        b"\"",
        b"\\",
        b"=",
        b",",
        b"1",
        b"x",
        b"\r",
        b"=\"",
        b"\\\"",
        b"\\\n",
        b"=\"\n",
        b" 1",
        b"m v=1\n",
        b"m v=\"\n\"\n",
        b"m \\=\"=\" ",
        b",\\\\=\"=\"",
    ];
    let begun: [&[u8]; 6] = [b"", b"m v=", b"m v=\"", b" =\"", b"m v=1 ", b"m \\"];
    for pattern in repeated {
        for begin in begun {
            let mut body = begin.to_vec();
            body.extend(pattern.iter().cycle().take(BYTES));
            for end in [&b""[..], b"\"", b"=\"", b"\n", b" 17"] {
                body.truncate(begin.len() + BYTES);
                body.extend_from_slice(end);
                let found = scan(&body);
                assert!(found.is_ok_and(|found| found.points <= BYTES as u64) || found.is_err());
            }
        }
    }
}

#[test]
fn mutations_of_the_corpus_keep_the_promise() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut dice = StdRng::seed_from_u64(seed);
    let mut bodies: Vec<_> = corpus().into_iter().map(|case| case.body).collect();
    bodies.push(
        b"cpu,host=a load=0.64,s=\"a \\\"b\\\" c\"\r\nmem,host=b used=1i 17\n# \"c\n".to_vec(),
    );
    const SALT: &[u8] = b"  \n\n\"\"\\\\==,,\r\t\0#-1vi\x80";
    for round in 0..40_000 {
        let mut body = bodies[dice.random_range(0..bodies.len())].clone();
        for _ in 0..dice.random_range(1..6) {
            let at = dice.random_range(0..=body.len());
            let salt = SALT[dice.random_range(0..SALT.len())];
            match dice.random_range(0..4) {
                0 | 1 => body.insert(at, salt),
                2 if at < body.len() => body[at] = salt,
                _ => body.truncate(at.max(body.len() / 2)),
            }
        }
        let name = format!(
            "seed {seed} round {round} {:?}",
            String::from_utf8_lossy(&body)
        );
        let _ = check(&name, &body, -17);
    }
}
