//! Line protocol, byte by byte and slowly, as the parser of InfluxDB 1.6 documents itself.
//!
//! It shares no code with the relay's reading. `tests/lines.rs` first holds it to what the real
//! parser made of the corpus, then holds the relay to it.

/// One point that InfluxDB would store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) key: Vec<u8>,
    pub(crate) fields: Vec<u8>,
    pub(crate) time: Option<i64>,
}

/// What became of a body: each line that is neither blank nor a comment.
pub(crate) type Lines = Vec<Result<Point, &'static str>>;

/// Parses a body.
pub(crate) fn parse(body: &[u8]) -> Lines {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let end = line_end(body, at);
        // A `\` as the very last byte takes one more with it: what is behind the buffer, a NUL.
        let mut line = body[at..end.min(body.len())].to_vec();
        line.resize(end - at, 0);
        at = end + 1;
        let start = blanks(&line, 0);
        if start >= line.len() || line[start] == b'#' {
            continue;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        lines.push(point(&line[start..]));
    }
    lines
}

pub(crate) fn line_end(body: &[u8], mut at: usize) -> usize {
    let (mut quoted, mut fields, mut equals, mut commas) = (false, false, 0, 0);
    while at < body.len() {
        match body[at] {
            b'\\' => {
                at += 2;
                continue;
            }
            b' ' => fields = true,
            b'=' if fields && !quoted => equals += 1,
            b',' if fields && !quoted => commas += 1,
            b'"' if fields && equals > commas => quoted = !quoted,
            b'\n' if !quoted => break,
            _ => {}
        }
        at += 1;
    }
    at
}

fn blanks(line: &[u8], mut at: usize) -> usize {
    while at < line.len() && [b' ', b'\t', 0].contains(&line[at]) {
        at += 1;
    }
    at
}

fn point(line: &[u8]) -> Result<Point, &'static str> {
    let key_end = key(line)?;
    let start = blanks(line, key_end);
    let end = fields(line, start)?;
    if end == start {
        return Err("missing fields");
    }
    let from = blanks(line, end);
    let mut at = from;
    while at < line.len() && line[at] != b' ' {
        if !(line[at].is_ascii_digit() || at == from && line[at] == b'-') {
            return Err("bad timestamp");
        }
        at += 1;
    }
    let mut time = None;
    if at > from {
        let text = std::str::from_utf8(&line[from..at]).unwrap();
        let value: i64 = text.parse().map_err(|_| "bad timestamp")?;
        if !(i64::MIN + 2..i64::MAX).contains(&value) {
            return Err("time outside range");
        }
        if line[at..].iter().any(|&byte| byte != b' ') {
            return Err("point is invalid");
        }
        time = Some(value);
    }
    if key_end > 65535 {
        return Err("max key length exceeded");
    }
    Ok(Point {
        key: line[..key_end].to_vec(),
        fields: line[start..end].to_vec(),
        time,
    })
}

/// Measurement and tags: where they end.
fn key(line: &[u8]) -> Result<usize, &'static str> {
    if line[0] == b',' {
        return Err("missing measurement");
    }
    let plain = |at: usize, byte: u8| line[at] == byte && line[at - 1] != b'\\';
    let mut at = 1;
    loop {
        if at >= line.len() {
            return Err("missing fields");
        }
        if plain(at, b' ') {
            return Ok(at);
        }
        if plain(at, b',') {
            break;
        }
        at += 1;
    }
    let mut names: Vec<Vec<u8>> = Vec::new();
    loop {
        at += 1;
        let start = at;
        if at >= line.len() || [b' ', b',', b'='].contains(&line[at]) {
            return Err("missing tag key");
        }
        loop {
            at += 1;
            if at >= line.len() || plain(at, b' ') || plain(at, b',') {
                return Err("missing tag value");
            }
            if plain(at, b'=') {
                break;
            }
        }
        let name = line[start..at].to_vec();
        if names.contains(&name) {
            return Err("duplicate tags");
        }
        names.push(name);
        at += 1;
        if at >= line.len() || [b' ', b','].contains(&line[at]) {
            return Err("missing tag value");
        }
        loop {
            at += 1;
            if at >= line.len() {
                return Err("missing fields");
            }
            if plain(at, b'=') {
                return Err("invalid tag format");
            }
            if plain(at, b' ') {
                return Ok(at);
            }
            if plain(at, b',') {
                break;
            }
        }
    }
}

/// Fields from `start`: where they end.
fn fields(line: &[u8], start: usize) -> Result<usize, &'static str> {
    let (mut quoted, mut equals, mut commas) = (false, 0, 0);
    let mut at = start;
    while at < line.len() {
        match line[at] {
            b'\\' if at + 1 < line.len() => {
                at += 2;
                continue;
            }
            b'"' if equals > commas => quoted = !quoted,
            b'=' if !quoted => {
                equals += 1;
                if [b' ', b','].contains(&line[at - 1]) && line[at - 2] != b'\\' {
                    return Err("missing field key");
                }
                match line.get(at + 1) {
                    None | Some(b',' | b' ') => return Err("missing field value"),
                    Some(b'"') => {}
                    Some(_) => {
                        let mut end = at + 1;
                        while end < line.len() && ![b',', b' '].contains(&line[end]) {
                            end += 1;
                        }
                        value(&line[at + 1..end])?;
                        at = end;
                        continue;
                    }
                }
            }
            b',' if !quoted => commas += 1,
            b' ' if !quoted => break,
            _ => {}
        }
        at += 1;
    }
    if quoted {
        return Err("unbalanced quotes");
    }
    if equals == 0 || commas != equals - 1 {
        return Err("invalid field format");
    }
    Ok(at)
}

/// A number or a truth value.
fn value(text: &[u8]) -> Result<(), &'static str> {
    if !matches!(text[0], b'0'..=b'9' | b'.' | b'-' | b'N' | b'n') {
        let known: [&[u8]; 10] = [
            b"t", b"T", b"true", b"True", b"TRUE", b"f", b"F", b"false", b"False", b"FALSE",
        ];
        return if known.contains(&text) {
            Ok(())
        } else {
            Err("invalid boolean")
        };
    }
    let text = std::str::from_utf8(text).map_err(|_| "invalid number")?;
    if let Some(whole) = text.strip_suffix('i') {
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let right = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        return if right && whole.parse::<i64>().is_ok() {
            Ok(())
        } else {
            Err("invalid number")
        };
    }
    let right = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"-+.eE".contains(&byte));
    match text.parse::<f64>() {
        Ok(number) if right && number.is_finite() => Ok(()),
        _ => Err("invalid number"),
    }
}
