//! What it costs to filter a body for one output, on one core with a hot cache.
//!
//! `cargo bench --bench filter`; line protocol as 100 lines of some 110 bytes and five tags, remote-write as
//! 500 series.

#![allow(missing_docs)] // criterion_group! makes a public function

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use influxdb_relay::limits::BODY_BYTES_MAX;
use influxdb_relay::payload::filter::{Filters, Scratch};
use influxdb_relay::payload::remote_write::{Room, Schema};
use influxdb_relay::plan::FilterPlan;
use snap::raw::Encoder;

/// Half of the lines, or series, are of `cpu`.
fn filters() -> Vec<(&'static str, Filters)> {
    let plan = |measurement: &str, tag: &str, tag_value: &str| FilterPlan {
        measurements: vec![measurement.into()],
        tags: Some(tag.to_owned())
            .filter(|tag| !tag.is_empty())
            .into_iter()
            .collect(),
        tag_values: Some(tag_value.to_owned())
            .filter(|tag| !tag.is_empty())
            .into_iter()
            .collect(),
    };
    [
        ("all stays", plan(".", "", "")),
        ("half stays", plan("^cpu$", "", "")),
        (
            "half stays, by a choice of names",
            plan("^(cpu|disk|net_.*|system)$", "", ""),
        ),
        (
            "all stays, tags looked at",
            plan(".", "^(host|os|rack|region|zone)$", ""),
        ),
        (
            "all stays, values looked at",
            plan(".", "^(host|os|rack|region|zone)$", "^[a-z0-9-]+$"),
        ),
    ]
    .into_iter()
    .map(|(name, plan)| {
        (
            name,
            Filters::compile([Some(&plan)]).expect("right expressions"),
        )
    })
    .collect()
}

fn lines(criterion: &mut Criterion) {
    let mut body = String::new();
    for n in 0..100 {
        let measurement = if n % 2 == 0 { "cpu" } else { "mem" };
        let _ = writeln!(
            body,
            "{measurement},host=server{n:02},os=linux,rack=r7,region=eu-west-1,zone=b user=12.5,system=3.25,n={n}i 1700000000000000000"
        );
    }
    let quoted = body.replace("n=", "s=\"a b\",n=");
    let mut group = criterion.benchmark_group("filter lines");
    for (kind, body) in [("", &body), (", strings", &quoted)] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        for (name, filters) in filters() {
            let (mut scratch, mut out) = (Scratch::default(), Vec::new());
            group.bench_function(format!("{name}{kind}"), |bench| {
                let (_, filter) = filters.iter().next().expect("one filter");
                bench.iter(|| filter.apply(black_box(body.as_bytes()), &mut scratch, &mut out));
            });
        }
    }
    group.finish();
}

fn series(criterion: &mut Criterion) {
    let mut plain = Vec::new();
    for n in 0..500 {
        let mut series = Vec::new();
        let name = if n % 2 == 0 { "cpu" } else { "mem" };
        let host = format!("server{n:03}");
        for (name, value) in [("__name__", name), ("host", &host), ("region", "eu-west-1")] {
            series.extend([0x0A, length(name.len() + value.len() + 4)]);
            for (key, text) in [(0x0A, name), (0x12, value)] {
                series.extend([key, length(text.len())]);
                series.extend(text.as_bytes());
            }
        }
        series.extend(b"\x12\x0c\x09\0\0\0\0\0\0\xf0\x3f\x10\x88\x27");
        plain.extend([0x0A, length(series.len())]);
        plain.extend(series);
    }
    let body = Encoder::new().compress_vec(&plain).expect("a small body");
    let mut group = criterion.benchmark_group("filter remote-write");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    for (name, filters) in filters() {
        let (mut room, mut out) = (Room::default(), Vec::new());
        group.bench_function(name, |bench| {
            let (_, filter) = filters.iter().next().expect("one filter");
            bench.iter(|| {
                let mut opened = room
                    .open(Schema::V1, black_box(&body), BODY_BYTES_MAX)
                    .expect("a right body");
                opened.apply(filter, &mut out).expect("a right body")
            });
        });
    }
    group.finish();
}

/// A length that one byte holds.
fn length(bytes: usize) -> u8 {
    u8::try_from(bytes)
        .ok()
        .filter(|&bytes| bytes < 0x80)
        .expect("short")
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_millis(600)).warm_up_time(std::time::Duration::from_millis(200));
    targets = lines, series
}
criterion_main!(benches);
