//! Where a UDP listener receives: an address, or a multicast group on an interface. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::kind::{Kind, Written};
use crate::config::special::bind;
use crate::limits::udp::INTERFACE_BYTES_MAX;

/// An address to receive datagrams at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveAt {
    /// The address, without its zone.
    pub address: SocketAddr,
    /// The interface by its name or its number: that of the group, or the zone of the address.
    pub interface: Option<String>,
}

impl std::fmt::Display for ReceiveAt {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ip, port) = (self.address.ip(), self.address.port());
        match (&self.interface, ip) {
            (None, _) => write!(out, "{}", self.address),
            (Some(interface), IpAddr::V4(ip)) => write!(out, "{ip}%{interface}:{port}"),
            (Some(interface), IpAddr::V6(ip)) => write!(out, "[{ip}%{interface}]:{port}"),
        }
    }
}

/// `bind-addr` of a UDP listener; `None` for an empty text, which is off.
pub struct DatagramBind;

impl Kind for DatagramBind {
    type Value = Option<ReceiveAt>;
    fn read(&self, written: Written<'_>) -> Option<Option<ReceiveAt>> {
        match written.text()? {
            "" => Some(None),
            text => parse(text).map(Some),
        }
    }
    fn want(&self) -> String {
        "an IP address and a port, such as \"127.0.0.1:8089\", or \":8089\" for all addresses; a multicast group may \
         name its interface, as in \"239.1.1.1%eth0:8089\", and one of IPv6 whose scope is the link must, as in \
         \"[ff02::1%eth0]:8089\"; or \"\" for off"
            .into()
    }
    fn show(&self, value: &Option<ReceiveAt>) -> String {
        value
            .as_ref()
            .map_or_else(|| "off".into(), ToString::to_string)
    }
}

fn parse(text: &str) -> Option<ReceiveAt> {
    let Some((before, after)) = text.split_once('%') else {
        let address = bind(text)?;
        return (!needs_zone(address.ip())).then_some(ReceiveAt {
            address,
            interface: None,
        });
    };
    let (ip, interface, port): (IpAddr, _, _) = match before.strip_prefix('[') {
        Some(ip) => {
            let (interface, port) = after.split_once("]:")?;
            (ip.parse::<Ipv6Addr>().ok()?.into(), interface, port)
        }
        None => {
            let (interface, port) = after.split_once(':')?;
            (ip_v4(before)?, interface, port)
        }
    };
    let is_name = (1..=INTERFACE_BYTES_MAX).contains(&interface.len())
        && interface
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/%:[]".contains(&byte));
    let is_digits = port.bytes().all(|byte| byte.is_ascii_digit());
    (is_name && is_digits && may_have_zone(ip)).then_some(ReceiveAt {
        address: SocketAddr::new(ip, port.parse().ok()?),
        interface: Some(interface.to_owned()),
    })
}

fn ip_v4(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(IpAddr::is_ipv4)
}

/// An address that is one on each interface: its own, or a group of its link.
fn may_have_zone(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unicast_link_local(),
    }
}

fn needs_zone(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => {
            let scope = ip.octets()[1] & 0xF;
            ip.is_unicast_link_local() || (ip.is_multicast() && scope <= LINK_SCOPE)
        }
    }
}

/// The scope of a group of IPv6 whose packets stay on their link.
const LINK_SCOPE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn groups_and_zones_are_read_and_shown_as_written() {
        for (text, is_right) in [
            ("127.0.0.1:8089", true),
            ("239.1.1.1:8089", true),
            ("239.1.1.1%eth0:8089", true),
            ("239.1.1.1%eth0.100:0", true),
            ("239.1.1.1%2:8089", true),
            ("[ff02::1%eth0]:8089", true),
            ("[ff05::1]:8089", true),
            ("[ff05::1%lo]:8089", true),
            ("[fe80::1%eth0]:8089", true),
            ("[fe80::1]:8089", false),
            ("[ff02::1]:8089", false),
            ("[ff01::1]:8089", false),
            ("[::1%lo]:8089", false),
            ("127.0.0.1%lo:8089", false),
            ("0.0.0.0%lo:8089", false),
            ("%lo:8089", false),
            ("ff02::1%lo:8089", false),
            ("[239.1.1.1%lo]:8089", false),
            ("239.1.1.1%:8089", false),
            ("239.1.1.1%a/b:8089", false),
            ("239.1.1.1%a b:8089", false),
            ("239.1.1.1%sixteen-or-more-x:8089", false),
            ("239.1.1.1%lo", false),
            ("239.1.1.1%lo:+1", false),
            ("239.1.1.1%lo:", false),
            ("239.1.1.1%lo:65536", false),
            ("[ff02::1%lo]8089", false),
            ("[ff02::1%lo]:", false),
        ] {
            let shown = parse(text).map(|read| read.to_string());
            assert_eq!(shown.as_deref(), is_right.then_some(text), "{text}");
        }
    }
}
