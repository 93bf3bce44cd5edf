//! `merge`: many clients' small writes in one request, and each client hears only of its own.
//!
//! The backend here refuses any body that has a bad line in it, so a joined request with one bad
//! write is refused whole: everybody but the bad writer must still be accepted.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // a scripted backend is no shard

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 32;
const ROUNDS: usize = 25;

/// Bodies that a backend was sent, and whether it accepted them.
type Record = Arc<Mutex<Vec<(String, bool)>>>;

/// A backend that takes its time, so that writes gather, and refuses bodies with `bad` in them.
fn backend() -> (String, Record) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let record = Record::default();
    let seen = Arc::clone(&record);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || answer(stream, &seen));
        }
    });
    (address, record)
}

fn answer(stream: TcpStream, seen: &Record) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let (first, body) = message(&mut reader)?;
        let accepted = !body.contains("bad");
        if first.starts_with("POST") {
            thread::sleep(Duration::from_millis(3));
            seen.lock().unwrap().push((body, accepted));
        }
        let answer: &[u8] = match (first.starts_with("POST"), accepted) {
            (true, false) => b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nbad",
            _ => b"HTTP/1.1 204 No Content\r\n\r\n",
        };
        stream.write_all(answer).ok()?;
    }
}

/// One request or answer: its first line and its body.
fn message(reader: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let (mut first, mut length) = (String::new(), 0);
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first, String::from_utf8(body).unwrap()))
}

struct Relay {
    child: Child,
    address: String,
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn relay(outputs: &str) -> Relay {
    let mut child = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
        .env("RELAY_HTTP_BIND_ADDR", "127.0.0.1:0")
        .env("RELAY_ADMIN_BIND_ADDR", "")
        .env("RELAY_HTTP_OUTPUTS", outputs)
        .env("RELAY_HTTP_MERGE", "auto")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut address = String::new();
    for line in &mut lines {
        let line = line.unwrap();
        if let Some((_, found)) = line.split_once(" address=") {
            found.clone_into(&mut address);
        }
        if line.contains("ready shards") {
            break;
        }
    }
    thread::spawn(move || lines.for_each(drop)); // so that its log never fills the pipe
    Relay { child, address }
}

/// One client's writes, one after another; the statuses it heard.
fn client(address: &str, number: usize) -> Vec<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let name = if number.is_multiple_of(8) {
        "bad"
    } else {
        "good"
    };
    let write = |round| {
        let body = format!("{name},client=c{number} round={round}i {}", round + 1);
        let length = body.len();
        stream
            .write_all(
                format!(
                    "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {length}\r\n\r\n{body}"
                )
                .as_bytes(),
            )
            .unwrap();
        message(&mut reader).unwrap().0
    };
    (0..ROUNDS).map(write).collect()
}

/// The slower backend's last writes may be under way yet.
fn await_the_last_round(seen: &Record) {
    let end = Instant::now() + Duration::from_secs(10);
    let last = format!(" round={}i ", ROUNDS - 1);
    let good = CLIENTS - CLIENTS.div_ceil(8);
    loop {
        let count = {
            let seen = seen.lock().unwrap();
            let accepted = seen.iter().filter(|(_, accepted)| *accepted);
            let lines = accepted.flat_map(|(body, _)| body.lines());
            lines.filter(|line| line.contains(&last)).count()
        };
        if count >= good || Instant::now() > end {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn each_client_hears_only_of_its_own_points() {
    let ((a, seen_a), (b, seen_b)) = (backend(), backend());
    let relay = relay(&format!("a=http://{a},b=http://{b}"));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let address = relay.address.clone();
            thread::spawn(move || client(&address, number))
        })
        .collect();
    for (number, client) in clients.into_iter().enumerate() {
        let wanted = if number.is_multiple_of(8) {
            "HTTP/1.1 400"
        } else {
            "HTTP/1.1 204"
        };
        for status in client.join().unwrap() {
            assert!(status.starts_with(wanted), "client {number} heard {status}");
        }
    }
    for seen in [seen_a, seen_b] {
        await_the_last_round(&seen);
        let seen = seen.lock().unwrap();
        let joined = seen
            .iter()
            .filter(|(body, _)| body.lines().count() > 1)
            .count();
        assert!(joined > 0, "nothing was joined");
        for number in (0..CLIENTS).filter(|number| !number.is_multiple_of(8)) {
            let mut rounds: Vec<String> = seen
                .iter()
                .filter(|(_, accepted)| *accepted)
                .flat_map(|(body, _)| body.lines())
                .filter(|line| line.starts_with(&format!("good,client=c{number} ")))
                .map(str::to_owned)
                .collect();
            let wanted: Vec<String> = (0..ROUNDS)
                .map(|round| format!("good,client=c{number} round={round}i {}", round + 1))
                .collect();
            rounds.dedup(); // a write may be sent twice where its first answer was lost
            assert_eq!(rounds, wanted, "in order, and nothing lost");
        }
    }
}
