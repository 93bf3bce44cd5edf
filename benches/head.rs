//! What reading one write costs before its body: the request head, its query, and a backend's
//! answer head. `cargo bench --bench head`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use influxdb_relay::http::header::HeaderSpace;
use influxdb_relay::http::precision::Dialect;
use influxdb_relay::http::request::{Parsed, RequestHead};
use influxdb_relay::http::response::AnswerHead;
use influxdb_relay::http::write_query::write_query;
use influxdb_relay::limits::HEAD_BYTES_MAX;

const TELEGRAF: &[u8] = b"POST /write?consistency=any&db=telegraf&precision=ns&rp= HTTP/1.1\r\n\
    Host: relay.example:9096\r\nUser-Agent: Telegraf/1.30.0 Go/1.22.2\r\nContent-Length: 1187\r\n\
    Authorization: Basic dGVsZWdyYWY6c2VjcmV0\r\nContent-Encoding: gzip\r\n\
    Content-Type: text/plain; charset=utf-8\r\nAccept-Encoding: gzip\r\n\r\n";
const INFLUXDB: &[u8] = b"HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\n\
    Request-Id: 2d4c4c46-6a0a-11ef-8001-0242ac110002\r\nX-Influxdb-Build: OSS\r\n\
    X-Influxdb-Version: 1.8.10\r\nX-Request-Id: 2d4c4c46-6a0a-11ef-8001-0242ac110002\r\n\
    Date: Tue, 03 Sep 2024 12:00:00 GMT\r\n\r\n";

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    let mut out = Vec::new();

    group.throughput(Throughput::Bytes(TELEGRAF.len() as u64));
    group.bench_function("request", |bencher| {
        bencher.iter(|| {
            let mut space = HeaderSpace::new();
            let parsed = RequestHead::parse(black_box(TELEGRAF), &mut space, HEAD_BYTES_MAX);
            matches!(parsed, Parsed::Whole(_))
        });
    });
    group.bench_function("request_and_pass_on", |bencher| {
        bencher.iter(|| {
            let mut space = HeaderSpace::new();
            out.clear();
            if let Parsed::Whole(head) =
                RequestHead::parse(black_box(TELEGRAF), &mut space, HEAD_BYTES_MAX)
            {
                head.pass_on(false, &mut out);
            }
            out.len()
        });
    });

    group.throughput(Throughput::Bytes(INFLUXDB.len() as u64));
    group.bench_function("answer", |bencher| {
        bencher.iter(|| {
            let mut space = HeaderSpace::new();
            let parsed = AnswerHead::parse(black_box(INFLUXDB), &mut space);
            matches!(parsed, Parsed::Whole(_))
        });
    });

    let query = b"consistency=any&db=telegraf&precision=ns&rp=";
    group.throughput(Throughput::Bytes(query.len() as u64));
    group.bench_function("write_query", |bencher| {
        bencher.iter(|| {
            out.clear();
            write_query(black_box(query), Dialect::V1, Some("two_weeks"), &mut out)
        });
    });
    group.finish();
}

criterion_group!(benches, heads);
criterion_main!(benches);
