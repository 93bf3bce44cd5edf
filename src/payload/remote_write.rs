//! A Prometheus remote-write body, filtered: series go or stay, each byte of those that stay as it came. Pure.
//!
//! ```text
//!  Snappy block ──▶ WriteRequest (1.0)                    Request (2.0)
//!                   1 series: 1 label: 1 name, 2 value    4 symbol
//!                   3 metadata                            5 series: 1 labels: name, value, … as places of symbols
//! ```
//!
//! The metric's name (`__name__`) is the measurement, the other labels are the tags; a series without a
//! name has the empty one. Samples, histograms and exemplars are in their series and share its fate. The
//! metadata of 1.0 stays, and so do the symbols of 2.0, of which no sender needs all to be used.
//!
//! The danger is a body that two readers read in two ways, or a small one that stands for a huge one. So
//! a body is walked whole whatever the filter says, is refused if anything in it is malformed, and no room
//! is made for more than it can stand for.
//!
//! <https://prometheus.io/docs/specs/prw/remote_write_spec/>, `…_spec_2_0/`

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};
use thiserror::Error;

use crate::limits::filter::{ROOM_KEEP_BYTES, SNAPPY_RATIO_MAX, SYMBOLS_MAX};
use crate::payload::filter::{Filter, Left};
use crate::payload::protobuf::{Fields, Malformed, Value};

/// The label that holds a metric's name.
const NAME: &[u8] = b"__name__";

/// Which message a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// `prometheus.WriteRequest`
    V1,
    /// `io.prometheus.write.v2.Request`
    V2,
}

impl Schema {
    /// What a `Content-Type` says by its `proto=`: 1.0 where there is none, as senders older than 2.0 do
    /// not name theirs; `None` if it names another message, or names two: to be answered 415.
    pub fn told_by(content_type: &[u8]) -> Option<Self> {
        let mut told = None;
        for parameter in content_type.split(|&byte| byte == b';').skip(1) {
            let mut halves = parameter.splitn(2, |&byte| byte == b'=');
            let name = halves.next().unwrap_or_default().trim_ascii();
            if !name.eq_ignore_ascii_case(b"proto") {
                continue;
            }
            let value = halves.next().unwrap_or_default().trim_ascii();
            let bare = value.strip_prefix(b"\"");
            let bare = bare.and_then(|value| value.strip_suffix(b"\""));
            let schema = match bare.unwrap_or(value) {
                b"prometheus.WriteRequest" => Self::V1,
                b"io.prometheus.write.v2.Request" => Self::V2,
                _ => return None,
            };
            if told.replace(schema).is_some_and(|other| other != schema) {
                return None;
            }
        }
        Some(told.unwrap_or(Self::V1))
    }
}

/// Why a body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// It is no remote-write body, or a damaged one; what is wrong. To be answered 400.
    #[error("not a remote-write body: {0}")]
    Bad(&'static str),
    /// It stands for more bytes than allowed, or has too many symbols. To be answered 413.
    #[error("the remote-write body is too large once it is decompressed")]
    TooLarge,
}

/// Room for one body at a time, and what packs and unpacks it. One per shard.
pub struct Room {
    unpack: Decoder,
    pack: Encoder,
    /// The body, unpacked.
    plain: Vec<u8>,
    /// What stays of it.
    stays: Vec<u8>,
    /// Where each symbol lies in `plain`.
    symbols: Vec<Symbol>,
}

/// Where a symbol lies; a body is far below 4 GiB.
#[derive(Clone, Copy)]
struct Symbol {
    start: u32,
    end: u32,
}

/// A body that is unpacked, to be filtered once or more.
pub struct Opened<'a> {
    room: &'a mut Room,
    schema: Schema,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            unpack: Decoder::new(),
            pack: Encoder::new(),
            plain: Vec::new(),
            stays: Vec::new(),
            symbols: Vec::new(),
        }
    }
}

impl Room {
    /// Unpacks a body; at most `bytes_max` bytes. Once per filtered write; allocates only where there is too
    /// little room, and never for more than the body can stand for.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn open(
        &mut self,
        schema: Schema,
        body: &[u8],
        bytes_max: usize,
    ) -> Result<Opened<'_>, Refused> {
        const NOT_SNAPPY: Refused = Refused::Bad("not a Snappy block");
        let length = decompress_len(body).map_err(|_| NOT_SNAPPY)?;
        if length > bytes_max || u32::try_from(length).is_err() {
            return Err(Refused::TooLarge);
        }
        if length > body.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(Refused::Bad(
                "a Snappy block that claims to be longer than it is",
            ));
        }
        let opened = Opened { room: self, schema };
        let room = &mut *opened.room;
        room.plain.resize(length, 0);
        let found = room
            .unpack
            .decompress(body, &mut room.plain)
            .map_err(|_| NOT_SNAPPY)?;
        if found != length {
            return Err(NOT_SNAPPY);
        }
        opened.room.find_symbols(schema)?;
        Ok(opened)
    }

    /// Notes where the symbols of 2.0 lie: series may stand before them.
    fn find_symbols(&mut self, schema: Schema) -> Result<(), Refused> {
        self.symbols.clear();
        if schema == Schema::V1 {
            return Ok(());
        }
        let mut fields = Fields::of(&self.plain);
        while let Some(field) = fields.next().map_err(Refused::Bad)? {
            match (field.number, field.value) {
                (4, Value::Bytes(symbol)) => {
                    if self.symbols.len() == SYMBOLS_MAX {
                        return Err(Refused::TooLarge);
                    }
                    let cut_off = |_| Refused::TooLarge; // never: `open` has looked
                    let end = u32::try_from(fields.at()).map_err(cut_off)?;
                    let length = u32::try_from(symbol.len()).map_err(cut_off)?;
                    let start = end - length;
                    self.symbols.push(Symbol { start, end });
                }
                (4, _) => return Err(Refused::Bad("a symbol that is no text")),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Opened<'_> {
    /// What a filter leaves of the body. Where it is some, `out` comes to hold the body to be sent, packed.
    /// Once per filtered write and filter; linear; allocates only where there is too little room.
    ///
    /// # Errors
    /// The body is malformed; this does not depend on the filter.
    pub fn apply(&mut self, filter: &Filter, out: &mut Vec<u8>) -> Result<Left, Refused> {
        let room = &mut *self.room;
        room.stays.clear();
        let left = match self.schema {
            Schema::V1 => copy_left(&room.plain, 1, Some(3), &mut room.stays, |series| {
                takes_series(filter, series)
            }),
            Schema::V2 => copy_left(&room.plain, 5, None, &mut room.stays, |series| {
                takes_references(filter, series, &room.plain, &room.symbols)
            }),
        };
        let left = left.map_err(Refused::Bad)?;
        if left == Left::Some {
            out.clear();
            out.resize(max_compress_len(room.stays.len()), 0);
            let packed = room.pack.compress(&room.stays, out);
            out.truncate(packed.map_err(|_| Refused::TooLarge)?); // never: it is within 4 GiB
        }
        Ok(left)
    }
}

impl Drop for Opened<'_> {
    /// Gives back what a large body made of the room.
    fn drop(&mut self) {
        let Room {
            plain,
            stays,
            symbols,
            ..
        } = &mut *self.room;
        for bytes in [plain, stays] {
            if bytes.capacity() > ROOM_KEEP_BYTES {
                *bytes = Vec::new();
            }
        }
        if symbols.capacity() * size_of::<Symbol>() > ROOM_KEEP_BYTES {
            *symbols = Vec::new();
        }
    }
}

/// Walks a whole message and copies it to `out` but for those fields `series` that are not taken. Where
/// nothing goes nothing is copied. What of the other fields is worth sending alone is `metadata`.
fn copy_left<'a>(
    message: &'a [u8],
    series: u64,
    metadata: Option<u64>,
    out: &mut Vec<u8>,
    mut takes: impl FnMut(&'a [u8]) -> Result<bool, Malformed>,
) -> Result<Left, Malformed> {
    let (mut stay, mut go) = (0_usize, 0_usize);
    let mut copied = 0;
    let mut fields = Fields::of(message);
    loop {
        let start = fields.at();
        let Some(field) = fields.next()? else { break };
        if field.number == series {
            let Value::Bytes(body) = field.value else {
                return Err("a series that is no message");
            };
            if takes(body)? {
                stay += 1;
            } else {
                go += 1;
                out.extend_from_slice(&message[copied..start]);
                copied = fields.at();
            }
        } else if Some(field.number) == metadata {
            stay += 1;
        }
    }
    Ok(match (stay, go) {
        (_, 0) => Left::All,
        (0, _) => Left::Nothing,
        _ => {
            out.extend_from_slice(&message[copied..]);
            Left::Some
        }
    })
}

/// What the labels of one series have come to. All are looked at, so that what is malformed is refused
/// whatever the filter says.
struct Judgement<'a> {
    filter: &'a Filter,
    is_named: bool,
    takes: bool,
}

impl<'a> Judgement<'a> {
    fn new(filter: &'a Filter) -> Self {
        Self {
            filter,
            is_named: false,
            takes: true,
        }
    }

    fn hear(&mut self, name: &[u8], value: &[u8]) {
        self.takes = self.takes
            && if name == NAME {
                self.is_named = true;
                self.filter.takes_measurement(value)
            } else {
                !self.filter.looks_at_tags()
                    || self.filter.takes_tag(name) && self.filter.takes_tag_value(value)
            };
    }

    fn takes(&self) -> bool {
        self.takes && (self.is_named || self.filter.takes_measurement(b""))
    }
}

/// Whether a series of 1.0 is taken.
fn takes_series(filter: &Filter, series: &[u8]) -> Result<bool, Malformed> {
    let mut judgement = Judgement::new(filter);
    let mut fields = Fields::of(series);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, Value::Bytes(label)) => {
                let (name, value) = read_label(label)?;
                judgement.hear(name, value);
            }
            (1, _) => return Err("a label that is no message"),
            _ => {}
        }
    }
    Ok(judgement.takes())
}

/// Name and value of a label; of what stands twice the last counts, as for every reader.
fn read_label(label: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (mut name, mut value) = (&label[..0], &label[..0]);
    let mut fields = Fields::of(label);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => name = text,
            (2, Value::Bytes(text)) => value = text,
            (1 | 2, _) => return Err("a label whose name or value is no text"),
            _ => {}
        }
    }
    Ok((name, value))
}

/// Whether a series of 2.0 is taken, whose labels say where their name and their value are among the
/// symbols: packed, or one by one.
fn takes_references(
    filter: &Filter,
    series: &[u8],
    plain: &[u8],
    symbols: &[Symbol],
) -> Result<bool, Malformed> {
    let mut judgement = Judgement::new(filter);
    let mut name: Option<&[u8]> = None;
    let mut refer = |place: u64| {
        let symbol = usize::try_from(place)
            .ok()
            .and_then(|place| symbols.get(place))
            .and_then(|symbol| plain.get(symbol.start as usize..symbol.end as usize))
            .ok_or("a label that is not among the symbols")?;
        match name.take() {
            None => name = Some(symbol),
            Some(name) => judgement.hear(name, symbol),
        }
        Ok::<(), Malformed>(())
    };
    let mut fields = Fields::of(series);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, Value::Bytes(packed)) => {
                let mut places = Fields::of(packed);
                while let Some(place) = places.next_packed()? {
                    refer(place)?;
                }
            }
            (1, Value::Varint(place)) => refer(place)?,
            (1, Value::Fixed) => return Err("a label that is no number"),
            _ => {}
        }
    }
    if name.is_some() {
        return Err("a label without a value");
    }
    Ok(judgement.takes())
}

#[cfg(test)]
mod tests {
    use super::Schema;

    #[test]
    fn a_content_type_tells_the_message() {
        let told = |text: &str| Schema::told_by(text.as_bytes());
        let v2 = "io.prometheus.write.v2.Request";
        for text in [
            "",
            "text/plain",
            "application/x-protobuf",
            "application/x-protobuf;",
            "application/x-protobuf;proto=prometheus.WriteRequest",
            "application/x-protobuf; charset=utf-8; Proto=\"prometheus.WriteRequest\"",
        ] {
            assert_eq!(told(text), Some(Schema::V1), "{text}");
        }
        for text in [
            format!("application/x-protobuf;proto={v2}"),
            format!("application/x-protobuf ; PROTO = \"{v2}\" "),
            format!("application/x-protobuf;proto={v2};proto={v2}"),
        ] {
            assert_eq!(told(&text), Some(Schema::V2), "{text}");
        }
        for text in [
            "application/x-protobuf;proto=io.prometheus.write.v3.Request".to_owned(),
            "application/x-protobuf;proto=".to_owned(),
            format!("application/x-protobuf;proto={v2};proto=prometheus.WriteRequest"),
        ] {
            assert_eq!(told(&text), None, "{text}");
        }
    }
}
