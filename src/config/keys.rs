//! Every key and every variable that exists, table by table. Pure.
//!
//! The reader asks for a key by its name here, and refuses a file or an environment that holds
//! another one. A secret key has a twin that names a file: `token` and `token-file`,
//! `RELAY_ADMIN_TOKEN` and `RELAY_ADMIN_TOKEN_FILE`.

/// One key of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// As in the file.
    pub name: &'static str,
    /// The variable that overrides it; empty for none.
    pub env: &'static str,
    /// Never shown, and may stand in a file of its own.
    pub secret: bool,
}

const fn key(name: &'static str, env: &'static str) -> Key {
    Key {
        name,
        env,
        secret: false,
    }
}

const fn secret(name: &'static str, env: &'static str) -> Key {
    Key {
        name,
        env,
        secret: true,
    }
}

/// The top of the file.
pub const TOP: &[Key] = &[
    key("cpus", "RELAY_CPUS"),
    key("shutdown-timeout", "RELAY_SHUTDOWN_TIMEOUT"),
    key("peers", "RELAY_PEERS"),
    key("admin", ""),
    key("log", ""),
    key("limits", ""),
    key("tuning", ""),
    key("spool", ""),
    key("http", ""),
    key("udp", ""),
    key("filter", ""),
];

/// `[admin]`
pub const ADMIN: &[Key] = &[
    key("bind-addr", "RELAY_ADMIN_BIND_ADDR"),
    secret("token", "RELAY_ADMIN_TOKEN"),
];

/// `[log]`
pub const LOG: &[Key] = &[key("level", "RELAY_LOG"), key("format", "RELAY_LOG_FORMAT")];

/// `[limits]`
pub const LIMITS: &[Key] = &[
    key("max-body-size", "RELAY_MAX_BODY_SIZE"),
    key("max-header-size", "RELAY_MAX_HEADER_SIZE"),
    key("max-connections", "RELAY_MAX_CONNECTIONS"),
    key("header-timeout", "RELAY_HEADER_TIMEOUT"),
    key("body-timeout", "RELAY_BODY_TIMEOUT"),
    key("idle-timeout", "RELAY_IDLE_TIMEOUT"),
    key("max-inflight", "RELAY_MAX_INFLIGHT"),
];

/// `[tuning]`
pub const TUNING: &[Key] = &[
    key("poll-spins", "RELAY_POLL_SPINS"),
    key("read-buffer", "RELAY_READ_BUFFER"),
    key("merge-body", "RELAY_MERGE_BODY"),
    key("merge-batch", "RELAY_MERGE_BATCH"),
    key("merge-links", "RELAY_MERGE_LINKS"),
    key("backlog", "RELAY_BACKLOG"),
    key("probe-interval", "RELAY_PROBE_INTERVAL"),
    key("probe-timeout", "RELAY_PROBE_TIMEOUT"),
    key("dns-interval", "RELAY_DNS_INTERVAL"),
];

/// `[spool]`
pub const SPOOL: &[Key] = &[
    key("dir", "RELAY_SPOOL_DIR"),
    key("max-size", "RELAY_SPOOL_MAX_SIZE"),
    key("max-age", "RELAY_SPOOL_MAX_AGE"),
    key("when-full", "RELAY_SPOOL_WHEN_FULL"),
    key("fsync", "RELAY_SPOOL_FSYNC"),
    key("when-all-fail", "RELAY_SPOOL_WHEN_ALL_FAIL"),
    key("replay-rate", "RELAY_SPOOL_REPLAY_RATE"),
    key("poison-attempts", "RELAY_SPOOL_POISON_ATTEMPTS"),
    key("poison-after", "RELAY_SPOOL_POISON_AFTER"),
    key("segment-size", "RELAY_SPOOL_SEGMENT_SIZE"),
];

/// `[[http]]`; the variables speak of the first one.
pub const HTTP: &[Key] = &[
    key("name", "RELAY_HTTP_NAME"),
    key("bind-addr", "RELAY_HTTP_BIND_ADDR"),
    key(
        "default-retention-policy",
        "RELAY_HTTP_DEFAULT_RETENTION_POLICY",
    ),
    key("default-ping-response", "RELAY_HTTP_DEFAULT_PING_RESPONSE"),
    key("rate-limit", "RELAY_HTTP_RATE_LIMIT"),
    key("burst-limit", "RELAY_HTTP_BURST_LIMIT"),
    key("client-rate-limit", "RELAY_HTTP_CLIENT_RATE_LIMIT"),
    key("client-burst-limit", "RELAY_HTTP_CLIENT_BURST_LIMIT"),
    key("user-rate-limit", "RELAY_HTTP_USER_RATE_LIMIT"),
    key("user-burst-limit", "RELAY_HTTP_USER_BURST_LIMIT"),
    key("health-timeout-ms", "RELAY_HTTP_HEALTH_TIMEOUT_MS"),
    key("ssl-combined-pem", "RELAY_HTTP_SSL_COMBINED_PEM"),
    key("ssl-cert", "RELAY_HTTP_SSL_CERT"),
    key("ssl-key", "RELAY_HTTP_SSL_KEY"),
    key("ssl-client-ca", "RELAY_HTTP_SSL_CLIENT_CA"),
    key("mode", "RELAY_HTTP_MODE"),
    key("acks", "RELAY_HTTP_ACKS"),
    secret("users", "RELAY_HTTP_USERS"),
    secret("tokens", "RELAY_HTTP_TOKENS"),
    key("output", "RELAY_HTTP_OUTPUTS"),
];

/// `[[http.output]]`; the variables speak of all outputs of the first listener.
pub const OUTPUT: &[Key] = &[
    key("name", ""),
    key("location", ""),
    key("endpoints", ""),
    key("type", "RELAY_HTTP_TYPE"),
    key("timeout", "RELAY_HTTP_TIMEOUT"),
    key("skip-tls-verification", "RELAY_HTTP_SKIP_TLS_VERIFICATION"),
    key("buffer-size-mb", "RELAY_HTTP_BUFFER_SIZE_MB"),
    key("max-batch-kb", "RELAY_HTTP_MAX_BATCH_KB"),
    key("max-delay-interval", "RELAY_HTTP_MAX_DELAY_INTERVAL"),
    key("username", "RELAY_HTTP_USERNAME"),
    secret("password", "RELAY_HTTP_PASSWORD"),
    secret("token", "RELAY_HTTP_TOKEN"),
    key("ca-file", "RELAY_HTTP_CA_FILE"),
    key("client-cert", "RELAY_HTTP_CLIENT_CERT"),
    key("client-key", "RELAY_HTTP_CLIENT_KEY"),
    key("compress", "RELAY_HTTP_COMPRESS"),
    key("query", "RELAY_HTTP_QUERY"),
    key("write", "RELAY_HTTP_WRITE"),
    key("max-connections", "RELAY_HTTP_MAX_CONNECTIONS"),
    key("merge", "RELAY_HTTP_MERGE"),
    key("drop-responses", "RELAY_HTTP_DROP_RESPONSES"),
];

/// `endpoints = { … }` of one output. The underscores are the veepee fork's.
pub const ENDPOINTS: &[Key] = &[
    key("write", ""),
    key("write_v2", ""),
    key("write_v3", ""),
    key("write_prom", ""),
    key("ping", ""),
    key("query", ""),
];

/// `[[udp]]`; the variables speak of the first one.
pub const UDP: &[Key] = &[
    key("name", "RELAY_UDP_NAME"),
    key("bind-addr", "RELAY_UDP_BIND_ADDR"),
    key("read-buffer", "RELAY_UDP_READ_BUFFER"),
    key("precision", "RELAY_UDP_PRECISION"),
    key("mode", "RELAY_UDP_MODE"),
    key("steering", "RELAY_UDP_STEERING"),
    key("gro", "RELAY_UDP_GRO"),
    key("batch", "RELAY_UDP_BATCH"),
    key("flush-window", "RELAY_UDP_FLUSH_WINDOW"),
    key("output", "RELAY_UDP_OUTPUTS"),
];

/// `[[udp.output]]`; the variable speaks of all outputs of the first one.
pub const UDP_OUTPUT: &[Key] = &[
    key("name", ""),
    key("location", ""),
    key("mtu", "RELAY_UDP_MTU"),
];

/// `[[filter]]`; `type` is read and never used, as in the Go relay.
pub const FILTER: &[Key] = &[
    key("tag-expression", ""),
    key("measurement-expression", ""),
    key("tag-value-expression", ""),
    key("outputs", ""),
    key("type", ""),
];

/// Every table, with the prefix of its keys in a path such as `http.output.name`.
pub const TABLES: &[(&str, &[Key])] = &[
    ("", TOP),
    ("admin.", ADMIN),
    ("log.", LOG),
    ("limits.", LIMITS),
    ("tuning.", TUNING),
    ("spool.", SPOOL),
    ("http.", HTTP),
    ("http.output.", OUTPUT),
    ("http.output.endpoints.", ENDPOINTS),
    ("udp.", UDP),
    ("udp.output.", UDP_OUTPUT),
    ("filter.", FILTER),
];

/// The names that a table may hold, twins included.
pub fn names(keys: &'static [Key]) -> impl Iterator<Item = String> {
    keys.iter().flat_map(|key| {
        let twin = key.secret.then(|| format!("{}-file", key.name));
        [Some(key.name.to_owned()), twin].into_iter().flatten()
    })
}

/// Every variable, twins included.
pub fn variables() -> impl Iterator<Item = String> {
    TABLES
        .iter()
        .flat_map(|(_, keys)| keys.iter())
        .filter(|key| !key.env.is_empty())
        .flat_map(|key| {
            let twin = key.secret.then(|| format!("{}_FILE", key.env));
            [Some(key.env.to_owned()), twin].into_iter().flatten()
        })
}

#[cfg(test)]
mod tests {
    use super::{TABLES, names, variables};
    use std::collections::BTreeSet;

    #[test]
    fn no_name_stands_twice() {
        let all: Vec<String> = variables().collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        for (table, keys) in TABLES {
            let all: Vec<String> = names(keys).collect();
            assert_eq!(
                all.iter().collect::<BTreeSet<_>>().len(),
                all.len(),
                "{table}"
            );
        }
    }
}
