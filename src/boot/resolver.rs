//! Where the backends are: names are looked up by a thread, so that no shard waits for DNS.
//!
//! A name is looked up at the start, then every `dns-interval`; soon, and with back-off, while it has no
//! address or a shard could not connect. What DNS no longer knows keeps its last addresses: a broken resolver is no reason to
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
        let interval = world.plan.tuning.dns_interval;
        let mut names: Vec<_> = named(&world)
            .map(|named| (named, Schedule::default(), false))
            .collect();
        names
            .iter_mut()
            .for_each(|(named, _, told)| look_up(named, told));
        while !world.is_over.load(Ordering::Relaxed) {
            rest(limits::DNS_DOUBT_INTERVAL);
            for (named, schedule, told) in &mut names {
                let shared = named.shared;
                let is_urgent = shared.addresses_doubted.load(Ordering::Relaxed)
                    || shared.addresses.load().is_empty();
                if schedule.is_due(is_urgent, interval) {
                    shared.addresses_doubted.store(false, Ordering::Relaxed);
                    look_up(named, told);
                }
            }
        }
    })
}

/// The schedule of one name: seldom while all is well; soon, with back-off, while it has no address or
/// nobody answers there.
struct Schedule {
    /// Since the last look.
    waited: Duration,
    /// How soon the next is, if it is urgent.
    backoff: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            waited: Duration::ZERO,
            backoff: limits::DNS_DOUBT_INTERVAL,
        }
    }
}

impl Schedule {
    /// Returns whether the name is to be looked up now. Once every `DNS_DOUBT_INTERVAL`.
    fn is_due(&mut self, is_urgent: bool, interval: Duration) -> bool {
        self.waited += limits::DNS_DOUBT_INTERVAL;
        let wait = match is_urgent {
            true => self.backoff.min(interval),
            false => interval,
        };
        if self.waited < wait {
            return false;
        }
        self.backoff = match is_urgent && self.waited <= limits::DNS_DOUBT_INTERVAL_MAX * 2 {
            true => (self.backoff * 2).min(limits::DNS_DOUBT_INTERVAL_MAX),
            false => limits::DNS_DOUBT_INTERVAL,
        };
        self.waited = Duration::ZERO;
        true
    }
}

/// Looks one name up. `told` is whether it was said that it has no address.
#[allow(clippy::disallowed_methods)] // this thread exists to wait for DNS
fn look_up(named: &Named<'_>, told: &mut bool) {
    let Named {
        label,
        host,
        port,
        shared,
    } = *named;
    match (host, port).to_socket_addrs() {
        Ok(found) => {
            let found: Vec<SocketAddr> = found.take(limits::ADDRESSES_MAX).collect();
            if !found.is_empty() && !is_same_set(&shared.addresses.load(), &found) {
                tracing::info!(backend = %label, addresses = ?found, "resolved");
                shared.addresses.store(Arc::new(found));
            }
            *told = false;
        }
        Err(why) if shared.addresses.load().is_empty() => {
            if !std::mem::replace(told, true) {
                tracing::warn!(backend = %label, %host, %why, "no address: writes to it fail until DNS knows one");
            }
        }
        Err(why) => {
            tracing::debug!(backend = %label, %why, "DNS does not answer: the last addresses are kept")
        }
    }
}

/// Returns whether both name the same addresses: a server that turns their order at each answer has moved
/// nothing.
fn is_same_set(known: &[SocketAddr], found: &[SocketAddr]) -> bool {
    known.len() == found.len() && found.iter().all(|address| known.contains(address))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::{Schedule, is_same_set};
    use crate::limits::{DNS_DOUBT_INTERVAL, DNS_DOUBT_INTERVAL_MAX};

    /// Seconds between the looks of `count` calls.
    fn looks(schedule: &mut Schedule, is_urgent: bool, interval: Duration, count: u32) -> Vec<f32> {
        let mut looks = Vec::new();
        let mut since = Duration::ZERO;
        for _ in 0..count {
            since += DNS_DOUBT_INTERVAL;
            if schedule.is_due(is_urgent, interval) {
                looks.push(since.as_secs_f32());
                since = Duration::ZERO;
            }
        }
        looks
    }

    #[test]
    fn a_name_without_an_address_is_asked_for_soon_and_with_back_off() {
        let hour = Duration::from_secs(3600);
        let mut schedule = Schedule::default();
        let first = looks(&mut schedule, true, hour, 40);
        assert_eq!(first, [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0]);
        // Well for long, then in doubt again: at once, and from the beginning.
        assert!(looks(&mut schedule, false, hour, 7000).is_empty());
        let again = looks(&mut schedule, true, hour, 8);
        assert_eq!(again, [0.5, 0.5, 1.0, 2.0]);
        assert!(DNS_DOUBT_INTERVAL < DNS_DOUBT_INTERVAL_MAX);
    }

    #[test]
    fn a_name_that_is_well_is_asked_for_at_the_interval() {
        let interval = Duration::from_secs(2);
        let mut schedule = Schedule::default();
        assert_eq!(looks(&mut schedule, false, interval, 13), [2.0, 2.0, 2.0]);
        // A shorter interval goes before the back-off.
        let urgent = looks(&mut schedule, true, interval, 20);
        assert!(urgent.iter().all(|wait| *wait <= 2.0), "{urgent:?}");
    }

    #[test]
    fn another_order_is_no_move() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (one, two) = (address("127.0.0.1:1"), address("127.0.0.2:1"));
        assert!(is_same_set(&[one, two], &[two, one]));
        assert!(!is_same_set(&[one, two], &[one]));
        assert!(!is_same_set(&[one], &[two]));
        assert!(is_same_set(&[], &[]));
    }
}
