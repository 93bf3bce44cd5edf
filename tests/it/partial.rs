//! A backend that writes a part of a write and says so has accepted that part: the write is owed to the
//! others, the dropped lines are dead letters, and nothing loops.

use std::io::Write;

use serde_json::Value;

use crate::answers::metric;
use crate::client::{ask, until, write};
use crate::influxd::Influxd;
use crate::relay::Relay;
use crate::spool_site::{Folder, Site};
use crate::store::{Does, Store};

const CONFLICT: &str = r#"{"error":"partial write: field type conflict: input field \"v\" on measurement \"bad\" is type string, already exists as type float dropped=1"}"#;
const CONFLICT_V2: &str = r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: input field \"v\" on measurement \"bad\" is type string, already exists as type float dropped=1"}"#;
const PARTS_V3: &str = r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"bad v=\"s\" 2","line_number":2,"error_message":"invalid column type"}]}"#;
const EXPIRED: &str = r#"{"error":"partial write: points beyond retention policy dropped=1000"}"#;

/// The lines of `body` that hold `bad` are dropped.
fn drops_bad(
    status: u16,
    headers: &'static str,
    body: &'static str,
) -> impl Fn(&crate::backend::Seen) -> Does {
    move |seen| match String::from_utf8_lossy(&seen.body).contains("bad") {
        true => Does::TakePart("bad", status, headers, body),
        false => Does::Take,
    }
}

fn letters(folder: &Folder, backend: &str) -> Vec<Value> {
    let file = folder.path().join(format!("dead/{backend}.jsonl"));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn level(site: &Site, backend: &str) {
    until("it owes nothing", || {
        site.metric(&format!("relay_spool_owed_records{{backend={backend:?}}}")) == 0
    });
}

const MIXED: &str = "m v=1 1\nbad v=\"s\" 2\nm v=3 3";

#[test]
fn partial_write_is_owed_to_a_backend_that_was_away() {
    for (status, headers, words) in [
        (400, "", CONFLICT),
        (
            400,
            "X-Influxdb-Error: partial write: field type conflict: input field \"v\" dropped=1\r\n",
            "",
        ),
        (422, "", CONFLICT_V2),
        (400, "", PARTS_V3),
    ] {
        let (a, mut b) = (Store::new(), Store::away());
        a.rule(drops_bad(status, headers, words));
        let site = Site::new(&[("a", &a), ("b", &b)], &[]);
        until("its absence is seen", || {
            site.metric("relay_backend_up{backend=\"b\"}") == 0
        });
        let answer = write(&site.http, "/write?db=x", MIXED);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, words),
            "word for word"
        );
        b.start();
        until("b gets what a took a part of", || b.count() == 3);
        until("a has the good ones", || a.count() == 2);
        until("the dropped line is a dead letter", || {
            letters(&site.folder, "a").len() == 1
        });
        let letter = &letters(&site.folder, "a")[0];
        assert_eq!(
            (&letter["backend"], &letter["status"]),
            (&"a".into(), &status.into())
        );
        assert!(!letter["time"].as_str().unwrap().is_empty());
        if !words.is_empty() {
            assert_eq!(letter["reason"], words);
            assert_eq!(
                letter["body"].as_str().unwrap().trim_end(),
                "bad v=\"s\" 2",
                "the line alone"
            );
        }
        level(&site, "b");
        let sent = |store: &Store| store.seen().len();
        assert_eq!(
            sent(&a),
            1,
            "nothing is sent again to a backend that gave its answer"
        );
        assert!(letters(&site.folder, "b").is_empty());
    }
}

#[test]
fn partial_write_every_time_never_makes_a_backend_owing() {
    let (a, b) = (Store::new(), Store::new());
    a.rule(drops_bad(400, "", CONFLICT));
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    for n in 0..30 {
        let body = format!("m v=1 {n}\nbad v=\"s\" {n}");
        let answer = write(&site.http, "/write?db=x", &body);
        assert!(matches!(answer.status, 204 | 400), "{answer:?}");
    }
    until("b has all", || b.count() == 60);
    until("a has the good ones", || a.count() == 30);
    until("all letters are written", || {
        letters(&site.folder, "a").len() == 30
    });
    assert!(!site.said().contains("backend is owed"), "{}", site.said());
    assert_eq!((a.seen().len(), b.seen().len()), (30, 30));
    let row = "relay_dead_letters_total{backend=\"a\",code=\"400\"}";
    until(row, || site.metric(row) == 30);
}

#[test]
fn partial_write_of_both_backends_owes_nothing() {
    let (a, b) = (Store::new(), Store::new());
    a.rule(drops_bad(400, "", CONFLICT));
    b.rule(drops_bad(400, "", CONFLICT));
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let answer = write(&site.http, "/write?db=x", MIXED);
    assert_eq!((answer.status, answer.body.as_str()), (400, CONFLICT));
    until("both have the good ones", || {
        (a.count(), b.count()) == (2, 2)
    });
    until("both have a letter", || {
        ["a", "b"]
            .iter()
            .all(|name| letters(&site.folder, name).len() == 1)
    });
    assert!(!site.said().contains("backend is owed"), "{}", site.said());
}

#[test]
fn partial_write_is_kept_for_a_backend_that_fails_and_after_a_kill() {
    for acks in ["1", "all"] {
        let (a, b) = (Store::new(), Store::new());
        a.rule(drops_bad(400, "", CONFLICT));
        b.rule(|_| Does::Say(500, "", "{\"error\":\"engine\"}"));
        let mut site = Site::new(&[("a", &a), ("b", &b)], &[("RELAY_HTTP_ACKS", acks)]);
        let answer = write(&site.http, "/write?db=x", MIXED);
        assert_eq!(answer.status, 400, "{answer:?}");
        until("b is owed it", || {
            site.metric("relay_spool_owed_records{backend=\"b\"}") == 1
        });
        site.kill();
        b.rule(|_| Does::Take);
        site.start();
        until("b gets it", || b.count() == 3);
        until("a has a letter", || !letters(&site.folder, "a").is_empty());
    }
}

#[test]
fn partial_write_compressed_and_joined_is_told_apart() {
    let (a, b) = (Store::new(), Store::new());
    a.rule(drops_bad(400, "", CONFLICT));
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(MIXED.as_bytes()).unwrap();
    let gzip = encoder.finish().unwrap();
    a.rule(|_| Does::TakePart("bad", 400, "", CONFLICT));
    let answer = ask(
        &site.http,
        "POST",
        "/write?db=x",
        "Content-Encoding: gzip\r\n",
        &gzip,
    );
    assert!(matches!(answer.status, 204 | 400), "{answer:?}");
    until("a letter", || letters(&site.folder, "a").len() == 1);
    let letter = &letters(&site.folder, "a")[0];
    assert_eq!(letter["body"].as_str().unwrap().trim_end(), "bad v=\"s\" 2");
    assert!(!site.said().contains("backend is owed"), "{}", site.said());
}

#[test]
fn partial_write_among_joined_ones_is_heard_by_its_client_alone() {
    let (a, b) = (Store::new(), Store::new());
    a.rule(drops_bad(400, "", CONFLICT));
    b.rule(drops_bad(400, "", CONFLICT));
    let cpu = crate::answers::first_cpu();
    let env = [("RELAY_HTTP_MERGE", "auto"), ("RELAY_CPUS", cpu.as_str())];
    let site = Site::new(&[("a", &a), ("b", &b)], &env);
    let writers: Vec<_> = (0..16)
        .map(|client| {
            let http = site.http.clone();
            std::thread::spawn(move || {
                for n in 0..10 {
                    let body = match client {
                        0 => format!("m,c=0 v=1 {n}\nbad v=\"s\" {n}"),
                        _ => format!("m,c={client} v=1 {n}"),
                    };
                    let want = if client == 0 { 400 } else { 204 };
                    assert_eq!(write(&http, "/write?db=x", &body).status, want, "{body}");
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|one| one.join().unwrap());
    until("both have the good ones", || {
        (a.count(), b.count()) == (160, 160)
    });
    until("one letter for each", || {
        ["a", "b"]
            .iter()
            .all(|name| letters(&site.folder, name).len() == 10)
    });
    assert!(!site.said().contains("backend is owed"), "{}", site.said());
}

#[test]
fn partial_write_of_datagrams_counts_only_what_was_dropped() {
    let a = Store::new();
    a.rule(drops_bad(400, "", CONFLICT));
    let relay = Relay::of_datagrams(&format!("a=http://{}/write?db=x", a.address), &[]);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let body = format!("{MIXED}\n");
    socket.send_to(body.as_bytes(), &relay.udp[0]).unwrap();
    until("the good ones are there", || a.count() == 2);
    let row = "relay_udp_dropped_total{reason=\"refused\"}";
    until(row, || relay.metric(row) == 1);
}

#[test]
fn partial_answers_in_a_replay_are_final_and_name_the_lines() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    for n in 0..200 {
        match n {
            77 => site.write("bad v=\"s\" 77"),
            _ => site.write(&format!("m v=1 {n}")),
        }
    }
    b.rule(drops_bad(400, "", CONFLICT));
    b.start();
    site.level("b");
    assert_eq!(b.count(), 199);
    let found = letters(&site.folder, "b");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        found[0]["body"].as_str().unwrap().trim_end(),
        "bad v=\"s\" 77"
    );
    assert!(b.seen().len() < 50, "{} requests", b.seen().len());
}

#[test]
fn partial_answers_in_a_replay_that_name_nothing_cost_few_requests() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    for n in 0..100 {
        let lines: Vec<String> = (0..20).map(|k| format!("bad,k={k} v=\"s\" {n}")).collect();
        site.write(&lines.join("\n"));
    }
    b.rule(drops_bad(
        400,
        "",
        r#"{"error":"partial write: max-values-per-tag limit exceeded dropped=20"}"#,
    ));
    b.start();
    site.level("b");
    assert!(b.seen().len() < 500, "{} requests", b.seen().len());
    let mut lines: Vec<String> = letters(&site.folder, "b")
        .iter()
        .flat_map(|letter| {
            let lines = letter["body"].as_str().unwrap().lines();
            lines.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    lines.sort();
    for two in lines.windows(2) {
        assert_ne!(two[0], two[1], "once");
    }
    let lines = lines.len();
    assert_eq!(lines, 2000, "nothing is lost without a letter");
}

#[test]
fn points_beyond_retention_are_counted_and_nothing_else() {
    let (a, mut b) = (Store::new(), Store::away());
    a.rule(|_| Does::Say(400, "", EXPIRED));
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    for n in 0..20 {
        let lines: Vec<String> = (0..1000).map(|k| format!("m,k={k} v=1 {n}")).collect();
        let answer = write(&site.http, "/write?db=x", &lines.join("\n"));
        assert_eq!((answer.status, answer.body.as_str()), (400, EXPIRED));
    }
    b.rule(|seen| {
        let lines = seen.body.iter().filter(|byte| **byte == b'\n').count();
        // What no backend would say: it is not believed beyond what it was sent.
        match lines {
            0 => Does::Take,
            _ => Does::Say(400, "", r#"{"error":"partial write: points beyond retention policy dropped=99999999999999999999"}"#),
        }
    });
    b.start();
    level(&site, "b");
    until("b was sent them", || !b.seen().is_empty());
    level(&site, "b");
    assert!(b.seen().len() <= 60, "{} requests", b.seen().len());
    assert_eq!(
        site.metric("relay_points_expired_total{backend=\"a\"}"),
        20_000
    );
    until("counted on replay", || {
        site.metric("relay_points_expired_total{backend=\"b\"}") == 20_000
    });
    assert!(letters(&site.folder, "a").is_empty() && letters(&site.folder, "b").is_empty());
}

#[test]
fn a_refusal_that_quotes_the_words_is_no_partial_write() {
    let (a, b) = (Store::new(), Store::away());
    a.rule(|_| {
        Does::Say(
            400,
            "",
            r#"{"error":"unable to parse 'm,t=partial write: x': bad"}"#,
        )
    });
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    until("its absence is seen", || {
        site.metric("relay_backend_up{backend=\"b\"}") == 0
    });
    assert_eq!(write(&site.http, "/write?db=x", "m v=1 1").status, 400);
    assert_eq!(site.metric("relay_spool_owed_records{backend=\"b\"}"), 0);
    drop(b);
}

#[test]
fn partial_write_without_a_spool_goes_to_the_client_and_all_others_keep_it() {
    let (a, b) = (Store::new(), Store::new());
    a.rule(drops_bad(400, "", CONFLICT));
    let relay = Relay::start(&[("a", &a.address), ("b", &b.address)], &[]);
    let answer = write(&relay.http, "/write?db=x", MIXED);
    assert!(matches!(answer.status, 204 | 400), "{answer:?}");
    until("b has all", || b.count() == 3);
    until("a has the good ones", || a.count() == 2);
    until("what a lacks is counted", || {
        metric(&relay, "relay_backend_missed_total{backend=\"a\"}") == 1
    });
    assert_eq!(
        metric(&relay, "relay_backend_missed_total{backend=\"b\"}"),
        0
    );
}

#[test]
fn partial_write_of_a_real_influxd_leaves_both_with_the_good_lines() {
    let (Some(a), Some(mut b)) = (Influxd::start("part-a"), Influxd::start("part-b")) else {
        return;
    };
    assert_eq!(write(&a.address, "/write?db=x", "m v=1 1").status, 204);
    let outputs = [("a", &a.address), ("b", &b.address)];
    let outputs = outputs.map(|(name, address)| (name.to_owned(), address.clone()));
    let site = Site::at(Folder::new(), outputs.to_vec(), &[]);
    b.kill();
    until("its death is seen", || {
        site.metric("relay_backend_up{backend=\"b\"}") == 0
    });
    let body = "n v=1 1\nm v=\"a string\" 2\nn v=2 2";
    let direct = write(&a.address, "/write?db=x", body);
    let answer = write(&site.http, "/write?db=x", body);
    assert_eq!((answer.status, &answer.body), (direct.status, &direct.body));
    assert_eq!(answer.status, 400);
    let bad = "n v=3 3\nnothing\nn v=4 4";
    assert_eq!(write(&site.http, "/write?db=x", bad).status, 400);
    b.restart();
    let count = |server: &Influxd| server.query("SELECT count(v) FROM n").body;
    until("b has the good lines", || count(&b).contains(",4]"));
    assert!(count(&a).contains(",4]"));
    until("letters name the lines", || {
        let mut bodies: Vec<String> = letters(&site.folder, "a")
            .iter()
            .map(|letter| letter["body"].as_str().unwrap().trim_end().to_owned())
            .collect();
        bodies.sort();
        bodies == ["m v=\"a string\" 2", "nothing"]
    });
}

#[test]
fn partial_write_that_is_too_large_to_wait_for_its_letter_has_it_from_the_replay() {
    let (a, b) = (Store::new(), Store::new());
    a.rule(drops_bad(400, "", CONFLICT));
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let pad = "x".repeat(1000);
    let mut lines: Vec<String> = (0..3000)
        .map(|n| format!("m,n={n} v=\"{pad}\" {n}"))
        .collect();
    lines.insert(1500, "bad v=\"s\" 2".to_owned());
    let answer = write(&site.http, "/write?db=x", &lines.join("\n"));
    assert!(matches!(answer.status, 204 | 400), "{}", answer.status);
    until("both have theirs", || {
        (a.count(), b.count()) == (3000, 3001)
    });
    until("the letter names the line", || {
        letters(&site.folder, "a").len() == 1
    });
    let letter = &letters(&site.folder, "a")[0];
    assert_eq!(letter["body"].as_str().unwrap().trim_end(), "bad v=\"s\" 2");
    level(&site, "a");
}
