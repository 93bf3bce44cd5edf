//! Bad input: each kind gets its answer, nothing of it reaches a backend, and the relay goes on.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::backend::Backend;
use crate::client::{Client, ask, write};
use crate::relay::Relay;

const QUICK: [(&str, &str); 4] = [
    ("RELAY_HEADER_TIMEOUT", "200ms"),
    ("RELAY_BODY_TIMEOUT", "200ms"),
    ("RELAY_IDLE_TIMEOUT", "5s"),
    ("RELAY_MAX_BODY_SIZE", "1MiB"),
];

/// Sends bytes on a connection of their own: the status, the body, and whether the relay closed.
fn say(relay: &Relay, bytes: &[u8]) -> (u16, String, bool) {
    let mut client = Client::new(&relay.http);
    let answer = client
        .send(bytes)
        .answer()
        .unwrap_or_else(|| panic!("no answer to {:?}", String::from_utf8_lossy(bytes)));
    let closes = answer.header("connection") == Some("close");
    if closes {
        assert!(
            client.finish().rest().is_empty(),
            "one answer, then the end"
        );
    }
    (answer.status, answer.body, closes)
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn every_row_of_the_table() {
    let (a, b) = (Backend::accepting(), Backend::accepting());
    let relay = Relay::start(&[("a", &a.address), ("b", &b.address)], &QUICK);
    let post = "POST /write?db=x HTTP/1.1\r\nHost: r\r\n";
    let rows: Vec<(u16, &str, String)> = vec![
        (400, "malformed request line", "POST\r\n\r\n".into()),
        (400, "not HTTP", "\x16\x03\x01\x02\x00\x01".into()),
        (400, "another protocol", "EHLO example.org\r\n".into()),
        (
            400,
            "length and chunks",
            format!("{post}Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\nm v=1 1"),
        ),
        (
            400,
            "two lengths",
            format!("{post}Content-Length: 7\r\nContent-Length: 7\r\n\r\nm v=1 1"),
        ),
        (
            400,
            "a list of lengths",
            format!("{post}Content-Length: 7, 7\r\n\r\nm v=1 1"),
        ),
        (
            400,
            "a signed length",
            format!("{post}Content-Length: +7\r\n\r\nm v=1 1"),
        ),
        (
            400,
            "bad chunk",
            format!("{post}Transfer-Encoding: chunked\r\n\r\nxyz\r\nm v=1 1\r\n0\r\n\r\n"),
        ),
        (
            400,
            "chunk without its end",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n7\r\nm v=1 1XX0\r\n\r\n"),
        ),
        (
            400,
            "folded header",
            format!("{post}X-A: b\r\n c\r\nContent-Length: 7\r\n\r\nm v=1 1"),
        ),
        (
            400,
            "NUL",
            format!("{post}X-A: b\0c\r\nContent-Length: 7\r\n\r\nm v=1 1"),
        ),
        (
            400,
            "bare CR",
            format!("{post}X-A: b\rc\r\nContent-Length: 7\r\n\r\nm v=1 1"),
        ),
        (
            400,
            "no Host",
            "POST /write?db=x HTTP/1.1\r\nContent-Length: 7\r\n\r\nm v=1 1".into(),
        ),
        (411, "no length", format!("{post}\r\n")),
        (
            413,
            "announced too long",
            format!("{post}Content-Length: 2000000\r\n\r\n"),
        ),
        (
            413,
            "chunked too long",
            format!(
                "{post}Transfer-Encoding: chunked\r\n\r\n1e8480\r\n{}",
                "x".repeat(1_100_000)
            ),
        ),
        (
            414,
            "long target",
            format!("POST /write?db={} HTTP/1.1\r\n", "x".repeat(9000)),
        ),
        (
            431,
            "long head",
            format!("{post}X-A: {}\r\n", "x".repeat(20_000)),
        ),
        (
            431,
            "many headers",
            format!("{post}{}\r\n", "X-A: b\r\n".repeat(200)),
        ),
        (408, "slow head", "POST /write?db=x HT".into()),
        (
            408,
            "slow body",
            format!("{post}Content-Length: 7\r\n\r\nm v="),
        ),
        (
            404,
            "unknown path",
            "POST /writ?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 0\r\n\r\n".into(),
        ),
        (
            405,
            "wrong method",
            "GET /write?db=x HTTP/1.1\r\nHost: r\r\n\r\n".into(),
        ),
        (
            417,
            "unknown Expect",
            format!("{post}Expect: a-miracle\r\nContent-Length: 7\r\n\r\nm v=1 1"),
        ),
        (
            415,
            "unknown encoding",
            format!("{post}Content-Encoding: br\r\nContent-Length: 7\r\n\r\nm v=1 1"),
        ),
        (
            400,
            "bad gzip",
            format!("{post}Content-Encoding: gzip\r\nContent-Length: 7\r\n\r\nm v=1 1"),
        ),
        (
            400,
            "no db",
            "POST /write HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1".into(),
        ),
        (
            400,
            "empty db",
            "POST /write?db=&db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1".into(),
        ),
        (
            400,
            "unknown unit",
            "POST /write?db=x&precision=d HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1"
                .into(),
        ),
    ];
    for (status, what, bytes) in rows {
        let (found, body, _) = say(&relay, bytes.as_bytes());
        assert_eq!(found, status, "{what}: {body}");
        let error: serde_json::Value =
            serde_json::from_str(&body).unwrap_or_else(|_| panic!("{what}: {body}"));
        assert!(error["error"].is_string(), "{what}: {body}");
    }
    assert!(
        a.seen().is_empty() && b.seen().is_empty(),
        "nothing of it went on"
    );
    assert_eq!(
        write(&relay.http, "/write?db=x", "m v=1 1").status,
        204,
        "and the relay serves"
    );
}

#[test]
fn refusals_say_what_influxdb_says() {
    let backend = Backend::accepting();
    let relay = Relay::start(&[("a", &backend.address)], &QUICK);
    let answer = write(&relay.http, "/write", "m v=1 1");
    assert_eq!(answer.body, "{\"error\":\"database is required\"}\n");
    assert_eq!(
        answer.header("x-influxdb-error"),
        Some("database is required")
    );
    assert_eq!(
        ask(&relay.http, "DELETE", "/write?db=x", "", b"").header("allow"),
        Some("POST")
    );
    let poison = write(&relay.http, "/write?db=x", "m v=1\n# c\nm \\\\=\"=\"\n");
    assert_eq!(poison.status, 400);
    assert!(poison.body.contains("line 3"), "{}", poison.body);
    let bomb = {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![b'x'; 50_000_000]).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(
        ask(
            &relay.http,
            "POST",
            "/write?db=x",
            "Content-Encoding: gzip\r\n",
            &bomb
        )
        .status,
        413
    );
    assert!(backend.seen().is_empty());
}

#[test]
fn a_connection_survives_a_refusal_whose_end_is_known() {
    let backend = Backend::accepting();
    let relay = Relay::start(&[("a", &backend.address)], &QUICK);
    let mut client = Client::new(&relay.http);
    for (target, status) in [
        ("/write", 400),
        ("/nowhere", 404),
        ("/write?db=x", 204),
        ("/write?db=x&precision=d", 400),
    ] {
        client.send(
            format!("POST {target} HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1")
                .as_bytes(),
        );
        assert_eq!(
            client.answer().map(|answer| answer.status),
            Some(status),
            "{target}"
        );
    }
}

#[test]
fn a_refusal_in_a_row_of_requests_ends_only_itself() {
    let backend = Backend::accepting();
    let relay = Relay::start(&[("a", &backend.address)], &QUICK);
    let rows = [
        ("/write", 400),
        ("/nowhere", 404),
        ("/write?db=x", 204),
        ("/write?db=x&precision=d", 400),
        ("/ping", 405),
        ("/write?db=x", 204),
    ];
    let chunks = "Transfer-Encoding: chunked\r\n\r\n7\r\nm v=1 1\r\n0\r\n\r\n";
    for body in ["Content-Length: 7\r\n\r\nm v=1 1", chunks] {
        let row = rows.map(|(target, _)| format!("POST {target} HTTP/1.1\r\nHost: r\r\n{body}"));
        let mut client = Client::new(&relay.http);
        client.send(row.concat().as_bytes());
        for (target, status) in rows {
            let answer = client.answer().map(|answer| answer.status);
            assert_eq!(answer, Some(status), "{target}");
        }
    }
    assert_eq!(backend.seen().len(), 4);
}

#[test]
fn a_client_that_vanishes_leaves_nothing() {
    let backend = Backend::accepting();
    let relay = Relay::start(&[("a", &backend.address)], &QUICK);
    for cut in [10, 40, 60, 70] {
        let whole = b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 20\r\n\r\nm v=1 1\nm v=2 2\n1234";
        Client::new(&relay.http).send(&whole[..cut]);
    }
    assert_eq!(write(&relay.http, "/write?db=x", "m v=9 9").status, 204);
    assert_eq!(backend.seen().len(), 1, "only what was whole");
    let idle = || crate::answers::metric(&relay, "relay_inflight_bytes") == 0;
    crate::client::until("their memory is given back", idle);
}

#[test]
fn memory_for_bodies_is_bounded() {
    let backend = Backend::accepting();
    let env = [
        ("RELAY_MAX_INFLIGHT", "1MiB"),
        ("RELAY_MAX_BODY_SIZE", "900KiB"),
    ];
    let relay = Relay::start(
        &[("a", &backend.address)],
        &[env[0], env[1], ("RELAY_CPUS", &crate::answers::first_cpu())],
    );
    let head = "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 800000\r\n\r\n";
    let mut first = Client::new(&relay.http);
    first.send(head.as_bytes()).send(&vec![b'x'; 700_000]);
    let held = || crate::answers::metric(&relay, "relay_inflight_bytes") > 600_000;
    crate::client::until("the first body is held", held);
    let mut second = Client::new(&relay.http);
    second.send(head.as_bytes()).send(&vec![b'x'; 700_000]);
    let answer = second.answer().unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
}
