//! Whether one line that came by UDP is a point that every backend takes. Pure.
//!
//! Lines of many senders leave in one datagram, and an `influxd` throws a whole datagram away over
//! one line that it cannot read: a stranger's slip would cost innocents their points. Nobody hears
//! of it, for UDP has no answers. So the relay judges each line first:
//!
//! ```text
//!  cpu,host=a load=0.64 17      Point      packed with others
//!  cpu,host=a load=0.64         Point      the same, behind it is the place for its time
//!  cpu,host=a load=1u           Odd        sent alone: not every backend takes it
//!  cpu,host=a load=             Malformed  sent nowhere
//!  m \\="="                     Poison     sent nowhere: it would kill a backend
//! ```
//!
//! To be trusted the judge follows InfluxDB 1.x to the letter, also where it reads one line twice:
//! first when it parses (`scanKey`, `scanFields`, `scanTime`), then when it takes the fields apart to
//! store them (`FieldIterator`). Where a `\` or a stray byte behind a string makes the two differ,
//! what passes the first may fail the second, which loses the batch as well. Hence two ways here:
//! `usual_fields`, for lines that both can only read alike, and `exact_fields`, which does what
//! they do, one after the other. The second alone would be right, too; a test holds them together.
//!
//! It is stricter than InfluxDB in a few places that no honest sender comes to; they are marked
//! *stricter*. `tests/it/udp_judge.rs` asks a real server.

use crate::limits::KEY_BYTES_MAX;
use crate::payload::key::{Key, Repetition};
use crate::payload::point::{
    EndedBy, Reading, StringEnd, next_line_end, read, skip_blanks, string_end,
};
use crate::payload::value::{Time, time, unquoted};

/// What one line amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Blank, or a comment.
    Nothing,
    /// A point that every InfluxDB takes.
    Point {
        /// Where in the line its time belongs, behind a space, if it has none.
        undated: Option<usize>,
    },
    /// A point that some backends take and others refuse together with all its neighbours: an
    /// unsigned integer, a `\r` at the end, more unsorted tags than are looked at. To be sent alone.
    Odd {
        /// Where in the line its time belongs, behind a space, if it has none.
        undated: Option<usize>,
    },
    /// No point.
    Malformed,
    /// Would kill an `influxd`.
    Poison,
}

/// Judges the line of `body` that begins at `start`, and says where it ends: the index of its
/// newline, or the length of the body. The next line begins one behind. A time counts units of
/// `unit_ns` nanoseconds. Once per line; linear; allocates nothing.
pub fn judge(body: &[u8], start: usize, unit_ns: i64) -> (Line, usize) {
    let end = next_line_end(body, start);
    let line = &body[start..end.at];
    let first = skip_blanks(line, 0);
    let verdict = match line.get(first) {
        None | Some(b'#') => Line::Nothing,
        // Stricter: it would swallow the newline behind it, and the next line with that.
        _ if !stands_alone(line, end.by) => Line::Malformed,
        _ => match weigh(line, first, unit_ns) {
            Line::Malformed => without_return(line, first, unit_ns),
            verdict => verdict,
        },
    };
    (verdict, end.at)
}

/// Whether a newline or a time can be put behind the line: not within a string, nor behind a `\`,
/// which a line that ends in a newline of its own has before that.
fn stands_alone(line: &[u8], by: EndedBy) -> bool {
    matches!(by, EndedBy::Newline | EndedBy::Body) && !line.ends_with(b"\n")
}

/// What is Malformed for a `\r` at its end alone: InfluxDB says "bad timestamp", VictoriaMetrics
/// takes it.
#[cold]
fn without_return(line: &[u8], first: usize, unit_ns: i64) -> Line {
    let Some(rest) = line.strip_suffix(b"\r") else {
        return Line::Malformed;
    };
    if first == rest.len() {
        return Line::Nothing; // a blank line of one who writes `\r\n`
    }
    match weigh(rest, first, unit_ns) {
        Line::Point { undated } => Line::Odd { undated },
        verdict => verdict,
    }
}

/// Judges a line that begins at `first` and may end where it ends.
fn weigh(line: &[u8], first: usize, unit_ns: i64) -> Line {
    let Some(key) = Key::read(line, first) else {
        return Line::Malformed;
    };
    if key.is_fatal() {
        return Line::Poison;
    }
    let fields = skip_blanks(line, key.end);
    // Where the whole line is no longer than a key may be, each of its series keys fits.
    let is_usual = is_ascii(line) && line.len() + SEPARATOR_BYTES <= KEY_BYTES_MAX;
    let fields = match usual_fields(line, fields) {
        Usual::Fields(found) if is_usual => found,
        Usual::Malformed => return Line::Malformed,
        _ => match exact_fields(line, first, &key, fields) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        },
    };
    let repetition = key.repetition(line, first);
    let undated = match time(line, fields.end, unit_ns) {
        Time::Right => None,
        Time::Missing => match place(line, fields.end) {
            None => return Line::Malformed,
            at => at,
        },
        Time::Wrong => return Line::Malformed,
    };
    match repetition {
        Repetition::Some => Line::Malformed,
        Repetition::None if !fields.has_unsigned => Line::Point { undated },
        Repetition::None | Repetition::Unknown => Line::Odd { undated },
    }
}

/// Whether all bytes are ASCII: eight at a time, the last of which may be looked at twice.
fn is_ascii(line: &[u8]) -> bool {
    let Some(last) = line.last_chunk::<8>() else {
        return line.is_ascii();
    };
    let (words, _) = line.as_chunks::<8>();
    let seen = words.iter().fold(u64::from_le_bytes(*last), |seen, word| {
        seen | u64::from_le_bytes(*word)
    });
    seen & 0x8080_8080_8080_8080 == 0
}

/// Where a time belongs that is missing.
fn place(line: &[u8], fields_end: usize) -> Option<usize> {
    if fields_end == line.len() && !line.ends_with(b"\r") {
        return Some(fields_end);
    }
    match read(line, EndedBy::Newline) {
        Reading::Undated(at) => Some(at),
        _ => None,
    }
}

// ---- Fields ------------------------------------------------------------------------------------

/// A field section that is right.
struct Fields {
    /// Its end: the end of the line, or a space.
    end: usize,
    /// Whether an integer is unsigned, which is a matter of the backend's version and setting.
    has_unsigned: bool,
}

/// What [`usual_fields`] finds.
enum Usual {
    /// Fields that both readings of InfluxDB see alike.
    Fields(Fields),
    /// None, in any reading.
    Malformed,
    /// Ask [`exact_fields`].
    Unusual,
}

/// Reads fields of the form `key=value,key=value`, where no key has a `\` and nothing stands between
/// a string and the `,` behind it. UTF-8 and lengths are not looked at.
fn usual_fields(line: &[u8], start: usize) -> Usual {
    let (mut at, mut has_unsigned) = (start, false);
    loop {
        let key = at;
        at = loop {
            match line.get(at) {
                None | Some(b' ') => return Usual::Malformed,
                Some(b'=') => break at,
                Some(b'\\' | b',') => return Usual::Unusual,
                Some(_) => at += 1,
            }
        };
        if at == key {
            return Usual::Unusual; // InfluxDB takes a nameless field behind a tab
        }
        at += 1;
        if line.get(at) == Some(&b'"') {
            let StringEnd::At(quote) = string_end(line, at + 1) else {
                return Usual::Malformed;
            };
            at = quote + 1;
        } else {
            let Some(value) = unquoted(line, at) else {
                return Usual::Malformed;
            };
            at = value.end;
            has_unsigned |= value.is_unsigned;
        }
        match line.get(at) {
            None | Some(b' ') => {
                return Usual::Fields(Fields {
                    end: at,
                    has_unsigned,
                });
            }
            Some(b',') => at += 1,
            Some(_) => return Usual::Unusual,
        }
    }
}

/// Reads fields as InfluxDB does, in both its ways, and looks at lengths and UTF-8.
fn exact_fields(line: &[u8], first: usize, key: &Key, start: usize) -> Result<Fields, Line> {
    let fields = scan_fields(line, start).ok_or(Line::Malformed)?;
    store(&line[start..fields.end], key.end - first)?;
    // What is not UTF-8 there fails the batch when the names are saved, and each later batch with
    // a new name as well.
    if std::str::from_utf8(&line[first..key.measurement_end]).is_err() {
        return Err(Line::Malformed);
    }
    Ok(fields)
}

/// The first reading: counts `=` and `,`, and looks at values where it sees a `=`: `scanFields`.
fn scan_fields(line: &[u8], start: usize) -> Option<Fields> {
    let (mut at, mut in_string, mut has_unsigned) = (start, false, false);
    let (mut equals, mut commas) = (0_usize, 0_usize);
    while let Some(&byte) = line.get(at) {
        match byte {
            b'\\' if at + 1 < line.len() => at += 1,
            b'"' if equals > commas => in_string = !in_string,
            _ if in_string => {}
            b' ' => break,
            b',' => commas += 1,
            b'=' => {
                equals += 1;
                // Behind a key there are two bytes at least.
                if matches!(line[at - 1], b' ' | b',') && line[at - 2] != b'\\' {
                    return None;
                }
                if *line.get(at + 1)? != b'"' {
                    let value = unquoted(line, at + 1)?;
                    has_unsigned |= value.is_unsigned;
                    at = value.end;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    (!in_string && equals == commas + 1).then_some(Fields {
        end: at,
        has_unsigned,
    })
}

/// The second reading, which stores the fields: a `=` behind any `\` is part of a key, and in a value
/// `\` escapes only a quote and itself. `key_bytes` is the length of measurement and tags.
fn store(fields: &[u8], key_bytes: usize) -> Result<(), Line> {
    let (mut rest, mut is_right) = (fields, true);
    while !rest.is_empty() {
        let equals = stored_key_end(rest).ok_or(Line::Malformed)?;
        let (name, value) = (&rest[..equals], &rest[equals + 1..]);
        let end = stored_value_end(value);
        is_right &= key_bytes + SEPARATOR_BYTES + name.len() <= KEY_BYTES_MAX
            && std::str::from_utf8(name).is_ok()
            && match &value[..end] {
                // Cut at both ends, which no server survives.
                b"\"" => return Err(Line::Poison),
                [b'"', ..] => true,
                // Stricter: InfluxDB lets pass here what Go can parse, such as `nan` and `0x1p4`.
                value => unquoted(value, 0).is_some_and(|found| found.end == value.len()),
            };
        rest = value.get(end + 1..).unwrap_or_default();
    }
    if is_right {
        Ok(())
    } else {
        Err(Line::Malformed)
    }
}

/// The `=` behind a stored key.
fn stored_key_end(fields: &[u8]) -> Option<usize> {
    let is_end = |&at: &usize| fields[at] == b'=' && (at == 0 || fields[at - 1] != b'\\');
    (0..fields.len()).find(is_end)
}

/// The `,` behind a stored value, or the end.
fn stored_value_end(value: &[u8]) -> usize {
    let (mut at, mut in_string) = (0, false);
    while let Some(&byte) = value.get(at) {
        match byte {
            b'\\' if matches!(value.get(at + 1), Some(b'"' | b'\\')) => at += 1,
            b'"' => in_string = !in_string,
            b',' if !in_string => break,
            _ => {}
        }
        at += 1;
    }
    at
}

/// What InfluxDB puts between a key and a field's name where it stores them.
const SEPARATOR_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::{Line, Usual, exact_fields, is_ascii, judge, usual_fields};
    use crate::limits::{KEY_BYTES_MAX, UNSORTED_TAGS_MAX};
    use crate::payload::key::Key;
    use crate::payload::point::skip_blanks;

    const DATED: Line = Line::Point { undated: None };

    /// The verdict on bytes that are one line.
    fn one(line: impl AsRef<[u8]>) -> Line {
        let line = line.as_ref();
        let (verdict, end) = judge(line, 0, 1);
        assert_eq!(end, line.len(), "{:?}", String::from_utf8_lossy(line));
        // With a neighbour behind it, it is still what it was, or was none to be packed.
        let packed = [line, b"\nm v=1"].concat();
        if judge(&packed, 0, 1) != (verdict, end) {
            assert!(
                matches!(verdict, Line::Malformed | Line::Nothing),
                "{:?}",
                String::from_utf8_lossy(line)
            );
        }
        verdict
    }

    fn undated(at: usize) -> Line {
        Line::Point { undated: Some(at) }
    }

    #[test]
    fn points_are_points() {
        for line in [
            "m v=1 1",
            "m v=1 -1",
            "m v=1 -0",
            "m v=1 00000000000000000000000000000001",
            "m v=1  \t\0 1   ",
            " \t\0m v=1 1",
            "m  v=1 1",
            "m \t\0v=1 1",
            "m,a=b v=1 1",
            "m,b=1,a=2 v=1 1",
            "m,a==b v=1 1",   // the first byte of a tag's value may be anything
            "m,a=\\ b v=1 1", // but a space that is not escaped
            "m,a\\==b v=1 1",
            "m,a=b\\=c v=1 1",
            "m,a=b\\\\\\,c v=1 1", // a `\` escapes in a key, even if it is behind another
            "m,\\,=b v=1 1",
            "m\\,a=b v=1 1",
            "m\\\\ v=1 v=1 1",
            "m=1 v=1 1",
            "m\" v=1 1",
            "\\ v=1 v=1 1",
            "m v=\"a\" 1",
            "m v=\"\" 1",
            "m v=\"a b,c=d\" 1",
            "m v=\"a\nb\" 1",
            "m v=\"\\\"\" 1",
            "m v=\"\\\\\" 1",
            "m v=\"a\\b\" 1",
            "m v=\"a\"b 1", // InfluxDB stores `a"`
            "m v=\"a\",w=t,x=-1i 1",
            "m a\"b=1 1",
            "m a\\ b=1 1",
            "m a\\,b=1 1",
            "m a\\=b=1 1",
            "m \t=1 1", // a field without a name
            "m v=1,v=2 1",
            "m time=1 1", // dropped by InfluxDB, without its neighbours
            "m,time=1 v=1 1",
            "µ,é=ü ö=\"ß\" 1",
        ] {
            assert_eq!(one(line), DATED, "{line:?}");
        }
        for line in [&b"m,a=\xFF v=1 1"[..], b"m,\xFF=a v=1 1", b"m v=\"\xFF\" 1"] {
            assert_eq!(one(line), DATED, "{line:?}");
        }
    }

    #[test]
    fn what_lacks_a_time_has_a_place_for_it() {
        for (line, at) in [
            ("m v=1", 5),
            ("m v=1  ", 5),
            ("m v=1 \t", 7),
            (" \tm v=1", 7),
            ("m v=\"a\"\r", 8), // InfluxDB takes it for a part of the value
            ("m v=\"a\"b", 8),
            ("m v=\"a\n\"", 8),
            ("m v=\"a\"\\\\", 9),
            ("m \\\"=\"1\"", 8),
        ] {
            assert_eq!(one(line), undated(at), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_point_is_malformed() {
        for line in [
            ",a=b v=1 1", // no measurement
            "m",          // no fields
            "m ",
            "m,a=b",
            "m,a=b ",
            "m\\ v=1",
            "m, v=1 1", // tags that lack a part
            "m,a v=1 1",
            "m,a,b=c v=1 1",
            "m,=b v=1 1",
            "m,a= v=1 1",
            "m,a=,b=c v=1 1",
            "m,a=b, v=1 1",
            "m,a=b=c v=1 1",
            "m,a=b,a=c v=1 1", // or are there twice
            "m,a=b,c=d,a=b v=1 1",
            "m,c=d,a=b,b=1,a=b v=1 1",
            "m v 1", // fields that lack one
            "m v= 1",
            "m v=,w=1 1",
            "m =1 1",
            "m v=1,=2 1",
            "m v=1,w 1",
            "m v=1, 1",
            "m v=1,,w=2 1",
            "m ,v=1 1",
            "m v=1=2 1",
            "m v=\"a\"=1 1",
            "m v=\"a\"=5,b 1",
            "m v=\"a 1", // open
            "m v=\"a\\\" 1",
            "m v=1 x", // no time
            "m v=1 1x",
            "m v=1 1.5",
            "m v=1 +1",
            "m v=1 -",
            "m v=1 --1",
            "m v=1 1 1",
            "m v=1 1\t",
            "m v=1 #c",
            "m v=1\t1",
            "m v=1 \\",
            "m\\\\ a=\" v=1 \n\"", // InfluxDB reads up to the newline, and dates it
        ] {
            assert_eq!(one(line), Line::Malformed, "{line:?}");
        }
    }

    #[test]
    fn a_line_that_would_swallow_the_next_is_malformed() {
        for line in [
            "m v=\"a",
            "m\\\\ a=\" v=1 5", // InfluxDB would take it, alone
            "m v=\"a\"\\",      // and this
            "m v=\"a\"\\\n",
            "m v=1 5\\",
            "m v=1 5\\\n",
        ] {
            let line = line.as_bytes();
            assert_eq!(judge(line, 0, 1), (Line::Malformed, line.len()));
        }
        assert_eq!(judge(b"m v=\"a\"\\\n\n", 0, 1), (Line::Malformed, 9));
        assert_eq!(judge(b"m v=1 5\\\n\nm v=1", 0, 1), (Line::Malformed, 9));
    }

    #[test]
    fn names_are_utf8_or_the_batch_is_lost() {
        for line in [
            &b"m\xFF v=1 1"[..],
            b"m\xFF,a=b v=1",
            b"m v\xFF=1 1",
            b"m \xFF=\"a\"",
            b"m v=1,\xC3=2",
        ] {
            assert_eq!(one(line), Line::Malformed, "{line:?}");
        }
    }

    #[test]
    fn nothing_is_nothing() {
        for line in [
            "", " ", " \t\0", "#", "# m v=1", " #m v=1", "\r", " \r", "#\r",
        ] {
            assert_eq!(one(line), Line::Nothing, "{line:?}");
        }
        assert_eq!(judge(b"", 0, 1), (Line::Nothing, 0));
        assert_eq!(judge(b"m v=1 1\n", 8, 1), (Line::Nothing, 8));
    }

    #[test]
    fn what_not_every_backend_takes_goes_alone() {
        for line in [
            "m v=1u 1",
            "m v=1,w=2u 1",
            "m v=1 1\r",
            "m v=\"a\" 1\r",
            "m v=t 1 \r",
        ] {
            assert_eq!(one(line), Line::Odd { undated: None }, "{line:?}");
        }
        for (line, at) in [
            ("m v=1u", 6),
            ("m v=1\r", 5),
            ("m v=t\r", 5),
            ("m v=1u\r", 6),
            ("m v=1 \r", 5),
            ("m v=\"a\" \r", 7),
        ] {
            assert_eq!(one(line), Line::Odd { undated: Some(at) }, "{line:?}");
        }
        for line in [
            "m v=1\r\r",
            "m\r",
            "m v=1 x\r",
            "m v=1 1\r ",
            "m v=-1u",
            "m v=1.u",
            "m v=1u2",
        ] {
            assert_eq!(one(line), Line::Malformed, "{line:?}");
        }
    }

    #[test]
    fn what_kills_an_influxd_is_poison() {
        for line in [
            r#"m \\="=""#,
            r#"m,a=b \\="=" 1"#,
            r#"m v=1,\\="=" 1"#,
            r#"m \0=","=3,"=""#,
            r#"m x=","=t,"=""#,
        ] {
            assert_eq!(one(line), Line::Poison, "{line:?}");
        }
        for (line, verdict) in [
            (r#"m s="=""#, undated(7)),
            (r#"m s="a\"=" 1"#, DATED),
            (r#"m a\=b="=" 1"#, DATED),
            // What the second reading sees otherwise, and fails on.
            (r#"m \\="=\=" 1"#, Line::Malformed),
            (r#"m \\="=,b=",c="x""#, Line::Malformed),
            (r#"m \\="=,b=""#, Line::Poison),
            (r#"m \\="=nan,b=",c="x""#, Line::Malformed),
            (r#"m \\="=5,b=",c="x" 1"#, DATED),
        ] {
            assert_eq!(one(line), verdict, "{line:?}");
        }
    }

    /// `m` with so many tags, of which the greatest comes first.
    fn with_tags(count: usize) -> String {
        let tags: String = (0..count).rev().map(|n| format!(",t{n:05}=1")).collect();
        format!("m{tags} v=1 1")
    }

    #[test]
    fn a_full_list_of_tags_is_poison() {
        for count in 1..=1000 {
            let verdict = if [100, 200, 400, 800].contains(&count) {
                Line::Poison
            } else if count <= UNSORTED_TAGS_MAX {
                DATED
            } else {
                Line::Odd { undated: None }
            };
            assert_eq!(one(with_tags(count)), verdict, "{count}");
        }
        let broken = with_tags(100).replace("v=1", "v=");
        assert_eq!(one(broken), Line::Poison);
    }

    #[test]
    fn a_repeated_tag_is_found_among_as_many_as_are_looked_at() {
        for count in [2, 15, 16, 17, 99, UNSORTED_TAGS_MAX - 1] {
            for twin in [0, count / 2, count - 1] {
                let line = with_tags(count).replace(" v", &format!(",t{twin:05}=2 v"));
                let verdict = if count == 99 {
                    Line::Poison
                } else {
                    Line::Malformed
                };
                assert_eq!(one(line), verdict, "{twin} of {count}");
            }
        }
        // A sorted line has no bound.
        let tags: String = (0..5000).map(|n| format!(",t{n:05}=1")).collect();
        assert_eq!(one(format!("m{tags} v=1 1")), DATED);
        assert_eq!(one(format!("m{tags},t04999=2 v=1 1")), Line::Malformed);
    }

    #[test]
    fn keys_have_a_length() {
        let m = |bytes| "m".repeat(bytes);
        for (line, verdict) in [
            (format!("{} v=1 1", m(KEY_BYTES_MAX - 5)), DATED),
            (format!("{} v=1 1", m(KEY_BYTES_MAX - 4)), Line::Malformed),
            (format!("{} v=1 1", m(KEY_BYTES_MAX + 1)), Line::Malformed),
            (format!("m {}=1 1", m(KEY_BYTES_MAX - 5)), DATED),
            (format!("m {}=1 1", m(KEY_BYTES_MAX - 4)), Line::Malformed),
            (
                format!("m v=1,{}=1 1", m(KEY_BYTES_MAX - 4)),
                Line::Malformed,
            ),
            (format!("m v=\"{}\" 1", m(2 * KEY_BYTES_MAX)), DATED),
        ] {
            assert_eq!(one(&line), verdict, "{} bytes", line.len());
        }
    }

    #[test]
    fn lines_follow_one_another() {
        let body = b"m v=1 1\n\n# c\nbad\nm s=\"a\nb\"\n\\\nm v=1u\nm v=1\r\nlast v=1";
        let (mut start, mut seen) = (0, Vec::new());
        while start < body.len() {
            let (verdict, end) = judge(body, start, 1);
            seen.push((verdict, end));
            start = end + 1;
        }
        assert_eq!(
            seen,
            [
                (DATED, 7),
                (Line::Nothing, 8),
                (Line::Nothing, 12),
                (Line::Malformed, 16),
                (undated(9), 26),
                (Line::Odd { undated: Some(8) }, 35), // the newline in it is escaped
                (Line::Odd { undated: Some(5) }, 42),
                (undated(8), 51),
            ]
        );
    }

    /// A xorshift generator: same seed, same storm.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from((self.0 >> 11) % sides as u64).unwrap()
        }

        /// Up to three lines of splinters: most are no points, but many nearly are.
        fn body(&mut self) -> Vec<u8> {
            const SPLINTERS: [&[u8]; 40] = [
                b"m v=1 1",
                b"m,a=b v=1",
                b"m s=\"a b\" 1",
                b"m,b=1,a=2 v=1i,w=t",
                b"m \\\\=\"=\"",
                b"m s=\"a\"",
                b",c=\"x\"",
                b"=5",
                b"=t",
                b"=,",
                b"=\"",
                b"\",",
                b"\"",
                b"\\",
                b"\\\\",
                b"\n",
                b"\r",
                b"\t",
                b"\0",
                b" ",
                b"  ",
                b",",
                b"=",
                b"m",
                b"v",
                b"a",
                b"#",
                b"-",
                b".",
                b"i",
                b"u",
                b"e3",
                b"E+1",
                b"1",
                b"false",
                b"True",
                b"9223372036854775807",
                b"n",
                "é".as_bytes(),
                b"\xFF",
            ];
            let mut body = SPLINTERS[self.roll(6)].to_vec();
            for _ in 0..self.roll(8) {
                let splinter = SPLINTERS[self.roll(SPLINTERS.len())];
                let at = if self.roll(2) == 0 {
                    body.len()
                } else {
                    self.roll(body.len() + 1)
                };
                match self.roll(8) {
                    0 if at < body.len() => drop(body.remove(at)),
                    _ => drop(body.splice(at..at, splinter.iter().copied())),
                }
            }
            body
        }
    }

    #[test]
    fn a_storm_finds_both_readings_alike_and_every_point_can_be_dated_and_packed() {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let (mut points, mut unusual) = (0, 0);
        for _ in 0..60_000 {
            let body = dice.body();
            let shown = String::from_utf8_lossy(&body).into_owned();
            let mut start = 0;
            while start < body.len() {
                let (verdict, end) = judge(&body, start, 1);
                assert!(start <= end && end <= body.len(), "{shown:?}");
                let line = &body[start..end];
                start = end + 1;
                unusual += usize::from(readings_agree(line, &shown));
                let (Line::Point { undated } | Line::Odd { undated }) = verdict else {
                    continue;
                };
                points += 1;
                let mut dated = line.to_vec();
                if let Some(at) = undated {
                    dated.splice(at..at, *b" 17");
                }
                let right = match verdict {
                    Line::Point { .. } => DATED,
                    _ => Line::Odd { undated: None },
                };
                let length = dated.len();
                assert_eq!(judge(&dated, 0, 1), (right, length), "{shown:?}");
                dated.extend_from_slice(b"\nm v=1");
                assert_eq!(judge(&dated, 0, 1), (right, length), "{shown:?}");
                assert_eq!(judge(&dated, length + 1, 1), (undated_m(), length + 6));
            }
        }
        assert!(points > 5_000 && unusual > 5_000, "{points} {unusual}");
    }

    fn undated_m() -> Line {
        undated(5)
    }

    /// Whether the line has fields that are unusual and right; fails where the two ways differ.
    fn readings_agree(line: &[u8], shown: &str) -> bool {
        let first = skip_blanks(line, 0);
        let Some(key) = line.get(first).and_then(|_| Key::read(line, first)) else {
            return false;
        };
        let start = skip_blanks(line, key.end);
        let ascii = line.is_ascii();
        let exact = exact_fields(line, first, &key, start);
        match (usual_fields(line, start), exact) {
            (Usual::Unusual, exact) => return exact.is_ok(),
            (Usual::Malformed, Err(verdict)) => assert_eq!(verdict, Line::Malformed, "{shown:?}"),
            (Usual::Fields(usual), Ok(exact)) => assert_eq!(
                (usual.end, usual.has_unsigned),
                (exact.end, exact.has_unsigned),
                "{shown:?}"
            ),
            (Usual::Fields(_), Err(Line::Malformed)) if !ascii => {}
            (_, exact) => panic!("{:?}: {shown:?}", exact.err()),
        }
        false
    }

    #[test]
    fn every_place_is_looked_at_for_ascii() {
        for length in 0..70 {
            let mut line = vec![b'x'; length];
            assert!(is_ascii(&line));
            for at in 0..length {
                line[at] = 0x80;
                assert!(!is_ascii(&line), "{at} of {length}");
                line[at] = b'x';
            }
        }
    }

    #[test]
    fn the_longest_lines_take_no_longer_per_byte() {
        // Shapes that a careless reading walks again and again.
        for part in [
            ",a=b",
            ",\\=b",
            "\\",
            "\\\\=\"=,",
            "=",
            "\"=t,",
            "x=\"\"=5,",
            "v=1,",
            " ",
            "\\,",
        ] {
            for (head, tail) in [
                ("m", " v=1 1"),
                ("m ", "v=1 1"),
                ("m v=\"", "\" 1"),
                ("m v=1 ", ""),
            ] {
                let line = |count: usize| [head, &part.repeat(count), tail].concat();
                let long = line(2_000_000 / part.len());
                // A walk by the square would take hours.
                let (_, end) = judge(long.as_bytes(), 0, 1);
                assert!(end > 0);
            }
        }
    }
}
