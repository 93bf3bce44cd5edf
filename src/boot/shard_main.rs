//! One shard, from its first task to its last: the only place that starts its tasks.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::Sender;
use socket2::Socket;

use crate::backend::{merge, probe};
use crate::engine::driver::Driver;
use crate::engine::listener::Listener;
use crate::engine::timer;
use crate::events::Events;
use crate::front::listener;
use crate::front::wish::Door;
use crate::limits;
use crate::plan::ListenerPlan;
use crate::shard::{Shard, World};

/// One address that this shard listens on.
pub(super) struct Post {
    pub(super) plan: ListenerPlan,
    pub(super) admin: bool,
    pub(super) socket: Socket,
}

/// What a shard tells the main thread.
pub(super) enum Report {
    /// It takes connections.
    Up,
    /// It could not be set up.
    Failed { shard: usize, why: String },
    /// It has drained; so many connections and writes were cut at the deadline.
    Drained { cut: usize },
}

/// Runs one shard until the world stops and it has drained. Then it waits for the process to end:
/// what a slow backend still holds has had its time.
pub(super) async fn run(
    number: usize,
    world: Arc<World>,
    events: Events,
    posts: Vec<Post>,
    reports: Sender<Report>,
) {
    let shard = match set_up(number, &world, events, posts) {
        Ok(shard) => shard,
        Err(why) => {
            let _main_is_gone = reports.send(Report::Failed {
                shard: number,
                why: why.to_string(),
            });
            return;
        }
    };
    let (shard, listeners) = shard;
    let _main_is_gone = reports.send(Report::Up);
    while !world.stopping.load(Ordering::Relaxed) {
        tick(&shard).await;
    }
    let cut = drain(&shard, listeners).await;
    let _main_is_gone = reports.send(Report::Drained { cut });
    std::future::pending::<()>().await;
}

type Running = (Rc<Shard>, Vec<Rc<Listener>>);

fn set_up(
    number: usize,
    world: &Arc<World>,
    events: Events,
    posts: Vec<Post>,
) -> std::io::Result<Running> {
    let tuning = world.plan.tuning;
    let driver = Driver::new(tuning.poll_spins, tuning.read_buffer_bytes)?;
    let shard = Shard::new(number, world, Rc::clone(&driver), events);
    glommio::spawn_local(Rc::clone(&driver).run()).detach();
    for backend in &shard.backends {
        let seed = driver.now().0 ^ ((backend.id.0 as u64) << 32) ^ number as u64;
        glommio::spawn_local(probe::run(Rc::clone(backend), seed)).detach();
        if backend.plan.merge {
            glommio::spawn_local(merge::run(Rc::clone(backend))).detach();
        }
    }
    let mut listeners = Vec::new();
    for post in posts {
        let listener = Rc::new(Listener::new(&driver, post.socket)?);
        let door = Rc::new(Door {
            plan: post.plan,
            admin: post.admin,
        });
        glommio::spawn_local(listener::run(Rc::clone(&shard), door, Rc::clone(&listener))).detach();
        listeners.push(listener);
    }
    Ok((shard, listeners))
}

/// Housekeeping: deadlines, and glommio's need of a timer that never stops.
async fn tick(shard: &Rc<Shard>) {
    timer::sleep(limits::TICK).await;
    shard.driver.tick();
    for backend in &shard.backends {
        backend.tick();
    }
}

/// Stops accepting once the kernel's queue is empty, lets every connection finish what it began and
/// every send to a slow backend end, within `shutdown-timeout`. Returns what was cut.
async fn drain(shard: &Rc<Shard>, listeners: Vec<Rc<Listener>>) -> usize {
    shard.draining.set(true);
    for listener in listeners {
        listener.poke(); // its task takes what is queued; then nobody holds the socket, and it closes
    }
    let now = shard.driver.now();
    shard
        .driver
        .cut_rest(now.after(limits::DRAIN_IDLE_WAIT_MAX));
    let deadline = now.after(shard.world.plan.shutdown_timeout);
    loop {
        let left = shard.connections.get() + shard.flights.under_way();
        if left == 0 || shard.driver.now() >= deadline {
            return left;
        }
        tick(shard).await;
    }
}
