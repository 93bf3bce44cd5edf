//! Reads, and statements that change something, before two real `influxd`.

use crate::client::{ask, until};
use crate::influxd::Influxd;
use crate::relay::Relay;
use crate::spool_site::{Folder, Site};

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
    assert_eq!(
        crate::client::write(&relay.http, "/write?db=x", &body).status,
        204
    );
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
    let write = |body: &str| {
        assert_eq!(
            crate::client::write(&site.http, "/write?db=four", body).status,
            204
        )
    };
    write("m v=1 1\nm v=2 2");
    assert_eq!(post("DROP DATABASE four").status, 200);
    assert_eq!(post("CREATE DATABASE four").status, 200);
    write("m v=3 3");
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
        let (_, rest) = answer.body.split_once("00Z\",").unwrap_or(("", "0]"));
        rest.split(']').next().unwrap().parse().unwrap()
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
