//! One shard, from its first task to its last: the only place that starts its tasks.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender};

use crate::boot::claims::Posts;
use crate::boot::doors::Doors;
use crate::boot::generation::SpoolPost;
use crate::boot::spool;
use crate::boot::tenure::Tenure;
use crate::boot::watchdog::Pulse;
use crate::clock::Moment;
use crate::engine::driver::Driver;
use crate::engine::timer;
use crate::events::Events;
use crate::front::in_force::InForce;
use crate::limits;
use crate::shard::World;

/// What a shard is to go by.
pub(super) struct Founding {
    /// The plan, and what all shards see of it.
    pub(super) world: Arc<World>,
    /// Where it listens.
    pub(super) posts: Posts,
    /// Its part of the spool.
    pub(super) spool: SpoolPost,
}

/// What the main thread tells a shard.
pub(super) enum Order {
    /// Let new requests wait, and settle what was begun.
    Hold,
    /// Go by this from now on. Only after [`Order::Hold`].
    Take(Box<Founding>),
}

/// What a shard tells the main thread.
pub(super) enum Report {
    /// It takes requests.
    Up,
    /// It holds requests, and nothing of what was begun will touch the spool any more.
    Held,
    /// It could not be set up.
    Failed { shard: usize, why: String },
    /// It has drained; so many connections and writes were cut at the deadline.
    Drained { cut: usize },
}

/// Runs one shard until the world stops and it has drained. Then it waits for the process to end:
/// what a slow backend still holds has had its time.
pub(super) async fn run(
    number: usize,
    founding: Founding,
    events: Events,
    pulse: Pulse,
    (orders, reports): (Receiver<Order>, Sender<Report>),
) {
    let tuning = founding.world.plan.tuning;
    let begun = Driver::new(tuning.poll_spins, tuning.read_buffer_bytes);
    let begun = match begun {
        Ok(driver) => begin(number, founding, events, driver, pulse).await,
        Err(why) => Err(why),
    };
    let mut life = match begun {
        Ok(life) => life,
        Err(why) => return failed(number, &why, &reports),
    };
    let _main_is_gone = reports.send(Report::Up);
    while !life.is_stopping() {
        life.tick().await;
        if let Ok(Order::Hold) = orders.try_recv()
            && let Err(why) = life.succeed(&orders, &reports).await
        {
            return failed(number, &why, &reports);
        }
    }
    let cut = life.drain().await;
    for _ in 0..limits::SETTLE_TICKS_MAX {
        if life.tenure.is_settled() {
            break;
        }
        life.tick().await; // each shard waits for what the others have settled
    }
    let _main_is_gone = reports.send(Report::Drained { cut });
    loop {
        timer::sleep(limits::TICK).await; // other shards may take longer
        life.pulse.beat();
    }
}

fn failed(shard: usize, why: &std::io::Error, reports: &Sender<Report>) {
    let why = why.to_string();
    let _main_is_gone = reports.send(Report::Failed { shard, why });
}

/// A shard that takes requests.
struct Life {
    number: usize,
    events: Events,
    driver: Rc<Driver>,
    pulse: Pulse,
    tenure: Tenure,
    in_force: Rc<InForce>,
    doors: Doors,
    /// When the spool's disk was last tried again.
    tried: Moment,
}

async fn begin(
    number: usize,
    founding: Founding,
    events: Events,
    driver: Rc<Driver>,
    pulse: Pulse,
) -> std::io::Result<Life> {
    glommio::spawn_local(Rc::clone(&driver).run()).detach();
    let Founding {
        world,
        posts,
        spool,
    } = founding;
    let tenure = Tenure::begin(number, &world, &driver, &events, spool, None)?;
    let in_force = InForce::new(Rc::clone(&tenure.shard));
    let mut life = Life {
        number,
        events,
        tried: driver.now(),
        driver,
        pulse,
        tenure,
        in_force,
        doors: Doors::default(),
    };
    life.catch_up().await;
    life.doors
        .change(&life.in_force, &life.tenure.shard, posts.http)?;
    life.doors.open_udp(&life.tenure.shard, posts.udp)?;
    Ok(life)
}

impl Life {
    fn is_stopping(&self) -> bool {
        let world = &self.tenure.shard.world;
        world.stopping.load(Ordering::Relaxed)
    }

    /// Housekeeping: deadlines, and glommio's need of a timer that never stops.
    async fn tick(&mut self) {
        timer::sleep(limits::TICK).await;
        self.keep_house();
    }

    fn keep_house(&mut self) {
        self.pulse.beat();
        self.driver.tick();
        let shard = &self.tenure.shard;
        shard.backends.iter().for_each(|backend| backend.tick());
        self.doors.tick(shard);
        spool::tick(shard, &mut self.tried);
    }

    /// What is owed from before goes first, so that the first clients are not turned away for it.
    async fn catch_up(&mut self) {
        let until = self.driver.now().after(limits::START_CATCH_UP_MAX);
        while !spool::is_level(&self.tenure.shard) && self.driver.now() < until {
            self.tick().await;
        }
    }

    /// Settles what was begun, and goes by another plan. Requests that come meanwhile wait.
    async fn succeed(
        &mut self,
        orders: &Receiver<Order>,
        reports: &Sender<Report>,
    ) -> std::io::Result<()> {
        self.in_force.hold();
        self.doors.leave(&self.tenure.shard);
        self.settle().await;
        let _main_is_gone = reports.send(Report::Held);
        let founding = loop {
            if let Ok(Order::Take(founding)) = orders.try_recv() {
                break *founding;
            }
            timer::sleep(limits::reload::LOOK).await;
            self.pulse.beat(); // what it waits for is not its own
            self.driver.tick();
        };
        let (world, last) = (founding.world, &self.tenure.shard);
        let next = Tenure::begin(
            self.number,
            &world,
            &self.driver,
            &self.events,
            founding.spool,
            Some(last),
        )?;
        std::mem::replace(&mut self.tenure, next).retire();
        let shard = &self.tenure.shard;
        self.doors
            .change(&self.in_force, shard, founding.posts.http)?;
        self.in_force.put(Rc::clone(shard));
        self.doors.open_udp(shard, founding.posts.udp)?;
        let _main_is_gone = reports.send(Report::Up);
        Ok(())
    }

    /// Waits for what goes to backends. A backend that takes long is not waited for once every client has
    /// its answer: with a spool what it had been sent is owed to it, and must not reach it any more.
    async fn settle(&mut self) {
        let begun = self.driver.now();
        let shard = Rc::clone(&self.tenure.shard);
        let has_spool = shard.keeper.is_some();
        let mut cut = false;
        while shard.flights.launched() + shard.datagram_doors.get() > 0 {
            let took = self.driver.now().since(begun);
            let all_know = !has_spool || self.in_force.relaying() == 0;
            if took >= shard.world.plan.shutdown_timeout
                || (took >= limits::reload::SETTLE_MAX && all_know)
            {
                cut = has_spool;
                break;
            }
            timer::sleep(limits::reload::LOOK).await;
            self.keep_house();
        }
        if cut {
            self.tenure.cut();
        }
        self.doors.dismiss();
        if self.tenure.leave_spool() || cut {
            self.keep_house_for(limits::GHOST_WAIT, |_| false).await; // a backend may still finish what it was sent
        } else {
            self.keep_house_for(limits::reload::SETTLE_MAX, Tenure::is_settled)
                .await;
        }
    }

    async fn keep_house_for(&mut self, wait: Duration, is_enough: impl Fn(&Tenure) -> bool) {
        let until = self.driver.now().after(wait);
        while self.driver.now() < until && !is_enough(&self.tenure) {
            timer::sleep(limits::reload::LOOK).await;
            self.keep_house();
        }
    }

    /// Stops accepting once the kernel's queue is empty, lets every connection finish what it began and
    /// every send to a slow backend end, within `shutdown-timeout`. Returns what was cut. What comes while a
    /// successor is there is for it, but for datagrams, which it may not take before the end.
    async fn drain(&mut self) -> usize {
        let shard = Rc::clone(&self.tenure.shard);
        shard.draining.set(true);
        // The tasks of the doors take what is queued; then nobody holds the sockets, and they close.
        self.doors.leave_http();
        if shard.is_ending() {
            self.doors.leave_udp();
        }
        let now = self.driver.now();
        let rest = now.after(limits::DRAIN_IDLE_WAIT_MAX);
        self.driver.cut_rest(rest);
        let deadline = now.after(shard.world.plan.shutdown_timeout);
        loop {
            let clients = self.in_force.connections();
            if clients == 0 && !shard.is_ending() {
                self.doors.leave(&shard);
            }
            let left = clients + shard.datagram_doors.get() + shard.flights.under_way();
            if left == 0 || self.driver.now() >= deadline {
                return left;
            }
            self.tick().await;
        }
    }
}
