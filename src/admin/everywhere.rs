//! `/admin`: one query to every backend, and what each of them made of it.
//!
//! The veepee fork posts it to the `query` endpoint of every output and tells the client of the first
//! success. Whoever creates a database on two machines wants to know of both: so all answers are awaited,
//! each as long as its backend's `timeout`, and each is shown. What a backend misses is not owed to it; the
//! answer says so, and the same can be asked again. (`/query` is what owes.)
//!
//! ```text
//!  200  {"backends":{"a":{"status":200,"body":{"results":[…]}},"b":{"status":200,"body":…}}}
//!  502  {"error":"b cannot be reached","backends":{"a":{"status":200,"body":…},"b":{"error":"cannot be reached: …"}}}
//! ```

use std::collections::BTreeMap;
use std::rc::Rc;

use futures_lite::future::poll_fn;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::admin::called;
use crate::backend::answer::{AnswerReader, Fed, Reply};
use crate::backend::flight::Ticket;
use crate::backend::outgoing::Kind;
use crate::backend::outgoing::Request;
use crate::backend::pool::Backend;
use crate::clock::Moment;
use crate::engine::stream::Stream;
use crate::http::request::Refusal;
use crate::http::response::{Closing, write_answer, write_error};
use crate::limits::beside::ADMIN_ANSWER_BYTES_MAX;
use crate::payload::gzip::Inflate;
use crate::plan::BackendId;
use crate::shard::Shard;

/// What one backend made of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
    /// The body was longer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A body: as it came where it is JSON, else as a text.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Body {
    Json(Box<RawValue>),
    Text(String),
}

#[derive(Debug, Serialize)]
struct Page {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    backends: BTreeMap<String, Said>,
}

/// Asks every one of `outputs` that speaks `InfluxQL`, all at once, and appends the answer to `out`; its
/// status. What is sent is taken out of the flight.
pub async fn ask(
    shard: &Rc<Shard>,
    outputs: &[BackendId],
    ticket: &Ticket,
    opts: Closing,
    out: &mut Vec<u8>,
) -> u16 {
    // Taken out of the flight, which nobody may hold while it waits; it counts in the budget all the same.
    let mut request = std::mem::take(&mut *ticket.request_mut());
    let backends = places(shard, outputs);
    if backends.is_empty() {
        write_error(out, 404, "no output answers such queries", b"", opts);
        return 404;
    }
    if let Err(refusal) = make_plain(shard, &mut request) {
        write_error(out, refusal.status, refusal.reason, b"", opts);
        return refusal.status;
    }
    let request = Rc::new(request);
    let asked: Vec<_> = backends
        .into_iter()
        .map(|backend| {
            let (shard, request) = (Rc::clone(shard), Rc::clone(&request));
            let label = called(&shard.world, outputs, backend.id);
            let said = async move { one(&shard, &backend, &request).await };
            (label, glommio::spawn_local(said))
        })
        .collect();
    let mut said = Vec::new();
    for (label, task) in asked {
        said.push((label, task.await));
    }
    let (status, page) = words(said);
    let headers = b"Content-Type: application/json\r\n";
    write_answer(out, status, headers, page.as_bytes(), opts);
    status
}

/// The backends that are asked: where two listeners have the same one, it is asked once.
fn places(shard: &Shard, outputs: &[BackendId]) -> Vec<Rc<Backend>> {
    let mut found: Vec<Rc<Backend>> = Vec::new();
    for id in outputs {
        let backend = &shard.backends[id.0];
        let place = |backend: &Rc<Backend>| {
            let plan = &backend.plan;
            (plan.host.clone(), plan.port, plan.endpoints.query.clone())
        };
        let speaks = Kind::taken_by(backend.plan.kind) & Kind::Statement.bit() != 0;
        if speaks && !found.iter().any(|other| place(other) == place(backend)) {
            found.push(Rc::clone(backend));
        }
    }
    found
}

/// Inflates a form that came compressed, which `influxd` does not, and leaves out what was between the
/// client and this relay only: how its answer may be packed.
fn make_plain(shard: &Shard, request: &mut Request) -> Result<(), Refusal> {
    let (headers, gzips) = kept(&request.headers)?;
    request.headers = headers;
    if gzips == 0 || request.body.is_empty() {
        return Ok(());
    }
    let bytes_max = shard.world.plan.limits.body_bytes_max;
    let inflater = &mut *shard.inflater.borrow_mut();
    inflater
        .inflate(&request.body, &mut request.spare, bytes_max)
        .map_err(|why| match why {
            Inflate::TooLarge => Refusal::TOO_LARGE,
            Inflate::Bad(_) => Refusal::bad_request("unable to decode gzip body"),
        })?;
    std::mem::swap(&mut request.body, &mut request.spare);
    Ok(())
}

/// The header lines that go on, and whether the body is compressed.
fn kept(lines: &[u8]) -> Result<(Vec<u8>, usize), Refusal> {
    let (mut headers, mut gzips) = (Vec::with_capacity(lines.len()), 0);
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"accept-encoding") || name.eq_ignore_ascii_case(b"origin") {
            continue;
        }
        if !name.eq_ignore_ascii_case(b"content-encoding") {
            headers.extend_from_slice(line);
        } else if value.eq_ignore_ascii_case(b"gzip") || value.eq_ignore_ascii_case(b"x-gzip") {
            gzips += 1;
        } else if !value.is_empty() && !value.eq_ignore_ascii_case(b"identity") {
            return Err(UNKNOWN_ENCODING);
        }
    }
    if gzips > 1 {
        return Err(UNKNOWN_ENCODING);
    }
    Ok((headers, gzips))
}

/// Asks one backend, on a connection of its own.
async fn one(shard: &Shard, backend: &Rc<Backend>, request: &Request) -> Said {
    let due = shard.driver.now().after(backend.plan.timeout);
    let error = |why: String| Said {
        status: None,
        body: None,
        cut: false,
        error: Some(why),
    };
    let stream = match backend.new_connection(due).await {
        Ok(stream) => stream,
        Err(why) => return error(format!("cannot be reached: {why}")),
    };
    match exchange(&stream, backend, request, due).await {
        Ok((reply, cut)) => Said {
            status: Some(reply.status),
            body: body(&reply.body, cut),
            cut,
            error: None,
        },
        Err(why) => error(why),
    }
}

/// Sends the query and reads the answer, up to a bound; whether it was cut there.
async fn exchange(
    stream: &Stream,
    backend: &Backend,
    request: &Request,
    due: Moment,
) -> Result<(Reply, bool), String> {
    stream.set_deadline(due);
    let mut head = Vec::new();
    let path = backend.plan.endpoints.query.as_bytes();
    backend.push_question(&mut head, "POST", path, request);
    // A backend may answer before it has read everything: what there is to read decides.
    if stream.send_all(&head).await.is_ok() {
        let _what_it_says_decides = stream.send_all(&request.body).await;
    }
    let (mut reader, mut reply) = (AnswerReader::streaming(), Reply::default());
    loop {
        let read = poll_fn(|cx| {
            stream.poll_read_with(cx, |bytes| match bytes {
                [] => (reader.end(), true),
                bytes => (reader.feed(bytes, &mut reply), false),
            })
        });
        match read.await {
            Ok((Fed::Nonsense, true)) => {
                return Err("closes the connection without a whole answer".to_owned());
            }
            Ok((Fed::Nonsense, false)) => {
                return Err("answers with something that is not HTTP".to_owned());
            }
            Ok(_) if reply.body.len() > ADMIN_ANSWER_BYTES_MAX => {
                reply.body.truncate(ADMIN_ANSWER_BYTES_MAX);
                return Ok((reply, true));
            }
            Ok((Fed::Whole { .. }, _)) => return Ok((reply, false)),
            Ok((Fed::More, _)) => {}
            Err(why) if why.kind() == std::io::ErrorKind::TimedOut => {
                return Err("does not answer in time".to_owned());
            }
            Err(why) => return Err(format!("breaks off: {why}")),
        }
    }
}

fn body(bytes: &[u8], cut: bool) -> Option<Body> {
    if bytes.is_empty() {
        return None;
    }
    if !cut && let Ok(json) = serde_json::from_slice::<Box<RawValue>>(bytes) {
        return Some(Body::Json(json));
    }
    Some(Body::Text(String::from_utf8_lossy(bytes).into_owned()))
}

/// 200 if all of them accepted it; else the first refusal (4xx), since it may be the same everywhere; else
/// 502. With it comes the page.
fn words(said: Vec<(String, Said)>) -> (u16, String) {
    let accepts = |said: &Said| {
        said.status
            .is_some_and(|status| (200..300).contains(&status))
    };
    let mut why = Vec::new();
    let mut status = None;
    for (label, said) in said.iter().filter(|(_, said)| !accepts(said)) {
        why.push(match (&said.status, &said.error) {
            (Some(status), _) => format!("{label} answers {status}"),
            (None, Some(error)) => format!("{label} {error}"),
            (None, None) => format!("{label} says nothing"),
        });
        let refused = said.status.filter(|status| (400..500).contains(status));
        status = status.or(refused);
    }
    let status = match why.is_empty() {
        true => 200,
        false => status.unwrap_or(502),
    };
    let page = Page {
        error: (!why.is_empty()).then(|| why.join("; ")),
        backends: said.into_iter().collect(),
    };
    let text = serde_json::to_string(&page).unwrap_or_default();
    (status, text + "\n")
}

const UNKNOWN_ENCODING: Refusal = Refusal {
    status: 415,
    reason: "unsupported content encoding: use gzip or none",
};

#[cfg(test)]
mod tests {
    use super::{Said, body, kept, words};

    fn said(status: Option<u16>, text: &str) -> Said {
        Said {
            status,
            body: status.and_then(|_| body(text.as_bytes(), false)),
            cut: false,
            error: status.is_none().then(|| text.to_owned()),
        }
    }

    #[test]
    fn every_backend_is_told_of_and_the_worst_decides() {
        let ok = || ("a".to_owned(), said(Some(200), "{\"results\":[]}\n"));
        let b = |status, text| ("b".to_owned(), said(status, text));
        for (all, status, page) in [
            (
                vec![ok(), b(Some(204), "")],
                200,
                "{\"backends\":{\"a\":{\"status\":200,\"body\":{\"results\":[]}},\"b\":{\"status\":204}}}\n",
            ),
            (
                vec![ok(), b(None, "does not answer in time")],
                502,
                "{\"error\":\"b does not answer in time\",\"backends\":{\"a\":{\"status\":200,\"body\":{\"results\":[]}},\"b\":{\"error\":\"does not answer in time\"}}}\n",
            ),
            (
                vec![b(Some(401), "no <entry>")],
                401,
                "{\"error\":\"b answers 401\",\"backends\":{\"b\":{\"status\":401,\"body\":\"no <entry>\"}}}\n",
            ),
        ] {
            assert_eq!(words(all), (status, page.to_owned()));
        }
        for (one, other, want) in [(500, 400, 400), (500, 302, 502), (503, 500, 502)] {
            let c = ("c".to_owned(), said(Some(one), ""));
            assert_eq!(words(vec![ok(), c, b(Some(other), "")]).0, want);
        }
    }

    #[test]
    fn only_what_is_for_the_backends_goes_on() {
        let lines = b"Content-Type: a/b\r\nAccept-Encoding: gzip\r\nContent-encoding: GZIP\r\nX-A: b:c\r\nOrigin: x\r\n";
        let want = b"Content-Type: a/b\r\nX-A: b:c\r\n".to_vec();
        assert_eq!(kept(lines), Ok((want, 1)));
        assert_eq!(kept(b"Content-Encoding: identity\r\n"), Ok((Vec::new(), 0)));
        for odd in ["br", "gzip, gzip", "gzip\r\nContent-Encoding: gzip"] {
            let line = format!("Content-Encoding: {odd}\r\n");
            assert_eq!(kept(line.as_bytes()).unwrap_err().status, 415, "{odd}");
        }
    }

    #[test]
    fn a_body_is_shown_as_it_came() {
        let shown = |bytes: &[u8], cut| serde_json::to_string(&body(bytes, cut)).unwrap();
        for (bytes, cut, want) in [
            (&b"{\"a\":1.10}"[..], false, "{\"a\":1.10}"),
            (
                b"{\"a\":1}{\"a\":2}",
                false,
                "\"{\\\"a\\\":1}{\\\"a\\\":2}\"",
            ),
            (b"{\"a\":", false, "\"{\\\"a\\\":\""),
            (b"12", true, "\"12\""),
            (b"\xff\n", false, "\"\u{fffd}\\n\""),
            (b"", false, "null"),
        ] {
            assert_eq!(shown(bytes, cut), want);
        }
    }
}
