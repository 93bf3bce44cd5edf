//! What one backend is owed, by order: the logs of earlier starts, run by run, then those of this one.

use std::sync::Arc;

use futures_lite::future::yield_now;

use crate::limits;
use crate::replay::ground::{Ground, News};
use crate::replay::window::Window;
use crate::spool::board::Desk;
use crate::spool::source::{Bound, Source, Step};
use crate::spool::track::LEVEL;

/// What one backend is owed.
pub struct Queue<'a, G: Ground> {
    ground: &'a G,
    desk: &'a Desk,
    label: &'a str,
    index: usize,
    batch_bytes_max: usize,
    /// What the backend has from this start's logs: everything older.
    from_order: u64,
    /// Logs that are still to be read, run by run; the one that is read now is the last.
    runs: Vec<Vec<Source<G::File>>>,
}

/// Who the backend is to the logs, and what is read for it.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// Its label: how old logs know it.
    pub label: &'a str,
    /// Its place among the names of this start's logs.
    pub index: usize,
    /// Bytes of one request.
    pub batch_bytes_max: usize,
    /// What it has from this start's logs: everything older.
    pub from_order: u64,
}

impl<'a, G: Ground> Queue<'a, G> {
    /// From where the cursors stand.
    pub fn new(ground: &'a G, desk: &'a Desk, whose: Whose<'a>) -> Self {
        let mut queue = Self {
            ground,
            desk,
            label: whose.label,
            index: whose.index,
            batch_bytes_max: whose.batch_bytes_max,
            from_order: whose.from_order,
            runs: Vec::new(),
        };
        queue.rewind();
        queue
    }

    /// Bytes of one request.
    pub fn batch_bytes_max(&self) -> usize {
        self.batch_bytes_max
    }

    /// Whether only this start's logs are left.
    pub fn is_of_this_start(&self) -> bool {
        self.runs.len() == 1
    }

    /// Begins where the cursors stand.
    pub fn rewind(&mut self) {
        self.runs.clear();
        for track in self.ground.old_logs() {
            let Some(name) = track.place_of(self.label) else {
                continue;
            };
            let next = track.cursor(name);
            if next == LEVEL {
                continue;
            }
            let from_order = track.from_order(name);
            let source = Source::new(track, name, next, from_order);
            match self.runs.last_mut() {
                Some(run) if run[0].track.run == source.track.run => run.push(source),
                _ => self.runs.push(vec![source]),
            }
        }
        let index = self.index;
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
    pub fn finish_run(&mut self) {
        for source in self.runs.pop().into_iter().flatten() {
            source.finish();
        }
    }

    /// How far each log may be read now; see the argument in `mod.rs`.
    pub fn bounds(&self) -> Vec<Bound> {
        if self.runs.len() > 1 {
            let count = self.runs.last().map_or(0, Vec::len);
            return vec![Bound::ALL; count];
        }
        let now = self.ground.now().0;
        let ends: Vec<u64> = self.ground.logs().iter().map(|log| log.end()).collect();
        self.bounds_below(&ends, now)
    }

    /// The same below these ends and the order `cut`.
    pub fn bounds_below(&self, ends: &[u64], cut: u64) -> Vec<Bound> {
        let logs = self.ground.logs().iter().zip(ends);
        let open = logs.map(|(log, &end)| log.undecided(end)).min();
        let cut = cut.min(open.unwrap_or(cut));
        ends.iter().map(|&end| Bound { end, cut }).collect()
    }

    /// Takes the next records within the bounds, by order; and whether those were all.
    pub async fn gather(
        &mut self,
        bounds: &[Bound],
        bytes_max: usize,
        records_max: usize,
    ) -> (Window, bool) {
        let mut window = Window::default();
        let mut breath = limits::REPLAY_BREATH_BYTES;
        while let Some(place) = self.first(bounds).await {
            let batch_max = self.batch_bytes_max;
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
            if window.bytes > breath {
                breath = window.bytes + limits::REPLAY_BREATH_BYTES;
                yield_now().await; // writes that have come meanwhile go first
            }
        }
        (window, true)
    }

    /// Which log has the next record, by order, within the bounds.
    pub async fn first(&mut self, bounds: &[Bound]) -> Option<usize> {
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

    /// The record that [`Queue::first`] found in this log: when it was kept, and the bytes of its body.
    pub fn look(&self, place: usize) -> Option<(u64, usize)> {
        let source = self.runs.last()?.get(place)?;
        let record = source.record()?;
        Some((record.wall_ms, record.parts.body.len()))
    }

    /// Passes that record.
    pub fn take(&mut self, place: usize) {
        self.sources()[place].take();
    }

    /// What was taken is done with: the cursors move behind it.
    pub fn settle(&mut self, records: usize, bytes: usize) {
        // What was taken was the oldest of all logs of the run; they all know before one of them moves on.
        let had = self.sources().iter().map(Source::taken).max().unwrap_or(0);
        for source in self.sources() {
            source.has_had(had);
        }
        for source in self.sources() {
            source.settle();
        }
        self.desk.settled_records.add(records as u64);
        self.desk.settled_bytes.add(bytes as u64);
    }

    /// Where it stands now, to come back to.
    pub fn place(&mut self) -> Vec<Source<G::File>> {
        self.sources().clone()
    }

    /// Comes back to a place.
    pub fn come_back(&mut self, place: Vec<Source<G::File>>) {
        *self.sources() = place;
    }
}

const _: () = assert!(
    limits::SPOOL_READ_BYTES.is_multiple_of(8),
    "records are aligned"
);
