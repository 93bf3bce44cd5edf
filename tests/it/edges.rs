//! The edges of a process: names and IPv6, too many connections, a second relay, a wrong start.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::Duration;

use crate::answers::first_cpu;
use crate::backend::Backend;
use crate::client::{Client, until, write};
use crate::relay::Relay;

#[test]
fn backends_by_name_and_clients_by_ipv6() {
    let backend = Backend::accepting();
    let port = backend.address.rsplit(':').next().unwrap();
    let relay = Relay::start(
        &[("named", &format!("localhost:{port}"))],
        &[("RELAY_HTTP_BIND_ADDR", "[::1]:0")],
    );
    until("the name is known", || {
        write(&relay.http, "/write?db=x", "m v=1 1").status == 204
    });
}

#[test]
fn an_ipv6_backend_is_reached() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
                    stream
                        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                        .unwrap_or_default();
                }
            });
        }
    });
    let relay = Relay::start(&[("six", &address)], &[]);
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 204);
}

#[test]
fn one_connection_too_many_is_told_so() {
    let backend = Backend::accepting();
    let env = [
        ("RELAY_MAX_CONNECTIONS", "3"),
        ("RELAY_CPUS", &*first_cpu()),
    ];
    let relay = Relay::start(&[("a", &backend.address)], &env);
    let ping = b"GET /ping HTTP/1.1\r\nHost: r\r\n\r\n";
    let mut open: Vec<Client> = (0..3).map(|_| Client::new(&relay.http)).collect();
    for client in &mut open {
        assert_eq!(
            client.send(ping).answer().map(|answer| answer.status),
            Some(204)
        );
    }
    let answer = Client::new(&relay.http).answer().unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (503, Some("close"))
    );
    open.pop();
    until("there is room again", || {
        Client::new(&relay.http)
            .send(ping)
            .answer()
            .is_some_and(|a| a.status == 204)
    });
}

#[test]
fn idle_connections_are_closed() {
    let backend = Backend::accepting();
    let relay = Relay::start(
        &[("a", &backend.address)],
        &[("RELAY_IDLE_TIMEOUT", "200ms")],
    );
    let mut stream = TcpStream::connect(&relay.http).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed without a word");
}

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
        .args(args)
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn a_second_relay_on_the_same_port_does_not_start() {
    let backend = Backend::accepting();
    let relay = Relay::start(&[("a", &backend.address)], &[]);
    let outputs = format!("a=http://{}", backend.address);
    let env = [
        ("RELAY_HTTP_BIND_ADDR", &*relay.http),
        ("RELAY_HTTP_OUTPUTS", &outputs),
        ("RELAY_ADMIN_BIND_ADDR", ""),
    ];
    let second = run(&[], &env);
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(2), "{said}");
    assert!(said.contains("another process listens there"), "{said}");
}

#[test]
fn a_wrong_configuration_does_not_start_and_check_says_all() {
    let env = [
        ("RELAY_HTTP_OUTPUTS", "a=ftp://x"),
        ("RELAY_CPUS", "many"),
        ("RELAY_HTP_BIND_ADDR", ":1"),
    ];
    for args in [&["serve"][..], &["check"][..], &[][..]] {
        let ran = run(args, &env);
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1), "{args:?}: {said}");
        for part in [
            "RELAY_HTTP_OUTPUTS",
            "RELAY_CPUS",
            "RELAY_HTP_BIND_ADDR",
            "RELAY_HTTP_BIND_ADDR",
        ] {
            assert!(said.contains(part), "{args:?} names {part}: {said}");
        }
    }
    let well = run(
        &["check"],
        &[("RELAY_HTTP_OUTPUTS", "a=http://127.0.0.1:8086")],
    );
    let said = String::from_utf8(well.stdout).unwrap();
    assert!(
        well.status.success() && said.contains("limits.max-body-size"),
        "{said}"
    );
}

#[test]
fn listeners_that_would_serve_in_the_open_are_refused() {
    for (key, value, word) in [
        ("RELAY_HTTP_SSL_COMBINED_PEM", "x.pem", "x.pem"),
        (
            "RELAY_HTTP_SSL_CLIENT_CA",
            "x.pem",
            "no certificate to listen with",
        ),
    ] {
        let ran = run(
            &[],
            &[("RELAY_HTTP_OUTPUTS", "a=http://127.0.0.1:1"), (key, value)],
        );
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1), "{said}");
        assert!(said.contains(word), "{said}");
    }
}
