//! SIGHUP with a spool: what is owed is found by the backends' names, and nothing acknowledged is lost.

use crate::client::{until, write};
use crate::reload::{Filed, config};
use crate::spool_site::{Folder, Writers};
use crate::store::Store;

fn owed(site: &Filed, backend: &str) -> u64 {
    site.relay.metric(&format!(
        "relay_spool_owed_records{{backend=\"{backend}\"}}"
    ))
}

fn put(site: &Filed, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let answer = write(
            &site.relay.http,
            "/write?db=x",
            &format!("m,n={n} v=1i {n}"),
        );
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
}

#[test]
fn reload_keeps_the_debt_of_an_output_that_is_removed_until_it_returns() {
    let (a, mut b, c) = (Store::new(), Store::away(), Store::new());
    let folder = Folder::new();
    let spool = format!("spool.dir = \"{}\"", folder.path().display());
    let with_b = config(&spool, &[("a", &a.address), ("b", &b.address)]);
    let without = config(&spool, &[("c", &c.address), ("a", &a.address)]);
    let site = Filed::start(&with_b);
    put(&site, 0..50);
    until("b is owed", || owed(&site, "b") == 50);
    site.becomes(&without);
    put(&site, 50..100);
    site.becomes(&with_b);
    assert_eq!(owed(&site, "b"), 50);
    put(&site, 100..150);
    until("b is owed more", || owed(&site, "b") == 100);
    b.start();
    until("b is level", || owed(&site, "b") == 0);
    assert_eq!((a.count(), b.count(), c.count()), (150, 100, 50));
    let mut numbers = b.lines().into_iter();
    let first = numbers.next().unwrap();
    assert!(first.starts_with("m,n=0 "), "in order: {first}");
    // The file of a spool that was let go of is let go of.
    site.becomes(&without);
    put(&site, 150..151);
    until("all have it", || c.count() == 51);
}

#[test]
fn reload_again_and_again_under_load_loses_nothing_and_keeps_order() {
    let (a, mut b) = (Store::new(), Store::new());
    let folder = Folder::new();
    let spool = format!("spool.dir = \"{}\"", folder.path().display());
    let outputs = [("a", a.address.clone()), ("b", b.address.clone())];
    let text = |limit: usize, turned: bool| {
        let mut outputs: Vec<(&str, &str)> =
            outputs.iter().map(|(n, a)| (*n, a.as_str())).collect();
        if turned {
            outputs.reverse();
        }
        config(
            &format!("limits.max-body-size = \"{limit}kB\"\n{spool}"),
            &outputs,
        )
    };
    let site = Filed::start(&text(1, false));
    let writers = Writers::start(&site.relay.http, 6);
    for round in 0..8 {
        match round % 4 {
            1 => b.stop(),
            3 => b.start(),
            _ => {}
        }
        writers.go_on(150);
        site.becomes(&text(2 + round, round % 2 == 0));
    }
    writers.go_on(100);
    let written = writers.stop();
    until("nobody is owed anything", || {
        owed(&site, "a") == 0 && owed(&site, "b") == 0
    });
    eprintln!(
        "{} writes, the slowest took {:?}",
        written.count, written.slowest
    );
    for store in [&a, &b] {
        until("it has what was acknowledged", || {
            let points = store.points();
            written
                .points
                .iter()
                .all(|(point, value)| points.get(point) == Some(value))
        });
    }
}

#[test]
fn reload_cuts_what_a_hung_backend_was_sent_and_owes_it() {
    let (a, b) = (Store::new(), Store::new());
    let folder = Folder::new();
    let spool = format!("spool.dir = \"{}\"", folder.path().display());
    let outputs = [("a", a.address.as_str()), ("b", b.address.as_str())];
    let site = Filed::start(&config(&spool, &outputs));
    put(&site, 0..5);
    until("both have it", || a.count() == 5 && b.count() == 5);
    b.hang(true);
    put(&site, 5..20);
    site.becomes(&config(
        &format!("limits.max-body-size = \"1MB\"\n{spool}"),
        &outputs,
    ));
    put(&site, 20..30);
    b.hang(false);
    until("b has all of it", || b.count() == 30);
    until("b is level", || owed(&site, "b") == 0);
    assert_eq!(a.count(), 30);
}

#[test]
fn reload_keeps_a_buffer_in_memory() {
    let (a, mut b, c) = (Store::new(), Store::away(), Store::new());
    let buffered = |outputs: &[(&str, &str)]| {
        config("", outputs).replace("location", "buffer-size-mb = 10\nlocation")
    };
    let site = Filed::start(&buffered(&[("a", &a.address), ("b", &b.address)]));
    put(&site, 0..50);
    until("b is owed", || owed(&site, "b") == 50);
    for _ in 0..2 {
        site.becomes(&buffered(&[
            ("c", &c.address),
            ("b", &b.address),
            ("a", &a.address),
        ]));
        site.becomes(&buffered(&[("a", &a.address), ("b", &b.address)]));
    }
    assert_eq!(owed(&site, "b"), 50);
    put(&site, 50..80);
    b.start();
    until("b has all of it", || b.count() == 80);
    until("b is level", || owed(&site, "b") == 0);
    put(&site, 80..90);
    until("b takes what is new", || b.count() == 90);
}
