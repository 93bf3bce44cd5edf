//! Path and query of a request target, read as InfluxDB reads them. Pure.
//!
//! The relay must see the same database and the same unit of time that the backends see, so the
//! rules are those of Go's `url.ParseQuery`: pairs end at `&`, `+` is a blank, `%XX` a byte; a pair
//! with a `;` or a bad escape does not exist; of several values the first counts.

/// A request target in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'b> {
    /// All before the first `?`.
    pub path: &'b [u8],
    /// All after it; empty without one.
    pub query: &'b [u8],
}

/// Cuts a target at its first `?`. Once per request.
pub fn split(target: &[u8]) -> Target<'_> {
    match memchr::memchr(b'?', target) {
        Some(at) => Target {
            path: &target[..at],
            query: &target[at + 1..],
        },
        None => Target {
            path: target,
            query: &[],
        },
    }
}

/// Path and query out of the form a client chose (RFC 9112 section 3.2).
pub(super) fn origin_form<'b>(method: &str, target: &'b str) -> Result<&'b [u8], &'static str> {
    const ILL: &str = "malformed request target";
    let origin = match target.as_bytes() {
        b"*" if method == "OPTIONS" => return Ok(b"*"),
        [b'/', ..] => target,
        _ => after_authority(target).ok_or(ILL)?,
    };
    let path_len = memchr::memchr(b'?', origin.as_bytes()).unwrap_or(origin.len());
    if origin.as_bytes()[..path_len].is_ascii() {
        Ok(origin.as_bytes())
    } else {
        Err(ILL)
    }
}

/// What follows `http://host` or `https://host`; `/` where nothing does.
fn after_authority(target: &str) -> Option<&str> {
    let strip = |scheme: &str| {
        let start = target.get(..scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme)
            .then(|| &target[scheme.len()..])
    };
    let rest = strip("http://").or_else(|| strip("https://"))?;
    let (authority, path) =
        rest.split_at(memchr::memchr(b'/', rest.as_bytes()).unwrap_or(rest.len()));
    let is_right = !authority.is_empty() && authority.bytes().all(is_authority_byte);
    is_right.then_some(if path.is_empty() { "/" } else { path })
}

/// What a host and port are made of (RFC 3986 section 3.2); no user, no path, no blank.
pub(super) const fn is_authority_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b':' | b'[' | b']')
        || matches!(byte, b'!' | b'$' | b'&' | b'\''..=b',' | b';' | b'=')
}

/// One pair of a query, as the client wrote it. Its escapes are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'b> {
    /// Before the first `=`; still escaped.
    pub key: &'b [u8],
    /// After it; still escaped. Empty without one.
    pub value: &'b [u8],
}

impl<'b> Pair<'b> {
    /// Reads what stands between two `&`; `None` if Go would not see it.
    pub fn of(piece: &'b [u8]) -> Option<Self> {
        if piece.is_empty() || piece.contains(&b';') || !escapes_are_whole(piece) {
            return None;
        }
        let (key, value) = match memchr::memchr(b'=', piece) {
            Some(at) => (&piece[..at], &piece[at + 1..]),
            None => (piece, &[][..]),
        };
        Some(Self { key, value })
    }
}

/// The pairs of a query that exist, in order.
pub struct Params<'b>(std::slice::Split<'b, u8, fn(&u8) -> bool>);

impl<'b> Params<'b> {
    /// Of a query without its `?`.
    pub fn new(query: &'b [u8]) -> Self {
        Self(query.split(|&byte| byte == b'&'))
    }
}

impl<'b> Iterator for Params<'b> {
    type Item = Pair<'b>;

    fn next(&mut self) -> Option<Pair<'b>> {
        self.0.find_map(Pair::of)
    }
}

/// Whether an escaped key or value spells `name`.
pub fn key_is(raw: &[u8], name: &str) -> bool {
    decoded(raw).eq(name.bytes())
}

/// The value of a parameter that may stand only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only<'b> {
    /// Still escaped.
    Value(&'b [u8]),
    /// It is missing.
    Missing,
    /// It stands there twice, or only some readers of queries see it.
    Unclear,
}

/// The only value of `name`, to every reader of queries.
pub fn only<'b>(query: &'b [u8], name: &str) -> Only<'b> {
    let mut found = Only::Missing;
    for piece in query.split(|&byte| byte == b'&') {
        found = match (Pair::of(piece), found) {
            (Some(pair), Only::Missing) if key_is(pair.key, name) => Only::Value(pair.value),
            (Some(pair), _) if key_is(pair.key, name) => return Only::Unclear,
            (None, _) if may_name(piece, name) => return Only::Unclear,
            _ => found,
        }
    }
    found
}

/// Whether a pair that Go drops since 1.17, or for its escapes, has this key to another reader.
pub fn may_name(piece: &[u8], name: &str) -> bool {
    piece.split(|&byte| byte == b';').any(|part| {
        let key = part.split(|&byte| byte == b'=').next();
        key.is_some_and(|key| key_is(key, name))
    })
}

/// Whether a value is empty; an escape always stands for something.
pub const fn value_is_empty(raw: &[u8]) -> bool {
    raw.is_empty()
}

/// Decodes a value that may have up to `N` bytes; `None` if it has more.
pub fn decode_small<'s, const N: usize>(raw: &[u8], space: &'s mut [u8; N]) -> Option<&'s [u8]> {
    let mut len = 0;
    for byte in decoded(raw) {
        *space.get_mut(len)? = byte;
        len += 1;
    }
    Some(&space[..len])
}

/// The bytes that a key or value stands for. A bad escape, of which a [`Pair`] has none, is itself.
pub fn decoded(raw: &[u8]) -> impl Iterator<Item = u8> + Clone {
    let mut rest = raw;
    std::iter::from_fn(move || {
        let (byte, after) = match *rest {
            [b'%', high, low, ref after @ ..] => match hex_byte(high, low) {
                Some(byte) => (byte, after),
                None => (b'%', &rest[1..]),
            },
            [b'+', ref after @ ..] => (b' ', after),
            [byte, ref after @ ..] => (byte, after),
            [] => return None,
        };
        rest = after;
        Some(byte)
    })
}

/// Appends `value` escaped so that every reader of queries takes it for itself.
pub fn encode(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte);
        } else {
            let hex = |nibble: u8| HEX[usize::from(nibble)];
            out.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
}

/// Whether each `%` has its two digits.
fn escapes_are_whole(piece: &[u8]) -> bool {
    memchr::memchr_iter(b'%', piece).all(|at| match piece[at + 1..] {
        [high, low, ..] => hex_byte(high, low).is_some(),
        _ => false,
    })
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    Some((digit(high)? << 4) | digit(low)?)
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::{Pair, Params, Target, decode_small, decoded, encode, key_is, split};

    #[test]
    fn a_target_is_cut_at_its_first_question_mark() {
        for (target, path, query) in [
            ("/write", "/write", ""),
            ("/a?b?c", "/a", "b?c"),
            ("/a?", "/a", ""),
            ("?", "", ""),
        ] {
            let want = Target {
                path: path.as_bytes(),
                query: query.as_bytes(),
            };
            assert_eq!(split(target.as_bytes()), want);
        }
    }

    #[test]
    fn what_stands_twice_or_is_seen_by_some_is_unclear() {
        use super::{Only, only};
        for (query, want) in [
            ("", Only::Missing),
            ("x=1&dbx=2", Only::Missing),
            ("db=a", Only::Value(b"a")),
            ("x=1&d%62=a%20b&y", Only::Value(b"a%20b")),
            ("db=", Only::Value(b"")),
            ("db", Only::Value(b"")),
            ("db=a&db=a", Only::Unclear),
            ("db=a&%64b=b", Only::Unclear),
            ("x=1;db=a", Only::Unclear),
            ("db=a&y;db=b", Only::Unclear),
            ("db=%zz", Only::Unclear),
        ] {
            assert_eq!(only(query.as_bytes(), "db"), want, "{query}");
        }
    }

    #[test]
    fn pairs_are_those_that_go_sees() {
        let query = b"&db=a&b;c=1&rp&x=%zz&y%4=1&u==&&p=%41";
        let pairs: Vec<Pair<'_>> = Params::new(query).collect();
        let pair = |key: &'static str, value: &'static str| Pair {
            key: key.as_bytes(),
            value: value.as_bytes(),
        };
        assert_eq!(
            pairs,
            [
                pair("db", "a"),
                pair("rp", ""),
                pair("u", "="),
                pair("p", "%41")
            ]
        );
    }

    #[test]
    fn escapes_are_read_and_written() {
        assert!(key_is(b"d%62", "db") && key_is(b"a+b", "a b"));
        assert!(!key_is(b"db2", "db") && !key_is(b"d", "db") && !key_is(b"DB", "db"));
        assert_eq!(
            decode_small(b"%C2%B5s", &mut [0; 3]),
            Some("\u{b5}s".as_bytes())
        );
        assert_eq!(decode_small(b"four", &mut [0; 3]), None);
        let (text, mut out) = ("a b/\u{b5}&=+%;~", Vec::new());
        encode(text, &mut out);
        assert_eq!(out, b"a%20b%2F%C2%B5%26%3D%2B%25%3B~");
        assert!(decoded(&out).eq(text.bytes()));
    }
}
