//! A field of one type, as InfluxDB names it where types conflict, and the lines that hold one. Pure.

/// A field of one type on one measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    field: Vec<u8>,
    measurement: Vec<u8>,
    kind: FieldKind,
}

/// The type of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldKind {
    Float,
    Integer,
    Unsigned,
    String,
    Boolean,
}

impl Typed {
    /// The field in `input field "F" on measurement "M" is type T`.
    pub fn named_in(text: &[u8]) -> Option<Self> {
        let (field, rest) = between(text, b"input field \"", b"\" on measurement \"")?;
        let end = memchr::memmem::find(rest, b"\" is type ")?;
        let measurement = rest[..end].to_vec();
        let kind = &rest[end + b"\" is type ".len()..];
        let word = kind.iter().take_while(|byte| byte.is_ascii_lowercase());
        let kind = match &kind[..word.count()] {
            b"float" => FieldKind::Float,
            b"integer" => FieldKind::Integer,
            b"unsigned" => FieldKind::Unsigned,
            b"string" => FieldKind::String,
            b"boolean" => FieldKind::Boolean,
            _ => return None,
        };
        Some(Self {
            field: field.to_vec(),
            measurement,
            kind,
        })
    }
}

/// What stands between two pieces of a text, and what stands behind the second.
fn between<'t>(text: &'t [u8], first: &[u8], second: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let start = memchr::memmem::find(text, first)? + first.len();
    let rest = &text[start..];
    let end = memchr::memmem::find(rest, second)?;
    Some((&rest[..end], &rest[end + second.len()..]))
}

/// Whether a line holds such a field. Not once per point: only where a backend has dropped some.
pub fn has_field(line: &[u8], typed: &Typed) -> bool {
    let line = line.trim_ascii_start();
    let name_end = end_of(line, |byte| matches!(byte, b',' | b' '), false);
    let key_end = end_of(line, |byte| byte == b' ', false);
    if unescaped(&line[..name_end]) != typed.measurement {
        return false;
    }
    let mut rest = line[key_end..].trim_ascii_start();
    loop {
        let end = end_of(rest, |byte| matches!(byte, b',' | b' '), true);
        let field = &rest[..end];
        let equals = end_of(field, |byte| byte == b'=', false);
        if equals < field.len()
            && unescaped(&field[..equals]) == typed.field
            && kind_of(&field[equals + 1..]) == Some(typed.kind)
        {
            return true;
        }
        match rest.get(end) {
            Some(b',') => rest = &rest[end + 1..],
            _ => return false,
        }
    }
}

/// Where the first such byte is that no `\` escapes, and no string holds where there are `strings`; or the end.
fn end_of(text: &[u8], is_end: impl Fn(u8) -> bool, strings: bool) -> usize {
    let (mut at, mut is_quoted) = (0, false);
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'"' if strings => is_quoted = !is_quoted,
            byte if !is_quoted && is_end(byte) => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match bytes.peek() {
            Some(b',' | b' ' | b'=') if byte == b'\\' => {}
            _ => plain.push(byte),
        }
    }
    plain
}

fn kind_of(value: &[u8]) -> Option<FieldKind> {
    match value {
        [b'"', ..] => Some(FieldKind::String),
        [b't' | b'T' | b'f' | b'F', ..] => Some(FieldKind::Boolean),
        [.., b'i'] => Some(FieldKind::Integer),
        [.., b'u'] => Some(FieldKind::Unsigned),
        [b'0'..=b'9' | b'-' | b'+' | b'.', ..] => Some(FieldKind::Float),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Typed, has_field};

    #[test]
    fn lines_of_the_named_type_are_found() {
        let named = |measurement: &str, field: &str, kind: &str| {
            let text = format!(
                "input field \"{field}\" on measurement \"{measurement}\" is type {kind}, already exists as type float dropped=1"
            );
            Typed::named_in(text.as_bytes()).unwrap()
        };
        for (line, measurement, field, kind, has) in [
            ("m v=\"s\" 1", "m", "v", "string", true),
            ("m,t=a w=1,v=3i", "m", "v", "integer", true),
            ("m w=\"v=1i,v=2i\",v=3 1", "m", "v", "integer", false),
            ("m\\ x,t=a\\ b v\\=1=true", "m x", "v=1", "boolean", true),
            ("m v=1", "m", "v", "float", true),
            ("m v=1u", "m", "v", "unsigned", true),
            ("n v=1", "m", "v", "float", false),
            ("m", "m", "v", "float", false),
            ("", "m", "v", "float", false),
            ("m v=", "m", "v", "float", false),
            ("m v=\"open", "m", "v", "string", true),
        ] {
            let typed = named(measurement, field, kind);
            assert_eq!(has_field(line.as_bytes(), &typed), has, "{line}");
        }
        assert_eq!(
            Typed::named_in(b"input field \"v\" on measurement \"m\" is type odd"),
            None
        );
        assert_eq!(Typed::named_in(b"input field \"v"), None);
    }
}
