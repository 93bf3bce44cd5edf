//! Words for operators: one line per change of state, written by a thread of its own.
//!
//! Each shard has its own view of a backend; the operator hears once that it is down, from the first
//! shard that sees it, and once that it is up, when the last shard does.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

use crate::boot::event_words::{is_down, is_up, refuses, say};
use crate::boot::log_sink::{self, Lines};
use crate::boot::reminders::{Outage, Reminders};
use crate::boot::repeats::Repeats;
use crate::boot::{StartError, helper};
use crate::clock::Clock;
use crate::events::{Event, Told};
use crate::limits;
use crate::plan::{LogFormat, LogLevel, LogPlan};
use crate::shard::World;
use crate::spool::board::Mode;

/// Starts the thread that writes to stderr. Once per process, before [`open`].
pub fn start_sink() {
    log_sink::open();
}

/// Writes plain words to stderr, behind the lines so far. Never waits.
pub fn write_plain(words: &str) {
    log_sink::push(format!("{words}\n").into_bytes());
}

/// Waits, for a bounded time, until what was logged is written. Before the process ends.
pub fn flush() {
    log_sink::flush();
}

/// Sends what is logged to stderr, panics too. Once per process.
pub fn open(plan: LogPlan) {
    let level = match plan.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let lines = fmt()
        .with_max_level(level)
        .with_writer(Lines)
        .with_target(false)
        .log_internal_errors(false); // they would go to stderr past the sink
    match plan.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(log_panic));
}

/// Logs a panic: the standard hook writes to stderr itself, and would wait for a reader that is stuck.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let words = panic.payload_as_str().unwrap_or("a panic without words");
    let place = panic.location().map(ToString::to_string);
    let place = place.unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => {
            tracing::error!(thread, place, %backtrace, "panicked: {words}");
        }
        _ => tracing::error!(thread, place, "panicked: {words}"),
    }
    if thread == "main" {
        flush(); // the process ends
    }
}

/// Starts the thread that makes words of events. `in_force` is the plan by which their numbers count.
pub(super) fn start(
    in_force: &Arc<ArcSwap<World>>,
    queue: Receiver<Told>,
) -> Result<(), StartError> {
    let in_force = Arc::clone(in_force);
    helper("log", move || {
        let clock = Clock::default();
        let (mut repeats, mut reminders) = (Repeats::default(), Reminders::default());
        let mut known = Known::new(in_force.load_full());
        loop {
            let told = match repeats.is_quiet() && reminders.is_empty() {
                true => queue.recv().map_err(RecvTimeoutError::from),
                false => queue.recv_timeout(limits::REPEAT_LOOK),
            };
            if told == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            clock.read();
            repeats
                .due(clock.now())
                .into_iter()
                .for_each(|event| known.hear(event));
            for (label, outage, lasting) in reminders.look(known.outages(), clock.now()) {
                known.remind(&label, outage, lasting);
            }
            let Ok(told) = told else { continue };
            if told.generation > known.world.generation {
                known = known.succeeded(in_force.load_full());
                repeats = Repeats::default(); // its numbers count by the older plan
            }
            // What is left of an older plan is nobody's news.
            if told.generation == known.world.generation
                && let Some(event) = repeats.heard(told.event, clock.now())
            {
                known.hear(event);
            }
        }
    })
}

/// What was told, and not yet taken back.
struct Known {
    world: Arc<World>,
    down: Vec<Vec<bool>>,
    /// Per backend: the shards whose writes it refuses, and how many it has refused to those that are over.
    refusing: Vec<(Vec<bool>, u64)>,
    /// Which backends cannot be connected to for want of something of this machine's.
    troubled: Vec<Vec<bool>>,
    failing: Vec<bool>,
    datagrams: Datagrams,
}

impl Known {
    fn new(world: Arc<World>) -> Self {
        Self {
            down: vec![vec![false; world.plan.cpus.len()]; world.plan.backends.len()],
            refusing: vec![(vec![false; world.plan.cpus.len()], 0); world.plan.backends.len()],
            troubled: vec![vec![false; world.plan.cpus.len()]; world.plan.backends.len()],
            failing: vec![false; world.plan.cpus.len()],
            datagrams: Datagrams::new(&world),
            world,
        }
    }

    /// What is known when another plan comes into force: who is down, and that disks fail.
    fn succeeded(self, world: Arc<World>) -> Self {
        let mut next = Self::new(world);
        for (plan, down) in next.world.plan.backends.iter().zip(&mut next.down) {
            if let Some(place) = self.world.same_backend(plan) {
                down.clone_from(&self.down[place]);
            }
        }
        next.failing = self.failing;
        next
    }

    /// What is wrong with backends now.
    fn outages(&self) -> Vec<(String, Outage)> {
        let backends = self.world.plan.backends.iter().enumerate();
        let outages = backends.flat_map(|(b, plan)| {
            let is_owing = self.world.spool.as_ref().is_some_and(|spool| {
                plan.owed_bytes_max > 0 && spool.board.desks[b].state().mode() != Mode::Live
            });
            let wrong = [
                (Outage::Down, self.down[b].contains(&true)),
                (Outage::Refusing, self.refusing[b].0.contains(&true)),
                (Outage::Owing, is_owing),
            ];
            let wrong = wrong.into_iter().filter(|(_, is_so)| *is_so);
            wrong.map(|(outage, _)| (plan.label.clone(), outage))
        });
        outages.collect()
    }

    /// An outage has lasted for long.
    fn remind(&self, label: &str, outage: Outage, lasting: Duration) {
        let Some(place) = self.world.place_of(label) else {
            return;
        };
        let minutes = lasting.as_secs() / 60;
        let error = self.world.backends[place].last_error.load_full();
        let why = error.map_or_else(String::new, |error| error.words.clone());
        let (records, bytes) = match &self.world.spool {
            Some(spool) => spool.board.desks[place].owed(),
            None => (0, 0),
        };
        let words = match outage {
            Outage::Down => "backend is still down",
            Outage::Refusing => "backend still takes no writes",
            Outage::Owing => "backend is still owed writes",
        };
        tracing::warn!(
            backend = label,
            minutes,
            owed_records = records,
            owed_bytes = bytes,
            why,
            "{words}"
        );
    }

    fn hear(&mut self, event: Event) {
        let world = &self.world;
        match event {
            Event::OutputDown { .. } | Event::OutputUp { .. } | Event::UdpLoss { .. } => {
                self.datagrams.say(world, event);
            }
            Event::SpoolFailed { shard, why } => {
                if begins(&mut self.failing, shard) {
                    tracing::error!(
                        why,
                        "the spool's disk takes nothing: writes go on, and what a backend misses is lost until \
                         it does; free space or repair it, no restart is needed"
                    );
                }
            }
            Event::SpoolRecovered { shard } => {
                if ends(&mut self.failing, shard) {
                    tracing::info!("the spool's disk takes writes again");
                }
            }
            other => self.hear_of_backend(other),
        }
    }

    /// What each shard sees of a backend, told once for all; and what nobody keeps account of.
    fn hear_of_backend(&mut self, event: Event) {
        let world = &self.world;
        match event {
            Event::BackendDown {
                shard,
                backend,
                why,
            } => {
                if begins(&mut self.down[backend.0], shard) {
                    is_down(world, backend, &why);
                }
            }
            Event::BackendUp { shard, backend } => {
                if ends(&mut self.down[backend.0], shard) {
                    is_up(world, backend);
                }
            }
            Event::BackendRefuses {
                shard,
                backend,
                why,
            } => {
                if begins(&mut self.refusing[backend.0].0, shard) {
                    refuses(world, backend, &why);
                }
            }
            Event::BackendTakes {
                shard,
                backend,
                refused,
            } => {
                let (shards, sum) = &mut self.refusing[backend.0];
                *sum += refused;
                if ends(shards, shard) {
                    let refused = std::mem::take(sum);
                    let backend = &world.plan.backends[backend.0].label;
                    tracing::info!(%backend, refused, "backend takes writes again");
                }
            }
            Event::OwnTrouble {
                shard,
                backend,
                why,
            } => {
                if begins(&mut self.troubled[backend.0], shard) {
                    let backend = &world.plan.backends[backend.0].label;
                    tracing::error!(
                        %backend,
                        why,
                        "this machine lacks what a new connection needs: the backend is not to blame, and the \
                         connections that there are go on"
                    );
                }
            }
            Event::OwnTroubleOver { shard, backend } => {
                if ends(&mut self.troubled[backend.0], shard) {
                    let backend = &world.plan.backends[backend.0].label;
                    tracing::info!(%backend, "backend can be connected to again");
                }
            }
            other => say(world, &other),
        }
    }
}

/// What is wrong with UDP, as each shard sees it: told by the first that does, and by the last.
struct Datagrams {
    down: Vec<Vec<bool>>,
    losing: Vec<Vec<bool>>,
    lost: Vec<u64>,
}

impl Datagrams {
    fn new(world: &World) -> Self {
        let per_shard = vec![false; world.plan.cpus.len()];
        Self {
            down: vec![per_shard.clone(); world.plan.outputs.len()],
            losing: vec![per_shard; world.plan.udp.len()],
            lost: vec![0; world.plan.udp.len()],
        }
    }

    fn say(&mut self, world: &World, event: Event) {
        match event {
            Event::OutputDown { shard, output, why } if begins(&mut self.down[output.0], shard) => {
                let label = &world.plan.outputs[output.0].label;
                tracing::warn!(output = %label, why, "output does not take datagrams: they are lost for it");
            }
            Event::OutputUp { shard, output } if ends(&mut self.down[output.0], shard) => {
                let label = &world.plan.outputs[output.0].label;
                tracing::info!(output = %label, "output has refused nothing for a moment");
            }
            Event::UdpLoss { shard, door, lost } => {
                let listener = &world.plan.udp[door].name;
                match lost {
                    None if begins(&mut self.losing[door], shard) => tracing::warn!(
                        %listener,
                        "the kernel drops datagrams, since they come faster than they are taken: raise read-buffer, or \
                         give the relay more cpus"
                    ),
                    None => {}
                    Some(lost) => {
                        self.lost[door] += lost;
                        if ends(&mut self.losing[door], shard) {
                            let lost = std::mem::take(&mut self.lost[door]);
                            tracing::info!(%listener, lost, "the kernel drops no datagrams any more");
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

/// Marks a shard; whether it is the first.
fn begins(marks: &mut [bool], shard: usize) -> bool {
    let is_first = marks.iter().all(|mark| !mark);
    marks[shard] = true;
    is_first
}

/// Unmarks a shard; whether it was the last.
fn ends(marks: &mut [bool], shard: usize) -> bool {
    std::mem::replace(&mut marks[shard], false) && marks.iter().all(|mark| !mark)
}
