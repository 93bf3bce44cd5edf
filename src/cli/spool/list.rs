//! `spool list`: logs, and what each backend is owed.

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::spool::reading::{dead_files, letters, owed, time_of};
use crate::cli::spool::{Spool, Trouble};
use crate::spool::dead_letter::file_of;

#[derive(Debug, Serialize)]
struct Log {
    folder: String,
    run: u64,
    shard: u32,
    segments: usize,
    bytes: u64,
}

#[derive(Debug, Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Owed {
    backend: String,
    records: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    damaged: u64,
    dead_letters: u64,
}

#[derive(Debug, Serialize)]
struct Page {
    logs: Vec<Log>,
    backends: Vec<Owed>,
}

/// Prints it.
///
/// # Errors
/// [`Trouble`].
pub fn run(spool: &Spool, json: bool) -> Result<ExitCode, Trouble> {
    let page = Page {
        logs: logs(spool),
        backends: backends(spool)?,
    };
    let out = &mut std::io::stdout().lock();
    if json {
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&page).unwrap_or_default()
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{:<24} {:>6} {:>6} {:>9} {:>14}",
        "log", "run", "shard", "segments", "bytes"
    )?;
    for log in &page.logs {
        writeln!(
            out,
            "{:<24} {:>6} {:>6} {:>9} {:>14}",
            log.folder, log.run, log.shard, log.segments, log.bytes
        )?;
    }
    writeln!(
        out,
        "\n{:<24} {:>10} {:>14} {:>8} {:>13}  oldest",
        "backend", "records", "bytes", "damaged", "dead letters"
    )?;
    for owed in &page.backends {
        writeln!(
            out,
            "{:<24} {:>10} {:>14} {:>8} {:>13}  {}",
            owed.backend,
            owed.records,
            owed.bytes,
            owed.damaged,
            owed.dead_letters,
            owed.oldest.as_deref().unwrap_or("-")
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn logs(spool: &Spool) -> Vec<Log> {
    let row = |log: &crate::spool::archive::OldLog| {
        let segments = log.track.segments.load_full();
        let bytes = segments
            .iter()
            .filter_map(|segment| segment.file.metadata().ok());
        Log {
            folder: log
                .folder()
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            run: log.track.run,
            shard: log.track.shard,
            segments: segments.len(),
            bytes: bytes.map(|metadata| metadata.len()).sum(),
        }
    };
    spool.archive.logs.iter().map(row).collect()
}

fn backends(spool: &Spool) -> Result<Vec<Owed>, Trouble> {
    let mut rows = Vec::new();
    for name in spool.names() {
        let mut row = Owed::default();
        for log in &spool.archive.logs {
            let damaged = owed::<Trouble>(&log.track, &name, |record| {
                row.records += 1;
                row.bytes += record.parts.body.len() as u64;
                row.oldest.get_or_insert_with(|| time_of(record.wall_ms));
                Ok(())
            })?;
            row.damaged += damaged;
        }
        row.dead_letters = count_dead(spool, &name)?;
        row.backend = name;
        rows.push(row);
    }
    Ok(rows)
}

fn count_dead(spool: &Spool, name: &str) -> Result<u64, Trouble> {
    let file = file_of(&spool.dir, name);
    let mut count = 0;
    if dead_files(&spool.dir)?.contains(&file) {
        letters::<Trouble>(&file, |_, letter| {
            count += u64::from(letter.is_ok());
            Ok(())
        })?;
    }
    Ok(count)
}
