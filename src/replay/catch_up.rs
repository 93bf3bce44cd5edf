//! One backend's way back: what it is owed, by order, window by window, until it is level.
//!
//! This file decides; `ground` is what it stands on. Nothing here knows a socket or a file.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::backend::backoff::Backoff;
use crate::clock::Moment;
use crate::limits;
use crate::metrics::code_row;
use crate::replay::ground::{Corpse, Ground, News, Request};
use crate::replay::hand_over::{self, Patience};
use crate::replay::judge::{Judgement, Sent, judge};
use crate::replay::poison::Halving;
use crate::replay::window::{Group, Window};
use crate::spool::board::{self, Board, Desk, Mode};
use crate::spool::source::{Bound, Source, Step};
use crate::spool::track::LEVEL;

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
    pub(super) ground: &'a G,
    pub(super) board: &'a Board,
    pub(super) desk: &'a Desk,
    pub(super) rules: &'a Rules,
    /// Logs that are still to be read, run by run; the last are those of this start.
    runs: Vec<Vec<Source<G::File>>>,
    /// What the backend has from this start's logs: everything older.
    from_order: u64,
    window_bytes: usize,
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

/// Why a window was not delivered.
struct Obstacle {
    counts: bool,
    timed_out: bool,
    status: u16,
    words: String,
    wait: Option<Duration>,
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
        let mut catch_up = CatchUp {
            ground,
            board,
            desk,
            rules,
            runs: Vec::new(),
            from_order,
            window_bytes: limits::WINDOW_BYTES_FIRST.min(rules.batch_bytes_max),
            records_max: limits::WINDOW_RECORDS_MAX,
            backoff: Backoff::new(limits::REPLAY_WAIT_MIN, rules.wait_max, ground.dice()),
            blame: None,
            haunted: !ground.is_up(),
            stuck: false,
            flushes,
            trimmed: Moment(0),
        };
        catch_up.rewind();
        catch_up.all(&mut patience).await;
        ground.say(News::Level);
    }
}

/// Waits until no shard has a send under way; the order of the oldest write that the backend lacks.
async fn quiet<G: Ground>(ground: &G, desk: &Desk) -> u64 {
    let state = desk.state().number();
    while desk.rows.iter().any(|row| row.quiet.get() != state) {
        ground.rest(limits::TICK / 10).await;
    }
    let missed = desk.rows.iter().map(|row| row.missed_from.get());
    missed.min().unwrap_or(0)
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
            let bounds = self.bounds();
            let (window, is_all) = self
                .gather(&bounds, self.window_bytes, self.records_max)
                .await;
            if !window.is_empty() && !self.advance(&window, is_all).await {
                continue;
            }
            if !is_all {
                continue;
            }
            if self.runs.len() > 1 {
                self.finish_run();
            } else if patience.is_over(self.ground.now()) {
                if hand_over::run(self, patience).await {
                    return;
                }
                self.rewind();
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
                self.rewind();
                false
            }
        }
    }

    /// Sends a window and moves the cursors behind it. Waits for nothing but answers.
    async fn attempt(&mut self, window: &Window, is_all: bool) -> Result<(), Obstacle> {
        let begun = self.ground.now();
        self.deliver(window).await?;
        self.desk.replayed.add(window.records as u64);
        self.settle(window);
        self.backoff.reset();
        (self.blame, self.stuck) = (None, false);
        self.adapt(window, is_all, self.ground.now().since(begun));
        Ok(())
    }

    /// The same while clients are held; whether it was delivered.
    pub(super) async fn attempt_last(&mut self, window: &Window) -> bool {
        match self.attempt(window, true).await {
            Ok(()) => true,
            Err(obstacle) => {
                self.haunted |= obstacle.timed_out;
                false
            }
        }
    }

    // ---- Reading -------------------------------------------------------------------------------

    /// Begins where the cursors stand.
    fn rewind(&mut self) {
        self.runs.clear();
        for track in self.ground.old_logs() {
            let Some(name) = track
                .names
                .iter()
                .position(|name| *name == self.rules.label)
            else {
                continue;
            };
            let next = track.cursor(name);
            if next == LEVEL {
                continue;
            }
            let source = Source::new(track, name, next, 0);
            match self.runs.last_mut() {
                Some(run) if run[0].track.run == source.track.run => run.push(source),
                _ => self.runs.push(vec![source]),
            }
        }
        let index = self.rules.index;
        let logs = self.ground.logs().iter();
        self.runs.push(
            logs.map(|track| {
                Source::new(
                    Arc::clone(track),
                    index,
                    track.cursor(index),
                    self.from_order,
                )
            })
            .collect(),
        );
        self.runs.reverse(); // the one that is read now is the last
    }

    fn sources(&mut self) -> &mut Vec<Source<G::File>> {
        self.runs
            .last_mut()
            .expect("this start's logs are always there")
    }

    /// An old run has been read to its end: nothing of it is needed for this backend.
    fn finish_run(&mut self) {
        for source in self.runs.pop().into_iter().flatten() {
            source.finish();
        }
    }

    /// How far each log may be read now; see the argument in `mod.rs`.
    fn bounds(&self) -> Vec<Bound> {
        if self.runs.len() > 1 {
            let count = self.runs.last().map_or(0, Vec::len);
            return vec![Bound::ALL; count];
        }
        let now = self.ground.now().0;
        let ends: Vec<u64> = self.ground.logs().iter().map(|log| log.end()).collect();
        self.bounds_below(&ends, now)
    }

    /// The same below these ends and the order `cut`.
    pub(super) fn bounds_below(&self, ends: &[u64], cut: u64) -> Vec<Bound> {
        let logs = self.ground.logs().iter().zip(ends);
        let open = logs.map(|(log, &end)| log.undecided(end)).min();
        let cut = cut.min(open.unwrap_or(cut));
        ends.iter().map(|&end| Bound { end, cut }).collect()
    }

    /// Takes the next records within the bounds, by order; and whether those were all.
    pub(super) async fn gather(
        &mut self,
        bounds: &[Bound],
        bytes_max: usize,
        records_max: usize,
    ) -> (Window, bool) {
        let mut window = Window::default();
        while let Some(place) = self.first(bounds).await {
            let batch_max = self.rules.batch_bytes_max;
            let source = &mut self.sources()[place];
            let Some(record) = source.record() else {
                return (window, false);
            };
            if window.records >= records_max || window.is_full(record.parts.body.len(), bytes_max) {
                return (window, false);
            }
            if window.is_empty() {
                window.first = (source.track.run, source.track.shard, record.sequence);
            }
            window.add(&record, batch_max);
            source.take();
        }
        (window, true)
    }

    /// Which log has the next record, by order, within the bounds.
    async fn first(&mut self, bounds: &[Bound]) -> Option<usize> {
        let mut first: Option<(usize, u64)> = None;
        for (place, &bound) in bounds.iter().enumerate() {
            let order = self.ready(place, bound).await;
            first = match (first, order) {
                (Some(first), Some(order)) if order >= first.1 => Some(first),
                (first, None) => first,
                (_, Some(order)) => Some((place, order)),
            };
        }
        first.map(|first| first.0)
    }

    /// The order of the next record of one log within the bound, which is read until there is one.
    async fn ready(&mut self, place: usize, bound: Bound) -> Option<u64> {
        let ground = self.ground;
        loop {
            let source = &mut self.sources()[place];
            match source.step(bound) {
                Step::Ready => {
                    let order = source.record().map(|record| record.order);
                    return order.filter(|&order| order < bound.cut);
                }
                Step::Empty => break,
                Step::Want(want) => match ground.read(&want).await {
                    Ok(bytes) => source.fill(&want, &bytes),
                    Err(_) => source.unreadable(&want),
                },
            }
        }
        let damaged = self.sources()[place].take_damaged();
        if damaged > 0 {
            self.desk.damaged.add(damaged);
            self.ground.say(News::Damaged(damaged));
        }
        None
    }

    // ---- Sending -------------------------------------------------------------------------------

    async fn deliver(&mut self, window: &Window) -> Result<(), Obstacle> {
        for group in &window.groups {
            match self.send(group, &group.headers, &group.body).await {
                (Judgement::Delivered, _) => {}
                (Judgement::Poison, sent) => self.set_aside(group, sent).await?,
                (Judgement::Later { counts }, sent) => return Err(Obstacle::of(counts, sent)),
            }
        }
        Ok(())
    }

    async fn send(&self, group: &Group, headers: &[u8], body: &[u8]) -> (Judgement, Sent) {
        let request = Request {
            kind: group.kind,
            query: &group.query,
            headers,
            authorization: &group.authorization,
            body,
        };
        let sent = self.ground.send(request).await;
        (judge(group.kind, &sent), sent)
    }

    /// Halves what was refused until what is wrong stands alone; that is buried, the rest delivered.
    async fn set_aside(&mut self, group: &Group, refused: Sent) -> Result<(), Obstacle> {
        let inflated = group.is_gzip().then(|| self.ground.inflate(&group.body));
        let body = match &inflated {
            None => &group.body,
            Some(Some(body)) => body,
            Some(None) => return self.bury(vec![group.corpse(&group.body, &refused)]).await,
        };
        if !group.has_lines() {
            return self.bury(vec![group.corpse(body, &refused)]).await;
        }
        let mut halving = Halving::new(body);
        let mut dead = Vec::new();
        while let Some(part) = halving.next() {
            let piece = &body[part.start..part.end];
            match self.send(group, b"", piece).await {
                (Judgement::Delivered, _) => halving.taken(),
                (Judgement::Later { counts }, sent) => return Err(Obstacle::of(counts, sent)),
                (Judgement::Poison, sent) => {
                    dead.extend(halving.refused().map(|_| group.corpse(piece, &sent)));
                }
            }
        }
        self.bury(dead).await
    }

    async fn bury(&mut self, dead: Vec<Corpse>) -> Result<(), Obstacle> {
        let Some(first) = dead.first() else {
            return Ok(());
        };
        let (pieces, status, reason) = (dead.len(), first.status, first.reason.clone());
        for corpse in &dead {
            self.desk.dead[code_row(corpse.status)].add(1);
        }
        match self.ground.bury(dead).await {
            Ok(()) => self.ground.say(News::Buried {
                pieces,
                status,
                reason,
            }),
            Err(why) => {
                self.desk.dropped[board::DROPPED_UNLETTERED].add(pieces as u64);
                self.ground.say(News::Unburied(why.to_string()));
            }
        }
        Ok(())
    }

    /// What could not be delivered is tried again later, in smaller windows; what always fails alone,
    /// while others are taken, is set aside.
    async fn meet(&mut self, window: &Window, obstacle: Obstacle) {
        self.haunted |= obstacle.timed_out;
        if !std::mem::replace(&mut self.stuck, true) {
            self.ground.say(News::Stuck(obstacle.words.clone()));
        }
        if obstacle.counts {
            self.records_max = (window.records / limits::WINDOW_NARROWS_BY).max(1);
            if window.records == 1 && self.is_to_blame(window) && self.others_are_taken().await {
                self.condemn(window, &obstacle).await;
                return;
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
        let here: Vec<Source<G::File>> = self.sources().clone();
        let mut taken = false;
        for _ in 0..limits::CANARIES_MAX {
            let bounds = self.bounds();
            let (window, _) = self.gather(&bounds, 1, 1).await;
            let Some(group) = window.groups.first() else {
                break;
            };
            if let (Judgement::Delivered, _) = self.send(group, &group.headers, &group.body).await {
                taken = true;
                break;
            }
        }
        *self.sources() = here;
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
        let corpses = corpses.collect();
        let _never_stands_in_the_way = self.bury(corpses).await;
        self.settle(window);
        self.backoff.reset();
        self.blame = None;
    }

    // ---- Accounts ------------------------------------------------------------------------------

    /// The window is done with: the cursors move behind it.
    fn settle(&mut self, window: &Window) {
        self.passed(window.records, window.bytes);
    }

    fn passed(&mut self, records: usize, bytes: usize) {
        for source in self.sources() {
            source.settle();
        }
        self.desk.settled_records.add(records as u64);
        self.desk.settled_bytes.add(bytes as u64);
    }

    /// Larger windows for a backend that is quick, smaller ones for one that is slow.
    fn adapt(&mut self, window: &Window, is_all: bool, took: Duration) {
        if took > limits::WINDOW_SLOW {
            self.window_bytes = (self.window_bytes / 2).max(limits::WINDOW_BYTES_FIRST / 8);
        } else if took < limits::WINDOW_QUICK && !is_all {
            let most = self.rules.batch_bytes_max;
            self.window_bytes = (self.window_bytes * 2).min(most);
        }
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
            let bounds = self.bounds();
            let Some(place) = self.first(&bounds).await else {
                if self.runs.len() == 1 {
                    break;
                }
                self.finish_run();
                continue;
            };
            let source = &mut self.sources()[place];
            let Some(record) = source.record() else { break };
            let (oldest_ms, bytes) = (record.wall_ms, record.parts.body.len());
            self.desk.oldest_ms.set(oldest_ms);
            if !is_much(self.desk.owed().1, oldest_ms) {
                break;
            }
            self.sources()[place].take();
            self.passed(1, bytes);
            dropped += 1;
        }
        if dropped > 0 {
            self.desk.dropped[row].add(dropped);
            self.ground.say(News::Dropped(row, dropped));
        }
    }
}

impl Obstacle {
    fn of(counts: bool, sent: Sent) -> Self {
        match sent {
            Sent::Answered {
                status,
                reason,
                retry_after,
            } => Self {
                counts,
                timed_out: false,
                status,
                words: format!("it answers {status}: {reason}"),
                wait: retry_after,
            },
            Sent::Died => Self {
                counts,
                timed_out: false,
                status: 0,
                words: "it closes the connection without an answer".to_owned(),
                wait: None,
            },
            Sent::Away { timed_out } => Self {
                counts,
                timed_out,
                status: 0,
                words: "it cannot be reached, or does not answer in time".to_owned(),
                wait: None,
            },
        }
    }
}

impl Group {
    fn corpse(&self, body: &[u8], sent: &Sent) -> Corpse {
        let (status, reason) = match sent {
            Sent::Answered { status, reason, .. } => (*status, reason.clone()),
            Sent::Died | Sent::Away { .. } => (0, String::new()),
        };
        Corpse {
            status,
            reason,
            kind: self.kind,
            query: self.query.clone(),
            body: body.to_vec(),
        }
    }
}
