//! What each shard counts, in rows with one writer: no lock, no read-modify-write. Pure.
//!
//! The shard adds with a load and a store, since nobody else writes; the admin page sums the rows of
//! all shards when it is asked. Labels are fixed tables: none ever comes from a client.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that one shard writes and everybody may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `more`. Only the shard that owns the row may.
    pub fn add(&self, more: u64) {
        self.0
            .store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    /// Takes away. Only the shard that owns the row may.
    pub fn less(&self, by: u64) {
        self.0.store(self.get().wrapping_sub(by), Ordering::Relaxed);
    }

    /// Replaces the value. Only the shard that owns the row may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now, from any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The lines of the log that could not be written. Any thread may add: it happens off the request path.
pub static LOG_LINES_DROPPED: AtomicU64 = AtomicU64::new(0);

/// Which path a request asked for, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// `/write`
    Write,
    /// `/api/v2/write`
    WriteV2,
    /// `/api/v3/write_lp`
    WriteV3,
    /// `/api/v1/prom/write`
    PromWrite,
    /// `/api/v1/write`
    RemoteWrite,
    /// `/query`
    Query,
    /// `/api/v2/query`
    QueryV2,
    /// `/api/v1/prom/read`, `/api/v1/read`
    RemoteRead,
    /// Prometheus' own reads.
    PromQuery,
    /// `/ping`
    Ping,
    /// `/health`
    Health,
    /// `/ready` and `/ready/NAME`
    Ready,
    /// `/status`
    Status,
    /// `/metrics`
    Metrics,
    /// `/admin`
    Admin,
    /// `/admin/flush`
    Flush,
    /// No path: what came by UDP.
    Udp,
    /// Everything else, and what was no request at all.
    Other,
}

/// Labels of [`Path`], by its number.
pub const PATHS: [&str; 18] = [
    "/write",
    "/api/v2/write",
    "/api/v3/write_lp",
    "/api/v1/prom/write",
    "/api/v1/write",
    "/query",
    "/api/v2/query",
    "/api/v1/read",
    "/api/v1/query",
    "/ping",
    "/health",
    "/ready",
    "/status",
    "/metrics",
    "/admin",
    "/admin/flush",
    "udp",
    "other",
];

/// Which method a request used, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// OPTIONS
    Options,
    /// Any other, and what was no request at all.
    Other,
}

/// Labels of [`Verb`], by its number.
pub const VERBS: [&str; 5] = ["GET", "HEAD", "POST", "OPTIONS", "other"];

/// Statuses that have a row of their own; the last row of a table is for all others.
pub const CODES: [u16; 30] = [
    200, 202, 204, 206, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415,
    417, 422, 429, 431, 500, 501, 502, 503, 504, 505, 507,
];

/// Why a backend gave no answer, by the number of its row.
pub const FAILURES: [&str; 8] = [
    "connect",
    "local",
    "timeout",
    "closed",
    "nonsense",
    "down",
    "owed",
    "overloaded",
];

/// The row of a status.
pub fn code_row(status: u16) -> usize {
    CODES
        .iter()
        .position(|&code| code == status)
        .unwrap_or(CODES.len())
}

/// Upper bounds of the latency buckets, in microseconds.
pub const BUCKETS_US: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// Latencies in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One count per bucket of [`BUCKETS_US`], then the rest; not cumulative.
    pub buckets: [Counter; BUCKETS_US.len() + 1],
    /// Sum of what was observed, in nanoseconds.
    pub sum_ns: Counter,
}

impl Histogram {
    /// Counts one observation.
    pub fn observe(&self, span: Duration) {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let row = BUCKETS_US.partition_point(|&bound| bound < us);
        self.buckets[row].add(1);
        self.sum_ns
            .add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// One row per status of [`CODES`], then one for all others.
pub type Codes = [Counter; CODES.len() + 1];

/// What one shard counts. A reload begins a new one, and what goes on is counted on in the same rows.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    clients: Arc<ClientMetrics>,
    /// Per backend, in the order of the plan.
    pub backends: Vec<Arc<BackendMetrics>>,
    /// Per output over UDP, in the order of the plan.
    pub outputs: Vec<Arc<OutputMetrics>>,
}

impl Deref for ShardMetrics {
    type Target = ClientMetrics;

    fn deref(&self) -> &ClientMetrics {
        &self.clients
    }
}

/// What one shard counts about its clients.
#[derive(Debug, Default)]
pub struct ClientMetrics {
    /// Answers by path, method and status.
    pub requests: [[Codes; VERBS.len()]; PATHS.len()],
    /// From the first byte of a request to the answer.
    pub request_duration: Histogram,
    /// Bytes of request bodies, as they came.
    pub request_bytes: Counter,
    /// Points, by path.
    pub points: [Counter; PATHS.len()],
    /// Bytes of bodies held now.
    pub inflight_bytes: Counter,
    /// Client connections open now.
    pub connections: Counter,
    /// Connections accepted.
    pub accepted: Counter,
    /// Credentials that were verified the slow way.
    pub verifications: Counter,
    /// Of the connections accepted, those that came to no TLS where it was wanted.
    pub tls_failed: Counter,
    /// What came by UDP.
    pub udp: UdpMetrics,
}

/// Why lines that came by UDP were not passed on, or not by one output, by the number of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpDrop {
    /// It is no point.
    Malformed,
    /// It would kill an `influxd`.
    Poison,
    /// No datagram is as long.
    TooLong,
    /// An output over UDP did not take it.
    Output,
    /// No backend over HTTP took it, and it is not owed either.
    Backend,
    /// A backend over HTTP refused it, and none took it.
    Refused,
    /// Backends over HTTP are too slow, and what waits for them is as much as may be.
    Overload,
    /// There is no output.
    Nowhere,
}

/// Labels of [`UdpDrop`], by its number.
pub const UDP_DROPS: [&str; 8] = [
    "malformed",
    "poison",
    "too-long",
    "output",
    "backend",
    "refused",
    "overload",
    "no-output",
];

/// What one shard counts about UDP.
#[derive(Debug, Default)]
pub struct UdpMetrics {
    /// Datagrams received.
    pub datagrams: Counter,
    /// Bytes of them.
    pub bytes: Counter,
    /// Datagrams that the kernel dropped, since its queue was full.
    pub kernel_drops: Counter,
    /// Lines that were dropped, by [`UDP_DROPS`].
    pub dropped: [Counter; UDP_DROPS.len()],
    /// Lines that were longer than an output's `mtu`, and sent alone.
    pub over_mtu: Counter,
    /// Datagrams taken from the socket of a shard that was behind.
    pub helped: Counter,
}

impl UdpMetrics {
    /// Counts lines that were dropped.
    pub fn drop(&self, why: UdpDrop, lines: u64) {
        self.dropped[why as usize].add(lines);
    }
}

/// What one shard counts about one output over UDP.
#[derive(Debug, Default)]
pub struct OutputMetrics {
    /// Datagrams sent.
    pub datagrams: Counter,
    /// Bytes of them.
    pub bytes: Counter,
    /// Datagrams that came back as refused: nobody receives there.
    pub refused: Counter,
    /// Datagrams that the kernel did not take.
    pub failed: Counter,
}

/// What one shard counts about one backend.
#[derive(Debug, Default)]
pub struct BackendMetrics {
    /// Answers by status.
    pub answers: Codes,
    /// Requests without an answer, by [`FAILURES`].
    pub failures: [Counter; FAILURES.len()],
    /// From the send to the answer.
    pub request_duration: Histogram,
    /// 1 while this shard takes it for up.
    pub up: Counter,
    /// Links that wait for work.
    pub links_idle: Counter,
    /// Links open, connecting or at work.
    pub links: Counter,
    /// Writes that another backend accepted, this one did not, and that were not kept: gone.
    pub missed: Counter,
    /// Points that it dropped since they are older than its retention.
    pub expired: Counter,
    /// Requests that carried several writes.
    pub merged: Counter,
}

impl ShardMetrics {
    /// Rows for `backends` backends and `outputs` outputs over UDP, all zero.
    pub fn new(backends: usize, outputs: usize) -> Self {
        Self {
            backends: (0..backends).map(|_| Arc::default()).collect(),
            outputs: (0..outputs).map(|_| Arc::default()).collect(),
            clients: Arc::default(),
        }
    }

    /// Rows for a new plan. For each of its backends and outputs the place that it had before, if it had
    /// one, is given: it goes on with its row.
    pub fn succeeding(
        &self,
        backends: impl Iterator<Item = Option<usize>>,
        outputs: impl Iterator<Item = Option<usize>>,
    ) -> Self {
        let backend = |place: Option<usize>| self.backends.get(place?).cloned();
        let output = |place: Option<usize>| self.outputs.get(place?).cloned();
        Self {
            clients: Arc::clone(&self.clients),
            backends: backends
                .map(|old| backend(old).unwrap_or_default())
                .collect(),
            outputs: outputs.map(|old| output(old).unwrap_or_default()).collect(),
        }
    }
}

impl ClientMetrics {
    /// Counts one answer to a client.
    pub fn answered(&self, path: Path, verb: Verb, status: u16) {
        self.requests[path as usize][verb as usize][code_row(status)].add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS_US, Histogram, PATHS, Path, UDP_DROPS, UdpDrop, VERBS, Verb};
    use std::time::Duration;

    #[test]
    fn labels_stand_at_their_numbers() {
        assert_eq!(PATHS[Path::Other as usize], "other");
        assert_eq!(PATHS[Path::Ready as usize], "/ready");
        assert_eq!(PATHS[Path::Admin as usize], "/admin");
        assert_eq!(PATHS[Path::Flush as usize], "/admin/flush");
        assert_eq!(PATHS[Path::Udp as usize], "udp");
        assert_eq!(UDP_DROPS[UdpDrop::Nowhere as usize], "no-output");
        assert_eq!(UDP_DROPS[UdpDrop::Output as usize], "output");
        assert_eq!(VERBS[Verb::Other as usize], "other");
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(BUCKETS_US[3]));
        histogram.observe(Duration::from_micros(BUCKETS_US[3] + 1));
        histogram.observe(Duration::from_secs(3600));
        assert_eq!(histogram.buckets[3].get(), 1);
        assert_eq!(histogram.buckets[4].get(), 1);
        assert_eq!(histogram.buckets[BUCKETS_US.len()].get(), 1);
    }
}
