//! The spool is opened: logs of earlier starts are found, each shard gets a new one, and one thread
//! keeps account of where every backend stands.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use glommio::Task;

use crate::backend::letters;
use crate::backend::outgoing::Kind;
use crate::boot::newcomers::Known;
use crate::boot::{StartError, helper, rest};
use crate::clock::Moment;
use crate::engine::bell::{Bell, Ear};
use crate::engine::driver::Driver;
use crate::engine::timer;
use crate::events::{Event, Events};
use crate::limits;
use crate::metrics::CODES;
use crate::plan::{Fsync, Plan, SpoolPlan};
use crate::shard::{Shard, SpoolWorld, World};
use crate::spool::archive::{Archive, log_folder};
use crate::spool::board::{Board, Desk, Mode};
use crate::spool::cursors::Mark;
use crate::spool::disk::Place;
use crate::spool::door::{self, DiskChange, Door, Keep, Rules};
use crate::spool::flushing::stamp;
use crate::spool::keeper::Keeper;
use crate::spool::letting_go::mark_of;
use crate::spool::log::Log;
use crate::spool::old_log;
use crate::spool::syncing::Syncing;
use crate::spool::track::Track;
use crate::spool::unusable::Unusable;

/// The spool before the shards start.
pub(super) struct Opened {
    /// What all shards see.
    pub(super) world: SpoolWorld,
    /// What calls them.
    pub(super) bells: Vec<Bell>,
    archive: Archive,
    disks: Vec<Place>,
    known: Known,
}

/// Whether the spool is in a folder, which has one owner at a time.
///
/// # Errors
/// There is no such folder, and it cannot be made.
pub(super) fn has_folder(plan: &Plan) -> Result<bool, Unusable> {
    let dir = plan.spool.as_ref().and_then(|spool| spool.dir.as_ref());
    let Some(dir) = dir else { return Ok(false) };
    Place::folder(dir).map_err(|why| Unusable::Disk {
        path: dir.display().to_string(),
        why,
    })?;
    Ok(true)
}

/// Opens the spool of the plan, if there is one. `before` is what was in force before it, in this process.
pub(super) fn open(plan: &Plan, before: Option<&World>) -> Result<Option<Opened>, StartError> {
    let Some(spool) = &plan.spool else {
        return Ok(None);
    };
    let before = before.and_then(|world| Some((world, world.spool.as_ref()?)));
    let mut archive = match (&spool.dir, before) {
        (Some(dir), _) => find(dir, plan, spool)?,
        (None, Some((_, kept))) => Archive::in_memory(&kept.old, &kept.tracks),
        (None, None) => Archive::none(),
    };
    if let Some((_, kept)) = before {
        // Shards of the last plan may still know files of theirs by name.
        let last = kept.tracks.first().map_or(0, |track| track.run);
        archive.run = archive.run.max(last + 1);
    }
    let no_bell = |why: std::io::Error| StartError::Thread {
        what: "the spool".to_owned(),
        why: why.to_string(),
    };
    let known = match &spool.dir {
        Some(dir) => Known::read(dir, &archive),
        None => Known::nothing(),
    };
    let shards = plan.cpus.len();
    let bells = (0..shards)
        .map(|_| Bell::new())
        .collect::<Result<Vec<_>, _>>();
    let bells = bells.map_err(no_bell)?;
    let ring = bells.clone();
    let board = Board::new(
        plan.backends.len(),
        shards,
        CODES.len() + 1,
        Box::new(move || ring.iter().for_each(Bell::ring)),
    );
    let names: Vec<String> = plan
        .backends
        .iter()
        .map(|plan| plan.label.clone())
        .collect();
    open_desks(&board, plan, &archive, before);
    let disks = places(spool, archive.run, shards)?;
    let track = |shard: usize| {
        let number = u32::try_from(shard).unwrap_or(u32::MAX);
        Arc::new(Track::new(archive.run, number, names.clone()))
    };
    let world = SpoolWorld {
        plan: spool.clone(),
        board: Arc::new(board),
        tracks: (0..shards).map(track).collect(),
        old: archive
            .logs
            .iter()
            .map(|log| Arc::clone(&log.track))
            .collect(),
    };
    Ok(Some(Opened {
        world,
        bells,
        archive,
        disks,
        known,
    }))
}

/// Where each shard's log of a run lies.
fn places(spool: &SpoolPlan, run: u64, shards: usize) -> Result<Vec<Place>, StartError> {
    let mut disks = Vec::new();
    for shard in 0..shards {
        disks.push(match &spool.dir {
            Some(dir) => {
                let folder = log_folder(dir, run, shard);
                Place::folder(&folder).map_err(|why| Unusable::Disk {
                    path: folder.display().to_string(),
                    why,
                })?
            }
            None => Place::Memory,
        });
    }
    Ok(disks)
}

/// Says what each backend is owed to begin with, and goes on with what was counted `before`.
fn open_desks(
    board: &Board,
    plan: &Plan,
    archive: &Archive,
    before: Option<(&World, &SpoolWorld)>,
) {
    for (desk, backend) in board.desks.iter().zip(&plan.backends) {
        let name = &backend.label;
        let old = before.and_then(|(world, kept)| {
            let place = world.place_of(name)?;
            Some((&kept.board.desks[place], kept.plan.dir.is_none()))
        });
        let is_owed = backend.owed_bytes_max > 0 && archive.logs.iter().any(|log| log.needs(name));
        if is_owed && desk.owe() {
            let (records, bytes) = match old {
                Some((old, true)) => old.owed(), // in memory nobody else has counted it
                _ => archive.owed(name),
            };
            desk.rows[0].records.set(records);
            desk.rows[0].bytes.set(bytes);
        }
        if let Some((old, _)) = old {
            desk.go_on(old);
        }
    }
}

fn find(dir: &Path, plan: &Plan, spool: &SpoolPlan) -> Result<Archive, StartError> {
    let mut archive = Archive::open(dir)?;
    for damage in &archive.damage {
        tracing::warn!(damage, "the spool is damaged");
    }
    let is_known = |name: &str| {
        let mut backends = plan.backends.iter();
        backends.any(|plan| plan.label == name && plan.owed_bytes_max > 0)
    };
    archive.forget(is_known, spool.age_max);
    if !archive.logs.is_empty() {
        tracing::info!(
            logs = archive.logs.len(),
            "the spool holds logs of earlier starts"
        );
    }
    Ok(archive)
}

/// Starts the thread that saves where backends stand, and removes what nobody needs. It saves for the
/// last time when the process ends: send into the channel, and wait for its end.
pub(super) fn start(
    world: &Arc<World>,
    archive: Archive,
    disks: Vec<Place>,
    known: Known,
) -> Result<(Sender<()>, Receiver<()>), StartError> {
    let (end, ending) = bounded(1);
    let (ended, all_saved) = bounded(1);
    let world = Arc::clone(world);
    helper("spool", move || {
        let (mut archive, mut known) = (archive, known);
        loop {
            let last = ending.try_recv().is_ok();
            archive.tick();
            known.tick(&world);
            if last {
                if let Some(spool) = &world.spool {
                    save_last(spool, &disks);
                }
                drop(archive); // the folder may be taken again
                let _nobody_waits = ended.send(());
                return;
            }
            rest(limits::CURSOR_INTERVAL);
        }
    })?;
    Ok((end, all_saved))
}

impl Opened {
    /// What all shards see; and what the thread needs.
    pub(super) fn split(self) -> (SpoolWorld, Vec<Bell>, Archive, Vec<Place>, Known) {
        (self.world, self.bells, self.archive, self.disks, self.known)
    }
}

/// Saves where each backend stands in each log for the last time: no write is taken any more. A log that no
/// backend needs goes.
///
/// The last answers may have come after the last housekeeping of a shard. The records say who has accepted them, so
/// the logs are read as the next start would read them.
fn save_last(spool: &SpoolWorld, disks: &[Place]) {
    for (shard, (disk, track)) in disks.iter().zip(&spool.tracks).enumerate() {
        let Place::Folder(folder) = disk else {
            return;
        };
        let mark = |(name, desk): (usize, &Desk)| {
            let (records, bytes) = if shard == 0 { desk.owed() } else { (0, 0) };
            Mark {
                records,
                bytes,
                ..mark_of(track, name)
            }
        };
        let marks: Vec<Mark> = spool.board.desks.iter().enumerate().map(mark).collect();
        let _older_ones_stay = old_log::save_last(folder, &marks, track.end());
    }
    if let Some(dir) = &spool.plan.dir {
        let _found_at_the_next_start = Archive::settle(dir);
    }
}

/// One shard's spool, over its new log.
pub(super) fn keeper(world: &World, number: usize, disk: Place) -> Option<Rc<Keeper<Place>>> {
    let (spool, plan) = (world.spool.as_ref()?, &world.plan);
    let at_least = match spool.plan.accept_when_all_fail {
        true => Keep::Unrefused,
        false => Keep::Accepted,
    };
    let doors = plan.doors().map(|(outputs, is_all_owed)| {
        let outputs: Vec<door::Output> = outputs
            .iter()
            .map(|&id| {
                let backend = &plan.backends[id.0];
                door::Output {
                    id,
                    takes: if backend.writes {
                        Kind::taken_by(backend.kind)
                    } else {
                        0
                    },
                    kept: backend.owed_bytes_max > 0,
                }
            })
            .collect();
        Door::new(&outputs, if is_all_owed { Keep::All } else { at_least })
    });
    let owed_max: Vec<u64> = plan
        .backends
        .iter()
        .map(|plan| plan.owed_bytes_max)
        .collect();
    let is_lasting = spool.plan.dir.is_some();
    let rules = Rules {
        when_full: spool.plan.when_full,
        sync_first: spool.plan.fsync == Fsync::Always && is_lasting,
        lasting: is_lasting,
        power_loss_max: match spool.plan.fsync {
            _ if !is_lasting => None,
            Fsync::Always => Some(0),
            Fsync::Every(between) => Some(u64::try_from(between.as_nanos()).unwrap_or(u64::MAX)),
            Fsync::Never => None,
        },
        write_through_bytes: limits::WRITE_THROUGH_BYTES_MIN,
    };
    let track = Arc::clone(&spool.tracks[number]);
    let log = Log::new(disk, track, spool.plan.segment_bytes);
    let board = Arc::clone(&spool.board);
    Some(Keeper::new(
        number,
        board,
        doors.collect(),
        &owed_max,
        rules,
        log,
    ))
}

/// Starts a shard's tasks for its spool: flush, sync, hear the bell. They end when they are dropped.
pub(super) fn run(shard: &Rc<Shard>, bell: Bell) -> std::io::Result<Vec<Task<()>>> {
    let (Some(keeper), Some(spool)) = (&shard.keeper, &shard.world.spool) else {
        return Ok(Vec::new());
    };
    let ear = Ear::new(&shard.driver, bell)?;
    let own = Rc::clone(keeper);
    let hearing = glommio::spawn_local(async move {
        loop {
            ear.heard().await;
            own.look();
        }
    });
    let flushing = glommio::spawn_local(flush(
        Rc::clone(keeper),
        Rc::clone(&shard.driver),
        shard.events.clone(),
        shard.number,
    ));
    let own = Rc::clone(shard);
    let lettering = glommio::spawn_local(async move {
        let body_max = own.world.plan.limits.body_bytes_max;
        let clock = own.driver.clock();
        letters::run(Rc::clone(&own.letters), clock, own.events.clone(), body_max).await;
    });
    let mut tasks = vec![hearing, flushing, lettering];
    let between = match spool.plan.fsync {
        Fsync::Always => Some(std::time::Duration::ZERO),
        Fsync::Every(between) => Some(between),
        Fsync::Never => None,
    };
    if let Some(between) = between.filter(|_| spool.plan.dir.is_some()) {
        tasks.push(glommio::spawn_local(sync(
            Rc::clone(keeper),
            between,
            Rc::clone(&shard.driver),
            shard.events.clone(),
            shard.number,
        )));
    }
    Ok(tasks)
}

/// Writes what was kept in a turn, behind the tasks that kept it.
async fn flush(keeper: Rc<Keeper<Place>>, driver: Rc<Driver>, events: Events, shard: usize) {
    loop {
        keeper.dirty().await;
        let (order, wall_ms) = stamp(driver.clock());
        tell(&events, shard, keeper.flush(order, wall_ms));
    }
}

/// Makes what was written safe from a power cut, once it is half as old as `between` or older, and before it
/// is older than that. What everybody has by then need not reach the disk: while all backends take
/// writes, hardly anything does.
async fn sync(
    keeper: Rc<Keeper<Place>>,
    between: std::time::Duration,
    driver: Rc<Driver>,
    events: Events,
    shard: usize,
) {
    loop {
        keeper.unsynced().await;
        let up_to = keeper.end();
        if !between.is_zero() {
            timer::sleep(between / 2).await;
            keeper.tick(driver.now().0);
        }
        let syncing = Arc::new(keeper.syncing(up_to));
        let result = match syncing.has_work() {
            true => off_the_shard(Arc::clone(&syncing)).await,
            false => Ok(()),
        };
        let failed = result.is_err();
        tell(&events, shard, keeper.synced(&syncing, result));
        if failed {
            timer::sleep(limits::SPOOL_RETRY).await;
        }
    }
}

async fn off_the_shard(syncing: Arc<Syncing<Place>>) -> std::io::Result<()> {
    let caught = move || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| syncing.run()));
    match glommio::executor().spawn_blocking(caught).await {
        Ok(result) => result,
        Err(_) => Err(std::io::Error::other("a bug ended the sync")),
    }
}

fn tell(events: &Events, shard: usize, change: DiskChange) {
    match change {
        DiskChange::None => {}
        DiskChange::Failed(why) => events.tell(Event::SpoolFailed { shard, why }),
        DiskChange::Recovered => events.tell(Event::SpoolRecovered { shard }),
    }
}

/// Whether all backends that are up are level. What is owed from an earlier start goes first, so that
/// the first clients are not turned away for it.
pub(super) fn is_level(shard: &Shard) -> bool {
    let Some(spool) = &shard.world.spool else {
        return true;
    };
    let desks = spool.board.desks.iter().zip(&shard.backends);
    desks
        .filter(|(_, backend)| backend.is_up())
        .all(|(desk, _)| desk.state().mode() == Mode::Live)
}

/// Housekeeping of a shard's spool. Once per tick.
pub(super) fn tick(shard: &Shard, tried: &mut Moment) {
    let Some(keeper) = &shard.keeper else { return };
    let now = shard.driver.now();
    if now.since(*tried) >= limits::SPOOL_RETRY {
        *tried = now;
        keeper.try_again();
    }
    keeper.tick(now.0);
    if let Some(doomed) = keeper.doomed() {
        glommio::spawn_local(glommio::executor().spawn_blocking(move || doomed.run())).detach();
    }
}

/// Nothing needs the spool any more: it is saved for the last time.
pub(super) fn end(end: &Sender<()>, ended: &Receiver<()>) {
    let _gone_already = end.send(());
    let _saved_or_late = ended.recv_timeout(limits::START_WAIT_MAX);
}
