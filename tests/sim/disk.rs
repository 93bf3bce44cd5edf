//! A disk in memory that can be full, fail, lose its power in mid-write, and rot.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use influxdb_relay::spool::disk::{Disk, DiskFile};

/// One write that is not synced yet.
#[derive(Clone)]
struct Pending {
    at: usize,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct State {
    /// What a process reads.
    bytes: Vec<u8>,
    /// What survives a power cut for certain.
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

/// A file.
#[derive(Clone, Default)]
pub(crate) struct SimFile {
    state: Arc<Mutex<State>>,
    weather: Arc<Mutex<Weather>>,
}

#[derive(Default)]
struct Weather {
    failing: bool,
}

/// The folder of one log.
#[derive(Clone, Default)]
pub(crate) struct SimDisk {
    files: Arc<Mutex<BTreeMap<String, SimFile>>>,
    weather: Arc<Mutex<Weather>>,
}

impl SimDisk {
    /// From now on nothing can be written, or everything again.
    pub(crate) fn set_failing(&self, failing: bool) {
        self.weather.lock().unwrap().failing = failing;
    }

    /// All files, by name.
    pub(crate) fn files(&self) -> BTreeMap<String, SimFile> {
        self.files.lock().unwrap().clone()
    }

    /// The power fails: of what was not synced, some writes are there, some are not, one is torn.
    pub(crate) fn cut_power(&self, dice: &mut impl FnMut(usize) -> usize) {
        for file in self.files.lock().unwrap().values() {
            let state = &mut *file.state.lock().unwrap();
            let mut bytes = std::mem::take(&mut state.durable);
            for pending in std::mem::take(&mut state.pending) {
                let keep = match dice(3) {
                    0 => 0,
                    1 => pending.bytes.len(),
                    _ => dice(pending.bytes.len() + 1),
                };
                put(&mut bytes, pending.at, &pending.bytes[..keep]);
            }
            state.durable = bytes.clone();
            state.bytes = bytes;
        }
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if bytes.len() < at + piece.len() {
        bytes.resize(at + piece.len(), 0);
    }
    bytes[at..at + piece.len()].copy_from_slice(piece);
}

impl SimFile {
    /// Flips one bit, here and for good.
    pub(crate) fn rot(&self, dice: &mut impl FnMut(usize) -> usize) {
        let state = &mut *self.state.lock().unwrap();
        // Where records are, not in the zeros behind them.
        let used = state.bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0);
        if used > 2148 {
            let at = 2048 + dice(used - 2048);
            let bit = 1 << dice(8);
            state.bytes[at] ^= bit;
            if at < state.durable.len() {
                state.durable[at] ^= bit;
            }
        }
    }

    /// The whole file.
    pub(crate) fn contents(&self) -> Vec<u8> {
        self.state.lock().unwrap().bytes.clone()
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create(&self, name: &str, bytes: u64) -> io::Result<SimFile> {
        if self.weather.lock().unwrap().failing {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = SimFile {
            state: Arc::default(),
            weather: Arc::clone(&self.weather),
        };
        let zeros = vec![0; usize::try_from(bytes).unwrap()];
        file.state.lock().unwrap().durable = zeros.clone();
        file.state.lock().unwrap().bytes = zeros;
        self.files
            .lock()
            .unwrap()
            .insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().unwrap().remove(name);
        Ok(())
    }

    fn recycle(&self, file: &SimFile, from: &str, to: &str, bytes: u64) -> io::Result<()> {
        if self.weather.lock().unwrap().failing {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let bytes = usize::try_from(bytes).unwrap();
        let files = &mut *self.files.lock().unwrap();
        files.remove(from);
        files.insert(to.to_owned(), file.clone());
        let state = &mut *file.state.lock().unwrap();
        for whole in [&mut state.bytes, &mut state.durable] {
            let longer = bytes.max(whole.len());
            whole.resize(longer, 0);
        }
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.weather.lock().unwrap().failing {
            return Err(io::Error::other("input/output error"));
        }
        let at = usize::try_from(at).unwrap();
        let state = &mut *self.state.lock().unwrap();
        put(&mut state.bytes, at, bytes);
        state.pending.push(Pending {
            at,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.state.lock().unwrap();
        let from = usize::try_from(at).unwrap().min(state.bytes.len());
        let count = buffer.len().min(state.bytes.len() - from);
        buffer[..count].copy_from_slice(&state.bytes[from..from + count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        if self.weather.lock().unwrap().failing {
            return Err(io::Error::other("input/output error"));
        }
        let state = &mut *self.state.lock().unwrap();
        for pending in std::mem::take(&mut state.pending) {
            put(&mut state.durable, pending.at, &pending.bytes);
        }
        Ok(())
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).unwrap();
        let state = &mut *self.state.lock().unwrap();
        state.bytes.truncate(bytes);
        state.durable.truncate(bytes);
        for pending in &mut state.pending {
            let keep = bytes.saturating_sub(pending.at).min(pending.bytes.len());
            pending.bytes.truncate(keep);
        }
        Ok(())
    }
}
