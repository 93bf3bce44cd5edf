//! One backend's way back: what it is owed, by order, window by window, until it is level.
//!
//! This file decides; `ground` is what it stands on. Nothing here knows a socket or a file.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::backend::backoff::Backoff;
use crate::clock::Moment;
use crate::limits;
use crate::replay::delivery::{Delivery, Obstacle};
use crate::replay::ground::{Corpse, Ground, News};
use crate::replay::hand_over::{self, Held, Patience};
use crate::replay::judge::Judgement;
use crate::replay::queue::{Queue, Whose};
use crate::replay::window::Window;
use crate::replay::window_size::WindowSize;
use crate::spool::board::{self, Board, Desk, Mode};
use crate::spool::track::NONE;

/// What is known of the backend, and what it may be owed.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Its label: how old logs know it.
    pub label: String,
    /// Its place on the board, and among the names of this start's logs.
    pub index: usize,
    /// Bytes of one request.
    pub batch_bytes_max: usize,
    /// Longest wait between two tries.
    pub wait_max: Duration,
    /// Bytes that it may be owed; what is older goes, if that is what gives way.
    pub owed_bytes_max: Option<u64>,
    /// How long something may be owed.
    pub age_max: Duration,
    /// Bytes per second; 0 is as fast as it takes them.
    pub bytes_per_second: u64,
    /// So often a record may fail alone before it is set aside, if the backend takes others,
    pub poison_attempts: u32,
    /// and for so long.
    pub poison_after: Duration,
}

/// One backend's way back.
pub struct CatchUp<'a, G: Ground> {
    ground: &'a G,
    board: &'a Board,
    desk: &'a Desk,
    rules: &'a Rules,
    queue: Queue<'a, G>,
    delivery: Delivery<'a, G>,
    window_size: WindowSize,
    records_max: usize,
    backoff: Backoff,
    blame: Option<Blame>,
    /// It did not answer in time, and may still be at work on what it was sent.
    haunted: bool,
    stuck: bool,
    flushes: u64,
    trimmed: Moment,
}

/// A record that fails alone.
struct Blame {
    record: (u64, u32, u64),
    since: Moment,
    attempts: u32,
}

/// Brings the backend level whenever it is owed anything. One task per backend, for ever.
pub async fn run<G: Ground>(ground: &G, board: &Board, rules: &Rules) {
    let desk = &board.desks[rules.index];
    let mut patience = Patience::default();
    loop {
        ground.while_live().await;
        if desk.state().mode() == Mode::Live {
            continue;
        }
        ground.say(News::Owing);
        let flushes = desk.flushes.load(Ordering::Acquire);
        let from_order = quiet(ground, desk).await;
        let whose = Whose {
            label: &rules.label,
            index: rules.index,
            batch_bytes_max: rules.batch_bytes_max,
            from_order,
        };
        let mut catch_up = CatchUp {
            ground,
            board,
            desk,
            rules,
            queue: Queue::new(ground, desk, whose),
            delivery: Delivery { ground, desk },
            window_size: WindowSize::new(rules.batch_bytes_max),
            records_max: limits::WINDOW_RECORDS_MAX,
            backoff: Backoff::new(limits::REPLAY_WAIT_MIN, rules.wait_max, ground.dice()),
            blame: None,
            haunted: true,
            stuck: false,
            flushes,
            trimmed: Moment(0),
        };
        catch_up.all(&mut patience).await;
        ground.say(News::Level);
    }
}

/// Waits until no shard has a send under way; the order of the oldest write that the backend lacks.
async fn quiet<G: Ground>(ground: &G, desk: &Desk) -> u64 {
    let state = desk.state().number();
    while desk.rows.iter().any(|row| row.quiet.get() != state) {
        ground.rest(limits::QUIET_LOOK).await;
    }
    let missed = desk.rows.iter().map(|row| row.missed_from.get());
    // What joins the tail later has a later order than the write that began it. If no shard knows of
    // one, what is owed is from earlier starts, and nothing of this one may be passed over.
    missed.min().filter(|&order| order != NONE).unwrap_or(0)
}

impl<G: Ground> CatchUp<'_, G> {
    async fn all(&mut self, patience: &mut Patience) {
        loop {
            self.housekeep().await;
            if !self.ground.is_up() {
                self.haunted = true;
                self.backoff.reset();
                self.ground.rest(limits::REPLAY_LOOK).await;
                continue;
            }
            if std::mem::take(&mut self.haunted) {
                self.ground.rest(limits::GHOST_WAIT).await;
            }
            let bounds = self.queue.bounds();
            let (window, is_all) = self
                .queue
                .gather(&bounds, self.window_size.bytes(), self.records_max)
                .await;
            if !window.is_empty() && !self.advance(&window, is_all).await {
                continue;
            }
            if !is_all {
                continue;
            }
            if !self.queue.is_of_this_start() {
                self.queue.finish_run();
            } else if self.ground.is_up_everywhere() && patience.is_over(self.ground.now()) {
                let (index, board) = (self.rules.index, self.board);
                let queue = &mut self.queue;
                let held = hand_over::run(board, index, queue, &self.delivery, patience).await;
                match held {
                    Held::Live => return,
                    Held::NotYet => {}
                    Held::TimedOut => self.haunted = true,
                }
                self.queue.rewind();
            } else {
                self.ground.rest(limits::HAND_OVER_WAIT_MIN).await;
            }
        }
    }

    /// Sends a window and moves the cursors behind it; whether it was delivered. If not, what is wrong
    /// has been met.
    async fn advance(&mut self, window: &Window, is_all: bool) -> bool {
        match self.attempt(window, is_all).await {
            Ok(()) => {
                self.pay(window.bytes).await;
                true
            }
            Err(obstacle) => {
                self.meet(window, obstacle).await;
                self.queue.rewind();
                false
            }
        }
    }

    /// Sends a window and moves the cursors behind it. Waits for nothing but answers.
    async fn attempt(&mut self, window: &Window, is_all: bool) -> Result<(), Obstacle> {
        let begun = self.ground.now();
        self.delivery.deliver(window).await?;
        self.desk.replayed.add(window.records as u64);
        self.queue.settle(window.records, window.bytes);
        self.backoff.reset();
        (self.blame, self.stuck) = (None, false);
        self.adapt(window, is_all, self.ground.now().since(begun));
        Ok(())
    }

    /// What could not be delivered is tried again later, in smaller windows; what always fails alone,
    /// while others are taken, is set aside.
    async fn meet(&mut self, window: &Window, obstacle: Obstacle) {
        self.haunted |= obstacle.timed_out;
        if obstacle.timed_out {
            self.window_size.timed_out();
        }
        if !std::mem::replace(&mut self.stuck, true) {
            self.ground.say(News::Stuck(obstacle.words.clone()));
        }
        if obstacle.counts {
            self.records_max = (window.records / limits::WINDOW_NARROWS_BY).max(1);
            if window.records == 1 && self.is_to_blame(window) && self.others_are_taken().await {
                // The backend may have healed just now: then this one is taken too.
                match self.attempt(window, false).await {
                    Ok(()) => return,
                    Err(again) if again.counts => return self.condemn(window, &again).await,
                    Err(_) => {}
                }
            }
        }
        let wait = self.backoff.wait();
        self.pause(
            obstacle
                .wait
                .map_or(wait, |asked| asked.max(limits::REPLAY_WAIT_MIN)),
        )
        .await;
    }

    /// Counts a failure against the record that was sent alone; whether it has failed for long enough.
    fn is_to_blame(&mut self, window: &Window) -> bool {
        let now = self.ground.now();
        let blame = match self.blame.take() {
            Some(blame) if blame.record == window.first => blame,
            _ => Blame {
                record: window.first,
                since: now,
                attempts: 0,
            },
        };
        let attempts = blame.attempts + 1;
        let is_long = now.since(blame.since) >= self.rules.poison_after;
        self.blame = Some(Blame { attempts, ..blame });
        attempts >= self.rules.poison_attempts && is_long
    }

    /// Whether the backend takes any of the records behind the one that fails. They are sent again in
    /// their turn, so nothing newer stays below something older.
    async fn others_are_taken(&mut self) -> bool {
        let here = self.queue.place();
        let mut taken = false;
        for _ in 0..limits::CANARIES_MAX {
            let bounds = self.queue.bounds();
            let (window, _) = self.queue.gather(&bounds, 1, 1).await;
            let Some(group) = window.groups.first() else {
                break;
            };
            if let (Judgement::Delivered | Judgement::Partly, _) =
                self.delivery.send(group, &group.headers, &group.body).await
            {
                taken = true;
                break;
            }
        }
        self.queue.come_back(here);
        taken
    }

    async fn condemn(&mut self, window: &Window, obstacle: &Obstacle) {
        let corpses = window.groups.iter().map(|group| Corpse {
            status: obstacle.status,
            reason: obstacle.words.clone(),
            kind: group.kind,
            query: group.query.clone(),
            body: group.body.clone(),
        });
        self.delivery.bury(corpses.collect()).await;
        self.queue.settle(window.records, window.bytes);
        self.backoff.reset();
        self.blame = None;
    }

    // ---- Accounts ------------------------------------------------------------------------------

    /// Larger windows where they bring more.
    fn adapt(&mut self, window: &Window, is_all: bool, took: Duration) {
        let is_full = !is_all && window.records < self.records_max;
        self.window_size.delivered(took, is_full);
        if !is_all || window.records >= self.records_max {
            self.records_max = (self.records_max * 2).min(limits::WINDOW_RECORDS_MAX);
        }
    }

    /// Keeps to `replay-rate`.
    async fn pay(&self, bytes: usize) {
        if self.rules.bytes_per_second > 0 {
            let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.rules.bytes_per_second);
            let span = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.ground.rest(span.min(limits::RETRY_AFTER_MAX)).await;
        }
    }

    /// Rests, but not through a change: the backend went down and is up again, or an operator wants
    /// what is owed dropped.
    async fn pause(&mut self, span: Duration) {
        let until = self.ground.now().after(span);
        while self.ground.now() < until
            && self.ground.is_up()
            && self.desk.flushes.load(Ordering::Acquire) == self.flushes
        {
            let left = until.since(self.ground.now());
            self.ground.rest(left.min(limits::REPLAY_LOOK)).await;
        }
    }

    /// Drops what an operator wants dropped, what is too old, and what is too much.
    async fn housekeep(&mut self) {
        let flushes = self.desk.flushes.load(Ordering::Acquire);
        if std::mem::replace(&mut self.flushes, flushes) != flushes {
            let wall_ms = self.ground.wall_ms();
            self.drop_while(board::DROPPED_FLUSH, |_, oldest_ms| oldest_ms <= wall_ms)
                .await;
        }
        let now = self.ground.now();
        if now < self.trimmed {
            return;
        }
        self.trimmed = now.after(limits::TRIM_INTERVAL);
        let age_ms = u64::try_from(self.rules.age_max.as_millis()).unwrap_or(u64::MAX);
        let too_old = self.ground.wall_ms().saturating_sub(age_ms);
        self.drop_while(board::DROPPED_AGE, |_, oldest_ms| oldest_ms < too_old)
            .await;
        if let Some(most) = self.rules.owed_bytes_max {
            self.drop_while(board::DROPPED_FULL, |owed, _| owed > most)
                .await;
        }
    }

    /// Drops records, oldest first, as long as `is_much` holds for what is owed and for when the oldest
    /// was kept.
    async fn drop_while(&mut self, row: usize, is_much: impl Fn(u64, u64) -> bool) {
        let mut dropped = 0;
        loop {
            let bounds = self.queue.bounds();
            let Some(place) = self.queue.first(&bounds).await else {
                if self.queue.is_of_this_start() {
                    break;
                }
                self.queue.finish_run();
                continue;
            };
            let Some((oldest_ms, bytes)) = self.queue.look(place) else {
                break;
            };
            self.desk.oldest_ms.set(oldest_ms);
            if !is_much(self.desk.owed().1, oldest_ms) {
                break;
            }
            self.queue.take(place);
            self.queue.settle(1, bytes);
            dropped += 1;
        }
        if dropped > 0 {
            self.desk.dropped[row].add(dropped);
            self.ground.say(News::Dropped(row, dropped));
        }
    }
}
