//! A backend whose name has other addresses than before: what goes to the old ones is let go of.
//!
//! A link at rest is closed at once; one at work ends after its answer, so that no write is sent twice and
//! none passes another of its lane. What is connecting meanwhile connects again.

use std::sync::Arc;

use crate::backend::exchange::Link;
use crate::backend::pool::Backend;
use crate::engine::stream::Stream;

impl Backend {
    /// Returns whether a connection leads to an address that the backend has.
    pub(super) fn is_at(&self, stream: &Stream) -> bool {
        let addresses = self.shared.addresses.load();
        stream
            .connected_to()
            .is_some_and(|peer| addresses.contains(&peer))
    }

    /// Lets go of the links to addresses that the backend no longer has. Once per tick.
    pub(super) fn leave_old_addresses(&self) {
        let addresses = self.shared.addresses.load();
        let known = &mut *self.addresses_known.borrow_mut();
        if Arc::ptr_eq(&addresses, known) {
            return;
        }
        *known = Arc::clone(&addresses);
        let now = self.around.driver.now();
        let is_old = |link: &Link| link.stream().is_some_and(|stream| !self.is_at(stream));
        let links = self.links.borrow();
        links
            .iter()
            .filter(|link| is_old(link))
            .for_each(|link| link.retire());
        let idle = &mut *self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(|link| {
            let stays = !is_old(link);
            if !stays {
                link.end_at(now);
            }
            stays
        });
        self.metrics().links_idle.less((before - idle.len()) as u64);
        self.asking.retain(|stream| self.is_at(stream));
    }
}
