//! What operators see of the spool, and the one thing that they can do to it.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::answers::metric;
use crate::backend::{Act, Backend, status};
use crate::client::{Answer, ask, until, write};
use crate::relay::Relay;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("relay-admin-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// A switch: while it is on, a backend answers 503.
#[derive(Clone)]
struct Sick(Arc<AtomicBool>);

impl Sick {
    fn new(on: bool) -> Self {
        Self(Arc::new(AtomicBool::new(on)))
    }

    fn set(&self, on: bool) {
        self.0.store(on, Ordering::SeqCst);
    }

    fn script(&self) -> impl Fn(usize) -> (Duration, Act) + Send + Sync + 'static {
        let on = Arc::clone(&self.0);
        move |_| match on.load(Ordering::SeqCst) {
            true => (Duration::ZERO, status(503, "", "sick")),
            false => (Duration::ZERO, status(204, "", "")),
        }
    }
}

/// A relay with a spool in front of `a` and `b`, which replays without long rests.
fn relay(folder: &Folder, a: &str, b: &str, env: &[(&str, &str)]) -> Relay {
    let own = [
        ("RELAY_SPOOL_DIR", folder.0.to_str().unwrap()),
        ("RELAY_HTTP_MAX_DELAY_INTERVAL", "500ms"),
    ];
    Relay::start(&[("a", a), ("b", b)], &[&own[..], env].concat())
}

/// One number of the spool that stands at backend `b`.
fn of_b(relay: &Relay, name: &str) -> u64 {
    metric(relay, &format!("{name}{{backend=\"b\"}}"))
}

fn dropped(relay: &Relay, reason: &str) -> u64 {
    let row = format!("relay_spool_dropped_total{{backend=\"b\",reason=\"{reason}\"}}");
    metric(relay, &row)
}

fn get(address: &str, path: &str) -> Answer {
    ask(address, "GET", path, "", b"")
}

/// What `/status` says of one backend.
fn status_of(address: &str, name: &str) -> Value {
    let page: Value = serde_json::from_str(&get(address, "/status").body).unwrap();
    page["status"][name].clone()
}

fn flush(address: &str, headers: &str) -> Answer {
    ask(address, "POST", "/admin/flush", headers, b"")
}

fn is_level(relay: &Relay) -> bool {
    get(&relay.http, "/ready/b").status == 200
}

#[test]
fn what_a_backend_is_owed_is_shown_until_it_has_it() {
    let (folder, a, sick) = (Folder::new(), Backend::accepting(), Sick::new(true));
    // Its port is taken, and nobody listens there yet.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let relay = relay(&folder, &a.address, &address.to_string(), &[]);
    let bodies: Vec<String> = (1..=5).map(|n| format!("m,n={n} v={n} {n}")).collect();
    for body in &bodies {
        assert_eq!(write(&relay.http, "/write?db=x", body).status, 204);
    }
    let bytes: usize = bodies.iter().map(String::len).sum();
    until("all are owed, and replay has looked", || {
        of_b(&relay, "relay_spool_owed_records") == 5
            && status_of(&relay.http, "b")["oldestSeconds"].as_f64() > Some(0.0)
            && metric(&relay, "relay_backend_up{backend=\"b\"}") == 0
    });
    assert_eq!(of_b(&relay, "relay_spool_owed_bytes"), bytes as u64);
    assert_eq!(of_b(&relay, "relay_spool_state"), 1);
    assert_eq!(of_b(&relay, "relay_spool_replayed_total"), 0);
    assert_eq!(of_b(&relay, "relay_backend_missed_total"), 0, "it is kept");
    let of_a = metric(&relay, "relay_spool_owed_records{backend=\"a\"}");
    assert_eq!(of_a, 0, "a has it all");
    let page = get(&relay.admin, "/metrics").body;
    let oldest = page
        .lines()
        .find_map(|line| line.strip_prefix("relay_spool_oldest_seconds{backend=\"b\"} "));
    let oldest: f64 = oldest.unwrap().parse().unwrap();
    assert!(oldest > 0.0 && oldest < 60.0, "{oldest}");
    let row = status_of(&relay.admin, "b");
    for (key, want) in [
        ("state", Value::from("down")),
        ("owedBytes", bytes.into()),
        ("owedRecords", 5.into()),
        ("buffering", 1.into()),
        ("size", bytes.into()),
        ("maxSize", (10_u64 << 30).into()),
        ("replayed", 0.into()),
        ("deadLetters", 0.into()),
        ("dropped", 0.into()),
        ("missed", 0.into()),
    ] {
        assert_eq!(row[key], want, "{key}");
    }
    let answer = get(&relay.http, "/ready/b");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("the backend is down"), "{answer:?}");
    for path in ["/ready", "/ready/a"] {
        assert_eq!(get(&relay.http, path).status, 200, "{path}");
    }

    it_comes_back(&relay, socket, &sick, &bodies);
}

/// The second half: the backend listens, and is level in the end.
fn it_comes_back(relay: &Relay, socket: Socket, sick: &Sick, bodies: &[String]) {
    let bytes: usize = bodies.iter().map(String::len).sum();
    socket.listen(128).unwrap();
    let b = Backend::over(TcpListener::from(socket), sick.script());
    until("it is up", || {
        status_of(&relay.http, "b")["state"] == "catching-up"
    });
    let answer = get(&relay.http, "/ready/b");
    assert_eq!(answer.status, 503);
    let words = format!("the backend is owed {bytes} bytes");
    assert!(answer.body.contains(&words), "{answer:?}");
    assert_eq!(get(&relay.http, "/ready").status, 200, "a takes writes");

    sick.set(false);
    until("it is level", || is_level(relay));
    for name in ["owed_records", "owed_bytes", "oldest_seconds", "state"] {
        assert_eq!(of_b(relay, &format!("relay_spool_{name}")), 0, "{name}");
    }
    assert_eq!(of_b(relay, "relay_spool_replayed_total"), 5);
    let row = status_of(&relay.http, "b");
    for (key, want) in [
        ("state", Value::from("up")),
        ("owedBytes", 0.into()),
        ("owedRecords", 0.into()),
        ("oldestSeconds", 0.0.into()),
        ("buffering", 0.into()),
        ("replayed", 5.into()),
    ] {
        assert_eq!(row[key], want, "{key}");
    }
    let last = b.seen().pop().unwrap().body;
    let last = String::from_utf8(last).unwrap();
    assert!(last.ends_with(bodies.last().unwrap()), "{last}");
}

#[test]
fn a_flush_drops_what_is_owed_and_takes_nothing_of_the_next_outage() {
    let (folder, a, sick) = (Folder::new(), Backend::accepting(), Sick::new(true));
    let b = Backend::with(sick.script());
    let relay = relay(&folder, &a.address, &b.address, &[]);
    for n in 1..=3 {
        let body = format!("early v={n} {n}");
        assert_eq!(write(&relay.http, "/write?db=x", &body).status, 204);
    }
    until("all are owed, and replay has looked", || {
        of_b(&relay, "relay_spool_owed_records") == 3
            && status_of(&relay.http, "b")["oldestSeconds"].as_f64() > Some(0.0)
    });
    assert_eq!(flush(&relay.admin, "").status, 204);
    until("they are dropped", || {
        of_b(&relay, "relay_spool_owed_records") == 0
    });
    assert_eq!(of_b(&relay, "relay_spool_owed_bytes"), 0);
    until("they are counted", || dropped(&relay, "flush") == 3);
    for reason in ["full", "age", "unlettered", "disk"] {
        assert_eq!(dropped(&relay, reason), 0, "{reason}");
    }
    assert_eq!(status_of(&relay.http, "b")["dropped"], 3);

    sick.set(false);
    until("it is level", || is_level(&relay));
    assert_eq!(flush(&relay.admin, "").status, 204, "nothing is owed");
    sick.set(true);
    let sent = b.seen().len();
    for n in 1..=2 {
        let body = format!("late v={n} {n}");
        assert_eq!(write(&relay.http, "/write?db=x", &body).status, 204);
    }
    until("both are owed", || {
        of_b(&relay, "relay_spool_owed_records") == 2
    });
    sick.set(false);
    until("it is level again", || is_level(&relay));
    assert_eq!(dropped(&relay, "flush"), 3, "as before");
    assert_eq!(of_b(&relay, "relay_spool_replayed_total"), 2);
    let seen = b.seen();
    let late = |line: &str| {
        seen[sent..]
            .iter()
            .any(|seen| String::from_utf8_lossy(&seen.body).contains(line))
    };
    assert!(late("late v=1 1") && late("late v=2 2"), "{seen:?}");
    assert!(!late("early"), "what was dropped stays dropped: {seen:?}");
    let row = "relay_http_requests_total{path=\"/admin/flush\",method=\"POST\",code=\"204\"}";
    assert_eq!(metric(&relay, row), 2);
}

/// What each door answers to a flush with these headers: the admin address, and a listener.
fn doors(relay: &Relay, headers: &str) -> (u16, u16) {
    let admin = flush(&relay.admin, headers).status;
    (admin, flush(&relay.http, headers).status)
}

const ORIGIN: &str = "Origin: https://evil.example\r\n";

#[test]
fn without_a_token_only_a_loopback_admin_address_flushes_and_for_no_web_page() {
    let a = Backend::accepting();
    let relay = Relay::start(&[("a", &a.address)], &[]);
    assert_eq!(doors(&relay, ""), (204, 403));
    assert_eq!(doors(&relay, ORIGIN), (403, 403));
    assert_eq!(doors(&relay, "Origin: null\r\n"), (403, 403));
    for (address, words) in [(&relay.http, "RELAY_ADMIN_TOKEN"), (&relay.admin, "Origin")] {
        let answer = flush(address, ORIGIN);
        assert!(answer.body.contains(words), "{answer:?}");
    }
    for address in [&relay.http, &relay.admin] {
        let answer = get(address, "/admin/flush");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
        let answer = ask(address, "OPTIONS", "/admin/flush", "", b"");
        assert_eq!((answer.status, answer.header("allow")), (204, Some("POST")));
    }
    let open = [("RELAY_ADMIN_BIND_ADDR", "0.0.0.0:0")];
    let relay = Relay::start(&[("a", &a.address)], &open);
    assert_eq!(doors(&relay, ""), (403, 403));
    let answer = flush(&relay.admin, "");
    assert!(answer.body.contains("RELAY_ADMIN_TOKEN"), "{answer:?}");
    assert_eq!(get(&relay.admin, "/metrics").status, 200, "reads stay open");
}

#[test]
fn with_a_token_both_doors_want_it_and_take_it() {
    let a = Backend::accepting();
    let env = [
        ("RELAY_ADMIN_TOKEN", "s3cret"),
        ("RELAY_ADMIN_BIND_ADDR", "0.0.0.0:0"),
    ];
    let relay = Relay::start(&[("a", &a.address)], &env);
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    for (authorization, want) in [
        ("Bearer s3cret", 204),
        ("Token s3cret", 204),
        (&*basic("any:s3cret"), 204),
        ("Bearer s3cre", 401),
        ("Bearer s3cret2", 401),
        ("s3cret", 401),
        (&*basic("s3cret:"), 401),
    ] {
        let header = format!("Authorization: {authorization}\r\n");
        assert_eq!(doors(&relay, &header), (want, want), "{authorization}");
        let both = header + ORIGIN;
        assert_eq!(doors(&relay, &both), (want, want), "{authorization}");
    }
    assert_eq!(doors(&relay, ""), (401, 401));
    assert_eq!(doors(&relay, ORIGIN), (401, 401));
    let answer = flush(&relay.http, "Authorization: Bearer wrong\r\n");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert!(!answer.body.contains("s3cret"), "{answer:?}");
}

#[test]
fn a_relay_whose_backends_are_owed_too_much_is_not_ready() {
    let (folder, a, sick) = (Folder::new(), Backend::accepting(), Sick::new(true));
    let b = Backend::with(sick.script());
    let both = relay(&folder, &a.address, &b.address, &[("RELAY_HTTP_ACKS", "2")]);
    assert_eq!(get(&both.http, "/ready").status, 200);
    let answer = write(&both.http, "/write?db=x", "m v=1 1");
    assert_eq!(answer.status, 503, "one of two accepted: {answer:?}");
    until("b is owed it", || {
        of_b(&both, "relay_spool_owed_records") == 1
    });
    let answer = get(&both.http, "/ready");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("owed nothing"), "{answer:?}");
    assert_eq!(get(&both.admin, "/ready").status, 200, "it has no acks");
    sick.set(false);
    until("it is level", || get(&both.http, "/ready").status == 200);

    let (folder, sick) = (Folder::new(), Sick::new(true));
    let b = Backend::with(sick.script());
    let env = [
        ("RELAY_SPOOL_WHEN_FULL", "refuse"),
        ("RELAY_SPOOL_MAX_SIZE", "64KiB"),
    ];
    let full = relay(&folder, &a.address, &b.address, &env);
    let body = format!("m v=\"{}\" 1", "x".repeat(65_536 - 8)); // as much as may be
    assert_eq!(write(&full.http, "/write?db=x", &body).status, 204);
    until("it is full", || get(&full.http, "/ready").status == 503);
    let answer = get(&full.http, "/ready");
    assert!(answer.body.contains("when-full"), "{answer:?}");
    assert_eq!(write(&full.http, "/write?db=x", "m v=1 1").status, 503);
}

#[test]
fn a_relay_that_keeps_what_nobody_takes_is_ready() {
    let (folder, a, b) = (Folder::new(), Backend::nobody(), Backend::nobody());
    let env = [("RELAY_SPOOL_WHEN_ALL_FAIL", "accept")];
    let relay = relay(&folder, &a, &b, &env);
    until("both are down", || {
        ["a", "b"]
            .iter()
            .all(|name| status_of(&relay.http, name)["state"] == "down")
    });
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 202);
    assert_eq!(get(&relay.http, "/ready").status, 200);
    assert_eq!(get(&relay.http, "/ready/b").status, 503);
}

/// SPEC section 9, as far as it is there; the rest of the spool's; and each one's type.
const METRICS: [(&str, &str); 22] = [
    ("relay_http_requests_total", "counter"),
    ("relay_http_request_duration_seconds", "histogram"),
    ("relay_http_request_bytes_total", "counter"),
    ("relay_points_total", "counter"),
    ("relay_backend_requests_total", "counter"),
    ("relay_backend_request_duration_seconds", "histogram"),
    ("relay_backend_up", "gauge"),
    ("relay_backend_connections", "gauge"),
    ("relay_backend_missed_total", "counter"),
    ("relay_spool_owed_bytes", "gauge"),
    ("relay_spool_owed_records", "gauge"),
    ("relay_spool_oldest_seconds", "gauge"),
    ("relay_spool_dropped_total", "counter"),
    ("relay_spool_replayed_total", "counter"),
    ("relay_spool_damaged_total", "counter"),
    ("relay_spool_hand_over_seconds", "summary"),
    ("relay_spool_hand_over_max_seconds", "gauge"),
    ("relay_spool_failing", "gauge"),
    ("relay_spool_state", "gauge"),
    ("relay_dead_letters_total", "counter"),
    ("relay_inflight_bytes", "gauge"),
    ("relay_build_info", "gauge"),
];

#[test]
fn every_metric_says_what_it_is_with_and_without_a_spool() {
    let (folder, a) = (Folder::new(), Backend::accepting());
    let bare = Relay::start(&[("a", &a.address)], &[]);
    let page = get(&bare.admin, "/metrics").body;
    says_what_it_is(&page);
    let of_spool = |line: &&str| line.starts_with("relay_spool_") && line.contains("backend=");
    assert_eq!(page.lines().find(of_spool), None);

    // `a` speaks first, so that `b` is owed what it refuses; on replay that is set aside.
    let b = Backend::new(Duration::from_millis(200), status(400, "", "partial write"));
    let spooled = relay(&folder, &a.address, &b.address, &[]);
    says_what_it_is(&get(&spooled.admin, "/metrics").body);
    assert_eq!(write(&spooled.http, "/write?db=x", "m v=1 1").status, 204);
    let row = "relay_dead_letters_total{backend=\"b\",code=\"400\"}";
    until("it is a dead letter", || metric(&spooled, row) == 1);
    until("it is level", || is_level(&spooled));
    assert_eq!(status_of(&spooled.http, "b")["deadLetters"], 1);
}

fn says_what_it_is(page: &str) {
    for (name, kind) in METRICS {
        let help = format!("# HELP {name} ");
        assert_eq!(page.matches(&help).count(), 1, "{name}: {page}");
        assert!(
            page.contains(&format!("\n# TYPE {name} {kind}\n")),
            "{name}"
        );
    }
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| {
                name.strip_suffix(end)
                    .filter(|name| name.ends_with("_seconds"))
            })
            .unwrap_or(name);
        let known = page.contains(&format!("# TYPE {family} "));
        assert!(known, "{line} stands under no TYPE");
    }
}
