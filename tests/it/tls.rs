//! Clients over TLS: right, wrong, slow and silent ones.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::answers::first_cpu;
use crate::backend::{Backend, status};
use crate::client::{Client, Wire, ask_on, until};
use crate::relay::Relay;
use crate::spool_site::Folder;
use crate::tls_bench::{Authority, Identity, put};

/// A relay that speaks TLS for `localhost`, before one backend.
struct Site {
    authority: Authority,
    backend: Backend,
    relay: Relay,
    _folder: Folder,
}

impl Site {
    fn new(backend: Backend, env: &[(&str, &str)]) -> Self {
        let (folder, authority) = (Folder::new(), Authority::new("ours"));
        let pem = put(&folder, "pem", &authority.sign(&["localhost"]).combined());
        let own = [("RELAY_HTTP_SSL_COMBINED_PEM", &*pem)];
        let env: Vec<_> = own.iter().chain(env).copied().collect();
        let relay = Relay::start(&[("a", &backend.address)], &env);
        Self {
            authority,
            backend,
            relay,
            _folder: folder,
        }
    }

    fn failed(&self) -> u64 {
        self.relay.metric("relay_tls_handshakes_failed_total")
    }
}

/// A write of so many bytes that no backend looks into.
fn remote_write(bytes: usize) -> Vec<u8> {
    let mut body: Vec<u8> = (0..=250).cycle().take(bytes).collect();
    body[0] = 0;
    let head = "POST /api/v1/write HTTP/1.1\r\nHost: r\r\nContent-Encoding: snappy\r\n";
    [
        format!("{head}Content-Length: {bytes}\r\n\r\n").as_bytes(),
        &body,
    ]
    .concat()
}

#[test]
fn tls_writes_arrive_by_both_versions_kept_alive_pipelined_and_chunked() {
    let site = Site::new(Backend::accepting(), &[]);
    for client in [site.authority.client(), site.authority.client().tls12()] {
        let before = site.backend.seen().len();
        let tls = client.connect(&site.relay.http).unwrap();
        assert_eq!(tls.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut client = Client::on(Box::new(tls));
        for n in 0..3 {
            let body = format!("m v={n} {n}");
            let answer = ask_on(&mut client, "POST", "/write?db=x", "", body.as_bytes());
            assert_eq!(answer.status, 204);
        }
        let head = "POST /write?db=x HTTP/1.1\r\nHost: r\r\n";
        let one = format!("{head}Content-Length: 7\r\n\r\nm v=1 1");
        let chunked =
            format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nm v\r\n4\r\n=2 2\r\n0\r\n\r\n");
        client.send((one.repeat(20) + &chunked + &one).as_bytes());
        for _ in 0..22 {
            assert_eq!(client.answer().map(|answer| answer.status), Some(204));
        }
        let seen = &site.backend.seen()[before..];
        assert_eq!(seen.len(), 25);
        assert_eq!(seen[2].body, b"m v=2 2");
        assert_eq!(
            (&*seen[23].body, &*seen[24].body),
            (&b"m v=2 2"[..], &b"m v=1 1"[..])
        );
    }
    assert_eq!(site.failed(), 0);
}

#[test]
fn tls_takes_large_bodies_and_bytes_one_at_a_time() {
    let site = Site::new(Backend::accepting(), &[]);
    let large = remote_write(5_000_000);
    let mut client = site.authority.client().to(&site.relay.http);
    client.send(&large).send(&large);
    for _ in 0..2 {
        assert_eq!(client.answer().map(|answer| answer.status), Some(204));
    }
    for seen in site.backend.seen() {
        assert!(large.ends_with(&seen.body) && seen.body.len() == 5_000_000);
    }
    // Each byte of the handshake and of the request in a segment of its own, and in a record of its own.
    let tls = site.authority.client().paced(1);
    let mut client = tls.to(&site.relay.http);
    for byte in b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=7 7" {
        client.send(&[*byte]);
    }
    assert_eq!(client.answer().map(|answer| answer.status), Some(204));
    assert_eq!(site.backend.seen()[2].body, b"m v=7 7");
}

#[test]
fn tls_answers_wait_for_a_slow_reader_and_are_whole() {
    let answer: String = (0..500_000).map(|n| format!("{n:09}\n")).collect();
    let backend = Backend::new(Duration::ZERO, status(200, "", &answer));
    let site = Site::new(backend, &[("RELAY_CPUS", &*first_cpu())]);
    let ask = b"POST /query HTTP/1.1\r\nHost: r\r\nContent-Length: 21\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\nq=SELECT+v+FROM+m&db=";
    let mut tls = site.authority.client().connect(&site.relay.http).unwrap();
    tls.write_all(ask).unwrap();
    tls.flush().unwrap();
    until("the question is asked", || !site.backend.seen().is_empty());
    // Whoever does not read keeps nobody else waiting.
    for n in 0..20 {
        let asked = site
            .authority
            .client()
            .ask(&site.relay.http, "GET", "/ping", b"");
        assert_eq!(asked.status, 204, "{n}");
    }
    let mut client = Client::on(Box::new(tls));
    let got = client.answer().unwrap();
    assert_eq!((got.status, got.body.len()), (200, answer.len()));
    assert!(got.body == answer);
    // The last answer on a connection that closes is whole too, however late it is read.
    let closing = String::from_utf8_lossy(ask).replace("Host: r", "Host: r\r\nConnection: close");
    client.send(closing.as_bytes());
    thread::sleep(Duration::from_millis(2500)); // longer than the relay lingers
    let got = client.answer().unwrap();
    assert!(got.body == answer, "{}", got.body.len());
    assert_eq!(client.rest(), b"");
}

#[test]
fn tls_wants_the_certificates_of_clients_where_it_is_told_to() {
    let (folder, own, other) = (
        Folder::new(),
        Authority::new("clients"),
        Authority::new("others"),
    );
    let ca = put(&folder, "ca", &own.pem);
    let site = Site::new(Backend::accepting(), &[("RELAY_HTTP_SSL_CLIENT_CA", &*ca)]);
    let client = site.authority.client();
    let right = own.sign(&["someone"]);
    for client in [client.clone(), client.clone().tls12()] {
        let showing = client.clone().showing(&right);
        assert_eq!(showing.write(&site.relay.http, "m v=1 1").status, 204);
        let wrong = [
            (client.clone(), "none"),
            (client.clone().showing(&other.sign(&["someone"])), "others'"),
            (client.clone().showing(&own.sign_expired(&["x"])), "expired"),
        ];
        for (client, what) in wrong {
            let before = site.failed();
            // With TLS 1.3 a client learns of it by its first read.
            let refused = match client.connect(&site.relay.http) {
                Err(why) => why,
                Ok(mut tls) => {
                    let _maybe_too_late = tls.write_all(b"GET /ping HTTP/1.1\r\nHost: r\r\n\r\n");
                    tls.read(&mut [0]).unwrap_err()
                }
            };
            assert!(refused.to_string().contains("alert"), "{what}: {refused}");
            until("it is counted", || site.failed() == before + 1);
        }
    }
    assert_eq!(site.backend.seen().len(), 2);
}

#[test]
fn tls_door_tells_plain_http_so_and_closes_on_everything_else() {
    let site = Site::new(Backend::accepting(), &[]);
    for request in [
        &b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1"[..],
        b"G",
    ] {
        let mut client = Client::new(&site.relay.http);
        let answer = client.send(request).answer().unwrap();
        assert_eq!(answer.status, 400);
        assert_eq!(
            answer.body,
            "Client sent an HTTP request to an HTTPS server.\n"
        );
        assert_eq!(client.finish().rest(), b"");
    }
    let garbage = [
        &[0; 600][..],
        &[22, 3, 1, 0xff, 0xff, 1, 2, 3],
        &[22, 3, 1, 0, 4, 99, 0, 0, 0],
        &[0x80, 46, 1, 3, 1], // SSL 2
        b"\r\n\r\n",
        b"m v=1",
    ];
    for (n, bytes) in garbage.into_iter().enumerate() {
        let mut client = Client::new(&site.relay.http);
        let rest = client.send(bytes).finish().rest();
        assert!(rest.len() < 16, "{n}: at most an alert: {rest:?}");
    }
    let failed = u64::try_from(garbage.len()).unwrap() + 2;
    until("all are counted", || site.failed() == failed);
    // A port that is only knocked at is no failure.
    for _ in 0..3 {
        Client::new(&site.relay.http).finish().rest();
    }
    assert_eq!(site.failed(), failed);
    assert!(
        !site.relay.said().contains("WARN"),
        "nothing is logged per connection"
    );
    assert_eq!(site.backend.seen().len(), 0);
    assert_eq!(
        site.authority
            .client()
            .write(&site.relay.http, "m v=1 1")
            .status,
        204
    );
}

#[test]
fn tls_handshake_that_stalls_ends_at_its_deadline_and_holds_nobody_up() {
    let env = [
        ("RELAY_HEADER_TIMEOUT", "700ms"),
        ("RELAY_CPUS", &*first_cpu()),
    ];
    let site = Site::new(Backend::accepting(), &env);
    let begun = Instant::now();
    let mut stalled: Vec<TcpStream> = (0..40)
        .map(|n| {
            let mut stream = TcpStream::connect(&site.relay.http).unwrap();
            let hello = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
            stream.write_all(&hello[..n % hello.len()]).unwrap();
            stream
        })
        .collect();
    let trickling = thread::spawn({
        let mut stream = TcpStream::connect(&site.relay.http).unwrap();
        move || {
            let mut sent = 0;
            for byte in [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]
                .into_iter()
                .chain([0; 500])
            {
                sent += 1;
                thread::sleep(Duration::from_millis(20));
                if stream.write_all(&[byte]).is_err() {
                    break;
                }
            }
            sent
        }
    });
    assert_eq!(
        site.authority
            .client()
            .write(&site.relay.http, "m v=1 1")
            .status,
        204
    );
    assert!(
        begun.elapsed() < Duration::from_millis(650),
        "{:?}",
        begun.elapsed()
    );
    for stream in &mut stalled {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(
            stream.read(&mut [0; 16]).unwrap_or(0),
            0,
            "closed without a word"
        );
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert!(trickling.join().unwrap() < 100, "a trickle is no excuse");
    assert_eq!(site.failed(), 41);
}

#[test]
fn tls_connections_that_come_and_go_leak_nothing() {
    let site = Site::new(Backend::accepting(), &[("RELAY_CPUS", &*first_cpu())]);
    let client = site.authority.client();
    assert_eq!(client.write(&site.relay.http, "m v=1 1").status, 204);
    until("it rests", || {
        site.relay.metric("relay_http_connections") == 1
    });
    let before = site.relay.descriptors();
    for n in 0..200 {
        match n % 4 {
            0 => assert_eq!(client.write(&site.relay.http, "m v=1 1").status, 204),
            1 => drop(client.connect(&site.relay.http).unwrap()),
            2 => drop(TcpStream::connect(&site.relay.http).unwrap()),
            _ => {
                let mut tls = client.begin(&site.relay.http);
                tls.0.conn.write_tls(&mut tls.0.sock).unwrap();
            }
        }
    }
    until("all are gone", || {
        site.relay.metric("relay_http_connections") == 1
    });
    assert!(site.relay.descriptors() <= before + 2, "{before}");
}

#[test]
fn tls_body_that_is_cut_off_goes_nowhere() {
    let site = Site::new(Backend::accepting(), &[]);
    let head = b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 70\r\n\r\nm v=1 1\n";
    for is_said in [false, true] {
        let mut tls = site.authority.client().connect(&site.relay.http).unwrap();
        tls.write_all(head).unwrap();
        tls.flush().unwrap();
        match is_said {
            true => tls.end(),
            false => tls.0.sock.0.shutdown(std::net::Shutdown::Write).unwrap(),
        }
        let mut rest = Vec::new();
        let _cut_or_ended = tls.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
    // A client that has said all may end its side, and still hears the answer.
    let mut tls = site.authority.client().connect(&site.relay.http).unwrap();
    let whole = b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1";
    tls.write_all(whole).unwrap();
    tls.flush().unwrap();
    tls.end();
    assert_eq!(
        Client::on(Box::new(tls))
            .answer()
            .map(|answer| answer.status),
        Some(204)
    );
    assert_eq!(site.backend.seen().len(), 1);
}

#[test]
fn tls_drains_as_plain_http_does() {
    let backend = Backend::new(Duration::from_millis(400), status(204, "", ""));
    let site = Site::new(backend, &[]);
    let client = site.authority.client();
    let mut idle = client.connect(&site.relay.http).unwrap();
    let stalled = TcpStream::connect(&site.relay.http).unwrap();
    let mut busy = client.to(&site.relay.http);
    busy.send(b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1");
    until("it is under way", || !site.backend.seen().is_empty());
    let begun = Instant::now();
    site.relay.term();
    let answer = busy.answer().unwrap();
    assert_eq!(answer.status, 204);
    assert_eq!(busy.rest(), b"");
    let _end = idle.read(&mut [0]);
    drop((busy, stalled));
    assert!(site.relay.wait().success());
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn one_tls_connection_too_many_is_closed_without_plain_words() {
    let env = [
        ("RELAY_MAX_CONNECTIONS", "2"),
        ("RELAY_CPUS", &*first_cpu()),
    ];
    let site = Site::new(Backend::accepting(), &env);
    let client = site.authority.client();
    let _open = [client.to(&site.relay.http), client.to(&site.relay.http)];
    assert_eq!(Client::new(&site.relay.http).rest(), b"");
}

#[test]
fn tls_identity_may_be_two_files_and_its_own_authority() {
    let (folder, own) = (Folder::new(), Identity::own(&["localhost"]));
    let (cert, key) = (
        put(&folder, "cert", &own.cert),
        put(&folder, "key", &own.key),
    );
    let backend = Backend::accepting();
    let env = [
        ("RELAY_HTTP_SSL_CERT", &*cert),
        ("RELAY_HTTP_SSL_KEY", &*key),
    ];
    let relay = Relay::start(&[("a", &backend.address)], &env);
    let outputs = format!(
        "a=https://localhost:{}",
        relay.http.rsplit(':').next().unwrap()
    );
    // A second relay meets the first by its own certificate.
    let env = [
        ("RELAY_HTTP_OUTPUTS", &*outputs),
        ("RELAY_HTTP_CA_FILE", &*cert),
    ];
    let second = Relay::start(&[], &env);
    // On one connection, as each shard finds out for itself.
    let mut client = Client::new(&second.http);
    until("the name is known", || {
        let small = b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1";
        client.send(small).answer().unwrap().status == 204
    });
    let large = remote_write(5_000_000);
    assert_eq!(
        client.send(&large).answer().map(|answer| answer.status),
        Some(204)
    );
    assert!(large.ends_with(&backend.seen().last().unwrap().body));
}
