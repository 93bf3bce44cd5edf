//! The spool, the board and replay in a world without sockets, files or time, against a model.
//!
//! Property: what was acknowledged reaches every backend, or is dead-lettered with a reason; at the end
//! each key holds its last acknowledged value on every backend; space comes back. Thousands of
//! schedules: backends that die, hang, answer 500, swallow an answer or refuse a line; shards that are
//! killed or lose their power in mid-write; disks that are full.
//!
//! What is simulated is the code that runs: keeper, ledger, log, source, queue, catch-up, hand-over.
//! What is not: fanout's few lines, in `world::write`, and sockets.
//!
//! A failing run prints its seed; `SEED=<n> cargo test --test sim` repeats it, and `SCHEDULES=<n>` runs so
//! many of each kind.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // a test fails by panicking
#![allow(clippy::disallowed_types)] // the simulated disk is shared as a real one is

#[path = "sim/backend.rs"]
mod backend;
#[path = "sim/disk.rs"]
mod disk;
#[path = "sim/ground.rs"]
mod ground;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/world.rs"]
mod world;

use run::{Faults, Plant, Verdict, simulate};

/// Runs `count` schedules, or the one of the environment; the seeds that failed, with the reason.
fn failures(count: u64, faults: Faults, plant: Plant) -> Vec<(u64, String)> {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..count,
    };
    let run = |seed| match simulate(seed, faults, plant) {
        Verdict::Held => None,
        Verdict::Broken(why) => Some((seed, why)),
    };
    seeds.filter_map(run).collect()
}

fn holds(count: u64, faults: Faults) {
    let count = match std::env::var("SCHEDULES") {
        Ok(count) => count.parse().unwrap(),
        Err(_) => count,
    };
    let failures = failures(count, faults, Plant::Nothing);
    if let Some((seed, why)) = failures.first() {
        panic!(
            "{} of {count} schedules; SEED={seed}: {why}",
            failures.len()
        );
    }
}

#[test]
fn backends_fail_in_every_way() {
    holds(700, Faults::BACKENDS);
}

#[test]
fn shards_are_killed() {
    holds(500, Faults::KILLS);
}

#[test]
fn the_power_fails() {
    holds(500, Faults::POWER);
}

#[test]
fn disks_are_full_and_recover() {
    holds(300, Faults::DISKS);
}

#[test]
fn everything_at_once() {
    holds(600, Faults::ALL);
}

/// So many schedules are searched for a planted bug; the search ends with the first that finds it.
const SEARCHED: u64 = 1000;

/// A simulation is worth what its faults are worth: each planted bug must be seen.
fn is_found(plant: Plant, faults: Faults) {
    if std::env::var("SEED").is_ok() {
        return; // one schedule is asked for
    }
    let is_broken = |seed| matches!(simulate(seed, faults, plant), Verdict::Broken(_));
    assert!(
        (0..SEARCHED).any(is_broken),
        "{plant:?} was planted, and none of {SEARCHED} schedules found it"
    );
}

#[test]
fn a_missing_checksum_is_found() {
    is_found(Plant::NoChecksum, Faults::ROT);
}

#[test]
fn a_cursor_saved_before_the_send_is_found() {
    is_found(Plant::CursorBeforeSend, Faults::ALL);
}

#[test]
fn a_barrier_that_is_off_by_one_is_found() {
    is_found(Plant::TailOffByOne, Faults::BACKENDS);
}

#[test]
fn logs_that_are_not_merged_by_order_are_found() {
    is_found(Plant::NoOrder, Faults::BACKENDS);
}

#[test]
fn logs_that_forget_what_the_others_know_are_found() {
    is_found(Plant::EachLogAlone, Faults::KILLS);
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    is_found(Plant::NoSync, Faults::POWER);
}

#[test]
fn an_acknowledgement_before_the_flush_is_found() {
    is_found(Plant::AnswerBeforeFlush, Faults::KILLS);
}

#[test]
fn an_acceptance_before_the_answer_is_found() {
    is_found(Plant::AcceptedBeforeAnswer, Faults::KILLS);
}

/// What a backend that is owing misses because the flush fails is lost, so it is counted: the write that
/// met the failure as well as those behind it.
#[test]
fn what_a_failed_flush_loses_is_counted() {
    use influxdb_relay::plan::{BackendId, WhenFull};
    use influxdb_relay::spool::{board, door, keeper, log, record, track};
    use std::sync::Arc;
    let board = Arc::new(board::Board::new(2, 1, 1, Box::new(|| {})));
    assert!(board.desks[1].owe());
    let names = vec!["a".to_owned(), "b".to_owned()];
    let disk = disk::SimDisk::default();
    let log = log::Log::new(disk.clone(), Arc::new(track::Track::new(1, 0, names)), 2048);
    let rules = door::Rules {
        when_full: WhenFull::DropOldest,
        sync_first: false,
        lasting: false,
        power_loss_max: None,
        write_through_bytes: usize::MAX,
    };
    let output = |b| door::Output {
        id: BackendId(b),
        takes: u8::MAX,
        kept: true,
    };
    let outputs = [output(0), output(1)];
    let doors = vec![door::Door::new(&outputs, door::Keep::Accepted)];
    let keeper = keeper::Keeper::new(0, Arc::clone(&board), doors, &[1 << 20; 2], rules, log);
    let parts = record::Parts {
        kind: 0,
        joinable: true,
        targets: &[],
        query: b"db=x",
        headers: b"",
        authorization: b"",
        body: b"k1 v=1\n",
    };
    disk.set_failing(true);
    for _ in 0..3 {
        keeper.keep(0, 0, &parts, || (1, 1));
        keeper.flush(1, 1);
    }
    let unkept = [0, 1].map(|backend: usize| board.desks[backend].rows[0].unkept.get());
    assert_eq!(unkept, [0, 3]);
}
