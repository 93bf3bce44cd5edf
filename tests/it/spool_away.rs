//! Backends that go away, hang, and come back while clients write: nobody waits, nothing is missing,
//! and what was overwritten stays overwritten.

use std::thread;
use std::time::Duration;

use crate::client::{Client, until};
use crate::spool_site::{Site, Writers, all_have};
use crate::store::{Does, Store};

#[test]
fn spool_brings_a_backend_that_was_away_every_line_in_order() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let mut client = Client::new(&site.http);
    let mut written = Vec::new();
    for n in 0..500 {
        // With a newline at the end, without one, with a comment, and of several lines.
        let body = match n % 4 {
            0 => format!("m,n={n} v=1i {n}\n"),
            1 => format!("m,n={n} v=1i {n}"),
            2 => format!("m,n={n} v=1i {n}\nm,n={n} v=2i {n}"),
            _ => format!("m,n={n} v=1i {n}\nm,n={n} v=2i {n}\n"),
        };
        let length = body.len();
        let head = "POST /write?db=x HTTP/1.1\r\nHost: r\r\n";
        client.send(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes());
        assert_eq!(client.answer().unwrap().status, 204);
        written.extend(body.lines().map(str::to_owned));
    }
    assert_eq!(b.count(), 0);
    b.start();
    site.level("b");
    assert_eq!(b.lines(), written);
    assert!(b.taken().len() < 50, "joined: {} requests", b.taken().len());
    assert_eq!(a.lines(), written);
}

#[test]
fn spool_lets_new_writes_flow_while_a_backend_catches_up() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let writers = Writers::start(&site.http, 3);
    writers.go_on(1000);
    b.start();
    let before = writers.count();
    site.level("b");
    assert!(writers.count() > before, "writes went on meanwhile");
    writers.go_on(300);
    let written = writers.stop();
    assert!(
        written.slowest < Duration::from_secs(2),
        "{:?}",
        written.slowest
    );
    all_have(&[&a, &b], &site, &written);
}

#[test]
fn spool_keeps_both_the_same_while_they_are_away_by_turns() {
    let (mut a, mut b) = (Store::new(), Store::new());
    let env = [("RELAY_SPOOL_SEGMENT_SIZE", "64KiB")];
    let site = Site::new(&[("a", &a), ("b", &b)], &env);
    let writers = Writers::start(&site.http, 3);
    for _ in 0..3 {
        writers.go_on(400);
        a.stop();
        writers.go_on(200);
        a.start();
        site.level("a");
        writers.go_on(100);
        b.stop();
        writers.go_on(200);
        b.start();
        site.level("b");
    }
    let written = writers.stop();
    all_have(&[&a, &b], &site, &written);
}

#[test]
fn spool_keeps_both_the_same_while_one_goes_before_the_other_is_level() {
    let (mut a, mut b) = (Store::new(), Store::new());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let writers = Writers::start(&site.http, 3);
    for _ in 0..3 {
        writers.go_on(200);
        a.stop();
        writers.go_on(200);
        a.start();
        b.stop(); // a is owed all of that: writes are refused until it is level, and then go on
        writers.go_on(50);
        b.start();
        writers.go_on(50);
    }
    let written = writers.stop();
    all_have(&[&a, &b], &site, &written);
}

#[test]
fn spool_leaves_clients_alone_while_a_backend_hangs() {
    let (a, b) = (Store::new(), Store::new());
    let env = [
        ("RELAY_CPUS", "0"),
        ("RELAY_HTTP_TIMEOUT", "1s"),
        ("RELAY_PROBE_TIMEOUT", "1s"),
    ];
    let site = Site::new(&[("a", &a), ("b", &b)], &env);
    let writers = Writers::start(&site.http, 3);
    writers.go_on(300);
    b.hang(true);
    writers.go_on(300);
    site.says("backend is owed writes", 1);
    let before = b.count();
    writers.go_on(300);
    assert_eq!(b.count(), before);
    let pings = b.pings();
    until("it is asked whether it is there", || b.pings() > pings);
    b.hang(false); // it says so at once, and then does, late, what it was asked before
    site.level("b");
    writers.go_on(100);
    let written = writers.stop();
    assert!(
        written.slowest < Duration::from_millis(500),
        "{:?}",
        written.slowest
    );
    all_have(&[&a, &b], &site, &written);
}

#[test]
fn spool_makes_a_slow_backend_level_under_load() {
    let (a, mut b) = (Store::new(), Store::away());
    b.rule(|_| {
        thread::sleep(Duration::from_millis(20)); // one after the other
        Does::Take
    });
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let writers = Writers::start(&site.http, 2);
    writers.go_on(1000);
    b.start();
    site.level("b");
    let written = writers.stop();
    assert!(
        written.slowest < Duration::from_secs(1),
        "{:?}",
        written.slowest
    );
    all_have(&[&a, &b], &site, &written);
}

#[test]
fn spool_gives_what_is_owed_to_a_backend_after_a_drain_and_a_start() {
    let (a, mut b) = (Store::new(), Store::away());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let writers = Writers::start(&site.http, 2);
    writers.go_on(300);
    let written = writers.stop();
    site.term();
    b.start();
    site.start();
    all_have(&[&a, &b], &site, &written);
    until("the folder of the old log is gone", || {
        let of_first = |path: &std::path::PathBuf| path.to_string_lossy().contains("log-00000001-");
        !site.folder.files(".seg").iter().any(of_first)
    });
    site.term();
    assert_eq!(
        site.folder.files(".seg"),
        Vec::<std::path::PathBuf>::new(),
        "nothing is owed: nothing is kept"
    );
}
