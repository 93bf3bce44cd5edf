//! The answer rule, by real sockets: every pair of outcomes, in both orders of arrival.

use std::time::{Duration, Instant};

use crate::backend::{Act, Backend, status};
use crate::client::{Answer, Client, ask, until, write};
use crate::relay::Relay;
use crate::store::own_address;

const JSON: &str = "Content-Type: application/json\r\nX-Influxdb-Error: because\r\n";
const LATE: Duration = Duration::from_millis(80);

/// What a backend may do; those from `Redirect` on are failures without a 5xx of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Accept,
    Refuse,
    Error,
    Redirect,
    Hang,
    Nobody,
    Close,
    Junk,
}

const ALL: [Does; 8] = [
    Does::Accept,
    Does::Refuse,
    Does::Error,
    Does::Redirect,
    Does::Hang,
    Does::Nobody,
    Does::Close,
    Does::Junk,
];

fn act(does: Does, name: &str) -> Option<Act> {
    let body = |what: &str| format!("{{\"error\":\"{what} by {name}\"}}\n");
    Some(match does {
        Does::Accept => status(204, "X-Accepted: yes\r\n", ""),
        Does::Refuse => status(400, JSON, &body("refused")),
        Does::Error => status(500, JSON, &body("failed")),
        Does::Redirect => status(302, "Location: http://elsewhere/\r\n", ""),
        Does::Hang => Act::Hang,
        Does::Close => Act::SayAndClose(Vec::new()),
        Does::Junk => Act::Say(b"220 smtp.example ESMTP\r\n".to_vec()),
        Does::Nobody => return None,
    })
}

fn check(first: Does, second: Does, answer: &Answer, case: &str) {
    let by = |does| if first == does { "first" } else { "second" };
    // A hang speaks last, wherever it stands; nobody speaks first.
    let decides = [first, second]
        .into_iter()
        .find(|does| matches!(does, Does::Accept | Does::Refuse));
    match decides {
        Some(Does::Accept) => {
            assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{case}");
            assert_eq!(
                answer.header("x-accepted"),
                Some("yes"),
                "{case}: the backend's own headers"
            );
        }
        Some(_) => {
            assert_eq!(answer.status, 400, "{case}");
            assert_eq!(
                answer.body,
                format!("{{\"error\":\"refused by {}\"}}\n", by(Does::Refuse)),
                "{case}"
            );
            assert_eq!(answer.header("x-influxdb-error"), Some("because"), "{case}");
            assert_eq!(
                answer.header("content-type"),
                Some("application/json"),
                "{case}"
            );
        }
        None if [first, second].contains(&Does::Error) => {
            assert_eq!(answer.status, 500, "{case}");
            assert!(
                answer.body.starts_with("{\"error\":\"failed by "),
                "{case}: {}",
                answer.body
            );
        }
        None => {
            assert_eq!(answer.status, 503, "{case}");
            assert!(answer.header("retry-after").is_some(), "{case}");
            for name in ["first ", "second "] {
                assert!(
                    answer.body.contains(name),
                    "{case}: {} names each backend",
                    answer.body
                );
            }
        }
    }
}

#[test]
fn every_pair_of_outcomes_in_every_order() {
    let cases: Vec<_> = ALL
        .iter()
        .flat_map(|&first| ALL.map(|second| (first, second)))
        .collect();
    // Eight at a time: most of a case is waiting.
    for cases in cases.chunks(8) {
        let running: Vec<_> = cases
            .iter()
            .map(|&(first, second)| std::thread::spawn(move || one_pair(first, second)))
            .collect();
        running.into_iter().for_each(|case| case.join().unwrap());
    }
}

fn one_pair(first: Does, second: Does) {
    let case = format!("{first:?} first, {second:?} second");
    let a = act(first, "first").map(|act| Backend::new(Duration::ZERO, act));
    let b = act(second, "second").map(|act| Backend::new(LATE, act));
    let address = |backend: &Option<Backend>| {
        backend
            .as_ref()
            .map_or_else(Backend::nobody, |b| b.address.clone())
    };
    let (at_a, at_b) = (address(&a), address(&b));
    let relay = Relay::start(
        &[("first", &at_a), ("second", &at_b)],
        &[("RELAY_HTTP_TIMEOUT", "600ms")],
    );
    let answer = write(&relay.http, "/write?db=x", "m v=1 1");
    check(first, second, &answer, &case);
    for backend in [&a, &b].into_iter().flatten() {
        until(&format!("{case}: each backend has the write"), || {
            !backend.seen().is_empty()
        });
        assert_eq!(backend.seen()[0].body, b"m v=1 1", "{case}");
    }
}

#[test]
fn acks_are_counted() {
    let ok = || Backend::accepting();
    let bad = || Backend::new(Duration::ZERO, status(500, JSON, "{}"));
    for (acks, accept, reject, wanted) in [
        ("2", 2, 1, 204),
        ("all", 2, 1, 500),
        ("quorum", 2, 1, 204),
        ("quorum", 1, 2, 500),
        ("1", 1, 2, 204),
    ] {
        let backends: Vec<Backend> = (0..accept)
            .map(|_| ok())
            .chain((0..reject).map(|_| bad()))
            .collect();
        let names = ["a", "b", "c"];
        let outputs: Vec<_> = names
            .iter()
            .zip(&backends)
            .map(|(name, b)| (*name, b.address.as_str()))
            .collect();
        let relay = Relay::start(&outputs, &[("RELAY_HTTP_ACKS", acks)]);
        assert_eq!(
            write(&relay.http, "/write?db=x", "m v=1 1").status,
            wanted,
            "acks {acks}, {accept} accept"
        );
    }
}

#[test]
fn a_hung_backend_costs_the_client_nothing() {
    let (hung, well) = (
        Backend::new(Duration::ZERO, Act::Hang),
        Backend::accepting(),
    );
    let relay = Relay::start(&[("hung", &hung.address), ("well", &well.address)], &[]);
    let slowest = (0..100)
        .map(|n| {
            let begun = Instant::now();
            assert_eq!(
                write(&relay.http, "/write?db=x", &format!("m v={n} {n}")).status,
                204
            );
            begun.elapsed()
        })
        .max();
    assert!(slowest.unwrap() < Duration::from_secs(1), "{slowest:?}");
}

#[test]
fn a_backend_that_hangs_holds_only_its_share_of_memory() {
    let (hung, well) = (
        Backend::new(Duration::ZERO, Act::Hang),
        Backend::accepting(),
    );
    let relay = Relay::start(
        &[("hung", &hung.address), ("well", &well.address)],
        &[
            ("RELAY_MAX_INFLIGHT", "1MiB"),
            ("RELAY_MAX_BODY_SIZE", "512KiB"),
            ("RELAY_CPUS", &first_cpu()),
        ],
    );
    let body = format!("m v=\"{}\" 1", "x".repeat(30_000));
    for _ in 0..100 {
        assert_eq!(write(&relay.http, "/write?db=x", &body).status, 204);
    }
    assert!(
        metric(
            &relay,
            "relay_backend_requests_total{backend=\"hung\",code=\"overloaded\"}"
        ) > 0
    );
    assert!(metric(&relay, "relay_inflight_bytes") < 1024 * 1024);
    assert_eq!(
        metric(
            &relay,
            "relay_backend_requests_total{backend=\"well\",code=\"204\"}"
        ),
        100
    );
}

#[test]
fn a_backend_goes_down_and_comes_back() {
    let well = Backend::accepting();
    let address = own_address();
    let relay = Relay::start(&[("away", &address), ("well", &well.address)], &[]);
    assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 204);
    let ready = |name: &str| ask(&relay.http, "GET", &format!("/ready/{name}"), "", b"").status;
    until("the dead backend is seen", || ready("away") == 503);
    assert_eq!((ready("well"), ready("nosuch")), (200, 404));
    assert_eq!(metric(&relay, "relay_backend_up{backend=\"away\"}"), 0);
    let listener = std::net::TcpListener::bind(&address).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            use std::io::{Read, Write};
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
    until("the backend is up again", || ready("away") == 200);
    assert!(metric(&relay, "relay_backend_missed_total{backend=\"away\"}") >= 1);
}

#[test]
fn odd_but_right_answers_are_understood() {
    let says = [
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nn\r\n1\r\no\r\n0\r\n\r\n",
        "HTTP/1.0 400 No\r\n\r\nno",
    ];
    for say in says {
        let act = Act::SayAndClose(say.as_bytes().to_vec());
        let odd = Backend::new(Duration::ZERO, act);
        let relay = Relay::start(&[("odd", &odd.address)], &[]);
        let answer = write(&relay.http, "/write?db=x", "m v=1 1");
        assert_eq!((answer.status, answer.body.as_str()), (400, "no"), "{say}");
    }
}

#[test]
fn a_pooled_connection_that_died_is_no_failure() {
    // The backend closes after each answer without saying so.
    let closing = Backend::new(
        Duration::ZERO,
        Act::SayAndClose(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
    );
    let relay = Relay::start(&[("closing", &closing.address)], &[]);
    let mut client = Client::new(&relay.http);
    for n in 0..200 {
        let body = format!("m v={n} {n}");
        let head = format!(
            "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.send(head.as_bytes());
        assert_eq!(
            client.answer().map(|answer| answer.status),
            Some(204),
            "write {n}"
        );
    }
}

/// The value of one row of `/metrics`; 0 where it is not there.
pub(crate) fn metric(relay: &Relay, row: &str) -> u64 {
    let page = ask(&relay.admin, "GET", "/metrics", "", b"").body;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(row)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// One CPU that this process may use.
pub(crate) fn first_cpu() -> String {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    (0..1024)
        .find(|&cpu| allowed.is_set(cpu))
        .unwrap()
        .to_string()
}
