//! The answers by which an InfluxDB says that it wrote a part of a write, and what they say of the rest. Pure.
//!
//! ```text
//!  1.x  {"error":"partial write: field type conflict: … dropped=1"}        also in X-Influxdb-Error
//!  1.x  {"error":"partial write: unable to parse 'LINE': … dropped=0"}
//!  2.x  {"code":"…","message":"failure writing points to database: partial write: … dropped=1"}
//!  3.x  {"error":"partial write of line protocol occurred","data":[{"line_number":2,…}]}
//! ```
//!
//! A refusal quotes what a client sent, so the words count only where no quotation has begun. The answer may be
//! cut at a bound: it is read as far as it goes.

use std::ops::Range;

use memchr::memmem;

use crate::backend::answer::Reply;
use crate::backend::outgoing::Kind;
use crate::http::header::line_value;
use crate::limits;
use crate::payload::line::lines;
use crate::payload::typed_field::{Typed, has_field};

/// The rest of a write of which a part was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// So many points were dropped, at least one.
    Dropped(u32),
    /// So many points are older than the backend's retention: it will never want them.
    Expired(u32),
}

const WORDS: &[u8] = b"partial write";
const EXPIRED: [&[u8]; 2] = [b"beyond retention policy", b"outside retention policy"];
const NEWER: &[u8] = b" of line protocol occurred";
const COUNT: &[u8] = b"dropped=";

/// The rest of a write of this kind, if the answer says that a part of it was written. Not once per request:
/// only where a backend has answered 400 or 422.
pub fn rest(kind: Kind, reply: &Reply) -> Option<Rest> {
    if kind == Kind::Statement || !matches!(reply.status, 400 | 422) {
        return None;
    }
    let text = message(reply)?;
    let plain = unquoted(text);
    let behind = &plain[memmem::find(plain, WORDS)? + WORDS.len()..];
    let has = |words: &&[u8]| memmem::find(behind, words).is_some();
    if EXPIRED.iter().any(has) {
        return Some(Rest::Expired(count(text).unwrap_or(1)));
    }
    let named = named_lines(&reply.body).max(unparsed(text));
    let dropped = count(text);
    // What says neither how many nor which lines it dropped is no InfluxDB 1, and may have written nothing.
    let is_newer = value(&reply.body, b"message").is_some() || behind.starts_with(NEWER);
    if dropped.is_none() && named == 0 && !is_newer {
        return None;
    }
    let dropped = dropped.unwrap_or(0);
    Some(Rest::Dropped(dropped.saturating_add(named).max(1)))
}

/// The words of the answer that speak of a partial write, if any do: in its header, in its JSON, or plain.
fn message(reply: &Reply) -> Option<&[u8]> {
    let header = line_value(&reply.headers, "x-influxdb-error");
    let body = reply.body.trim_ascii_start();
    let plain = (!body.starts_with(b"{")).then_some(body);
    let texts = [
        value(body, b"error"),
        value(body, b"message"),
        plain,
        header,
    ];
    let speaks = |text: &&[u8]| memmem::find(unquoted(text), WORDS).is_some();
    texts.into_iter().flatten().find(speaks)
}

/// The part of a text in front of the first quotation.
fn unquoted(text: &[u8]) -> &[u8] {
    let quotes = text
        .iter()
        .position(|byte| matches!(byte, b'\'' | b'"' | b'\\' | b'`'));
    &text[..quotes.unwrap_or(text.len())]
}

/// The string that stands under `key` at the top of a JSON object, as it is written; what is cut is read as far
/// as it goes.
fn value<'b>(json: &'b [u8], key: &[u8]) -> Option<&'b [u8]> {
    let (mut at, mut depth, mut is_wanted) = (0, 0_usize, false);
    while let Some(&byte) = json.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b',' => is_wanted = false,
            b'"' => {
                let end = at + string_len(&json[at..]);
                let string = &json[at..end];
                at = (end + 1).min(json.len());
                let is_key = json[at..].trim_ascii_start().starts_with(b":");
                match (depth, is_key) {
                    (1, true) => is_wanted = string == key,
                    (1, false) if is_wanted => return Some(string),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    None
}

/// Bytes of a JSON string up to its closing quote, or up to the end of what there is.
fn string_len(text: &[u8]) -> usize {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The number behind the last `dropped=`, if the text ends with it.
fn count(text: &[u8]) -> Option<u32> {
    let at = memmem::rfind(text, COUNT)? + COUNT.len();
    let digits = text[at..].trim_ascii_end();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u32, digit: &u8| {
        let digit = u32::from(digit - b'0');
        number.saturating_mul(10).saturating_add(digit)
    };
    Some(digits.iter().fold(0, add))
}

/// Lines that an InfluxDB 3 names.
fn named_lines(body: &[u8]) -> u32 {
    let found = memmem::find_iter(body, b"\"line_number\"");
    let named = found.filter(|&at| at > 0 && body[at - 1] != b'\\');
    u32::try_from(named.count()).unwrap_or(u32::MAX)
}

const UNPARSED: &[u8] = b"unable to parse '";

fn unparsed(text: &[u8]) -> u32 {
    u32::try_from(memmem::find_iter(text, UNPARSED).count()).unwrap_or(u32::MAX)
}

/// The lines of `body` that the answer says were dropped; `None` where its words do not tell them apart.
/// Nothing is sent to find out.
pub fn dropped_lines(body: &[u8], reply: &Reply) -> Option<Vec<Range<usize>>> {
    let all = ranges(body);
    if all.len() <= 1 {
        return Some(all);
    }
    let json = serde_json::from_slice::<serde_json::Value>(&reply.body).ok();
    if let Some(data) = json.as_ref().and_then(|json| json["data"].as_array()) {
        return by_number(body, &all, data);
    }
    let told = json.as_ref().and_then(|json| {
        let texts = ["error", "message"].map(|key| json[key].as_str());
        let mut texts = texts.into_iter().flatten();
        texts.find(|text| text.contains("partial write"))
    });
    let header = line_value(&reply.headers, "x-influxdb-error");
    let text = told.map_or_else(|| header.unwrap_or(&reply.body), str::as_bytes);
    by_quotation(body, &all, text).or_else(|| by_type(body, &all, text))
}

/// Where the lines of a body lie, without their newlines.
fn every_range(body: &[u8]) -> Vec<Range<usize>> {
    let starts: Vec<usize> = lines(body).collect();
    let ends = starts.iter().skip(1).map(|next| next - 1);
    let last = body.strip_suffix(b"\n").map_or(body.len(), <[u8]>::len);
    let ends = ends.chain([last]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| start..end)
        .collect()
}

/// The same of those that are neither blank nor comments.
fn ranges(body: &[u8]) -> Vec<Range<usize>> {
    let mut all = every_range(body);
    all.retain(|line| {
        let text = body[line.clone()].trim_ascii();
        !text.is_empty() && !text.starts_with(b"#")
    });
    all
}

/// An InfluxDB 3 names each line, by number and by its text. Whether blank lines and comments count is its own affair.
fn by_number(
    body: &[u8],
    all: &[Range<usize>],
    data: &[serde_json::Value],
) -> Option<Vec<Range<usize>>> {
    let with_blanks = every_range(body);
    let mut found = Vec::new();
    for one in data {
        let text = one["original_line"].as_str().unwrap_or_default().trim();
        let number = usize::try_from(one["line_number"].as_u64()?).ok()?;
        let is_it = |line: &&Range<usize>| {
            let own = body[(*line).clone()].trim_ascii();
            own.starts_with(text.as_bytes())
        };
        let place = number.checked_sub(1)?;
        let numbered = [with_blanks.get(place), all.get(place)];
        let line = numbered.into_iter().flatten().find(is_it);
        found.push(line?.clone());
    }
    (!found.is_empty()).then_some(found)
}

/// An InfluxDB 1 quotes each line that it cannot parse; of those that it drops it counts the others.
fn by_quotation(body: &[u8], all: &[Range<usize>], text: &[u8]) -> Option<Vec<Range<usize>>> {
    let starts = memmem::find_iter(text, UNPARSED).map(|at| at + UNPARSED.len());
    let mut quoted: Vec<&[u8]> = starts.map(|at| &text[at..]).collect();
    if quoted.is_empty() || count(text).is_some_and(|others| others > 0) {
        return None;
    }
    quoted.sort_unstable();
    let is_quoted = |line: &&Range<usize>| {
        let own = [body[(*line).clone()].trim_ascii(), b"'"].concat();
        let place = quoted.partition_point(|quotation| *quotation < own.as_slice());
        let next = quoted.get(place);
        next.is_some_and(|quotation| quotation.starts_with(&own))
    };
    let found: Vec<_> = all.iter().filter(is_quoted).cloned().collect();
    (found.len() >= quoted.len()).then_some(found)
}

/// Of a conflict of types the answer names a measurement, a field, a type, and how many points it dropped. If as
/// many lines are of that kind, they are those.
fn by_type(body: &[u8], all: &[Range<usize>], text: &[u8]) -> Option<Vec<Range<usize>>> {
    let typed = Typed::named_in(text)?;
    let wanted = count(text)? as usize;
    let is_typed = |line: &&Range<usize>| has_field(&body[(*line).clone()], &typed);
    let found: Vec<_> = all.iter().filter(is_typed).cloned().collect();
    (found.len() == wanted).then_some(found)
}

/// How many points a body of so many bytes may hold, so that no backend's count goes past it.
pub fn points_max(body: &[u8], is_compressed: bool) -> u32 {
    let most = match is_compressed {
        false => memchr::memchr_iter(b'\n', body).count() + 1,
        true => body.len().saturating_mul(limits::INFLATED_TIMES_MAX),
    };
    u32::try_from(most).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Rest, dropped_lines, points_max, rest};
    use crate::backend::answer::Reply;
    use crate::backend::outgoing::Kind;

    fn reply(status: u16, headers: &str, body: &str) -> Reply {
        Reply {
            status,
            headers: headers.as_bytes().to_vec(),
            body: body.as_bytes().to_vec(),
        }
    }

    const TYPE: &str = r#"partial write: field type conflict: input field \"v\" on measurement \"m\" is type string, already exists as type float dropped=2"#;

    fn error(text: &str) -> String {
        format!("{{\"error\":\"{text}\"}}\n")
    }

    fn expect(status: u16, headers: &str, body: &str, want: Option<Rest>) {
        let reply = reply(status, headers, body);
        assert_eq!(rest(Kind::Write, &reply), want, "{status} {headers} {body}");
        assert_eq!(rest(Kind::Statement, &reply), None);
        for cut in 0..body.len() {
            let mut reply = reply.clone();
            reply.body.truncate(cut);
            let _no_panic = rest(Kind::Write, &reply);
        }
    }

    const PARTS_V3: &str = r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"a","line_number":1},{"original_line":"\"line_number\"","line_number":4}]}"#;

    #[test]
    fn the_words_of_each_version_are_understood() {
        let dropped = |points| Some(Rest::Dropped(points));
        expect(400, "", &error(TYPE), dropped(2));
        let v2 = format!(
            "{{\"code\":\"x\",\"message\":\"failure writing points to database: {TYPE}\"}}"
        );
        expect(422, "", &v2, dropped(2));
        expect(422, "", "{\"message\":\"partial write: x\"}", dropped(1));
        expect(400, "", PARTS_V3, dropped(2));
        let header = "X-Influxdb-Error: partial write: x dropped=3\r\n";
        expect(400, header, "", dropped(3));
        expect(400, "", "partial write: x dropped=1\n", dropped(1));
        let two = "partial write: unable to parse 'a': b\\nunable to parse 'c': d dropped=0";
        expect(400, "", &error(two), dropped(2));
        let cut = "{\"error\":\"partial write: unable to parse 'cut her";
        expect(400, "", cut, dropped(1));
    }

    #[test]
    fn points_beyond_retention_are_counted_within_bounds() {
        let words = "partial write: points beyond retention policy dropped=";
        for (digits, points) in [("7", 7), ("99999999999999999999", u32::MAX), ("", 1)] {
            let body = error(&format!("{words}{digits}"));
            expect(400, "", &body, Some(Rest::Expired(points)));
        }
    }

    #[test]
    fn no_refusal_is_taken_for_a_partial_write() {
        for (status, body) in [
            (400, error("unable to parse 'partial write: x': dropped=3")),
            (400, error("unable to parse 'a \\\"partial write\\\"'")),
            (
                400,
                "{\"error\":\"no\",\"x\":{\"message\":\"partial write\"}}".to_owned(),
            ),
            (400, "{\"other\":\"partial write dropped=1\"}".to_owned()),
            (400, "partial write: x".to_owned()),
            (500, error(TYPE)),
            (204, error(TYPE)),
            (400, String::new()),
        ] {
            expect(status, "", &body, None);
        }
    }

    #[test]
    fn lines_are_named_where_the_words_tell_them_apart() {
        let body = b"m v=1 1\n# c\n\n  m v=\"s\" 2\nn v=\"s\" 3\nm w=1,v=\"t\" 4\nbad line\n";
        let named = |answer: &str| {
            let found = dropped_lines(body, &reply(400, "", answer))?;
            let text =
                |line: std::ops::Range<usize>| String::from_utf8(body[line].to_vec()).unwrap();
            Some(found.into_iter().map(text).collect::<Vec<_>>())
        };
        let error = |text: &str| format!("{{\"error\":\"{text}\"}}");
        let typed = named(&error(TYPE)).unwrap();
        assert_eq!(typed, ["  m v=\"s\" 2", "m w=1,v=\"t\" 4"]);
        assert_eq!(named(&error(&TYPE.replace("dropped=2", "dropped=3"))), None);
        let unparsed = "partial write: unable to parse 'bad line': missing fields dropped=0";
        assert_eq!(named(&error(unparsed)).unwrap(), ["bad line"]);
        assert_eq!(
            named(&error(&unparsed.replace("=0", "=1"))),
            None,
            "another too"
        );
        assert_eq!(named("{\"error\":\"partial write\"}"), None);
        let v3 = r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"bad l","line_number":7}]}"#;
        assert_eq!(named(v3).unwrap(), ["bad line"]);
        let one = dropped_lines(b"m v=1\n", &reply(400, "", "partial write"));
        let range = 0..5;
        assert_eq!(one, Some([range].to_vec()));
    }

    #[test]
    fn no_more_points_than_a_body_can_hold() {
        assert_eq!(points_max(b"a\nb", false), 2);
        assert_eq!(points_max(b"", true), 0);
    }
}
