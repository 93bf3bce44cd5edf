//! Durations and sizes as an operator writes them, both ways. Pure.
//!
//! Durations have the syntax of Go's `time.ParseDuration`, without a sign: the Go relay's files
//! hold them. What is printed can be read again.

use std::time::Duration;

/// Longest unit first, with its length in nanoseconds: the order in which a duration is printed.
const SPANS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Largest unit first: the order in which a size is printed.
const SIZES: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// A duration such as `10s`, `1h30m`, `1.5h`, `2µs` or `0`; `None` for anything else, also for a
/// number without a unit, a sign, or more than 2⁶³ nanoseconds.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number_len = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        nanos = nanos.checked_add(span(number, unit)?)?;
        rest = tail;
    }
    let nanos = i64::try_from(nanos).ok()?;
    (!text.is_empty()).then(|| Duration::from_nanos(nanos.unsigned_abs()))
}

/// Nanoseconds of one number with its unit; what a fraction has below one nanosecond is cut.
fn span(number: &str, unit: &str) -> Option<u128> {
    let unit = match unit {
        "µs" | "μs" => "us", // U+00B5 and U+03BC
        other => other,
    };
    let (_, unit_nanos) = SPANS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut nanos = whole.checked_mul(*unit_nanos)?;
    let mut scale = *unit_nanos;
    for digit in fraction.bytes() {
        scale /= 10;
        nanos = nanos.checked_add(u128::from(char::from(digit).to_digit(10)?) * scale)?;
    }
    Some(nanos)
}

/// A duration in the fewest units: `1h30m`, `500ms`, `0s`.
pub fn show_duration(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, nanos) in SPANS {
        if rest >= nanos {
            text.push_str(&(rest / nanos).to_string());
            text.push_str(unit);
            rest %= nanos;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// A size in bytes such as `25MB`, `16KiB` or `4096`; `None` for anything else.
pub fn bytes(text: &str) -> Option<usize> {
    let number_len = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let unit = match unit.trim_start() {
        "" => "B",
        unit => unit,
    };
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit)?;
    usize::try_from(number.parse::<u64>().ok()?.checked_mul(*factor)?).ok()
}

/// A size in the largest unit that divides it: `25MB`, `16KiB`, `4097`.
pub fn show_bytes(bytes: usize) -> String {
    let bytes = bytes as u64;
    match SIZES
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
    {
        None | Some((_, 1)) => bytes.to_string(),
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, duration, show_bytes, show_duration};
    use std::time::Duration;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("500ms", 500_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("100us", 100_000),
            ("2µs", 2_000),
            ("2μs", 2_000),
            ("7ns", 7),
            ("168h", 604_800_000_000_000),
            ("0.1ns", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in [
            "",
            "10",
            "-1s",
            "+1s",
            "1 s",
            "s",
            ".s",
            "1x",
            "1d",
            "1.2.3s",
            "1s5",
            "3000000h",
            "9223372036854775808ns",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_in_both_systems() {
        for (text, size) in [
            ("4096", 4096),
            ("0", 0),
            ("16KiB", 16_384),
            ("25MB", 25_000_000),
            ("25 MB", 25_000_000),
            ("256MiB", 256 << 20),
            ("10GiB", 10 << 30),
            ("3kB", 3000),
            ("7B", 7),
        ] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in [
            "",
            "MB",
            "1.5MB",
            "-1",
            "1K",
            "1KB",
            "1mb",
            "99999999999999999999",
            "99999999TiB",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for nanos in (0..64)
            .map(|bit| (1u64 << bit) / 3)
            .chain([5_400_000_000_000, 90_000_000_000])
        {
            let span = Duration::from_nanos(nanos);
            assert_eq!(duration(&show_duration(span)), Some(span));
        }
        for size in (0..48).flat_map(|bit| [1usize << bit, (1 << bit) + 1, (1 << bit) * 1000]) {
            assert_eq!(bytes(&show_bytes(size)), Some(size));
        }
        assert_eq!(show_duration(Duration::from_secs(90)), "1m30s");
        assert_eq!(show_bytes(25_000_000), "25MB");
    }
}
