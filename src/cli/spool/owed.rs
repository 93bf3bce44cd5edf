//! What is owed in all logs, record by record, in the order in which it would be replayed: run by run,
//! and within a run by the order that all shards share.

use super::look::Log;
use super::walk::{Met, Walk};
use crate::cli::say;
use crate::spool::record::Record;

/// The way through all logs.
pub(super) struct Owed<'a> {
    logs: &'a [Log],
    wanted: Option<&'a str>,
    /// The first log of the next run.
    next: usize,
    /// The logs of this run that have something left.
    streams: Vec<Stream<'a>>,
    /// The one whose record was given last.
    given: Option<usize>,
    /// Places that could not be read.
    damaged: u64,
}

/// One log, standing at a record that is owed.
struct Stream<'a> {
    log: &'a Log,
    walk: Walk,
    order: u64,
}

impl<'a> Owed<'a> {
    /// What is owed to `wanted`, or to anybody.
    pub(super) fn new(logs: &'a [Log], wanted: Option<&'a str>) -> Self {
        Self {
            logs,
            wanted,
            next: 0,
            streams: Vec::new(),
            given: None,
            damaged: 0,
        }
    }

    /// The next record, and its log.
    pub(super) fn next(&mut self) -> Option<(&'a Log, Record<'_>)> {
        if let Some(given) = self.given.take()
            && !self.streams[given].advance(self.wanted, &mut self.damaged)
        {
            self.streams.remove(given);
        }
        while self.streams.is_empty() {
            let run = self.logs.get(self.next)?.run;
            while let Some(log) = self.logs.get(self.next).filter(|log| log.run == run) {
                self.next += 1;
                let mut stream = Stream {
                    log,
                    walk: Walk::new(log, log.owed_from(self.wanted)),
                    order: 0,
                };
                if stream.advance(self.wanted, &mut self.damaged) {
                    self.streams.push(stream);
                }
            }
        }
        let streams = self.streams.iter().enumerate();
        let (oldest, _) = streams.min_by_key(|(_, stream)| (stream.order, stream.log.shard))?;
        self.given = Some(oldest);
        let stream = &self.streams[oldest];
        Some((stream.log, stream.walk.record()?))
    }

    /// Tells the operator of what could not be read.
    pub(super) fn say_damaged(&self) {
        if self.damaged > 0 {
            say::error(format_args!(
                "influxdb-relay spool: {} places are damaged and left out: `spool verify` says where",
                self.damaged
            ));
        }
    }
}

impl Stream<'_> {
    /// Goes on to the next record that is owed; whether there is one.
    fn advance(&mut self, wanted: Option<&str>, damaged: &mut u64) -> bool {
        loop {
            match self.walk.step() {
                Met::End => return false,
                Met::Gap(gap) => *damaged += u64::from(gap.is_damage()),
                Met::Record => {
                    if let Some(record) = self.walk.record()
                        && self.log.is_owed(&record, wanted)
                    {
                        self.order = record.order;
                        return true;
                    }
                }
            }
        }
    }
}
