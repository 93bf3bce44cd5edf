//! Who a client says it is, read as `influxd` reads it. Pure.
//!
//! ```text
//!  ?u=NAME&p=PASSWORD                  if neither is empty; goes before the header
//!  Authorization: Basic BASE64         NAME:PASSWORD
//!  Authorization: Token NAME:PASSWORD  as clients of InfluxDB 2 speak to 1.8
//!  Authorization: Token T, Bearer T    a token
//! ```
//!
//! A form in the body is not looked at: `influxd` does not either, and nobody's body is read before it
//! is known who they are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http::target::{Params, decoded, key_is};
use crate::limits::access::CREDENTIAL_BYTES_MAX;

/// What a client brings.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'s> {
    /// A name and a password.
    User {
        /// Not empty.
        name: &'s [u8],
        /// May be empty.
        password: &'s [u8],
    },
    /// A token.
    Token(&'s [u8]),
}

/// Why nobody is let in with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It brings none, or none that can be read.
    Unreadable,
    /// It brings a password without a name.
    Nameless,
    /// Nobody has these.
    Wrong,
    /// They are to be verified, and too many others are.
    Busy,
}

impl Refused {
    /// What the client hears; for what `influxd` has words for, its own.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unreadable => "unable to parse authentication credentials",
            Self::Nameless => "username required",
            Self::Wrong => "authorization failed",
            Self::Busy => "too many credentials to verify: try again later",
        }
    }
}

/// Room for one set of credentials, so that reading them allocates nothing.
pub struct Space([u8; CREDENTIAL_BYTES_MAX]);

impl Default for Space {
    fn default() -> Self {
        Self([0; CREDENTIAL_BYTES_MAX])
    }
}

/// The credentials of a request, decoded into `space`. Once per request.
///
/// # Errors
/// Why there are none; what is too long is wrong.
pub fn brought<'s>(
    query: &[u8],
    authorization: Option<&[u8]>,
    space: &'s mut Space,
) -> Result<Credentials<'s>, Refused> {
    let first = |name: &str| {
        let found = Params::new(query).find(|pair| key_is(pair.key, name));
        found.map_or(&[][..], |pair| pair.value)
    };
    let (name, password) = (first("u"), first("p"));
    if !name.is_empty() && !password.is_empty() {
        let cut = space.fill(0, decoded(name))?;
        let end = space.fill(cut, decoded(password))?;
        return space.user(cut, cut, end);
    }
    let authorization = authorization.unwrap_or_default();
    let blank = authorization.iter().position(|&byte| byte == b' ');
    let (scheme, value) = authorization.split_at(blank.ok_or(Refused::Unreadable)?);
    let value = value.trim_ascii();
    let is = |known: &[u8]| scheme.eq_ignore_ascii_case(known);
    if is(b"basic") {
        let end = match STANDARD.decode_slice(value, &mut space.0) {
            Ok(end) => end,
            Err(base64::DecodeSliceError::OutputSliceTooSmall) => return Err(Refused::Wrong),
            Err(_) => return Err(Refused::Unreadable),
        };
        let colon = space.0[..end].iter().position(|&byte| byte == b':');
        let colon = colon.ok_or(Refused::Unreadable)?;
        return space.user(colon, colon + 1, end);
    }
    if value.is_empty() || !(is(b"token") || is(b"bearer")) {
        return Err(Refused::Unreadable);
    }
    let end = space.fill(0, value.iter().copied())?;
    match value.iter().position(|&byte| byte == b':') {
        Some(colon) if is(b"token") => space.user(colon, colon + 1, end),
        _ => Ok(Credentials::Token(&space.0[..end])),
    }
}

impl Space {
    /// Puts bytes at `at`; where they end.
    fn fill(&mut self, at: usize, bytes: impl Iterator<Item = u8>) -> Result<usize, Refused> {
        let mut end = at;
        for byte in bytes {
            *self.0.get_mut(end).ok_or(Refused::Wrong)? = byte;
            end += 1;
        }
        Ok(end)
    }

    fn user(
        &self,
        name_end: usize,
        password_start: usize,
        end: usize,
    ) -> Result<Credentials<'_>, Refused> {
        if name_end == 0 {
            return Err(Refused::Nameless);
        }
        Ok(Credentials::User {
            name: &self.0[..name_end],
            password: &self.0[password_start..end],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Credentials, Refused, Space, brought};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn read(query: &str, authorization: &str) -> Result<String, Refused> {
        let header = (!authorization.is_empty()).then_some(authorization.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match brought(query.as_bytes(), header, &mut Space::default())? {
            Credentials::User { name, password } => {
                Ok(format!("{}/{}", text(name), text(password)))
            }
            Credentials::Token(token) => Ok(text(token)),
        }
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn the_query_goes_before_the_header_if_it_is_whole() {
        let header = &basic("a:b");
        for (query, authorization, want) in [
            ("", header.as_str(), Ok("a/b")),
            ("u=x&p=y", header, Ok("x/y")),
            ("db=d&p=%79%20z&u=x+", "", Ok("x /y z")),
            ("u=x&p=", header, Ok("a/b")),
            ("u=x", header, Ok("a/b")),
            ("p=y", header, Ok("a/b")),
            ("u=&u=x&p=y", header, Ok("a/b")),
            ("u=x&u=z&p=y&p=w", header, Ok("x/y")),
            ("u=x;p=y", header, Ok("a/b")),
            ("u=x", "", Err(Refused::Unreadable)),
            ("u=x&p=y", "nonsense", Ok("x/y")),
        ] {
            assert_eq!(
                read(query, authorization),
                want.map(str::to_owned),
                "{query}"
            );
        }
    }

    #[test]
    fn headers_in_all_their_spellings() {
        for (header, want) in [
            (basic("a:b:c"), Ok("a/b:c")),
            (basic("a:"), Ok("a/")),
            (basic(":b"), Err(Refused::Nameless)),
            (basic("ab"), Err(Refused::Unreadable)),
            (basic("a:b").replace("Basic", "bASIC "), Ok("a/b")),
            ("Basic !!".to_owned(), Err(Refused::Unreadable)),
            ("Basic".to_owned(), Err(Refused::Unreadable)),
            ("Basic ".to_owned(), Err(Refused::Unreadable)),
            ("Token a:b:c".to_owned(), Ok("a/b:c")),
            ("Token :b".to_owned(), Err(Refused::Nameless)),
            ("token T".to_owned(), Ok("T")),
            ("Bearer T:x".to_owned(), Ok("T:x")),
            ("bearer   T ".to_owned(), Ok("T")),
            ("Bearer ".to_owned(), Err(Refused::Unreadable)),
            ("Digest T".to_owned(), Err(Refused::Unreadable)),
            (" T".to_owned(), Err(Refused::Unreadable)),
        ] {
            assert_eq!(read("", &header), want.map(str::to_owned), "{header}");
        }
        assert_eq!(read("", ""), Err(Refused::Unreadable));
    }

    #[test]
    fn what_is_too_long_is_wrong() {
        let long = "x".repeat(1024);
        assert_eq!(read("", &format!("Bearer {long}")), Ok(long.clone()));
        assert_eq!(read("", &format!("Bearer {long}x")), Err(Refused::Wrong));
        assert_eq!(read("", &basic(&format!("a:{long}"))), Err(Refused::Wrong));
        assert_eq!(read(&format!("u=a&p={long}"), ""), Err(Refused::Wrong));
    }
}
