//! SIGTERM under load: what was asked is answered, what was answered is delivered, and it exits 0.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::backend::{Backend, status};
use crate::client::{Client, until};
use crate::relay::Relay;

#[test]
fn a_drain_under_load_fails_no_request() {
    let (a, b) = (
        Backend::accepting(),
        Backend::new(Duration::from_millis(20), status(204, "", "")),
    );
    let relay = Relay::start(&[("a", &a.address), ("slow", &b.address)], &[]);
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let (address, acknowledged) = (relay.http.clone(), Arc::clone(&acknowledged));
            thread::spawn(move || write_until_told(&address, writer, &acknowledged))
        })
        .collect();
    until("the load is on", || {
        acknowledged.load(Ordering::Relaxed) > 500
    });
    relay.term();
    let unanswered: usize = writers
        .into_iter()
        .map(|writer| writer.join().unwrap())
        .sum();
    assert!(relay.wait().success(), "exit 0");
    let acknowledged = acknowledged.load(Ordering::Relaxed);
    assert_eq!(unanswered, 0, "of {acknowledged} and more");
    assert_eq!(
        (a.seen().len(), b.seen().len()),
        (acknowledged, acknowledged),
        "late sends were given their time"
    );
}

/// Writes until it is told that the connection closes; requests that got no answer.
fn write_until_told(address: &str, writer: usize, acknowledged: &AtomicUsize) -> usize {
    let Ok(stream) = TcpStream::connect(address) else {
        return 0;
    };
    let mut client = Client::over(stream);
    for number in 1.. {
        let body = format!("m,w={writer} v={number} {number}");
        let head = format!(
            "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let Some(answer) = client.send((head + &body).as_bytes()).answer() else {
            return 1;
        };
        assert_eq!(answer.status, 204);
        acknowledged.fetch_add(1, Ordering::Relaxed);
        if answer.header("connection") == Some("close") {
            break;
        }
    }
    0
}

#[test]
fn idle_connections_do_not_hold_a_drain() {
    let a = Backend::accepting();
    let relay = Relay::start(&[("a", &a.address)], &[]);
    let _idle: Vec<Client> = (0..20).map(|_| Client::new(&relay.http)).collect();
    let begun = std::time::Instant::now();
    relay.term();
    assert!(relay.wait().success());
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}
