//! The recorded HTTP cases of other servers' tests, over real sockets.

use std::path::Path;

use serde_json::Value;

use crate::backend::Backend;
use crate::client::Client;
use crate::relay::Relay;

#[test]
fn what_must_be_rejected_is_and_never_reaches_a_backend() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/http/http_cases.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no recorded HTTP cases at {}", path.display());
        return;
    };
    let backend = Backend::accepting();
    let env = [("RELAY_HEADER_TIMEOUT", "1s"), ("RELAY_BODY_TIMEOUT", "1s")];
    let relay = Relay::start(&[("a", &backend.address)], &env);
    let mut walked = 0;
    for row in text.lines() {
        let case: Value = serde_json::from_str(row).unwrap();
        let raw: Vec<u8> = case["raw"]
            .as_str()
            .unwrap()
            .chars()
            .map(|c| u8::try_from(c).unwrap())
            .collect();
        let before = backend.seen().len();
        let answers = Client::new(&relay.http).send(&raw).finish().rest();
        let answers = String::from_utf8_lossy(&answers).into_owned();
        let statuses: Vec<u16> = answers
            .match_indices("HTTP/1.1 ")
            .filter(|(at, _)| *at == 0 || answers[..*at].ends_with('\n'))
            .filter_map(|(at, _)| answers.get(at + 9..at + 12)?.parse().ok())
            .collect();
        let reached = backend.seen().len() - before;
        let (id, must) = (&case["id"], case["must"].as_str().unwrap());
        let n = case["n"].as_u64().map(|n| usize::try_from(n).unwrap());
        match must {
            "reject" => {
                assert!(
                    statuses.first().is_some_and(|status| *status >= 400),
                    "{id}: {statuses:?}"
                );
                assert_eq!(reached, 0, "{id} reached a backend");
            }
            "accept" => {
                let answers_seen = statuses.iter().filter(|status| **status >= 200).count();
                assert!(
                    n.map_or(answers_seen > 0, |n| n == answers_seen),
                    "{id}: {answers}"
                );
            }
            "safe" => assert!(
                reached <= 1 && statuses.len() <= 2,
                "{id}: {statuses:?}, {reached} at the backend"
            ),
            _ => {}
        }
        walked += 1;
    }
    assert!(walked > 400, "{walked} cases");
}
