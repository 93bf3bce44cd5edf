//! A body of line protocol: each point without a time gets one, and not another byte changes. Pure.
//!
//! Two backends that each date a point themselves store two points. So the relay does it, once,
//! when the write arrives:
//!
//! ```text
//!  cpu,host=a load=0.64␤           cpu,host=a load=0.64 1700000000000000000␤
//!  # a comment␤               ──▶  # a comment␤
//!  cpu,host=b load=0.6 17␤         cpu,host=b load=0.6 17␤
//!  no point at all␤                no point at all␤
//! ```
//!
//! A line that InfluxDB takes undated it takes dated, at that time; one that it refuses it refuses
//! as before. Where nothing is to be dated, nothing is copied. The exact reading is in `point`; here
//! is the loop, and a short cut for the usual line: no quote, no `\`, one space, or a time at the end.

use memchr::{memchr, memchr2};

use crate::limits::STAMP_BYTES_MAX;
use crate::payload::point::{EndedBy, LineEnd, Reading, is_blank, line_end, read};

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Lines that a backend reads as points: neither blank nor comments.
    pub points: u64,
    /// Points without a time.
    pub unstamped: usize,
    /// Whether another body may follow behind a newline without a change to how either reads. Not
    /// so if the last line ends within a string or an escape.
    pub ends_clean: bool,
}

/// A line of a kind that kills an `influxd`: a key of nothing but `\`, as in `m \\="="`, or whatever
/// else leaves its field iterator with a lone quote for a value. To be answered 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poison {
    /// Which line, from 1, where a newline within a string ends none.
    pub line: usize,
}

/// What is in the body; nothing is copied. Once per write; linear.
///
/// # Errors
/// The first line that would kill a backend.
pub fn scan(body: &[u8]) -> Result<Scan, Poison> {
    pass(body, |_| {})
}

/// Where each line begins. Not once per write: only where a backend has refused one.
pub fn lines(body: &[u8]) -> impl Iterator<Item = usize> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let line = (start < body.len()).then_some(start)?;
        start = line_end(body, line).at + 1;
        Some(line)
    })
}

/// Copies the body to `out`, with ` <time>` behind each point that has no time; `time` counts units
/// of the write's precision. Once per write; linear; allocates only where `out` is too small.
///
/// `out` is emptied first, and stays empty where there is nothing to be dated: then the body is
/// right as it is. It comes to hold at most the body and [`STAMP_BYTES_MAX`] per point.
///
/// # Errors
/// The first line that would kill a backend; `out` is empty then.
pub fn stamp(body: &[u8], time: i64, out: &mut Vec<u8>) -> Result<Scan, Poison> {
    out.clear();
    let text = Stamp::new(time);
    let text = text.bytes();
    let mut copied = 0;
    let scan = pass(body, |at| {
        if copied == 0 {
            out.reserve(body.len() + body.len() / 4 + STAMP_BYTES_MAX);
        }
        out.extend_from_slice(&body[copied..at]);
        out.extend_from_slice(text);
        copied = at;
    });
    match scan {
        Ok(scan) if scan.unstamped > 0 => out.extend_from_slice(&body[copied..]),
        Ok(_) => {}
        Err(_) => out.clear(),
    }
    scan
}

/// Walks the lines, and calls `undated` with the index where each missing time belongs.
fn pass(body: &[u8], mut undated: impl FnMut(usize)) -> Result<Scan, Poison> {
    let mut scan = Scan {
        points: 0,
        unstamped: 0,
        ends_clean: true,
    };
    let mut special = next_special(body, 0);
    let (mut start, mut line) = (0, 0);
    while start < body.len() {
        line += 1;
        let newline = memchr(b'\n', &body[start..]).map(|found| start + found);
        let mut end = match newline {
            Some(at) => LineEnd {
                at,
                by: EndedBy::Newline,
            },
            None => LineEnd {
                at: body.len(),
                by: EndedBy::Body,
            },
        };
        let reading = if special < end.at {
            end = line_end(body, start);
            if special < end.at {
                special = next_special(body, end.at);
            }
            read_special(&body[start..end.at], end.by)
        } else {
            let bytes = &body[start..end.at];
            read_plain(bytes).unwrap_or_else(|| read(bytes, end.by))
        };
        match reading {
            Reading::Nothing => {}
            Reading::AsItIs => scan.points += 1,
            Reading::Undated(at) => {
                scan.points += 1;
                scan.unstamped += 1;
                undated(start + at);
            }
            Reading::Poison => return Err(Poison { line }),
        }
        scan.ends_clean = matches!(end.by, EndedBy::Newline | EndedBy::Body);
        start = end.at + 1;
    }
    Ok(scan)
}

/// The next byte that the short cut cannot pass, at or behind `at`, or the end.
fn next_special(body: &[u8], at: usize) -> usize {
    memchr2(b'"', b'\\', &body[at..]).map_or(body.len(), |found| at + found)
}

/// Reads a usual line without a quote or `\` in it; `None` if it is not usual.
fn read_plain(line: &[u8]) -> Option<Reading> {
    let first = *line.first()?;
    if first <= b',' {
        return None; // a blank, a comment, `\r`, a `,`, or a rare first letter
    }
    if time_at_end(line).is_some() {
        return Some(Reading::AsItIs);
    }
    let Some(space) = memchr(b' ', line) else {
        return Some(Reading::AsItIs);
    };
    let fields = &line[space + 1..];
    let is_usual = !is_blank(*fields.first()?)
        && !matches!(fields.last()?, b'\r' | b'=' | b',')
        && are_fields(fields);
    is_usual.then_some(Reading::Undated(line.len()))
}

/// Whether there is no space, and one `=` more than there are `,`: 16 bytes at a time, so that the
/// compiler makes vectors of it. What is very long is said to be none, and read the slow way.
fn are_fields(bytes: &[u8]) -> bool {
    const LANES: usize = 16;
    if bytes.len() > LANES * 100 {
        return false; // a lane counts to 127
    }
    let (chunks, rest) = bytes.as_chunks::<LANES>();
    let mut last = [0; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let (mut spaces, mut balance) = ([0_u8; LANES], [0_i8; LANES]);
    for chunk in chunks.iter().chain([&last]) {
        for lane in 0..LANES {
            spaces[lane] |= u8::from(chunk[lane] == b' ');
            balance[lane] += i8::from(chunk[lane] == b'=') - i8::from(chunk[lane] == b',');
        }
    }
    spaces == [0; LANES] && balance.iter().map(|&lane| i32::from(lane)).sum::<i32>() == 1
}

/// Reads a line that has a quote or a `\` in it, or a newline.
fn read_special(line: &[u8], by: EndedBy) -> Reading {
    match line.first() {
        Some(&first) if first > b'#' => {}
        _ => return read(line, by),
    }
    // What ends in a space and a number has a time, or has no place for one.
    match time_at_end(line).map(|space| &line[..space]) {
        Some(before) if !matches!(before, [.., b' ' | b'\t' | 0 | b'\\'] | [.., b'=', b'"']) => {
            Reading::AsItIs
        }
        _ => read(line, by),
    }
}

/// Where the space is before the whole number that ends the line, if one does.
fn time_at_end(line: &[u8]) -> Option<usize> {
    let mut rest = line;
    while let Some((before, last)) = rest.split_last_chunk::<8>() {
        if !are_digits(*last) {
            break;
        }
        rest = before;
    }
    while let [before @ .., b'0'..=b'9'] = rest {
        rest = before;
    }
    if rest.len() == line.len() {
        return None;
    }
    let rest = rest.strip_suffix(b"-").unwrap_or(rest);
    rest.ends_with(b" ").then(|| rest.len() - 1)
}

/// Whether eight bytes are digits: each has 3 as its high half, and still has when 6 is added.
pub(super) fn are_digits(bytes: [u8; 8]) -> bool {
    const HIGH: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    const THREES: u64 = 0x3030_3030_3030_3030;
    const SIXES: u64 = 0x0606_0606_0606_0606;
    let word = u64::from_le_bytes(bytes);
    word & HIGH == THREES && word.wrapping_add(SIXES) & HIGH == THREES
}

/// ` <time>` in decimal, made once per write or datagram.
pub struct Stamp {
    text: [u8; STAMP_BYTES_MAX],
    start: usize,
}

impl Stamp {
    /// `time` counts units of the write's precision.
    pub fn new(time: i64) -> Self {
        let mut stamp = Self {
            text: [b'0'; STAMP_BYTES_MAX],
            start: STAMP_BYTES_MAX,
        };
        let mut left = time.unsigned_abs();
        loop {
            stamp.put(b'0' + (left % 10) as u8);
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if time < 0 {
            stamp.put(b'-');
        }
        stamp.put(b' ');
        stamp
    }

    /// One byte more, in front: at most a space, a sign and 19 digits.
    fn put(&mut self, byte: u8) {
        self.start -= 1;
        self.text[self.start] = byte;
    }

    /// The space, and the digits.
    pub fn bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::{Poison, Scan, Stamp, are_digits, are_fields, scan, stamp, time_at_end};

    fn stamped(body: &str) -> String {
        let mut out = Vec::new();
        let found = stamp(body.as_bytes(), 17, &mut out).unwrap();
        assert_eq!(scan(body.as_bytes()), Ok(found));
        if found.unstamped == 0 {
            body.to_owned()
        } else {
            String::from_utf8(out).unwrap()
        }
    }

    #[test]
    fn only_what_lacks_a_time_gets_one() {
        assert_eq!(
            stamped(
                "cpu,host=a load=0.64\n# c\n\n  mem v=1i \ncpu v=2 5\nno point\nlast s=\"a b\""
            ),
            "cpu,host=a load=0.64 17\n# c\n\n  mem v=1i 17 \ncpu v=2 5\nno point\nlast s=\"a b\" 17"
        );
        assert_eq!(stamped("m v=1\r\nm v=2 3\r\n"), "m v=1 17\r\nm v=2 3\r\n");
        assert_eq!(
            stamped("m s=\"a\nm v=1\"\nn v=1"),
            "m s=\"a\nm v=1\" 17\nn v=1 17"
        );
        for body in [
            "",
            "\n",
            "\n\n#\n",
            "m v=1 1",
            "m v=1 -1\n",
            "m\n",
            "m v\n",
            "m v=1 1\r\n",
        ] {
            assert_eq!(stamped(body), body);
        }
    }

    #[test]
    fn a_scan_counts() {
        let found = scan(b"# c\n\nm v=1\nm v=1 5\nbad\nm s=\"a\nb\"");
        assert_eq!(
            found,
            Ok(Scan {
                points: 4,
                unstamped: 2,
                ends_clean: true
            })
        );
        for (body, clean) in [
            ("", true),
            ("m v=1", true),
            ("m v=1\n", true),
            ("m v=\"a", false),
            ("m v=\"a\n", false),
            ("m v=1\\", false),
            ("m v=1\\\n", false),
            ("m v=1\\\\\n", true),
            ("# a", true),
        ] {
            assert_eq!(scan(body.as_bytes()).unwrap().ends_clean, clean, "{body:?}");
        }
    }

    #[test]
    fn poison_is_refused_with_its_line() {
        let mut out = Vec::new();
        for (body, line) in [
            (&br#"m \\="=""#[..], 1),
            (b"m v=1\n\n# c\nm s=\"a\nb\"\nm \\\\=\"=\" 5\nm v=1", 5),
        ] {
            assert_eq!(stamp(body, 17, &mut out), Err(Poison { line }));
            assert_eq!(scan(body), Err(Poison { line }));
            assert!(out.is_empty());
        }
    }

    #[test]
    fn times_are_written_in_full() {
        for time in [0, 7, -1, 1_700_000_000, i64::MAX, i64::MIN] {
            assert_eq!(Stamp::new(time).bytes(), format!(" {time}").as_bytes());
        }
    }

    #[test]
    fn a_number_at_the_end_is_found_whatever_its_length() {
        for digits in 1..40 {
            let number = "1234567890".repeat(4)[..digits].to_owned();
            for sign in ["", "-"] {
                assert_eq!(
                    time_at_end(format!("m v=1 {sign}{number}").as_bytes()),
                    Some(5)
                );
                assert_eq!(time_at_end(format!("m v={sign}{number}").as_bytes()), None);
            }
        }
        for line in [
            "",
            "1",
            "-1",
            "m v=1 --1",
            "m v=1 1.5",
            "m v=1 ",
            "m v=1 -",
            "m v=1 1x",
        ] {
            assert_eq!(time_at_end(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn words_and_lanes_agree_with_bytes() {
        for place in 0..8 {
            for byte in 0..=u8::MAX {
                let mut word = *b"09182736";
                word[place] = byte;
                assert_eq!(are_digits(word), byte.is_ascii_digit(), "{byte} at {place}");
            }
        }
        for length in 3..70 {
            for at in 0..length {
                let mut fields = vec![b'x'; length];
                fields[at] = b'=';
                assert!(are_fields(&fields));
                fields[(at + 1) % length] = b',';
                assert!(!are_fields(&fields));
                fields[(at + 2) % length] = b'=';
                assert!(are_fields(&fields));
                fields[(at + 1) % length] = b' ';
                assert!(!are_fields(&fields));
            }
        }
    }
}
