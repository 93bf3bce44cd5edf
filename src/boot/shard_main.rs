//! One shard, from its first task to its last: the only place that starts its tasks.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::Sender;
use socket2::Socket;

use crate::backend::{merge, probe};
use crate::boot::spool;
use crate::clock::Moment;
use crate::engine::bell::Bell;
use crate::engine::driver::Driver;
use crate::engine::listener::Listener;
use crate::engine::timer;
use crate::events::Events;
use crate::front::listener;
use crate::front::wish::Door;
use crate::limits;
use crate::plan::{BackendId, ListenerPlan};
use crate::replay;
use crate::shard::{Shard, World};
use crate::spool::disk::Place;

/// One address that this shard listens on.
pub(super) struct Post {
    pub(super) plan: ListenerPlan,
    pub(super) number: u16,
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
    spool: Option<(Place, Bell)>,
    reports: Sender<Report>,
) {
    let shard = match set_up(number, &world, events, spool) {
        Ok(shard) => shard,
        Err(why) => return failed(number, &why, &reports),
    };
    let mut tried = shard.driver.now();
    let until = tried.after(limits::START_CATCH_UP_MAX);
    while !spool::is_level(&shard) && shard.driver.now() < until {
        tick(&shard, &mut tried).await;
    }
    let listeners = match listen(&shard, posts) {
        Ok(listeners) => listeners,
        Err(why) => return failed(number, &why, &reports),
    };
    let _main_is_gone = reports.send(Report::Up);
    while !world.stopping.load(Ordering::Relaxed) {
        tick(&shard, &mut tried).await;
    }
    let cut = drain(&shard, listeners).await;
    for _ in 0..limits::SETTLE_TICKS_MAX {
        if shard
            .keeper
            .as_ref()
            .is_none_or(|keeper| keeper.is_settled())
        {
            break;
        }
        tick(&shard, &mut tried).await; // each shard waits for what the others have settled
    }
    let _main_is_gone = reports.send(Report::Drained { cut });
    std::future::pending::<()>().await;
}

fn failed(shard: usize, why: &std::io::Error, reports: &Sender<Report>) {
    let why = why.to_string();
    let _main_is_gone = reports.send(Report::Failed { shard, why });
}

fn set_up(
    number: usize,
    world: &Arc<World>,
    events: Events,
    spool: Option<(Place, Bell)>,
) -> std::io::Result<Rc<Shard>> {
    let tuning = world.plan.tuning;
    let driver = Driver::new(tuning.poll_spins, tuning.read_buffer_bytes)?;
    let (disk, bell) = spool.unzip();
    let keeper = disk.and_then(|disk| spool::keeper(world, number, disk));
    let shard = Shard::new(number, world, Rc::clone(&driver), events, keeper);
    glommio::spawn_local(Rc::clone(&driver).run()).detach();
    for backend in &shard.backends {
        let seed = driver.now().0 ^ ((backend.id.0 as u64) << 32) ^ number as u64;
        glommio::spawn_local(probe::run(Rc::clone(backend), seed)).detach();
        if backend.plan.merge {
            glommio::spawn_local(merge::run(Rc::clone(backend))).detach();
        }
    }
    if let Some(bell) = bell {
        spool::run(&shard, bell)?;
        let own = (0..shard.backends.len()).filter(|b| b % world.plan.cpus.len() == number);
        for id in own.map(BackendId) {
            if world.plan.backends[id.0].owed_bytes_max > 0 {
                glommio::spawn_local(replay::shell::run(Rc::clone(&shard), id)).detach();
            }
        }
    }
    Ok(shard)
}

/// Opens the shard's doors.
fn listen(shard: &Rc<Shard>, posts: Vec<Post>) -> std::io::Result<Vec<Rc<Listener>>> {
    let mut listeners = Vec::new();
    for post in posts {
        let listener = Rc::new(Listener::new(&shard.driver, post.socket)?);
        let door = Rc::new(Door {
            plan: post.plan,
            number: post.number,
            admin: post.admin,
        });
        glommio::spawn_local(listener::run(Rc::clone(shard), door, Rc::clone(&listener))).detach();
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Housekeeping: deadlines, and glommio's need of a timer that never stops.
async fn tick(shard: &Rc<Shard>, tried: &mut Moment) {
    timer::sleep(limits::TICK).await;
    shard.driver.tick();
    for backend in &shard.backends {
        backend.tick();
    }
    spool::tick(shard, tried);
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
    let mut tried = now;
    loop {
        let left = shard.connections.get() + shard.flights.under_way();
        if left == 0 || shard.driver.now() >= deadline {
            return left;
        }
        tick(shard, &mut tried).await;
    }
}
