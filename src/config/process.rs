//! What concerns the whole process: CPUs, the admin listener, the log, limits, tuning. Pure.

use crate::config::keys;
use crate::config::kind::{Bytes, Kind, List, Wait, Whole, Word, Written};
use crate::config::location;
use crate::config::quota::CpuQuota;
use crate::config::reader::Reader;
use crate::config::secret;
use crate::config::section::Section;
use crate::config::special::{Bind, Cpus};
use crate::limits as bound;
use crate::plan::{AdminPlan, LimitsPlan, LogFormat, LogLevel, LogPlan, PeerPlan, TuningPlan};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A wait that can be set.
pub const WAIT: Wait = Wait {
    min: bound::SET_WAIT_MIN,
    max: bound::SET_WAIT_MAX,
};

const LEVELS: Word<LogLevel> = Word(&[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
]);
const FORMATS: Word<LogFormat> = Word(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
const PEERS: List = List {
    want: "URLs such as \"http://relay-b:9097\", without user and query: an array in the file, commas in the variable",
    is_right: |peer| {
        location::parse(peer).is_some_and(|url| url.user.is_none() && url.query.is_none())
    },
};
const ADMIN_BIND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9097);

/// `cpus`, one shard each, of those that are allowed and within the quota.
pub fn cpus(
    reader: &mut Reader<'_>,
    top: &Section<'_>,
    (allowed, quota): (&[usize], Option<&CpuQuota>),
) -> Vec<usize> {
    let kind = Cpus {
        allowed,
        max: bound::SHARDS_MAX,
        auto_max: quota.map_or(usize::MAX, CpuQuota::shards),
    };
    let auto = kind.read(Written::Text("auto")).unwrap_or_default();
    if auto.is_empty() {
        reader.problem(
            top.at_key("cpus"),
            "no CPU that this process may use",
            "a CPU affinity that holds one",
        );
    }
    let set = reader.text_of(top, "cpus").map(|(written, _)| written);
    let is_auto = set.is_none_or(|written| written.text() == Some("auto"));
    let cpus = reader.take(top, "cpus", &kind, auto);
    if let Some(quota) = quota {
        let (all, shards, given) = (allowed.len(), cpus.len(), quota.cpus());
        let file = &quota.file;
        if is_auto && shards < all.min(bound::SHARDS_MAX) {
            reader.notes.push(format!(
                "cpus: \"auto\" is {shards} of {all} CPUs, since the control group's quota is {given} ({file})"
            ));
        } else if !is_auto && shards > quota.shards() {
            reader.notes.push(format!(
                "cpus: {shards} CPUs, but the control group's quota is {given} ({file}): past it the kernel stops all \
                 shards; name fewer, or raise the quota"
            ));
        }
    }
    cpus
}

/// `shutdown-timeout`.
pub fn shutdown_timeout(reader: &mut Reader<'_>, top: &Section<'_>) -> Duration {
    reader.take(top, "shutdown-timeout", &WAIT, bound::SHUTDOWN_WAIT_MAX)
}

/// `peers`: where the other relays show themselves.
pub fn peers(reader: &mut Reader<'_>, top: &Section<'_>) -> Vec<PeerPlan> {
    let mut peers = reader.maybe(top, "peers", &PEERS).unwrap_or_default();
    if peers.len() > bound::PEERS_MAX {
        let at = reader.at(top, "peers");
        reader.problem(
            at,
            format!("{} peers", peers.len()),
            format!("at most {}", bound::PEERS_MAX),
        );
        peers.truncate(bound::PEERS_MAX);
    }
    let parsed = peers.iter().filter_map(|peer| location::parse(peer));
    parsed
        .map(|url| PeerPlan {
            tls: url.tls,
            shown: url.shown,
            host: url.host,
            port: url.port,
            path: url.path.trim_end_matches('/').to_owned(),
        })
        .collect()
}

/// `[admin]`; `None` is off.
pub fn admin(reader: &mut Reader<'_>, top: &Section<'_>) -> Option<AdminPlan> {
    let section = reader.inner(top, "admin", keys::ADMIN);
    let bind = reader.take(
        &section,
        "bind-addr",
        &Bind { empty: "off" },
        Some(ADMIN_BIND),
    );
    let token = secret::read(reader, &section, "token");
    bind.map(|bind| AdminPlan { bind, token })
}

/// `[log]`.
pub fn log(reader: &mut Reader<'_>, top: &Section<'_>) -> LogPlan {
    let section = reader.inner(top, "log", keys::LOG);
    LogPlan {
        level: reader.take(&section, "level", &LEVELS, LogLevel::Info),
        format: reader.take(&section, "format", &FORMATS, LogFormat::Text),
    }
}

/// `[limits]`.
pub fn limits(reader: &mut Reader<'_>, top: &Section<'_>) -> LimitsPlan {
    let section = &reader.inner(top, "limits", keys::LIMITS);
    let body = Bytes {
        min: 1,
        max: bound::SET_BODY_BYTES_MAX,
    };
    let head = Bytes {
        min: bound::SET_HEAD_BYTES_MIN,
        max: bound::SET_HEAD_BYTES_MAX,
    };
    let connections = Whole {
        min: 1,
        max: bound::SET_CONNECTIONS_MAX,
    };
    let inflight = Bytes {
        min: 1 + bound::FLIGHT_BYTES,
        max: bound::SET_INFLIGHT_BYTES_MAX,
    };
    let limits = LimitsPlan {
        body_bytes_max: reader.take(section, "max-body-size", &body, bound::BODY_BYTES_MAX),
        head_bytes_max: reader.take(section, "max-header-size", &head, bound::HEAD_BYTES_MAX),
        connections_max: count(
            reader,
            section,
            "max-connections",
            &connections,
            bound::CONNECTIONS_MAX,
        ),
        head_wait_max: reader.take(section, "header-timeout", &WAIT, bound::HEAD_WAIT_MAX),
        body_wait_max: reader.take(section, "body-timeout", &WAIT, bound::BODY_WAIT_MAX),
        idle_wait_max: reader.take(section, "idle-timeout", &WAIT, bound::IDLE_WAIT_MAX),
        inflight_bytes_max: reader.take(
            section,
            "max-inflight",
            &inflight,
            bound::INFLIGHT_BYTES_MAX,
        ),
    };
    if limits.body_bytes_max + bound::FLIGHT_BYTES > limits.inflight_bytes_max {
        let found = format!(
            "{} bytes, which one body of max-body-size does not fit",
            limits.inflight_bytes_max
        );
        let want = format!(
            "at least {} bytes",
            limits.body_bytes_max + bound::FLIGHT_BYTES
        );
        reader.problem(reader.at(section, "max-inflight"), found, want);
    }
    limits
}

/// `[tuning]`.
pub fn tuning(reader: &mut Reader<'_>, top: &Section<'_>) -> TuningPlan {
    let section = &reader.inner(top, "tuning", keys::TUNING);
    let read_buffer = Bytes {
        min: bound::SET_READ_BUFFER_BYTES_MIN,
        max: bound::BODY_FIRST_BYTES,
    };
    let merge_bytes = Bytes {
        min: 1,
        max: bound::SET_MERGE_BYTES_MAX,
    };
    let merge_links = Whole {
        min: 1,
        max: bound::SET_MERGE_LINKS_MAX,
    };
    let spins = Whole {
        min: 0,
        max: bound::SET_POLL_SPINS_MAX,
    };
    let backlog = Whole {
        min: 1,
        max: bound::SET_BACKLOG_MAX,
    };
    let tuning = TuningPlan {
        poll_spins: narrow(reader.take(
            section,
            "poll-spins",
            &spins,
            u64::from(bound::POLL_SPINS),
        )),
        read_buffer_bytes: reader.take(
            section,
            "read-buffer",
            &read_buffer,
            bound::READ_BUFFER_BYTES,
        ),
        merge_body_bytes_max: reader.take(
            section,
            "merge-body",
            &merge_bytes,
            bound::MERGE_BODY_BYTES_MAX,
        ),
        merge_batch_bytes_max: reader.take(
            section,
            "merge-batch",
            &merge_bytes,
            bound::MERGE_BATCH_BYTES_MAX,
        ),
        merge_links_max: count(
            reader,
            section,
            "merge-links",
            &merge_links,
            bound::MERGE_LINKS_MAX,
        ),
        backlog: narrow(reader.take(section, "backlog", &backlog, u64::from(bound::BACKLOG))),
        probe_interval: reader.take(section, "probe-interval", &WAIT, bound::PROBE_INTERVAL),
        probe_timeout: reader.take(section, "probe-timeout", &WAIT, bound::PROBE_WAIT_MAX),
        dns_interval: reader.take(section, "dns-interval", &WAIT, bound::DNS_INTERVAL),
    };
    if tuning.merge_body_bytes_max > tuning.merge_batch_bytes_max {
        let found = format!(
            "{} bytes, which one body of merge-body does not fit",
            tuning.merge_batch_bytes_max
        );
        let want = format!(
            "at least {} bytes, or a smaller merge-body",
            tuning.merge_body_bytes_max
        );
        reader.problem(reader.at(section, "merge-batch"), found, want);
    }
    tuning
}

/// A count that fits the memory of this machine, as its kind is bounded.
pub fn count(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    name: &str,
    kind: &Whole,
    default: usize,
) -> usize {
    usize::try_from(reader.take(section, name, kind, default as u64)).unwrap_or(usize::MAX)
}

/// A count of 32 bits, as its kind is bounded.
pub fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
