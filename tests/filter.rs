//! Filters against other readings: a slow model, what InfluxDB itself made of the corpus, and prost.
//!
//! A failing run of a storm prints its seed; `SEED=<n> cargo test --test filter` repeats it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // a test fails by panicking
#![allow(unsafe_code)] // a counting allocator cannot be had without

#[path = "filter/model.rs"]
mod model;
#[path = "lines/reference.rs"]
#[allow(dead_code)] // only keys and the ends of lines are looked at
mod reference;
#[path = "filter/series.rs"]
mod series;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;
use std::path::PathBuf;

use influxdb_relay::payload::filter::{Filters, Left, Scratch};
use influxdb_relay::payload::gzip::Inflater;
use influxdb_relay::plan::{BackendId, FilterPlan};
use model::{WISHES, Wishes, filtered};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

struct Counting;

thread_local! {
    static COUNTED: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches one cell.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _gone = COUNTED.try_with(|counted| counted.set(counted.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread has asked the allocator while `work` was done.
pub(crate) fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNTED.get();
    work();
    COUNTED.get() - before
}

/// A file of the shared test data; `DATA=<dir>` says where it is if it is not beside the repository.
pub(crate) fn data(name: &str) -> Option<Vec<u8>> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let path = std::env::var_os("DATA")
        .map_or_else(beside, PathBuf::from)
        .join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        eprintln!("skipped: {} is not here", path.display());
    }
    bytes
}

/// Runs `round` with many seeds; a panic within names the seed.
pub(crate) fn storm(seeds: Range<u64>, mut round: impl FnMut(&mut StdRng)) {
    let only = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    for seed in only.map_or(seeds, |seed: u64| seed..seed + 1) {
        let shown = ShownOnPanic(seed);
        round(&mut StdRng::seed_from_u64(seed));
        drop(shown);
    }
}

struct ShownOnPanic(u64);

impl Drop for ShownOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with SEED={}", self.0);
        }
    }
}

/// One filter, compiled.
pub(crate) fn compiled(wishes: &Wishes) -> Filters {
    let [measurements, tags, tag_values] = wishes.map(|(text, _)| match text {
        "" => Vec::new(),
        text => vec![text.to_owned()],
    });
    let plan = FilterPlan {
        measurements,
        tags,
        tag_values,
    };
    Filters::compile([Some(&plan)]).unwrap()
}

/// Every wish in every place, with others beside it.
fn all_wishes() -> impl Iterator<Item = Wishes> {
    let places = 0..WISHES.len();
    places.flat_map(|i| {
        let (wish, other) = (WISHES[i], WISHES[(i + 3) % WISHES.len()]);
        [
            [wish, WISHES[0], WISHES[0]],
            [WISHES[0], wish, WISHES[0]],
            [WISHES[0], WISHES[0], wish],
            [wish, other, WISHES[0]],
            [WISHES[5], wish, other],
        ]
    })
}

/// Holds the filter to the model; what is left.
fn check(wishes: &Wishes, filters: &Filters, body: &[u8]) -> (Left, Vec<u8>) {
    let filter = filters.get(filters.of(BackendId(0)).unwrap());
    let mut out = b"old".to_vec();
    let left = filter.apply(body, &mut Scratch::default(), &mut out);
    let name = || {
        let texts = wishes.map(|(text, _)| text);
        format!("{texts:?} {:?}", String::from_utf8_lossy(body))
    };
    match filtered(body, reference::line_end, wishes) {
        None => assert_eq!(left, Left::All, "{}", name()),
        Some((_, false)) => assert_eq!(left, Left::Nothing, "{}", name()),
        Some((stays, true)) => {
            assert_eq!(left, Left::Some, "{}", name());
            let shown = String::from_utf8_lossy;
            assert_eq!(shown(&out), shown(&stays), "{}", name());
            assert!(out == stays, "{}", name());
            let mut again = Vec::new();
            let second = filter.apply(&out, &mut Scratch::default(), &mut again);
            assert_eq!(second, Left::All, "filtered once is filtered: {}", name());
        }
    }
    (left, out)
}

const LINES: &[&str] = &[
    "cpu,host=a,region=eu load=0.64 17",
    "cpu load=1i",
    "mem,host=a\\ b,a\\ b=c free=7",
    "c\\ pu,a\\=b=c\\,d v=\"x y\" 5",
    "m\\,x,h\\\\=\\  v=\"a\nb,c=\\\"d\",w=t",
    "  \tdisk,path=/a v=1",
    "# a comment, host=a",
    "",
    "no point",
    "cpu,host= v=1",
    "cpu,=a v=1",
    "cpu,host=a=b v=1",
    "cpu,host==b v=1\r",
    "caf\u{e9},h\u{f6}st=\u{fc} v=1",
    "cpu,a b=c,d=e v=1",
    ",host=a v=1",
    "{\"not\": \"line protocol\"}",
];

const SPLINTERS: &[&[u8]] = &[
    b"\n", b"\r\n", b" ", b",", b"=", b"\\", b"\"", b"\t", b"\0", b"#", b"\xff", b"\\ ", b"\\,",
    b"\\=", b"\\\"", b",a=b", b" v=1", b"a", b"7", b"\\\n", b"\xc3",
];

/// A few lines, bent in a few places.
fn body(dice: &mut StdRng) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..dice.random_range(0..6) {
        body.extend(LINES[dice.random_range(0..LINES.len())].as_bytes());
        body.push(b'\n');
    }
    if dice.random_bool(0.3) {
        body.pop();
    }
    for _ in 0..dice.random_range(0..6) {
        let at = dice.random_range(0..=body.len());
        match dice.random_range(0..4) {
            0 if at < body.len() => body[at] = dice.random(),
            1 if at < body.len() => drop(body.remove(at)),
            2 => body.truncate(at.max(body.len() / 2)),
            _ => {
                let splinter = SPLINTERS[dice.random_range(0..SPLINTERS.len())];
                drop(body.splice(at..at, splinter.iter().copied()));
            }
        }
    }
    body
}

#[test]
fn a_storm_of_bodies_is_filtered_as_the_model_filters_it() {
    let all: Vec<(Wishes, Filters)> = all_wishes()
        .map(|wishes| (wishes, compiled(&wishes)))
        .collect();
    let mut seen = [0; 3];
    storm(0..12_000, |dice| {
        let body = body(dice);
        let (wishes, filters) = &all[dice.random_range(0..all.len())];
        let (left, _) = check(wishes, filters, &body);
        seen[left as usize] += 1;
    });
    eprintln!("all, some, nothing: {seen:?}");
    let is_whole = std::env::var_os("SEED").is_none();
    assert!(
        !is_whole || seen.iter().all(|&times| times > 500),
        "{seen:?}"
    );
}

/// Measurement and tags of a point of the corpus, as InfluxDB 1.6 stored them.
fn takes(point: &Value, wishes: &Wishes) -> Option<bool> {
    let [measurement, tag, tag_value] = wishes;
    let mut takes = measurement.1(point["m"].as_str()?.as_bytes());
    for pair in point["tags"].as_array()? {
        takes &= tag.1(pair[0].as_str()?.as_bytes()) && tag_value.1(pair[1].as_str()?.as_bytes());
    }
    Some(takes)
}

#[test]
fn the_corpus_is_filtered_by_the_names_that_influxdb_reads() {
    let Some(text) = data("lp/lp_cases.jsonl") else {
        return;
    };
    let all: Vec<(Wishes, Filters)> = all_wishes()
        .map(|wishes| (wishes, compiled(&wishes)))
        .collect();
    let (mut bodies, mut judged, mut gone) = (0, 0, 0);
    for row in std::str::from_utf8(&text).unwrap().lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let Some(body) = row["in"].as_str().map(str::as_bytes) else {
            continue;
        };
        bodies += 1;
        for (wishes, filters) in &all {
            let (left, out) = check(wishes, filters, body);
            let points = row["points"].as_array();
            let keys = keys(body);
            let Some(points) = points.filter(|points| points.len() == keys.len()) else {
                continue;
            };
            let right: Option<Vec<bool>> =
                points.iter().map(|point| takes(point, wishes)).collect();
            let Some(right) = right else { continue };
            let stays = keys.into_iter().zip(&right);
            let stays: Vec<_> = stays
                .filter(|(_, takes)| **takes)
                .map(|(key, _)| key)
                .collect();
            let found = match left {
                Left::All => self::keys(body),
                Left::Some => self::keys(&out),
                Left::Nothing => Vec::new(),
            };
            assert_eq!(found, stays, "{:?} {row}", wishes.map(|(text, _)| text));
            judged += right.len();
            gone += right.iter().filter(|takes| !**takes).count();
        }
    }
    eprintln!("{bodies} bodies; {judged} points judged, {gone} gone");
    assert!(gone > 1000 && judged - gone > 1000);
}

/// The keys of the points that InfluxDB would store.
fn keys(body: &[u8]) -> Vec<Vec<u8>> {
    let lines = reference::parse(body).into_iter().flatten();
    lines.map(|point| point.key).collect()
}

#[test]
fn real_samples_are_filtered_as_the_model_filters_them() {
    let docs = data("samples/docs_examples.lp");
    let packed = data("samples/influxdb_tsi1_100k.lp.gz");
    let tsi = packed.map(|packed| {
        let mut body = Vec::new();
        Inflater::new()
            .inflate(&packed, &mut body, 64 << 20)
            .unwrap();
        let lines = body.split_inclusive(|&byte| byte == b'\n').step_by(97);
        lines.collect::<Vec<_>>().concat()
    });
    for body in [docs, tsi].into_iter().flatten() {
        for wishes in all_wishes() {
            check(&wishes, &compiled(&wishes), &body);
        }
    }
}

#[test]
fn a_warm_filter_allocates_nothing() {
    let lines = LINES.join("\n").repeat(20);
    let warm_twice = |wishes: &Wishes| {
        let filters = compiled(wishes);
        let filter = filters.get(filters.of(BackendId(0)).unwrap());
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        let mut pass = || filter.apply(lines.as_bytes(), &mut scratch, &mut out);
        pass();
        assert_eq!(
            allocations(|| {
                pass();
            }),
            0,
            "{:?}",
            wishes[0].0
        );
    };
    for wishes in all_wishes() {
        warm_twice(&wishes);
    }
    assert!(allocations(|| drop(vec![0; 9])) > 0, "the count counts");
}
