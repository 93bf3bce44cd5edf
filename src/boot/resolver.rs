//! Where the backends are: names are looked up by a thread, so that no shard waits for DNS.
//!
//! A name is looked up at the start, then every `dns-interval`, and soon after a shard could not
//! connect. What DNS no longer knows keeps its last addresses: a broken resolver is no reason to
//! forget a backend that works.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::backend::shared::Shared;
use crate::boot::{StartError, helper, rest};
use crate::engine::tls::ClientTls;
use crate::limits;
use crate::shard::World;

/// What is known of a backend or an output before anybody asked: the address, where the location has one.
pub(super) fn first_look(host: &str, port: u16, tls: Option<ClientTls>) -> Arc<Shared> {
    let literal = host.parse::<IpAddr>().ok();
    let addresses = literal
        .map(|address| SocketAddr::new(address, port))
        .into_iter()
        .collect::<Vec<_>>();
    Arc::new(Shared {
        addresses: ArcSwap::from_pointee(addresses),
        tls,
        ..Shared::default()
    })
}

/// What has a name.
struct Named<'a> {
    label: &'a str,
    host: &'a str,
    port: u16,
    shared: &'a Shared,
}

/// Backends and outputs whose location has a name, not an address.
fn named(world: &World) -> impl Iterator<Item = Named<'_>> {
    let backends = world.plan.backends.iter().zip(&world.backends);
    let backends = backends.map(|(plan, shared)| Named {
        label: &plan.label,
        host: &plan.host,
        port: plan.port,
        shared,
    });
    let outputs = world.plan.outputs.iter().zip(&world.outputs);
    let outputs = outputs.map(|(plan, shared)| Named {
        label: &plan.label,
        host: &plan.host,
        port: plan.port,
        shared,
    });
    let all = backends.chain(outputs);
    all.filter(|named| named.host.parse::<IpAddr>().is_err())
}

/// Starts the thread, if anything has a name. It ends when another plan is in force.
pub(super) fn start(world: &Arc<World>) -> Result<(), StartError> {
    if named(world).next().is_none() {
        return Ok(());
    }
    let world = Arc::clone(world);
    helper("resolver", move || {
        while !world.is_over.load(Ordering::Relaxed) {
            named(&world).for_each(|named| look_up(&named));
            let mut waited = Duration::ZERO;
            while waited < world.plan.tuning.dns_interval && !world.is_over.load(Ordering::Relaxed)
            {
                rest(limits::DNS_DOUBT_INTERVAL);
                waited += limits::DNS_DOUBT_INTERVAL;
                named(&world)
                    .filter(|named| {
                        named
                            .shared
                            .addresses_doubted
                            .swap(false, Ordering::Relaxed)
                    })
                    .for_each(|named| look_up(&named));
            }
        }
    })
}

#[allow(clippy::disallowed_methods)] // this thread exists to wait for DNS
fn look_up(named: &Named<'_>) {
    let Named {
        label,
        host,
        port,
        shared,
    } = *named;
    match (host, port).to_socket_addrs() {
        Ok(found) => {
            let found: Vec<SocketAddr> = found.take(limits::ADDRESSES_MAX).collect();
            if !found.is_empty() && **shared.addresses.load() != found {
                tracing::info!(backend = %label, addresses = ?found, "resolved");
                shared.addresses.store(Arc::new(found));
            }
        }
        Err(why) if shared.addresses.load().is_empty() => {
            tracing::warn!(backend = %label, %host, %why, "no address: writes to it fail until DNS knows one");
        }
        Err(why) => {
            tracing::debug!(backend = %label, %why, "DNS does not answer: the last addresses are kept")
        }
    }
}
