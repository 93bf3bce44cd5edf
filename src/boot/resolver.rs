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

use crate::backend::pool::Shared;
use crate::boot::{StartError, helper, rest};
use crate::limits;
use crate::plan::BackendPlan;
use crate::shard::World;

/// What is known of a backend before anybody asked: the address, where the location has one.
pub(super) fn first_look(plan: &BackendPlan) -> Arc<Shared> {
    let literal = plan.host.parse::<IpAddr>().ok();
    let addresses = literal
        .map(|address| SocketAddr::new(address, plan.port))
        .into_iter()
        .collect::<Vec<_>>();
    Arc::new(Shared {
        addresses: ArcSwap::from_pointee(addresses),
        ..Shared::default()
    })
}

/// Starts the thread, if any backend has a name.
pub(super) fn start(world: &Arc<World>) -> Result<(), StartError> {
    let named = |plan: &BackendPlan| plan.host.parse::<IpAddr>().is_err();
    if !world.plan.backends.iter().any(named) {
        return Ok(());
    }
    let world = Arc::clone(world);
    helper("resolver", move || {
        let all = || {
            world
                .plan
                .backends
                .iter()
                .zip(&world.backends)
                .filter(|(plan, _)| named(plan))
        };
        loop {
            all().for_each(|(plan, shared)| look_up(plan, shared));
            let mut waited = Duration::ZERO;
            while waited < world.plan.tuning.dns_interval {
                rest(limits::DNS_DOUBT_INTERVAL);
                waited += limits::DNS_DOUBT_INTERVAL;
                all()
                    .filter(|(_, shared)| shared.addresses_doubted.swap(false, Ordering::Relaxed))
                    .for_each(|(plan, shared)| look_up(plan, shared));
            }
        }
    })
}

#[allow(clippy::disallowed_methods)] // this thread exists to wait for DNS
fn look_up(plan: &BackendPlan, shared: &Shared) {
    match (plan.host.as_str(), plan.port).to_socket_addrs() {
        Ok(found) => {
            let found: Vec<SocketAddr> = found.take(limits::ADDRESSES_MAX).collect();
            if !found.is_empty() && **shared.addresses.load() != found {
                tracing::info!(backend = %plan.label, addresses = ?found, "resolved");
                shared.addresses.store(Arc::new(found));
            }
        }
        Err(why) if shared.addresses.load().is_empty() => {
            tracing::warn!(backend = %plan.label, host = %plan.host, %why, "no address: writes to it fail until DNS knows one");
        }
        Err(why) => {
            tracing::debug!(backend = %plan.label, %why, "DNS does not answer: the last addresses are kept")
        }
    }
}
