//! What to run: the checked configuration, in types that cannot be wrong. Pure.
//!
//! `config` makes a [`Plan`] out of the file and the environment, or says everything that is wrong
//! with them. Past that door nobody asks again: addresses are addresses, names are unique, counts
//! are within the bounds of `limits`.

pub mod access;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::plan::access::{AccessPlan, RatesPlan};

/// Everything that the process does, once per start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One shard each; at least one, no CPU twice, all of them allowed to this process.
    pub cpus: Vec<usize>,
    /// How long a drain may take before what is left is cut.
    pub shutdown_timeout: Duration,
    /// Where operators look; `None` is off.
    pub admin: Option<AdminPlan>,
    /// What is logged, and how.
    pub log: LogPlan,
    /// What a client may use up.
    pub limits: LimitsPlan,
    /// What people who know their machine change.
    pub tuning: TuningPlan,
    /// What is kept of what a backend missed, and how; `None` is off.
    pub spool: Option<SpoolPlan>,
    /// The HTTP doors; each shard binds all of them.
    pub listeners: Vec<ListenerPlan>,
    /// The UDP doors; each shard binds all of them.
    pub udp: Vec<UdpPlan>,
    /// The outputs of all HTTP listeners, then those of UDP listeners over HTTP, in the order of the file;
    /// [`BackendId`] is an index into it.
    pub backends: Vec<BackendPlan>,
    /// The outputs of all UDP listeners over UDP; [`OutputId`] is an index into it.
    pub outputs: Vec<OutputPlan>,
    /// Where the other relays show themselves.
    pub peers: Vec<PeerPlan>,
    /// Keys that are set, valid, and have no effect in this version: one sentence each.
    pub not_in_force: Vec<String>,
    /// What is in force and may surprise: one sentence each.
    pub notes: Vec<String>,
}

/// Which backend: an index into [`Plan::backends`], valid by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub usize);

/// Which output over UDP: an index into [`Plan::outputs`], valid by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputId(pub usize);

impl Plan {
    /// The backends behind each door that the spool keeps writes for, and whether a write is owed even if
    /// none of them takes it: HTTP listeners in their order, then what UDP listeners send over HTTP.
    pub fn doors(&self) -> impl Iterator<Item = (&[BackendId], bool)> {
        let http = self.listeners.iter();
        let http = http.map(|listener| (&*listener.outputs, false));
        let carried = self.udp.iter().flat_map(|udp| &udp.carried);
        http.chain(carried.map(|carried| (&*carried.outputs, true)))
    }
}

/// Another relay before the same backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPlan {
    /// Its admin address, as written.
    pub shown: String,
    /// Name or address to connect to.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `https://`, by the system's roots.
    pub tls: bool,
    /// What stands before `/status`.
    pub path: String,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminPlan {
    /// Where it listens.
    pub bind: SocketAddr,
    /// What changes need; never shown.
    pub token: Option<Secret>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPlan {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// For people or for machines.
    pub format: LogFormat,
}

/// The least severe level that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing works.
    Error,
    /// Something is lost or about to be.
    Warn,
    /// Changes of state.
    Info,
    /// For the people who wrote this.
    Debug,
}

/// For people or for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of words.
    Text,
    /// One JSON object a line.
    Json,
}

/// The spool: what is kept of what a backend missed. There is one if `dir` is set, or if any output
/// of a Go file has a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolPlan {
    /// Where it lies. `None`: in memory, for the outputs with a buffer (as in the Go relay).
    pub dir: Option<PathBuf>,
    /// How long something may be owed; past it it is dropped and counted.
    pub age_max: Duration,
    /// What gives way when a backend is owed as much as may be.
    pub when_full: WhenFull,
    /// When what is kept is safe from a power cut.
    pub fsync: Fsync,
    /// A write that no backend took is kept and answered 202, instead of refused.
    pub accept_when_all_fail: bool,
    /// Bytes per second of replay to one backend; 0 is as fast as it takes them.
    pub replay_bytes_per_second: u64,
    /// So often a record may fail alone before it is set aside, if the backend takes others.
    pub poison_attempts: u32,
    /// And for so long.
    pub poison_after: Duration,
    /// Bytes of one file of a log.
    pub segment_bytes: u64,
}

/// What gives way when a backend is owed as much as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest that it is owed.
    DropOldest,
    /// New writes: 503.
    Refuse,
}

/// When what is kept is safe from a power cut. It is safe from a kill at once, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before the client hears success; writes that come together are synced together.
    Always,
    /// So often.
    Every(Duration),
    /// When the kernel likes.
    Never,
}

/// What a client may use up. Bytes and durations; all above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsPlan {
    /// Bytes of one body, before and after decompression; past it 413.
    pub body_bytes_max: usize,
    /// Bytes of one request head; past it 431 (414 for the target).
    pub head_bytes_max: usize,
    /// Client connections per shard; past it 503 and close.
    pub connections_max: usize,
    /// From the first byte of a head to its last; past it 408.
    pub head_wait_max: Duration,
    /// From the last byte of a head to the last of its body; past it 408.
    pub body_wait_max: Duration,
    /// Between requests; past it the connection is closed.
    pub idle_wait_max: Duration,
    /// Bytes of bodies held per shard; past it 503 with `Retry-After`.
    pub inflight_bytes_max: usize,
}

/// What people who know their machine change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TuningPlan {
    /// Empty polls of a shard's sockets before it sleeps: `RELAY_POLL_SPINS`, 0 to 4096.
    pub poll_spins: u32,
    /// Bytes of the buffer that a shard reads small requests with: `RELAY_READ_BUFFER`.
    pub read_buffer_bytes: usize,
    /// Largest body that `merge` joins with others: `RELAY_MERGE_BODY`.
    pub merge_body_bytes_max: usize,
    /// Largest request that `merge` makes: `RELAY_MERGE_BATCH`.
    pub merge_batch_bytes_max: usize,
    /// Merged requests under way at once, per backend and shard: `RELAY_MERGE_LINKS`.
    pub merge_links_max: usize,
    /// Queue of connections the kernel holds before they are accepted: `RELAY_BACKLOG`.
    pub backlog: u32,
    /// Between two probes of a backend that is up: `RELAY_PROBE_INTERVAL`.
    pub probe_interval: Duration,
    /// How long a probe may take: `RELAY_PROBE_TIMEOUT`.
    pub probe_timeout: Duration,
    /// Between two looks at a backend's name in DNS: `RELAY_DNS_INTERVAL`.
    pub dns_interval: Duration,
}

/// One HTTP door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerPlan {
    /// For logs; unique.
    pub name: String,
    /// What it shows its clients over TLS; `None` is plain HTTP.
    pub tls: Option<TlsPlan>,
    /// Where it listens. Port 0 lets the kernel choose one, the same for all shards.
    pub bind: SocketAddr,
    /// `rp` for a `/write` that brings none, or an empty one.
    pub default_retention_policy: Option<String>,
    /// The status of `/ping`: 100 to 599.
    pub ping_status: u16,
    /// How long `/health` waits for one backend.
    pub health_timeout: Duration,
    /// How many backends must accept before the client hears success; 1 to the number of
    /// outputs whose answers count.
    pub acks: usize,
    /// Each write goes to one output that is up, another if that fails, instead of to all.
    pub balance: bool,
    /// Its backends, in the order of the file. May be empty: then each write is answered 503.
    pub outputs: Vec<BackendId>,
    /// Who may write or query here; `None` is everybody.
    pub access: Option<AccessPlan>,
    /// How often.
    pub rates: RatesPlan,
}

/// What an HTTPS door shows its clients, and wants to see of them. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPlan {
    /// Its certificate, then those that lead to an authority.
    pub cert: PathBuf,
    /// The key of the first of them; the same file, if it is a combined one.
    pub key: PathBuf,
    /// Authorities, one of which must have signed each client's certificate; `None` asks for none.
    pub client_ca: Option<PathBuf>,
}

/// How a backend is met over TLS. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendTlsPlan {
    /// Who is trusted; `None`: whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// What it is shown of us: a certificate and those that lead to an authority.
    pub client_cert: Option<PathBuf>,
    /// Its key; `None`: in the same file.
    pub client_key: Option<PathBuf>,
    /// Whoever answers there is taken for it.
    pub skip_verification: bool,
}

/// One UDP door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpPlan {
    /// For logs; unique.
    pub name: String,
    /// Where it receives. Port 0 lets the kernel choose one, the same for all shards.
    pub bind: SocketAddr,
    /// The interface on which a multicast group is joined, or an address has its zone: its name or its number.
    pub interface: Option<String>,
    /// Bytes of its queue in the kernel, per shard.
    pub read_buffer_bytes: usize,
    /// Whether somebody asked for so many: then it is said if the kernel gives fewer.
    pub read_buffer_is_asked: bool,
    /// The unit of timestamps, in and out.
    pub unit: TimeUnit,
    /// Each datagram goes to one output that is up, instead of to all.
    pub balance: bool,
    /// Which shard gets a datagram.
    pub steering: UdpSteering,
    /// The kernel may merge datagrams that come together.
    pub gro: bool,
    /// Datagrams that are taken by one system call.
    pub batch: usize,
    /// How long datagrams wait for others that are packed with them; zero is not at all.
    pub flush_window: Duration,
    /// Outputs over UDP.
    pub outputs: Vec<OutputId>,
    /// Outputs over HTTP, those with an equal query together.
    pub carried: Vec<CarriedPlan>,
}

/// Which shard gets a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpSteering {
    /// All of a sender's the same, but others take some from it while it is behind.
    Help,
    /// All of a sender's the same.
    Flow,
    /// Any.
    Spread,
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeUnit {
    /// As `precision` of InfluxDB 1.x spells it.
    pub word: &'static str,
    /// Nanoseconds.
    pub ns: i64,
}

/// Outputs of a UDP door that are sent its points over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedPlan {
    /// The query of each write, without `?`; it may hold a password.
    pub query: Secret,
    /// Who gets it.
    pub outputs: Vec<BackendId>,
}

/// One output over UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPlan {
    /// As in the file; for logs.
    pub name: String,
    /// Its label in metrics: the name, or `listener/name` where two listeners use the name.
    pub label: String,
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Largest datagram that lines are packed into, in bytes.
    pub mtu: usize,
}

/// One backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendPlan {
    /// As in the file; what `/ready/NAME`, `/status` and `/health` call it.
    pub name: String,
    /// Its label in metrics and logs: the name, or `listener/name` where two listeners use the name.
    pub label: String,
    /// As in the file, without user and password: what `/status` shows.
    pub location: String,
    /// What it is.
    pub kind: BackendKind,
    /// Name or address to connect to; an IPv6 address without brackets.
    pub host: String,
    /// The port to connect to.
    pub port: u16,
    /// `https://`; `None` is plain HTTP.
    pub tls: Option<BackendTlsPlan>,
    /// The `Host` header: as in the location, with the port where it is not the scheme's own.
    pub host_header: String,
    /// `Authorization` that replaces the client's (from `user:password@` in the location, or keys).
    pub authorization: Option<Secret>,
    /// Where each kind of request goes.
    pub endpoints: Endpoints,
    /// From the moment a write is ready to the last byte of the answer; past it the backend has failed.
    pub timeout: Duration,
    /// Links per shard.
    pub links_max: usize,
    /// Whether small writes that wait together go as one request.
    pub merge: bool,
    /// Send, but never let its answer decide.
    pub drop_responses: bool,
    /// Whether line protocol that came plain is sent as gzip.
    pub compress: bool,
    /// Takes writes.
    pub writes: bool,
    /// Takes queries.
    pub queries: bool,
    /// Which points it is to get; `None`: every point.
    pub filter: Option<FilterPlan>,
    /// Bytes that may be owed to it; 0: what it misses is gone.
    pub owed_bytes_max: u64,
    /// Bytes of one replayed request, if several records go into it.
    pub replay_batch_bytes_max: usize,
    /// Longest wait between two tries to replay.
    pub replay_wait_max: Duration,
}

/// Which points a backend is to get: those that match all of these. The expressions compile, none is empty,
/// and each list is sorted, without repetition: backends that are to get the same have equal ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterPlan {
    /// What the measurement must match.
    pub measurements: Vec<String>,
    /// What the name of each tag must match.
    pub tags: Vec<String>,
    /// What the value of each tag must match.
    pub tag_values: Vec<String>,
}

/// What a backend is; it fills in the endpoints that are not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendKind {
    /// InfluxDB of any version.
    InfluxDb,
    /// Prometheus with its remote-write receiver on.
    Prometheus,
    /// VictoriaMetrics, single node.
    VictoriaMetrics,
    /// Kapacitor.
    Kapacitor,
    /// Another relay: it takes all that this one takes, at the same paths.
    Relay,
}

/// Paths at one backend, each beginning with `/`, without a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// InfluxDB 1.x line protocol.
    pub write: String,
    /// InfluxDB 2.x line protocol.
    pub write_v2: String,
    /// InfluxDB 3.x line protocol.
    pub write_v3: String,
    /// Prometheus remote-write.
    pub remote_write: String,
    /// What probes ask.
    pub ping: String,
    /// InfluxQL.
    pub query: String,
}
