//! Datagrams before two real `influxd` with their UDP service: the same points with the same times in both.

use std::fmt::Write;

use crate::client::until;
use crate::datagrams::sender;
use crate::influxd::Influxd;
use crate::relay::Relay;

fn count(server: &Influxd, measurement: &str) -> String {
    server
        .query(&format!("SELECT count(*) FROM {measurement}"))
        .body
}

#[test]
fn udp_points_are_the_same_in_two_influxd() {
    let Some((a, udp_a)) = Influxd::with_udp("udp-a") else {
        return;
    };
    let Some((b, udp_b)) = Influxd::with_udp("udp-b") else {
        return;
    };
    let http = format!("c=http://{}/?db=http", a.address);
    assert_eq!(a.query("CREATE DATABASE http").status, 200);
    let relay = Relay::of_datagrams(&format!("a={udp_a},b={udp_b},{http}"), &[]);
    let socket = sender(&relay.udp[0]);
    // Points beside what would make influxd throw a whole datagram away.
    for n in 0..500 {
        let mut datagram = String::new();
        for line in 0..5 {
            let n = n * 5 + line;
            writeln!(
                datagram,
                "dated,host=h\\ {} v={n}i,s=\"a \\\" b\",ok=t {n}000",
                n % 10
            )
            .unwrap();
        }
        datagram += "no point\nm v=\n# comment\nundated v=1i,x=2.5e3";
        socket.send(datagram.as_bytes()).unwrap();
        if n % 50 == 49 {
            let taken = n + 1;
            until("they are taken", || {
                relay.metric("relay_udp_datagrams_total") == taken
            });
        }
    }
    for server in [&a, &b] {
        until("all are stored", || {
            count(server, "dated").contains("2500") && count(server, "undated").contains("500")
        });
    }
    let all = |server: &Influxd| server.query("SELECT * FROM dated, undated").body;
    assert_eq!(all(&a), all(&b), "the same points, the same times");
    let carried = a.query("SELECT * FROM http..dated, http..undated").body;
    assert_eq!(carried, all(&a), "over HTTP too");
    let malformed = relay.metric("relay_udp_dropped_total{reason=\"malformed\"}");
    assert_eq!(malformed, 1_000);
    assert_eq!(relay.metric("relay_udp_kernel_drops_total"), 0);
}
