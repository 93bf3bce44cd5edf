//! Questions to scripted backends: who is asked, what comes back, and what happens when one fails.

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::backend::{Backend, Seen, request};
use crate::client::{Client, ask, until};
use crate::relay::Relay;
use crate::spool_site::Site;
use crate::store::Store;

/// How one question is answered.
type Script = dyn Fn(&Seen, &mut TcpStream) + Send + Sync;

/// A backend that answers questions by a script, and pings and writes with 204.
struct Oracle {
    address: String,
    asked: Arc<Mutex<Vec<Seen>>>,
    gone: Arc<AtomicUsize>,
}

impl Oracle {
    fn new(script: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, gone): (Arc<Mutex<Vec<Seen>>>, Arc<AtomicUsize>) = Default::default();
        let (seen, left, script) = (Arc::clone(&asked), Arc::clone(&gone), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, left, script) =
                    (Arc::clone(&seen), Arc::clone(&left), Arc::clone(&script));
                thread::spawn(move || {
                    serve(stream, &seen, &*script);
                    left.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self {
            address,
            asked,
            gone,
        }
    }

    /// One that says its name.
    fn named(name: &'static str) -> Self {
        Self::new(move |_, stream| say(stream, 200, name))
    }

    fn asked(&self) -> Vec<Seen> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, asked: &Mutex<Vec<Seen>>, script: &Script) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(seen) = request(&mut reader) {
        let is_question = !seen.head.contains("/ping") && !seen.head.contains(" /write");
        if is_question {
            asked.lock().unwrap().push(seen.clone());
            script(&seen, &mut stream);
        } else if stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .is_err()
        {
            return;
        }
    }
}

fn say(stream: &mut TcpStream, status: u16, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} S\r\nX-Influxdb-Version: 1.test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _gone = stream.write_all((head + body).as_bytes());
}

fn relay(oracles: &[(&str, &Oracle)]) -> Relay {
    let outputs: Vec<_> = oracles
        .iter()
        .map(|(name, oracle)| (*name, &*oracle.address))
        .collect();
    Relay::start(&outputs, &[("RELAY_CPUS", "0")])
}

const READ: &str = "/query?db=x&q=SELECT+1";

#[test]
fn query_goes_to_one_backend_with_all_that_the_client_said() {
    let (a, b) = (Oracle::named("a"), Oracle::named("b"));
    let relay = relay(&[("a", &a), ("b", &b)]);
    let headers = "Accept: application/csv\r\nAuthorization: Basic eDp5\r\nContent-Type: application/x-www-form-urlencoded\r\nX-Other: z\r\n";
    let target = "/query?db=x&epoch=ns&pretty=true&chunked=true";
    let answer = ask(
        &relay.http,
        "POST",
        target,
        headers,
        b"q=SELECT+*+FROM+m&params=%7B%7D",
    );
    let name = answer.header("x-relay-backend").unwrap().to_owned();
    assert_eq!((answer.status, answer.body.as_str()), (200, name.as_str()));
    assert_eq!(answer.header("x-influxdb-version"), Some("1.test"));
    assert_eq!(a.asked().len() + b.asked().len(), 1);
    let seen = [a.asked(), b.asked()].concat().remove(0);
    assert!(
        seen.head
            .starts_with(&format!("POST {target} HTTP/1.1\r\n")),
        "{}",
        seen.head
    );
    for line in headers.lines() {
        assert!(seen.head.contains(line), "{line} in {}", seen.head);
    }
    assert_eq!(seen.body, b"q=SELECT+*+FROM+m&params=%7B%7D");
    // Equal backends take turns.
    for _ in 0..9 {
        assert_eq!(ask(&relay.http, "GET", READ, "", b"").status, 200);
    }
    assert_eq!((a.asked().len(), b.asked().len()), (5, 5));
    assert_eq!(ask(&relay.http, "PUT", READ, "", b"").status, 405);
}

#[test]
fn query_is_asked_elsewhere_as_long_as_nothing_was_told() {
    let refusing = Backend::nobody();
    let hanging_up = Oracle::new(|_, stream| drop(stream.shutdown(std::net::Shutdown::Both)));
    let failing = Oracle::new(|_, stream| say(stream, 503, "overloaded"));
    let nonsense = Oracle::new(|_, stream| drop(stream.write_all(b"not http at all\r\n\r\n")));
    let good = Oracle::named("good");
    let outputs = [
        ("refusing", &*refusing),
        ("hanging-up", &*hanging_up.address),
        ("failing", &*failing.address),
        ("nonsense", &*nonsense.address),
        ("good", &*good.address),
    ];
    let one = Relay::start(&outputs, &[("RELAY_CPUS", "0")]);
    for _ in 0..20 {
        let answer = ask(&one.http, "GET", READ, "", b"");
        assert_eq!((answer.status, answer.body.as_str()), (200, "good"));
    }
    assert!(!failing.asked().is_empty() && !hanging_up.asked().is_empty());
    // If all fail, the client hears what the last of them says, or why none answers.
    let bad = Relay::start(&outputs[..3], &[("RELAY_CPUS", "0")]);
    for _ in 0..6 {
        let answer = ask(&bad.http, "GET", READ, "", b"");
        assert_eq!(answer.status, 503);
        let is_its_own = answer.body == "overloaded";
        assert!(
            is_its_own || answer.body.contains("failing answers 503"),
            "{}",
            answer.body
        );
    }
    // A 4xx is an answer.
    let wrong = Oracle::new(|_, stream| say(stream, 400, "{\"error\":\"error parsing query\"}"));
    let relay = relay(&[("wrong", &wrong)]);
    assert_eq!(
        ask(&relay.http, "GET", "/query?q=SELECT", "", b"").status,
        400
    );
}

#[test]
fn query_answers_stream_as_they_come_and_are_held_back_by_a_slow_client() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let a = Oracle::new(move |seen, stream| {
        let _gone = stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        if seen.head.contains("wait") {
            thread::sleep(Duration::from_millis(300));
        } else {
            let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
            for _ in 0..3_200 {
                if stream.write_all(&chunk).is_err() {
                    return;
                }
                count.fetch_add(0x10000, Ordering::Relaxed);
            }
        }
        let _gone = stream.write_all(b"4\r\nlast\r\n0\r\n\r\n");
    });
    let relay = relay(&[("a", &a)]);
    let mut client = Client::new(&relay.http);
    client.send(b"GET /query?q=SELECT+1&wait HTTP/1.1\r\nHost: r\r\n\r\n");
    let answer = client.answer_to("GET").unwrap();
    assert_eq!(answer.body, "firstlast");
    // 200 MB, of which nobody reads: it is held back, and what the relay holds is bounded.
    let mut slow = TcpStream::connect(&relay.http).unwrap();
    slow.write_all(b"GET /query?q=SELECT+1 HTTP/1.1\r\nHost: r\r\n\r\n")
        .unwrap();
    let mut last = usize::MAX;
    until("it is held back", || {
        thread::sleep(Duration::from_millis(100));
        let now = sent.load(Ordering::Relaxed);
        now > 0 && std::mem::replace(&mut last, now) == now
    });
    assert!(last < 50 << 20, "{last} bytes");
    let mut all = Vec::new();
    slow.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut buffer = vec![0; 1 << 20];
    while !all.ends_with(b"0\r\n\r\n") {
        let got = slow.read(&mut buffer).unwrap();
        assert!(got > 0);
        all = buffer[got.saturating_sub(5)..got].to_vec();
    }
    assert_eq!(sent.load(Ordering::Relaxed), 3_200 << 16);
}

#[test]
fn query_of_a_client_that_is_gone_is_taken_back() {
    let a = Oracle::new(|seen, stream| {
        if seen.head.contains("hang") {
            let _until_it_is_closed = stream.read(&mut [0]);
        } else {
            say(stream, 200, "a");
        }
    });
    let relay = relay(&[("a", &a)]);
    let mut client = TcpStream::connect(&relay.http).unwrap();
    client
        .write_all(b"GET /query?q=SELECT+1&hang HTTP/1.1\r\nHost: r\r\n\r\n")
        .unwrap();
    until("it is asked", || a.asked().len() == 1);
    let before = a.gone.load(Ordering::Relaxed);
    drop(client);
    until("its connection is closed", || {
        a.gone.load(Ordering::Relaxed) > before
    });
    assert_eq!(ask(&relay.http, "GET", READ, "", b"").body, "a");
}

#[test]
fn query_that_is_cut_is_seen_to_be_cut() {
    let a = Oracle::new(|seen, stream| {
        let framing = if seen.head.contains("chunks") {
            "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        } else {
            "Content-Length: 100000\r\n\r\nfirst"
        };
        let _gone = stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes());
        let _gone = stream.shutdown(std::net::Shutdown::Both);
    });
    let relay = relay(&[("a", &a)]);
    for what in ["chunks", "length"] {
        let mut client = Client::new(&relay.http);
        client.send(format!("GET /query?q=SELECT+1&{what} HTTP/1.1\r\nHost: r\r\n\r\n").as_bytes());
        let got = String::from_utf8(client.rest()).unwrap();
        assert!(
            got.contains("first") && !got.ends_with("0\r\n\r\n"),
            "{got}"
        );
    }
}

#[test]
fn query_to_a_backend_that_lacks_something_only_if_there_is_no_other() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(
        &[("a", &a), ("b", &b)],
        &[("RELAY_CPUS", "0"), ("RELAY_SPOOL_REPLAY_RATE", "1")],
    );
    site.write("m v=1 1");
    site.says("backend is owed writes", 1);
    // It comes back stale, and refuses what it is owed for a while.
    b.rule(|seen| match seen.head.contains("/write") {
        true => crate::store::Does::Say(503, "", ""),
        false => crate::store::Does::Say(200, "", "{\"results\":[]}"),
    });
    a.rule(|seen| match seen.head.contains("/write") {
        true => crate::store::Does::Take,
        false => crate::store::Does::Say(200, "", "{\"results\":[]}"),
    });
    b.start();
    site.says("backend is up backend=b", 1);
    let post = |query: &str| ask(&site.http, "POST", query, "", b"");
    for _ in 0..20 {
        let answer = post(READ);
        assert_eq!(answer.header("x-relay-backend"), Some("a"), "{answer:?}");
        assert_eq!(answer.header("x-relay-owed"), None);
    }
    let mut a = a;
    a.stop();
    until("only the stale one is left", || {
        let answer = post(READ);
        answer.header("x-relay-backend") == Some("b") && answer.header("x-relay-owed") == Some("7")
    });
}

/// Method, target, who is asked, and how its request begins.
const LANGUAGES: [[&str; 4]; 8] = [
    ["GET", READ, "influx", "/deep/query"],
    [
        "POST",
        "/api/v2/query?org=o",
        "influx",
        "/deep/api/v2/query",
    ],
    [
        "GET",
        "/api/v1/query?query=up",
        "prometheus",
        "/api/v1/query",
    ],
    [
        "POST",
        "/api/v1/query_range?query=up",
        "prometheus",
        "/api/v1/query_range",
    ],
    [
        "GET",
        "/api/v1/series?match[]=up",
        "prometheus",
        "/api/v1/series",
    ],
    ["GET", "/api/v1/labels", "prometheus", "/api/v1/labels"],
    [
        "GET",
        "/api/v1/label/job/values",
        "prometheus",
        "/api/v1/label/job/values",
    ],
    ["GET", "/api/v1/metadata", "prometheus", "/api/v1/metadata"],
];

#[test]
fn query_languages_go_to_those_that_speak_them() {
    let (influx, prometheus) = (Oracle::named("influx"), Oracle::named("prometheus"));
    let folder = crate::spool_site::Folder::new();
    let file = folder.path().join("relay.toml");
    let text = format!(
        "cpus = \"0\"\n[[http]]\nbind-addr = \"127.0.0.1:0\"\n\
         [[http.output]]\nname = \"i\"\nlocation = \"http://{}/deep\"\nendpoints = {{ write = \"/write\", query = \"/query\" }}\n\
         [[http.output]]\nname = \"p\"\nlocation = \"http://{}\"\ntype = \"prometheus\"\n",
        influx.address, prometheus.address
    );
    std::fs::write(&file, text).unwrap();
    let relay = Relay::of_file(&file);
    for [method, target, want, path] in LANGUAGES {
        let answer = ask(&relay.http, method, target, "", b"");
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, want),
            "{target}"
        );
        let oracle = if want == "influx" {
            &influx
        } else {
            &prometheus
        };
        let head = oracle.asked().pop().unwrap().head;
        assert!(
            head.starts_with(&format!("{method} {path}")),
            "{target}: {head}"
        );
    }
    for _ in 0..4 {
        let answer = ask(&relay.http, "POST", "/api/v1/prom/read?db=x", "", b"snappy");
        let path = if answer.body == "influx" {
            "/deep/api/v1/prom/read?db=x"
        } else {
            "/api/v1/read?db=x"
        };
        let oracle = if answer.body == "influx" {
            &influx
        } else {
            &prometheus
        };
        assert!(
            oracle
                .asked()
                .pop()
                .unwrap()
                .head
                .starts_with(&format!("POST {path}"))
        );
    }
    // What changes something goes to those that speak InfluxQL, not to Prometheus.
    let before = prometheus.asked().len();
    let answer = ask(&relay.http, "POST", "/query?q=CREATE+DATABASE+x", "", b"");
    assert_eq!((answer.status, answer.body.as_str()), (200, "influx"));
    assert_eq!(prometheus.asked().len(), before);
    for target in [
        "/api/v1/label//values",
        "/api/v1/label/a/b/values",
        "/api/v1/rules",
        "/query/",
    ] {
        assert_eq!(
            ask(&relay.http, "GET", target, "", b"").status,
            404,
            "{target}"
        );
    }
}

#[test]
fn query_and_write_that_no_output_takes_are_refused_at_once() {
    let prometheus = Oracle::named("prometheus");
    let folder = crate::spool_site::Folder::new();
    let env = [
        ("RELAY_HTTP_TYPE", "prometheus"),
        ("RELAY_SPOOL_DIR", folder.path().to_str().unwrap()),
    ];
    let relay = Relay::start(&[("p", &prometheus.address)], &env);
    let begun = std::time::Instant::now();
    let answer = crate::client::write(&relay.http, "/write?db=x", "m v=1");
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.contains("p does not take such writes"),
        "{}",
        answer.body
    );
    assert_eq!(ask(&relay.http, "GET", READ, "", b"").status, 404);
    assert_eq!(
        ask(&relay.http, "POST", "/query?q=DROP+DATABASE+x", "", b"").status,
        503
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
    let asked = prometheus.asked();
    assert!(
        asked
            .iter()
            .all(|seen| seen.head.starts_with("GET /-/ready ")),
        "{asked:?}"
    );
}

#[test]
fn query_leaves_a_backend_that_hangs_and_one_that_breaks_off_a_short_answer() {
    let (a, b) = (Store::new(), Store::new());
    let answers = |seen: &Seen| match seen.head.contains("/query") {
        true => crate::store::Does::Say(200, "", "{\"results\":[]}"),
        false => crate::store::Does::Take,
    };
    a.rule(answers);
    b.rule(answers);
    let env = [
        ("RELAY_CPUS", "0"),
        ("RELAY_PROBE_INTERVAL", "200ms"),
        ("RELAY_PROBE_TIMEOUT", "300ms"),
    ];
    let hung = Relay::start(&[("a", &a.address), ("b", &b.address)], &env);
    a.hang(true);
    let begun = std::time::Instant::now();
    for _ in 0..4 {
        let answer = ask(&hung.http, "GET", READ, "", b"");
        assert_eq!(answer.header("x-relay-backend"), Some("b"), "{answer:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    a.hang(false);

    let breaking = Oracle::new(|_, stream| {
        let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst");
        let _gone = stream.shutdown(std::net::Shutdown::Both);
    });
    let good = Oracle::named("good");
    let relay = relay(&[("breaking", &breaking), ("good", &good)]);
    for _ in 0..6 {
        assert_eq!(ask(&relay.http, "GET", READ, "", b"").body, "good");
    }
    assert!(!breaking.asked().is_empty());
}
