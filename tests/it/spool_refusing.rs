//! Backends that are there and refuse for a while, backends that are all away, and a spool that is
//! full.

use std::time::{Duration, Instant};

use crate::client::{until, write};
use crate::spool_site::{Site, Writers, all_have};
use crate::store::{Does, Store};

/// Backend b, which was away, comes and answers so until it is told otherwise; then it gets everything.
fn refuses_for_a_while(status: u16, words: &'static str) {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    b.rule(move |_| Does::Say(status, "", words));
    let writers = Writers::start(&site.http, 2);
    writers.go_on(100);
    b.start();
    until("it is tried again", || b.seen().len() >= 3);
    writers.go_on(100);
    assert_eq!(b.count(), 0);
    b.rule(|_| Does::Take);
    site.level("b");
    writers.go_on(100);
    let written = writers.stop();
    all_have(&[&a, &b], &site, &written);
    assert!(site.folder.files(".jsonl").is_empty(), "no dead letters");
}

#[test]
fn spool_waits_for_a_database_that_is_not_there_yet() {
    refuses_for_a_while(404, "{\"error\":\"database not found: \\\"x\\\"\"}");
}

#[test]
fn spool_waits_for_a_backend_that_answers_500() {
    refuses_for_a_while(500, "{\"error\":\"no space left on device\"}");
}

#[test]
fn spool_waits_for_a_backend_that_asks_for_a_password() {
    refuses_for_a_while(401, "{\"error\":\"authorization failed\"}");
}

#[test]
fn spool_leaves_a_backend_alone_as_long_as_it_asks() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    b.rule(|_| Does::Say(429, "Retry-After: 2\r\n", "slow down"));
    for n in 0..10 {
        site.write(&format!("m,n={n} v=1i 1"));
    }
    b.start();
    until("it is tried", || !b.seen().is_empty());
    let begun = Instant::now();
    until("it is tried again", || b.seen().len() > 1);
    let rest = begun.elapsed();
    assert!(
        (Duration::from_millis(1900)..Duration::from_millis(2900)).contains(&rest),
        "{rest:?}"
    );
    b.rule(|_| Does::Take);
    until("it has all", || b.count() == 10);
}

#[test]
fn spool_keeps_what_nobody_is_there_to_take_if_told_to() {
    let (mut a, mut b) = (Store::away(), Store::away());
    let env = [("RELAY_SPOOL_WHEN_ALL_FAIL", "accept")];
    let mut site = Site::new(&[("a", &a), ("b", &b)], &env);
    for n in 0..50 {
        let body = format!("m,n={n} v=1i 1");
        let answer = write(&site.http, "/write?db=x", &body);
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    a.start();
    until("one has all", || a.count() == 50);
    site.kill();
    site.start();
    b.start();
    until("both have all", || b.count() == 50);
    assert_eq!(a.points(), b.points());
    site.level("b");
    site.write("m,n=50 v=1i 1");
}

#[test]
fn spool_refuses_what_nobody_is_there_to_take_and_forgets_it() {
    let (mut a, mut b) = (Store::away(), Store::away());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[]);
    for n in 0..5 {
        let answer = write(&site.http, "/write?db=x", &format!("refused,n={n} v=1i 1"));
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some());
    }
    site.kill();
    a.start();
    b.start();
    site.start();
    site.write("m v=1i 1");
    until("both have what was acknowledged", || {
        a.count() > 0 && b.count() > 0
    });
    assert_eq!(
        (a.points().into_keys().collect(), b.count()),
        (vec!["m 1".to_owned()], 1)
    );
}

const SMALL: (&str, &str) = ("RELAY_SPOOL_MAX_SIZE", "64KiB");

fn kilobyte(n: usize) -> String {
    format!("m,n={n} v=\"{}\" 1", "k".repeat(1000))
}

#[test]
fn spool_refuses_when_it_is_full_if_told_to() {
    let (a, mut b) = (Store::new(), Store::away());
    let env = [SMALL, ("RELAY_SPOOL_WHEN_FULL", "refuse")];
    let site = Site::new(&[("a", &a), ("b", &b)], &env);
    let mut taken = 0;
    let full = loop {
        let answer = write(&site.http, "/write?db=x", &kilobyte(taken));
        match answer.status {
            204 => taken += 1,
            _ => break answer,
        }
    };
    assert_eq!(full.status, 503, "{full:?}");
    assert_eq!(full.header("retry-after"), Some("1"));
    assert!(full.body.contains("spool.max-size"), "{}", full.body);
    assert!((60..70).contains(&taken), "{taken} of about 1 kB each");
    b.start();
    site.level("b");
    assert_eq!((a.count(), b.count()), (taken, taken));
    site.write(&kilobyte(taken));
}

#[test]
fn spool_drops_the_oldest_when_it_is_full() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[SMALL]);
    for n in 0..200 {
        site.write(&kilobyte(n));
    }
    site.says("dropped the oldest that the backend was owed", 1);
    until("enough is dropped", || {
        let said = site.said();
        let counts = said.split("records=").skip(1);
        let number = |rest: &str| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<usize>().unwrap_or(0)
        };
        counts.map(number).sum::<usize>() >= 200 - 64
    });
    b.start();
    site.level("b");
    let has: Vec<bool> = (0..200)
        .map(|n| b.value(&format!("m,n={n} 1")).is_some())
        .collect();
    let oldest = has.iter().position(|has| *has).unwrap();
    assert!((130..=140).contains(&oldest), "from {oldest} on");
    assert!(has[oldest..].iter().all(|has| *has), "the newest are there");
    assert_eq!(a.count(), 200);
}
