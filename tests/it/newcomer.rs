//! An output that is new beside known ones decides nothing until it has accepted something: no client hears its
//! refusal, nobody reads from it, and it is owed like any other.

use crate::client::{ask, until, write};
use crate::reload::{Filed, config};
use crate::spool_site::{Folder, Site};
use crate::store::{Does, Store};

const NO_DATABASE: &str = "{\"error\":\"database not found: \\\"x\\\"\"}";
const PART: &str = "{\"error\":\"partial write: field type conflict: x dropped=1\"}";

fn state(http: &str, backend: &str) -> String {
    let page = ask(http, "GET", "/status", "", b"").body;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    page["status"][backend]["state"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn point(n: usize) -> String {
    format!("m,n={n} v=1i {n}")
}

/// Each of these writes succeeds, and each read is answered by a.
fn all_is_as_before(http: &str, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let answer = write(http, "/write?db=x", &point(n));
        assert_eq!(answer.status, 204, "{answer:?}");
        let read = ask(http, "GET", "/query?db=x&q=SELECT+v+FROM+m", "", b"");
        assert_eq!(read.header("x-relay-backend"), Some("a"), "{read:?}");
    }
}

fn answers_reads(store: &Store, does: Does) {
    store.rule(move |seen| match seen.head.contains(" /query") {
        true => Does::Say(200, "", "{\"results\":[]}"),
        false => does.clone(),
    });
}

#[test]
fn newcomer_that_a_reload_adds_decides_nothing() {
    for has_spool in [false, true] {
        for does in [
            Does::Say(404, "", NO_DATABASE),
            Does::Say(
                401,
                "",
                "{\"error\":\"unable to parse authentication credentials\"}",
            ),
            Does::Say(400, "", "{\"error\":\"odd\"}"),
            Does::Say(500, "", "{\"error\":\"engine\"}"),
        ] {
            let (a, n) = (Store::new(), Store::new());
            answers_reads(&a, Does::Take);
            answers_reads(&n, does.clone());
            let folder = Folder::new();
            let spool = match has_spool {
                true => format!("spool.dir = \"{}\"", folder.path().display()),
                false => String::new(),
            };
            let site = Filed::start(&config(&spool, &[("a", &a.address)]));
            let http = &site.relay.http;
            all_is_as_before(http, 0..3);
            site.becomes(&config(&spool, &[("n", &n.address), ("a", &a.address)]));
            assert_eq!(state(http, "n"), "new", "{does:?}");
            all_is_as_before(http, 3..30);
            assert_eq!((a.count(), n.count()), (30, 0));
            assert!(n.seen().iter().all(|seen| !seen.head.contains(" /query")));
            answers_reads(&n, Does::Take);
            if has_spool && matches!(does, Does::Say(404 | 500, ..)) {
                until("it is owed what it did not take", || n.count() == 27);
            }
            until("it is a voice like any other", || {
                write(http, "/write?db=x", &point(30)).status == 204 && state(http, "n") == "up"
            });
            let asked = || n.seen().iter().any(|seen| seen.head.contains(" /query"));
            until("it is read from", || {
                ask(http, "GET", "/query?db=x&q=SELECT+v+FROM+m", "", b"");
                asked()
            });
            n.rule(|_| Does::Say(404, "", NO_DATABASE));
            a.rule(|_| Does::Close);
            until("its refusal counts now", || {
                write(http, "/write?db=x", &point(31)).status == 404
            });
        }
    }
}

#[test]
fn newcomer_counts_if_no_other_takes_the_write() {
    for acks in ["1", "all"] {
        let (mut a, n) = (Store::new(), Store::new());
        let text = |outputs: &[(&str, &str)]| config("", outputs);
        let site = Filed::start_with(&text(&[("a", &a.address)]), &[("RELAY_HTTP_ACKS", acks)]);
        let http = &site.relay.http;
        assert_eq!(write(http, "/write?db=x", &point(0)).status, 204);
        site.becomes(&text(&[("a", &a.address), ("n", &n.address)]));
        n.rule(|_| Does::Say(404, "", NO_DATABASE));
        a.stop();
        let answer = write(http, "/write?db=x", &point(1));
        assert_eq!(answer.status, 503, "its words are nobody's: {answer:?}");
        n.rule(|_| Does::Take);
        assert_eq!(write(http, "/write?db=x", &point(2)).status, 204);
        assert_eq!(n.count(), 1);
    }
}

#[test]
fn newcomer_that_takes_a_part_says_nothing_to_clients() {
    let (a, n) = (Store::new(), Store::new());
    n.rule(|_| Does::TakePart("bad", 400, "", PART));
    let folder = Folder::new();
    let spool = format!("spool.dir = \"{}\"", folder.path().display());
    let site = Filed::start(&config(&spool, &[("a", &a.address)]));
    let http = &site.relay.http;
    assert_eq!(write(http, "/write?db=x", &point(0)).status, 204);
    site.becomes(&config(&spool, &[("a", &a.address), ("n", &n.address)]));
    let answer = write(http, "/write?db=x", "m v=1 1\nbad v=1 1");
    assert_eq!(answer.status, 204, "{answer:?}");
}

#[test]
fn newcomer_that_the_spool_never_knew_stays_one_over_restarts() {
    let (a, mut b, n) = (Store::new(), Store::away(), Store::new());
    answers_reads(&a, Does::Take);
    answers_reads(&n, Does::Say(404, "", NO_DATABASE));
    let mut site = Site::new(&[("a", &a), ("b", &b)], &[]);
    site.write(&point(0));
    b.start();
    until("b has it", || b.count() == 1);
    site.level("b");
    site.outputs(&[("n", &n), ("a", &a)]);
    site.term(); // no log is needed any more
    site.start();
    all_is_as_before(&site.http, 1..10);
    assert_eq!(state(&site.http, "n"), "new");
    for is_killed in [true, false] {
        match is_killed {
            true => site.kill(),
            false => site.term(),
        }
        site.start();
        assert_eq!(state(&site.http, "n"), "new");
        all_is_as_before(&site.http, 10..20);
    }
    answers_reads(&n, Does::Take);
    until("it gets what it is owed", || n.count() == 19);
    until("it is a voice like any other", || {
        state(&site.http, "n") == "up"
    });
    let list = site.folder.path().join("known.json");
    until("that is on file", || {
        std::fs::read_to_string(&list).unwrap().contains("\"n\"")
    });
    site.kill();
    site.start();
    assert_ne!(state(&site.http, "n"), "new");
    // b was known, and is as it was.
    site.outputs(&[("n", &n), ("a", &a), ("b", &b)]);
    site.kill();
    site.start();
    assert_ne!(state(&site.http, "b"), "new");
}

#[test]
fn newcomer_or_not_nobody_knows_where_the_list_is_damaged_or_nothing_is_there() {
    let (a, n) = (Store::new(), Store::new());
    let mut site = Site::new(&[("a", &a), ("n", &n)], &[]);
    assert_eq!(state(&site.http, "n"), "up", "the first start of all");
    let list = site.folder.path().join("known.json");
    for damage in ["", "{\"known\":[", "\u{0}\u{0}", "[1,2]"] {
        site.kill();
        std::fs::write(&list, damage).unwrap();
        site.start();
        assert_ne!(state(&site.http, "n"), "new", "{damage:?}");
    }
}

#[test]
fn newcomer_among_relays_of_which_one_is_chosen_decides_nothing() {
    let (a, n) = (Store::new(), Store::new());
    n.rule(|_| Does::Say(404, "", NO_DATABASE));
    let env = [("RELAY_HTTP_MODE", "balance")];
    let site = Filed::start_with(&config("", &[("a", &a.address)]), &env);
    let http = &site.relay.http;
    assert_eq!(write(http, "/write?db=x", &point(0)).status, 204);
    site.becomes(&config("", &[("n", &n.address), ("a", &a.address)]));
    for number in 1..20 {
        let answer = write(http, "/write?db=x", &point(number));
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    assert_eq!(a.count(), 20);
    n.rule(|_| Does::Take);
    until("it takes its turns", || {
        let answer = write(http, "/write?db=x", &point(20));
        answer.status == 204 && n.count() == 1
    });
}

#[test]
fn newcomer_that_is_sent_datagrams_costs_none() {
    let (a, n) = (Store::new(), Store::new());
    n.rule(|_| Does::Say(404, "", NO_DATABASE));
    let text = |outputs: &[(&str, &Store)]| {
        let outputs: String = outputs
            .iter()
            .map(|(name, store)| {
                format!(
                    "[[udp.output]]\nname = \"{name}\"\nlocation = \"http://{}/?db=x&rp=y\"\n",
                    store.address
                )
            })
            .collect();
        format!(
            "admin.bind-addr = \"127.0.0.1:0\"\n[[udp]]\nname = \"u\"\nbind-addr = \"127.0.0.1:0\"\n{outputs}"
        )
    };
    let site = Filed::start(&text(&[("a", &a)]));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |number: usize| {
        let body = point(number) + "\n";
        socket.send_to(body.as_bytes(), &site.relay.udp[0]).unwrap();
    };
    send(0);
    until("a has it", || a.count() == 1);
    site.becomes(&text(&[("n", &n), ("a", &a)]));
    for number in 1..20 {
        send(number);
        until("a has it", || a.count() == number + 1);
    }
    let row = "relay_udp_dropped_total{reason=\"refused\"}";
    assert_eq!(site.relay.metric(row), 0);
}
