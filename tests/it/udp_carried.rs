//! Datagrams in, HTTP out: a UDP point that backends keep, or are owed.

use crate::client::until;
use crate::datagrams::sender;
use crate::relay::Relay;
use crate::spool_site::{Folder, Site, addresses};
use crate::store::{Does, Store, own_address};

fn urls(stores: &[(&str, &Store)]) -> String {
    let url =
        |(name, store): &(&str, &Store)| format!("{name}=http://{}/?db=x&rp=y", store.address);
    stores.iter().map(url).collect::<Vec<_>>().join(",")
}

/// A relay with a spool whose UDP listener writes to these stores over HTTP; its HTTP listener has one
/// of its own.
fn site(other: &Store, stores: &[(&str, &Store)], env: &[(&str, &str)]) -> (Site, String) {
    let (udp, outputs) = (own_address(), urls(stores));
    let mut all = vec![
        ("RELAY_UDP_BIND_ADDR", udp.as_str()),
        ("RELAY_UDP_OUTPUTS", outputs.as_str()),
    ];
    all.extend_from_slice(env);
    let site = Site::at(Folder::new(), addresses(&[("http", other)]), &all);
    (site, udp)
}

fn send(udp: &str, numbers: std::ops::Range<usize>) {
    let socket = sender(udp);
    for n in numbers {
        socket
            .send(format!("m,n={n} v={n} {n}").as_bytes())
            .unwrap();
    }
}

fn has(store: &Store, numbers: std::ops::Range<usize>) -> bool {
    numbers
        .clone()
        .all(|n| store.value(&format!("m,n={n} {n}")).is_some())
}

#[test]
fn udp_over_http_reaches_all_backends_with_database_policy_and_unit() {
    let (a, b) = (Store::new(), Store::new());
    let relay = Relay::of_datagrams(
        &urls(&[("a", &a), ("b", &b)]),
        &[("RELAY_UDP_PRECISION", "ms")],
    );
    send(&relay.udp[0], 0..2_000);
    until("all are in both", || has(&a, 0..2_000) && has(&b, 0..2_000));
    let requests = a.seen();
    assert!(
        requests
            .iter()
            .all(|seen| seen.head.starts_with("POST /write?db=x&rp=y&precision=ms ")),
        "{requests:?}"
    );
    assert!(
        requests.len() < 1_000,
        "{} writes: what waits goes together",
        requests.len()
    );
    assert_eq!(relay.metric("relay_points_total{path=\"udp\"}"), 2_000);
}

#[test]
fn udp_over_http_a_backend_that_was_away_is_owed_also_over_a_kill() {
    let (other, a, mut b) = (Store::new(), Store::new(), Store::away());
    let (mut site, udp) = site(&other, &[("ua", &a), ("ub", &b)], &[]);
    send(&udp, 0..200);
    until("a has them", || has(&a, 0..200));
    site.kill();
    site.start();
    send(&udp, 200..400);
    until("a has them", || has(&a, 200..400));
    b.start();
    site.level("ub");
    until("b has them too", || has(&b, 0..400));
}

#[test]
fn udp_over_http_is_owed_even_if_no_backend_is_there() {
    let (other, mut a, mut b) = (Store::new(), Store::away(), Store::away());
    let (mut site, udp) = site(&other, &[("ua", &a), ("ub", &b)], &[]);
    site.says("backend is down", 2);
    send(&udp, 0..300);
    site.says("backend is owed writes", 2);
    site.term();
    site.start();
    a.start();
    b.start();
    site.level("ua");
    site.level("ub");
    assert!(has(&a, 0..300) && has(&b, 0..300));
    assert!(site.folder.files(".jsonl").is_empty());
}

#[test]
fn udp_over_http_what_a_backend_refuses_is_set_aside_and_the_rest_delivered() {
    let (other, a) = (Store::new(), Store::new());
    // A type conflict, say: this backend refuses a body with such a line in it.
    a.rule(
        |seen| match String::from_utf8_lossy(&seen.body).contains("conflict") {
            true => Does::Say(
                400,
                "",
                "{\"error\":\"partial write: field type conflict\"}\n",
            ),
            false => Does::Take,
        },
    );
    let (site, udp) = site(&other, &[("ua", &a)], &[]);
    let socket = sender(&udp);
    let body: String = (0..50).map(|n| format!("m,n={n} v={n} {n}\n")).collect();
    socket
        .send(format!("{body}conflict v=t 1\n").as_bytes())
        .unwrap();
    until("the innocents are delivered", || has(&a, 0..50));
    site.says("set aside as dead letters", 1);
    let letters = std::fs::read_to_string(&site.folder.files(".jsonl")[0]).unwrap();
    assert!(
        letters.contains("conflict v=t 1") && !letters.contains("m,n="),
        "{letters}"
    );
}

#[test]
fn udp_over_http_without_a_spool_counts_what_is_lost() {
    let (refusing, away) = (Store::new(), Store::away());
    refusing.rule(|_| Does::Say(404, "", "{\"error\":\"database not found\"}\n"));
    for (store, reason) in [(&refusing, "refused"), (&away, "backend")] {
        let relay = Relay::of_datagrams(&urls(&[("a", store)]), &[]);
        send(&relay.udp[0], 0..100);
        let row = format!("relay_udp_dropped_total{{reason=\"{reason}\"}}");
        until(&row, || relay.metric(&row) == 100);
    }
}

#[test]
fn udp_balance_over_http_loses_nothing_when_a_backend_dies() {
    let (a, mut b) = (Store::new(), Store::new());
    let relay = Relay::of_datagrams(
        &urls(&[("a", &a), ("b", &b)]),
        &[("RELAY_UDP_MODE", "balance")],
    );
    for round in 0..20 {
        send(&relay.udp[0], round * 50..round * 50 + 50);
        let all = |upto: usize| (0..upto).all(|n| has(&a, n..n + 1) || has(&b, n..n + 1));
        until("each is in one", || all(round * 50 + 50));
        if round == 9 {
            assert!(a.count() > 0 && b.count() > 0);
            b.stop();
        }
    }
    assert!(a.count() + b.count() >= 1_000 && a.count() < 1_000);
}

#[test]
fn udp_and_http_outputs_of_one_listener_get_the_same_points() {
    let (a, receiver) = (Store::new(), crate::datagrams::Receiver::new());
    let outputs = format!("a=http://{}/?db=x,b={}", a.address, receiver.address);
    let relay = Relay::of_datagrams(&outputs, &[]);
    sender(&relay.udp[0]).send(b"m v=1\nm,t=a v=2").unwrap();
    let lines = receiver.wait_for(2);
    until("over HTTP too", || a.lines().len() == 2);
    assert_eq!(a.lines(), lines);
}
