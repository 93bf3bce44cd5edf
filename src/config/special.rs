//! What only one key may hold: an address to listen on, CPUs, a number of acknowledgements. Pure.

use crate::config::kind::{Kind, Written};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where a socket listens; `None` for an empty text.
pub struct Bind {
    /// What an empty text means, for `check`.
    pub empty: &'static str,
}

impl Kind for Bind {
    type Value = Option<SocketAddr>;
    fn read(&self, written: Written<'_>) -> Option<Option<SocketAddr>> {
        match written.text()? {
            "" => Some(None),
            text => bind(text)
                .filter(|address| !address.ip().is_multicast()) // TCP knows none
                .map(Some),
        }
    }
    fn want(&self) -> String {
        format!(
            "an IP address and a port, such as \"127.0.0.1:9096\", or \":9096\" for all addresses, or \"\" for {}",
            self.empty
        )
    }
    fn show(&self, value: &Option<SocketAddr>) -> String {
        value.map_or_else(|| self.empty.into(), |address| address.to_string())
    }
}

/// `host:port` as Go's `net.Listen` takes it; of names only `localhost`, as an address to listen
/// on must not wait for DNS.
pub(super) fn bind(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let ip = match host {
        "" => IpAddr::V6(Ipv6Addr::UNSPECIFIED), // dual stack, as in Go
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => return text.parse().ok(),
    };
    port.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| Some(SocketAddr::new(ip, port.parse().ok()?)))?
}

/// CPUs: `auto`, or a list such as `0-3,6`. What becomes of it: the CPUs, ascending.
pub struct Cpus<'a> {
    /// What this process may use.
    pub allowed: &'a [usize],
    /// The most that are used.
    pub max: usize,
    /// The most that `auto` uses.
    pub auto_max: usize,
}

impl Kind for Cpus<'_> {
    type Value = Vec<usize>;
    fn read(&self, written: Written<'_>) -> Option<Vec<usize>> {
        let mut cpus = Vec::new();
        match written.text()? {
            "auto" => cpus.extend(self.allowed.iter().take(self.max.min(self.auto_max))),
            list => {
                for part in list.split(',') {
                    let (first, last) = part.split_once('-').unwrap_or((part, part));
                    let (first, last): (usize, usize) = (cpu(first)?, cpu(last)?);
                    let span = first..=last;
                    let named: Vec<usize> = self
                        .allowed
                        .iter()
                        .copied()
                        .filter(|id| span.contains(id))
                        .collect();
                    if span.is_empty() || last - first >= named.len() {
                        return None; // upside down, or one that is not allowed
                    }
                    cpus.extend(named);
                }
            }
        }
        cpus.sort_unstable();
        let all = cpus.len();
        cpus.dedup();
        (all == cpus.len() && (1..=self.max).contains(&all)).then_some(cpus)
    }
    fn want(&self) -> String {
        let allowed = show_cpus(self.allowed);
        format!(
            "\"auto\", or a list such as \"0-3,6\", each CPU once, at most {}; this process may use {allowed}",
            self.max
        )
    }
    fn show(&self, value: &Vec<usize>) -> String {
        show_cpus(value)
    }
}

fn cpu(text: &str) -> Option<usize> {
    let text = text.trim();
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// Ascending CPUs with their runs joined: `0-3,6`.
fn show_cpus(cpus: &[usize]) -> String {
    let mut text = String::new();
    for (i, cpu) in cpus.iter().enumerate() {
        let follows = i > 0 && cpus[i - 1] + 1 == *cpu;
        let goes_on = cpus.get(i + 1).is_some_and(|next| *next == cpu + 1);
        match (follows, goes_on) {
            (true, true) => {}
            (true, false) => text.push_str(&format!("-{cpu}")),
            (false, _) if i > 0 => text.push_str(&format!(",{cpu}")),
            (false, _) => text.push_str(&cpu.to_string()),
        }
    }
    text
}

/// How many backends must accept, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcksWish {
    /// So many.
    Number(usize),
    /// More than half.
    Quorum,
    /// Each.
    All,
}

/// `acks`.
pub struct Acks;

impl Kind for Acks {
    type Value = AcksWish;
    fn read(&self, written: Written<'_>) -> Option<AcksWish> {
        match (written.whole(), written.text()) {
            (Some(0), _) => None,
            (Some(number), _) => usize::try_from(number).ok().map(AcksWish::Number),
            (None, Some("quorum")) => Some(AcksWish::Quorum),
            (None, Some("all")) => Some(AcksWish::All),
            _ => None,
        }
    }
    fn want(&self) -> String {
        "a number from 1 to the number of outputs whose answers count, \"quorum\" or \"all\"".into()
    }
    fn show(&self, value: &AcksWish) -> String {
        match value {
            AcksWish::Number(number) => number.to_string(),
            AcksWish::Quorum => "quorum".into(),
            AcksWish::All => "all".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bind, Cpus, show_cpus};
    use crate::config::kind::{Kind, Written};

    #[test]
    fn bind_addresses_are_those_of_go() {
        let kind = Bind { empty: "off" };
        for (text, want) in [
            ("127.0.0.1:9096", Some("127.0.0.1:9096")),
            (":9096", Some("[::]:9096")),
            ("[::1]:9096", Some("[::1]:9096")),
            ("localhost:9096", Some("127.0.0.1:9096")),
            ("0.0.0.0:0", Some("0.0.0.0:0")),
            ("", Some("off")),
            ("127.0.0.1", None),
            ("relay.example:9096", None),
            (":http", None),
            (":+80", None),
            (":65536", None),
            ("::1:9096", None),
            ("9096", None),
            ("239.1.1.1:9096", None),
            ("[ff05::1]:9096", None),
        ] {
            let shown = kind
                .read(Written::Text(text))
                .map(|value| kind.show(&value));
            assert_eq!(shown.as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn cpu_lists_name_allowed_cpus_once() {
        let kind = Cpus {
            allowed: &[0, 1, 2, 3, 6, 9],
            max: 5,
            auto_max: usize::MAX,
        };
        for (text, want) in [
            ("auto", Some("0-3,6")),
            ("0-3,6", Some("0-3,6")),
            ("6, 1", Some("1,6")),
            ("9", Some("9")),
            ("0-4", None),
            ("3-6", None),
            ("3-1", None),
            ("1,1", None),
            ("", None),
            ("+1", None),
            ("0-18446744073709551615", None),
            ("0-3,6,9", None),
        ] {
            let shown = kind
                .read(Written::Text(text))
                .map(|value| kind.show(&value));
            assert_eq!(shown.as_deref(), want, "{text:?}");
        }
        assert_eq!(show_cpus(&[1, 2, 4, 7, 8, 9]), "1-2,4,7-9");
    }
}
