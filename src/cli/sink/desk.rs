//! What the stand-in backend says to each request, and what it keeps of it.
//!
//! Runs once per request and per batch of datagrams, and allocates nothing then, but for `/stats`, for
//! compressed bodies and for bodies that are larger than any before.

use std::fs::File;
use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;

use super::count::{Counts, points};
use super::request::{Request, Route};
use crate::cli::datagrams::Mailbox;
use crate::limits::tools::{SINK_BODY_BYTES_MAX, SINK_DATAGRAMS_BEFORE_STATS, TOOL_DATAGRAMS};

/// Counts requests and datagrams, records bodies and writes answers.
pub(super) struct Desk {
    /// What has been seen.
    pub(super) counts: Counts,
    status: u16,
    delayed: bool,
    record: Option<File>,
    failure: Option<io::Error>,
    plain: Vec<u8>,
    mailbox: Option<Mailbox>,
    /// A batch of datagrams on its way to the record.
    gathered: Vec<u8>,
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The answer may go.
    Send,
    /// The answer must wait for the delay.
    Hold,
}

impl Desk {
    /// Writes are answered `status`, after the delay where there is one, and appended to `record`, as
    /// are the datagrams that come to `mailbox`.
    pub(super) fn new(
        status: u16,
        delayed: bool,
        record: Option<File>,
        mailbox: Option<Mailbox>,
    ) -> Self {
        Self {
            counts: Counts::default(),
            status,
            delayed,
            record,
            failure: None,
            plain: Vec::new(),
            mailbox,
            gathered: Vec::new(),
        }
    }

    /// Where datagrams come in, to register it.
    pub(super) fn mailbox(&self) -> Option<&Mailbox> {
        self.mailbox.as_ref()
    }

    /// Takes the datagrams that wait, or about as many as `most`.
    pub(super) fn datagrams(&mut self, most: usize) {
        let Some(mailbox) = &mut self.mailbox else {
            return;
        };
        for _ in 0..most.div_ceil(TOOL_DATAGRAMS) {
            let count = mailbox.take();
            for index in 0..count {
                let body = mailbox.datagram(index);
                self.counts.datagram(body);
                if self.record.is_some() {
                    self.gathered.extend_from_slice(body);
                    if !body.ends_with(b"\n") {
                        self.gathered.push(b'\n');
                    }
                }
            }
            if let Some(file) = &mut self.record {
                if let Err(error) = file.write_all(&self.gathered) {
                    self.failure.get_or_insert(error);
                }
                self.gathered.clear();
            }
            if count < TOOL_DATAGRAMS {
                return;
            }
        }
    }

    /// Why the record can no longer be written, once.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Takes one request with its body and appends the answer to `output`.
    pub(super) fn answer(&mut self, request: &Request, body: &[u8], output: &mut Vec<u8>) -> Then {
        let (keep, with_body) = (request.keep, !request.head_only);
        if request.route.is_write() {
            let status = self.write(request, body);
            say(output, status, keep, with_body, refusal(status));
            return if self.delayed { Then::Hold } else { Then::Send };
        }
        self.counts.request(request.route, 0, body.len());
        match request.route {
            Route::Ping => say(output, 204, keep, with_body, ""),
            Route::Health => say(
                output,
                200,
                keep,
                with_body,
                r#"{"name":"sink","status":"pass"}"#,
            ),
            Route::Query => say(
                output,
                200,
                keep,
                with_body,
                r#"{"results":[{"statement_id":0}]}"#,
            ),
            Route::Stats => {
                // What has come is counted before it is told, so that the sum with the drops is exact.
                self.datagrams(SINK_DATAGRAMS_BEFORE_STATS);
                let drops = self.mailbox.as_ref().and_then(Mailbox::kernel_drops);
                say(output, 200, keep, with_body, &self.counts.to_json(drops));
            }
            _ => say(output, 404, keep, with_body, refusal(404)),
        }
        Then::Send
    }

    /// Appends the answer to what was no request; the connection is closed after it.
    pub(super) fn refuse(&mut self, status: u16, output: &mut Vec<u8>) {
        self.counts.refused();
        say(output, status, false, true, refusal(status));
    }

    fn write(&mut self, request: &Request, body: &[u8]) -> u16 {
        let bytes = body.len();
        let mut body = body;
        if request.gzip {
            if !gunzip(body, &mut self.plain) {
                self.counts.refused();
                return 400;
            }
            body = &self.plain;
        }
        let points = if request.route.is_lines() {
            points(body)
        } else {
            0
        };
        self.counts.request(request.route, points, bytes);
        if let Some(file) = &mut self.record {
            let newline: &[u8] = if body.ends_with(b"\n") { b"" } else { b"\n" };
            let written = file.write_all(body).and_then(|()| file.write_all(newline));
            if let Err(error) = written {
                self.failure.get_or_insert(error);
                return 500;
            }
        }
        self.status
    }
}

/// Appends one answer.
fn say(output: &mut Vec<u8>, status: u16, keep: bool, with_body: bool, body: &str) {
    let close = if keep { "" } else { "Connection: close\r\n" };
    let written = match status {
        // The answer of almost every write, kept from the formatting machinery.
        204 if keep => {
            output.write_all(b"HTTP/1.1 204 No Content\r\nX-Influxdb-Version: sink\r\n\r\n")
        }
        204 | 304 => write!(
            output,
            "HTTP/1.1 {status} -\r\nX-Influxdb-Version: sink\r\n{close}\r\n"
        ),
        _ => write!(
            output,
            "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nX-Influxdb-Version: sink\r\n\
             Content-Length: {}\r\n{close}\r\n{}",
            body.len(),
            if with_body { body } else { "" }
        ),
    };
    written.expect("a Vec takes every write");
}

/// The body of an answer that is not well, as InfluxDB words one.
fn refusal(status: u16) -> &'static str {
    match status {
        200..=299 => "{}",
        400 => r#"{"error":"sink: the request is malformed"}"#,
        404 => r#"{"error":"sink: not found"}"#,
        405 => r#"{"error":"sink: a write is a POST"}"#,
        413 => r#"{"error":"sink: the body is too large"}"#,
        431 => r#"{"error":"sink: the head is too large"}"#,
        _ => r#"{"error":"sink: answered as --status says"}"#,
    }
}

/// Replaces `plain` by what the gzip `body` holds.
fn gunzip(body: &[u8], plain: &mut Vec<u8>) -> bool {
    plain.clear();
    let bound = SINK_BODY_BYTES_MAX as u64 + 1;
    let read = MultiGzDecoder::new(body).take(bound).read_to_end(plain);
    read.is_ok() && plain.len() <= SINK_BODY_BYTES_MAX
}
