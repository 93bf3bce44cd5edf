//! What the relay remembers never refuses a write that a backend would take: where no backend is known to be up,
//! the write, the read and the load balancer's question ask now.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::answers::first_cpu;
use crate::client::{Answer, ask, until, write};
use crate::relay::Relay;
use crate::spool_site::Site;
use crate::store::{Does, Store};

/// How long a failed probe counts, and a moment.
const PROBE_COUNTS: Duration = Duration::from_millis(60);

fn outputs<'s>(stores: &'s [(&'s str, &Store)]) -> Vec<(&'s str, &'s str)> {
    let pair = |(name, store): &(&'s str, &'s Store)| (*name, store.address.as_str());
    stores.iter().map(pair).collect()
}

/// Has the relay remember that its backends are down, for so long that its own probes have become rare.
fn remembers(mut one: impl FnMut() -> Answer) {
    until("it is seen", || one().status == 503);
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        assert_eq!(one().status, 503);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Both backends go, and come back: the first that is asked behind that succeeds.
fn comes_back(a: &mut Store, b: &mut Store, wanted: u16, mut one: impl FnMut() -> Answer) {
    for _ in 0..2 {
        until("all is well", || one().status == wanted);
        std::thread::sleep(PROBE_COUNTS);
        a.stop();
        b.stop();
        remembers(&mut one);
        a.start();
        b.start();
        std::thread::sleep(PROBE_COUNTS);
        let answer = one();
        assert_eq!(answer.status, wanted, "{answer:?}");
    }
}

#[test]
fn ask_now_a_write_is_taken_as_soon_as_a_backend_listens_again() {
    for (acks, cpus) in [
        ("1", first_cpu()),
        ("all", first_cpu()),
        ("1", "0,1".to_owned()),
    ] {
        let (mut a, mut b) = (Store::new(), Store::new());
        let relay = Relay::start(
            &outputs(&[("a", &a), ("b", &b)]),
            &[("RELAY_HTTP_ACKS", acks), ("RELAY_CPUS", &cpus)],
        );
        let http = relay.http.clone();
        comes_back(&mut a, &mut b, 204, || {
            write(&http, "/write?db=x", "m v=1 1")
        });
    }
}

#[test]
fn ask_now_with_a_spool() {
    let (mut a, mut b) = (Store::new(), Store::new());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let http = site.http.clone();
    comes_back(&mut a, &mut b, 204, || {
        write(&http, "/write?db=x", "m v=1 1")
    });
    until("both have it", || (a.count(), b.count()) == (1, 1));
}

#[test]
fn ask_now_a_read_and_a_load_balancer() {
    let (mut a, mut b) = (Store::new(), Store::new());
    let answer = |_: &crate::backend::Seen| Does::Say(200, "", "{\"results\":[]}");
    a.rule(answer);
    b.rule(answer);
    let relay = Relay::start(&outputs(&[("a", &a), ("b", &b)]), &[]);
    let http = relay.http.clone();
    comes_back(&mut a, &mut b, 200, || {
        ask(&http, "GET", "/query?db=x&q=SELECT+v+FROM+m", "", b"")
    });
    comes_back(&mut a, &mut b, 200, || ask(&http, "GET", "/ready", "", b""));
    let named = || ask(&http, "GET", "/ready/a", "", b"");
    until("the one that is named", || named().status == 200);
}

#[test]
fn ask_now_where_one_write_goes_to_one_relay() {
    let (mut a, mut b) = (Store::new(), Store::new());
    let env = [("RELAY_HTTP_MODE", "balance")];
    let relay = Relay::start(&outputs(&[("a", &a), ("b", &b)]), &env);
    let http = relay.http.clone();
    comes_back(&mut a, &mut b, 204, || {
        write(&http, "/write?db=x", "m v=1 1")
    });
}

#[test]
fn ask_now_one_that_is_down_before_the_failure_of_another_is_told() {
    for spool in [false, true] {
        let (a, mut b) = (Store::new(), Store::away());
        a.rule(|_| Does::Say(500, "", "{\"error\":\"engine\"}"));
        let site = spool.then(|| Site::new(&[("a", &a), ("b", &b)], &[]));
        let relay = site
            .is_none()
            .then(|| Relay::start(&outputs(&[("a", &a), ("b", &b)]), &[]));
        let http = match (&site, &relay) {
            (Some(site), _) => site.http.clone(),
            (None, Some(relay)) => relay.http.clone(),
            (None, None) => unreachable!(),
        };
        let one = || write(&http, "/write?db=x", "m v=1 1");
        for _ in 0..40 {
            assert_eq!(one().status, 500, "word for word");
            std::thread::sleep(Duration::from_millis(20));
        }
        b.start();
        std::thread::sleep(PROBE_COUNTS);
        let answer = one();
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(b.count(), 1);
    }
}

#[test]
fn ask_now_waits_for_one_probe_and_no_longer() {
    let (a, b) = (Store::new(), Store::new());
    let env = [
        ("RELAY_HTTP_TIMEOUT", "300ms"),
        ("RELAY_PROBE_TIMEOUT", "400ms"),
        ("RELAY_PROBE_INTERVAL", "200ms"),
        ("RELAY_CPUS", &first_cpu()),
    ];
    let relay = Relay::start(&outputs(&[("a", &a), ("b", &b)]), &env);
    let one = || write(&relay.http, "/write?db=x", "m v=1 1");
    assert_eq!(one().status, 204);
    a.hang(true);
    b.hang(true);
    until("their silence is seen", || {
        one().status == 503
            && ["a", "b"]
                .iter()
                .all(|name| relay.metric(&format!("relay_backend_up{{backend=\"{name}\"}}")) == 0)
    });
    let before = a.pings();
    let begun = Instant::now();
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let http = relay.http.clone();
            std::thread::spawn(move || {
                let begun = Instant::now();
                let read = ask(&http, "GET", "/query?db=x&q=SELECT+v+FROM+m", "", b"");
                let answer = write(&http, "/write?db=x", "m v=1 1");
                (read.status, answer.status, begun.elapsed())
            })
        })
        .collect();
    for one in waiting {
        let (read, status, took) = one.join().unwrap();
        assert_eq!((read, status), (503, 503));
        assert!(took < Duration::from_millis(1600), "{took:?}");
    }
    let asked = a.pings() - before;
    let probes = begun.elapsed().as_millis() as usize / 400 + 2;
    assert!(asked <= probes * 4, "{asked} probes of all shards");
    a.hang(false);
    std::thread::sleep(PROBE_COUNTS);
    until("taken again", || one().status == 204);
    b.hang(false);
}

#[test]
fn ask_now_datagrams_to_a_backend_that_is_back_are_not_dropped() {
    let mut a = Store::new();
    let outputs = format!("a=http://{}/?db=x&rp=y", a.address);
    let relay = Relay::of_datagrams(&outputs, &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |n: usize| {
        let point = format!("m,n={n} v=1 1\n");
        socket.send_to(point.as_bytes(), &relay.udp[0]).unwrap();
    };
    send(0);
    until("it is there", || a.count() == 1);
    a.stop();
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        send(1);
        std::thread::sleep(Duration::from_millis(50));
    }
    a.start();
    std::thread::sleep(PROBE_COUNTS);
    send(2);
    until("the next is taken", || a.value("m,n=2 1").is_some());
}

#[test]
fn ask_now_where_all_backends_are_owed_something() {
    let (mut a, mut b) = (Store::new(), Store::away());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[]);
    for n in 0..200 {
        site.write(&format!("m,n={n} v=1 1"));
    }
    site.kill(); // whether a has the last of them is not on file
    a.stop();
    site.start();
    let http = site.http.clone();
    remembers(|| write(&http, "/write?db=x", "m,n=0 v=2 1"));
    a.start();
    b.start();
    std::thread::sleep(PROBE_COUNTS);
    let answer = write(&http, "/write?db=x", "m,n=0 v=3 1");
    assert_eq!(answer.status, 204, "{answer:?}");
    for store in [&a, &b] {
        until("it has all", || {
            store.count() == 200 && store.value("m,n=0 1").as_deref() == Some("v=3")
        });
    }
}
