//! `/admin/flush`: an operator gives up on what backends are owed.
//!
//! It is a mark that the replaying tasks look for; they drop what was kept until then, and count it. One
//! that has nothing to replay does not remember the mark, so that it takes nothing of the next outage.

use std::sync::atomic::Ordering;

use crate::plan::BackendId;
use crate::shard::World;
use crate::spool::board::Mode;

/// Whose debt is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// That of each backend of the address.
    All,
    /// That of one.
    One(BackendId),
    /// That of one whose name no backend has.
    Nobodys,
}

/// Asks to drop what these backends are owed now; how many of them are owed anything.
pub fn all(world: &World, outputs: &[BackendId]) -> usize {
    let Some(spool) = &world.spool else { return 0 };
    let desks = || outputs.iter().map(|id| &spool.board.desks[id.0]);
    let owed = desks().filter(|desk| desk.state().mode() != Mode::Live);
    let count = owed.count();
    for desk in desks() {
        desk.flushes.fetch_add(1, Ordering::AcqRel);
    }
    count
}
