//! The buckets of one door, shared by all shards.
//!
//! A limit holds for the relay, not for a shard. `SO_REUSEPORT` deals a client's connections to any
//! shard, so a limit that each shard kept for itself would be a lottery: one client with one connection
//! would get an n-th of it, and one with many the whole. So each bucket is one atomic word that all shards
//! move by compare-and-swap: no lock, no waiting, exact. It is the one thing on the request path
//! that shards share, and only where a limit is set: the cost is one cache line that travels, some 50 to 100
//! ns of each request at a busy door. Splitting the rate among shards, and lending what is left over,
//! was weighed: it costs less and is wrong by up to a burst per shard, which is what people notice.
//!
//! Client addresses have a fixed number of cells and a keyed hash that says which: no table grows, nothing is
//! evicted. Two addresses may share a cell, and then a rate (with 1,000 of them, one has company with
//! a chance of 1.5 %). Nobody can choose whose: the key is drawn at the start. Users have one each.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::access::pace::Pace;
use crate::clock::Moment;
use crate::limits::access::CLIENT_CELLS;
use crate::plan::access::RatesPlan;

/// The buckets of one door.
pub struct Rates {
    listener: Option<(Pace, AtomicU64)>,
    clients: Option<(Pace, RandomState, Box<[AtomicU64]>)>,
    users: Option<(Pace, Box<[AtomicU64]>)>,
}

impl Rates {
    /// All full; with `users` users. Once per plan.
    pub fn new(plan: &RatesPlan, users: usize) -> Self {
        let cells = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        let clients = plan.client.map(Pace::new);
        let users = plan.user.map(|rate| (Pace::new(rate), cells(users)));
        Self {
            listener: plan
                .listener
                .map(|rate| (Pace::new(rate), AtomicU64::new(0))),
            clients: clients.map(|pace| (pace, RandomState::new(), cells(CLIENT_CELLS))),
            users,
        }
    }

    /// Whether any is limited.
    pub fn is_any(&self) -> bool {
        self.listener.is_some() || self.clients.is_some() || self.users.is_some()
    }

    /// Whether client addresses are.
    pub fn has_clients(&self) -> bool {
        self.clients.is_some()
    }

    /// A request from this address.
    ///
    /// # Errors
    /// One too many: nanoseconds until the next.
    pub fn take_client(&self, client: IpAddr, now: Moment) -> Result<(), u64> {
        let Some((pace, key, cells)) = &self.clients else {
            return Ok(());
        };
        let hash = key.hash_one(counted(client)).to_ne_bytes();
        let cell = usize::from(u16::from_ne_bytes([hash[0], hash[1]])) % CLIENT_CELLS;
        take(*pace, &cells[cell], now)
    }

    /// A request of this user.
    ///
    /// # Errors
    /// As [`Rates::take_client`].
    pub fn take_user(&self, user: usize, now: Moment) -> Result<(), u64> {
        let users = self.users.as_ref();
        let found = users.and_then(|(pace, cells)| Some((*pace, cells.get(user)?)));
        found.map_or(Ok(()), |(pace, cell)| take(pace, cell, now))
    }

    /// A request of anybody.
    ///
    /// # Errors
    /// As [`Rates::take_client`].
    pub fn take_listener(&self, now: Moment) -> Result<(), u64> {
        let listener = self.listener.as_ref();
        listener.map_or(Ok(()), |(pace, cell)| take(*pace, cell, now))
    }
}

fn take(pace: Pace, cell: &AtomicU64, now: Moment) -> Result<(), u64> {
    let mut seen = cell.load(Ordering::Relaxed);
    loop {
        let next = pace.take(seen, now)?;
        match cell.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Ok(()),
            Err(other) => seen = other,
        }
    }
}

/// What counts as one client: an IPv4 address, or the 64 bits of IPv6 that one site has to itself.
pub fn counted(client: IpAddr) -> [u8; 9] {
    let mut counted = [0; 9];
    match client.to_canonical() {
        IpAddr::V4(address) => {
            counted[0] = 4;
            counted[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            counted[0] = 6;
            counted[1..].copy_from_slice(&address.octets()[..8]);
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::{Rates, counted};
    use crate::clock::Moment;
    use crate::plan::access::{RatePlan, RatesPlan};
    use std::net::IpAddr;

    const TWO: Option<RatePlan> = Some(RatePlan {
        per_second: 1,
        burst: 2,
    });

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_site_is_one_client_and_a_mapped_address_is_its_own() {
        assert_eq!(
            counted(ip("2001:db8::1")),
            counted(ip("2001:db8::ffff:1:2"))
        );
        assert_ne!(counted(ip("2001:db8::1")), counted(ip("2001:db8:0:1::1")));
        assert_eq!(counted(ip("::ffff:10.0.0.1")), counted(ip("10.0.0.1")));
        assert_ne!(counted(ip("10.0.0.1")), counted(ip("10.0.0.2")));
    }

    #[test]
    fn each_kind_counts_for_itself() {
        let plan = RatesPlan {
            listener: None,
            client: TWO,
            user: TWO,
        };
        let rates = Rates::new(&plan, 2);
        let now = Moment(5);
        for _ in 0..2 {
            assert!(rates.take_client(ip("10.0.0.1"), now).is_ok());
            assert!(rates.take_user(1, now).is_ok());
        }
        assert!(rates.take_client(ip("10.0.0.1"), now).is_err());
        assert!(rates.take_user(1, now).is_err());
        assert!(rates.take_user(0, now).is_ok());
        for _ in 0..100 {
            assert!(rates.take_listener(now).is_ok(), "it has no limit");
        }
    }

    #[test]
    fn shards_that_ask_at_once_get_no_more_than_there_is() {
        let plan = RatesPlan {
            listener: Some(RatePlan {
                per_second: 1,
                burst: 1000,
            }),
            ..RatesPlan::default()
        };
        let rates = Rates::new(&plan, 0);
        let taken: usize = std::thread::scope(|scope| {
            let shard = || (0..1000).filter(|_| rates.take_listener(Moment(9)).is_ok());
            let shards: Vec<_> = (0..4)
                .map(|_| scope.spawn(move || shard().count()))
                .collect();
            shards.into_iter().map(|shard| shard.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
    }
}
