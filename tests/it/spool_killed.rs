//! SIGKILL, again and again: what was acknowledged is in every backend, at its last value.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::{until, within};
use crate::spool_site::{Site, Writers, all_have};
use crate::store::Store;

/// The relay is killed so many times, under writes; `between` may do something to the backends.
fn storm(site: &mut Site, writers: &Writers, times: usize, mut between: impl FnMut(usize)) {
    for time in 0..times {
        writers.go_on(150 + 37 * time);
        between(time);
        site.kill();
        site.start();
    }
    writers.go_on(50);
}

#[test]
fn spool_survives_kills_while_a_backend_is_away() {
    let (a, mut b) = (Store::new(), Store::away());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let writers = Writers::start(&site.http, 4);
    storm(&mut site, &writers, 4, |_| {});
    b.start();
    site.level("b");
    writers.go_on(100);
    let written = writers.stop();
    all_have(&[&a, &b], &site, &written);
}

#[test]
fn spool_survives_kills_while_a_backend_catches_up() {
    let (a, mut b) = (Store::new(), Store::away());
    // Slow enough that the kills come into the middle of it.
    let env = [
        ("RELAY_HTTP_MAX_BATCH_KB", "1"),
        ("RELAY_SPOOL_REPLAY_RATE", "2KiB"),
    ];
    let mut site = Site::new(&[("a", &a), ("b", &b)], &env);
    let writers = Writers::start(&site.http, 3);
    writers.go_on(600);
    b.start();
    storm(&mut site, &writers, 2, |_| {});
    let level = "backend is level: it is owed nothing backend=\"b\"";
    assert!(!site.said().contains(level), "in the middle");
    assert!(b.count() > 0);
    let written = writers.stop();
    site.kill();
    site.set("RELAY_SPOOL_REPLAY_RATE", "0");
    site.start();
    all_have(&[&a, &b], &site, &written);
}

#[test]
fn spool_survives_kills_while_all_is_well() {
    let (a, b) = (Store::new(), Store::new());
    // So small that they are written anew again and again.
    let env = [("RELAY_SPOOL_SEGMENT_SIZE", "64KiB")];
    let mut site = Site::new(&[("a", &a), ("b", &b)], &env);
    let writers = Writers::start(&site.http, 4);
    writers.go_on(2000);
    storm(&mut site, &writers, 4, |_| {});
    let written = writers.stop();
    all_have(&[&a, &b], &site, &written);
}

#[test]
fn spool_knows_after_a_kill_what_was_on_its_way() {
    let (a, mut b) = (Store::new(), Store::new());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[]);
    (0..20).for_each(|n| site.write(&format!("m,n={n} v=1i 1")));
    until("both have it", || b.count() == 20);
    b.hang(true);
    (20..40).for_each(|n| site.write(&format!("m,n={n} v=1i 1")));
    // Where b stands is saved ten times a second, if it moved. This gives it time to be saved wrongly; if
    // the machine is too slow for that, only the test is weaker.
    thread::sleep(Duration::from_millis(300));
    assert!(
        !site.said().contains("backend is owed"),
        "b may still answer"
    );
    site.kill();
    b.stop(); // and with it goes what it had not done
    assert_eq!(b.count(), 20);
    b.start();
    site.start();
    until("it has everything", || b.count() == 40);
    assert_eq!(a.points(), b.points());
}

#[test]
fn spool_survives_kills_while_backends_go_and_come() {
    let (mut a, mut b) = (Store::new(), Store::new());
    let env = [
        ("RELAY_SPOOL_FSYNC", "always"),
        ("RELAY_SPOOL_SEGMENT_SIZE", "64KiB"),
    ];
    let mut site = Site::new(&[("a", &a), ("b", &b)], &env);
    let writers = Writers::start(&site.http, 3);
    storm(&mut site, &writers, 6, |time| match time % 4 {
        0 => b.stop(),
        1 => b.start(),
        2 => a.stop(),
        _ => a.start(),
    });
    let written = writers.stop();
    all_have(&[&a, &b], &site, &written);
}

/// Each write comes by a connection of its own, so by any shard, once both backends have what came before:
/// the second value of a key is newer than the first, and what a kill leaves in one shard's log may be
/// older than what it leaves in another's.
#[test]
fn spool_puts_no_old_value_above_a_newer_one_of_another_shard() {
    let (a, b) = (Store::new(), Store::new());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let mut keys = 0;
    for round in 0..12 {
        // Logs say where backends stand about twenty times a second, each when it likes.
        let until_then = Instant::now() + Duration::from_millis(110 + 7 * round);
        while Instant::now() < until_then {
            for value in ["v=1i", "v=2i"] {
                site.write(&format!("k,k={keys} {value} 1"));
                let point = format!("k,k={keys} 1");
                let has_it = |store: &Store| store.value(&point).as_deref() == Some(value);
                within(Duration::from_secs(10), "both have it", || {
                    has_it(&a) && has_it(&b)
                });
            }
            keys += 1;
        }
        site.kill();
        site.start();
        until("nothing is owed", || {
            let owed =
                |name| site.metric(&format!("relay_spool_owed_records{{backend=\"{name}\"}}"));
            owed("a") + owed("b") == 0
        });
    }
    for (name, store) in [("a", &a), ("b", &b)] {
        let is_old = |key: &usize| store.value(&format!("k,k={key} 1")).as_deref() != Some("v=2i");
        let old: Vec<usize> = (0..keys).filter(is_old).collect();
        assert!(
            old.is_empty(),
            "{name} has old values of {old:?} of {keys} keys"
        );
    }
}
