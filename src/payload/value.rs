//! The value of a field, and the time of a point: which are right, and in range. Pure.
//!
//! ```text
//!  1  1.  .5  -1e-3    floats: finite
//!  1i  -1i             integers of 64 bits; 1u without a sign
//!  t  True  FALSE      ten words in all
//!  1700000000          a time: a whole number, between -2^63 + 2 and 2^63 - 2 in nanoseconds
//! ```
//!
//! InfluxDB takes no `NaN`, no `inf`, and no sign but `-`.

use crate::payload::line::are_digits;
use crate::payload::point::skip_blanks;

/// A number or a boolean.
pub(super) struct Value {
    /// The `,` or space behind it, or the end.
    pub(super) end: usize,
    /// Whether it is an unsigned integer.
    pub(super) is_unsigned: bool,
}

/// The number or boolean that begins at `start` and ends before a `,`, a space or the end.
pub(super) fn unquoted(line: &[u8], start: usize) -> Option<Value> {
    match line.get(start)? {
        b'0'..=b'9' | b'.' | b'-' => number(line, start),
        _ => boolean(line, start),
    }
}

/// `scanBoolean`.
fn boolean(line: &[u8], start: usize) -> Option<Value> {
    let rest = &line[start..];
    let is_end = |byte: &u8| matches!(byte, b',' | b' ');
    let length = rest.iter().position(is_end).unwrap_or(rest.len());
    let is_right = matches!(
        &rest[..length],
        b"t" | b"T" | b"true" | b"True" | b"TRUE" | b"f" | b"F" | b"false" | b"False" | b"FALSE"
    );
    is_right.then_some(Value {
        end: start + length,
        is_unsigned: false,
    })
}

/// `scanNumber`: that it is one, and in the range of its type.
fn number(line: &[u8], start: usize) -> Option<Value> {
    /// What has fewer bytes is in range, whatever they are.
    const INTEGER_BYTES_SAFE: usize = 18;
    const FLOAT_BYTES_SAFE: usize = 24;
    let is_negative = line[start] == b'-';
    let whole = start + usize::from(is_negative);
    let mut at = skip_digits(line, whole);
    let mut digits = at - whole;
    let has_point = line.get(at) == Some(&b'.');
    if has_point {
        let fraction = at + 1;
        at = skip_digits(line, fraction);
        digits += at - fraction;
    }
    if digits == 0 {
        return None;
    }
    let text = |end| std::str::from_utf8(&line[start..end]).ok();
    let mut is_unsigned = false;
    match line.get(at) {
        Some(b'i') if !has_point => {
            if at - start > INTEGER_BYTES_SAFE {
                text(at)?.parse::<i64>().ok()?;
            }
            at += 1;
        }
        Some(b'u') if !has_point && !is_negative => {
            if at - start > INTEGER_BYTES_SAFE {
                text(at)?.parse::<u64>().ok()?;
            }
            is_unsigned = true;
            at += 1;
        }
        exponent => {
            let has_exponent = matches!(exponent, Some(b'e' | b'E'));
            if has_exponent {
                let sign = usize::from(matches!(line.get(at + 1), Some(b'+' | b'-')));
                let power = at + 1 + sign;
                at = skip_digits(line, power);
                if at == power {
                    return None;
                }
            }
            if has_exponent || at - start > FLOAT_BYTES_SAFE {
                let value: f64 = text(at)?.parse().ok()?;
                if !value.is_finite() {
                    return None;
                }
            }
        }
    }
    let is_end = matches!(line.get(at), None | Some(b',' | b' '));
    is_end.then_some(Value {
        end: at,
        is_unsigned,
    })
}

/// The first byte at or behind `at` that is no digit, or the end.
#[inline]
fn skip_digits(line: &[u8], mut at: usize) -> usize {
    while line.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// What stands where a time would.
pub(super) enum Time {
    /// A time.
    Right,
    /// Nothing but blanks.
    Missing,
    /// Something else, or a time out of range.
    ///
    /// Stricter: behind a newline that its parser alone sees within a key, as in `m\\\\ a=" v=1 ⏎"`,
    /// InfluxDB does not read on, and dates the point itself.
    Wrong,
}

/// A whole number, in range in nanoseconds, with only spaces behind it: `scanTime`, `SafeCalcTime`.
pub(super) fn time(line: &[u8], fields_end: usize, unit_ns: i64) -> Time {
    let start = skip_blanks(line, fields_end);
    let (is_negative, digits) = match line.get(start) {
        None => return Time::Missing,
        Some(b'-') => (true, start + 1),
        Some(_) => (false, start),
    };
    let (magnitude, count) = leading_number(&line[digits..]);
    let end = digits + count;
    let is_last = line[end..].iter().all(|&byte| byte == b' ');
    if count == 0 || !is_last {
        return Time::Wrong;
    }
    // The magnitude of the smallest would be out of range in any unit.
    let units = magnitude.and_then(|units| i64::try_from(units).ok());
    let units = units.map(|units| if is_negative { -units } else { units });
    match units.and_then(|units| units.checked_mul(unit_ns)) {
        Some(TIME_MIN..=TIME_MAX) => Time::Right,
        _ => Time::Wrong,
    }
}

/// The earliest and the last nanosecond that InfluxDB takes.
const TIME_MIN: i64 = i64::MIN + 2;
const TIME_MAX: i64 = i64::MAX - 1;

/// The whole number at the start of the bytes, and how many digits it has; no number if more than 19
/// of them count.
fn leading_number(bytes: &[u8]) -> (Option<u64>, usize) {
    /// So many digits fit in any case.
    const DIGITS_MAX: usize = 19;
    let (mut rest, mut sum) = (bytes, 0_u64);
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        if !are_digits(*word) || bytes.len() - behind.len() > DIGITS_MAX {
            break;
        }
        sum = sum * 100_000_000 + eight_digits(*word);
        rest = behind;
    }
    let mut count = bytes.len() - rest.len();
    while let Some(&digit @ b'0'..=b'9') = bytes.get(count) {
        if count == DIGITS_MAX {
            return many_digits(bytes);
        }
        sum = sum * 10 + u64::from(digit - b'0');
        count += 1;
    }
    (Some(sum), count)
}

/// The same for more digits, which may begin with zeros.
#[cold]
fn many_digits(bytes: &[u8]) -> (Option<u64>, usize) {
    let count = skip_digits(bytes, 0);
    let text = std::str::from_utf8(&bytes[..count]);
    (text.ok().and_then(|text| text.parse().ok()), count)
}

/// The number that eight digits say: neighbours are joined, then pairs, then fours.
fn eight_digits(word: [u8; 8]) -> u64 {
    let ones = u64::from_le_bytes(word) & 0x0F0F_0F0F_0F0F_0F0F;
    let pairs = (ones.wrapping_mul(10 << 8 | 1) >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_FFFF_0000_FFFF;
    fours.wrapping_mul(10_000 << 32 | 1) >> 32
}

#[cfg(test)]
mod tests {
    use super::{Time, eight_digits, leading_number, time, unquoted};

    fn takes(value: &str) -> Option<bool> {
        let found = ["", ",w=1", " 5"].map(|rest| {
            let line = [value, rest].concat();
            unquoted(line.as_bytes(), 0).map(|found| (found.end, found.is_unsigned))
        });
        assert!(found.iter().all(|one| *one == found[0]), "{value:?}");
        found[0].map(|(end, is_unsigned)| {
            assert_eq!(end, value.len(), "{value:?}");
            is_unsigned
        })
    }

    #[test]
    fn values_that_are_right_are_taken() {
        const WORDS: &str = "0 1 -1 -0 01 1. .5 -.5 -1. 1.5 1e3 1E3 1e+3 1e-3 1.e3 .5e3 -.5E-3 0e99999 \
            1e-99999 1.7976931348623157e308 1234567890123456789012345.5 0i 1i -1i -0i \
            999999999999999999i 9223372036854775807i -9223372036854775808i \
            00000000000000000000001i t T true True TRUE f F false False FALSE";
        let (digits, zeros) = ("1".repeat(300), "0".repeat(400));
        let odd = [digits.as_str(), &zeros];
        for value in WORDS.split(' ').chain(odd) {
            assert_eq!(takes(value), Some(false), "{value:?}");
        }
        for value in [
            "0u",
            "1u",
            "18446744073709551615u",
            "000000000000000000000001u",
        ] {
            assert_eq!(takes(value), Some(true), "{value:?}");
        }
    }

    #[test]
    fn values_that_are_wrong_are_not() {
        const WORDS: &str = "- . -. --1 +1 1+ 1- 1-1 1.1.1 1.. 1e 1e+ 1e3.5 1e3e3 e3 -e3 .e3 1ee3 1e++3 i \
            -i .i 1.i 1.0i 1e3i 1ii 1i2 i1 9223372036854775808i -9223372036854775809i \
            99999999999999999999i u -1u 1.u 1uu 1iu 1ui 1u2 18446744073709551616u 1e999 \
            -1e999 1.7976931348623159e308 NaN nan N n inf Inf -inf 0x10 1_0 1x tr tRUE \
            TRue truee fa fALSE falsee yes a";
        let digits = "9".repeat(400);
        let odd = ["", "1\t", "1\r", "1\"", "t\r", "\\", "\\1", &digits];
        for value in WORDS.split(' ').chain(odd) {
            assert_eq!(takes(value), None, "{value:?}");
        }
    }

    #[test]
    fn times_have_a_range_in_nanoseconds() {
        let right = |text: &str, unit| {
            let line = ["v ", text].concat();
            matches!(time(line.as_bytes(), 1, unit), Time::Right)
        };
        for unit in [
            1,
            1_000,
            1_000_000,
            1_000_000_000,
            60_000_000_000,
            3_600_000_000_000,
        ] {
            for limit in [i128::from(i64::MAX - 1), i128::from(i64::MIN + 2)] {
                let last = limit / i128::from(unit);
                assert!(right(&last.to_string(), unit), "{last} {unit}");
                let beyond = last + limit.signum();
                assert!(!right(&beyond.to_string(), unit), "{beyond} {unit}");
            }
            for wrong in [
                "9223372036854775808",
                "-9223372036854775809",
                "18446744073709551617",
            ] {
                assert!(!right(wrong, unit));
            }
        }
        for text in [
            "1",
            "-1",
            "0",
            "-0",
            " 1",
            "\t\0 1",
            "1  ",
            "0000000000000000000000000001",
        ] {
            assert!(right(text, 1), "{text:?}");
        }
        for text in [
            "-", "--1", "+1", "1.", "1e3", "1\t", "1\0", "1 1", "1\n", "\n", "x", "1\r", "\r",
        ] {
            assert!(!right(text, 1), "{text:?}");
        }
        assert!(!right("10000000000000000000000000000", 1));
        for blank in ["", " ", "\t\0 "] {
            let line = ["v ", blank].concat();
            assert!(matches!(time(line.as_bytes(), 1, 1), Time::Missing));
        }
    }
    #[test]
    fn digits_are_read_eight_at_a_time() {
        for number in [0, 1, 7_654_321, 12_345_678, 90_000_009, 99_999_999] {
            let text = format!("{number:08}");
            assert_eq!(eight_digits(text.as_bytes().try_into().unwrap()), number);
        }
        let digits = "1234567890123456789012345";
        for count in 0..=digits.len() {
            for rest in ["", "x", " ", ".123456789"] {
                let text = [&digits[..count], rest].concat();
                let number = if count == 0 {
                    Some(0)
                } else {
                    digits[..count].parse().ok()
                };
                assert_eq!(leading_number(text.as_bytes()), (number, count), "{text}");
            }
        }
        assert_eq!(leading_number(&[b'0'; 100]), (Some(0), 100));
    }
}
