//! The task of one shard that helps the others with a UDP address; see `help`.

use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::yield_now;

use crate::engine::bell::Ear;
use crate::engine::datagram::Guest;
use crate::shard::Shard;
use crate::udp::door::{Bench, Door};
use crate::udp::help::Help;

/// Takes from the sockets of others, whenever they are behind, until the shard drains.
pub async fn run(
    shard: Rc<Shard>,
    door: Rc<Door>,
    help: Arc<Help>,
    ear: Ear,
    others: Vec<(usize, Guest)>,
) {
    let mut bench: Option<Bench> = None; // most shards are never called
    let is_here = || !shard.is_ending() && !shard.leaving.get();
    while is_here() {
        ear.heard().await;
        shard.datagram_doors.set(shard.datagram_doors.get() + 1); // a drain or a reload waits for it
        for (number, guest) in &others {
            while help.is_wanted(*number) && is_here() {
                let bench = bench.get_or_insert_with(|| door.bench(&shard));
                match guest.receive(&mut bench.batch) {
                    Ok(may_be_more) => {
                        let taken = bench.batch.datagrams().count() as u64;
                        shard.metrics.udp.helped.add(taken);
                        door.pass_on(&shard, bench).await;
                        if !may_be_more {
                            break;
                        }
                    }
                    Err(_) => break, // its own shard sees it too
                }
                yield_now().await; // this shard's own work goes first
            }
        }
        shard.datagram_doors.set(shard.datagram_doors.get() - 1);
    }
}
