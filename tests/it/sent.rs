//! What backends are sent: framed anew, stamped once, in order, and otherwise as it came.

use std::io::{Read, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::backend::{Backend, Seen, status};
use crate::client::{Client, ask, until, write};
use crate::relay::Relay;

fn pair() -> (Backend, Backend, Relay) {
    let (a, b) = (Backend::accepting(), Backend::accepting());
    let relay = Relay::start(&[("a", &a.address), ("b", &b.address)], &[]);
    (a, b, relay)
}

/// What both backends got: the same, but for the host.
fn sent(a: &Backend, b: &Backend, count: usize) -> Vec<Seen> {
    until("both have it", || {
        a.seen().len() >= count && b.seen().len() >= count
    });
    let (at_a, at_b) = (a.seen(), b.seen());
    for (one, other) in at_a.iter().zip(&at_b) {
        assert_eq!(one.body, other.body, "the same bytes for each backend");
        assert_eq!(
            one.head.replace(&a.address, "HOST"),
            other.head.replace(&b.address, "HOST")
        );
    }
    at_a
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_request_is_framed_anew_and_keeps_what_is_the_clients() {
    let (a, b, relay) = pair();
    let head = "POST /write?db=x&u=me&p=s%26t&precision=us&odd=%20x&k=1&k=2 HTTP/1.1\r\nHost: relay.example\r\n\
        Authorization: Token a:b\r\nX-Mine: kept\r\nUser-Agent: t/1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
        Keep-Alive: 5\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = Client::new(&relay.http);
    client
        .send(head.as_bytes())
        .send(b"4\r\nm v=\r\n3;x=y\r\n1 1\r\n0\r\nX-Trailer: 1\r\n\r\n");
    assert_eq!(client.answer().unwrap().status, 204);
    let seen = &sent(&a, &b, 1)[0];
    assert_eq!(seen.body, b"m v=1 1");
    let (line, fields) = seen.head.split_once("\r\n").unwrap();
    assert_eq!(
        line,
        "POST /write?db=x&u=me&p=s%26t&precision=u&odd=%20x&k=1&k=2 HTTP/1.1"
    );
    let lower = fields.to_ascii_lowercase();
    assert_eq!(lower.matches("content-length: 7\r\n").count(), 1);
    assert_eq!(lower.matches("content-length").count(), 1);
    for gone in [
        "transfer-encoding",
        "keep-alive",
        "x-hop",
        "te:",
        "relay.example",
        "trailer",
        "expect",
    ] {
        assert!(!lower.contains(gone), "{gone} in {fields}");
    }
    for kept in [
        "Authorization: Token a:b\r\n",
        "X-Mine: kept\r\n",
        "User-Agent: t/1\r\n",
    ] {
        assert!(fields.contains(kept), "{kept} not in {fields}");
    }
    assert!(fields.contains(&format!("Host: {}\r\n", a.address)));
}

#[test]
fn points_without_a_time_get_one_and_nothing_else_changes() {
    let (a, b, relay) = pair();
    let body = "# c\n\nm,t=a v=1\r\nm v=\"a\nb\"  \nm v=2 7\nbad";
    let before = now_ms();
    assert_eq!(
        write(&relay.http, "/write?db=x&precision=ms", body).status,
        204
    );
    let text = String::from_utf8(sent(&a, &b, 1)[0].body.clone()).unwrap();
    let stamp: String = text
        .split("m,t=a v=1 ")
        .nth(1)
        .unwrap()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    assert_eq!(text.replace(&format!(" {stamp}"), ""), body);
    assert_eq!(
        text.matches(&stamp).count(),
        2,
        "one time for the whole write: {text}"
    );
    let stamp: u128 = stamp.parse().unwrap();
    assert!(
        (before - 100..=now_ms()).contains(&stamp),
        "{stamp} in milliseconds, at arrival"
    );
}

fn now_ms() -> u128 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis()
}

#[test]
fn gzip_goes_on_as_it_came_unless_it_must_be_stamped() {
    let (a, b, relay) = pair();
    let stamped = gzip(b"m v=1 1\nm v=2 2\n");
    let bare = gzip(b"m v=1\n");
    for (body, encoded) in [(&stamped, true), (&bare, false)] {
        let count = a.seen().len() + 1;
        assert_eq!(
            ask(
                &relay.http,
                "POST",
                "/write?db=x",
                "Content-Encoding: gzip\r\n",
                body
            )
            .status,
            204
        );
        let seen = sent(&a, &b, count).pop().unwrap();
        assert_eq!(seen.head.contains("Content-Encoding: gzip\r\n"), encoded);
        if encoded {
            assert_eq!(&seen.body, body, "byte for byte");
        } else {
            assert!(seen.body.starts_with(b"m v=1 1") && seen.body.ends_with(b"\n"));
        }
    }
    let mut inflated = String::new();
    flate2::read::GzDecoder::new(&stamped[..])
        .read_to_string(&mut inflated)
        .unwrap();
    assert_eq!(inflated, "m v=1 1\nm v=2 2\n");
}

#[test]
fn every_write_path_goes_to_its_endpoint_and_remote_write_is_opaque() {
    let (a, b, relay) = pair();
    let opaque = b"\x00\xff snappy, or so\n";
    let remote = "Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n";
    for (path, headers, body, wanted) in [
        (
            "/api/v2/write?org=o&bucket=b&precision=u",
            "",
            &b"m v=1 1"[..],
            "/api/v2/write?org=o&bucket=b&precision=us",
        ),
        (
            "/api/v3/write_lp?db=x",
            "",
            b"m v=1 1",
            "/api/v3/write_lp?db=x",
        ),
        (
            "/api/v1/prom/write?db=x",
            remote,
            opaque,
            "/api/v1/prom/write?db=x",
        ),
        ("/api/v1/write", remote, opaque, "/api/v1/prom/write"),
    ] {
        let count = a.seen().len() + 1;
        assert_eq!(
            ask(&relay.http, "POST", path, headers, body).status,
            204,
            "{path}"
        );
        let seen = sent(&a, &b, count).pop().unwrap();
        assert!(
            seen.head
                .starts_with(&format!("POST {wanted} HTTP/1.1\r\n")),
            "{path}: {}",
            seen.head
        );
        assert_eq!(seen.body, body, "{path}");
        assert!(seen.head.contains(headers), "{path}: {}", seen.head);
    }
}

#[test]
fn writes_of_one_connection_reach_each_backend_in_order() {
    let slow = |number: usize| {
        (
            Duration::from_millis(if number.is_multiple_of(3) { 9 } else { 1 }),
            status(204, "", ""),
        )
    };
    let (a, b) = (Backend::accepting(), Backend::with(slow));
    let relay = Relay::start(&[("a", &a.address), ("b", &b.address)], &[]);
    let one = |n: usize| {
        let body = format!("m v={n}i {n}");
        format!(
            "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut client = Client::new(&relay.http);
    client.send((1..=100).map(one).collect::<String>().as_bytes()); // pipelined
    for n in 1..=100 {
        assert_eq!(
            client.answer().map(|answer| answer.status),
            Some(204),
            "write {n}"
        );
    }
    until("the slow one has all", || b.seen().len() == 100);
    for backend in [&a, &b] {
        for (index, seen) in backend.seen().iter().enumerate() {
            let n = index + 1;
            assert_eq!(seen.body, format!("m v={n}i {n}").as_bytes());
        }
    }
}

#[test]
fn http_of_all_ages() {
    let (a, b, relay) = pair();
    let mut client = Client::new(&relay.http);
    client.send(b"POST /write?db=x HTTP/1.0\r\nContent-Length: 7\r\n\r\nm v=1 1");
    let answer = client.answer().unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (204, Some("close"))
    );
    assert!(client.rest().is_empty());
    let mut client = Client::new(&relay.http);
    for _ in 0..2 {
        client.send(b"POST /write?db=x HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 7\r\n\r\nm v=1 1");
        let answer = client.answer().unwrap();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (204, Some("keep-alive"))
        );
    }
    let mut client = Client::new(&relay.http);
    client.send(b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n");
    assert_eq!(client.answer().unwrap().status, 100);
    client.send(b"m v=1 1");
    assert_eq!(client.answer().unwrap().status, 204);
    client.send(b"HEAD /ping HTTP/1.1\r\nHost: r\r\n\r\n");
    let ping = client.answer_to("HEAD").unwrap();
    assert_eq!(
        (ping.status, ping.header("x-influxdb-version")),
        (204, Some("1.test-relay"))
    );
    client.send(b"OPTIONS /write HTTP/1.1\r\nHost: r\r\n\r\n");
    let options = client.answer().unwrap();
    assert_eq!(
        (options.status, options.header("allow")),
        (204, Some("POST"))
    );
    assert_eq!(sent(&a, &b, 4).len(), 4);
}
