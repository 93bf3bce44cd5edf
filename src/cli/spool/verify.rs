//! `spool verify`: reads everything, and says what is damaged.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::spool::reading::{dead_files, letters, piece};
use crate::cli::spool::{EXIT_DAMAGED, Trouble, open};
use crate::limits;
use crate::spool::archive::OldLog;
use crate::spool::cursors;
use crate::spool::record::{self, Found};
use crate::spool::track::Segment;

/// What was read.
#[derive(Debug, Default)]
struct Sum {
    records: u64,
    void: u64,
    letters: u64,
    damage: u64,
}

/// Reads and reports; exit code 3 if anything is damaged.
///
/// # Errors
/// [`Trouble`].
pub fn run(dir: &Path) -> Result<ExitCode, Trouble> {
    let spool = open(dir)?;
    let out = &mut std::io::stdout().lock();
    let mut sum = Sum {
        damage: spool.archive.damage.len() as u64,
        ..Sum::default()
    };
    for log in &spool.archive.logs {
        let segments = log.track.segments.load_full();
        for (place, segment) in segments.iter().enumerate() {
            let behind = segments.get(place + 1).map(|behind| behind.first);
            walk(log, segment, behind, &mut sum, out)?;
        }
        let file = log.folder().join(cursors::FILE);
        let bytes = std::fs::read(&file).unwrap_or_default();
        let is_empty = bytes.iter().all(|&byte| byte == 0);
        if !is_empty && cursors::newest(&bytes, log.track.names.len()).is_none() {
            sum.damage += 1;
            writeln!(
                out,
                "{}: damaged: everything would be replayed",
                file.display()
            )?;
        }
    }
    for file in dead_files(dir)? {
        letters::<Trouble>(&file, |line, letter| {
            match letter {
                Ok(letter) if letter.bytes().is_some() => sum.letters += 1,
                Ok(_) => {
                    sum.damage += 1;
                    writeln!(out, "{}: line {line}: it has no body", file.display())?;
                }
                Err(why) => {
                    sum.damage += 1;
                    writeln!(out, "{}: line {line}: {why}", file.display())?;
                }
            }
            Ok(())
        })?;
    }
    writeln!(
        out,
        "{} records ({} void), {} dead letters, {} damaged",
        sum.records, sum.void, sum.letters, sum.damage
    )?;
    Ok(match sum.damage {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_DAMAGED),
    })
}

/// Walks one segment; `behind` is the first sequence of the next one. What follows the last record of a
/// log is no damage: a torn write, or what the file held before.
fn walk(
    log: &OldLog,
    segment: &Segment<std::fs::File>,
    behind: Option<u64>,
    sum: &mut Sum,
    out: &mut impl Write,
) -> Result<(), Trouble> {
    let path = log.folder().join(&segment.name);
    let is_of = |sequence| sequence >= segment.first && behind.is_none_or(|first| sequence < first);
    let bytes_max = usize::try_from(limits::RECORD_BYTES_MAX).unwrap_or(usize::MAX);
    let (mut at, mut damaged_at, mut is_torn) = (segment.records_at, None, false);
    let mut wants = limits::SPOOL_READ_BYTES;
    loop {
        let bytes = piece(&segment.file, at, wants)?;
        let is_last = bytes.len() < wants;
        let mut used = 0;
        wants = limits::SPOOL_READ_BYTES;
        while used < bytes.len() {
            let rest = &bytes[used..];
            match record::decode(rest, bytes_max) {
                Found::Record(record) if is_of(record.sequence) => {
                    if let Some(place) = damaged_at.take() {
                        sum.damage += 1;
                        writeln!(out, "{}: offset {place}: damaged", path.display())?;
                    }
                    sum.records += 1;
                    sum.void += u64::from(record.void);
                    used += record.bytes;
                }
                Found::Record(record) => used += record.bytes, // of the segment that the file was
                Found::Partial(more) if !is_last => {
                    wants = more.max(limits::SPOOL_READ_BYTES);
                    break;
                }
                Found::End if !is_last && rest.len() < record::HEAD_BYTES => break,
                found => {
                    is_torn |= found == Found::Damaged;
                    damaged_at.get_or_insert(at + used as u64);
                    used += record::candidate(rest, bytes_max, is_last).unwrap_or(rest.len());
                }
            }
        }
        at += used as u64;
        if is_last {
            break;
        }
    }
    match (damaged_at, is_torn, behind) {
        (Some(place), true, Some(_)) => {
            sum.damage += 1;
            writeln!(out, "{}: offset {place}: damaged", path.display())?;
        }
        (Some(place), true, None) => {
            writeln!(
                out,
                "{}: offset {place}: the end of the log (torn, or never used)",
                path.display()
            )?;
        }
        _ => {}
    }
    Ok(())
}
