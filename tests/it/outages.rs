//! What operators hear of a backend that answers and takes nothing.

use crate::backend::{Backend, status};
use crate::client::{ask, until, write};
use crate::relay::Relay;
use crate::spool_site::Site;
use crate::store::{Does, Store};
use std::time::Duration;

/// The row of a backend in `/status`.
fn status_row(http: &str, backend: &str) -> serde_json::Value {
    let answer = ask(http, "GET", "/status", "", b"");
    let page: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    page["status"][backend].clone()
}

#[test]
fn an_outage_of_answers_is_told_once_with_begin_end_and_count() {
    for code in [301, 401, 403, 404, 429, 500, 503] {
        let a = Backend::accepting();
        let (mut b, words) = (Store::away(), "{\"error\":\"not now\\u0007\"}");
        b.rule(move |_| Does::Say(code, "", words));
        b.start();
        let relay = Relay::start(
            &[("a", &a.address), ("b", &b.address)],
            &[("RELAY_CPUS", &crate::answers::first_cpu())],
        );
        let send = |count: usize| {
            for n in 0..count {
                let before = b.seen().len();
                // The other one may refuse first: then the client hears that.
                write(&relay.http, "/write?db=x", &format!("m v={n} 1"));
                until("b was asked", || b.seen().len() > before);
            }
        };
        assert_eq!(
            status_row(&relay.http, "b").get("lastError"),
            None,
            "{code}"
        );
        send(12);
        until("the begin is told", || {
            relay.said().contains("takes no writes")
        });
        let row = status_row(&relay.http, "b");
        let error = row["lastError"].as_str().unwrap();
        assert!(error.contains(&code.to_string()), "{error}");
        assert!(error.contains("not now"), "{error}");
        assert!(!error.contains(char::is_control), "{error}");
        let time = row["lastErrorAt"].as_str().unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
        b.rule(|_| Does::Take);
        send(3);
        until("the end is told", || {
            relay.said().contains("takes writes again")
        });
        let said = relay.said();
        assert_eq!(said.matches("takes no writes").count(), 1, "{said}");
        assert!(said.contains("refused=12"), "{said}");
        let row = status_row(&relay.http, "b");
        assert_eq!(row.get("lastError"), None, "it is over: {row}");
        assert_eq!(row.get("lastErrorAt"), None);
    }
}

#[test]
fn bad_points_are_no_outage() {
    let refusing = Backend::new(
        Duration::ZERO,
        status(400, "", "{\"error\":\"unable to parse\"}"),
    );
    let relay = Relay::start(&[("a", &refusing.address)], &[]);
    for _ in 0..20 {
        assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 400);
    }
    assert!(
        !relay.said().contains("takes no writes"),
        "{}",
        relay.said()
    );
    assert_eq!(status_row(&relay.http, "a").get("lastError"), None);
}

#[test]
fn the_last_error_of_a_backend_that_was_down_goes_when_it_is_level() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    site.write("m v=1 1");
    until("it is down", || {
        status_row(&site.http, "b").get("lastError").is_some()
    });
    b.start();
    site.level("b");
    until("it is over", || {
        status_row(&site.http, "b").get("lastError").is_none()
    });
}

#[test]
fn a_write_that_another_output_took_is_not_gone() {
    let (a, b) = (Store::new(), Store::away());
    let relay = Relay::start(
        &[("a", &a.address), ("b", &b.address)],
        &[("RELAY_HTTP_MODE", "balance")],
    );
    for n in 0..10 {
        let answer = write(&relay.http, "/write?db=x", &format!("m,n={n} v=1 1"));
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    until("it is told", || relay.said().contains("backend is down"));
    let said = relay.said();
    assert!(said.contains("the others take its writes"), "{said}");
    assert!(!said.contains("is gone"), "{said}");
    assert_eq!(status_row(&relay.http, "b")["missed"], 0);
}

#[test]
fn what_peers_owe_and_since_when_they_are_silent_is_shown() {
    let (a, b) = (Store::new(), Store::away());
    let other = Site::new(&[("a", &a), ("b", &b)], &[]);
    let nobody = Backend::nobody();
    let peers = format!("http://{},http://{nobody}", other.http);
    let relay = Relay::start(
        &[("a", &a.address), ("b", &b.address)],
        &[("RELAY_PEERS", &peers)],
    );
    other.write("m v=1 1");
    let page = || {
        let answer = ask(&relay.admin, "GET", "/status", "", b"");
        serde_json::from_str::<serde_json::Value>(&answer.body).unwrap()
    };
    until("it is known what the peer owes", || {
        page()["status"]["b"]["peersOwe"].as_u64() == Some(7)
    });
    assert_eq!(page()["status"]["a"].get("peersOwe"), None);
    let silent = format!("http://{nobody}");
    until("its silence is shown", || {
        page()["peers"][&silent]["silentSince"].is_string()
    });
    let speaks = format!("http://{}", other.http);
    assert_eq!(page()["peers"][&speaks].get("silentSince"), None);
    assert_eq!(page()["peers"][&speaks]["silentSeconds"], 0);
    until("it is in the metrics", || {
        let row = format!("relay_peer_silent_seconds{{peer=\"{silent}\"}}");
        relay.metric("relay_peers_owed_bytes{backend=\"b\"}") == 7 && relay.metric(&row) >= 1
    });
}

#[test]
fn debug_shows_each_connection_and_each_request_and_info_does_not() {
    let a = Backend::accepting();
    for (level, times) in [("debug", 1), ("info", 0)] {
        let relay = Relay::start(&[("a", &a.address)], &[("RELAY_LOG", level)]);
        assert_eq!(
            write(&relay.http, "/write?db=secret", "m v=1 1").status,
            204
        );
        until("it is served", || relay.metric("relay_inflight_bytes") == 0);
        if times > 0 {
            until("its end is told", || {
                relay.said().contains("connection is closed")
            });
        }
        let said = relay.said();
        let count = |words: &str| said.lines().filter(|line| line.contains(words)).count();
        assert_eq!(
            count("path=\"/write\" method=\"POST\" status=204"),
            times,
            "{said}"
        );
        assert_eq!(count("connection is open") > 0, times > 0, "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}
