//! What backends have accepted is on file before the client hears: neither a kill nor an orderly end has it sent to
//! them again, but for what was under way.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::client::{ask, until, write};
use crate::spool_site::{Site, Writers};
use crate::store::{Does, Store};

/// Each success is told once all backends have accepted.
const ACKS_ALL: (&str, &str) = ("RELAY_HTTP_ACKS", "all");

/// The lines that a backend took more than once, with how often.
fn taken_again(store: &Store) -> BTreeMap<String, usize> {
    let mut taken = BTreeMap::new();
    for line in store.lines() {
        *taken.entry(line).or_insert(0) += 1;
    }
    taken.retain(|_, times| *times > 1);
    taken
}

#[test]
fn spool_sends_nothing_again_after_a_kill_that_all_backends_have() {
    let (a, b) = (Store::new(), Store::new());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[ACKS_ALL]);
    for round in 0..6 {
        // Each write is on a connection of its own, so on any shard.
        (0..20 + round).for_each(|n| site.write(&format!("m,r={round},n={n} v=1i 1")));
        site.kill();
        site.start();
        site.write(&format!("last,r={round} v=1i 1"));
    }
    for (name, store) in [("a", &a), ("b", &b)] {
        assert_eq!(taken_again(store), BTreeMap::new(), "{name}");
        assert_eq!(store.count(), (0..6).map(|round| 21 + round).sum::<usize>());
    }
}

#[test]
fn spool_sends_large_writes_and_gzip_not_again_either() {
    let (a, b) = (Store::new(), Store::new());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[ACKS_ALL]);
    let large = |n: usize| {
        let line = |part| format!("large,n={n},p={part} v=1i 1\n");
        (0..4000).map(line).collect::<String>()
    };
    for n in 0..3 {
        site.write(&large(n));
    }
    site.kill();
    site.start();
    site.write("last v=1i 1");
    assert_eq!(taken_again(&a), BTreeMap::new());
    assert_eq!(taken_again(&b), BTreeMap::new());
}

/// One backend hangs: what it was sent is uncertain, and the other has everything.
#[test]
fn spool_sends_again_only_to_the_backend_that_had_not_answered() {
    let (a, mut b) = (Store::new(), Store::new());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[]);
    (0..20).for_each(|n| site.write(&format!("m,n={n} v=1i 1")));
    until("both have it", || b.count() == 20);
    b.hang(true);
    (20..40).for_each(|n| site.write(&format!("m,n={n} v=1i 1")));
    site.kill();
    b.stop();
    b.start();
    site.start();
    until("it has everything", || b.count() == 40);
    site.level("b");
    assert_eq!(taken_again(&a), BTreeMap::new());
    assert_eq!(taken_again(&b), BTreeMap::new());
}

/// A kill in the middle of a catch-up: only the request that was under way is sent again.
#[test]
fn spool_goes_on_after_a_kill_where_the_catch_up_was() {
    let (a, mut b) = (Store::new(), Store::away());
    let env = [("RELAY_HTTP_MAX_BATCH_KB", "1")];
    let mut site = Site::new(&[("a", &a), ("b", &b)], &env);
    (0..400).for_each(|n| site.write(&format!("m,n={n} v=1i 1")));
    let left = Arc::new(AtomicUsize::new(3));
    let counted = Arc::clone(&left);
    b.rule(move |seen| {
        let is_one_more = |left: usize| left.checked_sub(1);
        match counted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_one_more) {
            Ok(_) => Does::Take,
            Err(_) if seen.body.is_empty() => Does::Take,
            Err(_) => Does::Say(503, "", "{\"error\":\"later\"}"),
        }
    });
    b.start();
    until("some of it was delivered", || {
        left.load(Ordering::SeqCst) == 0
    });
    let has_refused = || b.seen().len() > 3;
    until("the next request was refused", has_refused);
    let had = b.count();
    assert!(had > 0 && had < 400, "in the middle: {had}");
    site.kill();
    left.store(usize::MAX, Ordering::SeqCst);
    site.start();
    site.level("b");
    assert_eq!(b.count(), 400);
    assert_eq!(taken_again(&b), BTreeMap::new());
    assert_eq!(taken_again(&a), BTreeMap::new());
}

/// A statement that is sent again destroys what came since.
#[test]
fn spool_sends_no_statement_again_that_all_backends_have_executed() {
    let (a, b) = (Store::new(), Store::new());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[ACKS_ALL]);
    for statement in ["DELETE+FROM+m", "DROP+MEASUREMENT+m", "CREATE+DATABASE+y"] {
        let answer = ask(
            &site.http,
            "POST",
            &format!("/query?db=x&q={statement}"),
            "",
            b"",
        );
        assert!(answer.status < 300, "{answer:?}");
    }
    until("both have them", || {
        [&a, &b].iter().all(|store| store.seen().len() == 3)
    });
    site.write("m v=1i 1");
    site.kill();
    site.start();
    site.write("last v=1i 1");
    for store in [&a, &b] {
        let statements = store
            .seen()
            .iter()
            .filter(|seen| seen.head.contains("/query"))
            .count();
        assert_eq!(statements, 3);
        assert_eq!(taken_again(store), BTreeMap::new());
    }
}

/// The last answers come after the last housekeeping of a drain: they count all the same.
#[test]
fn spool_owes_nothing_after_an_orderly_end_that_backends_have() {
    let (a, b) = (Store::new(), Store::new());
    let slow = |_: &_| {
        thread::sleep(Duration::from_millis(7));
        Does::Take
    };
    a.rule(slow);
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[]);
    for round in 0..8 {
        let writers = Writers::start(&site.http, 6);
        writers.go_on(40 + 7 * round);
        site.term();
        let logs = site.folder.files(".seg");
        assert!(logs.is_empty(), "round {round}: {logs:?}");
        site.start();
        drop(writers.stop());
    }
}

/// A drain that a backend does not let end in time owes that backend what it has not answered, and nobody else.
#[test]
fn spool_owes_after_a_drain_that_was_cut_only_what_was_not_answered() {
    let (a, mut b) = (Store::new(), Store::new());
    let env = [("RELAY_SHUTDOWN_TIMEOUT", "300ms")];
    let mut site = Site::new(&[("a", &a), ("b", &b)], &env);
    b.hang(true);
    (0..20).for_each(|n| site.write(&format!("m,n={n} v=1i 1")));
    site.end();
    b.stop();
    assert_eq!(owed(&site), [("a".to_owned(), 0), ("b".to_owned(), 20)]);
    b.start();
    site.start();
    until("it has everything", || b.count() == 20);
    assert_eq!(taken_again(&a), BTreeMap::new());
    assert_eq!(taken_again(&b), BTreeMap::new());
}

/// How many records each backend is owed, by `spool list`.
fn owed(site: &Site) -> Vec<(String, u64)> {
    let mut list = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"));
    list.args(["spool", "list", "--json", "--dir"]);
    let printed = list.arg(site.folder.path()).output().unwrap();
    let page: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    let backends = page["backends"].as_array().unwrap().iter();
    let row = |backend: &serde_json::Value| {
        let name = backend["name"].as_str().unwrap().to_owned();
        (name, backend["records"].as_u64().unwrap())
    };
    backends.map(row).collect()
}

/// A reload hands the spool over in order.
#[test]
fn spool_sends_nothing_again_after_a_reload() {
    let (a, b) = (Store::new(), Store::new());
    let site = Site::new(&[("a", &a), ("b", &b)], &[ACKS_ALL]);
    for round in 0..3 {
        (0..20).for_each(|n| site.write(&format!("m,r={round},n={n} v=1i 1")));
        site.reload();
    }
    let answer = write(&site.http, "/write?db=x", "last v=1i 1");
    assert_eq!(answer.status, 204);
    assert_eq!(taken_again(&a), BTreeMap::new());
    assert_eq!(taken_again(&b), BTreeMap::new());
}
