//! Memory that clients announce and do not fill.

use std::io::Write;
use std::net::TcpStream;

use crate::answers::metric;
use crate::backend::Backend;
use crate::client::{until, write};
use crate::relay::Relay;

const CONNECTIONS: u64 = 3000;
/// Each may cost so much beyond the budget.
const EACH_KIB: u64 = 16;

/// Many clients announce 25 MB and send one byte: what is reserved for them is charged, and is what has come.
fn announced(head: &str, bodies: &[&[u8]]) {
    let backend = Backend::accepting();
    let relay = Relay::start(
        &[("a", &backend.address)],
        &[("RELAY_MAX_INFLIGHT", "32MiB")],
    );
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 204);
    let before = relay.kib("VmRSS");
    let mut clients: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| TcpStream::connect(&relay.http).unwrap())
        .collect();
    for client in &mut clients {
        client.write_all(head.as_bytes()).unwrap();
    }
    for body in bodies {
        for client in &mut clients {
            client.write_all(body).unwrap();
        }
        // Each of them is charged for itself and for what it holds.
        until("all are begun", || {
            metric(&relay, "relay_inflight_bytes") >= CONNECTIONS * 1024
        });
        // What is answered now was read after all that came before.
        assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 204);
    }
    let after = relay.kib("VmHWM");
    let most = before + (32 << 10) + CONNECTIONS * EACH_KIB;
    assert!(
        after < most,
        "{before} KiB before, {after} after, {most} at most"
    );
    drop(clients);
    until("their memory is given back", || {
        metric(&relay, "relay_inflight_bytes") == 0
    });
}

#[test]
fn memory_is_what_has_come_of_announced_bodies() {
    let head = "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 25000000\r\n\r\n";
    announced(head, &[b"m", b" ", b"v"]);
}

#[test]
fn memory_is_what_has_come_of_announced_chunks() {
    let head = "POST /write?db=x HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n";
    announced(head, &[b"17d7840\r\n", b"m", b" "]);
}

#[test]
fn memory_is_what_has_come_of_announced_gzip() {
    let head = "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Encoding: gzip\r\nContent-Length: 24000000\r\n\r\n";
    announced(head, &[b"\x1f", b"\x8b", b"\x08"]);
}
