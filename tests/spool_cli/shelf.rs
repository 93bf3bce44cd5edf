//! A spool in a folder of its own, made as the relay makes it, and the binary run on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use influxdb_relay::spool::archive::log_folder;
use influxdb_relay::spool::cursors::{self, Cursors, Mark};
use influxdb_relay::spool::dead_letter::{DeadLetter, bury};
use influxdb_relay::spool::disk::{Place, PlaceFile};
use influxdb_relay::spool::log::Log;
use influxdb_relay::spool::record::Parts;
use influxdb_relay::spool::track::Track;

/// Bytes of a segment.
pub(super) const SEGMENT: u64 = 64 << 10;

/// A spool's folder; removed at the end.
pub(super) struct Shelf(pub(super) PathBuf);

/// One write.
pub(super) struct Write<'a> {
    pub(super) kind: u8,
    pub(super) joinable: bool,
    pub(super) targets: &'a [u8],
    pub(super) query: &'a str,
    pub(super) headers: &'a str,
    pub(super) body: &'a [u8],
}

pub(super) const A: &[u8] = &[0, 0];
pub(super) const BOTH: &[u8] = &[0, 0, 1, 0];

/// A line for both backends.
pub(super) fn line(body: &str) -> Write<'_> {
    Write {
        kind: 0,
        joinable: true,
        targets: BOTH,
        query: "db=x&precision=s",
        headers: "",
        body: body.as_bytes(),
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

impl Shelf {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("relay-spool-cli-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// A log of backends `a` and `b` whose process was killed. Each write is flushed alone; its order
    /// is the number given with it, its time that many seconds after 1970.
    pub(super) fn log(&self, run: u64, shard: usize, writes: &[(u64, Write<'_>)]) -> PathBuf {
        self.log_of(run, shard, writes, &[])
    }

    /// The same, with some writes refused to their clients.
    pub(super) fn log_of(
        &self,
        run: u64,
        shard: usize,
        writes: &[(u64, Write<'_>)],
        void: &[u64],
    ) -> PathBuf {
        let folder = log_folder(&self.0, run, shard);
        let place = Place::folder(&folder).unwrap();
        let names = vec!["a".to_owned(), "b".to_owned()];
        let track = Arc::new(Track::new(run, u32::try_from(shard).unwrap(), names));
        let mut log = Log::new(place, track, SEGMENT);
        for (sequence, (order, write)) in (0..).zip(writes) {
            let parts = Parts {
                kind: write.kind,
                joinable: write.joinable,
                targets: write.targets,
                query: write.query.as_bytes(),
                headers: write.headers.as_bytes(),
                authorization: b"Basic c2VjcmV0",
                body: write.body,
            };
            log.append(sequence, &parts);
            let mut offset = 0;
            log.flush(sequence, *order, order * 1000, |_, at| offset = at)
                .unwrap();
            if void.contains(&sequence) {
                log.track().void(sequence, offset).unwrap();
            }
        }
        folder
    }

    /// Saves where `a` and `b` stand.
    pub(super) fn cursors(&self, folder: &Path, next: [u64; 2]) {
        let path = folder.join(cursors::FILE);
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .unwrap();
        let marks = next.map(|next| Mark {
            next,
            ..Mark::default()
        });
        let mut cursors = Cursors::new(Arc::new(PlaceFile::from(file)), None);
        cursors.save(&[Mark::default(); 2], 0).unwrap();
        cursors.syncing();
        cursors.synced();
        cursors.save(&marks, 0).unwrap(); // in another place
    }

    /// Buries one letter for `backend`.
    pub(super) fn letter(&self, backend: &str, query: &str, body: &[u8]) {
        let mut letter = DeadLetter {
            time: "2026-01-02T03:04:05.678Z".into(),
            backend: backend.into(),
            status: 400,
            reason: "no good".into(),
            path: "/write".into(),
            query: query.into(),
            body: None,
            base64: None,
        };
        letter.set_body(body);
        bury(&self.0, backend, &[letter]).unwrap();
    }

    /// Runs `influxdb-relay spool VERB --dir DIR …`.
    pub(super) fn run(&self, verb: &str, args: &[&str]) -> Said {
        let mut command = self.command(verb, args);
        Said::of(&command.output().unwrap())
    }

    pub(super) fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"));
        command.args(["spool", verb, "--dir"]).arg(&self.0);
        command.args(args);
        command
    }

    /// The names and bytes of all files.
    pub(super) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            found.push((folder.clone(), Vec::new()));
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push((path.clone(), fs::read(path).unwrap())),
                }
            }
        }
        found.sort();
        found
    }
}

/// What a run has said.
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
    pub(super) bytes: Vec<u8>,
}

impl Said {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            bytes: output.stdout.clone(),
        }
    }

    /// The output, of a run that went well and said nothing else.
    #[track_caller]
    pub(super) fn well(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }
}

/// The segments of a log, oldest first.
pub(super) fn segments(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .collect();
    paths.sort();
    paths
}

/// Where `needle` stands in a file.
pub(super) fn find(path: &Path, needle: &[u8]) -> usize {
    let bytes = fs::read(path).unwrap();
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap()
}

/// Changes the bytes of a file.
pub(super) fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    how(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Where the record with this body begins in a file: its head ends in targets for `a` and `b`, the
/// query of [`line`] and its credentials.
pub(super) fn record_at(path: &Path, body: &str) -> usize {
    let before = 96 + BOTH.len() + "db=x&precision=s".len() + "Basic c2VjcmV0".len();
    find(path, body.as_bytes()) - before
}
