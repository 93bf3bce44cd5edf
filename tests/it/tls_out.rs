//! Backends over TLS: who is believed to be one, what is said of those who are not, and that nothing else
//! differs from plain HTTP.

use std::net::{TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::backend::Backend;
use crate::client::{Answer, Client, ask, until, write};
use crate::relay::Relay;
use crate::spool_site::Folder;
use crate::store::own_address;
use crate::tls_bench::{Authority, Identity, Say, Secure, accepted, put};

/// A relay before outputs at these locations.
fn relay(outputs: &str, env: &[(&str, &str)]) -> Relay {
    let own = [
        ("RELAY_HTTP_OUTPUTS", outputs),
        ("RELAY_PROBE_INTERVAL", "50ms"),
    ];
    let env: Vec<_> = own.iter().chain(env).copied().collect();
    Relay::start(&[], &env)
}

fn is_up(relay: &Relay) -> bool {
    relay.metric("relay_backend_up{backend=\"a\"}") == 1
}

/// What the relay says is wrong with its backend, once it does.
fn says(relay: &Relay, words: &str) {
    until(words, || {
        let page = ask(&relay.admin, "GET", "/status", "", b"").body;
        page.contains("lastError") && page.contains(words)
    });
}

fn query(relay: &Relay) -> Answer {
    ask(&relay.http, "GET", "/query?db=x&q=SELECT+v+FROM+m", "", b"")
}

#[test]
fn tls_backend_is_met_by_name_and_by_address() {
    let (folder, authority) = (Folder::new(), Authority::new("ours"));
    let ca = put(&folder, "ca", &authority.pem);
    for (host, names) in [
        ("localhost", &["other", "localhost"][..]),
        ("127.0.0.1", &["127.0.0.1"]),
    ] {
        let backend = Secure::accepting(authority.sign(names).server(None));
        let relay = relay(
            &format!("a={}", backend.at(host)),
            &[("RELAY_HTTP_CA_FILE", &ca)],
        );
        until("it is probed", || backend.probes() > 3);
        until("all shards know its address", || is_up(&relay));
        for n in 0..50 {
            assert_eq!(
                write(&relay.http, "/write?db=x", &format!("m v={n} 1")).status,
                204
            );
        }
        let seen = backend.seen();
        assert_eq!(seen.len(), 50);
        assert!(
            seen[0]
                .head
                .contains(&format!("Host: {host}:{}\r\n", backend.port))
        );
        assert!(backend.resumed() > 0, "later connects cost less");
    }
}

#[test]
fn tls_backend_that_is_not_believed_is_down_and_it_is_said_why() {
    let (folder, ours, others) = (
        Folder::new(),
        Authority::new("ours"),
        Authority::new("others"),
    );
    let ca = put(&folder, "ca", &ours.pem);
    let wrong = [
        (ours.sign_expired(&["127.0.0.1"]), "has expired"),
        (ours.sign(&["elsewhere"]), "not for 127.0.0.1"),
        (ours.sign(&[]), "for no name"),
        (others.sign(&["127.0.0.1"]), "unknown issuer"),
        (Identity::own(&["127.0.0.1"]), "authority, and unknown"),
    ];
    for (identity, words) in wrong {
        let backend = Secure::accepting(identity.server(None));
        let outputs = format!("a={}", backend.at("127.0.0.1"));
        let strict = relay(&outputs, &[("RELAY_HTTP_CA_FILE", &ca)]);
        says(&strict, words);
        assert_eq!(write(&strict.http, "/write?db=x", "m v=1 1").status, 503);
        assert!(!is_up(&strict));
        assert_eq!((backend.seen().len(), backend.probes()), (0, 0), "{words}");

        let trusting = relay(&outputs, &[("RELAY_HTTP_SKIP_TLS_VERIFICATION", "true")]);
        until("it is probed", || backend.probes() > 0);
        assert_eq!(
            write(&trusting.http, "/write?db=x", "m v=1 1").status,
            204,
            "{words}"
        );
        assert_eq!(query(&trusting).status, 204, "{words}");
        assert_eq!(ask(&trusting.admin, "GET", "/ready/a", "", b"").status, 200);
        assert!(is_up(&trusting));
        let warnings = trusting.said().matches("whoever answers").count();
        assert_eq!(warnings, 1, "once per output");
    }
}

#[test]
fn tls_backend_that_is_none_is_named_so() {
    let plain = Backend::accepting();
    let relay = relay(
        &format!("a=https://{}", plain.address),
        &[("RELAY_HTTP_SKIP_TLS_VERIFICATION", "true")],
    );
    says(&relay, "cannot connect");
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 503);
    assert_eq!(plain.seen().len(), 0);
}

#[test]
fn tls_connects_that_fail_are_counted_as_such() {
    let (folder, ours) = (Folder::new(), Authority::new("ours"));
    let ca = put(&folder, "ca", &ours.pem);
    let backend = Secure::accepting(ours.sign(&["elsewhere"]).server(None));
    let env = [("RELAY_HTTP_CA_FILE", &*ca), ("RELAY_PROBE_INTERVAL", "1h")];
    let relay = relay(&format!("a={}", backend.at("127.0.0.1")), &env);
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 503);
    let row = |code: &str| format!("relay_backend_requests_total{{backend=\"a\",code=\"{code}\"}}");
    let page = ask(&relay.admin, "GET", "/metrics", "", b"").body;
    assert!(
        page.contains(&row("connect")) || page.contains(&row("down")),
        "{page}"
    );
}

#[test]
fn tls_backend_may_be_its_own_authority_where_it_is_named() {
    let (folder, own) = (Folder::new(), Identity::own(&["127.0.0.1"]));
    let ca = put(&folder, "ca", &own.cert);
    let backend = Secure::accepting(own.server(None));
    let named = relay(
        &format!("a={}", backend.at("127.0.0.1")),
        &[("RELAY_HTTP_CA_FILE", &ca)],
    );
    until("it is probed", || backend.probes() > 0);
    assert_eq!(write(&named.http, "/write?db=x", "m v=1 1").status, 204);
    // But not under another name.
    let wrong = relay(
        &format!("a={}", backend.at("localhost")),
        &[("RELAY_HTTP_CA_FILE", &ca)],
    );
    says(&wrong, "not for localhost");
}

#[test]
fn tls_backend_is_shown_a_certificate_where_it_wants_one() {
    let (folder, ours) = (Folder::new(), Authority::new("ours"));
    let (clients, others) = (Authority::new("clients"), Authority::new("others"));
    let ca = put(&folder, "ca", &ours.pem);
    let backend = Secure::accepting(ours.sign(&["127.0.0.1"]).server(Some(&clients)));
    let outputs = format!("a={}", backend.at("127.0.0.1"));
    let right = clients.sign(&["relay"]);
    let combined = put(&folder, "combined", &right.combined());
    let (cert, key) = (
        put(&folder, "cert", &right.cert),
        put(&folder, "key", &right.key),
    );
    for files in [
        &[("RELAY_HTTP_CLIENT_CERT", &*combined)][..],
        &[
            ("RELAY_HTTP_CLIENT_CERT", &*cert),
            ("RELAY_HTTP_CLIENT_KEY", &*key),
        ],
    ] {
        let probes = backend.probes();
        let env: Vec<_> = [("RELAY_HTTP_CA_FILE", &*ca)]
            .iter()
            .chain(files)
            .copied()
            .collect();
        let relay = relay(&outputs, &env);
        until("it is probed", || backend.probes() > probes);
        assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 204);
    }
    let none = relay(&outputs, &[("RELAY_HTTP_CA_FILE", &ca)]);
    says(&none, "it wants a client certificate: set client-cert");
    let wrong = put(&folder, "wrong", &others.sign(&["relay"]).combined());
    let env = [
        ("RELAY_HTTP_CA_FILE", &*ca),
        ("RELAY_HTTP_CLIENT_CERT", &*wrong),
    ];
    says(&relay(&outputs, &env), "our certificate");
    assert_eq!(backend.seen().len(), 2);
}

#[test]
fn tls_answer_without_a_length_ends_by_word_and_not_by_a_cut() {
    let (folder, ours) = (Folder::new(), Authority::new("ours"));
    let ca = put(&folder, "ca", &ours.pem);
    let config = ours.sign(&["127.0.0.1"]).server(None);
    let open = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"results\":[]}".to_vec();
    let framed = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"results\":[]}".to_vec();
    for (say, whole) in [
        (Say::AndEnd(open.clone()), true),
        (Say::AndBreakOff(open), false),
        (Say::AndBreakOff(framed), true),
    ] {
        let backend = Secure::new(config.clone(), say);
        let relay = relay(
            &format!("a={}", backend.at("127.0.0.1")),
            &[("RELAY_HTTP_CA_FILE", &ca)],
        );
        until("it is probed", || backend.probes() > 0);
        let wrote = write(&relay.http, "/write?db=x", "m v=1 1").status;
        assert_eq!(wrote, if whole { 204 } else { 503 });
        let mut client = Client::new(&relay.http);
        client.send(b"GET /query?db=x&q=SELECT+v+FROM+m HTTP/1.1\r\nHost: r\r\n\r\n");
        match (client.answer_to("GET"), whole) {
            (Some(answer), true) => {
                assert_eq!((answer.status, &*answer.body), (200, "{\"results\":[]}"))
            }
            (Some(answer), false) => assert_ne!(answer.status, 200),
            (None, is_whole) => assert!(!is_whole, "cut off in its midst"),
        }
    }
}

#[test]
fn tls_carries_large_bodies_and_streams_to_and_from_backends() {
    let (folder, ours) = (Folder::new(), Authority::new("ours"));
    let ca = put(&folder, "ca", &ours.pem);
    let config = ours.sign(&["127.0.0.1"]).server(None);
    let body: String = (0..500_000).map(|n| format!("{n:09}\n")).collect();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let told = Secure::new(config.clone(), Say::Bytes((head + &body).into_bytes()));
    let backend = Secure::accepting(config);
    let ca = [("RELAY_HTTP_CA_FILE", &*ca)];
    let asking = relay(&format!("a={}", told.at("127.0.0.1")), &ca);
    let relay = relay(&format!("a={}", backend.at("127.0.0.1")), &ca);
    let large: Vec<u8> = (0..=250).cycle().take(5_000_000).collect();
    for _ in 0..2 {
        let sent = ask(
            &relay.http,
            "POST",
            "/api/v1/write",
            "Content-Encoding: snappy\r\n",
            &large,
        );
        assert_eq!(sent.status, 204, "{sent:?}");
    }
    assert!(backend.seen().iter().all(|seen| seen.body == large));
    let mut client = Client::new(&asking.http);
    let ask = b"GET /query?db=x&q=SELECT+v+FROM+m HTTP/1.1\r\nHost: r\r\n\r\n";
    for wait in [0, 300] {
        client.send(ask);
        thread::sleep(Duration::from_millis(wait));
        let answer = client.answer_to("GET").unwrap();
        assert!(
            answer.status == 200 && answer.body == body,
            "{}",
            answer.body.len()
        );
    }
}

#[test]
fn tls_spool_brings_a_backend_level() {
    let (folder, ours) = (Folder::new(), Authority::new("ours"));
    let ca = put(&folder, "ca", &ours.pem);
    let place = own_address();
    let host = place.split(':').next().unwrap();
    let there = Backend::accepting();
    let dir = folder.path().join("spool").display().to_string();
    let env = [
        ("RELAY_HTTP_CA_FILE", &*ca),
        ("RELAY_SPOOL_DIR", &*dir),
        ("RELAY_HTTP_MAX_BATCH_KB", "16"),
    ];
    let relay = relay(
        &format!("a=https://{place},b=http://{}", there.address),
        &env,
    );
    let mut written = String::new();
    for n in 0..300 {
        let lines: String = (0..20)
            .map(|m| format!("m,n={n} v={m} {}\n", n * 20 + m))
            .collect();
        assert_eq!(write(&relay.http, "/write?db=x", &lines).status, 204);
        written += &lines;
    }
    assert!(relay.metric("relay_spool_owed_bytes{backend=\"a\"}") > 0);
    let listener = TcpListener::bind(&place).unwrap();
    let backend = Secure::over(listener, ours.sign(&[host]).server(None), accepted());
    until("it is level", || {
        relay.metric("relay_spool_owed_bytes{backend=\"a\"}") == 0
    });
    let bodies: Vec<u8> = backend
        .seen()
        .iter()
        .flat_map(|seen| seen.body.clone())
        .collect();
    let came = String::from_utf8(bodies).unwrap();
    let lines = |text: &str| {
        text.lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&came), lines(&written));
}

#[test]
fn tls_carries_datagrams_and_what_peers_owe() {
    let (folder, ours) = (Folder::new(), Authority::new("ours"));
    // Both by the system's roots, which are what this variable says.
    let ca = put(&folder, "ca", &ours.pem);
    let own = ours.sign(&["127.0.0.1"]);
    let backend = Secure::accepting(own.server(None));
    let page = r#"{"status":{"a":{"buffering":1,"owedBytes":77}}}"#;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
    let peer = Secure::new(own.server(None), Say::AndEnd((head + page).into_bytes()));
    let env = [
        ("SSL_CERT_FILE", &*ca),
        ("RELAY_PEERS", &*peer.at("127.0.0.1")),
        ("RELAY_HTTP_BIND_ADDR", "127.0.0.1:0"),
        (
            "RELAY_HTTP_OUTPUTS",
            &format!("a={}", backend.at("127.0.0.1")),
        ),
    ];
    let relay = Relay::of_datagrams(&format!("u={}/?db=x", backend.at("127.0.0.1")), &env);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"m v=1 1", &*relay.udp[0]).unwrap();
    until("it is carried", || {
        backend.seen().iter().any(|seen| seen.body == b"m v=1 1\n")
    });
    until("what the peer owes is known", || {
        query(&relay).header("x-relay-owed") == Some("77")
    });
    assert!(peer.seen()[0].head.starts_with("GET /status HTTP/1.0\r\n"));
}
