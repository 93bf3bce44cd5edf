//! One schedule: clients, faults, kills and starts; then everything is well, and the account is made.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use influxdb_relay::limits;
use influxdb_relay::plan::{BackendId, WhenFull};
use influxdb_relay::replay::catch_up::{self, Rules};
use influxdb_relay::replay::ground::Corpse;
use influxdb_relay::spool::archive::agree;
use influxdb_relay::spool::board::{Board, Mode};
use influxdb_relay::spool::cursors::{self, Cursors};
use influxdb_relay::spool::disk::DiskFile;
use influxdb_relay::spool::door;
use influxdb_relay::spool::keeper::Keeper;
use influxdb_relay::spool::letting_go::old_mark_of;
use influxdb_relay::spool::log::Log;
use influxdb_relay::spool::resume::resume;
use influxdb_relay::spool::segment::{Head, HeadFound};
use influxdb_relay::spool::track::{LEVEL, NONE, Segment, Track};

use crate::backend::{Health, SimBackend, is_poison};
use crate::disk::{SimDisk, SimFile};
use crate::ground::SimGround;
use crate::world::{Common, Lane, Lanes, write};

/// What may happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    backends: bool,
    kills: bool,
    power: bool,
    disks: bool,
    rot: bool,
}

impl Faults {
    const NONE: Self = Self {
        backends: false,
        kills: false,
        power: false,
        disks: false,
        rot: false,
    };
    pub(crate) const BACKENDS: Self = Self {
        backends: true,
        ..Self::NONE
    };
    pub(crate) const KILLS: Self = Self {
        backends: true,
        kills: true,
        ..Self::NONE
    };
    pub(crate) const POWER: Self = Self {
        backends: true,
        power: true,
        ..Self::NONE
    };
    pub(crate) const DISKS: Self = Self {
        backends: true,
        disks: true,
        ..Self::NONE
    };
    pub(crate) const ROT: Self = Self {
        backends: true,
        kills: true,
        rot: true,
        ..Self::NONE
    };
    pub(crate) const ALL: Self = Self {
        backends: true,
        kills: true,
        power: true,
        disks: true,
        rot: false,
    };
}

/// A bug that is planted at a seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    Nothing,
    NoChecksum,
    CursorBeforeSend,
    TailOffByOne,
    NoOrder,
    AnswerBeforeFlush,
    /// A start goes by what each log has saved, not by what any of the run has.
    EachLogAlone,
    /// A sync does nothing.
    NoSync,
    /// An acceptance is on file before the backend has answered.
    AcceptedBeforeAnswer,
}

/// What came of a schedule.
pub(crate) enum Verdict {
    Held,
    Broken(String),
}

/// What a client has done so far; it outlives the relay.
struct Client {
    keys: Vec<u32>,
    pending: Cell<Option<(u32, u64)>>,
    values: Cell<u64>,
    stop: Cell<bool>,
    is_idle: Cell<bool>,
}

/// What clients were promised.
#[derive(Default)]
struct Account {
    /// The values of each key, in turn, and when each was acknowledged.
    values: RefCell<BTreeMap<u32, Vec<(u64, u64)>>>,
    acknowledged: RefCell<BTreeMap<(u32, u64), u64>>,
    attempted: RefCell<BTreeSet<(u32, u64)>>,
    /// A disk was failing lately: what is acknowledged may be lost to who missed it.
    excused: Cell<bool>,
    /// How often one began to.
    spells: Cell<u64>,
}

/// A running relay.
struct Start {
    board: Arc<Board>,
    keepers: Vec<Rc<Keeper<SimDisk>>>,
    old: Vec<Arc<Track<SimFile>>>,
}

struct Scene {
    common: Rc<Common>,
    clients: Vec<Rc<Client>>,
    account: Rc<Account>,
    dead: Vec<Rc<RefCell<Vec<Corpse>>>>,
    /// All logs' disks, with run and shard.
    disks: Vec<(u64, u32, SimDisk)>,
    run: u64,
    fsync: Fsync,
    plant: Plant,
}

/// What a sync is for.
#[derive(Clone, Copy, PartialEq)]
enum Fsync {
    /// The power never fails.
    Never,
    /// A client hears success after it.
    Always,
    /// What is older than [`BETWEEN`] survives.
    Interval,
}

/// With [`Fsync::Interval`].
const BETWEEN: Duration = Duration::from_millis(8);
/// How long a sync may take until it has an effect.
const SYNC_MAX: Duration = Duration::from_millis(2);

const TURNS: usize = 1500;
const TURNS_TO_HEAL: usize = 60_000;
const SEGMENT_BYTES: u64 = 4096;

/// Runs the schedule of this seed.
pub(crate) fn simulate(seed: u64, faults: Faults, plant: Plant) -> Verdict {
    let mut scene = Scene::new(seed, faults, plant);
    let mut start = scene.start();
    for _ in 0..TURNS {
        scene.turn(&start);
        scene.misfortune(faults);
        if let Some(restarted) = scene.accident(faults) {
            start = restarted;
        }
    }
    scene.heal();
    for turn in 0..TURNS_TO_HEAL {
        scene.turn(&start);
        if scene.common.dice(8) == 0 {
            scene.common.now.set(scene.common.now.get() + 5_000_000);
        }
        if turn % 16 == 0 && scene.is_over(&start) {
            (0..100).for_each(|_| scene.turn(&start)); // time to let go of what is settled
            return scene.judge(&start, faults);
        }
    }
    Verdict::Broken(format!(
        "not level after {TURNS_TO_HEAL} turns of good weather: {:?}",
        start
            .board
            .desks
            .iter()
            .map(|desk| (desk.state().mode(), desk.owed()))
            .collect::<Vec<_>>()
    ))
}

impl Scene {
    fn new(seed: u64, faults: Faults, plant: Plant) -> Self {
        let picky_one = seed.is_multiple_of(3);
        let count = 2 + usize::from(seed.is_multiple_of(5));
        let backends = (0..count).map(|b| SimBackend::new(picky_one && b == 1));
        let common = Common::new(seed, backends.collect(), plant);
        let clients = (0..3).map(|client| {
            Rc::new(Client {
                keys: (0..2).map(|key| client * 10 + key).collect(),
                pending: Cell::new(None),
                values: Cell::new(0),
                stop: Cell::new(false),
                is_idle: Cell::new(false),
            })
        });
        Self {
            clients: clients.collect(),
            account: Rc::default(),
            dead: (0..count).map(|_| Rc::default()).collect(),
            disks: Vec::new(),
            run: 0,
            fsync: match (faults.power, seed % 4) {
                (false, _) => Fsync::Never,
                (true, 0..2) => Fsync::Always,
                (true, _) if faults.disks => Fsync::Always, // what a failing disk did not sync is excused
                (true, _) => Fsync::Interval,
            },
            common,
            plant,
        }
    }

    /// The relay starts, with any number of shards.
    fn start(&mut self) -> Start {
        self.run += 1;
        let shards = 1 + usize::try_from(self.common.dice(3)).unwrap();
        let backends = self.common.backends.len();
        let names: Vec<String> = (0..backends).map(|b| format!("b{b}")).collect();
        let board = Arc::new(Board::new(backends, shards, 64, Box::new(|| {})));
        self.disks.sort_by_key(|disk| (disk.0, disk.1));
        let old: Vec<_> = self.disks.iter().filter_map(reopen).collect();
        if self.plant != Plant::EachLogAlone {
            let old: Vec<_> = old.iter().collect();
            agree(&old);
            resume(&old);
        }
        for desk in &board.desks {
            if !old.is_empty() {
                desk.owe();
            }
        }
        let mut keepers = Vec::new();
        for shard in 0..shards {
            let disk = SimDisk::default();
            let number = u32::try_from(shard).unwrap();
            self.disks.push((self.run, number, disk.clone()));
            let track = Arc::new(Track::new(self.run, number, names.clone()));
            let outputs: Vec<_> = (0..backends)
                .map(|b| door::Output {
                    id: BackendId(b),
                    takes: u8::MAX,
                    kept: true,
                })
                .collect();
            let rules = door::Rules {
                when_full: WhenFull::DropOldest,
                sync_first: self.fsync == Fsync::Always,
                lasting: true,
                power_loss_max: match self.fsync {
                    Fsync::Never => None,
                    Fsync::Always => Some(0),
                    Fsync::Interval => Some(nanos(BETWEEN)),
                },
                // Some shards gather all, some none, some those that are not long.
                write_through_bytes: [usize::MAX, 0, 9]
                    [usize::try_from(self.common.dice(3)).unwrap()],
            };
            keepers.push(Keeper::new(
                shard,
                Arc::clone(&board),
                vec![door::Door::new(&outputs, door::Keep::Accepted)],
                &vec![u64::MAX; backends],
                rules,
                Log::new(disk, track, SEGMENT_BYTES),
            ));
        }
        let start = Start {
            board,
            keepers,
            old,
        };
        self.spawn_shards(&start);
        self.spawn_replay(&start);
        self.spawn_clients(&start);
        start
    }

    fn spawn_shards(&self, start: &Start) {
        for (shard, keeper) in start.keepers.iter().enumerate() {
            let (common, own) = (Rc::clone(&self.common), Rc::clone(keeper));
            // A turn may take long: then the planted bug shows.
            let turn = match self.plant {
                Plant::AnswerBeforeFlush => 3000,
                _ => 100,
            };
            let skew = match self.plant {
                Plant::NoOrder => shard as u64 * 40_000_000,
                _ => 0,
            };
            self.common.spawn(async move {
                loop {
                    own.dirty().await;
                    let now = common.now.get();
                    own.flush(now + skew, now / 1_000_000);
                    common.rest(Duration::from_micros(common.dice(turn))).await;
                }
            });
            let (common, own) = (Rc::clone(&self.common), Rc::clone(keeper));
            self.common.spawn(async move {
                let mut turns = 0_u64;
                loop {
                    common
                        .rest(Duration::from_micros(100 + common.dice(300)))
                        .await;
                    own.look();
                    turns += 1;
                    if turns.is_multiple_of(8) {
                        own.tick(common.now.get() + skew);
                        own.try_again();
                        if let Some(doomed) = own.doomed() {
                            let rest = Duration::from_micros(common.dice(900));
                            let later = Rc::clone(&common);
                            common.spawn(async move {
                                later.rest(rest).await;
                                doomed.run();
                            });
                        }
                    }
                }
            });
            if self.fsync != Fsync::Never {
                let (common, own) = (Rc::clone(&self.common), Rc::clone(keeper));
                let is_planted = self.plant == Plant::NoSync;
                let is_lazy = self.fsync == Fsync::Interval;
                self.common.spawn(async move {
                    loop {
                        own.unsynced().await;
                        let up_to = own.end();
                        if is_lazy {
                            common.rest(BETWEEN / 2).await;
                            own.tick(common.now.get() + skew);
                        }
                        let syncing = own.syncing(up_to);
                        common.rest(Duration::from_micros(common.dice(500))).await;
                        let result = if is_planted { Ok(()) } else { syncing.run() };
                        let failed = result.is_err();
                        own.synced(&syncing, result);
                        if failed {
                            common.rest(Duration::from_millis(2)).await;
                        }
                    }
                });
            }
        }
        self.spawn_archive(start);
    }

    /// Saves where backends stand in old logs now and then, as the archive does.
    fn spawn_archive(&self, start: &Start) {
        let common = Rc::clone(&self.common);
        let mut old: Vec<_> = start
            .old
            .iter()
            .filter_map(|track| {
                let at = (track.run, track.shard);
                let disk = self.disks.iter().find(|disk| (disk.0, disk.1) == at)?;
                let files = disk.2.files();
                let file = files.get(cursors::FILE)?;
                let newest = cursors::newest(&file.contents(), track.names.len());
                let cursors = Cursors::new(Arc::new(file.clone()), newest.as_ref());
                Some((Arc::clone(track), cursors))
            })
            .collect();
        self.common.spawn(async move {
            loop {
                common
                    .rest(Duration::from_micros(500 + common.dice(1500)))
                    .await;
                for (track, cursors) in &mut old {
                    let marks: Vec<_> = (0..track.names.len())
                        .map(|name| old_mark_of(track, name))
                        .collect();
                    if cursors.save(&marks, 0).is_ok() && cursors.syncing().sync().is_ok() {
                        cursors.synced();
                    }
                }
            }
        });
    }

    fn spawn_replay(&self, start: &Start) {
        for backend in 0..self.common.backends.len() {
            let shard = backend % start.keepers.len();
            let ground = SimGround {
                common: Rc::clone(&self.common),
                backend,
                keeper: Rc::clone(&start.keepers[shard]),
                old: start.old.clone(),
                logs: start
                    .keepers
                    .iter()
                    .map(|keeper| Arc::clone(keeper.track()))
                    .collect(),
                dead: Rc::clone(&self.dead[backend]),
            };
            let rules = Rules {
                label: format!("b{backend}"),
                index: backend,
                batch_bytes_max: 300,
                wait_max: limits::REPLAY_WAIT_MIN,
                owed_bytes_max: None,
                age_max: limits::OWED_AGE_MAX,
                bytes_per_second: 0,
                poison_attempts: 1000,
                poison_after: Duration::from_secs(3600),
            };
            let board = Arc::clone(&start.board);
            self.common
                .spawn(async move { catch_up::run(&ground, &board, &rules).await });
        }
    }

    /// Each client overwrites its keys with growing values, over any shard, until each is acknowledged.
    fn spawn_clients(&self, start: &Start) {
        for client in &self.clients {
            let (common, client) = (Rc::clone(&self.common), Rc::clone(client));
            let (account, keepers) = (Rc::clone(&self.account), start.keepers.clone());
            let board = Arc::clone(&start.board);
            let backends = self.common.backends.len();
            let sync_first = self.fsync == Fsync::Always;
            self.common.spawn(async move {
                let lanes =
                    || -> Lanes { Rc::new((0..backends).map(|_| Lane::default()).collect()) };
                let (mut shard, mut own) = (0, lanes());
                loop {
                    common.rest(Duration::from_micros(common.dice(1500))).await;
                    // Another connection only when no send of this one is live: between those there is
                    // no order.
                    if own.iter().all(Lane::is_free) && common.dice(2) == 0 {
                        shard = usize::try_from(common.dice(keepers.len() as u64)).unwrap();
                        own = lanes();
                    }
                    let Some((key, value)) = client.wish(&common) else {
                        continue;
                    };
                    account.attempted.borrow_mut().insert((key, value));
                    let body = format!("k{key} v={value}\n").into_bytes();
                    // What comes before a disk is tried again is not kept either.
                    let is_excused = || {
                        account.excused.get() || board.failing.iter().any(|disk| disk.get() != 0)
                    };
                    let (excused, spells) = (is_excused(), account.spells.get());
                    if write(&common, &keepers[shard], &own, body, sync_first).await {
                        let excused = excused || is_excused() || account.spells.get() != spells;
                        account.promise(key, value, common.now.get(), excused);
                        if client.stop.get() && excused {
                            continue; // the account is made over what was kept
                        }
                        client.pending.set(None);
                    } else if is_poison(value) {
                        client.pending.set(None); // its client was told so
                    }
                }
            });
        }
    }

    fn turn(&self, start: &Start) {
        self.common.turn();
        if self.plant == Plant::TailOffByOne {
            for desk in &start.board.desks {
                if desk.state().mode() == Mode::HandingOver {
                    for row in &desk.rows {
                        if row.seen.get() == desk.state().number() && row.unkept.get() == 0 {
                            row.tail.set(row.tail.get().saturating_sub(1));
                            row.unkept.set(1); // once
                        }
                    }
                } else {
                    desk.rows.iter().for_each(|row| row.unkept.set(0));
                }
            }
        }
    }

    /// Backends and disks change for the worse, or the better.
    fn misfortune(&self, faults: Faults) {
        if faults.backends && self.common.dice(60) == 0 {
            let count = self.common.backends.len() as u64;
            let backend = &self.common.backends[usize::try_from(self.common.dice(count)).unwrap()];
            match self.common.dice(10) {
                0 | 1 => backend.health.set(Health::Down),
                2 => backend.health.set(Health::Failing),
                3 => backend.health.set(Health::NoDatabase),
                4 => backend.health.set(Health::Mute),
                5 => backend.health.set(Health::Hung),
                _ => backend.wake(),
            }
        }
        if faults.disks && self.common.dice(100) == 0 {
            let failing = self.common.dice(3) == 0;
            self.account.excused.set(failing);
            self.account
                .spells
                .set(self.account.spells.get() + u64::from(failing));
            self.disks
                .iter()
                .for_each(|disk| disk.2.set_failing(failing));
        }
    }

    /// The relay dies, and starts again.
    fn accident(&mut self, faults: Faults) -> Option<Start> {
        if !(faults.kills || faults.power) || self.common.dice(300) != 0 {
            return None;
        }
        self.common.kill();
        let common = Rc::clone(&self.common);
        let mut dice = |sides: usize| usize::try_from(common.dice(sides as u64)).unwrap();
        if faults.power && (!faults.kills || dice(2) == 0) {
            self.disks
                .iter()
                .for_each(|disk| disk.2.cut_power(&mut dice));
            if self.fsync == Fsync::Interval {
                let lost = nanos(BETWEEN + SYNC_MAX);
                self.account
                    .forget_from(self.common.now.get().saturating_sub(lost));
            }
        }
        if faults.rot {
            for (_, _, disk) in &self.disks {
                let files = disk.files();
                files
                    .iter()
                    .filter(|(name, _)| name.ends_with(".seg"))
                    .for_each(|(_, file)| file.rot(&mut dice));
            }
        }
        self.disks.iter().for_each(|disk| disk.2.set_failing(false));
        Some(self.start())
    }

    fn heal(&self) {
        self.common.backends.iter().for_each(SimBackend::wake);
        self.disks.iter().for_each(|disk| disk.2.set_failing(false));
        self.account.excused.set(false);
        self.clients.iter().for_each(|client| client.stop.set(true));
    }

    fn is_over(&self, start: &Start) -> bool {
        let is_live = |desk: &influxdb_relay::spool::board::Desk| desk.state().mode() == Mode::Live;
        start.board.desks.iter().all(is_live)
            && self.clients.iter().all(|client| client.is_idle.get())
            && start.keepers.iter().all(|keeper| {
                let track = keeper.track();
                track.undecided(NONE) == NONE && track.restart_at(0) == track.end()
            })
    }

    fn judge(&self, start: &Start, faults: Faults) -> Verdict {
        for (b, backend) in self.common.backends.iter().enumerate() {
            if backend.nonsense.get() > 0 {
                return Verdict::Broken(format!(
                    "b{b} was sent {} lines of nonsense",
                    backend.nonsense.get()
                ));
            }
            let (taken, attempted) = (backend.taken.borrow(), self.account.attempted.borrow());
            if let Some(point) = taken.difference(&attempted).next() {
                return Verdict::Broken(format!("b{b} has {point:?}, which nobody wrote"));
            }
            if faults.rot {
                continue; // damage costs what it hits
            }
            let dead = self.dead[b].borrow();
            let acknowledged = self.account.acknowledged.borrow();
            for point in acknowledged.keys().filter(|point| !taken.contains(point)) {
                let line = format!("k{} v={}\n", point.0, point.1);
                let is_buried = dead.iter().any(|corpse| corpse.body == line.as_bytes());
                if !(backend.picky.get() && is_poison(point.1) && is_buried) {
                    return Verdict::Broken(format!(
                        "b{b} lacks {point:?}, which was acknowledged"
                    ));
                }
            }
            let values = backend.values.borrow();
            for (key, promised) in self.account.values.borrow().iter() {
                let is_taken = |value: &u64| !(backend.picky.get() && is_poison(*value));
                let own = promised.iter().map(|(value, _)| value);
                let Some(value) = own.rev().find(|value| is_taken(value)) else {
                    continue;
                };
                // A later one may have been taken, though its client never heard so.
                if values.get(key).unwrap_or(&0) < value {
                    let found = values.get(key);
                    return Verdict::Broken(format!(
                        "b{b} ends with {found:?} for key {key}, and {value} was acknowledged last"
                    ));
                }
            }
        }
        self.judge_space(start)
    }

    /// Nothing is owed, so almost nothing is on disk.
    fn judge_space(&self, start: &Start) -> Verdict {
        for keeper in &start.keepers {
            let segments = keeper.track().segments.load().len();
            if segments > 2 {
                let track = keeper.track();
                let cursors: Vec<u64> = (0..track.names.len())
                    .map(|name| track.cursor(name))
                    .collect();
                let firsts: Vec<u64> = track
                    .segments
                    .load()
                    .iter()
                    .map(|segment| segment.first)
                    .collect();
                return Verdict::Broken(format!(
                    "segments {firsts:?} are left; end {}, cursors {cursors:?}, restart at {}",
                    track.end(),
                    track.restart_at(0)
                ));
            }
        }
        let is_done = |track: &Arc<Track<SimFile>>| {
            (0..track.names.len()).all(|name| track.cursor(name) == LEVEL)
        };
        match start.old.iter().all(is_done) {
            true => Verdict::Held,
            false => Verdict::Broken("a log of an earlier start is still needed".to_owned()),
        }
    }
}

impl Account {
    /// A client has heard now that its write was taken; where it is excused, it may be lost all the same.
    fn promise(&self, key: u32, value: u64, now: u64, excused: bool) {
        let mut values = self.values.borrow_mut();
        if excused {
            values.remove(&key);
        } else {
            values.entry(key).or_default().push((value, now));
            self.acknowledged.borrow_mut().insert((key, value), now);
        }
    }

    /// The power has failed: what was promised since then may be lost.
    fn forget_from(&self, since: u64) {
        let is_old = |promised: u64| promised < since;
        self.acknowledged
            .borrow_mut()
            .retain(|_, promised| is_old(*promised));
        for values in self.values.borrow_mut().values_mut() {
            values.retain(|(_, promised)| is_old(*promised));
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap()
}

/// So many values of a client are written before it goes on to other keys: what was wrong once is not put
/// right by what comes later.
const VALUES_OF_A_KEY: u64 = 12;

impl Client {
    /// What it wants to write next: the pending value again, or a new one; at the end one last value for
    /// each key, which nobody refuses.
    fn wish(&self, common: &Common) -> Option<(u32, u64)> {
        if let Some(pending) = self.pending.get() {
            return Some(pending);
        }
        let key = if self.stop.get() {
            // Two last rounds over the keys.
            let done = self.values.get() >> 32;
            if done >= 2 * self.keys.len() as u64 {
                self.is_idle.set(true);
                return None;
            }
            self.values.set(self.values.get() + (1 << 32));
            self.keys[usize::try_from(done).unwrap() % self.keys.len()]
        } else {
            self.keys[usize::try_from(common.dice(self.keys.len() as u64)).unwrap()]
        };
        let mut value = (self.values.get() & 0xffff_ffff) + 1;
        if self.stop.get() && is_poison(value) {
            value += 1;
        }
        self.values.set(self.values.get() >> 32 << 32 | value);
        let key = key + 100 * u32::try_from(value / VALUES_OF_A_KEY).unwrap();
        self.pending.set(Some((key, value)));
        Some((key, value))
    }
}

/// A log of an earlier start, as the archive finds it.
fn reopen((run, shard, disk): &(u64, u32, SimDisk)) -> Option<Arc<Track<SimFile>>> {
    let files = disk.files();
    let mut names = None;
    let mut segments = Vec::new();
    for (name, file) in files.iter().filter(|(name, _)| name.ends_with(".seg")) {
        let contents = file.contents();
        let first = u64::from_str_radix(name.strip_suffix(".seg").unwrap(), 16).unwrap();
        let (mut follows, mut nonce, mut begin) = (first, None, 0);
        if let HeadFound::Head {
            head, records_at, ..
        } = Head::decode(&contents)
            && head.first == first
        {
            (follows, nonce, begin) = (head.follows, Some(head.nonce), records_at as u64);
            names.get_or_insert(head.names);
        }
        segments.push(Arc::new(Segment {
            name: name.clone(),
            first,
            opened: 0,
            follows,
            nonce,
            records_at: begin,
            ends_at: AtomicU64::new(contents.len() as u64),
            file: Arc::new(file.clone()),
        }));
    }
    let names = names?;
    let count = names.len();
    let track = Track::new(*run, *shard, names);
    let saved = files.get(cursors::FILE).map(SimFile::contents);
    let marks = cursors::standing(&saved.unwrap_or_default(), count);
    for (name, mark) in marks.iter().enumerate() {
        track.set_cursor(name, mark.next);
        track.has_had(name, mark.had);
    }
    if marks.iter().all(|mark| mark.next == LEVEL) {
        return None;
    }
    track.segments.store(Arc::new(segments));
    track.end.store(NONE - 1, Ordering::Relaxed);
    if let Some(file) = files.get(cursors::FILE) {
        track.keep_progress_in(&Arc::new(file.clone()));
    }
    Some(Arc::new(track))
}
