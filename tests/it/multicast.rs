//! Datagrams to a multicast address: the group is joined on its interface, and each datagram taken once.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use socket2::SockRef;

use crate::client::until;
use crate::datagrams::Receiver;
use crate::relay::{self, Relay};

/// The number of the link of [`own_network`].
fn d0() -> u32 {
    nix::net::if_::if_nametoindex("d0").unwrap()
}

/// A socket that sends to a group of IPv4 over loopback.
fn sender_v4(group: &str) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    SockRef::from(&socket)
        .set_multicast_if_v4(&Ipv4Addr::LOCALHOST)
        .unwrap();
    socket.connect(group).unwrap();
    socket
}

/// A socket that sends to a group of IPv6 over that link.
fn sender_v6(group: Ipv6Addr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind("[::]:0").unwrap();
    SockRef::from(&socket).set_multicast_if_v6(d0()).unwrap();
    let scope = d0();
    let to = SocketAddrV6::new(group, port, 0, scope);
    socket.connect(SocketAddr::V6(to)).unwrap();
    socket
}

fn port(relay: &Relay) -> u16 {
    relay.udp[0].rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Sends until the relay is heard, then so many, each of which comes once.
fn each_comes_once(socket: &UdpSocket, out: &Receiver, count: usize) {
    until("the group is heard", || {
        socket.send(b"first v=1 1").unwrap();
        !out.lines().is_empty()
    });
    for number in 0..count {
        socket
            .send(format!("m v={number} {number}").as_bytes())
            .unwrap();
        if number % 16 == 0 {
            std::thread::yield_now();
        }
    }
    socket.send(b"last v=1 1").unwrap();
    until("the last has come", || {
        out.lines().iter().any(|line| line.starts_with("last"))
    });
    let mut numbers: Vec<usize> = (out.lines().iter())
        .filter_map(|line| line.strip_prefix("m v=")?.split(' ').next()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "each once");
}

fn with(bind: &str, out: &Receiver, more: &[(&str, &str)]) -> Relay {
    let mut env = vec![("RELAY_UDP_BIND_ADDR", bind)];
    env.extend(more);
    Relay::of_datagrams(&format!("a={}", out.address), &env)
}

#[test]
fn multicast_of_ipv4_is_joined_and_each_datagram_is_taken_once_by_all_shards() {
    for steering in ["help", "flow", "spread"] {
        let out = Receiver::new();
        let relay = with("239.77.1.1%lo:0", &out, &[("RELAY_UDP_STEERING", steering)]);
        let socket = sender_v4(&format!("239.77.1.1:{}", port(&relay)));
        each_comes_once(&socket, &out, 200);
        relay.reload();
        socket.send(b"reloaded v=1 1").unwrap();
        until("the group is heard after a reload", || {
            out.lines().iter().any(|line| line.starts_with("reloaded"))
        });
    }
}

/// Gives this thread, and what it starts, a network of its own with a link `d0`, over which groups of IPv6 are
/// reached (loopback does not carry them); `false` where that is not allowed.
fn own_network() -> bool {
    #[allow(unsafe_code)]
    // SAFETY: it concerns this thread alone, which has no socket yet.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    let ip = |arguments: &str| {
        let mut ip = std::process::Command::new("ip");
        ip.args(arguments.split(' '))
            .status()
            .is_ok_and(|end| end.success())
    };
    done && ip("link set lo up")
        && ip("link add d0 type veth peer name d1")
        && ip("link set d1 up")
        && ip("link set d0 up")
        && ip("addr add fe80::77/64 dev d0 nodad")
}

#[test]
fn multicast_of_ipv6_is_joined_in_its_zone() {
    if !own_network() {
        eprintln!("skipped: a network of its own is not to be had here");
        return;
    }
    for (bind, group) in [
        ("[ff02::4d:1%d0]:0", "ff02::4d:1"),
        ("[ff05::4d:1%d0]:0", "ff05::4d:1"),
        (&format!("[ff02::4d:2%{}]:0", d0()), "ff02::4d:2"),
    ] {
        let out = Receiver::new();
        let relay = with(bind, &out, &[]);
        let socket = sender_v6(group.parse().unwrap(), port(&relay));
        each_comes_once(&socket, &out, 50);
    }
}

#[test]
fn multicast_goes_on_over_a_restart() {
    let out = Receiver::new();
    let relay = with("239.77.1.2%lo:0", &out, &[]);
    let socket = sender_v4(&format!("239.77.1.2:{}", port(&relay)));
    each_comes_once(&socket, &out, 10);
    let line = crate::restart::Line::of(relay);
    line.restart();
    let before = out.lines().len();
    until("the group is heard", || {
        socket.send(b"again v=1 1").unwrap();
        out.lines()[before..]
            .iter()
            .any(|line| line.starts_with("again"))
    });
}

#[test]
fn multicast_that_cannot_be_joined_is_refused_with_words() {
    for (bind, code, words) in [
        ("239.77.1.3%nothere:0", 2, "no interface is called nothere"),
        (
            "[ff02::4d:1%nothere]:0",
            2,
            "no interface is called nothere",
        ),
        ("[ff02::4d:1]:8089", 1, "%eth0"),
        ("[ff01::4d:1]:8089", 1, "%eth0"),
        ("127.0.0.1%lo:8089", 1, "%eth0"),
        ("239.77.1.3%:8089", 1, "%eth0"),
        ("239.77.1.3%a/b:8089", 1, "%eth0"),
        ("239.77.1.3%an-interface-with-a-long-name:8089", 1, "%eth0"),
    ] {
        let mut command = relay::command();
        command
            .env("RELAY_UDP_BIND_ADDR", bind)
            .env("RELAY_UDP_OUTPUTS", "a=127.0.0.1:1");
        let refused = Relay::run(&mut command).err().expect(bind);
        assert_eq!(refused.code, Some(code), "{bind}: {}", refused.said);
        assert!(refused.said.contains(words), "{bind}: {}", refused.said);
    }
    // Without an interface the kernel chooses, if it has a route.
    let mut command = relay::command();
    command
        .env("RELAY_UDP_BIND_ADDR", "239.77.1.4:0")
        .env("RELAY_UDP_OUTPUTS", "a=127.0.0.1:1");
    if let Err(refused) = Relay::run(&mut command) {
        assert_eq!(refused.code, Some(2), "{}", refused.said);
        assert!(refused.said.contains("%eth0"), "{}", refused.said);
    }
    for name in ["RELAY_HTTP_BIND_ADDR", "RELAY_ADMIN_BIND_ADDR"] {
        let mut command = relay::command();
        command
            .env("RELAY_HTTP_OUTPUTS", "a=http://127.0.0.1:1")
            .env(name, "239.77.1.3:8089");
        let refused = Relay::run(&mut command).err().expect(name);
        assert_eq!(refused.code, Some(1), "{name}: {}", refused.said);
    }
}
