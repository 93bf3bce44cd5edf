//! The recorded HTTP cases, through the request parser and the chunk decoder, without a socket.
//!
//! Each case is the bytes of one connection, with what a server must do about them: `reject` them,
//! `accept` them with `n` answers, `wait` for more, or be `safe`: whatever it answers, never take
//! the hidden `/smuggled` request for a request. The cases lie beside the repository; where they
//! are not, this test says so and passes.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // a test fails by panicking

use std::path::Path;

use influxdb_relay::http::body::Chunked;
use influxdb_relay::http::header::HeaderSpace;
use influxdb_relay::http::request::{Framing, Method, Parsed, RequestHead};
use influxdb_relay::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX};

/// What a connection amounts to.
#[derive(Debug, Default)]
struct Seen {
    /// Requests that came whole, bodies included.
    requests: usize,
    /// Whole requests with a method that is served nowhere: the router's 405.
    unknown_methods: usize,
    /// The status of the refusal that ended it.
    refused: Option<u16>,
    /// Whether its last request is not whole.
    waits: bool,
    /// Whether a hidden request was taken for one.
    smuggled: bool,
}

fn replay(bytes: &[u8]) -> Seen {
    let (mut seen, mut at) = (Seen::default(), 0);
    while at < bytes.len() {
        let mut space = HeaderSpace::new();
        let head = match RequestHead::parse(&bytes[at..], &mut space, HEAD_BYTES_MAX) {
            Parsed::Whole(head) => head,
            Parsed::Partial => {
                seen.waits = true;
                return seen;
            }
            Parsed::Refused(refusal) => {
                seen.refused = Some(refusal.status);
                return seen;
            }
        };
        let body = &bytes[at + head.head_len..];
        match body_len(head.framing, body) {
            Ok(Some(len)) => at += head.head_len + len,
            Ok(None) => {
                seen.waits = true;
                return seen;
            }
            Err(status) => {
                seen.refused = Some(status);
                return seen;
            }
        }
        seen.requests += 1;
        seen.unknown_methods += usize::from(head.method == Method::Other);
        seen.smuggled |= head.target.starts_with(b"/smuggled");
        if !head.keep_alive {
            return seen;
        }
    }
    seen
}

/// Bytes of the body; `None` if there are not enough yet, or the status of its refusal.
fn body_len(framing: Framing, body: &[u8]) -> Result<Option<usize>, u16> {
    match framing {
        Framing::None => Ok(Some(0)),
        Framing::Length(length) => Ok(usize::try_from(length)
            .ok()
            .filter(|&length| length <= body.len())),
        Framing::Chunked => {
            let progress = Chunked::new()
                .decode(body, &mut Vec::new(), BODY_BYTES_MAX)
                .map_err(|refusal| refusal.status)?;
            Ok(progress.done.then_some(progress.taken))
        }
    }
}

/// What is wrong with what was seen, if anything is.
fn judge(must: &str, answers: Option<usize>, seen: &Seen) -> Option<&'static str> {
    match must {
        "reject" if seen.refused.is_none() && seen.unknown_methods == 0 => Some("was not refused"),
        "wait" if !seen.waits || seen.refused.is_some() => Some("did not wait"),
        "safe" if seen.smuggled => Some("smuggled"),
        "accept" => {
            // 417 is an answer to a request that is well framed.
            let answered = seen.requests + usize::from(seen.refused == Some(417));
            let is_refused = seen.refused.is_some_and(|status| status != 417);
            let is_wrong = is_refused || answers.is_some_and(|n| n != answered);
            is_wrong.then_some("was not accepted")
        }
        _ => None,
    }
}

#[test]
fn every_recorded_case_gets_what_it_must() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/http/http_cases.jsonl");
    let Ok(lines) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no recorded cases at ../shared/data/http");
        return;
    };
    let (mut judged, mut wrong) = (0, Vec::new());
    for line in lines.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        // Each character of `raw` is one byte.
        let raw = case["raw"].as_str().unwrap().chars();
        let bytes: Vec<u8> = raw
            .map(|byte| u8::try_from(u32::from(byte)).unwrap())
            .collect();
        let seen = replay(&bytes);
        let must = case["must"].as_str().unwrap();
        let answers = case["n"].as_u64().and_then(|n| usize::try_from(n).ok());
        if let Some(complaint) = judge(must, answers, &seen) {
            wrong.push(format!("{} must {must}: {complaint}: {seen:?}", case["id"]));
        }
        judged += usize::from(must != "any");
    }
    eprintln!("{judged} cases judged");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
