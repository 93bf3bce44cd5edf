//! What one shard listens on, from plan to plan.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::FutureExt;
use glommio::Task;

use crate::access::gate::Gate;
use crate::boot::claims::Post;
use crate::boot::datagrams::{Helped, UdpPost};
use crate::engine::bell::Ear;
use crate::engine::datagram::Inlet;
use crate::engine::listener::Listener;
use crate::events::Event;
use crate::front::in_force::{Entrance, InForce};
use crate::front::listener;
use crate::front::wish;
use crate::shard::Shard;
use crate::udp::{door, helping};

/// One HTTP address.
struct Open {
    /// Its number for all plans.
    id: usize,
    entrance: Rc<Entrance>,
    listeners: Vec<Rc<Listener>>,
}

impl Open {
    fn poke(&self) {
        self.listeners.iter().for_each(|listener| listener.poke());
    }
}

/// All that a shard listens on.
#[derive(Default)]
pub(super) struct Doors {
    http: Vec<Open>,
    udp: Vec<Rc<door::Door>>,
    helping: Vec<Task<()>>,
}

impl Doors {
    /// Opens the HTTP addresses that are new, changes what the others are, and closes those that the plan
    /// does not have.
    ///
    /// # Errors
    /// Descriptors have run out.
    pub(super) fn change(
        &mut self,
        in_force: &Rc<InForce>,
        shard: &Rc<Shard>,
        posts: Vec<Post>,
    ) -> std::io::Result<()> {
        let mut next = Vec::new();
        for post in posts {
            let gate = match shard.world.wardens.get(usize::from(post.number)) {
                Some(warden) => Gate::new(warden, &shard.verifying, &shard.metrics)?,
                None => Gate::alone(&post.plan, &shard.metrics)?, // the admin address
            };
            let door = wish::Door {
                plan: post.plan,
                number: post.number,
                admin: post.admin,
                gate,
            };
            if let Some(place) = self.http.iter().position(|open| open.id == post.id) {
                let open = self.http.swap_remove(place);
                open.entrance.change(Some(door));
                next.push(open);
                continue;
            }
            let entrance = Entrance::new(in_force, door);
            let mut listeners = Vec::new();
            for socket in post.sockets {
                let listener = Rc::new(Listener::new(&shard.driver, socket)?);
                let accepting = listener::run(Rc::clone(&entrance), Rc::clone(&listener));
                glommio::spawn_local(accepting).detach();
                listeners.push(listener);
            }
            next.push(Open {
                id: post.id,
                entrance,
                listeners,
            });
        }
        for closed in std::mem::replace(&mut self.http, next) {
            closed.entrance.change(None);
            closed.poke();
        }
        Ok(())
    }

    /// Opens the UDP addresses.
    ///
    /// # Errors
    /// Descriptors have run out.
    pub(super) fn open_udp(
        &mut self,
        shard: &Rc<Shard>,
        posts: Vec<UdpPost>,
    ) -> std::io::Result<()> {
        let plan = &shard.world.plan;
        let mut carried = plan.listeners.len();
        for (number, (udp, post)) in plan.udp.iter().zip(posts).enumerate() {
            let first_carried = u16::try_from(carried).unwrap_or(u16::MAX);
            carried += udp.carried.len();
            let inlet = Inlet::new(&shard.driver, post.socket)?;
            let door = door::Door::new(shard, udp.clone(), number, first_carried, inlet, post.seen);
            let (own, at) = (Rc::clone(shard), Rc::clone(&door));
            shard.datagram_doors.set(shard.datagram_doors.get() + 1);
            let help = post.help.as_ref().map(|helped| Arc::clone(&helped.help));
            if let Some(Helped { help, others }) = post.help {
                let ear = Ear::new(&shard.driver, help.bell(shard.number))?;
                let helping = helping::run(Rc::clone(shard), Rc::clone(&door), help, ear, others);
                self.helping.push(glommio::spawn_local(helping));
            }
            glommio::spawn_local(async move {
                let taking = door::run(Rc::clone(&own), at, help);
                if AssertUnwindSafe(taking).catch_unwind().await.is_err() {
                    own.events.tell(Event::TaskPanicked { shard: own.number });
                }
                own.datagram_doors.set(own.datagram_doors.get() - 1);
            })
            .detach();
            self.udp.push(door);
        }
        Ok(())
    }

    /// Looks after the UDP doors. Once per tick.
    pub(super) fn tick(&self, shard: &Shard) {
        self.udp.iter().for_each(|door| door.tick(shard));
    }

    /// The UDP doors stop; what comes from now on waits in the kernel's queue for their successors.
    pub(super) fn leave(&mut self, shard: &Shard) {
        shard.leaving.set(true);
        self.udp.drain(..).for_each(|door| door.poke());
    }

    /// Nobody helps others any more. Once nobody is at it.
    pub(super) fn dismiss(&mut self) {
        self.helping.clear();
    }

    /// The HTTP doors stop once the shard drains and the kernel's queues are empty.
    pub(super) fn leave_http(&mut self) {
        self.http.drain(..).for_each(|open| open.poke());
    }

    /// The UDP doors stop once the shard drains and the kernel's queues are empty.
    pub(super) fn leave_udp(&mut self) {
        self.udp.drain(..).for_each(|door| door.poke());
    }
}
