//! The text of a query, out of the target and the form that may bring it. Pure.
//!
//! InfluxDB asks Go's `FormValue` for `q`: the first one of the form, else the first one of the
//! target. Whether a form is read depends on the method, on the type as Go understands it, and on
//! the length; whether a pair is read, on the release of Go. To get one of these wrong is to judge another text
//! than the one that is executed. So this does not choose: a request with two of them, or
//! with one that only some servers see, is unclear.

use crate::http::target::{Pair, decoded, key_is, may_name};
use crate::query::influxql::{Does, does};

/// What a request brings besides its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'b> {
    /// Nothing, or no byte.
    None,
    /// Pairs, as they stand in a target.
    Form(&'b [u8]),
    /// Something else: a multipart form, a text by itself, anything encoded.
    Other,
}

impl<'b> Body<'b> {
    /// By the type that its head names. A body with a `Content-Encoding` is [`Body::Other`]. Once per query.
    pub fn of(content_type: Option<&[u8]>, bytes: &'b [u8]) -> Self {
        let media = content_type.and_then(|value| value.split(|&byte| byte == b';').next());
        match media {
            _ if bytes.is_empty() => Self::None,
            Some(media) if media.trim_ascii().eq_ignore_ascii_case(FORM) => Self::Form(bytes),
            _ => Self::Other,
        }
    }
}

/// The text of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryText<'t> {
    /// The only one; empty without any.
    Text(&'t [u8]),
    /// Servers may see different ones.
    Unclear,
}

impl QueryText<'_> {
    /// What it does, or may do.
    pub fn does(self) -> Does {
        match self {
            Self::Text(text) => does(text),
            Self::Unclear => Does::Writes,
        }
    }
}

/// The `q` of a request, decoded into `out`, of whose bytes none stays. Once per query.
pub fn query_text<'t>(query: &[u8], body: Body<'_>, out: &'t mut Vec<u8>) -> QueryText<'t> {
    only_value("q", query, body, out)
}

/// What InfluxDB asks Go's `FormValue` for, by its name; as [`query_text`].
pub fn only_value<'t>(
    name: &str,
    query: &[u8],
    body: Body<'_>,
    out: &'t mut Vec<u8>,
) -> QueryText<'t> {
    let form = match body {
        Body::None => &[],
        Body::Form(form) => form,
        Body::Other => return QueryText::Unclear,
    };
    out.clear();
    let mut is_found = false;
    for piece in [form, query]
        .iter()
        .flat_map(|pairs| pairs.split(|&byte| byte == b'&'))
    {
        match Pair::of(piece) {
            Some(pair) if key_is(pair.key, name) => {
                if std::mem::replace(&mut is_found, true) {
                    return QueryText::Unclear;
                }
                out.extend(decoded(pair.value));
            }
            None if may_name(piece, name) => return QueryText::Unclear,
            _ => {}
        }
    }
    QueryText::Text(out)
}

const FORM: &[u8] = b"application/x-www-form-urlencoded";

#[cfg(test)]
mod tests {
    use super::{Body, QueryText, query_text};
    use crate::query::influxql::Does;

    fn text(query: &str, form: &str) -> Option<String> {
        let mut out = b"left over".to_vec();
        let body = Body::of(Some(b"application/x-www-form-urlencoded"), form.as_bytes());
        match query_text(query.as_bytes(), body, &mut out) {
            QueryText::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            QueryText::Unclear => None,
        }
    }

    #[test]
    fn the_only_text_is_found_and_decoded() {
        for (query, form, want) in [
            ("q=SHOW+DATABASES", "", "SHOW DATABASES"),
            (
                "db=x&q=SELECT%20%2a%20FROM%20m&epoch=ns",
                "",
                "SELECT * FROM m",
            ),
            ("%71=a", "", "a"),
            ("q=a=b", "", "a=b"),
            ("q=a%26b%3Bc%2Bd", "", "a&b;c+d"),
            ("db=x", "q=a", "a"),
            ("db=x", "db=y&q=a%0Ab&", "a\nb"),
            ("", "%71=%C2%B5", "\u{b5}"),
            ("q=", "", ""),
            ("q", "", ""),
            ("", "", ""),
            ("db=x&Q=a&qq=b&p=q", "qx=1", ""),
            ("db=a;b&q=a", "", "a"),
            ("db=%zz&q=a", "", "a"),
        ] {
            assert_eq!(text(query, form).as_deref(), Some(want), "{query} {form}");
        }
    }

    #[test]
    fn where_servers_may_see_two_it_is_unclear() {
        for (query, form) in [
            ("q=a&q=b", ""),
            ("q=a&q=a", ""),
            ("q=a", "q=b"),
            ("q=a", "q="),
            ("q=&%71=b", ""),
            ("q=a;b", ""),
            ("q=a&db=x;q=b", ""),
            ("q=a&q=b;", ""),
            ("q=a&;%71", ""),
            ("q=%", ""),
            ("q=a&q=%zz", ""),
            ("q=a", "x=1;q=b"),
            ("", "q=50%"),
        ] {
            assert_eq!(text(query, form), None, "{query} {form}");
        }
    }

    #[test]
    fn a_body_is_a_form_only_where_its_type_says_so() {
        for kind in [
            "application/x-www-form-urlencoded",
            "Application/X-WWW-Form-URLencoded",
            " application/x-www-form-urlencoded ; charset=utf-8",
            "application/x-www-form-urlencoded;",
        ] {
            assert_eq!(Body::of(Some(kind.as_bytes()), b"q"), Body::Form(b"q"));
            assert_eq!(Body::of(Some(kind.as_bytes()), b""), Body::None);
        }
        for kind in [
            "",
            "multipart/form-data; boundary=x",
            "application/json",
            "application/vnd.influxql",
            "text/plain;application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded, text/plain",
        ] {
            assert_eq!(Body::of(Some(kind.as_bytes()), b"q"), Body::Other, "{kind}");
            assert_eq!(Body::of(Some(kind.as_bytes()), b""), Body::None, "{kind}");
        }
        assert_eq!(Body::of(None, b"q"), Body::Other);
        assert_eq!(Body::of(None, b""), Body::None);
    }

    #[test]
    fn the_unclear_writes() {
        let mut out = Vec::new();
        let mut does = |query: &str, body| query_text(query.as_bytes(), body, &mut out).does();
        assert_eq!(does("q=SHOW+USERS", Body::None), Does::Reads);
        assert_eq!(does("q=SHOW+USERS", Body::Form(b"db=x")), Does::Reads);
        assert_eq!(does("db=x", Body::Form(b"q=SHOW+USERS")), Does::Reads);
        assert_eq!(does("db=x", Body::Form(b"q=DROP+USER+a")), Does::Writes);
        assert_eq!(does("db=x", Body::None), Does::Nothing);
        assert_eq!(does("q=SHOW+USERS", Body::Other), Does::Writes);
        assert_eq!(does("db=x", Body::Other), Does::Writes);
        assert_eq!(does("q=SHOW+USERS&q=SHOW+USERS", Body::None), Does::Writes);
    }
}
