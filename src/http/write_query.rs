//! What the query of a write asks for, and the query that the backends get. Pure.
//!
//! Everything is passed on as the client wrote it, except what would make two backends store two
//! different things: the unit of time in a spelling that not all of them know, a missing retention
//! policy where the listener names one, and pairs that only some servers can see (a `;` parted
//! pairs before Go 1.17, and hides one since): what was not read here is not sent either.

use crate::http::precision::{Dialect, Precision};
use crate::http::request::Refusal;
use crate::http::target::{Pair, decode_small, encode, key_is, value_is_empty};

/// What a write asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteQuery {
    /// The unit of its timestamps.
    pub precision: Precision,
}

/// Reads the query of a write and appends to `out` the one that the backends get. Once per write.
///
/// The first `precision` is put into the spelling of its dialect; an absent or empty one stays
/// as it is and means nanoseconds. `default_rp` is for v1 writes without `rp`, or whose first `rp`
/// is empty. All else is copied byte for byte, repeated, empty and unknown pairs too.
///
/// # Errors
/// 400 if v1 or v3 bring no `db`, or for a unit that the dialect does not know. What was appended
/// to `out` is then of no use.
pub fn write_query(
    query: &[u8],
    dialect: Dialect,
    default_rp: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<WriteQuery, Refusal> {
    let default_rp = default_rp.filter(|_| dialect == Dialect::V1);
    let (mut db, mut rp, mut precision) = (None, None, None);
    let mut is_first = true;
    for piece in query.split(|&byte| byte == b'&') {
        let pair = Pair::of(piece);
        if pair.is_none() && !piece.is_empty() {
            continue;
        }
        if !is_first {
            out.push(b'&');
        }
        is_first = false;
        match pair {
            Some(Pair { key, value }) if db.is_none() && key_is(key, "db") => {
                db = Some(!value_is_empty(value));
                out.extend_from_slice(piece);
            }
            Some(Pair { key, value }) if rp.is_none() && key_is(key, "rp") => {
                rp = Some(());
                match default_rp {
                    Some(default_rp) if value_is_empty(value) => push_rp(default_rp, out),
                    _ => out.extend_from_slice(piece),
                }
            }
            Some(pair) if precision.is_none() && key_is(pair.key, "precision") => {
                precision = Some(push_precision(piece, pair.value, dialect, out)?);
            }
            _ => out.extend_from_slice(piece),
        }
    }
    if dialect != Dialect::V2 && db != Some(true) {
        return Err(Refusal::bad_request("database is required"));
    }
    if let (None, Some(default_rp)) = (rp, default_rp) {
        out.push(b'&');
        push_rp(default_rp, out);
    }
    Ok(WriteQuery {
        precision: precision.unwrap_or(Precision::Nanosecond),
    })
}

/// Appends the query of a remote-write that the backends get: as it came, but where it names a `db`, and so
/// means an InfluxDB, `default_rp` is for one without `rp`, or whose first `rp` is empty. Once per write.
pub fn remote_write_query(query: &[u8], default_rp: Option<&str>, out: &mut Vec<u8>) {
    let is = |piece: &[u8], name: &str| Pair::of(piece).is_some_and(|pair| key_is(pair.key, name));
    let pieces = || query.split(|&byte| byte == b'&');
    let meant = |_: &&str| pieces().any(|piece| is(piece, "db"));
    let Some(default_rp) = default_rp.filter(meant) else {
        out.extend_from_slice(query);
        return;
    };
    let mut is_open = true;
    for (place, piece) in pieces().enumerate() {
        if place > 0 {
            out.push(b'&');
        }
        let is_rp = is_open && is(piece, "rp");
        is_open &= !is_rp;
        if is_rp && Pair::of(piece).is_some_and(|pair| value_is_empty(pair.value)) {
            push_rp(default_rp, out);
        } else {
            out.extend_from_slice(piece);
        }
    }
    if is_open {
        out.push(b'&');
        push_rp(default_rp, out);
    }
}

/// The unit, and its pair in the spelling of the dialect; `auto` has no better one.
fn push_precision(
    piece: &[u8],
    value: &[u8],
    dialect: Dialect,
    out: &mut Vec<u8>,
) -> Result<Precision, Refusal> {
    if value_is_empty(value) {
        out.extend_from_slice(piece);
        return Ok(Precision::Nanosecond);
    }
    let mut space = [0; UNIT_BYTES_MAX];
    let unit = decode_small(value, &mut space).unwrap_or_default();
    let Some(precision) = Precision::of(unit, dialect) else {
        return Err(Refusal::bad_request(dialect.precision_complaint()));
    };
    let spelling = precision.spelling(dialect).as_bytes();
    if unit == spelling || unit == b"auto" {
        out.extend_from_slice(piece);
    } else {
        out.extend_from_slice(b"precision=");
        out.extend_from_slice(spelling);
    }
    Ok(precision)
}

fn push_rp(default_rp: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"rp=");
    encode(default_rp, out);
}

/// `nanosecond`, `microsecond`, `millisecond`.
const UNIT_BYTES_MAX: usize = 11;

#[cfg(test)]
mod tests {
    #[test]
    fn a_remote_write_gets_a_retention_policy_where_it_names_a_db() {
        for (query, want) in [
            ("", ""),
            ("a=b", "a=b"),
            ("db=x", "db=x&rp=y%20z"),
            ("db=x&rp=", "db=x&rp=y%20z"),
            ("rp&db=x&u=a", "rp=y%20z&db=x&u=a"),
            ("db=x&rp=own&rp=", "db=x&rp=own&rp="),
            ("db=x&&a;b", "db=x&&a;b&rp=y%20z"),
        ] {
            let mut out = Vec::new();
            super::remote_write_query(query.as_bytes(), Some("y z"), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want, "{query}");
            let mut out = Vec::new();
            super::remote_write_query(query.as_bytes(), None, &mut out);
            assert_eq!(out, query.as_bytes());
        }
    }

    use super::write_query;
    use crate::http::precision::{Dialect, Precision};

    fn rewritten(
        query: &str,
        dialect: Dialect,
        rp: Option<&str>,
    ) -> Result<(String, Precision), &'static str> {
        let mut out = b"?".to_vec();
        let read = write_query(query.as_bytes(), dialect, rp, &mut out).map_err(|refusal| {
            assert_eq!(refusal.status, 400);
            refusal.reason
        })?;
        Ok((
            String::from_utf8(out).unwrap()[1..].to_owned(),
            read.precision,
        ))
    }

    #[test]
    fn what_is_well_goes_as_it_came() {
        for query in [
            "db=a",
            "db=a&rp=b&precision=n&consistency=&u=x&p=%2F+y&foo&db=&precision=bogus&rp=",
            "&&d%62=a&",
            "precision=&db=a",
            "db=%20",
        ] {
            assert_eq!(
                rewritten(query, Dialect::V1, None),
                Ok((query.into(), Precision::Nanosecond))
            );
        }
        let query = "org=o&bucket=b&precision=us";
        assert_eq!(
            rewritten(query, Dialect::V2, Some("x")),
            Ok((query.into(), Precision::Microsecond))
        );
        let query = "db=a&precision=auto&no_sync=true";
        assert_eq!(
            rewritten(query, Dialect::V3, Some("x")),
            Ok((query.into(), Precision::Nanosecond))
        );
    }

    #[test]
    fn the_unit_is_spelled_as_the_dialect_spells_it() {
        use Dialect::{V1, V2, V3};
        for (dialect, unit, sent, precision) in [
            (V1, "ns", "n", Precision::Nanosecond),
            (V1, "us", "u", Precision::Microsecond),
            (V1, "%C2%B5", "u", Precision::Microsecond),
            (V1, "μs", "u", Precision::Microsecond),
            (V1, "%6e", "%6e", Precision::Nanosecond),
            (V1, "m", "m", Precision::Minute),
            (V1, "h", "h", Precision::Hour),
            (V2, "n", "ns", Precision::Nanosecond),
            (V2, "u", "us", Precision::Microsecond),
            (V2, "ms", "ms", Precision::Millisecond),
            (V3, "s", "second", Precision::Second),
            (V3, "ms", "millisecond", Precision::Millisecond),
            (V3, "microsecond", "microsecond", Precision::Microsecond),
        ] {
            let query = |unit| format!("db=a&precision={unit}&x=1");
            assert_eq!(
                rewritten(&query(unit), dialect, None),
                Ok((query(sent), precision)),
                "{unit}"
            );
        }
        for (dialect, unit) in [
            (V1, "bogus"),
            (V1, "second"),
            (V1, "auto"),
            (V2, "m"),
            (V2, "h"),
            (V3, "m"),
            (V1, "+"),
            (V1, "millisecondsss"),
        ] {
            let query = format!("db=a&precision={unit}");
            assert_eq!(
                rewritten(&query, dialect, None),
                Err(dialect.precision_complaint())
            );
        }
    }

    #[test]
    fn a_database_is_needed_by_those_that_need_one() {
        for query in [
            "", "db=", "db", "db=&db=a", "DB=a", "db=%zz", "db=a;b", "x=1",
        ] {
            assert_eq!(
                rewritten(query, Dialect::V1, None),
                Err("database is required"),
                "{query}"
            );
            assert_eq!(
                rewritten(query, Dialect::V3, None),
                Err("database is required"),
                "{query}"
            );
            assert!(rewritten(query, Dialect::V2, None).is_ok());
        }
    }

    #[test]
    fn the_default_policy_fills_a_gap_only() {
        for (query, sent) in [
            ("db=a", "db=a&rp=two%20weeks"),
            ("rp=&db=a", "rp=two%20weeks&db=a"),
            ("rp&db=a&rp=", "rp=two%20weeks&db=a&rp="),
            ("db=a&rp=x", "db=a&rp=x"),
        ] {
            let (out, _) = rewritten(query, Dialect::V1, Some("two weeks")).unwrap();
            assert_eq!(out, sent);
        }
    }

    #[test]
    fn what_only_some_servers_see_is_not_sent() {
        let (out, _) = rewritten("a;precision=s&db=a&x=%&y=1;rp=z&p=q", Dialect::V1, None).unwrap();
        assert_eq!(out, "db=a&p=q");
    }
}
