//! How shards help one another with a UDP address.
//!
//! The kernel hands all datagrams of one sender to one shard, which keeps their order and makes large
//! batches. If that shard cannot keep up it says so, and the others take batches from its socket as well,
//! until it has emptied it. The order between batches is lost then, as it may be on any network; points
//! are not.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::bell::Bell;

/// Who of the shards is behind with one address. Each mark is written by its shard only.
pub struct Help {
    behind: Vec<AtomicBool>,
    bells: Vec<Bell>,
}

impl Help {
    /// Nobody is behind; one bell per shard.
    pub fn new(bells: Vec<Bell>) -> Self {
        Self {
            behind: bells.iter().map(|_| AtomicBool::new(false)).collect(),
            bells,
        }
    }

    /// The bell that calls this shard.
    pub fn bell(&self, shard: usize) -> Bell {
        self.bells[shard].clone()
    }

    /// Whether this shard is behind.
    pub fn is_wanted(&self, shard: usize) -> bool {
        self.behind[shard].load(Ordering::Relaxed)
    }

    /// This shard is behind: the others are called, once.
    pub fn call(&self, shard: usize) {
        if self.is_wanted(shard) {
            return;
        }
        self.behind[shard].store(true, Ordering::Relaxed);
        let others = self.bells.iter().enumerate();
        others
            .filter(|(number, _)| *number != shard)
            .for_each(|(_, bell)| bell.ring());
    }

    /// This shard has emptied its socket.
    pub fn thank(&self, shard: usize) {
        if self.is_wanted(shard) {
            self.behind[shard].store(false, Ordering::Relaxed);
        }
    }
}
