//! A spool outlives the configuration that it was written under: shards, outputs and their order change
//! from start to start, and what is owed to a backend is owed to its name.

use crate::client::until;
use crate::relay::Relay;
use crate::spool_site::{Site, Writers, all_have};
use crate::store::Store;

fn point(n: usize) -> String {
    format!("m,n={n} v=1i {n}")
}

fn write(site: &Site, numbers: std::ops::Range<usize>) {
    numbers.for_each(|n| site.write(&point(n)));
}

/// The numbers of the points that it has, less `last`.
fn numbers(store: &Store) -> Vec<usize> {
    let points = store.points();
    let numbers = points.keys().filter_map(|point| {
        let (_, number) = point.split_once(' ')?;
        number.parse().ok()
    });
    let mut numbers: Vec<usize> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn spool_is_adopted_by_other_shards_and_outputs_in_another_order() {
    let (a, mut b) = (Store::new(), Store::away());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[("RELAY_CPUS", "0,1")]);
    let writers = Writers::start(&site.http, 4);
    writers.go_on(300);
    site.kill();
    site.set("RELAY_CPUS", "0");
    site.outputs(&[("b", &b), ("a", &a)]);
    site.start();
    writers.go_on(300);
    site.kill();
    site.set("RELAY_CPUS", "0,1");
    site.start();
    writers.go_on(300);
    b.start();
    let written = writers.stop();
    all_have(&[&a, &b], &site, &written);
}

#[test]
fn spool_owes_a_new_output_only_what_is_new() {
    let (a, mut b, c) = (Store::new(), Store::away(), Store::new());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[]);
    write(&site, 0..50);
    site.kill();
    site.outputs(&[("c", &c), ("a", &a), ("b", &b)]);
    site.start();
    write(&site, 50..100);
    b.start();
    until("all have it", || {
        numbers(&a).len() == 100 && numbers(&b).len() == 100 && numbers(&c).len() == 50
    });
    assert_eq!(numbers(&c), (50..100).collect::<Vec<_>>());
}

#[test]
fn spool_keeps_the_debt_of_an_output_that_is_removed_until_it_returns() {
    let (a, mut b, c) = (Store::new(), Store::away(), Store::new());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[]);
    write(&site, 0..50);
    site.term();
    site.outputs(&[("a", &a), ("c", &c)]);
    site.start();
    write(&site, 50..100);
    site.term();
    site.outputs(&[("b", &b), ("a", &a)]);
    site.start();
    write(&site, 100..150);
    assert_eq!(b.count(), 0);
    b.start();
    site.level("b");
    let expected: Vec<usize> = (0..50).chain(100..150).collect();
    assert_eq!(numbers(&b), expected, "what was written while it was away");
    assert_eq!(numbers(&a), (0..150).collect::<Vec<_>>());
    assert_eq!(numbers(&c), (50..100).collect::<Vec<_>>());
}

#[test]
fn spool_is_used_by_one_relay_at_a_time() {
    let a = Store::new();
    let site = Site::new(&[("a", &a)], &[]);
    let dir = site.folder.path().to_str().unwrap();
    let other = Relay::try_start(&[("a", &a.address)], &[("RELAY_SPOOL_DIR", dir)]);
    let Err(refused) = other else {
        panic!("two relays on one spool");
    };
    assert_eq!(refused.code, Some(2), "{}", refused.said);
    assert!(
        refused.said.contains("another relay uses this spool") && refused.said.contains(dir),
        "{}",
        refused.said
    );
    site.write("m v=1i 1");
}
