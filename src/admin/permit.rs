//! Who may change something: whoever has the admin token, or sits on this machine if there is none. Pure.
//!
//! Two strangers are kept out: one on the network, who has no token; and a web page in the browser of
//! somebody on this machine, which can post to loopback, but not without an `Origin`. With a token an
//! `Origin` is no matter: a page that does not know the token cannot send it, and no answer asks for a
//! password that the browser would keep and send along.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http::request::Refusal;

/// The door that the request came in at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The admin address, on a loopback interface.
    AdminLoopback,
    /// The admin address, elsewhere.
    AdminOpen,
    /// A listener for clients.
    Client,
}

/// What the request says of its sender.
#[derive(Clone, Copy)]
pub struct Sender<'b> {
    /// `Authorization`, as it came.
    pub authorization: Option<&'b [u8]>,
    /// Whether a web page sent it.
    pub has_origin: bool,
}

/// Whether the sender may change something; `token` is the configured one. Once per such request.
///
/// # Errors
/// 401 where the token is wanted, 403 where no request is let in until something is set.
pub fn check(token: Option<&str>, at: At, sender: Sender<'_>) -> Result<(), Refusal> {
    match (token, at) {
        (Some(token), _) => match sender.authorization {
            Some(given) if brings(given, token.as_bytes()) => Ok(()),
            _ => Err(TOKEN_WANTED),
        },
        (None, At::Client) => Err(NOT_HERE),
        (None, At::AdminOpen) => Err(IN_THE_OPEN),
        (None, At::AdminLoopback) if sender.has_origin => Err(WEB_PAGE),
        (None, At::AdminLoopback) => Ok(()),
    }
}

/// Whether an `Authorization` brings this token: `Bearer T`, `Token T`, or `Basic` with T as password.
fn brings(authorization: &[u8], token: &[u8]) -> bool {
    let Some(blank) = authorization.iter().position(|&byte| byte == b' ') else {
        return false;
    };
    let (scheme, given) = authorization.split_at(blank);
    let given = given.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"token") {
        return is_same(given, token);
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return false;
    }
    let Ok(pair) = STANDARD.decode(given) else {
        return false;
    };
    let colon = pair.iter().position(|&byte| byte == b':');
    colon.is_some_and(|colon| is_same(&pair[colon + 1..], token))
}

/// Compares in a time that depends on `given` alone, so that nobody can guess the secret byte by byte.
fn is_same(given: &[u8], secret: &[u8]) -> bool {
    let mut differs = u8::from(given.len() != secret.len() || secret.is_empty());
    for (&byte, &own) in given.iter().zip(secret.iter().cycle()) {
        differs = std::hint::black_box(differs | (byte ^ own));
    }
    differs == 0
}

const TOKEN_WANTED: Refusal = Refusal {
    status: 401,
    reason: "the admin token is needed: send Authorization: Bearer TOKEN",
};
const NOT_HERE: Refusal = Refusal {
    status: 403,
    reason: "this needs the admin token, and none is set: set [admin] bind-addr and token (RELAY_ADMIN_TOKEN), or ask a \
             loopback admin address",
};
const IN_THE_OPEN: Refusal = Refusal {
    status: 403,
    reason: "the admin address is not on loopback, so this needs a token, and none is set: set [admin] token \
             (RELAY_ADMIN_TOKEN), or bind-addr to 127.0.0.1",
};
const WEB_PAGE: Refusal = Refusal {
    status: 403,
    reason: "a web page (Origin) may do this only with the admin token, and none is set: set [admin] token \
             (RELAY_ADMIN_TOKEN)",
};

#[cfg(test)]
mod tests {
    use super::{At, Sender, check, is_same};

    fn status(token: Option<&str>, at: At, authorization: Option<&str>, has_origin: bool) -> u16 {
        let authorization = authorization.map(str::as_bytes);
        let sender = Sender {
            authorization,
            has_origin,
        };
        check(token, at, sender).map_or_else(|refusal| refusal.status, |()| 204)
    }

    #[test]
    fn without_a_token_only_loopback_may_and_no_web_page() {
        for (at, has_origin, want) in [
            (At::AdminLoopback, false, 204),
            (At::AdminLoopback, true, 403),
            (At::AdminOpen, false, 403),
            (At::AdminOpen, true, 403),
            (At::Client, false, 403),
            (At::Client, true, 403),
        ] {
            for given in [None, Some("Bearer "), Some("Bearer x"), Some("Basic Og==")] {
                assert_eq!(
                    status(None, at, given, has_origin),
                    want,
                    "{at:?} {given:?}"
                );
            }
        }
    }

    #[test]
    fn with_a_token_it_is_wanted_everywhere_and_lets_in_everywhere() {
        for at in [At::AdminLoopback, At::AdminOpen, At::Client] {
            for has_origin in [false, true] {
                for (given, want) in [
                    (None, 401),
                    (Some(""), 401),
                    (Some("s3cret"), 401),
                    (Some("Bearer"), 401),
                    (Some("Bearer "), 401),
                    (Some("Bearer s3cre"), 401),
                    (Some("Bearer s3crets3cret"), 401),
                    (Some("Bearer S3cret"), 401),
                    (Some("Digest s3cret"), 401),
                    (Some("Basic s3cret"), 401),
                    (Some("Basic !!"), 401),
                    (Some("Basic czNjcmV0"), 401),     // s3cret
                    (Some("Basic czNjcmV0Og=="), 401), // s3cret:
                    (Some("Basic YTpzM2NyZXQ="), 204), // a:s3cret
                    (Some("basic OnMzY3JldA=="), 204), // :s3cret
                    (Some("Bearer s3cret"), 204),
                    (Some("bearer  s3cret"), 204),
                    (Some("Token s3cret"), 204),
                ] {
                    let heard = status(Some("s3cret"), at, given, has_origin);
                    assert_eq!(heard, want, "{at:?} {given:?} {has_origin}");
                }
            }
        }
    }

    #[test]
    fn same_is_same() {
        assert!(is_same(b"abc", b"abc"));
        for given in [&b""[..], b"ab", b"abcd", b"abd", b"bbc", b"abcabc"] {
            assert!(!is_same(given, b"abc"));
        }
        assert!(!is_same(b"", b""), "no secret is no way in");
    }
}
