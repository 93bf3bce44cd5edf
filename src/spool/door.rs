//! One listener's outputs as the spool sees them, and what may become of a write there. Pure.

use crate::plan::{BackendId, WhenFull};

/// Which writes are owed to the backends of a door that have not accepted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// What one of them accepted: the client is told of all else.
    Accepted,
    /// What none of them refused too: the client is told 202.
    Unrefused,
    /// All: nobody would be told.
    All,
}

/// One of a listener's outputs, as the spool sees it.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The backend.
    pub id: BackendId,
    /// The kinds of write that it takes, as a mask of their numbers.
    pub takes: u8,
    /// Whether it is owed what it misses.
    pub kept: bool,
}

/// One listener's outputs, as the spool sees them: bit `i` of a mask is its output `i`.
#[derive(Debug, Clone)]
pub struct Door {
    /// Its backends, at most 64.
    pub outputs: Vec<BackendId>,
    /// Those that are owed what they miss.
    pub spooled: u64,
    /// Which writes are owed.
    pub keep: Keep,
    kinds: Vec<Takers>,
}

/// Who takes one kind of write.
#[derive(Debug, Clone, Default)]
pub struct Takers {
    /// Which outputs.
    pub mask: u64,
    /// Those of them that are owed what they miss, as a record names them.
    pub targets: Vec<u8>,
}

impl Door {
    /// A listener's outputs.
    pub fn new(outputs: &[Output], keep: Keep) -> Self {
        let mask = |of: &dyn Fn(&Output) -> bool| {
            let bits = outputs.iter().enumerate();
            bits.fold(0, |mask, (i, output)| mask | u64::from(of(output)) << i)
        };
        let kinds = (0..u8::BITS).map(|kind| {
            let takes = |output: &Output| output.takes >> kind & 1 == 1;
            let owed = outputs.iter().filter(|output| takes(output) && output.kept);
            let targets = owed.flat_map(|output| target(output.id));
            Takers {
                mask: mask(&takes),
                targets: targets.collect(),
            }
        });
        Self {
            outputs: outputs.iter().map(|output| output.id).collect(),
            spooled: mask(&|output| output.takes != 0 && output.kept),
            keep,
            kinds: kinds.collect(),
        }
    }

    /// Those that are owed a write of this kind if they miss it, less the outputs that are `left_out`.
    pub fn targets(&self, kind: u8, left_out: u64) -> Vec<u8> {
        let mask = self.takers(kind).mask & self.spooled & !left_out;
        let outputs = self.outputs.iter().enumerate();
        let owed = outputs.filter(|(i, _)| mask >> i & 1 == 1);
        owed.flat_map(|(_, &id)| target(id)).collect()
    }

    /// Who takes writes of this kind.
    pub fn takers(&self, kind: u8) -> &Takers {
        &self.kinds[usize::from(kind) % self.kinds.len()]
    }
}

/// A backend as a record names it.
fn target(id: BackendId) -> [u8; 2] {
    let index = u16::try_from(id.0).expect("limits: 64 listeners of 64 outputs");
    index.to_le_bytes()
}

/// What may be owed, and what gives way.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What gives way when a backend is owed as much as may be.
    pub when_full: WhenFull,
    /// A client hears success only when its write is safe from a power cut.
    pub sync_first: bool,
    /// Somebody reads it after a kill.
    pub lasting: bool,
    /// What is younger, in nanoseconds, a power cut may take; whatever there is, where nothing is said.
    pub power_loss_max: Option<u64>,
    /// A record whose body has so many bytes is written at once, from where it lies, and not gathered.
    pub write_through_bytes: usize,
}

/// Who is sent a write now, and who is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gates {
    /// It is sent to these.
    pub send: u64,
    /// It joined the tail of what these are owed.
    pub tail: u64,
    /// It is held for these: see `Keeper::released`.
    pub held: u64,
}

/// What became of a write that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is being kept, under this sequence.
    As(u64, Gates),
    /// The disk takes nothing: it goes on without being kept.
    Not(Gates),
    /// A backend is owed as much as may be, and it is to be refused.
    Full,
    /// No backend would be sent it at once, and what nobody takes is to be refused.
    Nobody,
}

/// What a flush or a recovery changed about the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskChange {
    /// Nothing.
    None,
    /// It failed: what was said.
    Failed(String),
    /// It takes writes again.
    Recovered,
}
