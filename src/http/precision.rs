//! The unit of a write's timestamps, as each InfluxDB spells it. Pure.
//!
//! InfluxDB 1.6 silently takes a unit that it does not know for nanoseconds, and each generation
//! knows other spellings. So a relay reads them all, refuses the rest, and tells each backend the
//! one spelling that its dialect is sure to know.

/// The unit of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names are the units'")]
pub enum Precision {
    Nanosecond,
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
}

/// Which generation of InfluxDB a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `/write`: `n`, `u`, `ms`, `s`, `m`, `h`.
    V1,
    /// `/api/v2/write`: `ns`, `us`, `ms`, `s`.
    V2,
    /// `/api/v3/write_lp`: `nanosecond` … `second`, and `auto`. Short spellings came later, so the
    /// long ones are sent.
    V3,
}

impl Precision {
    /// Nanoseconds of one unit.
    pub const fn unit_ns(self) -> i64 {
        match self {
            Self::Nanosecond => 1,
            Self::Microsecond => 1_000,
            Self::Millisecond => 1_000_000,
            Self::Second => 1_000_000_000,
            Self::Minute => 60 * 1_000_000_000,
            Self::Hour => 3600 * 1_000_000_000,
        }
    }

    /// A moment in this unit, cut down to it; `ns` counts nanoseconds since 1970.
    pub const fn of_ns(self, ns: i64) -> i64 {
        ns.div_euclid(self.unit_ns())
    }

    /// Reads what a client called its unit; `None` if this dialect has no such unit.
    ///
    /// The micro sign comes as U+00B5 or as the Greek letter U+03BC. What v3 calls `auto` is
    /// nanoseconds to us: stamps of today in that unit are what it guesses right.
    pub fn of(unit: &[u8], dialect: Dialect) -> Option<Self> {
        let v3 = dialect == Dialect::V3;
        match unit {
            b"n" | b"ns" => Some(Self::Nanosecond),
            b"u" | b"us" => Some(Self::Microsecond),
            b"\xc2\xb5" | b"\xc2\xb5s" | b"\xce\xbc" | b"\xce\xbcs" => Some(Self::Microsecond),
            b"ms" => Some(Self::Millisecond),
            b"s" => Some(Self::Second),
            b"m" if dialect == Dialect::V1 => Some(Self::Minute),
            b"h" if dialect == Dialect::V1 => Some(Self::Hour),
            b"auto" | b"nanosecond" if v3 => Some(Self::Nanosecond),
            b"microsecond" if v3 => Some(Self::Microsecond),
            b"millisecond" if v3 => Some(Self::Millisecond),
            b"second" if v3 => Some(Self::Second),
            _ => None,
        }
    }

    /// The spelling that every server of this dialect knows; v2 and v3 have no minute and hour.
    pub const fn spelling(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (Self::Nanosecond, Dialect::V1) => "n",
            (Self::Nanosecond, Dialect::V2) => "ns",
            (Self::Nanosecond, Dialect::V3) => "nanosecond",
            (Self::Microsecond, Dialect::V1) => "u",
            (Self::Microsecond, Dialect::V2) => "us",
            (Self::Microsecond, Dialect::V3) => "microsecond",
            (Self::Millisecond, Dialect::V1 | Dialect::V2) => "ms",
            (Self::Millisecond, Dialect::V3) => "millisecond",
            (Self::Second, Dialect::V1 | Dialect::V2) => "s",
            (Self::Second, Dialect::V3) => "second",
            (Self::Minute, _) => "m",
            (Self::Hour, _) => "h",
        }
    }
}

impl Dialect {
    /// What the client is told about a unit that is none.
    pub const fn precision_complaint(self) -> &'static str {
        match self {
            Self::V1 => "invalid precision (use n, u, ms, s, m or h)",
            Self::V2 => "invalid precision (use ns, us, ms or s)",
            Self::V3 => {
                "invalid precision (use auto, nanosecond, microsecond, millisecond or second)"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Precision};

    #[test]
    fn what_is_sent_is_read_back_as_the_same_unit() {
        for dialect in [Dialect::V1, Dialect::V2, Dialect::V3] {
            for unit in [
                "n", "ns", "u", "us", "µ", "μ", "µs", "μs", "ms", "s", "m", "h",
            ] {
                let Some(precision) = Precision::of(unit.as_bytes(), dialect) else {
                    assert!(
                        matches!(unit, "m" | "h") && dialect != Dialect::V1,
                        "{unit}"
                    );
                    continue;
                };
                let spelling = precision.spelling(dialect);
                assert_eq!(Precision::of(spelling.as_bytes(), dialect), Some(precision));
            }
        }
    }

    #[test]
    fn an_unknown_unit_is_none() {
        for unit in [
            "",
            "N",
            "S",
            "bogus",
            "min",
            "second",
            "auto",
            "\u{b5}\u{b5}",
            "n ",
        ] {
            assert_eq!(Precision::of(unit.as_bytes(), Dialect::V1), None, "{unit}");
        }
    }
}
