//! Which plan requests go by: a reload puts another one in force, and each connection takes it at its next
//! request.
//!
//! ```text
//!  listener ─▶ Entrance ─▶ its door now ┐
//!  connection ─▶ Current ◀──────────────┴─ InForce: the shard now ◀─ boot, at a reload
//! ```
//!
//! A connection outlives plans, so it holds no shard of its own: before each request, and again before a
//! request that was read meanwhile goes out, it looks whether what it goes by is still in force. While a
//! reload settles what was begun, requests that are ready wait here.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures_lite::future::poll_fn;

use crate::front::wish::Door;
use crate::shard::Shard;

/// What is in force on one executor.
pub struct InForce {
    shard: RefCell<Rc<Shard>>,
    generation: Cell<u64>,
    held: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
    connections: Cell<usize>,
    relaying: Cell<usize>,
}

impl InForce {
    /// The first plan.
    pub fn new(shard: Rc<Shard>) -> Rc<Self> {
        Rc::new(Self {
            generation: Cell::new(shard.world.generation),
            shard: RefCell::new(shard),
            held: Cell::new(false),
            waiting: RefCell::default(),
            connections: Cell::new(0),
            relaying: Cell::new(0),
        })
    }

    /// The shard now.
    pub fn shard(&self) -> Rc<Shard> {
        Rc::clone(&self.shard.borrow())
    }

    /// From now on requests that are ready wait.
    pub fn hold(&self) {
        self.held.set(true);
    }

    /// Puts another plan in force; what waits goes by it. The doors must have been changed before.
    pub fn put(&self, shard: Rc<Shard>) {
        self.generation.set(shard.world.generation);
        self.shard.replace(shard);
        self.held.set(false);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits while requests are held. Once per request; returns at once but during a reload.
    pub async fn released(&self) {
        poll_fn(|cx| {
            if !self.held.get() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Client connections open.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// One connection more (1), or less (-1).
    pub fn count(&self, by: isize) {
        let connections = self.connections.get().saturating_add_signed(by);
        self.connections.set(connections);
        let shard = self.shard.borrow();
        shard.metrics.connections.set(connections as u64);
    }

    /// Clients that wait to hear what became of a write.
    pub fn relaying(&self) -> usize {
        self.relaying.get()
    }

    /// Counts such a client, for as long as the result is held.
    pub fn relay(&self) -> Relaying<'_> {
        self.relaying.set(self.relaying.get() + 1);
        Relaying(self)
    }
}

/// A client that waits to hear what became of a write.
pub struct Relaying<'a>(&'a InForce);

impl Drop for Relaying<'_> {
    fn drop(&mut self) {
        self.0.relaying.set(self.0.relaying.get() - 1);
    }
}

/// One listening address of one shard, through all plans that have it.
pub struct Entrance {
    /// What is in force.
    pub in_force: Rc<InForce>,
    /// `None` once no plan has it any more.
    door: RefCell<Option<Rc<Door>>>,
}

impl Entrance {
    /// An address, and what it is under the first plan that has it.
    pub fn new(in_force: &Rc<InForce>, door: Door) -> Rc<Self> {
        Rc::new(Self {
            in_force: Rc::clone(in_force),
            door: RefCell::new(Some(Rc::new(door))),
        })
    }

    /// What it is under the plan that is put in force next; `None` closes it.
    pub fn change(&self, door: Option<Door>) {
        self.door.replace(door.map(Rc::new));
    }

    /// What it is now.
    pub fn door(&self) -> Option<Rc<Door>> {
        self.door.borrow().clone()
    }
}

/// What one connection goes by.
pub struct Current {
    /// The shard.
    pub shard: Rc<Shard>,
    /// The door that it came in at.
    pub door: Rc<Door>,
    generation: u64,
}

/// What a connection finds when it looks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing has changed.
    Same,
    /// Another plan is in force, and it has taken it.
    New,
    /// Another plan is in force that does not have its door.
    Gone,
}

impl Current {
    /// What is in force at an entrance, if it is open.
    pub fn at(entrance: &Entrance) -> Option<Self> {
        Some(Self {
            shard: entrance.in_force.shard(),
            door: entrance.door()?,
            generation: entrance.in_force.generation.get(),
        })
    }

    /// Takes what is in force now. Once or twice per request.
    pub fn look(&mut self, entrance: &Entrance) -> Look {
        if self.generation == entrance.in_force.generation.get() {
            return Look::Same;
        }
        match Self::at(entrance) {
            None => Look::Gone,
            Some(current) => {
                *self = current;
                Look::New
            }
        }
    }
}
