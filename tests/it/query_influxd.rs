//! Reads, and statements that change something, before two real `influxd`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::client::{ask, until, write};
use crate::influxd::Influxd;
use crate::relay::Relay;
use crate::spool_site::{Folder, Site};
use crate::store::own_address;

fn databases(server: &Influxd) -> String {
    server.query("SHOW DATABASES").body
}

fn site(test: &str) -> Option<(Influxd, Influxd, Site)> {
    let a = Influxd::start(&format!("{test}-a"))?;
    let b = Influxd::start(&format!("{test}-b"))?;
    let outputs = vec![
        ("a".to_owned(), a.address.clone()),
        ("b".to_owned(), b.address.clone()),
    ];
    let site = Site::at(Folder::new(), outputs, &[("RELAY_PROBE_INTERVAL", "200ms")]);
    Some((a, b, site))
}

#[test]
fn query_answers_are_those_of_an_influxd() {
    let Some(a) = Influxd::start("query-one") else {
        return;
    };
    let relay = Relay::start(&[("a", &a.address)], &[]);
    let body: String = (0..2_000)
        .map(|n| format!("m,h=h{} v={n} {n}\n", n % 3))
        .collect();
    assert_eq!(write(&relay.http, "/write?db=x", &body).status, 204);
    for (method, target, headers) in [
        ("GET", "/query?db=x&q=SELECT+count(v)+FROM+m", ""),
        ("POST", "/query?db=x&q=SELECT+*+FROM+m+LIMIT+5&epoch=ms", ""),
        (
            "GET",
            "/query?db=x&q=SELECT+*+FROM+m&chunked=true&chunk_size=100",
            "",
        ),
        ("GET", "/query?db=x&q=SHOW+SERIES&pretty=true", ""),
        (
            "GET",
            "/query?db=x&q=SELECT+*+FROM+m+LIMIT+9",
            "Accept: application/csv\r\n",
        ),
        (
            "GET",
            "/query?db=x&q=SELECT+*+FROM+m+LIMIT+9",
            "Accept: application/x-msgpack\r\n",
        ),
        ("GET", "/query?db=x&q=SELEC", ""),
        ("GET", "/query?db=x", ""),
        ("GET", "/query?db=nowhere&q=SELECT+*+FROM+m", ""),
    ] {
        let (mine, its) = (
            ask(&relay.http, method, target, headers, b""),
            ask(&a.address, method, target, headers, b""),
        );
        assert_eq!(
            (mine.status, &mine.body),
            (its.status, &its.body),
            "{target}"
        );
        for name in ["content-type", "x-influxdb-version", "x-influxdb-error"] {
            assert_eq!(mine.header(name), its.header(name), "{target}: {name}");
        }
        // What is no statement that is known might change something, and goes to all.
        let one = (!target.ends_with("q=SELEC")).then_some("a");
        assert_eq!(mine.header("x-relay-backend"), one);
    }
}

#[test]
fn query_statements_reach_all_and_are_owed_in_order_to_who_was_away() {
    let Some((a, mut b, site)) = site("ddl") else {
        return;
    };
    let post = |q: &str| {
        let q = q.replace(' ', "+");
        ask(&site.http, "POST", &format!("/query?q={q}"), "", b"")
    };
    let answer = post("CREATE DATABASE one");
    assert_eq!(
        (answer.status, answer.body.trim()),
        (200, "{\"results\":[{\"statement_id\":0}]}")
    );
    // InfluxDB executes a GET too.
    assert_eq!(
        ask(&site.http, "GET", "/query?q=CREATE+DATABASE+two", "", b"").status,
        200
    );
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(
        ask(
            &site.http,
            "POST",
            "/query",
            form,
            b"q=CREATE+DATABASE+three"
        )
        .status,
        200
    );
    for server in [&a, &b] {
        until("all three are there", || {
            ["one", "two", "three"]
                .iter()
                .all(|name| databases(server).contains(name))
        });
    }
    b.kill();
    site.says("backend is down", 1);
    // A database, points in it, all gone, and others: only this order ends so.
    assert_eq!(post("CREATE DATABASE four").status, 200);
    let put = |body: &str| assert_eq!(write(&site.http, "/write?db=four", body).status, 204);
    put("m v=1 1\nm v=2 2");
    assert_eq!(post("DROP DATABASE four").status, 200);
    assert_eq!(post("CREATE DATABASE four").status, 200);
    put("m v=3 3");
    assert_eq!(post("DROP DATABASE one").status, 200);
    assert!(
        post("CREATE DATABASE").status == 400,
        "refused, and not owed"
    );
    b.restart();
    site.level("b");
    let points = |server: &Influxd| server.query("SELECT * FROM four..m").body;
    assert_eq!(points(&b), points(&a));
    assert!(
        points(&b).contains("3") && !points(&b).contains("[1,1]"),
        "{}",
        points(&b)
    );
    assert_eq!(databases(&b), databases(&a));
    assert!(!databases(&b).contains("one"));
}

#[test]
fn query_from_a_backend_that_comes_back_stale_never_goes_back_in_time() {
    let Some((_a, mut b, site)) = site("stale") else {
        return;
    };
    let count = || -> u64 {
        let answer = ask(
            &site.http,
            "GET",
            "/query?db=x&q=SELECT+count(v)+FROM+m",
            "",
            b"",
        );
        assert_eq!(answer.status, 200, "{answer:?}");
        counted(&answer.body)
    };
    let (mut written, mut seen) = (0, 0);
    for round in 0..60 {
        let lines: String = (0..50)
            .map(|n| format!("m v=1 {}\n", written + n + 1))
            .collect();
        site.write(&lines);
        written += 50;
        match round {
            10 | 35 => b.kill(),
            20 | 45 => b.restart(),
            _ => {}
        }
        for _ in 0..4 {
            // The first success answers a write: the other backend may be a moment behind, no more.
            let now = count();
            assert!(now + 100 >= seen, "{now} after {seen}");
            seen = seen.max(now);
        }
    }
    until("all are there", || count() == written);
}

/// A dashboard that counts, at a balancer before two relays, while writers go on.
#[test]
fn query_dashboards_never_step_back_with_two_relays_and_a_stale_backend() {
    let (Some(a), Some(mut b)) = (Influxd::start("board-a"), Influxd::start("board-b")) else {
        return;
    };
    let admins = [own_address(), own_address()];
    let relay = |n: usize| {
        let outputs = [("a", &a), ("b", &b)];
        let outputs = outputs.map(|(name, server)| (name.to_owned(), server.address.clone()));
        let peer = format!("http://{}", admins[1 - n]);
        let env = [
            ("RELAY_ADMIN_BIND_ADDR", admins[n].as_str()),
            ("RELAY_PEERS", &peer),
            ("RELAY_PROBE_INTERVAL", "200ms"),
        ];
        Site::at(Folder::new(), outputs.to_vec(), &env)
    };
    let (one, mut two) = (relay(0), relay(1));
    let balancer = Relay::start(
        &[("one", &one.http), ("two", &two.http)],
        &[
            ("RELAY_HTTP_MODE", "balance"),
            ("RELAY_PROBE_INTERVAL", "100ms"),
        ],
    );
    let stop = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let lines: String = (0..10)
                    .map(|more| format!("m v=1 {}\n", n + more + 1))
                    .collect();
                n += 10;
                assert_eq!(write(&balancer.http, "/write?db=x", &lines).status, 204);
                acknowledged.store(n, Ordering::Release);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut answered = std::collections::BTreeSet::new();
        for round in 0..240 {
            match round {
                40 => b.kill(),
                100 => two.kill(),
                120 => b.restart(),
                170 => two.start(),
                _ => {}
            }
            // What is being written while a dashboard asks may be there or not: a few writes' worth.
            let least = acknowledged.load(Ordering::Acquire).saturating_sub(50);
            let target = "/query?db=x&q=SELECT+count(v)+FROM+m";
            let answer = ask(&balancer.http, "GET", target, "", b"");
            assert_eq!(answer.status, 200, "round {round}: {answer:?}");
            let count = counted(&answer.body);
            assert!(
                count >= least,
                "round {round}: {count} of {least}, from {answer:?}"
            );
            answered.insert(answer.header("x-relay-backend").unwrap().to_owned());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(answered.len(), 2, "both backends answered in their time");
        stop.store(true, Ordering::Relaxed);
    });
    let all = acknowledged.load(Ordering::Relaxed);
    for server in [&a, &b] {
        until("all is in both", || {
            counted(&server.query("SELECT count(v) FROM m").body) == all
        });
    }
}

/// The number in an answer to `SELECT count(v)`.
fn counted(body: &str) -> u64 {
    let row = body.split("\"values\":[[").nth(1);
    let number = row.and_then(|row| row.split(']').next()?.rsplit(',').next()?.parse().ok());
    number.unwrap_or(0)
}
