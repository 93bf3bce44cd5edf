//! One shard, from its first task to its last: the only place that starts its tasks.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::Sender;
use futures_lite::FutureExt;
use socket2::Socket;

use crate::access::gate::Gate;
use crate::backend::{merge, probe};
use crate::boot::datagrams::{Helped, UdpPost};
use crate::boot::spool;
use crate::clock::Moment;
use crate::engine::bell::{Bell, Ear};
use crate::engine::datagram::Inlet;
use crate::engine::driver::Driver;
use crate::engine::listener::Listener;
use crate::engine::timer;
use crate::events::{Event, Events};
use crate::front::listener;
use crate::front::wish::Door;
use crate::limits;
use crate::plan::{BackendId, ListenerPlan};
use crate::replay;
use crate::shard::{Shard, World};
use crate::spool::disk::Place;
use crate::udp::{door, helping};

/// One address that this shard listens on.
pub(super) struct Post {
    pub(super) plan: ListenerPlan,
    pub(super) number: u16,
    pub(super) admin: bool,
    pub(super) socket: Socket,
}

/// All of them.
pub(super) struct Posts {
    pub(super) http: Vec<Post>,
    /// One for each UDP door of the plan.
    pub(super) udp: Vec<UdpPost>,
}

/// The doors of a shard.
struct Doors {
    listeners: Vec<Rc<Listener>>,
    udp: Vec<Rc<door::Door>>,
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
    posts: Posts,
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
        tick(&shard, &[], &mut tried).await;
    }
    let doors = match listen(&shard, posts) {
        Ok(doors) => doors,
        Err(why) => return failed(number, &why, &reports),
    };
    let _main_is_gone = reports.send(Report::Up);
    while !world.stopping.load(Ordering::Relaxed) {
        tick(&shard, &doors.udp, &mut tried).await;
    }
    let cut = drain(&shard, doors).await;
    for _ in 0..limits::SETTLE_TICKS_MAX {
        if shard
            .keeper
            .as_ref()
            .is_none_or(|keeper| keeper.is_settled())
        {
            break;
        }
        tick(&shard, &[], &mut tried).await; // each shard waits for what the others have settled
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
fn listen(shard: &Rc<Shard>, posts: Posts) -> std::io::Result<Doors> {
    let mut listeners = Vec::new();
    for post in posts.http {
        let listener = Rc::new(Listener::new(&shard.driver, post.socket)?);
        let gate = match shard.world.wardens.get(usize::from(post.number)) {
            Some(warden) => Gate::new(warden, &shard.verifying, &shard.metrics)?,
            None => Gate::alone(&post.plan, &shard.metrics)?, // the admin address
        };
        let door = Rc::new(Door {
            plan: post.plan,
            number: post.number,
            admin: post.admin,
            gate,
        });
        glommio::spawn_local(listener::run(Rc::clone(shard), door, Rc::clone(&listener))).detach();
        listeners.push(listener);
    }
    let udp = listen_udp(shard, posts.udp)?;
    Ok(Doors { listeners, udp })
}

fn listen_udp(shard: &Rc<Shard>, posts: Vec<UdpPost>) -> std::io::Result<Vec<Rc<door::Door>>> {
    let plan = &shard.world.plan;
    let mut carried = plan.listeners.len();
    let mut doors = Vec::new();
    for (number, (udp, post)) in plan.udp.iter().zip(posts).enumerate() {
        let first_carried = u16::try_from(carried).unwrap_or(u16::MAX);
        carried += udp.carried.len();
        let inlet = Inlet::new(&shard.driver, post.socket)?;
        let door = door::Door::new(shard, udp.clone(), number, first_carried, inlet);
        let (own, at) = (Rc::clone(shard), Rc::clone(&door));
        shard.datagram_doors.set(shard.datagram_doors.get() + 1);
        let help = post.help.as_ref().map(|helped| Arc::clone(&helped.help));
        if let Some(Helped { help, others }) = post.help {
            let ear = Ear::new(&shard.driver, help.bell(shard.number))?;
            let helping = helping::run(Rc::clone(shard), Rc::clone(&door), help, ear, others);
            glommio::spawn_local(helping).detach();
        }
        glommio::spawn_local(async move {
            let taking = door::run(Rc::clone(&own), at, help);
            if AssertUnwindSafe(taking).catch_unwind().await.is_err() {
                own.events.tell(Event::TaskPanicked { shard: own.number });
            }
            own.datagram_doors.set(own.datagram_doors.get() - 1);
        })
        .detach();
        doors.push(door);
    }
    Ok(doors)
}

/// Housekeeping: deadlines, and glommio's need of a timer that never stops.
async fn tick(shard: &Rc<Shard>, udp: &[Rc<door::Door>], tried: &mut Moment) {
    timer::sleep(limits::TICK).await;
    shard.driver.tick();
    for backend in &shard.backends {
        backend.tick();
    }
    udp.iter().for_each(|door| door.tick(shard));
    spool::tick(shard, tried);
}

/// Stops accepting once the kernel's queue is empty, lets every connection finish what it began and
/// every send to a slow backend end, within `shutdown-timeout`. Returns what was cut.
async fn drain(shard: &Rc<Shard>, doors: Doors) -> usize {
    shard.draining.set(true);
    // The tasks of the doors take what is queued; then nobody holds the sockets, and they close.
    doors.listeners.iter().for_each(|listener| listener.poke());
    doors.udp.iter().for_each(|door| door.poke());
    drop(doors);
    let now = shard.driver.now();
    shard
        .driver
        .cut_rest(now.after(limits::DRAIN_IDLE_WAIT_MAX));
    let deadline = now.after(shard.world.plan.shutdown_timeout);
    let mut tried = now;
    loop {
        let clients = shard.connections.get() + shard.datagram_doors.get();
        let left = clients + shard.flights.under_way();
        if left == 0 || shard.driver.now() >= deadline {
            return left;
        }
        tick(shard, &[], &mut tried).await;
    }
}
