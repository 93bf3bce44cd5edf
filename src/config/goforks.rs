//! The two dialects of the Go relay: which path at a backend takes which kind of request. Pure.
//!
//! ```text
//! the original:  location = "http://h:8086/write"           the full URL of the line-protocol write
//! the veepee     location = "http://h:8086"                 a prefix, and each endpoint
//!   fork:        endpoints = { write = "/write", … }        is appended to it as it stands
//! ours:          location = "http://h:8086", type = "…"     a prefix; the type knows the rest
//! ```
//!
//! An endpoint that is not named is the type's own, behind the prefix. In both dialects a
//! location with a path and without a `write` endpoint is the write URL itself.

use crate::plan::{BackendKind, Endpoints};

/// Endpoints as the file names them; those of the fork, and two more.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Named {
    /// `write`
    pub write: Option<String>,
    /// `write_v2`
    pub write_v2: Option<String>,
    /// `write_v3`
    pub write_v3: Option<String>,
    /// `write_prom`
    pub remote_write: Option<String>,
    /// `ping`
    pub ping: Option<String>,
    /// `query`
    pub query: Option<String>,
}

/// The paths of one backend. `path` is that of its location: empty, or beginning with `/`.
pub fn endpoints(kind: BackendKind, path: &str, named: &Named) -> Endpoints {
    let own = defaults(kind);
    let is_prefix = named.write.is_some() || path.trim_end_matches('/').is_empty();
    let (prefix, write, remote_write) = match is_prefix {
        true => (path, None, None),
        false => full_url(kind, path, *named != Named::default()),
    };
    let prefix = prefix.trim_end_matches('/');
    let one = |name: &Option<String>, exact: Option<&str>, default: &str| match (name, exact) {
        (Some(name), _) => joined(path, name),
        (None, Some(exact)) => exact.to_owned(),
        (None, None) => format!("{prefix}{default}"),
    };
    Endpoints {
        write: one(&named.write, write, own.write),
        write_v2: one(&named.write_v2, None, own.write_v2),
        write_v3: one(&named.write_v3, None, own.write_v3),
        remote_write: one(&named.remote_write, remote_write, own.remote_write),
        ping: one(&named.ping, None, own.ping),
        query: one(&named.query, None, own.query),
    }
}

/// A location that is a full URL: the prefix of the other endpoints, and whether it is the
/// line-protocol write or the remote-write.
fn full_url(
    kind: BackendKind,
    path: &str,
    has_endpoints: bool,
) -> (&str, Option<&str>, Option<&str>) {
    let own = defaults(kind);
    let known = [
        own.write_v2,
        own.write_v3,
        own.remote_write,
        "/kapacitor/v1/write",
        own.write,
    ];
    let longest = known
        .into_iter()
        .filter(|known| path.ends_with(known))
        .max_by_key(|known| known.len());
    let prefix = match longest {
        Some(known) => &path[..path.len() - known.len()],
        None if has_endpoints => path,
        None => "",
    };
    let is_prometheus = matches!(kind, BackendKind::Prometheus | BackendKind::VictoriaMetrics);
    match is_prometheus && longest == Some(own.remote_write) {
        true => (prefix, None, Some(path)),
        false => (prefix, Some(path), None),
    }
}

/// The fork's rule: as they stand, but a `/` on both sides of the seam is one.
fn joined(path: &str, endpoint: &str) -> String {
    match path.strip_suffix('/') {
        Some(path) if endpoint.starts_with('/') => format!("{path}{endpoint}"),
        _ => format!("{path}{endpoint}"),
    }
}

/// What each type calls its endpoints.
struct Defaults {
    write: &'static str,
    write_v2: &'static str,
    write_v3: &'static str,
    remote_write: &'static str,
    ping: &'static str,
    query: &'static str,
}

const INFLUXDB: Defaults = Defaults {
    write: "/write",
    write_v2: "/api/v2/write",
    write_v3: "/api/v3/write_lp",
    remote_write: "/api/v1/prom/write",
    ping: "/ping",
    query: "/query",
};

/// Where a type lacks an endpoint it has InfluxDB's, and the backend answers 404 itself.
const fn defaults(kind: BackendKind) -> Defaults {
    match kind {
        BackendKind::InfluxDb => INFLUXDB,
        BackendKind::Prometheus => Defaults {
            remote_write: "/api/v1/write",
            ping: "/-/ready",
            query: "/api/v1/query",
            ..INFLUXDB
        },
        BackendKind::VictoriaMetrics => Defaults {
            remote_write: "/api/v1/write",
            ping: "/health",
            query: "/api/v1/query",
            ..INFLUXDB
        },
        BackendKind::Relay => Defaults {
            ping: "/ready",
            ..INFLUXDB
        },
        BackendKind::Kapacitor => Defaults {
            ping: "/kapacitor/v1/ping",
            ..INFLUXDB
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Named, endpoints};
    use crate::plan::BackendKind::{InfluxDb, Kapacitor, Prometheus, VictoriaMetrics};

    fn named(write: Option<&str>, ping: Option<&str>) -> Named {
        Named {
            write: write.map(Into::into),
            ping: ping.map(Into::into),
            ..Named::default()
        }
    }

    #[test]
    fn a_location_with_a_path_is_the_write_url() {
        for (kind, path, write, remote_write, ping) in [
            (InfluxDb, "", "/write", "/api/v1/prom/write", "/ping"),
            (InfluxDb, "/", "/write", "/api/v1/prom/write", "/ping"),
            (InfluxDb, "/write", "/write", "/api/v1/prom/write", "/ping"),
            (
                InfluxDb,
                "/db/write",
                "/db/write",
                "/db/api/v1/prom/write",
                "/db/ping",
            ),
            (
                InfluxDb,
                "/api/v2/write",
                "/api/v2/write",
                "/api/v1/prom/write",
                "/ping",
            ),
            (
                InfluxDb,
                "/ingest",
                "/ingest",
                "/api/v1/prom/write",
                "/ping",
            ),
            (Prometheus, "", "/write", "/api/v1/write", "/-/ready"),
            (
                Prometheus,
                "/prom/api/v1/write",
                "/prom/write",
                "/prom/api/v1/write",
                "/prom/-/ready",
            ),
            (
                VictoriaMetrics,
                "/api/v1/write",
                "/write",
                "/api/v1/write",
                "/health",
            ),
            (
                VictoriaMetrics,
                "/write",
                "/write",
                "/api/v1/write",
                "/health",
            ),
            (
                Kapacitor,
                "/write",
                "/write",
                "/api/v1/prom/write",
                "/kapacitor/v1/ping",
            ),
            (
                Kapacitor,
                "/kapacitor/v1/write",
                "/kapacitor/v1/write",
                "/api/v1/prom/write",
                "/kapacitor/v1/ping",
            ),
        ] {
            let found = endpoints(kind, path, &Named::default());
            assert_eq!(
                (found.write.as_str(), found.remote_write.as_str()),
                (write, remote_write),
                "{kind:?} {path}"
            );
            assert_eq!(found.ping, ping, "{kind:?} {path}");
        }
    }

    #[test]
    fn named_endpoints_are_appended_with_one_slash() {
        for (path, write, ping, want_write, want_ping, want_query) in [
            (
                "",
                Some("/write"),
                Some("/ping"),
                "/write",
                "/ping",
                "/query",
            ),
            (
                "/",
                Some("/write"),
                Some("ping"),
                "/write",
                "/ping",
                "/query",
            ),
            ("/", Some("//write"), None, "//write", "/ping", "/query"),
            (
                "/a",
                Some("/write"),
                None,
                "/a/write",
                "/a/ping",
                "/a/query",
            ),
            (
                "/a/",
                Some("/write"),
                None,
                "/a/write",
                "/a/ping",
                "/a/query",
            ),
            ("/a", Some("b"), None, "/ab", "/a/ping", "/a/query"),
            ("/a", None, Some("/p"), "/a", "/a/p", "/a/query"),
            ("/write", None, Some("/p"), "/write", "/write/p", "/query"),
            ("", None, Some("/p"), "/write", "/p", "/query"),
        ] {
            let found = endpoints(InfluxDb, path, &named(write, ping));
            assert_eq!(
                (found.write.as_str(), found.ping.as_str()),
                (want_write, want_ping),
                "{path} {write:?}"
            );
            assert_eq!(found.query, want_query, "{path} {write:?}");
        }
    }
}
