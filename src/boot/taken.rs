//! Who holds an address that cannot be listened on, by the kernel's tables of sockets. Pure.
//!
//! A port may be taken though nobody listens there: the kernel has given it to the near end of a connection.
//! Then there is no process to stop, and the next start may well succeed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Who holds an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// A socket that takes what comes.
    Listener,
    /// The near end of a connection to this address.
    Connection(SocketAddr),
    /// Nobody that can be seen any more.
    Unknown,
}

/// Looks for `address` in tables such as `/proc/net/tcp6`. A socket whose far end is no address listens.
pub(super) fn holder<'t>(address: SocketAddr, tables: impl Iterator<Item = &'t str>) -> Holder {
    let mut found = Holder::Unknown;
    for line in tables.flat_map(|table| table.lines().skip(1)) {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (Some(near), Some(far)) = (words.next().and_then(read), words.next().and_then(read))
        else {
            continue;
        };
        if !overlaps(near, address) || words.next() == Some(TIME_WAIT) {
            continue;
        }
        if far.port() == 0 {
            return Holder::Listener;
        }
        found = Holder::Connection(far);
    }
    found
}

fn overlaps(near: SocketAddr, wanted: SocketAddr) -> bool {
    let any = near.ip().is_unspecified() || wanted.ip().is_unspecified();
    near.port() == wanted.port() && (any || near.ip().to_canonical() == wanted.ip().to_canonical())
}

/// An address as the kernel writes it: words of its bytes, each in the machine's order, in hexadecimal digits.
fn read(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (place, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(place * 8)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The state of a connection that is over: it holds no address that may be used again.
const TIME_WAIT: &str = "06";

#[cfg(test)]
mod tests {
    use super::{Holder, holder};

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
        0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
        1: 0100007F:D431 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0\n\
        2: nonsense\n 3: 0100007F 1:2\n\
        4: 0100007F:D431 0300007F:1F90 06 00000000:00000000 00:00000000 00000000     0\n";
    const TCP6: &str = "  sl  local_address                         remote_address                        st\n\
        0: 00000000000000000000000000000000:2390 00000000000000000000000000000000:0000 0A\n\
        1: 0000000000000000FFFF00000100007F:2391 0000000000000000FFFF00000200007F:0050 01\n\
        2: 00000000000000000000000001000000:2392 00000000000000000000000001000000:0050 01\n";

    #[cfg(target_endian = "little")]
    #[test]
    fn listeners_and_connections_are_told_apart() {
        let connection = |far: &str| Holder::Connection(far.parse().unwrap());
        for (address, want) in [
            ("127.0.0.1:8080", Holder::Listener),
            ("0.0.0.0:8080", Holder::Listener),
            ("[::]:8080", Holder::Listener),
            ("127.0.0.2:8080", Holder::Unknown),
            ("127.0.0.1:54321", connection("127.0.0.1:8080")),
            ("[::]:54321", connection("127.0.0.1:8080")),
            ("127.0.0.2:54321", Holder::Unknown),
            ("127.0.0.7:9104", Holder::Listener),
            ("[::1]:9104", Holder::Listener),
            ("127.0.0.1:9105", connection("127.0.0.2:80")),
            ("[::1]:9106", connection("[::1]:80")),
            ("127.0.0.1:1", Holder::Unknown),
        ] {
            let found = holder(address.parse().unwrap(), [TCP, TCP6].into_iter());
            assert_eq!(found, want, "{address}");
        }
        assert_eq!(
            holder("127.0.0.1:1".parse().unwrap(), [].into_iter()),
            Holder::Unknown
        );
    }
}
