//! Where a start resumes: what each backend lacks of the runs before, by what their records say.
//!
//! Marks are saved ten times a second, so after a kill they are a moment old. The records behind them know
//! better: each says which of its targets have accepted it, and that was on file before its client heard. Of a
//! run a backend lacks nothing, or it lacks everything from the oldest record on that it has not accepted:
//! older ones are not sent again, and newer ones are, also those that it has, so that it ends with the newest.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::limits;
use crate::spool::disk::DiskFile;
use crate::spool::source::{Bound, Source, Step, Want};
use crate::spool::track::{LEVEL, Track};

/// The oldest record that a backend lacks, as far as the records say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lacks {
    /// None: it has accepted everything.
    Nothing,
    /// That of this order.
    From(u64),
    /// Records are damaged or cannot be read: the marks decide.
    Unknown,
}

impl Lacks {
    /// Of two logs of one run.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Nothing, lacks) | (lacks, Self::Nothing) => lacks,
            (Self::From(one), Self::From(two)) => Self::From(one.min(two)),
        }
    }
}

/// Moves each backend on to the oldest record of each run that it has not accepted. Waits for the disk. Once per
/// start, after the marks of all logs were read; logs that are written to no more.
pub fn resume<F: DiskFile>(tracks: &[&Arc<Track<F>>]) {
    let mut lacking: BTreeMap<(u64, &str), Lacks> = BTreeMap::new();
    for track in tracks {
        for (name, label) in track.names.iter().enumerate() {
            if track.cursor(name) != LEVEL {
                let lacks = lacking.entry((track.run, label)).or_insert(Lacks::Nothing);
                *lacks = lacks.and(lacks_in(track, name));
            }
        }
    }
    for track in tracks {
        for (name, label) in track.names.iter().enumerate() {
            match lacking.get(&(track.run, label.as_str())) {
                Some(Lacks::Nothing) => track.set_cursor(name, LEVEL),
                Some(Lacks::From(order)) => track.resume_at(name, *order),
                Some(Lacks::Unknown) | None => {}
            }
        }
    }
}

/// What a backend lacks of one log, from its cursor on.
fn lacks_in<F: DiskFile>(track: &Arc<Track<F>>, name: usize) -> Lacks {
    let mut source = Source::new(
        Arc::clone(track),
        name,
        track.cursor(name),
        track.from_order(name),
    );
    loop {
        match source.step(Bound::ALL) {
            Step::Empty if source.take_damaged() > 0 => return Lacks::Unknown,
            Step::Empty => return Lacks::Nothing,
            Step::Want(want) => match read(&want) {
                Ok(bytes) => source.fill(&want, &bytes),
                Err(_) => return Lacks::Unknown,
            },
            Step::Ready => {
                let Some(record) = source.record() else {
                    return Lacks::Unknown;
                };
                if record.is_lacked_by(name) {
                    let order = record.order;
                    return match source.take_damaged() {
                        0 => Lacks::From(order),
                        _ => Lacks::Unknown,
                    };
                }
                source.take();
            }
        }
    }
}

/// Reads what is wanted, or what there is of it: a damaged length may claim anything, so memory grows with what was
/// read.
fn read<F: DiskFile>(want: &Want<F>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < want.bytes {
        let filled = bytes.len();
        let more = (want.bytes - filled).min(limits::SPOOL_READ_BYTES);
        bytes.resize(filled + more, 0);
        let at = want.at + filled as u64;
        let count = want.segment.file.read_at(&mut bytes[filled..], at)?;
        bytes.truncate(filled + count);
        if count == 0 {
            break;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::rc::Rc;
    use std::sync::Arc;

    use crate::plan::{BackendId, WhenFull};
    use crate::spool::archive::{Archive, log_folder};
    use crate::spool::board::Board;
    use crate::spool::disk::Place;
    use crate::spool::door::{Door, Keep, Kept, Output, Rules};
    use crate::spool::keeper::Keeper;
    use crate::spool::ledger::Heard;
    use crate::spool::log::Log;
    use crate::spool::record::Parts;
    use crate::spool::track::Track;

    const A: BackendId = BackendId(0);
    const B: BackendId = BackendId(1);

    /// A spool with one log per shard, in a folder of its own, that is never closed in order.
    struct Spool {
        dir: PathBuf,
        shards: Vec<Rc<Keeper<Place>>>,
    }

    impl Spool {
        fn new(name: &str, shards: usize) -> Self {
            let dir = std::env::temp_dir().join(format!("resume-{name}-{}", std::process::id()));
            let _left_behind = std::fs::remove_dir_all(&dir);
            let board = Arc::new(Board::new(2, shards, 1, Box::new(|| {})));
            let shards = (0..shards).map(|shard| {
                let disk = Place::folder(&log_folder(&dir, 1, shard)).unwrap();
                let number = u32::try_from(shard).unwrap();
                let track = Arc::new(Track::new(1, number, vec!["a".into(), "b".into()]));
                let log = Log::new(disk, track, 64 * 1024);
                let output = |id| Output {
                    id,
                    takes: u8::MAX,
                    kept: true,
                };
                let door = Door::new(&[output(A), output(B)], Keep::Accepted);
                let rules = Rules {
                    when_full: WhenFull::DropOldest,
                    sync_first: false,
                    lasting: true,
                    power_loss_max: None,
                    write_through_bytes: usize::MAX,
                };
                Keeper::new(
                    shard,
                    Arc::clone(&board),
                    vec![door],
                    &[u64::MAX; 2],
                    rules,
                    log,
                )
            });
            Self {
                shards: shards.collect(),
                dir,
            }
        }

        /// Keeps a write on a shard, on disk, with this order; its sequence.
        fn keep(&self, shard: usize, order: u64) -> u64 {
            let keeper = &self.shards[shard];
            let parts = Parts {
                kind: 0,
                joinable: true,
                targets: &[],
                query: b"db=x",
                headers: b"",
                authorization: b"",
                body: b"m v=1 1",
            };
            let Kept::As(sequence, _) = keeper.keep(0, 0, &parts, || (order, 0)) else {
                panic!("it is kept");
            };
            keeper.flush(order, 0);
            sequence
        }

        fn heard(&self, shard: usize, sequence: u64, by: &[BackendId]) {
            for &id in by {
                self.shards[shard].heard(sequence, id, Heard::Accepted);
            }
        }

        /// Where a start would resume, per log: whether a backend needs it, and from which order.
        fn found(&self, name: usize) -> Vec<Option<u64>> {
            let archive = Archive::look(&self.dir).unwrap();
            let label = ["a", "b"][name];
            let logs = archive.logs.iter();
            logs.map(|log| log.needs(label).then(|| log.track.from_order(name)))
                .collect()
        }
    }

    impl Drop for Spool {
        fn drop(&mut self) {
            let _gone = std::fs::remove_dir_all(&self.dir);
        }
    }

    #[test]
    fn what_a_backend_has_accepted_is_not_sent_to_it_again() {
        let spool = Spool::new("accepted", 1);
        let first = spool.keep(0, 10);
        spool.heard(0, first, &[A, B]);
        assert_eq!((spool.found(0), spool.found(1)), (vec![None], vec![None]));
        let second = spool.keep(0, 20);
        spool.heard(0, second, &[A]);
        let third = spool.keep(0, 30);
        spool.heard(0, third, &[A, B]);
        assert_eq!(spool.found(0), [None]);
        assert_eq!(spool.found(1), [Some(20)], "and the third after it again");
        spool.heard(0, second, &[B]);
        assert_eq!(spool.found(1), [None]);
    }

    #[test]
    fn what_one_log_lacks_has_all_logs_of_its_run_begin_there() {
        let spool = Spool::new("shards", 2);
        let (old, newer) = (spool.keep(0, 10), spool.keep(1, 20));
        spool.heard(1, newer, &[A, B]);
        spool.heard(0, old, &[B]);
        assert_eq!(spool.found(0), [Some(10), Some(10)]);
        assert_eq!(spool.found(1), [None, None]);
    }

    #[test]
    fn what_a_replay_has_delivered_is_known_after_a_kill() {
        let spool = Spool::new("replay", 1);
        let keeper = &spool.shards[0];
        keeper.board.desks[B.0].owe();
        keeper.look();
        for order in [10, 20, 30] {
            let sequence = spool.keep(0, order);
            spool.heard(0, sequence, &[A]);
        }
        keeper.tick(40); // the file of the cursors is made here
        assert_eq!(spool.found(1), [Some(10)]);
        keeper.track().advance(B.0, 2);
        assert_eq!(spool.found(1), [Some(30)], "without another tick");
    }
}
