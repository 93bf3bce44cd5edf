//! The bytes of one request to one backend: framed anew, never as the client framed it. Pure.

use crate::backend::outgoing::Request;
use crate::http::response::push_decimal;
use crate::http::target::may_name;
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

/// Whether two writes may go as one request: the backend could not tell them apart by anything but their bodies. The
/// target, the credentials and each header that is passed on (a tenant may stand there) are equal.
pub fn same_target(one: &Request, other: &Request) -> bool {
    one.kind == other.kind
        && one.query == other.query
        && one.authorization == other.authorization
        && one.headers == other.headers
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
    match &backend.authorization {
        Some(_) => push_query_of_nobody(out, &request.query),
        None if request.query.is_empty() => {}
        None => {
            out.push(b'?');
            out.extend_from_slice(&request.query);
        }
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

/// Appends a query without the client's `u` and `p`, which would go before the backend's own credentials;
/// also where only some servers see them.
fn push_query_of_nobody(out: &mut Vec<u8>, query: &[u8]) {
    let names_client = |piece: &&[u8]| may_name(piece, "u") || may_name(piece, "p");
    let pieces = query.split(|&byte| byte == b'&');
    for (n, piece) in pieces
        .filter(|piece| !piece.is_empty() && !names_client(piece))
        .enumerate()
    {
        out.push(if n == 0 { b'?' } else { b'&' });
        out.extend_from_slice(piece);
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

#[cfg(test)]
mod tests {
    use super::push_query_of_nobody;

    #[test]
    fn the_clients_name_and_password_go_to_nobody_else() {
        for (query, want) in [
            ("", ""),
            ("db=a&rp=b", "?db=a&rp=b"),
            ("u=x&db=a&p=y", "?db=a"),
            ("%75=x&p", ""),
            ("db=a&&uu=1&pp=2&U=3", "?db=a&uu=1&pp=2&U=3"),
            ("db=a;u=x&q=1&z;%70=y", "?q=1"),
        ] {
            let mut out = Vec::new();
            push_query_of_nobody(&mut out, query.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), want, "{query}");
        }
    }
}
