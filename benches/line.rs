//! What scanning and dating a body costs, in bytes per second on one core with a hot cache.
//!
//! `cargo bench --bench line`; the promise is 3 GB/s for 100 lines in 12 kB, dated or to be dated.

#![allow(missing_docs)] // criterion_group! makes a public function

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use influxdb_relay::payload::line::{scan, stamp};

const NOW: i64 = 1_700_000_000_000_000_000;

/// `lines` lines of about 120 bytes.
fn body(lines: usize, fields: &str, time: &str) -> Vec<u8> {
    let line = |n: usize| {
        format!(
            "cpu,host=server{n:05},region=eu-west-1,rack=r{:02},os=linux {fields}{time}\n",
            n % 40
        )
    };
    (0..lines).map(line).collect::<String>().into_bytes()
}

fn lines(criterion: &mut Criterion) {
    const NUMBERS: &str = "usage_user=12.5,usage_system=3.25,count=1234567i";
    const STRING: &str = "usage_user=12.5,state=\"all is well, so far\",n=12345i";
    for count in [1, 100, 1000] {
        let kinds = [
            ("dated", body(count, NUMBERS, " 1700000000000000000")),
            ("undated", body(count, NUMBERS, "")),
            ("dated strings", body(count, STRING, " 1700000000000000000")),
            ("undated strings", body(count, STRING, "")),
        ];
        for (kind, body) in kinds {
            let mut group = criterion.benchmark_group(format!("{count} lines, {kind}"));
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function("scan", |bench| bench.iter(|| scan(black_box(&body))));
            let mut out = Vec::new();
            group.bench_function("stamp", |bench| {
                bench.iter(|| stamp(black_box(&body), black_box(NOW), &mut out));
            });
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_millis(600)).warm_up_time(std::time::Duration::from_millis(200));
    targets = lines
}
criterion_main!(benches);
