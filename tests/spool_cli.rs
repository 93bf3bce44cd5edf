//! `influxdb-relay spool`: what it shows, finds, exports and drops, of spools made by the log itself.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use influxdb_relay::spool::archive::{lock, log_folder};
use influxdb_relay::spool::cursors::{Cursors, FILE, Mark, place_bytes};
use influxdb_relay::spool::dead_letter::{DeadLetter, bury};
use influxdb_relay::spool::disk::{Disk, Place};
use influxdb_relay::spool::log::{Log, segment_name};
use influxdb_relay::spool::record::{Parts, VOID};
use influxdb_relay::spool::track::{LEVEL, Track};

/// A spool in a folder of its own, gone with the test.
struct Spool(PathBuf);

impl Drop for Spool {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

/// What `influxdb-relay spool …` said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

const SECRETS: [&str; 3] = ["hunter2", "czNjcmV0", "s3cret"];

impl Spool {
    /// One log with `records`: kind, targets (`a`, `b` or both), query, body. `a` has everything.
    fn new(name: &str, records: &[(u8, &str, &str, &[u8])]) -> Self {
        let dir = std::env::temp_dir().join(format!("relay-cli-{}-{name}", std::process::id()));
        let folder = log_folder(&dir, 1, 0);
        let place = Place::folder(&folder).unwrap();
        let track = Arc::new(Track::new(1, 0, vec!["a".into(), "b".into()]));
        let mut log = Log::new(place.clone(), track, 1 << 20);
        for (sequence, (kind, targets, query, body)) in (0..).zip(records) {
            let targets: Vec<u8> = targets.bytes().flat_map(|name| [name - b'a', 0]).collect();
            let parts = Parts {
                kind: *kind,
                joinable: *kind != 3,
                targets: &targets,
                query: query.as_bytes(),
                headers: b"",
                authorization: b"Basic czNjcmV0",
                body,
            };
            log.append(sequence, &parts);
            log.flush(sequence, 1000 + sequence, 1_700_000_000_000, |_, _| {})
                .unwrap();
        }
        let marks = [LEVEL, 0].map(|next| Mark {
            next,
            records: 0,
            bytes: 0,
        });
        let file = place.create(FILE, 2 * place_bytes(2) as u64).unwrap();
        Cursors::new(file, 0).save(&marks).unwrap();
        Self(dir)
    }

    fn segment(&self) -> PathBuf {
        log_folder(&self.0, 1, 0).join(segment_name(0))
    }

    /// Where `text` is in the segment.
    fn offset_of(&self, text: &[u8]) -> u64 {
        let bytes = std::fs::read(self.segment()).unwrap();
        let at = bytes.windows(text.len()).position(|window| window == text);
        at.unwrap() as u64
    }

    fn overwrite(&self, at: u64, bytes: &[u8]) {
        let mut file = File::options().write(true).open(self.segment()).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn run(&self, args: &[&str]) -> Said {
        run(&self.0, args)
    }
}

fn run(dir: &Path, args: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
        .arg("spool")
        .arg(args[0])
        .arg("--dir")
        .arg(dir)
        .args(&args[1..])
        .output()
        .unwrap();
    let said = Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    for secret in SECRETS {
        let all = format!("{}{}", said.out, said.err);
        assert!(!all.contains(secret), "{args:?} shows {secret}: {all}");
    }
    said
}

const QUERY: &str = "db=x&u=me&p=hunter2";

fn usual(name: &str) -> Spool {
    Spool::new(
        name,
        &[
            (0, "ab", QUERY, b"m v=1 1\n"),
            (0, "a", QUERY, b"m v=2 2\n"),
            (0, "b", "db=y", b"n v=3 3"),
            (3, "b", "", b"\xff\x00binary"),
            (0, "ab", QUERY, b"m v=4 4\n"),
        ],
    )
}

#[test]
fn what_each_backend_is_owed_is_listed_and_shown() {
    let spool = usual("list");
    let said = spool.run(&["list", "--json"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let page: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(page["logs"][0]["folder"], "log-00000001-000");
    let rows = page["backends"].as_array().unwrap();
    assert_eq!(
        (&rows[0]["backend"], &rows[0]["records"]),
        (&"a".into(), &0.into())
    );
    assert_eq!(
        (&rows[1]["backend"], &rows[1]["records"]),
        (&"b".into(), &4.into())
    );
    assert_eq!(rows[1]["bytes"], 8 + 7 + 8 + 8);
    assert_eq!(rows[1]["oldest"], "2023-11-14T22:13:20Z");
    let table = spool.run(&["list"]);
    assert!(table.out.contains("log-00000001-000") && table.out.contains("2023-11-14T22:13:20Z"));

    let said = spool.run(&["show", "--backend", "b", "--limit", "3"]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", said.out);
    assert!(
        lines[0].contains("/write?db=x 8 bytes: m v=1 1\\n"),
        "{}",
        lines[0]
    );
    assert!(lines[2].contains("\\xff\\x00binary"), "{}", lines[2]);
    assert!(lines[3].contains("1 more"), "{}", lines[3]);
}

#[test]
fn what_is_owed_is_exported_as_lines_that_can_be_sent_again() {
    let spool = usual("export");
    let said = spool.run(&["export", "--backend", "b"]);
    assert_eq!(
        said.out,
        "# POST /write?db=x\nm v=1 1\n# POST /write?db=y\nn v=3 3\n# POST /write?db=x\nm v=4 4\n"
    );
    assert!(
        said.err.contains("1 bodies are no line protocol"),
        "{}",
        said.err
    );
    let json = spool.run(&["export", "--backend", "b", "--json"]);
    let letters = json.out.lines();
    let letters: Vec<DeadLetter> = letters
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(letters.len(), 4);
    assert_eq!(letters[2].bytes().unwrap(), b"\xff\x00binary");
    assert_eq!(letters[2].path, "/api/v1/write");
}

#[test]
fn void_records_are_nobodys() {
    let spool = usual("void");
    // The state of a record stands 56 bytes and its targets and query before its body.
    let first = spool.offset_of(b"KEPT");
    spool.overwrite(first, VOID);
    assert!(!spool.run(&["export", "--backend", "b"]).out.contains("v=1"));
    let said = spool.run(&["verify"]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(
        said.out
            .contains("5 records (1 void), 0 dead letters, 0 damaged"),
        "{}",
        said.out
    );
}

#[test]
fn a_flipped_byte_is_found_with_its_place_and_costs_one_record() {
    let spool = usual("flip");
    let at = spool.offset_of(b"n v=3 3");
    spool.overwrite(at, b"N");
    let said = spool.run(&["verify"]);
    assert_eq!(said.code, 3, "{}", said.out);
    let file = spool.segment().display().to_string();
    let line = said.out.lines().next().unwrap();
    let offset = line.rsplit("offset ").next().unwrap();
    let offset: u64 = offset.split(':').next().unwrap().parse().unwrap();
    assert!(
        line.starts_with(&file) && offset < at && at - offset < 100,
        "{line} of {at}"
    );
    assert!(
        said.out
            .contains("4 records (0 void), 0 dead letters, 1 damaged"),
        "{}",
        said.out
    );
    let innocents = spool.run(&["export", "--backend", "b"]).out;
    assert_eq!(innocents, "# POST /write?db=x\nm v=1 1\nm v=4 4\n");
}

#[test]
fn a_torn_tail_is_no_damage() {
    let spool = usual("torn");
    let at = spool.offset_of(b"m v=4 4\n");
    spool.overwrite(at, &[0; 16]);
    let said = spool.run(&["verify"]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(said.out.contains("the end of the log"), "{}", said.out);
    assert!(said.out.contains("4 records"), "{}", said.out);
}

#[test]
fn a_newer_format_is_told_from_damage() {
    let spool = usual("newer");
    let mut bytes = std::fs::read(spool.segment()).unwrap();
    let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    bytes[8] = 2;
    let sum = crc32c::crc32c(&bytes[..length - 4]);
    spool.overwrite(0, &bytes[..length - 4]);
    spool.overwrite(length as u64 - 4, &sum.to_le_bytes());
    let said = spool.run(&["verify"]);
    assert_eq!(said.code, 3);
    assert!(
        said.err.contains("format version 2") && said.err.contains(".seg"),
        "{}",
        said.err
    );
}

#[test]
fn dead_letters_are_shown_exported_and_dropped() {
    let spool = usual("dead");
    let mut letter = DeadLetter {
        time: "2026-01-02T03:04:05Z".into(),
        backend: "b".into(),
        status: 400,
        reason: "bad \"line\"".into(),
        path: "/write".into(),
        query: "db=x".into(),
        body: None,
        base64: None,
    };
    letter.set_body(b"bad line\n");
    let mut other = letter.clone();
    other.body = None;
    other.set_body(b"\xffodd");
    bury(&spool.0, "b", &[letter, other]).unwrap();
    let said = spool.run(&["show", "--dead"]);
    assert!(
        said.out.contains("b 400 /write?db=x 9 bytes: bad line\\n"),
        "{}",
        said.out
    );
    let said = spool.run(&["export", "--dead", "--backend", "b"]);
    assert!(
        said.out.starts_with("# POST /write?db=x\nbad line\n"),
        "{}",
        said.out
    );
    assert!(
        spool
            .run(&["verify"])
            .out
            .contains("2 dead letters, 0 damaged")
    );
    let file = spool.0.join("dead/b.jsonl");
    File::options()
        .append(true)
        .open(&file)
        .unwrap()
        .write_all(b"{torn")
        .unwrap();
    let said = spool.run(&["verify"]);
    assert_eq!(said.code, 3);
    assert!(said.out.contains("line 3"), "{}", said.out);
    assert_eq!(spool.run(&["drop", "--backend", "b", "--dead"]).code, 1);
    assert!(file.exists(), "it was not confirmed");
    assert_eq!(
        spool
            .run(&["drop", "--backend", "b", "--dead", "--yes"])
            .code,
        0
    );
    assert!(!file.exists());
}

#[test]
fn a_debt_is_dropped_only_when_it_is_said_twice_and_nobody_uses_the_spool() {
    let spool = usual("drop");
    let said = spool.run(&["drop", "--backend", "b"]);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("would drop b: 4 records, 31 bytes"),
        "{}",
        said.err
    );
    let held = lock(&spool.0).unwrap();
    let said = spool.run(&["drop", "--backend", "b", "--yes"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(spool.run(&["list"]).err.contains("a relay uses this spool"));
    drop(held);
    let said = spool.run(&["drop", "--backend", "b", "--yes"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains("dropped b: 4 records, 31 bytes"),
        "{}",
        said.out
    );
    assert_eq!(spool.run(&["export"]).out, "");
    assert!(!spool.segment().exists(), "nobody needs the log any more");
}

#[test]
fn a_spool_that_is_not_there_is_said_so() {
    let said = run(Path::new("/nonexistent/spool"), &["list"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("there is no such folder"), "{}", said.err);
}
