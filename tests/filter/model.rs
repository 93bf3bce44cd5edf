//! Which lines a filter lets stay, read slowly: a line is cut into pieces as its escapes say, and the
//! pieces are looked at one by one, without an expression.
//!
//! It shares no code with the relay's reading. `tests/filter.rs` holds both together.

/// An expression, and what it comes to in Rust.
pub(crate) type Wish = (&'static str, fn(&[u8]) -> bool);

/// What measurement, names of tags and values of tags must match.
pub(crate) type Wishes = [Wish; 3];

/// What the tests choose from. The empty one matches all.
pub(crate) const WISHES: &[Wish] = &[
    ("", |_| true),
    ("^c", |text| text.starts_with(b"c")),
    ("a", |text| text.contains(&b'a')),
    ("^(cpu|host|a b)$", |text| {
        [&b"cpu"[..], b"host", b"a b"].contains(&text)
    }),
    ("[ ,=]", |text| {
        text.iter().any(|byte| b" ,=".contains(byte))
    }),
    ("^[^0-9]*$", |text| {
        // A class that is not negated by bytes matches no broken UTF-8.
        std::str::from_utf8(text).is_ok() && !text.iter().any(u8::is_ascii_digit)
    }),
    ("\\\\", |text| text.contains(&b'\\')),
    ("(?-u:[\\x80-\\xff])", |text| {
        text.iter().any(|&byte| byte >= 0x80)
    }),
    ("^$", <[u8]>::is_empty),
];

/// What is to be sent of a body: `None` for all of it, else the lines that stay, and whether one of them is a
/// point, or may be.
pub(crate) fn filtered(
    body: &[u8],
    line_end: impl Fn(&[u8], usize) -> usize,
    wishes: &Wishes,
) -> Option<(Vec<u8>, bool)> {
    let (mut out, mut has_points, mut is_less) = (Vec::new(), false, false);
    let mut at = 0;
    while at < body.len() {
        let end = line_end(body, at).min(body.len());
        let next = body.len().min(end + 1);
        let text: Vec<u8> = body[at..end]
            .iter()
            .copied()
            .skip_while(|byte| b" \t\0".contains(byte))
            .collect();
        let is_point = !text.is_empty() && text[0] != b'#';
        if is_point && !stays(&text, wishes) {
            is_less = true;
        } else {
            has_points |= is_point;
            out.extend(&body[at..next]);
        }
        at = next;
    }
    is_less.then_some((out, has_points))
}

/// Whether a line stays that is neither blank nor a comment.
fn stays(text: &[u8], wishes: &Wishes) -> bool {
    let [measurement, tag, tag_value] = wishes;
    let (key, is_closed) = match find(text, 1, b' ') {
        Some(space) => (&text[..space], true),
        None => (text, false),
    };
    if key[0] == b',' {
        return true;
    }
    let mut pieces = split(key, b',');
    let last = pieces.len() - 1;
    if pieces.len() == 1 && !is_closed {
        return true;
    }
    let name = pieces.remove(0);
    if !measurement.1(&plain(name, b",\" =")) {
        return false;
    }
    for (i, piece) in pieces.into_iter().enumerate() {
        let is_open = i + 1 == last && !is_closed;
        let Some((name, value)) = tag_of(piece).filter(|_| !is_open) else {
            return true;
        };
        if !tag.1(&plain(name, b", =")) || !tag_value.1(&plain(value, b", =")) {
            return false;
        }
    }
    true
}

fn tag_of(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    if piece.first() == Some(&b'=') {
        return None;
    }
    let equals = find(piece, 1, b'=')?;
    let (name, value) = (&piece[..equals], &piece[equals + 1..]);
    (!value.is_empty() && find(value, 1, b'=').is_none()).then_some((name, value))
}

/// Where `wanted` stands, from `from` on, not behind a `\`.
fn find(text: &[u8], from: usize, wanted: u8) -> Option<usize> {
    (from..text.len()).find(|&at| text[at] == wanted && text[at - 1] != b'\\')
}

fn split(mut text: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut from = 1;
    while let Some(at) = find(text, from, separator) {
        pieces.push(&text[..at]);
        text = &text[at + 1..];
        from = 1.min(text.len());
        // What stands first behind a separator is behind no `\`.
        if text.first() == Some(&separator) {
            pieces.push(&text[..0]);
            text = &text[1..];
        }
    }
    pieces.push(text);
    pieces
}

/// Without escapes, as Go's `bytes.Replace` makes it: one kind after the other.
fn plain(text: &[u8], special: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    for &byte in special {
        let mut next = Vec::new();
        let mut at = 0;
        while at < text.len() {
            if text[at] == b'\\' && text.get(at + 1) == Some(&byte) {
                at += 1;
            }
            next.push(text[at]);
            at += 1;
        }
        text = next;
    }
    text
}
