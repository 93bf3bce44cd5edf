//! UDP's part of `/metrics`: what came, what was lost on the way, what went to each output.

use crate::admin::exposition::{Page, label};
use crate::metrics::{Counter, OutputMetrics, UDP_DROPS, UdpMetrics};
use crate::shard::World;

/// Writes all its metrics: their heads always. Once per scrape.
pub fn write(page: &mut Page, world: &World) {
    let sum = |of: fn(&UdpMetrics) -> &Counter| -> u64 {
        let shards = world.metrics.iter();
        shards.map(|shard| of(&shard.udp).get()).sum()
    };
    for (name, help, of) in COUNTS {
        page.head(name, "counter", help);
        page.row(name, "", sum(of));
    }
    page.head(
        DROPPED,
        "counter",
        "Lines received by UDP and not passed on, by reason.",
    );
    for (row, reason) in UDP_DROPS.iter().enumerate() {
        let shards = world.metrics.iter();
        let count: u64 = shards.map(|shard| shard.udp.dropped[row].get()).sum();
        page.row(DROPPED, &label("reason", reason), count);
    }
    for (name, help, of) in PER_OUTPUT {
        page.head(name, "counter", help);
        for (o, output) in world.plan.outputs.iter().enumerate() {
            let shards = world.metrics.iter();
            let count: u64 = shards.map(|shard| of(&shard.outputs[o]).get()).sum();
            page.row(name, &label("output", &output.label), count);
        }
    }
}

type Count<M> = (&'static str, &'static str, fn(&M) -> &Counter);

const COUNTS: [Count<UdpMetrics>; 5] = [
    ("relay_udp_datagrams_total", "Datagrams received.", |udp| {
        &udp.datagrams
    }),
    (
        "relay_udp_bytes_total",
        "Bytes of datagrams received.",
        |udp| &udp.bytes,
    ),
    (
        "relay_udp_kernel_drops_total",
        "Datagrams that the kernel dropped, since its queue was full.",
        |udp| &udp.kernel_drops,
    ),
    (
        "relay_udp_over_mtu_total",
        "Lines longer than an output's mtu, sent alone.",
        |udp| &udp.over_mtu,
    ),
    (
        "relay_udp_helped_total",
        "Datagrams that a shard took from the socket of one that was behind.",
        |udp| &udp.helped,
    ),
];
const DROPPED: &str = "relay_udp_dropped_total";
const PER_OUTPUT: [Count<OutputMetrics>; 4] = [
    (
        "relay_udp_sent_datagrams_total",
        "Datagrams sent to an output over UDP.",
        |output| &output.datagrams,
    ),
    (
        "relay_udp_sent_bytes_total",
        "Bytes of datagrams sent to an output over UDP.",
        |output| &output.bytes,
    ),
    (
        "relay_udp_refused_total",
        "Datagrams that came back: nobody receives there. Some come back unseen.",
        |output| &output.refused,
    ),
    (
        "relay_udp_failed_total",
        "Datagrams that could not be sent to an output over UDP.",
        |output| &output.failed,
    ),
];
