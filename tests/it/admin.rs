//! `/admin`: one query to every backend, all answers back, and nothing for those who may not ask.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::backend::{Act, Backend, status};
use crate::client::{Answer, ask};
use crate::relay::Relay;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

fn answering(code: u16, body: &str) -> Backend {
    Backend::new(Duration::ZERO, status(code, JSON, body))
}

fn page(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

#[test]
fn the_whole_request_goes_to_every_backend_and_all_answers_come_back() {
    let (a, b) = (
        answering(200, "{\"results\":[{\"statement_id\":0}]}\n"),
        answering(204, ""),
    );
    let relay = Relay::start(&[("a", &a.address), ("b", &b.address)], &[]);
    let headers = format!("{FORM}Authorization: Basic dTpw\r\nAccept-Encoding: gzip\r\n");
    let answer = ask(
        &relay.admin,
        "POST",
        "/admin?db=x&q=SHOW+USERS",
        &headers,
        b"q=CREATE+DATABASE+x",
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        page(&answer),
        json!({"backends": {
            "a": {"status": 200, "body": {"results": [{"statement_id": 0}]}},
            "b": {"status": 204},
        }})
    );
    for backend in [&a, &b] {
        let seen = backend.seen();
        assert_eq!(seen.len(), 1, "once");
        let head = &seen[0].head;
        assert!(
            head.starts_with("POST /query?db=x&q=SHOW+USERS HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(head.contains(FORM), "{head}");
        assert!(head.contains("Authorization: Basic dTpw\r\n"), "{head}");
        assert!(!head.contains("Accept-Encoding"), "{head}");
        assert_eq!(seen[0].body, b"q=CREATE+DATABASE+x");
    }
}

#[test]
fn whoever_missed_it_is_named_and_nobody_waits_for_ever() {
    let well = answering(200, "{}");
    let (hung, nobody) = (Backend::new(Duration::ZERO, Act::Hang), Backend::nobody());
    let ill = Backend::new(
        Duration::ZERO,
        Act::SayAndClose(b"SSH-2.0-x\r\n\r\n".to_vec()),
    );
    let relay = Relay::start(
        &[
            ("well", &well.address),
            ("hung", &hung.address),
            ("gone", &nobody),
            ("ill", &ill.address),
        ],
        &[("RELAY_HTTP_TIMEOUT", "300ms")],
    );
    let begun = Instant::now();
    let answer = ask(&relay.admin, "POST", "/admin?q=CREATE+DATABASE+x", "", b"");
    assert!(begun.elapsed() < Duration::from_secs(5), "all at once");
    let page = page(&answer);
    assert_eq!(answer.status, 502, "{page}");
    assert_eq!(page["backends"]["well"], json!({"status": 200, "body": {}}));
    for (name, why) in [
        ("hung", "does not answer in time"),
        ("gone", "cannot be reached"),
        ("ill", "not HTTP"),
    ] {
        let said = page["backends"][name]["error"].as_str().unwrap();
        assert!(said.contains(why), "{name}: {said}");
        let error = page["error"].as_str().unwrap();
        assert!(error.contains(&format!("{name} ")), "{error}");
    }
    assert!(!page["error"].as_str().unwrap().contains("well"));
}

#[test]
fn a_refusal_is_the_status_and_errors_are_502() {
    for (second, want) in [(400, 400), (401, 401), (500, 502), (302, 502), (200, 200)] {
        let (a, b) = (
            answering(200, "{}"),
            answering(second, "{\"error\":\"no\"}"),
        );
        let relay = Relay::start(&[("a", &a.address), ("b", &b.address)], &[]);
        let answer = ask(&relay.admin, "POST", "/admin?q=x", "", b"");
        assert_eq!(answer.status, want, "{second}: {answer:?}");
        let said = &page(&answer)["backends"]["b"];
        assert_eq!(said["status"], second);
        assert_eq!(said["body"]["error"], "no");
    }
}

#[test]
fn only_who_may_change_something_may_ask_and_the_token_stays_here() {
    let a = answering(200, "{}");
    let outputs = [("a", a.address.as_str())];
    let open = Relay::start(&outputs, &[]);
    let post =
        |address: &str, headers: &str| ask(address, "POST", "/admin?q=x", headers, b"").status;
    assert_eq!(post(&open.http, ""), 403, "a client");
    assert_eq!(post(&open.admin, "Origin: http://e\r\n"), 403, "a web page");
    let relay = Relay::start(&outputs, &[("RELAY_ADMIN_TOKEN", "s3cret")]);
    for address in [&relay.http, &relay.admin] {
        assert_eq!(post(address, ""), 401);
        assert_eq!(post(address, "Authorization: Bearer other\r\n"), 401);
        for (method, want) in [("GET", 405), ("DELETE", 405), ("OPTIONS", 204)] {
            let answer = ask(address, method, "/admin?q=x", "", b"");
            assert_eq!(
                (answer.status, answer.header("allow")),
                (want, Some("POST"))
            );
        }
    }
    assert!(a.seen().is_empty(), "nothing of it went on");
    for scheme in ["Bearer s3cret", "Token s3cret", "Basic OnMzY3JldA=="] {
        for address in [&relay.http, &relay.admin] {
            let headers = format!("Authorization: {scheme}\r\nOrigin: http://e\r\n");
            assert_eq!(post(address, &headers), 200);
        }
    }
    let seen = a.seen();
    assert_eq!(seen.len(), 6);
    for seen in seen {
        assert!(
            !seen.head.to_lowercase().contains("authorization"),
            "{}",
            seen.head
        );
        assert!(!seen.head.contains("Origin"), "{}", seen.head);
    }
    let row = "relay_http_requests_total{path=\"/admin\",method=\"POST\",code=\"200\"}";
    assert_eq!(relay.metric(row), 6);
}

#[test]
fn a_compressed_form_is_inflated_and_bodies_are_bounded() {
    let a = answering(200, "{}");
    let relay = Relay::start(&[("a", &a.address)], &[("RELAY_MAX_BODY_SIZE", "100KiB")]);
    let gzip = |plain: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let post =
        |headers: &str, body: &[u8]| ask(&relay.admin, "POST", "/admin", headers, body).status;
    let coded = format!("{FORM}Content-Encoding: gzip\r\n");
    assert_eq!(post(&coded, &gzip(b"q=DROP+DATABASE+x")), 200);
    assert_eq!(post(&coded, b"q=DROP"), 400);
    assert_eq!(post(&coded, &gzip(&vec![b'x'; 200_000])), 413);
    assert_eq!(post("", &vec![b'x'; 200_000]), 413);
    assert_eq!(post("Content-Encoding: br\r\n", b"q"), 415);
    let seen = a.seen();
    assert_eq!(seen.len(), 1, "nothing else went on");
    assert_eq!(seen[0].body, b"q=DROP+DATABASE+x");
    assert!(!seen[0].head.contains("Content-Encoding"));
}

#[test]
fn a_long_answer_is_cut_and_says_so() {
    let long = answering(200, &format!("\"{}\"", "x".repeat(1_000_000)));
    let relay = Relay::start(&[("a", &long.address)], &[]);
    let answer = ask(&relay.admin, "POST", "/admin?q=x", "", b"");
    let said = &page(&answer)["backends"]["a"];
    assert_eq!(said["cut"], true);
    assert_eq!(said["body"].as_str().unwrap().len(), 256 * 1024);
}

#[test]
fn a_backend_of_two_listeners_is_asked_once_at_the_admin_address() {
    let (a, b) = (answering(200, "{}"), answering(200, "{}"));
    let text = format!(
        "[admin]\nbind-addr = \"127.0.0.1:0\"\n\
         [[http]]\nbind-addr = \"127.0.0.1:0\"\noutput = [{{ name = \"a\", location = \"http://{0}\" }}]\n\
         [[http]]\nname = \"two\"\nbind-addr = \"127.0.0.1:0\"\noutput = [{{ name = \"a\", location = \"http://{0}\" }}, \
         {{ name = \"b\", location = \"http://{1}\" }}, {{ name = \"p\", type = \"prometheus\", location = \"http://{1}\" }}]\n",
        a.address, b.address
    );
    let relay = Relay::of_text(&text);
    let answer = ask(&relay.admin, "POST", "/admin?q=x", "", b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((a.seen().len(), b.seen().len()), (1, 1));
}
