//! Remote-write bodies through filters, beside prost's reading of them.

use influxdb_relay::limits::BODY_BYTES_MAX;
use influxdb_relay::payload::filter::{Filters, Left};
use influxdb_relay::payload::remote_write::{Refused, Room, Schema};
use influxdb_relay::plan::BackendId;
use prost::Message;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value;
use snap::raw::{Decoder, Encoder};

use crate::model::{WISHES, Wish, Wishes};
use crate::{allocations, compiled, data, storm};

/// `prometheus.WriteRequest`, as far as a filter reads it.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Series>,
}

#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `io.prometheus.write.v2.Request`, the same.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(bytes = "vec", repeated, tag = "4")]
    symbols: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "5")]
    series: Vec<SeriesV2>,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    references: Vec<u32>,
}

type Labels = Vec<(Vec<u8>, Vec<u8>)>;

/// The labels of each series, by prost; `None` if it is no such message.
fn read(schema: Schema, plain: &[u8]) -> Option<Vec<Labels>> {
    match schema {
        Schema::V1 => {
            let series = WriteRequest::decode(plain).ok()?.series.into_iter();
            let pair = |label: Label| (label.name, label.value);
            let labels = series.map(|series| series.labels.into_iter().map(pair).collect());
            Some(labels.collect())
        }
        Schema::V2 => {
            let Request { symbols, series } = Request::decode(plain).ok()?;
            let symbol = |place: &u32| symbols.get(usize::try_from(*place).ok()?).cloned();
            let labels = |series: SeriesV2| {
                let pairs = series.references.chunks(2);
                pairs
                    .map(|pair| Some((symbol(&pair[0])?, symbol(pair.get(1)?)?)))
                    .collect()
            };
            series.into_iter().map(labels).collect()
        }
    }
}

fn takes(labels: &Labels, [measurement, tag, value]: &Wishes) -> bool {
    let is_name = |name: &[u8]| name == b"__name__";
    let is_named = labels.iter().any(|(name, _)| is_name(name));
    (is_named || measurement.1(b""))
        && labels.iter().all(|(name, text)| match is_name(name) {
            true => measurement.1(text),
            false => tag.1(name) && value.1(text),
        })
}

fn packed(plain: &[u8]) -> Vec<u8> {
    Encoder::new().compress_vec(plain).unwrap()
}

/// Filters one body; what is left of it, unpacked.
fn filter(
    room: &mut Room,
    filters: &Filters,
    schema: Schema,
    body: &[u8],
) -> Result<(Left, Vec<u8>), Refused> {
    let mut opened = room.open(schema, body, BODY_BYTES_MAX)?;
    let mut out = b"old".to_vec();
    let filter = filters.get(filters.of(BackendId(0)).unwrap());
    let left = opened.apply(filter, &mut out)?;
    let plain = match left {
        Left::All => Decoder::new().decompress_vec(body).unwrap(),
        Left::Some => Decoder::new().decompress_vec(&out).unwrap(),
        Left::Nothing => Vec::new(),
    };
    Ok((left, plain))
}

/// A field of its own: number, and bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

/// One field, and whether it is a series with these labels.
type Piece = (Vec<u8>, Option<Labels>);

const NAMES: &[&str] = &["cpu", "mem_free", "go_gc_7", "a b", "c", ""];
const TAGS: &[&str] = &["host", "a b", "a,b", "cpu", "region2", "caf\u{e9}"];

fn pick<'a>(dice: &mut StdRng, from: &[&'a str]) -> &'a str {
    from[dice.random_range(0..from.len())]
}

fn labels(dice: &mut StdRng) -> Labels {
    let mut labels = Labels::new();
    if dice.random_bool(0.9) {
        labels.push((b"__name__".to_vec(), pick(dice, NAMES).into()));
    }
    for _ in 0..dice.random_range(0..4) {
        labels.push((pick(dice, TAGS).into(), pick(dice, NAMES).into()));
    }
    labels
}

/// A message as a sender would write it, and as none would: fields that nobody knows among others.
fn message(dice: &mut StdRng, schema: Schema) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut symbols: Vec<Vec<u8>> = vec![Vec::new()];
    for _ in 0..dice.random_range(0..8) {
        let labels = labels(dice);
        let mut body = Vec::new();
        match schema {
            Schema::V1 => {
                for (name, value) in &labels {
                    body.extend(field(1, &[field(1, name), field(2, value)].concat()));
                }
            }
            Schema::V2 => {
                let mut places = Vec::new();
                for text in labels.iter().flat_map(|(name, value)| [name, value]) {
                    let known = symbols.iter().position(|known| known == text);
                    places.push(known.unwrap_or(symbols.len()) as u64);
                    if known.is_none() {
                        symbols.push(text.clone());
                    }
                }
                let cut = dice.random_range(0..=places.len());
                let mut run = Vec::new();
                for &place in &places[..cut] {
                    prost::encoding::encode_varint(place, &mut run);
                }
                body.extend(field(1, &run));
                for &place in &places[cut..] {
                    body.push(1 << 3); // not packed, which is right too
                    prost::encoding::encode_varint(place, &mut body);
                }
            }
        }
        body.extend(field(2, b"\x09\0\0\0\0\0\0\xf0\x3f\x10\x88\x27")); // a sample
        body.extend(field(4, b"a histogram, or an exemplar"));
        body.extend(b"\xf8\x07\x05"); // field 127
        let number = if schema == Schema::V1 { 1 } else { 5 };
        pieces.push((field(number, &body), Some(labels)));
        if dice.random_bool(0.2) {
            pieces.push((b"\xf1\x07\x01\x02\x03\x04\x05\x06\x07\x08".to_vec(), None)); // field 126
        }
    }
    if schema == Schema::V2 {
        // Some stand behind the series: fields of different numbers have no order.
        let before = dice.random_range(0..=symbols.len());
        let symbols = symbols.iter().map(|symbol| (field(4, symbol), None));
        pieces.splice(0..0, symbols.clone().take(before));
        pieces.extend(symbols.skip(before));
    }
    pieces
}

fn wishes(dice: &mut StdRng) -> Wishes {
    let mut one =
        || -> Wish { WISHES[dice.random_range(0..WISHES.len()) * dice.random_range(0..2)] };
    [one(), one(), one()]
}

#[test]
fn series_that_stay_keep_every_byte() {
    let mut room = Room::default();
    let mut seen = [0; 3];
    storm(0..3000, |dice| {
        let schema = [Schema::V1, Schema::V2][dice.random_range(0..2)];
        let mut pieces = message(dice, schema);
        let has_metadata = schema == Schema::V1 && dice.random_bool(0.2);
        if has_metadata {
            pieces.insert(0, (field(3, b"\x08\x01\x12\x03cpu"), None));
        }
        let wishes = wishes(dice);
        let goes = |piece: &Piece| {
            piece
                .1
                .as_ref()
                .is_some_and(|labels| !takes(labels, &wishes))
        };
        let plain: Vec<u8> = pieces.iter().flat_map(|piece| piece.0.clone()).collect();
        let right = pieces.iter().filter(|piece| !goes(piece));
        let right: Vec<u8> = right.flat_map(|piece| piece.0.clone()).collect();
        let is_something =
            has_metadata || pieces.iter().any(|piece| piece.1.is_some() && !goes(piece));
        let right = match pieces.iter().any(goes) {
            false => (Left::All, plain.clone()),
            true if is_something => (Left::Some, right),
            true => (Left::Nothing, Vec::new()),
        };
        seen[right.0 as usize] += 1;
        let found = filter(&mut room, &compiled(&wishes), schema, &packed(&plain));
        assert_eq!(
            found,
            Ok(right),
            "{schema:?} {:?}",
            wishes.map(|(text, _)| text)
        );
    });
    eprintln!("all, some, nothing: {seen:?}");
}

/// What is taken of any bytes is what prost reads, and the series that are left are those that are to be.
fn check_against_prost(room: &mut Room, schema: Schema, wishes: &Wishes, plain: &[u8]) -> bool {
    let found = filter(room, &compiled(wishes), schema, &packed(plain));
    let read_before = read(schema, plain);
    let Ok((left, after)) = found else {
        return false;
    };
    let mut right = read_before.unwrap_or_else(|| panic!("{schema:?} takes {plain:02x?}"));
    let all = right.len();
    right.retain(|labels| takes(labels, wishes));
    assert_eq!(left == Left::All, right.len() == all);
    if left != Left::Nothing {
        assert_eq!(read(schema, &after), Some(right), "{schema:?} {plain:02x?}");
    } else {
        assert!(right.is_empty());
    }
    true
}

#[test]
fn bent_messages_are_refused_or_read_as_prost_reads_them() {
    let mut room = Room::default();
    let (mut taken, mut refused, mut strict) = (0, 0, 0);
    storm(0..6000, |dice| {
        let schema = [Schema::V1, Schema::V2][dice.random_range(0..2)];
        let pieces = message(dice, schema);
        let mut plain: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.0).collect();
        for _ in 0..dice.random_range(0..3) {
            let at = dice.random_range(0..=plain.len());
            match dice.random_range(0..4) {
                0 => plain.truncate(at),
                1 if at < plain.len() => plain[at] ^= 1 << dice.random_range(0..8),
                2 if at < plain.len() => drop(plain.remove(at)),
                _ => plain.insert(at, dice.random()),
            }
        }
        let wishes = wishes(dice);
        if check_against_prost(&mut room, schema, &wishes, &plain) {
            taken += 1;
        } else {
            refused += 1;
            strict += usize::from(read(schema, &plain).is_some());
        }
    });
    eprintln!("{taken} taken, {refused} refused, of which prost would take {strict}");
    assert!(
        strict * 20 <= refused,
        "only groups and numbers past 32 bits are refused beyond prost"
    );
}

#[test]
fn every_cut_and_every_bit_of_a_body_is_refused_or_another_right_body() {
    let mut room = Room::default();
    let wishes = [WISHES[1], WISHES[0], WISHES[0]];
    let mut dice = rand::SeedableRng::seed_from_u64(7);
    for schema in [Schema::V1, Schema::V2] {
        let pieces = message(&mut dice, schema);
        let plain: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.0).collect();
        let body = packed(&plain);
        for cut in 0..body.len() {
            let found = filter(&mut room, &compiled(&wishes), schema, &body[..cut]);
            assert!(
                matches!(found, Err(Refused::Bad(_))),
                "cut at {cut}: {found:?}"
            );
        }
        for cut in 0..plain.len() {
            check_against_prost(&mut room, schema, &wishes, &plain[..cut]);
        }
        for at in 0..body.len() * 8 {
            let mut bent = body.clone();
            bent[at / 8] ^= 1 << (at % 8);
            if let Ok(plain) = Decoder::new().decompress_vec(&bent) {
                check_against_prost(&mut room, schema, &wishes, &plain);
            } else {
                assert!(filter(&mut room, &compiled(&wishes), schema, &bent).is_err());
            }
        }
    }
}

#[test]
fn bombs_are_refused_before_room_is_made_for_them() {
    let filters = compiled(&[WISHES[1], WISHES[0], WISHES[0]]);
    let apply = |schema, body: &[u8], bytes_max: usize| {
        let mut room = Room::default();
        let mut opened = room.open(schema, body, bytes_max)?;
        let filter = filters.get(filters.of(BackendId(0)).unwrap());
        opened.apply(filter, &mut Vec::new())
    };
    let zeros = packed(&vec![0; 4 << 20]);
    assert_eq!(
        apply(Schema::V1, &zeros, (4 << 20) - 1),
        Err(Refused::TooLarge)
    );
    assert!(matches!(
        apply(Schema::V1, &zeros, 4 << 20),
        Err(Refused::Bad(_))
    )); // field 0
    let claims = |bytes: u64| {
        let mut body = Vec::new();
        prost::encoding::encode_varint(bytes, &mut body);
        body.extend(b"\0a");
        body
    };
    for (bytes, refused) in [
        (1, None),
        (2, Some(Refused::Bad("not a Snappy block"))),
        (
            1 << 20,
            Some(Refused::Bad(
                "a Snappy block that claims to be longer than it is",
            )),
        ),
        (BODY_BYTES_MAX as u64 + 1, Some(Refused::TooLarge)),
        (u64::from(u32::MAX), Some(Refused::TooLarge)),
        (1 << 32, Some(Refused::Bad("not a Snappy block"))),
    ] {
        let found = apply(Schema::V1, &claims(bytes), BODY_BYTES_MAX);
        match refused {
            None => assert!(matches!(found, Err(Refused::Bad("cut off"))), "{found:?}"),
            Some(refused) => assert_eq!(found, Err(refused), "{bytes}"),
        }
    }
    // A million symbols of two bytes each are as many as there may be.
    let symbols = |count: usize| packed(&b"\x22\0".repeat(count));
    assert_eq!(
        apply(Schema::V2, &symbols(1 << 20), BODY_BYTES_MAX),
        Ok(Left::All)
    );
    assert_eq!(
        apply(Schema::V2, &symbols((1 << 20) + 1), BODY_BYTES_MAX),
        Err(Refused::TooLarge)
    );
    for zstd in [
        &b"\x28\xb5\x2f\xfd\x04\x00\x09\x00\x00"[..],
        b"",
        b"\x1f\x8b\x08",
    ] {
        assert!(matches!(
            apply(Schema::V1, zstd, BODY_BYTES_MAX),
            Err(Refused::Bad(_))
        ));
    }
}

#[test]
fn what_is_malformed_is_refused_whatever_the_filter_says() {
    let label = |name: &[u8], value: &[u8]| field(1, &[field(1, name), field(2, value)].concat());
    let series = |body: &[u8]| field(1, body);
    let symbols = [field(4, b""), field(4, b"__name__"), field(4, b"cpu")].concat();
    let v2 = |references: &[u8]| [&symbols[..], &field(5, &field(1, references))].concat();
    let rows = [
        (Schema::V1, series(&label(b"__name__", b"cpu")), true),
        (Schema::V1, series(b""), true),
        (Schema::V1, Vec::new(), false), // Snappy has no empty block, but for one zero
        (Schema::V1, b"\x08\x01".to_vec(), false), // a series that is a number
        (Schema::V1, series(b"\x08\x01"), false),
        (Schema::V1, series(&field(1, b"\x08\x01")), false),
        (
            Schema::V1,
            series(&[label(b"__name__", b"mem"), b"\x0a\x05".to_vec()].concat()),
            false,
        ),
        (
            Schema::V1,
            [series(&label(b"__name__", b"mem")), b"\x0b".to_vec()].concat(),
            false,
        ),
        (Schema::V2, v2(b"\x01\x02"), true),
        (Schema::V2, v2(b"\x01"), false),
        (Schema::V2, v2(b"\x01\x03"), false),
        (Schema::V2, v2(b"\x01\x02\x01"), false),
        (Schema::V2, v2(b"\x01\x82\x80\x80\x80\x10"), false), // 2 in 32 bits, but not in 64
        (Schema::V2, v2(b"\x01\x80"), false),
        (Schema::V2, b"\x20\x01".to_vec(), false),
        (Schema::V2, field(5, b"\x0d\0\0\0\0"), false),
    ];
    let mut room = Room::default();
    for (schema, plain, is_right) in rows {
        let body = if plain.is_empty() {
            Vec::new()
        } else {
            packed(&plain)
        };
        for wish in WISHES {
            let filters = compiled(&[*wish, *wish, WISHES[0]]);
            let found = filter(&mut room, &filters, schema, &body);
            assert_eq!(
                found.is_ok(),
                is_right,
                "{schema:?} {plain:02x?}: {found:?}"
            );
        }
    }
}

#[test]
fn recorded_bodies_of_six_senders_are_filtered() {
    let mut room = Room::default();
    let (mut bodies, mut stay, mut go) = (0, 0, 0);
    let names = [
        "node_0",
        "otel_0",
        "prometheus_0",
        "prometheus_1",
        "prometheus_2",
    ];
    let more = ["py_remote_writer_0", "rust_0", "vmagent_0"];
    for name in names.into_iter().chain(more) {
        let body = data(&format!("prom/{name}.snappy"));
        let Some((body, said)) = body.zip(data(&format!("prom/{name}.json"))) else {
            continue;
        };
        bodies += 1;
        let said: Value = serde_json::from_slice(&said).unwrap();
        let text = |value: &Value| value.as_str().unwrap().as_bytes().to_vec();
        let series = said["timeseries"].as_array().unwrap().iter();
        let series: Vec<Labels> = series
            .map(|series| {
                let labels = series["labels"].as_array().unwrap().iter();
                labels
                    .map(|pair| (text(&pair[0]), text(&pair[1])))
                    .collect()
            })
            .collect();
        let first = |wish: usize| [WISHES[wish], WISHES[0], WISHES[0]];
        let all = (0..WISHES.len()).map(first);
        for wishes in all.chain([
            [WISHES[0], WISHES[2], WISHES[0]],
            [WISHES[0], WISHES[0], WISHES[5]],
        ]) {
            let mut right = series.clone();
            right.retain(|labels| takes(labels, &wishes));
            stay += right.len();
            go += series.len() - right.len();
            let (left, after) = filter(&mut room, &compiled(&wishes), Schema::V1, &body).unwrap();
            assert_eq!(left == Left::All, right.len() == series.len(), "{name}");
            if !right.is_empty() || left != Left::Nothing {
                assert_eq!(read(Schema::V1, &after), Some(right), "{name}");
            }
        }
    }
    eprintln!("{bodies} bodies: {stay} series stay, {go} go");
}

#[test]
fn a_warm_room_allocates_nothing_and_gives_back_what_was_large() {
    let filters = compiled(&[WISHES[1], WISHES[0], WISHES[0]]);
    let filter = filters.get(filters.of(BackendId(0)).unwrap());
    let mut dice = rand::SeedableRng::seed_from_u64(1);
    let mut room = Room::default();
    for schema in [Schema::V1, Schema::V2] {
        let pieces = (0..3).flat_map(|_| message(&mut dice, Schema::V1));
        let plain: Vec<u8> = match schema {
            Schema::V1 => pieces.flat_map(|piece| piece.0).collect(),
            Schema::V2 => message(&mut dice, schema)
                .into_iter()
                .flat_map(|piece| piece.0)
                .collect(),
        };
        let (body, large) = (packed(&plain), packed(&plain.repeat(20_000)));
        let mut out = Vec::with_capacity(100_000);
        let mut pass = |body: &[u8]| {
            let mut opened = room.open(schema, body, 1 << 30).unwrap();
            opened.apply(filter, &mut out).unwrap()
        };
        pass(&body);
        assert_eq!(
            allocations(|| {
                pass(&body);
            }),
            0,
            "{schema:?}"
        );
        if schema == Schema::V1 {
            pass(&large);
            assert!(
                allocations(|| {
                    pass(&body);
                }) > 0,
                "the large room is gone"
            );
        }
    }
}
