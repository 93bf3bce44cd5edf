//! `influxdb-relay spool`, run on spools that were made as the relay makes them, whole and broken.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

#[path = "spool_cli/shelf.rs"]
mod shelf;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use influxdb_relay::spool::archive;
use influxdb_relay::spool::cursors::{Cursors, FILE, Mark};
use influxdb_relay::spool::dead_letter::file_of;
use influxdb_relay::spool::disk::PlaceFile;
use influxdb_relay::spool::segment::{Head, HeadFound};
use serde_json::{Value, json};
use shelf::{A, Said, Shelf, Write, change, find, line, record_at, segments};

/// Four writes in two shards of one run, one more in a later run; `a` has the first, the third is void.
fn healthy() -> Shelf {
    let shelf = Shelf::new();
    let writes = [
        (10, line("m v=0 1")),
        (30, line("m v=2 1\n")),
        (40, line("m v=9 1")),
    ];
    let first = shelf.log_of(1, 0, &writes, &[2]);
    shelf.cursors(&first, [1, 0]);
    let for_a = Write {
        targets: A,
        query: "db=y&u=root&p=hunter2",
        ..line("m v=1 1\n")
    };
    shelf.log(1, 1, &[(20, for_a)]);
    shelf.log(2, 0, &[(5, line("m v=3 1"))]);
    shelf
}

#[test]
fn list_counts_what_is_there_and_what_is_owed() {
    let shelf = healthy();
    shelf.letter("b", "db=x", b"bad");
    shelf.letter("b", "db=x", b"worse");
    let dead_bytes = fs::metadata(file_of(&shelf.0, "b")).unwrap().len();
    let page: Value = serde_json::from_str(&shelf.run("list", &["--json"]).well()).unwrap();
    let log = |folder: &str, run: u64, shard: u64, records: u64, void: u64| {
        json!({"folder": folder, "run": run, "shard": shard, "segments": 1, "bytes": shelf::SEGMENT,
               "records": records, "void": void, "damaged": 0})
    };
    assert_eq!(
        page,
        json!({
            "in_use": false,
            "logs": [
                log("log-00000001-000", 1, 0, 3, 1),
                log("log-00000001-001", 1, 1, 1, 0),
                log("log-00000002-000", 2, 0, 1, 0),
            ],
            "backends": [
                {"name": "a", "records": 3, "bytes": 23, "oldest": "1970-01-01T00:00:05.000Z",
                 "dead_letters": 0, "dead_bytes": 0},
                {"name": "b", "records": 3, "bytes": 22, "oldest": "1970-01-01T00:00:05.000Z",
                 "dead_letters": 2, "dead_bytes": dead_bytes},
            ],
        })
    );
    let table = shelf.run("list", &[]).well();
    let row = |begin: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.starts_with(begin)).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    let log = ["log-00000001-000", "1", "0", "1", "65536", "3", "1", "0"];
    assert_eq!(row("log-00000001-000"), log);
    let dead_bytes = dead_bytes.to_string();
    let backend = ["b", "3", "22", "1970-01-01T00:00:05.000Z", "2", &dead_bytes];
    assert_eq!(row("b "), backend);
}

#[test]
fn show_tells_each_record_in_the_order_of_replay() {
    let shelf = healthy();
    let lines = [
        r#"log-00000001-000 0 1970-01-01T00:00:10.000Z for b /write?db=x&precision=s 7 bytes "m v=0 1""#,
        r#"log-00000001-001 0 1970-01-01T00:00:20.000Z for a /write?db=y 8 bytes "m v=1 1\n""#,
        r#"log-00000001-000 1 1970-01-01T00:00:30.000Z for a,b /write?db=x&precision=s 8 bytes "m v=2 1\n""#,
        r#"log-00000002-000 0 1970-01-01T00:00:05.000Z for a,b /write?db=x&precision=s 7 bytes "m v=3 1""#,
    ];
    let shown = |args: &[&str]| shelf.run("show", args).well();
    assert_eq!(shown(&[]).lines().collect::<Vec<_>>(), lines);
    assert_eq!(shown(&["--limit", "4"]).lines().collect::<Vec<_>>(), lines);
    let first = shown(&["--limit", "1"]);
    let more = "and more: these are the first 1; --limit N shows N";
    assert_eq!(first.lines().collect::<Vec<_>>(), [lines[0], more]);
    let for_b = shown(&["--backend", "b"]);
    let expected = [lines[0], lines[2], lines[3]];
    assert_eq!(for_b.lines().collect::<Vec<_>>(), expected);
    assert_eq!(shown(&["--dead"]), "no dead letters\n");
    let empty = Shelf::new();
    fs::write(empty.0.join("lock"), "").unwrap();
    assert_eq!(empty.run("show", &[]).well(), "nothing is owed\n");
}

#[test]
fn export_can_be_sent_again() {
    let shelf = healthy();
    assert_eq!(
        shelf.run("export", &[]).well(),
        "# POST /write?db=x&precision=s\nm v=0 1\n# POST /write?db=y\nm v=1 1\n\
         # POST /write?db=x&precision=s\nm v=2 1\nm v=3 1\n"
    );
    let for_b = shelf.run("export", &["--backend", "b"]).well();
    let body = "m v=0 1\nm v=2 1\nm v=3 1\n";
    assert_eq!(for_b, format!("# POST /write?db=x&precision=s\n{body}"));
    let letters = json_lines(&shelf.run("export", &["--json"]).well());
    let letter = |time: &str, backend: &str, query: &str, body: &str| {
        json!({"time": time, "backend": backend, "status": 0, "reason": "owed", "path": "/write",
               "query": query, "body": body})
    };
    let expected = [
        letter(
            "1970-01-01T00:00:10.000Z",
            "b",
            "db=x&precision=s",
            "m v=0 1",
        ),
        letter("1970-01-01T00:00:20.000Z", "a", "db=y", "m v=1 1\n"),
        letter(
            "1970-01-01T00:00:30.000Z",
            "a,b",
            "db=x&precision=s",
            "m v=2 1\n",
        ),
        letter(
            "1970-01-01T00:00:05.000Z",
            "a,b",
            "db=x&precision=s",
            "m v=3 1",
        ),
    ];
    assert_eq!(letters, expected);
}

fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

#[test]
fn bodies_that_are_no_plain_lines_do_not_spoil_the_others() {
    const HELLO: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x08\0\xf7\xffm v=1 1\n";
    let gzip = [HELLO, &crc32(b"m v=1 1\n").to_le_bytes(), &[8, 0, 0, 0]].concat();
    let headers = "User-Agent: x\r\nContent-Encoding: gzip\r\n";
    let write = |kind, joinable, headers, body| Write {
        kind,
        joinable,
        headers,
        body,
        ..line("")
    };
    let shelf = Shelf::new();
    shelf.log(
        1,
        0,
        &[
            (1, write(1, true, headers, &gzip)),
            (2, write(1, true, headers, b"\x1f\x8b\x08no")),
            (3, write(3, false, headers, &gzip)),
            (4, write(9, true, "", b"later")),
            (5, write(2, true, "", b"m v=2 1")),
            (6, write(2, false, "", b"m s=\"open")),
            (7, write(2, true, "", b"m v=3 1")),
        ],
    );
    let said = shelf.run("export", &[]);
    assert_eq!(said.code, 0);
    assert_eq!(
        said.out,
        "# POST /api/v2/write?db=x&precision=s\nm v=1 1\n# POST /api/v3/write_lp?db=x&precision=s\nm v=2 1\n\
         # POST /api/v3/write_lp?db=x&precision=s\nm s=\"open\n# POST /api/v3/write_lp?db=x&precision=s\nm v=3 1\n"
    );
    assert!(
        said.err.contains("2 records are no line protocol"),
        "{}",
        said.err
    );
    assert!(said.err.contains("1 bodies are gzip"), "{}", said.err);
    let letters = json_lines(&shelf.run("export", &["--json"]).well());
    assert_eq!(letters[0]["body"], "m v=1 1\n");
    assert_eq!(letters[1]["base64"], "H4sIbm8=");
    assert!(
        letters[2]["base64"].is_string(),
        "remote-write stays as it is"
    );
    assert_eq!(letters[2]["path"], "/api/v1/write");
    assert_eq!(letters[3]["path"], "kind-9");
    let shown = shelf.run("show", &[]).well();
    let first = shown.lines().next().unwrap();
    let words = format!("{} bytes \"m v=1 1\\n\"", gzip.len());
    assert!(first.ends_with(&words), "{first}");
}

/// The checksum of gzip, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let sum = bytes.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(sum & 1))
        })
    });
    !sum
}

/// So many writes that they need more than one segment, and one that is longer than a read.
fn large() -> (Shelf, Vec<String>) {
    let shelf = Shelf::new();
    let mut bodies: Vec<String> = (0..400).map(|i| format!("m,i={i:04} v={i} 1\n")).collect();
    bodies[200] = format!("m s=\"{}\" 1\n", "x".repeat(600_000));
    bodies.extend((400..800).map(|i| format!("m,i={i:04} v={} 1\n", "7".repeat(150))));
    let writes: Vec<_> = (1..).zip(bodies.iter().map(|body| line(body))).collect();
    shelf.log(1, 0, &writes);
    (shelf, bodies)
}

#[test]
fn one_flipped_byte_costs_one_record() {
    let (shelf, mut bodies) = large();
    let folder = archive::log_folder(&shelf.0, 1, 0);
    let export = |bodies: &[String]| format!("# POST /write?db=x&precision=s\n{}", bodies.concat());
    assert_eq!(shelf.run("export", &[]).well(), export(&bodies));
    let out = shelf.run("verify", &[]).well();
    assert!(out.contains(" 800 records (0 void)"), "{out}");
    let segments = segments(&folder);
    assert!(segments.len() >= 4, "{segments:?}");
    // In the middle of a segment, in the record that is longer than a read, and in the last record of
    // a segment behind which there is another.
    let last_of = |number: usize| {
        let bytes = fs::read(&segments[number]).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let at = text.rfind("m,i=").unwrap();
        text[at + 4..at + 8].parse::<usize>().unwrap()
    };
    let last = segments.len() - 2;
    let mut broken = [(0, 7), (1, 200), (last, last_of(last))];
    for (segment, index) in broken {
        let path = &segments[segment];
        let at = record_at(path, &bodies[index]);
        change(path, |bytes| bytes[at + 40 + index % 2] ^= 1);
        let said = shelf.run("verify", &[]);
        assert_eq!(said.code, 3);
        let words = format!("{}: at {at}: damaged up to ", path.display());
        assert!(said.out.contains(&words), "{words}\n{}", said.out);
    }
    let said = shelf.run("verify", &[]);
    assert!(said.out.contains(": 3 damaged, 0 torn"), "{}", said.out);
    assert_eq!(
        said.out.matches(": 1 records are lost").count(),
        3,
        "{}",
        said.out
    );
    broken.reverse();
    for (_, index) in broken {
        bodies.remove(index);
    }
    let said = shelf.run("export", &[]);
    assert!(said.out == export(&bodies), "the innocents are exported");
    assert!(said.err.contains("3 places are damaged"), "{}", said.err);
    let page: Value = serde_json::from_str(&shelf.run("list", &["--json"]).out).unwrap();
    assert_eq!(page["logs"][0]["damaged"], 3);
    assert_eq!(page["logs"][0]["records"], bodies.len());
}

#[test]
fn what_a_kill_or_a_power_cut_leaves_behind_the_last_record_is_no_damage() {
    let writes = || [(1, line("m v=1 1\n")), (2, line("m v=2 1\n"))];
    for (cut, zeros) in [(true, false), (true, true), (false, true)] {
        let shelf = Shelf::new();
        let folder = shelf.log(1, 0, &writes());
        let path = &segments(&folder)[0];
        let at = record_at(path, "m v=2 1\n");
        change(path, |bytes| {
            if cut {
                bytes[at + 101..].fill(0);
            }
            if !zeros {
                bytes.truncate(at + 101);
            }
        });
        let out = shelf.run("verify", &[]).well();
        let words = format!("{}: at {at}: torn tail", path.display());
        assert_eq!(out.contains(&words), cut, "{out}");
        let page: Value = serde_json::from_str(&shelf.run("list", &["--json"]).well()).unwrap();
        let records = if cut { 1 } else { 2 };
        assert_eq!(page["logs"][0]["records"], records);
        assert_eq!(page["logs"][0]["damaged"], 0);
    }
    // A file that was made, and nothing is in it.
    let shelf = Shelf::new();
    let folder = shelf.log(1, 0, &writes());
    fs::write(folder.join("0000000000000002.seg"), [0; 4096]).unwrap();
    let out = shelf.run("verify", &[]).well();
    assert!(!out.contains("0000000000000002.seg"), "{out}");
}

#[test]
fn what_a_file_held_as_an_older_segment_is_no_record() {
    let shelf = Shelf::new();
    let writes = [(1, line("m v=1 1\n")), (2, line("m v=2 1\n"))];
    let old = fs::read(&segments(&shelf.log(1, 0, &writes))[0]).unwrap();
    let folder = shelf.log(2, 0, &writes[..1]);
    let path = &segments(&folder)[0];
    let at = record_at(path, "m v=1 1\n");
    change(path, |bytes| {
        let length = u32::from_le_bytes(bytes[at + 40..at + 44].try_into().unwrap());
        let end = at + usize::try_from(length).unwrap();
        // The half of an old record, and then old ones that are whole.
        let stale = [&old[at + 40..], &old[at..]].concat();
        let rest = bytes.len() - end;
        bytes[end..].copy_from_slice(&stale[..rest]);
    });
    let out = shelf.run("verify", &[]).well();
    assert!(out.starts_with("2 logs, 2 segments, 3 records"), "{out}");
    assert_eq!(shelf.run("show", &[]).well().lines().count(), 3);
}

#[test]
fn each_part_of_a_head_stands_twice_and_without_it_its_records_are_lost() {
    let (shelf, bodies) = large();
    let folder = archive::log_folder(&shelf.0, 1, 0);
    let paths = segments(&folder);
    let whole = shelf.run("export", &[]).well();
    // A flipped bit in each part of one copy, and the whole sector of the other kind.
    change(&paths[1], |bytes| bytes[20] ^= 1);
    change(&paths[2], |bytes| bytes[1024..1536].fill(0xaa));
    let said = shelf.run("verify", &[]);
    for path in &paths[1..3] {
        let words = format!("{}: at 0: 1 of 4 copies", path.display());
        assert!(said.code == 3 && said.out.contains(&words), "{}", said.out);
    }
    let all = format!(" {} records", bodies.len());
    assert!(said.out.contains(&all), "{}", said.out);
    assert!(shelf.run("export", &[]).well() == whole);
    // Without a whole copy nothing says which bytes are records.
    change(&paths[1], |bytes| bytes[512 + 20] ^= 1);
    let said = shelf.run("verify", &[]);
    let lost = segments_hold(&paths)[1];
    let words = format!("{}: at 0: its head is damaged", paths[1].display());
    assert!(said.out.contains(&words), "{}", said.out);
    assert!(
        said.out.contains(&format!(": {lost} records are lost")),
        "{}",
        said.out
    );
    let page: Value = serde_json::from_str(&shelf.run("list", &["--json"]).out).unwrap();
    assert_eq!(page["logs"][0]["records"], bodies.len() - lost);
    for path in &paths {
        change(path, |bytes| bytes[..1024].fill(0));
    }
    let said = shelf.run("verify", &[]);
    assert_eq!(said.code, 3, "{}", said.out);
    assert_eq!(shelf.run("export", &[]).out, "");
}

/// How many records each segment holds, by the names of the files.
fn segments_hold(paths: &[PathBuf]) -> Vec<usize> {
    let first = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        usize::from_str_radix(&name, 16).unwrap()
    };
    paths
        .windows(2)
        .map(|pair| first(&pair[1]) - first(&pair[0]))
        .collect()
}

#[test]
fn a_file_that_should_hold_records_and_does_not_is_damage() {
    let (shelf, bodies) = large();
    let folder = archive::log_folder(&shelf.0, 1, 0);
    let paths = segments(&folder);
    let holds = segments_hold(&paths);
    fs::write(&paths[1], b"").unwrap(); // cut by a power loss
    fs::write(&paths[2], [0; 8192]).unwrap(); // its pages never came to the disk
    let said = shelf.run("verify", &[]);
    assert_eq!(said.code, 3, "{}", said.out);
    for (path, lost) in paths.iter().zip(&holds).skip(1).take(2) {
        let words = format!("{}: at 0: its head is damaged", path.display());
        assert!(said.out.contains(&words), "{}", said.out);
        assert!(
            said.out.contains(&format!(": {lost} records are lost")),
            "{}",
            said.out
        );
    }
    let page: Value = serde_json::from_str(&shelf.run("list", &["--json"]).out).unwrap();
    assert_eq!(
        page["logs"][0]["records"],
        bodies.len() - holds[1] - holds[2]
    );
}

#[test]
fn a_newer_format_is_named_and_not_touched() {
    let shelf = healthy();
    let path = archive::log_folder(&shelf.0, 1, 1).join("0000000000000000.seg");
    change(&path, |bytes| {
        assert!(matches!(Head::decode(bytes), HeadFound::Head { .. }));
        for copy in [0, 512] {
            bytes[copy + 8] = 7;
            let sum = crc32c::crc32c(&bytes[copy..copy + 64]);
            bytes[copy + 64..copy + 68].copy_from_slice(&sum.to_le_bytes());
        }
    });
    let words = format!(
        "{}: has format version 7, and this relay reads",
        path.display()
    );
    let before = shelf.files();
    for (verb, args, code) in [
        ("verify", &[][..], 3),
        ("list", &[], 2),
        ("show", &[], 2),
        ("export", &[], 2),
        ("drop", &["--backend", "a", "--yes"], 2),
    ] {
        let said = shelf.run(verb, args);
        assert_eq!(said.code, code, "{verb}");
        assert!(said.err.contains(&words), "{verb}: {}", said.err);
    }
    fs::remove_file(shelf.0.join("lock")).unwrap(); // of `drop`
    assert_eq!(shelf.files(), before);
}

#[test]
fn cursors_are_read_from_the_place_that_is_whole() {
    let shelf = healthy();
    let folder = archive::log_folder(&shelf.0, 1, 0);
    let path = folder.join(FILE);
    let marks = fs::read(&path).unwrap();
    let place = marks.len() / 2;
    change(&path, |bytes| bytes[30] = 1);
    let out = shelf.run("verify", &[]).well();
    assert!(
        out.contains(&format!("{}: at 0: torn", path.display())),
        "{out}"
    );
    assert!(out.contains(" 1 cursor files,"), "{out}");
    change(&path, |bytes| bytes[place + 30] ^= 1);
    let said = shelf.run("verify", &[]);
    let words = format!("{}: at {place}: damaged", path.display());
    assert!(said.code == 3 && said.out.contains(&words), "{}", said.out);
    // Whole, but of another count of names.
    let file = fs::File::create(&path).unwrap();
    Cursors::new(std::sync::Arc::new(PlaceFile::from(file)), None)
        .save(&[Mark::default(); 3], 0)
        .unwrap();
    let said = shelf.run("verify", &[]);
    let words = format!("{}: at 0: damaged", path.display());
    assert!(said.code == 3 && said.out.contains(&words), "{}", said.out);
}

#[test]
fn dead_letters_are_shown_exported_and_dropped_whatever_their_bytes() {
    let shelf = Shelf::new();
    shelf.letter("b/1", "db=x&p=hunter2", b"m v=\xff 1");
    shelf.letter("b/1", "db=x", b"m s=\"open\n");
    let path = file_of(&shelf.0, "b/1");
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"{\"time\":\"20").unwrap();
    let out = shelf.run("verify", &[]).well();
    assert!(
        out.contains(&format!("{}: line 3: torn", path.display())),
        "{out}"
    );
    shelf.letter("b/1", "db=x", b"m v=3 1\n");
    let said = shelf.run("verify", &[]);
    let words = format!("{}: line 3: damaged", path.display());
    assert!(said.code == 3 && said.out.contains(&words), "{}", said.out);
    assert!(
        said.out.contains(" 3 dead letters: 1 damaged, 0 torn"),
        "{}",
        said.out
    );

    let shown = shelf.run("show", &["--dead", "--backend", "b/1"]).well();
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        [
            r#"b/1 1 2026-01-02T03:04:05.678Z 400 /write?db=x 7 bytes "m v=\xff 1" no good"#,
            r#"b/1 2 2026-01-02T03:04:05.678Z 400 /write?db=x 10 bytes "m s=\"open\n" no good"#,
            "b/1 3 damaged: no letter",
            r#"b/1 4 2026-01-02T03:04:05.678Z 400 /write?db=x 8 bytes "m v=3 1\n" no good"#,
        ]
    );
    let said = shelf.run("export", &["--dead"]);
    let post = "# POST /write?db=x\n";
    let bodies = [post, "m s=\"open\n", post, "m v=3 1\n"].concat();
    let expected = [post.as_bytes(), b"m v=\xff 1\n", bodies.as_bytes()].concat();
    assert_eq!((said.code, &said.bytes), (0, &expected));
    assert!(
        said.err.contains("1 lines are no dead letters"),
        "{}",
        said.err
    );
    let letters = json_lines(&shelf.run("export", &["--dead", "--json"]).out);
    let coded: Vec<_> = letters.iter().map(|letter| &letter["base64"]).collect();
    assert_eq!(coded, [&json!("bSB2Pf8gMQ=="), &Value::Null, &Value::Null]);

    let bytes = fs::metadata(&path).unwrap().len();
    let drop = ["--dead", "--backend", "b/1"];
    let said = shelf.run("drop", &drop);
    let words = format!("4 dead letters ({bytes} bytes) of b/1");
    assert_eq!(
        said.out,
        format!("would drop {words}: add --yes to do it\n")
    );
    assert!(said.code == 1 && path.exists());
    let out = shelf.run("drop", &[&drop[..], &["--yes"]].concat()).well();
    assert_eq!(out, format!("dropped {words}\n"));
    assert!(!path.exists());
}

#[test]
fn no_credentials_are_ever_shown() {
    let shelf = healthy();
    let queries = [
        "db=z&u=root&p=hunter2",
        "%75=root&%70=hunter2",
        "u=root;p=hunter2;db=z",
    ];
    for (number, query) in (2..).zip(queries) {
        let kind = u8::try_from(number).unwrap();
        let write = Write {
            kind,
            query,
            ..line("m v=1 1")
        };
        shelf.log(7, number, &[(1, write)]);
        // Also where it was set aside by a version that left them in.
        let letter = json!({"time": "", "backend": "b", "status": 400, "reason": "", "path": "/write",
                            "query": query, "body": "m v=1 1"});
        let path = file_of(&shelf.0, "b");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{letter}").unwrap();
    }
    let mut pages = 0;
    for verb in ["list", "show", "verify", "export", "drop"] {
        for args in [
            &[][..],
            &["--json"],
            &["--dead"],
            &["--dead", "--json"],
            &["--backend", "a"],
            &["--backend", "b"],
        ] {
            let Said { code, out, err, .. } = shelf.run(verb, args);
            let page = out + &err;
            pages += u32::from(code == 0);
            for secret in ["hunter2", "c2VjcmV0", "Basic", "root"] {
                assert!(!page.contains(secret), "{verb} {args:?}: {page}");
            }
        }
    }
    assert_eq!(pages, 2 + 4 + 1 + 6);
}

#[test]
fn wrong_arguments_exit_with_1() {
    let shelf = healthy();
    let said = shelf.run("show", &["--backend", "c"]);
    assert!(
        said.code == 1 && said.err.contains("write one of a, b"),
        "{}",
        said.err
    );
    assert_eq!(shelf.run("drop", &["--yes"]).code, 1, "whose?");
    assert_eq!(shelf.run("look", &[]).code, 1, "no such verb");
    let gone = Shelf(shelf.0.join("gone"));
    for (verb, args) in [
        ("list", &[][..]),
        ("show", &[]),
        ("verify", &[]),
        ("export", &[]),
        ("drop", &["--backend", "a", "--yes"]),
    ] {
        let said = gone.run(verb, args);
        assert_eq!(said.code, 1, "{verb}");
        assert!(said.err.contains("there is no such folder"), "{}", said.err);
        assert!(!gone.0.exists(), "{verb} makes no folder");
    }
}

#[test]
fn beside_a_running_relay_one_may_look_and_not_drop() {
    let shelf = healthy();
    shelf.letter("b", "db=x", b"bad");
    let lock = archive::lock(&shelf.0).unwrap();
    // A log that was begun, and holds nothing yet.
    fs::create_dir(archive::log_folder(&shelf.0, 3, 0)).unwrap();
    let before = shelf.files();
    for verb in ["list", "show", "verify", "export"] {
        let said = shelf.run(verb, &[]);
        assert_eq!(said.code, 0, "{verb}: {}", said.err);
        let words = "in use by a running relay: what is shown may be a moment old";
        assert!(said.err.contains(words), "{verb}: {}", said.err);
    }
    for args in [
        &["--backend", "b", "--yes"][..],
        &["--backend", "b", "--yes", "--dead"],
    ] {
        let said = shelf.run("drop", args);
        assert_eq!((said.code, said.out.as_str()), (2, ""));
        assert!(
            said.err.contains("another relay uses this spool"),
            "{}",
            said.err
        );
    }
    assert_eq!(shelf.files(), before, "nothing was touched");
    drop(lock);
    shelf.run("list", &[]).well();
}

#[test]
fn a_dropped_backend_is_owed_nothing_and_the_others_are() {
    let shelf = healthy();
    let said = shelf.run("drop", &["--backend", "a"]);
    let words = "3 records (23 bytes) owed to a";
    assert_eq!(
        said.out,
        format!("would drop {words}: add --yes to do it\n")
    );
    assert_eq!(said.code, 1);
    assert_eq!(
        shelf
            .run("show", &["--backend", "a"])
            .well()
            .lines()
            .count(),
        3
    );
    let before_b = shelf.run("export", &["--backend", "b"]).well();

    let out = shelf.run("drop", &["--backend", "a", "--yes"]).well();
    assert_eq!(out, format!("dropped {words}\n"));
    assert_eq!(
        shelf.run("show", &["--backend", "a"]).well(),
        "nothing is owed\n"
    );
    assert_eq!(shelf.run("export", &["--backend", "b"]).well(), before_b);
    shelf.run("verify", &[]).well();
    let out = shelf.run("drop", &["--backend", "b", "--yes"]).well();
    assert_eq!(out, "dropped 3 records (22 bytes) owed to b\n");
    let left = fs::read_dir(&shelf.0).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "what nobody needs is gone");
}

#[test]
fn a_drop_that_could_not_be_saved_is_not_said_to_be_done() {
    let shelf = healthy();
    let folder = archive::log_folder(&shelf.0, 1, 0);
    fs::remove_file(folder.join(FILE)).unwrap();
    fs::create_dir(folder.join(FILE)).unwrap();
    let said = shelf.run("drop", &["--backend", "a", "--yes"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert!(said.err.contains("could not be saved"), "{}", said.err);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let (shelf, _) = large();
    let mut command = shelf.command("export", &[]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn find_finds_the_record_of_a_body() {
    let shelf = healthy();
    let path = &segments(&archive::log_folder(&shelf.0, 2, 0))[0];
    assert_eq!(record_at(path, "m v=3 1"), find(path, b"KEPT"));
}
