//! Datagrams in, datagrams out: what comes through, in which order, and what is counted instead.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::client::until;
use crate::datagrams::{Receiver, sender};
use crate::relay::Relay;
use crate::store::own_address;

fn two() -> (Receiver, Receiver) {
    (Receiver::new(), Receiver::new())
}

fn before(a: &Receiver, b: &Receiver, env: &[(&str, &str)]) -> Relay {
    Relay::of_datagrams(&format!("a={},b={}", a.address, b.address), env)
}

fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}

fn dropped(relay: &Relay, reason: &str) -> u64 {
    relay.metric(&format!("relay_udp_dropped_total{{reason=\"{reason}\"}}"))
}

/// One CPU, so that one sender's datagrams stay in order.
const ONE: (&str, &str) = ("RELAY_CPUS", "0");

#[test]
fn udp_points_reach_all_outputs_as_they_came_and_undated_ones_with_one_time() {
    let (a, b) = two();
    let relay = before(&a, &b, &[ONE]);
    let socket = sender(&relay.udp[0]);
    let begun = now_ns();
    let dated = "m\\ 1,t=a\\,b v=1,s=\"one two \\\" three\" 17\nw ,x=\nm v=2  18\n";
    socket.send(dated.as_bytes()).unwrap();
    socket.send(b"# only a comment\n\n").unwrap();
    socket.send(b"").unwrap();
    socket.send(b"cpu v=1i\ncpu,h=b v=t").unwrap();
    socket.send(b"cpu v=2i").unwrap();
    let lines = a.wait_for(5);
    assert_eq!(b.wait_for(5), lines, "the same times on both");
    let ended = now_ns();
    let as_they_came = ["m\\ 1,t=a\\,b v=1,s=\"one two \\\" three\" 17", "m v=2  18"];
    assert_eq!(lines[..2], as_they_came);
    let time = |line: &str, point: &str| -> u128 {
        line.strip_prefix(point).unwrap().trim().parse().unwrap()
    };
    let (one, two) = (time(&lines[2], "cpu v=1i"), time(&lines[3], "cpu,h=b v=t"));
    assert_eq!(one, two, "points of one datagram");
    let next = time(&lines[4], "cpu v=2i");
    assert!(
        begun <= one && one < next && next <= ended + 1_000,
        "{lines:?}"
    );
    assert_eq!(relay.metric("relay_udp_datagrams_total"), 5);
    assert_eq!(relay.metric("relay_points_total{path=\"udp\"}"), 5);
    assert_eq!(dropped(&relay, "malformed"), 1);
}

#[test]
fn udp_times_are_in_the_listeners_unit() {
    let (a, b) = two();
    let relay = before(&a, &b, &[("RELAY_UDP_PRECISION", "ms")]);
    let begun = now_ns() / 1_000_000;
    sender(&relay.udp[0]).send(b"cpu v=1").unwrap();
    let line = a.wait_for(1).remove(0);
    let time: u128 = line.strip_prefix("cpu v=1 ").unwrap().parse().unwrap();
    assert!((begun..=now_ns() / 1_000_000).contains(&time), "{line}");
}

#[test]
fn udp_whatever_comes_nothing_good_is_lost_and_each_bad_line_is_counted() {
    let (a, b) = two();
    let relay = before(&a, &b, &[ONE]);
    let socket = sender(&relay.udp[0]);
    let long = format!("long v=\"{}\" 1", "x".repeat(60_000));
    let longest = format!("longest v=\"{}\" 1", "y".repeat(65_507 - 14));
    let over = format!("over v=\"{}\"", "z".repeat(65_507 - 9));
    let many: String = (0..5_000).map(|n| format!("m v=1 {n}\n")).collect();
    let junk: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    // What is sent; good lines in it, bad ones.
    let cases: &[(&[u8], usize, u64)] = &[
        (b"x", 0, 1),
        (b"\n", 0, 0),
        (b"\0\0\0", 0, 0),
        (b"\0 m v=1 1", 1, 0),
        (b"m v=1 1\0", 0, 1),
        (&junk, 0, 1),
        (b"half lin", 0, 1),
        (b"m v=1 1\nhalf v=\nm v=2 2\n=\n\nm v=3 3", 3, 2),
        (b"m v=\"open 1\nm v=1 1", 0, 1),
        (b"m v=1 1\nm \\\\=\"=\" 1\nm v=2 2", 2, 0),
        (b"\xff\xfe v=1 1\nm,t=\xff v=1 1", 1, 1),
        (b"m v=1 1\r\n", 1, 0),
        (long.as_bytes(), 1, 0),
        (longest.as_bytes(), 1, 0),
        (over.as_bytes(), 0, 0),
        (many.as_bytes(), 5_000, 0),
    ];
    let (mut good, mut bad) = (0, 0);
    for (n, (datagram, right, wrong)) in cases.iter().enumerate() {
        socket.send(datagram).unwrap();
        (good, bad) = (good + right, bad + wrong);
        // One by one: so nothing is lost in a queue, and each is seen to do no harm.
        until("it is taken", || {
            relay.metric("relay_udp_datagrams_total") == n as u64 + 1
        });
        assert_eq!(dropped(&relay, "malformed"), bad, "case {n}");
    }
    for receiver in [&a, &b] {
        let lines = receiver.wait_for(good);
        assert_eq!(lines.len(), good);
        assert!(lines.contains(&long) && lines.contains(&longest));
        for datagram in receiver.datagrams() {
            let is_alone = datagram
                .split(|&byte| byte == b'\n')
                .filter(|line| !line.is_empty())
                .count()
                == 1;
            assert!(datagram.len() <= 1024 || is_alone);
        }
    }
    assert_eq!(dropped(&relay, "poison"), 1);
    assert_eq!(dropped(&relay, "too-long"), 1, "it came undated");
    assert_eq!(relay.metric("relay_udp_over_mtu_total"), 2);
    assert_eq!(relay.metric("relay_udp_kernel_drops_total"), 0);
}

#[test]
fn udp_order_is_kept_and_datagrams_are_filled_up_to_mtu() {
    let (a, b) = two();
    let relay = before(&a, &b, &[ONE, ("RELAY_UDP_MTU", "200")]);
    let socket = sender(&relay.udp[0]);
    let sent: Vec<String> = (0..2_000)
        .map(|n| format!("m,host=h{} v={n}i {n}", n % 7))
        .collect();
    for line in &sent {
        socket.send(line.as_bytes()).unwrap();
    }
    for receiver in [&a, &b] {
        assert_eq!(receiver.wait_for(sent.len()), sent);
        assert!(
            receiver
                .datagrams()
                .iter()
                .all(|datagram| datagram.len() <= 200)
        );
    }
}

#[test]
fn udp_what_the_kernel_drops_is_reported_to_the_last_datagram() {
    let (a, b) = two();
    let relay = before(&a, &b, &[("RELAY_UDP_READ_BUFFER", "16KiB")]);
    let socket = sender(&relay.udp[0]);
    relay.freeze();
    for n in 0..3_000_u64 {
        socket.send(format!("m v=1 {n}").as_bytes()).unwrap();
    }
    relay.go_on();
    let taken = || relay.metric("relay_udp_datagrams_total");
    let lost = || relay.metric("relay_udp_kernel_drops_total");
    until("all are accounted for", || taken() + lost() == 3_000);
    assert!(lost() > 1_000, "{}", lost());
    let taken = usize::try_from(taken()).unwrap();
    assert_eq!(a.wait_for(taken).len(), taken);
    until("the end of the loss is told", || {
        relay.said().contains("drops no datagrams any more")
    });
    let said = relay.said();
    assert_eq!(
        said.matches("the kernel drops datagrams").count(),
        1,
        "{said}"
    );
    assert!(said.contains(&format!("lost={}", lost())), "{said}");
}

#[test]
fn udp_an_output_where_nobody_is_hurts_no_other_and_is_told_once() {
    let (a, gone) = (Receiver::new(), own_address());
    let relay = Relay::of_datagrams(&format!("a={},gone={gone}", a.address), &[ONE]);
    let socket = sender(&relay.udp[0]);
    let send = |n: usize| {
        socket.send(format!("m v=1 {n}").as_bytes()).unwrap();
    };
    let mut n = 0;
    until("it is told", || {
        send(n);
        n += 1;
        relay.said().contains("output does not take datagrams")
    });
    assert_eq!(a.wait_for(n).len(), n);
    assert!(relay.metric("relay_udp_refused_total{output=\"gone\"}") > 0);
    let back = Receiver::at(&gone);
    until("it is told that it is back", || {
        relay.said().contains("output has refused nothing")
    });
    (n..n + 100).for_each(send);
    assert_eq!(back.wait_for(100).len(), 100);
    assert_eq!(a.wait_for(n + 100).len(), n + 100);
    assert_eq!(relay.said().matches("output does not take").count(), 1);
}

#[test]
fn udp_balance_sends_each_datagram_to_one_output_that_is_up() {
    let (a, gone) = (Receiver::new(), own_address());
    let b = Receiver::new();
    let outputs = format!("a={},gone={gone},b={}", a.address, b.address);
    let relay = Relay::of_datagrams(&outputs, &[ONE, ("RELAY_UDP_MODE", "balance")]);
    let socket = sender(&relay.udp[0]);
    let (mut n, mut at) = (0_usize, 0);
    let datagrams = || relay.metric("relay_udp_datagrams_total");
    until("the dead one is found out", || {
        socket.send(format!("m v=1 {n}").as_bytes()).unwrap();
        n += 1;
        until("it is taken", || datagrams() == n as u64);
        at = relay.metric("relay_udp_sent_datagrams_total{output=\"gone\"}");
        relay.said().contains("output does not take datagrams")
    });
    let lost = usize::try_from(at).unwrap();
    assert!(lost <= 3, "{lost}");
    for more in n..n + 50 {
        socket.send(format!("m v=1 {more}").as_bytes()).unwrap();
        until("it is taken", || datagrams() == more as u64 + 1);
    }
    let all = || [a.lines(), b.lines()].concat();
    until("each is in one", || all().len() == n + 50 - lost);
    let each: BTreeSet<String> = all().into_iter().collect();
    assert_eq!(each.len(), n + 50 - lost, "none is in both");
    assert!(a.lines().len() >= 25 && b.lines().len() >= 25);
}

#[test]
fn udp_what_is_queued_when_it_is_asked_to_end_goes_out() {
    let (a, b) = two();
    let relay = before(&a, &b, &[]);
    let socket = sender(&relay.udp[0]);
    relay.freeze();
    for n in 0..1_000 {
        socket.send(format!("m v=1 {n}").as_bytes()).unwrap();
    }
    relay.term();
    relay.go_on();
    assert_eq!(relay.wait().code(), Some(0));
    assert_eq!(
        (a.wait_for(1_000).len(), b.wait_for(1_000).len()),
        (1_000, 1_000)
    );
}

#[test]
fn udp_a_window_packs_what_comes_within_it() {
    let (a, b) = two();
    let relay = before(&a, &b, &[ONE, ("RELAY_UDP_FLUSH_WINDOW", "200ms")]);
    let socket = sender(&relay.udp[0]);
    for n in 0..20 {
        socket.send(format!("m v=1 {n}").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(1)); // each would be a batch of its own
    }
    assert_eq!(a.wait_for(20).len(), 20);
    assert!(a.datagrams().len() <= 3, "{}", a.datagrams().len());
}

#[test]
fn udp_of_version_6_and_a_name_work_too() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("skipped: no IPv6 here");
        return;
    }
    let (a, b) = (Receiver::at("[::1]:0"), Receiver::new());
    let port = b.address.rsplit_once(':').unwrap().1;
    let outputs = format!("a={},b=localhost:{port}", a.address);
    let relay = Relay::of_datagrams(&outputs, &[("RELAY_UDP_BIND_ADDR", "[::1]:0")]);
    let socket = sender(&relay.udp[0]);
    // Whichever of its addresses the name has first.
    let b6 = Receiver::at(&format!("[::1]:{port}"));
    until("both have it", || {
        socket.send(b"m v=1 1").unwrap();
        !a.lines().is_empty() && b.lines().len() + b6.lines().len() > 0
    });
}

#[test]
fn udp_an_address_in_use_is_a_clear_error() {
    let (a, taken) = (Receiver::new(), Receiver::new());
    let outputs = format!("a={}", a.address);
    let refused = Relay::try_start(
        &[("x", "127.0.0.1:1")],
        &[
            ("RELAY_UDP_BIND_ADDR", &taken.address),
            ("RELAY_UDP_OUTPUTS", &outputs),
        ],
    );
    let refused = refused.err().unwrap();
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.said.contains("another process listens there"),
        "{}",
        refused.said
    );
}

#[test]
fn udp_of_one_sender_is_taken_by_all_shards_while_one_is_behind() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("skipped: one CPU is one shard");
        return;
    }
    for steering in ["help", "flow", "spread"] {
        let (a, b) = two();
        let env = [("RELAY_UDP_STEERING", steering), ("RELAY_UDP_BATCH", "8")];
        let relay = before(&a, &b, &env);
        let socket = sender(&relay.udp[0]);
        relay.freeze();
        for n in 0..4_000 {
            socket.send(format!("m v=1 {n}").as_bytes()).unwrap();
        }
        relay.go_on();
        let mut lines = a.wait_for(4_000);
        lines.sort();
        lines.dedup();
        assert_eq!(lines.len(), 4_000, "{steering}: each once");
        assert_eq!(b.wait_for(4_000).len(), 4_000);
        assert_eq!(relay.metric("relay_udp_datagrams_total"), 4_000);
        let helped = || relay.metric("relay_udp_helped_total");
        if steering != "help" {
            assert_eq!(helped(), 0);
            continue;
        }
        until("one shard helps the other", || {
            (0..2_000).for_each(|n| assert!(socket.send(format!("m v=2 {n}").as_bytes()).is_ok()));
            helped() > 0
        });
    }
}
