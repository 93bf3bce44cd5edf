//! Clients that mean ill: nothing of what they send reaches a backend, they end, and everybody else is
//! served; and after a hundred thousand requests, good and bad, the relay has what it had.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::answers::{first_cpu, metric};
use crate::backend::Backend;
use crate::client::{Client, ask, until, within, write};
use crate::relay::Relay;

/// A whole write that hides behind something else.
const HIDDEN: &str =
    "POST /write?db=smuggled HTTP/1.1\r\nHost: r\r\nContent-Length: 10\r\n\r\nhidden v=1";

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Sends bytes and the hidden write behind them: everything that comes back until the relay closes.
fn provoke(address: &str, bytes: &[u8]) -> String {
    let mut client = Client::new(address);
    client.send(bytes).send(HIDDEN.as_bytes()).finish();
    String::from_utf8_lossy(&client.rest()).into_owned()
}

/// How many answers that is.
fn answers(heard: &str) -> usize {
    let lines = heard.lines();
    lines.filter(|line| line.starts_with("HTTP/1.1 ")).count()
}

/// Head lines, and what may stand where the body is, that two servers could read in two ways.
const TWO_WAYS: [(&str, &str, &str); 42] = [
    (
        "lengths that differ",
        "Content-Length: 7\r\nContent-Length: 0\r\n",
        "m v=1 1",
    ),
    ("a length in hex", "Content-Length: 0x7\r\n", "m v=1 1"),
    (
        "a length with a blank",
        "Content-Length: 1 0\r\n",
        "m v=1 1",
    ),
    ("a length of nothing", "Content-Length:\r\n", "m v=1 1"),
    ("a negative length", "Content-Length: -1\r\n", "m v=1 1"),
    (
        "a length past all numbers",
        "Content-Length: 18446744073709551616\r\n",
        "m v=1 1",
    ),
    (
        "a blank before the colon",
        "Content-Length : 7\r\n",
        "m v=1 1",
    ),
    (
        "a tab before the name",
        "X-A: b\r\n\tContent-Length: 7\r\nContent-Length: 0\r\n",
        "m v=1 1",
    ),
    (
        "a NUL in the name",
        "Content\0Length: 7\r\nContent-Length: 0\r\n",
        "m v=1 1",
    ),
    ("a NUL in the length", "Content-Length: 7\0\r\n", "m v=1 1"),
    (
        "a bare LF within the head",
        "X-A: b\nContent-Length: 7\r\nContent-Length: 0\r\n",
        "m v=1 1",
    ),
    (
        "a bare CR within the head",
        "X-A: b\rContent-Length: 7\r\nContent-Length: 0\r\n",
        "m v=1 1",
    ),
    (
        "a line without a colon",
        "Content-Length 7\r\nContent-Length: 0\r\n",
        "m v=1 1",
    ),
    (
        "a line without a name",
        ": 7\r\nContent-Length: 0\r\n",
        "m v=1 1",
    ),
    (
        "chunks and a length",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "0\r\n\r\n",
    ),
    (
        "a length and chunks",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "chunks and no length",
        "Content-Length: 0\r\nTransfer-Encoding: identity\r\n",
        "",
    ),
    ("another coding", "Transfer-Encoding: gzip\r\n", "0\r\n\r\n"),
    (
        "a coding that begins alike",
        "Transfer-Encoding: chunkedx\r\n",
        "0\r\n\r\n",
    ),
    (
        "a coding that ends alike",
        "Transfer-Encoding: xchunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "a coding in quotes",
        "Transfer-Encoding: \"chunked\"\r\n",
        "0\r\n\r\n",
    ),
    (
        "two codings",
        "Transfer-Encoding: gzip, chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "chunks twice",
        "Transfer-Encoding: chunked, chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "chunks in two lines",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "chunks, then not",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "0\r\n\r\n",
    ),
    (
        "a folded coding",
        "Transfer-Encoding:\r\n chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "a coding behind a vertical tab",
        "Transfer-Encoding: \x0bchunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "a coding with a colon too many",
        "Transfer-Encoding:: chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "a coding and a blank name",
        "Transfer-Encoding : chunked\r\n",
        "0\r\n\r\n",
    ),
    (
        "a chunk of a length past all numbers",
        "Transfer-Encoding: chunked\r\n",
        "10000000000000007\r\nm v=1 1\r\n0\r\n\r\n",
    ),
    (
        "a chunk with a sign",
        "Transfer-Encoding: chunked\r\n",
        "+7\r\nm v=1 1\r\n0\r\n\r\n",
    ),
    (
        "a chunk with a prefix",
        "Transfer-Encoding: chunked\r\n",
        "0x7\r\nm v=1 1\r\n0\r\n\r\n",
    ),
    (
        "a chunk with an underline",
        "Transfer-Encoding: chunked\r\n",
        "0_7\r\nm v=1 1\r\n0\r\n\r\n",
    ),
    (
        "a chunk with a blank before it",
        "Transfer-Encoding: chunked\r\n",
        " 7\r\nm v=1 1\r\n0\r\n\r\n",
    ),
    (
        "a chunk without a length",
        "Transfer-Encoding: chunked\r\n",
        "\r\nm v=1 1\r\n0\r\n\r\n",
    ),
    (
        "a chunk line with a bare LF",
        "Transfer-Encoding: chunked\r\n",
        "7\nm v=1 1\r\n0\r\n\r\n",
    ),
    (
        "a chunk line with a bare CR",
        "Transfer-Encoding: chunked\r\n",
        "7\rm v=1 1\r\n0\r\n\r\n",
    ),
    (
        "an extension with a bare LF",
        "Transfer-Encoding: chunked\r\n",
        "7;a\nb\r\nm v=1 1\r\n0\r\n\r\n",
    ),
    (
        "chunk data that ends with a bare LF",
        "Transfer-Encoding: chunked\r\n",
        "7\r\nm v=1 1\n0\r\n\r\n",
    ),
    (
        "a chunk that is longer than it says",
        "Transfer-Encoding: chunked\r\n",
        "5\r\nm v=1 1\r\n0\r\n\r\n",
    ),
    (
        "a last chunk with a bare LF",
        "Transfer-Encoding: chunked\r\n",
        "7\r\nm v=1 1\r\n0\n\r\n",
    ),
    (
        "a trailer with a bare LF",
        "Transfer-Encoding: chunked\r\n",
        "7\r\nm v=1 1\r\n0\r\nX-A: b\n\r\n\r\n",
    ),
];

/// Whole beginnings that are no request of ours.
const NO_REQUEST: [(&str, &str); 12] = [
    ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("HTTP/0.9", "GET /write\r\n"),
    (
        "HTTP/1.2",
        "POST /write?db=x HTTP/1.2\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1",
    ),
    (
        "a blank too many",
        "POST  /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1",
    ),
    (
        "a blank in the target",
        "POST /write?db=x y HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1",
    ),
    (
        "a NUL in the target",
        "POST /write?db=x\0 HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1",
    ),
    (
        "a tunnel",
        "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: r\r\n\r\n",
    ),
    (
        "no method",
        " /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1",
    ),
    (
        "a method with a colon",
        "PO:ST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1",
    ),
    (
        "two hosts",
        "POST /write?db=x HTTP/1.1\r\nHost: r\r\nHost: s\r\nContent-Length: 7\r\n\r\nm v=1 1",
    ),
    (
        "a host with a path",
        "POST /write?db=x HTTP/1.1\r\nHost: r/s\r\nContent-Length: 7\r\n\r\nm v=1 1",
    ),
    (
        "a bare LF behind the first line",
        "POST /write?db=x HTTP/1.1\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1",
    ),
];

#[test]
fn what_can_be_read_in_two_ways_ends_the_connection() {
    let (a, b) = (Backend::accepting(), Backend::accepting());
    let relay = Relay::start(&[("a", &a.address), ("b", &b.address)], &[]);
    let framed = TWO_WAYS.iter().map(|(what, head, body)| {
        let bytes = format!("POST /write?db=x HTTP/1.1\r\nHost: r\r\n{head}\r\n{body}");
        (*what, bytes)
    });
    let whole = NO_REQUEST
        .iter()
        .map(|(what, bytes)| (*what, (*bytes).to_owned()));
    let chunks_by_10 =
        "POST /write?db=x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nm v=1 1\r\n0\r\n\r\n";
    let rows: Vec<_> = framed
        .chain(whole)
        .chain([("chunks by HTTP/1.0", chunks_by_10.to_owned())])
        .collect();
    // At all doors, since all read the same way.
    for (what, bytes) in &rows {
        for address in [&relay.http, &relay.admin] {
            let heard = provoke(address, bytes.as_bytes());
            let status = heard
                .strip_prefix("HTTP/1.1 ")
                .and_then(|rest| rest.get(..3));
            assert!(
                matches!(status, Some("400" | "404" | "405" | "501" | "505")),
                "{what}: {heard}"
            );
            assert_eq!(answers(&heard), 1, "{what}: {heard}");
            assert!(
                heard.contains("\r\nConnection: close\r\n"),
                "{what}: {heard}"
            );
        }
    }
    assert!(
        a.seen().is_empty() && b.seen().is_empty(),
        "nothing went on"
    );
    assert_eq!(metric(&relay, "relay_inflight_bytes"), 0);
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 204);
}

/// Sends one byte after another, slowly, until the relay hangs up; what it said, and after how long.
fn drip(address: &str, first: &[u8], wait: Duration) -> (String, Duration) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(wait)).unwrap();
    stream.write_all(first).unwrap();
    let (begun, mut heard) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(20) {
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => heard.extend_from_slice(&bytes[..count]),
            Err(_) => {
                if stream.write_all(b"x").is_err() {
                    break;
                }
            }
        }
    }
    (
        String::from_utf8_lossy(&heard).into_owned(),
        begun.elapsed(),
    )
}

#[test]
fn who_drips_is_ended_by_the_clock_and_nobody_else_notices() {
    let backend = Backend::accepting();
    let relay = Relay::start(
        &[("a", &backend.address)],
        &[
            ("RELAY_HEADER_TIMEOUT", "400ms"),
            ("RELAY_BODY_TIMEOUT", "600ms"),
        ],
    );
    let post = "POST /write?db=x HTTP/1.1\r\nHost: r\r\n";
    let head = format!("{post}X-A: ");
    let body = format!("{post}Content-Length: 100000\r\n\r\nm v=");
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\nfffff\r\nm v=");
    let extension = format!("{post}Transfer-Encoding: chunked\r\n\r\n7;a=");
    let drippers: Vec<_> = [&head, &body, &chunked, &extension]
        .into_iter()
        .cycle()
        .take(120)
        .map(|first| {
            let (address, first) = (relay.http.clone(), first.clone());
            thread::spawn(move || drip(&address, first.as_bytes(), Duration::from_millis(40)))
        })
        .collect();
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < Duration::from_millis(500) {
        let one = Instant::now();
        assert_eq!(write(&relay.http, "/write?db=good", "m v=1 1").status, 204);
        slowest = slowest.max(one.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    for dripper in drippers {
        let (heard, took) = dripper.join().unwrap();
        assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
        assert_eq!(answers(&heard), 1, "{heard}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
    assert!(
        backend
            .seen()
            .iter()
            .all(|seen| seen.head.contains("db=good"))
    );
    until("they are gone, with all they held", || {
        metric(&relay, "relay_http_connections") <= 1 && metric(&relay, "relay_inflight_bytes") == 0
    });
}

#[test]
fn a_bomb_costs_no_more_than_a_body_may() {
    let backend = Backend::accepting();
    let relay = Relay::start(
        &[("a", &backend.address)],
        &[
            ("RELAY_MAX_BODY_SIZE", "4MiB"),
            ("RELAY_MAX_INFLIGHT", "64MiB"),
        ],
    );
    let bomb = gzip(&vec![b'x'; 500_000_000]);
    assert!(bomb.len() < 600_000, "{}", bomb.len());
    let many = gzip(&vec![b'x'; 1_000_000]).repeat(100);
    let head = "Content-Encoding: gzip\r\n";
    let one = |bomb: &[u8]| ask(&relay.http, "POST", "/write?db=x", head, bomb).status;
    assert_eq!((one(&bomb), one(&many)), (413, 413), "warm");
    let before = relay.kib("VmRSS");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..4).for_each(|_| assert_eq!((one(&bomb), one(&many)), (413, 413))));
        }
    });
    let peak = relay.kib("VmHWM");
    assert!(
        peak < before.max(40 << 10) + (64 << 10),
        "{before} KiB before, {peak} at most"
    );
    assert!(backend.seen().is_empty());
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 204);
}

/// Sends a beginning and then the same for ever, until the relay has had enough: its answer's status.
fn flood(address: &str, first: &str, more: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    let look = Duration::from_millis(1);
    stream.set_read_timeout(Some(look)).unwrap();
    let more = more.repeat(4096 / more.len());
    let mut sent = 0;
    // It answers, and then throws away what comes, for a while and within a bound.
    while sent < 80 << 20 && stream.write_all(more.as_bytes()).is_ok() {
        sent += more.len();
        let mut byte = [0];
        if stream.peek(&mut byte).is_ok_and(|count| count > 0) {
            break;
        }
    }
    assert!(sent < 80 << 20, "it never ends");
    Client::over(stream)
        .finish()
        .answer()
        .map_or(0, |answer| answer.status)
}

#[test]
fn floods_without_an_end_are_ended() {
    let backend = Backend::accepting();
    let relay = Relay::start(
        &[("a", &backend.address)],
        &[("RELAY_MAX_BODY_SIZE", "1MiB")],
    );
    let before = relay.kib("VmRSS");
    let post = "POST /write?db=x HTTP/1.1\r\nHost: r\r\n";
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    for (want, what, first, more) in [
        (431, "header lines", post.to_owned(), "X-A: b\r\n"),
        (431, "one header", format!("{post}X-A: "), "b"),
        (414, "a target", "POST /write?db=".to_owned(), "x"),
        (400, "a method", String::new(), "P"),
        (400, "an extension", format!("{chunked}1;a="), "b"),
        (
            400,
            "tiny chunks with extensions",
            chunked.clone(),
            "1;abcdefghijkabcdefghijkabcdefghijkabcdefghijk\r\n#\r\n",
        ),
        (400, "zeros before a length", chunked.clone(), "0"),
        (
            413,
            "chunks",
            chunked.clone(),
            "400\r\n#aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ),
        (400, "trailers", format!("{chunked}0\r\n"), "X-A: b\r\n"),
    ] {
        let more = match what {
            "chunks" => format!("400\r\n{}\r\n", "#".repeat(1024)),
            _ => more.to_owned(),
        };
        let status = flood(&relay.http, &first, &more);
        assert_eq!(status, want, "{what}");
    }
    assert!(backend.seen().is_empty());
    let after = relay.kib("VmHWM");
    assert!(
        after < before + (24 << 10),
        "{before} KiB before, {after} at most"
    );
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 204);
}

#[test]
fn a_flood_of_connections_is_told_and_passes() {
    let backend = Backend::accepting();
    let relay = Relay::start(
        &[("a", &backend.address)],
        &[
            ("RELAY_MAX_CONNECTIONS", "40"),
            ("RELAY_CPUS", &first_cpu()),
        ],
    );
    let mut held: Vec<Client> = (0..40).map(|_| Client::new(&relay.http)).collect();
    let request = b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1";
    for client in &mut held {
        client.send(request);
        assert_eq!(client.answer().map(|answer| answer.status), Some(204));
    }
    for _ in 0..400 {
        let mut late = Client::new(&relay.http);
        let answer = late.answer().unwrap();
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1"))
        );
        assert!(late.rest().is_empty(), "and the end");
    }
    for client in &mut held {
        client.send(request);
        let answer = client.answer().map(|answer| answer.status);
        assert_eq!(answer, Some(204), "who is in stays in");
    }
    drop(held);
    until("there is room again", || {
        let mut client = Client::new(&relay.http);
        client.send(request);
        client.answer().is_some_and(|answer| answer.status == 204)
    });
    until("and none is forgotten", || {
        metric(&relay, "relay_http_connections") <= 1
    });
}

/// Requests that one client of the storm may send, each with what it must hear.
struct Arsenal {
    /// After these the connection goes on.
    polite: Vec<(Vec<u8>, u16)>,
    /// After these it is closed.
    rude: Vec<(Vec<u8>, u16)>,
}

fn post(target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: r\r\n{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

impl Arsenal {
    fn new() -> Self {
        let gzip_line = "Content-Encoding: gzip\r\n";
        let lines = "cpu,host=a load=0.64,idle=3i\n".repeat(40);
        let chunked = "POST /write?db=x HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nm v=1 1\r\n0\r\n\r\n";
        let head = "POST /write?db=x HTTP/1.1\r\nHost: r\r\n";
        let good = || (post("/write?db=x", "", b"m v=1 1"), 204);
        let polite = vec![
            good(),
            good(),
            good(),
            (post("/write?db=x&precision=s", "", b"m v=1"), 204),
            (post("/write?db=x", "", lines.as_bytes()), 204),
            (post("/write?db=x", gzip_line, &gzip(lines.as_bytes())), 204),
            (
                post(
                    "/api/v2/write?bucket=b",
                    "Authorization: Token t\r\n",
                    b"m v=1 1",
                ),
                204,
            ),
            (
                post("/api/v1/write", "Content-Encoding: snappy\r\n", &[7; 300]),
                204,
            ),
            (chunked.as_bytes().to_vec(), 204),
            (b"GET /ping HTTP/1.1\r\nHost: r\r\n\r\n".to_vec(), 204),
            (post("/write", "", b"m v=1 1"), 400),
            (post("/write?db=x&precision=d", "", b"m v=1 1"), 400),
            (post("/write?db=x", gzip_line, b"no gzip"), 400),
            (post("/write?db=x", "", b"m \\\\=\"=\""), 400),
            (post("/nowhere", "", b"m v=1 1"), 404),
            (
                b"DELETE /write?db=x HTTP/1.1\r\nHost: r\r\n\r\n".to_vec(),
                405,
            ),
            (post("/admin?q=x", "", b""), 403),
            (
                post("/write?db=x", "Content-Encoding: br\r\n", b"m v=1 1"),
                415,
            ),
        ];
        let rude = vec![
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(), 400),
            (b"EHLO example.org\r\n".to_vec(), 400),
            (
                format!("{head}Content-Length: 7\r\nContent-Length: 8\r\n\r\nm v=1 1").into_bytes(),
                400,
            ),
            (
                format!("{head}Transfer-Encoding: chunked\r\n\r\nxyz\r\n").into_bytes(),
                400,
            ),
            (format!("{head}\r\n").into_bytes(), 411),
            (
                format!("{head}Content-Length: 99999999\r\n\r\n").into_bytes(),
                413,
            ),
            (
                format!("{head}X-A: {}\r\n\r\n", "b".repeat(20_000)).into_bytes(),
                431,
            ),
        ];
        Self { polite, rude }
    }
}

/// One client: connections of several requests each, until all that are wanted were sent.
fn storm(address: &str, arsenal: &Arsenal, seed: u64, left: &AtomicUsize) {
    let mut dice = StdRng::seed_from_u64(seed);
    let take = |wanted: usize| {
        let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            Some(left.saturating_sub(wanted))
        });
        taken.unwrap().min(wanted)
    };
    loop {
        let mut client = Client::new(address);
        for _ in 0..dice.random_range(1..12) {
            let count = take(dice.random_range(1..60));
            if count == 0 {
                return;
            }
            let (mut bytes, mut wanted) = (Vec::new(), Vec::new());
            for _ in 0..count {
                let (request, status) = &arsenal.polite[dice.random_range(0..arsenal.polite.len())];
                bytes.extend_from_slice(request);
                wanted.push(*status);
            }
            client.send(&bytes);
            for status in wanted {
                let answer = client.answer().map(|answer| answer.status);
                assert_eq!(answer, Some(status), "seed {seed}");
            }
        }
        take(1);
        let (request, status) = &arsenal.polite[dice.random_range(0..arsenal.polite.len())];
        match dice.random_range(0..6) {
            0 => {} // closes, and that is all
            1 => _ = client.send(&request[..dice.random_range(0..request.len())]),
            2 => {
                // Half a request, and a reset.
                client.send(&request[..request.len() / 2]);
                client.reset();
            }
            3 => {
                // More than one request, and nobody to hear the answers.
                client.send(&request.repeat(3));
                client.reset();
            }
            4 => {
                client.send(request);
                assert_eq!(client.answer().map(|answer| answer.status), Some(*status));
            }
            _ => {
                let (request, status) = &arsenal.rude[dice.random_range(0..arsenal.rude.len())];
                client.send(request).finish();
                let answer = client.answer().map(|answer| answer.status);
                assert_eq!(answer, Some(*status), "seed {seed}");
                assert!(client.rest().is_empty(), "seed {seed}");
            }
        }
    }
}

#[test]
fn after_a_hundred_thousand_requests_the_relay_has_what_it_had() {
    const CLIENTS: u64 = 4;
    let seed: u64 = std::env::var("SEED").map_or(20_260, |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    let (a, b) = (Backend::forgetful(), Backend::forgetful());
    let relay = Relay::start(&[("a", &a.address), ("b", &b.address)], &[]);
    let arsenal = Arsenal::new();
    let rounds = |seed: u64, requests: usize| {
        let left = AtomicUsize::new(requests);
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (relay, arsenal, left) = (&relay, &arsenal, &left);
                scope.spawn(move || storm(&relay.http, arsenal, seed * CLIENTS + client, left));
            }
        });
        until("all clients are gone, and all sends have ended", || {
            metric(&relay, "relay_http_connections") <= 1
                && metric(&relay, "relay_inflight_bytes") == 0
        });
        (relay.kib("VmRSS"), relay.descriptors())
    };
    let begun = Instant::now();
    let (memory, descriptors) = rounds(seed, 20_000);
    let (memory_then, descriptors_then) = rounds(seed + 1, 80_000);
    eprintln!(
        "{memory} KiB and {descriptors} descriptors after 20,000 requests; {memory_then} and {descriptors_then} after \
         100,000, in {:?}",
        begun.elapsed()
    );
    // A descriptor or 64 bytes a request would be 80,000 or 5 MiB.
    assert!(
        memory_then < memory + (4 << 10),
        "{memory} KiB, then {memory_then}"
    );
    assert!(
        descriptors_then <= descriptors + 16,
        "{descriptors}, then {descriptors_then}"
    );
    for name in ["a", "b"] {
        let row = format!("relay_backend_up{{backend=\"{name}\"}}");
        assert_eq!(metric(&relay, &row), 1);
    }
    within(Duration::from_secs(5), "and it serves", || {
        write(&relay.http, "/write?db=x", "m v=1 1").status == 204
    });
    assert!(!relay.said().contains("panic"), "{}", relay.said());
}
