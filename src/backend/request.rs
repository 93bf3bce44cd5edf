//! The bytes of one request to one backend: framed anew, never as the client framed it. Pure.

use crate::backend::outgoing::Request;
use crate::http::response::push_decimal;
use crate::plan::BackendPlan;

/// How a body is coded, beside what the client's headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it came.
    AsItIs,
    /// Compressed here.
    Gzip,
}

/// Appends the head of a write: the client's query and headers, the backend's path, host and
/// credentials, and one `Content-Length`.
pub fn push_head(
    out: &mut Vec<u8>,
    backend: &BackendPlan,
    request: &Request,
    body_bytes: usize,
    coding: Coding,
) {
    let path = request.kind.path(&backend.endpoints);
    push_start(out, "POST", path.as_bytes(), backend, request);
    out.extend_from_slice(&request.headers);
    push_length(out, body_bytes, coding);
}

/// Appends the head of a joined write: of the client's headers only the credentials, which are the
/// same for all that were joined.
pub fn push_joined_head(
    out: &mut Vec<u8>,
    backend: &BackendPlan,
    request: &Request,
    body_bytes: usize,
    coding: Coding,
) {
    let path = request.kind.path(&backend.endpoints);
    push_start(out, "POST", path.as_bytes(), backend, request);
    push_length(out, body_bytes, coding);
}

/// Whether two writes may go as one request: the same target and the same credentials.
pub fn same_target(one: &Request, other: &Request) -> bool {
    one.kind == other.kind && one.query == other.query && one.authorization == other.authorization
}

/// Appends a probe.
pub fn push_probe(out: &mut Vec<u8>, backend: &BackendPlan) {
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(backend.endpoints.ping.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(backend.host_header.as_bytes());
    out.extend_from_slice(b"\r\nUser-Agent: influxdb-relay\r\nConnection: close\r\n\r\n");
}

/// Appends the first line, the host and the credentials.
pub(super) fn push_start(
    out: &mut Vec<u8>,
    method: &str,
    path: &[u8],
    backend: &BackendPlan,
    request: &Request,
) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(path);
    if !request.query.is_empty() {
        out.push(b'?');
        out.extend_from_slice(&request.query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(backend.host_header.as_bytes());
    out.extend_from_slice(b"\r\n");
    let authorization = match &backend.authorization {
        Some(own) => own.0.as_bytes(),
        None => &request.authorization,
    };
    if !authorization.is_empty() {
        out.extend_from_slice(b"Authorization: ");
        out.extend_from_slice(authorization);
        out.extend_from_slice(b"\r\n");
    }
}

fn push_length(out: &mut Vec<u8>, body_bytes: usize, coding: Coding) {
    if coding == Coding::Gzip {
        out.extend_from_slice(b"Content-Encoding: gzip\r\n");
    }
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(body_bytes as u64, out);
    out.extend_from_slice(b"\r\n\r\n");
}
