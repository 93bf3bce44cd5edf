//! What judging one line that came by UDP costs, in nanoseconds on one core with a hot cache.
//!
//! `cargo bench --bench judge`; the promise is 150 ns for a dated line of 100 bytes.

#![allow(missing_docs)] // criterion_group! makes a public function

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use influxdb_relay::payload::judge::judge;

fn lines(criterion: &mut Criterion) {
    const SORTED: &str = "cpu,host=server01,os=linux,rack=r7,region=eu-west-1";
    const UNSORTED: &str = "cpu,host=server01,region=eu-west-1,rack=r7,os=linux";
    const NUMBERS: &str = "user=12.5,system=3.25,n=12345i";
    const STRING: &str = "user=12.5,state=\"all is well\"";
    const ESCAPE: &str = "user=12.5,in\\ all=3.25,n=12345i";
    const UTF8: &str = "user=12.5,temp=\"21 °C, dry\",n=1i";
    const TIME: &str = " 1700000000000000000";
    let mut group = criterion.benchmark_group("judge");
    for (name, line) in [
        ("dated", format!("{SORTED} {NUMBERS}{TIME}\n")),
        ("undated", format!("{SORTED},zone=eu-west-1a {NUMBERS}\n")),
        (
            "dated, unsorted tags",
            format!("{UNSORTED} {NUMBERS}{TIME}\n"),
        ),
        (
            "undated, unsorted tags",
            format!("{UNSORTED},zone=eu-west-1a {NUMBERS}\n"),
        ),
        ("dated, a string", format!("{SORTED} {STRING}{TIME}\n")),
        (
            "dated, an escape in a key",
            format!("{SORTED} {ESCAPE}{TIME}\n"),
        ),
        ("dated, not ASCII", format!("{SORTED} {UTF8}{TIME}\n")),
        ("dated, \\r", format!("{SORTED} {NUMBERS}{TIME}\r\n")),
        ("64 KiB of unsorted tags", long(16_000)),
        ("as many as are looked at", long(127)),
    ] {
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| judge(black_box(line.as_bytes()), 0, black_box(1)));
        });
    }
    group.finish();
}

/// A line with so many tags, or as many as fit 64 KiB, the last name first.
fn long(tags: usize) -> String {
    let tags = (0..tags.min(8_100)).rev().map(|n| format!(",{n:05}=1"));
    format!("m{} v=1 1\n", tags.collect::<String>())
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_millis(600)).warm_up_time(std::time::Duration::from_millis(200));
    targets = lines
}
criterion_main!(benches);
