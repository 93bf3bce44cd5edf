//! What the answer rule costs: two backends heard, one verdict.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use influxdb_relay::backend::outcome::{Failure, Outcome};
use influxdb_relay::fanout::verdict::Verdict;
use influxdb_relay::plan::BackendId;

fn verdicts(criterion: &mut Criterion) {
    let cases = [
        ("both accept", [Outcome::Accepted, Outcome::Accepted]),
        (
            "one fails, one accepts",
            [Outcome::Failed(Failure::TimedOut), Outcome::Accepted],
        ),
        (
            "both fail",
            [
                Outcome::Failed(Failure::Status(500)),
                Outcome::Failed(Failure::Connect),
            ],
        ),
    ];
    for (name, outcomes) in cases {
        criterion.bench_function(&format!("verdict, {name}"), |bencher| {
            bencher.iter(|| {
                let mut verdict = Verdict::new(2, 1);
                for (index, outcome) in black_box(outcomes).into_iter().enumerate() {
                    verdict.hear(BackendId(index), outcome);
                }
                verdict.ruling()
            });
        });
    }
}

criterion_group!(benches, verdicts);
criterion_main!(benches);
