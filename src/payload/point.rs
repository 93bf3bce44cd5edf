//! One line of line protocol as InfluxDB reads it: where it ends, and whether it has a time. Pure.
//!
//! The danger is a line whose end, or whose time, the relay and the backend see in two places. So
//! this follows the parser of InfluxDB 1.x (`models/points.go`) rule by rule, odd ones included:
//!
//! ```text
//!  cpu,host=a\ b  load="x y",n=1i  1700000000000000000
//!  ╰── key ────╯ ╰─── fields ───╯ ╰───── time ──────╯
//!     a space ends it, unless the byte before is `\`
//!                     a space ends them, unless it is in a string or `\` escapes it
//! ```
//!
//! - A newline ends a line unless it is in a string or escaped (`scanLine`). A quote begins a string
//!   only after the line's first space, and only where `=` outnumber `,` — in a value, that is.
//! - In the key a quote is a letter like any other.
//! - Blanks between the parts are space, tab and NUL (`skipWhitespace`); behind a time only spaces.

use memchr::{memchr, memchr2, memchr3};

/// Where a line ends, and what ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineEnd {
    /// The index of the newline, or the length of the body.
    pub(super) at: usize,
    /// What is there.
    pub(super) by: EndedBy,
}

/// What ends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndedBy {
    /// A newline.
    Newline,
    /// The end of the body; a newline put there would end it too.
    Body,
    /// The end of the body, within a string: a newline put there would be one more byte of it.
    BodyInString,
    /// The end of the body, right behind a `\` or behind a newline that one escapes.
    BodyAfterEscape,
}

/// What a line amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Blank, or a comment.
    Nothing,
    /// Passed on as it is: it has a time, or something where a time would be, or is no point.
    AsItIs,
    /// A point without a time, which belongs at this index of the line, behind a space.
    Undated(usize),
    /// Kills the `influxd` that takes it: see [`crashes_influxd`].
    Poison,
}

/// [`line_end`], with a short cut for a line without a quote or `\`.
pub(super) fn next_line_end(body: &[u8], start: usize) -> LineEnd {
    match memchr3(b'\n', b'"', b'\\', &body[start..]).map(|found| start + found) {
        None => LineEnd {
            at: body.len(),
            by: EndedBy::Body,
        },
        Some(at) if body[at] == b'\n' => LineEnd {
            at,
            by: EndedBy::Newline,
        },
        Some(_) => line_end(body, start),
    }
}

/// Where the line that begins at `start` ends: `scanLine`.
pub(super) fn line_end(body: &[u8], start: usize) -> LineEnd {
    let end = |at, by| LineEnd { at, by };
    let mut at = start;
    // Up to the first space quotes mean nothing.
    loop {
        let Some(found) = memchr3(b' ', b'\\', b'\n', &body[at..]) else {
            return end(body.len(), EndedBy::Body);
        };
        at += found;
        match body[at] {
            b' ' => break,
            b'\n' => return end(at, EndedBy::Newline),
            _ if is_last_escape(body, at) => return end(body.len(), EndedBy::BodyAfterEscape),
            _ => at += 2,
        }
    }
    let (mut equals, mut commas) = (0_usize, 0_usize);
    while let Some(&byte) = body.get(at) {
        match byte {
            b'\n' => return end(at, EndedBy::Newline),
            b'\\' if is_last_escape(body, at) => return end(body.len(), EndedBy::BodyAfterEscape),
            b'\\' => at += 1,
            b'=' => equals += 1,
            b',' => commas += 1,
            b'"' if equals > commas => match string_end(body, at + 1) {
                StringEnd::At(quote) => at = quote,
                StringEnd::Open => return end(body.len(), EndedBy::BodyInString),
                StringEnd::OpenAfterEscape => return end(body.len(), EndedBy::BodyAfterEscape),
            },
            _ => {}
        }
        at += 1;
    }
    end(body.len(), EndedBy::Body)
}

/// Whether the `\` at `at` is the last byte, or escapes a newline that is.
fn is_last_escape(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at + 1..], [] | [b'\n'])
}

/// Where a string ends.
pub(super) enum StringEnd {
    /// Its closing quote.
    At(usize),
    /// Not in these bytes.
    Open,
    /// Not in these bytes, the last of which is a `\` or escaped.
    OpenAfterEscape,
}

/// Where the string ends whose first byte behind the quote is at `at`.
pub(super) fn string_end(bytes: &[u8], mut at: usize) -> StringEnd {
    loop {
        let Some(found) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) else {
            return StringEnd::Open;
        };
        at += found;
        if bytes[at] == b'"' {
            return StringEnd::At(at);
        }
        if is_last_escape(bytes, at) {
            return StringEnd::OpenAfterEscape;
        }
        at += 2;
    }
}

/// Reads one line, without the newline that ends it: `ParsePointsWithPrecision`, `parsePoint`.
pub(super) fn read(line: &[u8], by: EndedBy) -> Reading {
    let start = skip_blanks(line, 0);
    // A newline left at the end is in a string that stays open, or behind a `\`. InfluxDB cuts it
    // off, and sees a last `\`, behind which nothing can be put: it would be escaped.
    let (line, is_escaped) = match line {
        [rest @ .., b'\n'] => (rest, by != EndedBy::BodyInString),
        _ => (line, by == EndedBy::BodyAfterEscape),
    };
    match line.get(start) {
        None | Some(b'#') => return Reading::Nothing,
        Some(b',') => return Reading::AsItIs,
        Some(_) => {}
    }
    let Some(key_end) = key_end(line, start) else {
        return Reading::AsItIs;
    };
    let Some(fields) = Fields::find(line, skip_blanks(line, key_end)) else {
        return Reading::AsItIs;
    };
    if fields.crash_influxd(line) {
        return Reading::Poison;
    }
    match fields.place_for_time(line) {
        Some(at) if !is_escaped => Reading::Undated(at),
        _ => Reading::AsItIs,
    }
}

/// The first byte at or behind `at` that is not a blank: `skipWhitespace`.
pub(super) fn skip_blanks(line: &[u8], at: usize) -> usize {
    let blanks = line[at..]
        .iter()
        .take_while(|&&byte| is_blank(byte))
        .count();
    at + blanks
}

/// What InfluxDB skips before and between the parts of a line.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0)
}

/// The space that ends the key which begins at `start`: `scanMeasurement`, `scanTags`.
fn key_end(line: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr(b' ', line.get(at..)?)?;
        if line[at - 1] != b'\\' {
            return Some(at);
        }
        at += 1;
    }
}

/// The field section of one line: `scanFields`, but for the values, which are the backend's business.
struct Fields {
    start: usize,
    end: usize,
    /// Whether the section ends in a string, or in a key without a value, which InfluxDB lets pass
    /// where a string before it has a `=` behind it.
    ends_in_text: bool,
    /// Whether the last byte is escaped.
    ends_in_escape: bool,
}

impl Fields {
    /// The section that begins at `start`; `None` if keys and values do not pair,
    /// or a string stays open: then no InfluxDB takes it, dated or not.
    fn find(line: &[u8], start: usize) -> Option<Self> {
        let (mut equals, mut commas) = (0_usize, 0_usize);
        let (mut last_equals, mut last_comma, mut escaped) = (0, 0, 0);
        let mut at = start;
        while let Some(&byte) = line.get(at) {
            match byte {
                b' ' => break,
                b'\\' if at + 1 < line.len() => {
                    at += 1;
                    escaped = at;
                }
                b'=' => (equals, last_equals) = (equals + 1, at),
                b',' => (commas, last_comma) = (commas + 1, at),
                b'"' if equals > commas => match string_end(line, at + 1) {
                    StringEnd::At(quote) => at = quote,
                    StringEnd::Open | StringEnd::OpenAfterEscape => return None,
                },
                _ => {}
            }
            at += 1;
        }
        // `=` and `,` take turns, and the last `=` has a value.
        let is_right = equals == commas + 1 && last_equals + 1 < at;
        is_right.then(|| Self {
            start,
            end: at,
            ends_in_text: line[last_equals + 1] == b'"' || last_comma > last_equals,
            ends_in_escape: escaped + 1 == at,
        })
    }

    /// Where a time is to be put, if there is none and nothing else in its place either.
    ///
    /// Right behind the fields, with two exceptions for the sake of the backend's judgement. Behind
    /// a time only spaces are right, so other blanks stay before it. And a `\r` at the end of the
    /// line stays there: InfluxDB refuses such a line with a time as without, VictoriaMetrics takes
    /// both. But behind a string InfluxDB takes the `\r` for a part of the value; so it stays that.
    fn place_for_time(&self, line: &[u8]) -> Option<usize> {
        let rest = &line[self.end..];
        if rest.is_empty() {
            let before_return = line.ends_with(b"\r")
                && !(self.ends_in_text || self.ends_in_escape || line.ends_with(b"\"\r"));
            return Some(self.end - usize::from(before_return));
        }
        match &rest[skip_blanks(rest, 0)..] {
            b"\r" => Some(self.end),
            b"" if rest.iter().all(|&byte| byte == b' ') => Some(self.end),
            b"" => Some(line.len()),
            _ => None,
        }
    }

    /// Whether an `influxd` that takes this point dies of it; see [`crashes_influxd`].
    fn crash_influxd(&self, line: &[u8]) -> bool {
        let fields = &line[self.start..self.end];
        fields.ends_with(b"=\"") && crashes_influxd(fields)
    }
}

/// Whether a field section that InfluxDB's parser takes kills it later.
///
/// The parser (`scanFields`) and the iterator that the storage engine reads the fields with
/// (`FieldIterator`: `scanTo`, `scanFieldValue`) differ in what ends a key. To the parser `\\` is a
/// pair and the `=` in `\\="="` ends a key; to the iterator an `=` behind any `\` is part of the key, so
/// that the key is `\\="` and the value a lone quote. `StringValue` cuts the first and the last byte
/// off it, `[1:0]`, which panics where nobody recovers. Any other way to a lone quote at the end
/// (`x=","=3,"="`) does the same. So this walks the fields as the iterator does, and says whether the
/// last value is that quote. Values that are not strings fail with an error instead.
///
/// Linear in the section, and asked only where the section ends in `="`.
fn crashes_influxd(fields: &[u8]) -> bool {
    let mut at = 0;
    while at < fields.len() {
        // The key: up to an `=` that is not behind a `\`.
        loop {
            match memchr(b'=', &fields[at..]) {
                None => return false,
                Some(found) => at += found + 1,
            }
            if at < 2 || fields[at - 2] != b'\\' {
                break;
            }
        }
        if &fields[at..] == b"\"" {
            return true;
        }
        // The value: up to a `,` that is not in a string; `\` escapes only `"` and itself.
        let mut in_string = false;
        while let Some(&byte) = fields.get(at) {
            match byte {
                b'\\' if matches!(fields.get(at + 1), Some(b'"' | b'\\')) => at += 1,
                b'"' => in_string = !in_string,
                b',' if !in_string => break,
                _ => {}
            }
            at += 1;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{EndedBy, Reading, line_end, read};

    fn at(line: &str) -> Option<usize> {
        match read(line.as_bytes(), EndedBy::Newline) {
            Reading::Undated(at) => Some(at),
            _ => None,
        }
    }

    #[test]
    fn a_time_belongs_behind_the_fields() {
        for (line, place) in [
            ("m v=1", 5),
            ("m v=1   ", 5),
            ("m  v=1", 6),
            (" \t\0m v=1", 8),
            ("m v=1 \t", 7),         // behind a time only spaces are right
            ("m v=1\r", 5),          // refused by InfluxDB either way
            ("m v=\"a\"\r", 8),      // part of the value, to InfluxDB
            ("m v=\"a\"b\r", 9),     // the same
            ("m v=\"a\"=t,b\r", 12), // the same, of a key
            ("m v=1 \r", 5),
            ("m v=\"a 1\"", 9),
            ("m v=\"a\n\"", 8),
            ("m v=\"a\\\" b\"", 11),
            ("m v=\"a\\\\\" ", 9),
            ("m\\ x v=1", 8),
            ("m,a=\\ \\,b v=1", 13),
            ("m,a=\"b v=1", 10), // in the key a quote is a letter
            ("m a\\ b=1", 8),
            ("m a\\=b=1", 8),
            ("m a\"b=1", 7), // and in a field's key
            ("m \\\"=\"1\"", 8),
            ("m v=1u", 6), // for the backend to judge
            ("m v=1,w=\"=,\"", 12),
        ] {
            assert_eq!(at(line), Some(place), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_undated_point_stays_as_it_is() {
        for line in [
            "m v=1 1",
            "m v=1 -1",
            "m v=1 1 ",
            "m v=1  1",
            "m v=1 \t1",
            "m v=1 1.5",
            "m v=1 1 1",
            "m v=1 x",
            "m v=1 1\r",
            "m v=1 #c",
            "m",
            "m,a=b",
            "m,a=b ",
            "m v",
            "m v=",
            "m v=1,",
            "m v=1,w",
            "m v= 1",
            "m v=\"a",
            "m v=\"a\\\"",
            ",a=b v=1",
            "\r",
            "m\\ v=1",
            "m v=1 \\",
        ] {
            assert_eq!(
                read(line.as_bytes(), EndedBy::Newline),
                Reading::AsItIs,
                "{line:?}"
            );
        }
        for line in ["", " ", " \t\0", "#", "# m v=1", " #m v=1"] {
            assert_eq!(
                read(line.as_bytes(), EndedBy::Newline),
                Reading::Nothing,
                "{line:?}"
            );
        }
    }

    #[test]
    fn poison_and_its_relatives_are_seen_and_nothing_else_is() {
        for line in [
            r#"m \\="=""#,
            r#"0 \\="=""#,
            r#"m,a=b \\="=""#,
            r#"m \\="=" 1"#,
            r#"m \\="="  1 "#,
            r#"m v=1,\\="=" 1"#,
            r#"m a\\="b=" 1"#,
            r#"m a\\\\="=""#,
            r#"m \0=","=3,"=""#,
            r#"m x=","=3,"=""#,
            r#"m x=","=t,"=""#,
        ] {
            assert_eq!(
                read(line.as_bytes(), EndedBy::Newline),
                Reading::Poison,
                "{line:?}"
            );
        }
        for line in [
            r#"m s="=""#,
            r#"m s="YQ==" 1"#,
            r#"m s="a\"=""#,
            r#"m s="\\=""#,
            r#"m a\=b="=""#,
            r#"m a=",=",b="=""#,
        ] {
            assert_ne!(
                read(line.as_bytes(), EndedBy::Newline),
                Reading::Poison,
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_line_ends_where_influxdb_ends_it() {
        use EndedBy::{Body, BodyAfterEscape, BodyInString, Newline};
        for (body, at, by) in [
            ("m v=1\nx", 5, Newline),
            ("m v=1", 5, Body),
            ("m v=\"a\nb\"\nx", 9, Newline),
            ("m v=\"a\nb", 8, BodyInString),
            ("m v=\"a\\\"\nb\"\nx", 11, Newline),
            ("m\\\nx v=1\n", 8, Newline),
            ("m\"\n", 2, Newline),        // no string before the first space
            (" m=\"a\n\"\n", 7, Newline), // which may be the first byte
            ("m \"a\n\"", 4, Newline),    // nor before a `=`
            ("m a=1,\"\n\"", 7, Newline), // nor in a key
            ("# =\"\n\"\n", 6, Newline),  // but in a comment
            ("m v=1\\", 6, BodyAfterEscape),
            ("m\\", 2, BodyAfterEscape),
            ("m v=\"\\", 6, BodyAfterEscape),
            ("m v=1\\\n", 7, BodyAfterEscape),
            ("m v=1\\\\", 7, Body),
            ("m v=\"\\\"", 7, BodyInString),
            ("", 0, Body),
        ] {
            let end = line_end(body.as_bytes(), 0);
            assert_eq!((end.at, end.by), (at, by), "{body:?}");
        }
    }
}
