//! Points that go to outputs over HTTP: gathered, and written by the same way as a client's write.
//!
//! What comes while a few writes are under way is one write later: so a slow backend makes larger
//! writes, not more of them. With a spool nothing is lost by it: what a backend misses it is owed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::backend::flight::Ticket;
use crate::backend::outcome::Outcome;
use crate::backend::outgoing::Kind;
use crate::backend::partial::{self, Rest};
use crate::fanout;
use crate::fanout::verdict::Ruling;
use crate::limits;
use crate::metrics::UdpDrop;
use crate::plan::{BackendId, CarriedPlan, Secret};
use crate::shard::Shard;

/// Backends that are sent the same writes.
pub struct Carrier {
    /// Its number among the doors that the spool knows.
    door: u16,
    /// Of each write; it may hold a password.
    query: Secret,
    outputs: Vec<fanout::Output>,
    gathered: RefCell<Vec<u8>>,
    /// Points in what is gathered.
    points: Cell<u64>,
    bytes_max: usize,
    under_way: Cell<usize>,
}

impl Carrier {
    /// Nothing gathered yet.
    pub fn new(shard: &Shard, plan: &CarriedPlan, door: u16) -> Rc<Self> {
        let outputs = fanout::Output::all(shard, &plan.outputs);
        let body_bytes_max = shard.world.plan.limits.body_bytes_max;
        Rc::new(Self {
            door,
            query: plan.query.clone(),
            outputs,
            gathered: RefCell::default(),
            points: Cell::new(0),
            bytes_max: limits::udp::GATHER_BYTES_MAX.min(body_bytes_max),
            under_way: Cell::new(0),
        })
    }

    /// Whether any of its backends is up.
    pub fn is_up(&self) -> bool {
        self.outputs.iter().any(|output| output.backend.is_up())
    }

    /// Its bit among the carriers of one listener, which are at most 64.
    fn bit(&self) -> u64 {
        1 << (self.door % 64)
    }

    /// Puts a point behind what is gathered; whether there is room. Once per point; copies it.
    pub fn add(&self, pieces: [&[u8]; 3]) -> bool {
        let gathered = &mut *self.gathered.borrow_mut();
        let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if gathered.len() + bytes + 1 > self.bytes_max {
            return false;
        }
        for piece in pieces {
            gathered.extend_from_slice(piece);
        }
        gathered.push(b'\n');
        self.points.set(self.points.get() + 1);
        true
    }

    /// Writes what is gathered, unless enough writes are under way: then the next of them that ends does.
    /// `others` are tried if this one's backends fail. Once per batch.
    pub fn go(self: &Rc<Self>, shard: &Rc<Shard>, others: &Rc<[Rc<Self>]>) {
        if self.points.get() == 0 || self.under_way.get() >= limits::udp::CARRIERS_MAX {
            return;
        }
        let (ticket, points) = (shard.flights.begin(), self.points.take());
        ticket.launch(); // a reload waits for it, from here on
        std::mem::swap(
            &mut ticket.request_mut().body,
            &mut *self.gathered.borrow_mut(),
        );
        self.under_way.set(self.under_way.get() + 1);
        let (own, shard, others) = (Rc::clone(self), Rc::clone(shard), Rc::clone(others));
        glommio::spawn_local(async move {
            own.carry(&shard, ticket, points, &others).await;
            own.under_way.set(own.under_way.get() - 1);
            own.go(&shard, &others);
        })
        .detach();
    }

    async fn carry(&self, shard: &Shard, ticket: Ticket, points: u64, others: &[Rc<Self>]) {
        let mut ticket = ticket;
        let mut why = self.write(shard, &ticket).await;
        let up_first = |wants_up: bool| others.iter().map(move |other| (other, wants_up));
        let mut tried = self.bit();
        for (other, wants_up) in up_first(true).chain(up_first(false)) {
            let is_lost = matches!(why, Some(UdpDrop::Backend | UdpDrop::Overload));
            if !is_lost || tried & other.bit() != 0 || (wants_up && !other.is_up()) {
                continue;
            }
            tried |= other.bit();
            let next = shard.flights.begin();
            next.request_mut().body = std::mem::take(&mut ticket.request_mut().body);
            ticket = next;
            why = other.write(shard, &ticket).await;
        }
        if let Some(why) = why {
            shard.metrics.udp.drop(why, points);
        }
    }

    /// Writes a body to all its backends; why it is lost, if it is.
    async fn write(&self, shard: &Shard, ticket: &Ticket) -> Option<UdpDrop> {
        {
            let request = &mut *ticket.request_mut();
            request.kind = Kind::Write;
            request.query.clear();
            request.query.extend_from_slice(self.query.0.as_bytes());
            request.joinable = true;
        }
        if !ticket.charge() {
            return Some(UdpDrop::Overload);
        }
        let ruling = fanout::relay(shard, self.door, ticket, &self.outputs, 1).await;
        ticket.ruled();
        let most = partial::points_max(&ticket.request().body, false);
        match ruling {
            Ruling::Success(_) | Ruling::Kept | Ruling::NotForAnybody => None,
            // With a spool it is owed all the same, and what is wrong with it is found at the replay.
            Ruling::Refusal(_) if shard.keeps_all(self.door) => None,
            // The others of its points are there.
            Ruling::Refusal(from) if let Some(rest) = partial_of(ticket, from) => {
                if let Rest::Dropped(points) = rest {
                    shard
                        .metrics
                        .udp
                        .drop(UdpDrop::Refused, u64::from(points.min(most)));
                }
                None
            }
            Ruling::Refusal(_) => Some(UdpDrop::Refused),
            Ruling::Failure(_) | Ruling::NobodyAnswered => Some(UdpDrop::Backend),
            Ruling::Full => Some(UdpDrop::Overload),
        }
    }
}

/// The rest of a write of which `from` has taken a part.
fn partial_of(ticket: &Ticket, from: BackendId) -> Option<Rest> {
    match ticket.outcome_of(from)? {
        Outcome::Partial { rest, .. } => Some(rest),
        _ => None,
    }
}
