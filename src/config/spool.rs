//! `[spool]`: whether what a backend misses is kept, where, how much and how long. Pure.
//!
//! There are two ways to ask for it: `dir`, for all outputs, and the Go relay's `buffer-size-mb`,
//! for one. So it is read in two steps: the table first, and once the outputs are known, what each
//! may be owed. The danger is to believe that something is kept that is not; so what has no effect
//! is said, and so is what a restart loses.

use crate::config::keys;
use crate::config::kind::{Bytes, Kind, PATH, Wait, Whole, Word, Written};
use crate::config::process::{WAIT, narrow};
use crate::config::reader::Reader;
use crate::config::section::Section;
use crate::config::units::{duration, show_duration};
use crate::limits as bound;
use crate::plan::{BackendPlan, Fsync, SpoolPlan, WhenFull};
use std::path::PathBuf;

const AGE: Wait = Wait {
    min: bound::SET_WAIT_MIN,
    max: bound::SET_OWED_AGE_MAX,
};
const WHEN_FULL: Word<WhenFull> = Word(&[
    ("drop-oldest", WhenFull::DropOldest),
    ("refuse", WhenFull::Refuse),
]);
const WHEN_ALL_FAIL: Word<bool> = Word(&[("refuse", false), ("accept", true)]);
/// What only a spool on disk asks for.
const OF_DISK: [&str; 2] = ["max-size", "fsync"];

/// `[spool]` as it stands, before the outputs are known.
pub struct Wish<'t> {
    section: Section<'t>,
    plan: SpoolPlan,
    /// What an output without a buffer of its own may be owed, with a `dir`.
    owed_bytes_max: u64,
}

/// `[spool]`. Everything is checked, also where nothing asks for a spool.
pub fn read<'t>(reader: &mut Reader<'_>, top: &Section<'t>) -> Wish<'t> {
    let section = reader.inner(top, "spool", keys::SPOOL);
    let attempts = Whole {
        min: 1,
        max: u64::from(bound::SET_POISON_ATTEMPTS_MAX),
    };
    let dir = reader.maybe(&section, "dir", &PATH);
    let owed_bytes_max = size(
        reader,
        &section,
        "max-size",
        (bound::SET_OWED_BYTES_MIN, bound::SET_OWED_BYTES_MAX),
        bound::OWED_BYTES_MAX,
    );
    let plan = SpoolPlan {
        dir: dir.filter(|dir| !dir.is_empty()).map(PathBuf::from),
        age_max: reader.take(&section, "max-age", &AGE, bound::OWED_AGE_MAX),
        when_full: reader.take(&section, "when-full", &WHEN_FULL, WhenFull::DropOldest),
        fsync: reader.take(
            &section,
            "fsync",
            &FsyncKind,
            Fsync::Every(bound::SYNC_INTERVAL),
        ),
        accept_when_all_fail: reader.take(&section, "when-all-fail", &WHEN_ALL_FAIL, false),
        replay_bytes_per_second: size(
            reader,
            &section,
            "replay-rate",
            (0, bound::SET_REPLAY_RATE_MAX),
            0,
        ),
        poison_attempts: narrow(reader.take(
            &section,
            "poison-attempts",
            &attempts,
            u64::from(bound::POISON_ATTEMPTS),
        )),
        poison_after: reader.take(&section, "poison-after", &WAIT, bound::POISON_WAIT),
        segment_bytes: size(
            reader,
            &section,
            "segment-size",
            (bound::SET_SEGMENT_BYTES_MIN, bound::SET_SEGMENT_BYTES_MAX),
            bound::SEGMENT_BYTES,
        ),
    };
    Wish {
        section,
        plan,
        owed_bytes_max,
    }
}

/// The spool, if anything asks for one; and what each backend may be owed, which is until here
/// what its own buffer says.
pub fn settle(
    reader: &mut Reader<'_>,
    wish: Wish<'_>,
    backends: &mut [BackendPlan],
) -> Option<SpoolPlan> {
    if wish.plan.dir.is_some() {
        for backend in backends.iter_mut().filter(|backend| backend.writes) {
            if backend.owed_bytes_max == 0 {
                backend.owed_bytes_max = wish.owed_bytes_max;
            }
        }
        return Some(wish.plan);
    }
    let is_buffered = backends.iter().any(|backend| backend.owed_bytes_max > 0);
    for name in keys::names(keys::SPOOL).filter(|name| name != "dir") {
        if reader.text_of(&wish.section, &name).is_none() {
            continue;
        }
        let called = reader.called(&wish.section, &name);
        if !is_buffered {
            reader.notes.push(format!(
                "{called} is set, but neither spool.dir nor a buffer-size-mb is: nothing is kept"
            ));
        } else if OF_DISK.contains(&name.as_str()) {
            reader.notes.push(format!(
                "{called} is set, but spool.dir is not: it has no effect on buffers in memory"
            ));
        }
    }
    if is_buffered {
        reader.notes.push(
            "buffer-size-mb is set and spool.dir is not: what a backend misses is kept in memory only, and lost on a restart".into(),
        );
    }
    is_buffered.then_some(wish.plan)
}

/// A size that is kept in 64 bits, as disks are larger than memory.
fn size(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    name: &str,
    (min, max): (u64, u64),
    default: u64,
) -> u64 {
    let narrow = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let kind = Bytes {
        min: narrow(min),
        max: narrow(max),
    };
    reader.take(section, name, &kind, narrow(default)) as u64
}

/// `fsync`.
struct FsyncKind;

impl Kind for FsyncKind {
    type Value = Fsync;
    fn read(&self, written: Written<'_>) -> Option<Fsync> {
        match written.text()? {
            "always" => Some(Fsync::Always),
            "never" => Some(Fsync::Never),
            text => duration(text.strip_prefix("interval:")?)
                .filter(|wait| (WAIT.min..=WAIT.max).contains(wait))
                .map(Fsync::Every),
        }
    }
    fn want(&self) -> String {
        let (min, max) = (show_duration(WAIT.min), show_duration(WAIT.max));
        format!(
            "\"always\", \"never\", or an interval from {min} to {max}, such as \"interval:100ms\""
        )
    }
    fn show(&self, value: &Fsync) -> String {
        match value {
            Fsync::Always => "always".into(),
            Fsync::Every(wait) => format!("interval:{}", show_duration(*wait)),
            Fsync::Never => "never".into(),
        }
    }
}
