//! Where `bench` sends to: a URL, taken apart. Pure.

/// Whether all targets are of UDP; some of each cannot be measured by one rate.
pub(super) fn are_udp(urls: &[String]) -> Result<bool, String> {
    let udp = urls.iter().filter(|url| url.starts_with("udp://")).count();
    if udp > 0 && udp < urls.len() {
        let found = urls.join(" and ");
        return Err(format!(
            "--target: found {found}; write one kind only, and start bench twice, once with the \
             http:// targets and once with the udp:// ones"
        ));
    }
    Ok(udp > 0)
}

/// Reads `udp://HOST:PORT`: name or address and port, as a resolver takes it.
pub(super) fn udp(url: &str) -> Result<&str, String> {
    let host = url.strip_prefix("udp://").unwrap_or_default();
    let host = host.strip_suffix('/').unwrap_or(host);
    let (name, port) = host.rsplit_once(':').unwrap_or_default();
    let is_name = !name.is_empty()
        && !name.contains(|c: char| "/?#@ ".contains(c) || c.is_ascii_control())
        && (!name.contains(':') || (name.starts_with('[') && name.ends_with(']')));
    if !is_name || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(format!(
            "--target: found {url:?}; write udp://HOST:PORT, such as udp://127.0.0.1:8089"
        ));
    }
    Ok(host)
}

/// One HTTP target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Name or address and port, as a resolver takes it.
    pub(super) address: String,
    /// What the `Host` field says.
    pub(super) host: String,
    /// Path and query of each request.
    pub(super) path: String,
}

impl Target {
    /// Reads `http://HOST[:PORT][/PATH?QUERY]`; where the URL names no path, `path` is used.
    pub(super) fn parse(url: &str, path: &str) -> Result<Self, String> {
        let want = |want: &str| Err(format!("--target: found {url:?}; {want}"));
        let Some(rest) = url.strip_prefix("http://") else {
            return want(
                "write http://HOST:PORT or udp://HOST:PORT, such as http://127.0.0.1:9096",
            );
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, own) = rest.split_at(at);
        if host.is_empty()
            || host.contains('@')
            || rest.contains(|c: char| c.is_ascii_control() || c == ' ')
        {
            return want("write http://HOST:PORT, without a user and without spaces");
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']'));
        let address = if has_port {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let path = if matches!(own, "" | "/") { path } else { own };
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            address,
            host: host.to_owned(),
            path: format!("{slash}{path}"),
        })
    }

    /// A request head but for its length and the blank line.
    pub(super) fn head(&self, method: &str, path: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: influxdb-relay-bench\r\n",
            self.host
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, are_udp, udp};

    fn parts(url: &str) -> (String, String, String) {
        let target = Target::parse(url, "/write?db=bench").unwrap();
        (target.address, target.host, target.path)
    }

    #[test]
    fn a_url_is_taken_apart() {
        let own = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(
            parts("http://a:9096"),
            own("a:9096", "a:9096", "/write?db=bench")
        );
        assert_eq!(parts("http://a/"), own("a:80", "a", "/write?db=bench"));
        assert_eq!(
            parts("http://[::1]"),
            own("[::1]:80", "[::1]", "/write?db=bench")
        );
        assert_eq!(
            parts("http://[::1]:1/w?x=y"),
            own("[::1]:1", "[::1]:1", "/w?x=y")
        );
        assert_eq!(parts("http://a?x"), own("a:80", "a", "/?x"));
    }

    #[test]
    fn what_cannot_be_sent_to_says_what_to_write() {
        for (url, want) in [
            ("https://a", "http://"),
            ("a:1", "http://"),
            ("http://", "HOST"),
            ("http://u:p@a", "user"),
        ] {
            assert!(
                Target::parse(url, "/w").unwrap_err().contains(want),
                "{url}"
            );
        }
    }
    #[test]
    fn a_place_for_datagrams_is_host_and_port() {
        for (url, host) in [
            ("udp://127.0.0.1:8089", "127.0.0.1:8089"),
            ("udp://[::1]:8089/", "[::1]:8089"),
            ("udp://relay.lan:1", "relay.lan:1"),
        ] {
            assert_eq!(udp(url), Ok(host));
        }
        for url in [
            "udp://",
            "udp://a",
            "udp://a:",
            "udp://a:0",
            "udp://a:70000",
            "udp://:1",
            "udp://::1:8089",
            "udp://a/b:1",
            "udp://u@a:1",
        ] {
            assert!(udp(url).unwrap_err().contains("udp://HOST:PORT"), "{url}");
        }
    }

    #[test]
    fn one_kind_of_target_in_one_run() {
        let are =
            |urls: &[&str]| are_udp(&urls.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(are(&["http://a", "http://b"]), Ok(false));
        assert_eq!(are(&["udp://a:1", "udp://b:1"]), Ok(true));
        assert!(
            are(&["udp://a:1", "http://b"])
                .unwrap_err()
                .contains("twice")
        );
    }
}
