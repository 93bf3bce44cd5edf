//! Header fields of one head: which of them frame a message, and which go on to the next. Pure.
//!
//! Two tables decide here: [`Field::of`] knows the fields that a relay must understand, and
//! [`Headers::pass_on`] copies all the others as they came. A field of the connection that slips
//! through could change where the next reader sees the end of a body.

use std::fmt;
use std::mem::MaybeUninit;

use httparse::Header;

use crate::limits::{CONNECTION_NAMES_MAX, HEADERS_MAX};

/// Room for the fields of one head, so that reading them allocates nothing.
///
/// It borrows from the bytes of the head; making one costs nothing, as it is not filled in.
pub struct HeaderSpace<'b>(pub(super) [MaybeUninit<Header<'b>>; HEADERS_MAX]);

impl HeaderSpace<'_> {
    /// Empty room. Once per head.
    pub const fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; HEADERS_MAX])
    }
}

impl Default for HeaderSpace<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a field's name means to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    ContentEncoding,
    Authorization,
    /// Of this connection only (RFC 9110 section 7.6.1, RFC 9112 appendix C.2.2).
    HopByHop,
    /// Everything else: from end to end.
    EndToEnd,
}

impl Field {
    /// By length first: most names differ there. Once per field.
    pub(super) fn of(name: &str) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            2 if is("te") => Self::HopByHop,
            4 if is("host") => Self::Host,
            6 if is("expect") => Self::Expect,
            7 if is("trailer") || is("upgrade") => Self::HopByHop,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::HopByHop,
            13 if is("authorization") => Self::Authorization,
            14 if is("content-length") => Self::ContentLength,
            16 if is("content-encoding") => Self::ContentEncoding,
            16 if is("proxy-connection") => Self::HopByHop,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            18 if is("proxy-authenticate") => Self::HopByHop,
            19 if is("proxy-authorization") => Self::HopByHop,
            25 if is("proxy-authentication-info") => Self::HopByHop,
            _ => Self::EndToEnd,
        }
    }
}

/// The fields of one head, in the order they came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Headers<'b, 'h> {
    pub(super) fields: &'h [Header<'b>],
    /// Whether `Connection` names fields, so that most heads need not be searched for them.
    pub(super) names_fields: bool,
}

impl<'b> Headers<'b, '_> {
    /// The first value of this name, without the blanks around it.
    pub(super) fn first(&self, name: &str) -> Option<&'b [u8]> {
        let field = self
            .fields
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(field.value)
    }

    /// Appends `Name: value\r\n` for each field that is of more than this connection and is not
    /// `left_out`. Once per request.
    pub(super) fn pass_on(&self, left_out: impl Fn(Field) -> bool, out: &mut Vec<u8>) {
        for Header { name, value } in self.fields {
            let field = Field::of(name);
            if left_out(field) || (self.names_fields && self.is_named(name)) {
                continue;
            }
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Whether `Connection` names this field (RFC 9110 section 7.6.1: then it ends here).
    ///
    /// Without its credentials or its kind of content a write is another write, so these stay,
    /// named or not.
    fn is_named(&self, name: &str) -> bool {
        if ESSENTIAL
            .iter()
            .any(|essential| name.eq_ignore_ascii_case(essential))
        {
            return false;
        }
        let connections = self
            .fields
            .iter()
            .filter(|f| Field::of(f.name) == Field::Connection);
        connections
            .flat_map(|connection| tokens(connection.value))
            .any(|token| token.eq_ignore_ascii_case(name.as_bytes()))
    }
}

impl fmt::Debug for Headers<'_, '_> {
    /// Names only: values may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.fields.iter().map(|field| field.name))
            .finish()
    }
}

/// What all `Connection` fields of one head amount to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Connection {
    close: bool,
    keep_alive: bool,
    names: usize,
}

impl Connection {
    /// One more field of that name.
    pub(super) fn hear(&mut self, value: &[u8]) -> Result<(), &'static str> {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if !token.is_empty() {
                self.names += 1;
            }
        }
        if self.names > CONNECTION_NAMES_MAX {
            return Err("Connection names too many fields");
        }
        Ok(())
    }

    /// Whether another message may follow (RFC 9112 section 9.3): `close` always wins.
    pub(super) fn persists(self, http10: bool) -> bool {
        !self.close && (self.keep_alive || !http10)
    }

    /// Whether it names fields, beside what it says of itself.
    pub(super) fn names_fields(self) -> bool {
        self.names > 0
    }
}

/// A `Content-Length`: digits only, so no sign, no list, no blank; leading zeros are harmless.
pub(super) fn content_length(value: &[u8]) -> Result<u64, &'static str> {
    const ILL: &str = "malformed Content-Length";
    if value.is_empty() {
        return Err(ILL);
    }
    value.iter().try_fold(0_u64, |length, &byte| {
        let digit = if byte.is_ascii_digit() {
            u64::from(byte - b'0')
        } else {
            return Err(ILL);
        };
        length
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(digit))
            .ok_or(ILL)
    })
}

/// Whether a `Transfer-Encoding` is the only one that is understood: exactly one `chunked`.
pub(super) fn is_chunked(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"chunked")
}

/// The members of a comma list, blanks trimmed; empty ones too.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// A `tchar` (RFC 9110 section 5.6.2): what methods and field names are made of.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// What a field's value may hold (RFC 9110 section 5.5): no control character but the tab.
pub(super) const fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Fields without which a write would mean something else.
const ESSENTIAL: [&str; 4] = [
    "authorization",
    "content-type",
    "content-encoding",
    "x-prometheus-remote-write-version",
];

/// The value of the first of these header lines with this name, in any case, without the blanks around it.
pub fn line_value<'l>(lines: &'l [u8], name: &str) -> Option<&'l [u8]> {
    let mut lines = lines.split(|&byte| byte == b'\n');
    lines.find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let is_it = line[..colon].eq_ignore_ascii_case(name.as_bytes());
        is_it.then(|| line[colon + 1..].trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use httparse::Header;

    use super::{Connection, Field, Headers, content_length, is_token_byte};

    #[test]
    fn a_length_is_digits_and_fits() {
        for (value, length) in [("0", 0), ("003", 3), ("18446744073709551615", u64::MAX)] {
            assert_eq!(content_length(value.as_bytes()), Ok(length));
        }
        assert_eq!(content_length(&[b'0'; 99]), Ok(0));
        for ill in [
            "",
            "+6",
            "-6",
            "6 ",
            "6,6",
            "0x6",
            "6_0",
            "18446744073709551616",
            "٣",
        ] {
            assert!(content_length(ill.as_bytes()).is_err(), "{ill}");
        }
    }

    #[test]
    fn close_wins_and_the_version_decides_where_nothing_is_said() {
        for (value, http10, persists) in [
            ("", false, true),
            ("", true, false),
            ("Keep-Alive", true, true),
            ("keep-alive, CLOSE", false, false),
            ("close, keep-alive", true, false),
            ("upgrade,\tkeep-alive ", true, true),
        ] {
            let mut connection = Connection::default();
            connection.hear(value.as_bytes()).unwrap();
            assert_eq!(connection.persists(http10), persists, "{value}");
        }
        assert!(
            Connection::default()
                .hear(",a".repeat(16).as_bytes())
                .is_ok()
        );
        assert!(
            Connection::default()
                .hear(",a".repeat(17).as_bytes())
                .is_err()
        );
    }

    #[test]
    fn named_fields_end_here_but_no_write_loses_its_meaning() {
        let field = |name, value: &'static str| Header {
            name,
            value: value.as_bytes(),
        };
        let fields = [
            field("Connection", "close, X-Hop, Authorization"),
            field("x-hop", "1"),
            field("AUTHORIZATION", "Token t"),
            field("User-Agent", "Telegraf"),
        ];
        let headers = Headers {
            fields: &fields,
            names_fields: true,
        };
        let mut out = Vec::new();
        headers.pass_on(|field| field == Field::Connection, &mut out);
        assert_eq!(out, b"AUTHORIZATION: Token t\r\nUser-Agent: Telegraf\r\n");
    }

    #[test]
    fn tokens_are_the_76_and_one_of_the_rfc() {
        let marks = b"!#$%&'*+-.^_`|~";
        for byte in 0..=u8::MAX {
            let want = byte.is_ascii_alphanumeric() || marks.contains(&byte);
            assert_eq!(is_token_byte(byte), want, "{byte:#x}");
        }
    }
}
