//! One UDP address of one shard: takes batches, has them sorted, sends them on.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_lite::future::yield_now;

use crate::clock::Moment;
use crate::engine::datagram::{Batch, Inlet};
use crate::engine::timer;
use crate::events::Event;
use crate::limits;
use crate::metrics::{Path, UdpDrop};
use crate::plan::UdpPlan;
use crate::shard::Shard;
use crate::udp::carrier::Carrier;
use crate::udp::help::Help;
use crate::udp::outlet::Output;
use crate::udp::pack::{Pack, Packed};
use crate::udp::sorter::Sorter;

/// One UDP address, and what is behind it.
pub struct Door {
    plan: UdpPlan,
    number: usize,
    inlet: Inlet,
    outputs: Vec<Output>,
    carriers: Rc<[Rc<Carrier>]>,
    /// Carriers that are tried if another fails: none, but with `mode = "balance"`.
    others: Rc<[Rc<Carrier>]>,
    /// With `mode = "balance"`: who got the last batch.
    turn: Cell<usize>,
    loss: Loss,
}

/// What the kernel has dropped, and what of it was told.
struct Loss {
    /// Per shard, what was seen last: the sockets outlive the plan, and so do their counts.
    seen: Arc<Vec<AtomicU32>>,
    /// Dropped since it was told that a loss has begun.
    lost: Cell<u64>,
    last: Cell<Option<Moment>>,
}

/// Who gets a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    All,
    Output(usize),
    Carrier(usize),
}

/// What a batch is worked on with.
pub struct Bench {
    /// What was received.
    pub batch: Batch,
    sorter: Sorter,
    packs: Vec<Pack>,
}

impl Door {
    /// The door number `number` of the plan; `first_carried` is the spool's number of its first carrier, and
    /// `seen` is, per shard, what the kernel had dropped when the address was last looked at.
    pub fn new(
        shard: &Shard,
        plan: UdpPlan,
        number: usize,
        first_carried: u16,
        inlet: Inlet,
        seen: Arc<Vec<AtomicU32>>,
    ) -> Rc<Self> {
        let packs = mtus(shard, &plan);
        let outputs = plan.outputs.iter().map(|&id| {
            let mtu = shard.world.plan.outputs[id.0].mtu;
            let pack = packs.iter().position(|&pack| pack == mtu);
            Output::new(shard, id, pack.unwrap_or(0))
        });
        let carriers = plan.carried.iter().zip(first_carried..);
        let carriers = carriers.map(|(carried, door)| Carrier::new(shard, carried, door));
        let carriers: Rc<[Rc<Carrier>]> = carriers.collect();
        Rc::new(Self {
            outputs: outputs.collect(),
            others: match plan.balance {
                true => Rc::clone(&carriers),
                false => Rc::default(),
            },
            carriers,
            plan,
            number,
            inlet,
            turn: Cell::new(0),
            loss: Loss {
                seen,
                lost: Cell::new(0),
                last: Cell::new(None),
            },
        })
    }

    /// A bench of its own for a task that takes datagrams.
    pub fn bench(&self, shard: &Shard) -> Bench {
        Bench {
            batch: Batch::new(self.plan.batch),
            sorter: Sorter::new(self.plan.unit),
            packs: mtus(shard, &self.plan).into_iter().map(Pack::new).collect(),
        }
    }

    /// Sorts what is on the bench and sends it on. Once per batch.
    pub async fn pass_on(&self, shard: &Rc<Shard>, bench: &mut Bench) {
        let whom = self.whom(shard.driver.now());
        self.sort(shard, bench, whom);
        self.flush(shard, bench, whom).await;
    }

    /// Wakes it, so that it sees that a drain has begun.
    pub fn poke(&self) {
        self.inlet.poke();
    }

    /// Reads what the kernel has dropped, and looks after the outputs. Once per tick.
    pub fn tick(&self, shard: &Shard) {
        self.outputs.iter().for_each(|output| output.tick(shard));
        let (now, drops) = (shard.driver.now(), self.inlet.drops());
        let seen = self.loss.seen[shard.number].swap(drops, Ordering::Relaxed);
        let more = u64::from(drops.wrapping_sub(seen));
        let told = |lost| Event::UdpLoss {
            shard: shard.number,
            door: self.number,
            lost,
        };
        if more > 0 {
            shard.metrics.udp.kernel_drops.add(more);
            self.loss.lost.set(self.loss.lost.get() + more);
            if self.loss.last.replace(Some(now)).is_none() {
                shard.events.tell(told(None));
            }
        } else if let Some(last) = self.loss.last.get()
            && now.since(last) >= limits::udp::LOSS_REST
        {
            self.loss.last.set(None);
            shard.events.tell(told(Some(self.loss.lost.take())));
        }
    }

    /// Who gets the next batch: all, or the next one that is up.
    fn whom(&self, now: Moment) -> Whom {
        let count = self.outputs.len() + self.carriers.len();
        if !self.plan.balance || count == 0 {
            return Whom::All;
        }
        let is_up = |place: usize| match place.checked_sub(self.outputs.len()) {
            None => self.outputs[place].is_up(now),
            Some(carrier) => self.carriers[carrier].is_up(),
        };
        let next = self.turn.get() + 1;
        let places = (0..count).map(|step| (next + step) % count);
        let place = places.clone().find(|&place| is_up(place));
        let place = place.unwrap_or(next % count);
        self.turn.set(place);
        match place.checked_sub(self.outputs.len()) {
            None => Whom::Output(place),
            Some(carrier) => Whom::Carrier(carrier),
        }
    }

    /// Sorts what has been received.
    fn sort(&self, shard: &Shard, bench: &mut Bench, whom: Whom) {
        let clock = shard.driver.clock();
        clock.read();
        let now_ns = clock.wall_ns();
        let Bench {
            batch,
            sorter,
            packs,
        } = bench;
        let (mut datagrams, mut bytes) = (0, 0);
        let (mut over, mut too_long, mut overload) = (0, 0, 0);
        for datagram in batch.datagrams() {
            datagrams += 1;
            bytes += datagram.len() as u64;
            sorter.take(datagram, now_ns, |point| {
                let mut packed = Packed::Within;
                for (p, pack) in packs.iter_mut().enumerate() {
                    if self.is_wanted(p, whom) {
                        packed = pack.add(point.pieces, point.odd).max(packed);
                    }
                }
                over += u64::from(packed == Packed::Over);
                too_long += u64::from(packed == Packed::TooLong);
                for (c, carrier) in self.carriers.iter().enumerate() {
                    if whom == Whom::All || whom == Whom::Carrier(c) {
                        overload += u64::from(!carrier.add(point.pieces));
                    }
                }
            });
        }
        let (metrics, tally) = (&shard.metrics.udp, sorter.taken());
        metrics.datagrams.add(datagrams);
        metrics.bytes.add(bytes);
        metrics.over_mtu.add(over);
        shard.metrics.points[Path::Udp as usize].add(tally.points);
        metrics.drop(UdpDrop::Malformed, tally.malformed);
        metrics.drop(UdpDrop::Poison, tally.poison);
        metrics.drop(UdpDrop::TooLong, too_long);
        metrics.drop(UdpDrop::Overload, overload);
        if self.outputs.is_empty() && self.carriers.is_empty() {
            metrics.drop(UdpDrop::Nowhere, tally.points);
        }
    }

    /// Whether a pack goes to anybody.
    fn is_wanted(&self, pack: usize, whom: Whom) -> bool {
        match whom {
            Whom::All => true,
            Whom::Output(output) => self.outputs[output].pack == pack,
            Whom::Carrier(_) => false,
        }
    }

    /// Sends what has been sorted.
    async fn flush(&self, shard: &Rc<Shard>, bench: &mut Bench, whom: Whom) {
        for (o, output) in self.outputs.iter().enumerate() {
            if whom == Whom::All || whom == Whom::Output(o) {
                output.send(shard, &bench.packs[output.pack]).await;
            }
        }
        bench.packs.iter_mut().for_each(Pack::clear);
        self.carriers
            .iter()
            .for_each(|carrier| carrier.go(shard, &self.others));
    }
}

/// Takes what comes until the shard drains and the kernel's queue is empty, or until another plan is about to
/// be in force, whose door takes what is left there. `help` is asked while it is behind.
pub async fn run(shard: Rc<Shard>, door: Rc<Door>, help: Option<Arc<Help>>) {
    let mut bench = door.bench(&shard);
    loop {
        door.inlet.readable().await;
        let is_leaving = shard.is_ending() || shard.leaving.get();
        if !door.plan.flush_window.is_zero() && !is_leaving {
            timer::sleep(door.plan.flush_window).await;
        }
        let mut in_a_row = 0;
        loop {
            let Ok(may_be_more) = door.inlet.receive(&mut bench.batch) else {
                timer::sleep(limits::udp::FAULT_REST).await;
                break;
            };
            door.pass_on(&shard, &mut bench).await;
            if !may_be_more || shard.leaving.get() {
                break;
            }
            in_a_row += 1;
            if in_a_row == limits::udp::BATCHES_IN_A_ROW_MAX {
                in_a_row = 0;
                help.iter().for_each(|help| help.call(shard.number));
                yield_now().await;
            }
        }
        help.iter().for_each(|help| help.thank(shard.number));
        if shard.is_ending() || shard.leaving.get() {
            return door.tick(&shard);
        }
    }
}

/// The sizes of datagrams that the outputs of a door want, each once.
fn mtus(shard: &Shard, plan: &UdpPlan) -> Vec<usize> {
    let mut mtus: Vec<usize> = Vec::new();
    for id in &plan.outputs {
        let mtu = shard.world.plan.outputs[id.0].mtu;
        if !mtus.contains(&mtu) {
            mtus.push(mtu);
        }
    }
    mtus
}
