//! `/metrics`: the rows of all shards, summed, as Prometheus text.

use std::sync::atomic::Ordering;

use crate::admin::exposition::{self, Page, code};
use crate::admin::peers_page;
use crate::admin::spool_page;
use crate::admin::udp_page;
use crate::events::Events;
use crate::metrics::{
    BackendMetrics, CODES, Counter, FAILURES, Histogram, LOG_LINES_DROPPED, PATHS, Path,
    ShardMetrics, VERBS,
};
use crate::shard::World;

/// The page. Once per scrape; `now_ms` is milliseconds since 1970.
pub fn page(world: &World, events: &Events, now_ms: u64) -> String {
    let mut page = Page::default();
    let shards: Vec<&ShardMetrics> = world.metrics.iter().map(AsRef::as_ref).collect();
    page.clients(&shards);
    page.access(&shards);
    page.tls(&shards);
    page.backends(world);
    spool_page::write(&mut page, world, now_ms);
    udp_page::write(&mut page, world);
    peers_page::write(&mut page, world, now_ms);
    page.head(
        "relay_events_dropped_total",
        "counter",
        "Changes of state that found the log's queue full.",
    );
    page.row("relay_events_dropped_total", "", events.dropped());
    let name = "relay_log_lines_dropped_total";
    page.head(
        name,
        "counter",
        "Lines of the log that stderr did not take.",
    );
    page.row(name, "", LOG_LINES_DROPPED.load(Ordering::Relaxed));
    page.head("relay_shards", "gauge", "Shards, one per CPU.");
    page.row("relay_shards", "", shards.len() as u64);
    page.head("relay_build_info", "gauge", "What is running.");
    page.row(
        "relay_build_info",
        concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""),
        1,
    );
    page.into_text()
}

fn sum<'a>(shards: &[&'a ShardMetrics], of: impl Fn(&'a ShardMetrics) -> &'a Counter) -> u64 {
    shards.iter().map(|&shard| of(shard).get()).sum()
}

impl Page {
    fn clients(&mut self, shards: &[&ShardMetrics]) {
        let name = "relay_http_requests_total";
        self.head(
            name,
            "counter",
            "Requests answered, by path, method and status.",
        );
        for (p, path) in PATHS.iter().enumerate() {
            for (v, verb) in VERBS.iter().enumerate() {
                for c in 0..=CODES.len() {
                    let count = sum(shards, |shard| &shard.requests[p][v][c]);
                    if count > 0 {
                        let labels =
                            format!("path=\"{path}\",method=\"{verb}\",code=\"{}\"", code(c));
                        self.row(name, &labels, count);
                    }
                }
            }
        }
        let name = "relay_http_request_duration_seconds";
        self.head(
            name,
            "histogram",
            "From the first byte of a request to its answer.",
        );
        let histograms: Vec<&Histogram> =
            shards.iter().map(|shard| &shard.request_duration).collect();
        self.histogram(name, "", &histograms);
        let name = "relay_http_request_bytes_total";
        self.head(name, "counter", "Bytes of write bodies, as they came.");
        self.row(name, "", sum(shards, |shard| &shard.request_bytes));
        let name = "relay_points_total";
        self.head(name, "counter", "Points in line-protocol writes, by path.");
        let has_points = |p: &usize| *p < 3 || *p == Path::Udp as usize;
        for (p, path) in PATHS.iter().enumerate().filter(|(p, _)| has_points(p)) {
            self.row(
                name,
                &format!("path=\"{path}\""),
                sum(shards, |shard| &shard.points[p]),
            );
        }
        self.head(
            "relay_inflight_bytes",
            "gauge",
            "Bytes that writes in flight hold.",
        );
        self.row(
            "relay_inflight_bytes",
            "",
            sum(shards, |shard| &shard.inflight_bytes),
        );
        self.head(
            "relay_http_connections",
            "gauge",
            "Client connections open.",
        );
        self.row(
            "relay_http_connections",
            "",
            sum(shards, |shard| &shard.connections),
        );
        self.head(
            "relay_http_connections_total",
            "counter",
            "Client connections accepted.",
        );
        self.row(
            "relay_http_connections_total",
            "",
            sum(shards, |shard| &shard.accepted),
        );
    }

    fn access(&mut self, shards: &[&ShardMetrics]) {
        let name = "relay_access_verifications_total";
        self.head(
            name,
            "counter",
            "Credentials verified the slow way: once each, and each time they are wrong.",
        );
        self.row(name, "", sum(shards, |shard| &shard.verifications));
    }

    fn tls(&mut self, shards: &[&ShardMetrics]) {
        let name = "relay_tls_handshakes_failed_total";
        self.head(name, "counter", "Client connections that came to no TLS.");
        self.row(name, "", sum(shards, |shard| &shard.tls_failed));
    }

    fn backends(&mut self, world: &World) {
        let labels: Vec<String> = world
            .plan
            .backends
            .iter()
            .map(|plan| exposition::backend(&plan.label))
            .collect();
        let rows = |b: usize| world.metrics.iter().map(move |shard| &shard.backends[b]);
        let name = "relay_backend_requests_total";
        self.head(
            name,
            "counter",
            "Writes that a backend answered, by status, or failed, by reason.",
        );
        for (b, label) in labels.iter().enumerate() {
            for c in 0..=CODES.len() {
                self.nonzero(
                    name,
                    label,
                    &code(c),
                    rows(b).map(|row| row.answers[c].get()).sum(),
                );
            }
            for (f, failure) in FAILURES.iter().enumerate() {
                self.nonzero(
                    name,
                    label,
                    failure,
                    rows(b).map(|row| row.failures[f].get()).sum(),
                );
            }
        }
        self.backend_state(world, &labels);
    }

    fn backend_state(&mut self, world: &World, labels: &[String]) {
        let rows = |b: usize| world.metrics.iter().map(move |shard| &shard.backends[b]);
        let name = "relay_backend_request_duration_seconds";
        self.head(
            name,
            "histogram",
            "From the send of a write to the backend's answer.",
        );
        for (b, label) in labels.iter().enumerate() {
            let histograms: Vec<&Histogram> = rows(b).map(|row| &row.request_duration).collect();
            self.histogram(name, label, &histograms);
        }
        self.head(
            "relay_backend_up",
            "gauge",
            "1 while every shard takes the backend for up.",
        );
        for (b, label) in labels.iter().enumerate() {
            self.row(
                "relay_backend_up",
                label,
                rows(b).map(|row| row.up.get()).min().unwrap_or(0),
            );
        }
        let name = "relay_backend_connections";
        self.head(
            name,
            "gauge",
            "Connections to the backend, idle or at work.",
        );
        for (b, label) in labels.iter().enumerate() {
            let idle: u64 = rows(b).map(|row| row.links_idle.get()).sum();
            let all: u64 = rows(b).map(|row| row.links.get()).sum();
            self.row(name, &format!("{label},state=\"idle\""), idle);
            self.row(
                name,
                &format!("{label},state=\"active\""),
                all.saturating_sub(idle),
            );
        }
        self.per_backend("relay_backend_missed_total", labels, world, MISSED, |row| {
            &row.missed
        });
        let name = "relay_points_expired_total";
        self.per_backend(name, labels, world, EXPIRED, |row| &row.expired);
        self.per_backend("relay_backend_merged_total", labels, world, MERGED, |row| {
            &row.merged
        });
    }

    fn per_backend(
        &mut self,
        name: &str,
        labels: &[String],
        world: &World,
        help: &str,
        of: impl Fn(&BackendMetrics) -> &Counter,
    ) {
        self.head(name, "counter", help);
        for (b, label) in labels.iter().enumerate() {
            self.row(
                name,
                label,
                world
                    .metrics
                    .iter()
                    .map(|shard| of(&shard.backends[b]).get())
                    .sum::<u64>(),
            );
        }
    }
}

const MISSED: &str =
    "Writes that another backend accepted, this one did not, and that were not kept: gone.";
const EXPIRED: &str = "Points that the backend dropped, since they are older than its retention.";
const MERGED: &str = "Requests that carried several writes.";
