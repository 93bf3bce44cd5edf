//! Where a backend is: one URL, taken apart. Pure.
//!
//! What comes out is later written into request heads, so nothing passes that could end a line or
//! a word there (RFC 9112 section 3.2, RFC 3986 section 3).

use crate::limits::LOCATION_BYTES_MAX;

/// A URL, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    /// `https://`
    pub tls: bool,
    /// From `user:password@`, percent-decoded; never shown.
    pub user: Option<(String, String)>,
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
    /// Host and port as in the URL, without the scheme's own port.
    pub host_header: String,
    /// From the first `/` to the query; empty if there is none.
    pub path: String,
    /// Its query, if it has one; an HTTP output ignores it, as in the Go relay.
    pub query: Option<String>,
    /// As written, without user, password and query: what may be shown.
    pub shown: String,
}

/// What to write, for a problem.
pub const WANT: &str = "a URL such as \"http://127.0.0.1:8086\" (scheme http or https, a host, a port from 1 to 65535)";

/// Takes a URL apart; `None` if it is none that a backend can have.
pub fn parse(text: &str) -> Option<Location> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain || text.len() > LOCATION_BYTES_MAX || text.contains('#') {
        return None;
    }
    let (scheme, rest) = text.split_once("://")?;
    let (tls, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return None,
    };
    let (rest, query) = rest
        .split_once('?')
        .map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host_port) = match authority.rsplit_once('@') {
        Some((user, host_port)) => (Some(user_info(user)?), host_port),
        None => (None, authority),
    };
    let (host, port) = host_and_port(host_port, default_port)?;
    let written_host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let host_header = if port == default_port {
        written_host
    } else {
        format!("{written_host}:{port}")
    };
    let shown = format!("{scheme}://{host_port}{path}");
    let (path, query) = (path.to_owned(), query.map(str::to_owned));
    Some(Location {
        tls,
        user,
        host,
        port,
        host_header,
        path,
        query,
        shown,
    })
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_and_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (
                host,
                if tail.is_empty() {
                    None
                } else {
                    Some(tail.strip_prefix(':')?)
                },
            )
        }
        None => {
            let (host, port) = text
                .split_once(':')
                .map_or((text, None), |(host, port)| (host, Some(port)));
            (is_host_name(host).then_some(host)?, port)
        }
    };
    let port = match port {
        None | Some("") => default_port, // RFC 3986 section 3.2.3: an empty port is the scheme's
        Some(digits) => port_number(digits)?,
    };
    Some((host.to_owned(), port))
}

/// A port from 1 to 65535, digits only.
pub fn port_number(digits: &str) -> Option<u16> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| is_number && *port > 0)
}

/// A name that DNS or a hosts file may hold, or an IPv4 address.
pub fn is_host_name(text: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(is_right)
}

/// `user:password`, percent-decoded; a missing password is an empty one, as in Go.
fn user_info(text: &str) -> Option<(String, String)> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Some((percent_decoded(user)?, percent_decoded(password)?))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The value of `Authorization` for a user and a password (RFC 7617).
pub fn basic(user: &str, password: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let plain = format!("{user}:{password}");
    let mut text = String::from("Basic ");
    for chunk in plain.as_bytes().chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{basic, parse};

    #[test]
    fn locations_come_apart() {
        for (text, host, port, header, path) in [
            ("http://h", "h", 80, "h", ""),
            ("http://h:8086/", "h", 8086, "h:8086", "/"),
            ("HTTP://h:80/write", "h", 80, "h", "/write"),
            (
                "http://127.0.0.1:8086/a/b",
                "127.0.0.1",
                8086,
                "127.0.0.1:8086",
                "/a/b",
            ),
            (
                "http://[::1]:8086/write",
                "::1",
                8086,
                "[::1]:8086",
                "/write",
            ),
            ("http://[fe80::1]", "fe80::1", 80, "[fe80::1]", ""),
            ("http://h:/x", "h", 80, "h", "/x"),
            ("https://h:443/x", "h", 443, "h", "/x"),
            ("https://h:80/x", "h", 80, "h:80", "/x"),
            (
                "http://my_db-1.example.:9/",
                "my_db-1.example.",
                9,
                "my_db-1.example.:9",
                "/",
            ),
            ("http://h?db=x", "h", 80, "h", ""),
            ("http://u:p%40ss@h:1/x?y=z", "h", 1, "h:1", "/x"),
        ] {
            let found = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((found.host.as_str(), found.port), (host, port), "{text}");
            assert_eq!(
                (found.host_header.as_str(), found.path.as_str()),
                (header, path),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for text in [
            "",
            "h:8086",
            "127.0.0.1",
            "ftp://h",
            "http://",
            "http:///x",
            "http://:80",
            "http://h:0",
            "http://h:65536",
            "http://h:+80",
            "http://h:8x",
            "http://[::1",
            "http://[h]:80",
            "http://::1:80",
            "http://h/a b",
            "http://h/\r\n",
            "http://h/ä",
            "http://h/#x",
            "http://a b",
            "http://u:%zz@h",
            "http://u:%e@h",
            "http://h%41",
            "http://h\\x",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
        assert!(parse(&format!("http://h/{}", "x".repeat(3000))).is_none());
    }

    #[test]
    fn users_are_decoded_and_not_shown() {
        let found = parse("http://jane:p%40s%3As@h:1/x?u=a&p=b").unwrap();
        assert_eq!(found.user, Some(("jane".into(), "p@s:s".into())));
        assert_eq!(found.shown, "http://h:1/x");
        assert!(found.query.is_some());
        assert_eq!(
            parse("http://jane@h").unwrap().user,
            Some(("jane".into(), String::new()))
        );
    }

    #[test]
    fn basic_is_that_of_the_rfc() {
        assert_eq!(
            basic("Aladdin", "open sesame"),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert_eq!(basic("test", "123\u{a3}"), "Basic dGVzdDoxMjPCow==");
        assert_eq!(basic("a", "b"), "Basic YTpi");
        assert_eq!(basic("", ""), "Basic Og==");
        assert_eq!(basic("ab", "c"), "Basic YWI6Yw==");
    }
}
