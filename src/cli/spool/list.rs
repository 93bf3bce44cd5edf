//! `spool list`: each log, and what each backend is owed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};

use serde::{Serialize, Serializer};

use super::letters::{self, Letters, Line};
use super::look::{Log, Spool};
use super::walk::{Met, Walk};
use super::words::on_one_line;
use super::{ListArgs, Stop};
use crate::cli::say;
use crate::clock::time_shown;

/// What is printed.
#[derive(Serialize)]
struct Page {
    in_use: bool,
    logs: Vec<LogRow>,
    backends: Vec<BackendRow>,
}

#[derive(Serialize)]
struct LogRow {
    folder: String,
    run: u64,
    shard: u32,
    segments: usize,
    bytes: u64,
    records: u64,
    void: u64,
    /// Places that are damaged.
    damaged: u64,
}

#[derive(Serialize, Default)]
struct BackendRow {
    name: String,
    #[serde(flatten)]
    owing: Owing,
    dead_letters: u64,
    dead_bytes: u64,
}

/// What one backend is owed.
#[derive(Serialize, Default, Clone)]
struct Owing {
    records: u64,
    bytes: u64,
    /// When the oldest record was kept: milliseconds since 1970.
    #[serde(rename = "oldest", serialize_with = "as_time")]
    oldest_ms: Option<u64>,
}

impl Owing {
    fn add(&mut self, bytes: u64, wall_ms: u64) {
        self.join(&Self {
            records: 1,
            bytes,
            oldest_ms: Some(wall_ms),
        });
    }

    fn join(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        let both = self.oldest_ms.into_iter().chain(other.oldest_ms);
        self.oldest_ms = both.min();
    }
}

fn as_time<S: Serializer>(wall_ms: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    wall_ms.map(time_shown).serialize(to)
}

pub(super) fn run(args: &ListArgs, out: &mut impl Write) -> Result<u8, Stop> {
    let spool = Spool::look(&args.place.dir)?;
    let mut backends = BTreeMap::new();
    let logs = spool.logs.iter().map(|log| count(log, &mut backends));
    let logs = logs.collect();
    count_letters(&spool, &mut backends)?;
    let page = Page {
        in_use: spool.in_use,
        logs,
        backends: backends.into_values().collect(),
    };
    if args.json {
        serde_json::to_writer(&mut *out, &page).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&page, out)?;
    }
    if page.logs.iter().any(|log| log.damaged > 0) {
        say::error(format_args!(
            "influxdb-relay spool: something is damaged: `spool verify` says where"
        ));
    }
    Ok(0)
}

/// Reads one log through, and adds what it owes.
fn count(log: &Log, backends: &mut BTreeMap<String, BackendRow>) -> LogRow {
    let sizes = log.pieces.iter().map(|piece| fs::metadata(&piece.path));
    let mut row = LogRow {
        folder: log.label(),
        run: log.run,
        shard: log.shard,
        segments: log.pieces.len(),
        bytes: sizes.flatten().map(|metadata| metadata.len()).sum(),
        records: 0,
        void: 0,
        damaged: 0,
    };
    let mut owing = vec![Owing::default(); log.names.len()];
    let mut walk = Walk::new(log, 0);
    loop {
        match walk.step() {
            Met::End => break,
            Met::Gap(gap) => row.damaged += u64::from(gap.is_damage()),
            Met::Record => {}
        }
        let Some(record) = walk.record() else {
            continue; // it was a gap
        };
        row.records += 1;
        row.void += u64::from(record.void);
        for target in log.lacking(&record) {
            if owing.len() <= target {
                owing.resize_with(target + 1, Owing::default);
            }
            owing[target].add(record.parts.body.len() as u64, record.wall_ms);
        }
    }
    for (target, owing) in owing.iter().enumerate() {
        backend(backends, log.name(target)).owing.join(owing);
    }
    row
}

fn backend(backends: &mut BTreeMap<String, BackendRow>, name: String) -> &mut BackendRow {
    backends.entry(name).or_insert_with_key(|name| BackendRow {
        name: name.clone(),
        ..BackendRow::default()
    })
}

fn count_letters(spool: &Spool, backends: &mut BTreeMap<String, BackendRow>) -> Result<(), Stop> {
    for file in letters::files(&spool.dir)? {
        let row = backend(backends, file.backend.clone());
        row.dead_bytes += file.bytes;
        let Some(mut letters) = Letters::open(&file)? else {
            continue;
        };
        while let Some((_, line)) = letters.next()? {
            row.dead_letters += u64::from(matches!(line, Line::Letter(..)));
        }
    }
    Ok(())
}

fn print(page: &Page, out: &mut impl Write) -> io::Result<()> {
    let mut rows = vec![LOG_TITLES.map(str::to_owned).to_vec()];
    rows.extend(page.logs.iter().map(|log| {
        vec![
            on_one_line(&log.folder),
            log.run.to_string(),
            log.shard.to_string(),
            log.segments.to_string(),
            log.bytes.to_string(),
            log.records.to_string(),
            log.void.to_string(),
            log.damaged.to_string(),
        ]
    }));
    print_table(&rows, out)?;
    writeln!(out)?;
    let mut rows = vec![BACKEND_TITLES.map(str::to_owned).to_vec()];
    rows.extend(page.backends.iter().map(|backend| {
        vec![
            on_one_line(&backend.name),
            backend.owing.records.to_string(),
            backend.owing.bytes.to_string(),
            backend
                .owing
                .oldest_ms
                .map_or_else(|| "-".to_owned(), time_shown),
            backend.dead_letters.to_string(),
            backend.dead_bytes.to_string(),
        ]
    }));
    print_table(&rows, out)
}

/// Columns as wide as what is in them; all but the first to the right.
fn print_table(rows: &[Vec<String>], out: &mut impl Write) -> io::Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    for row in rows {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => write!(out, "{cell:width$}")?,
                _ => write!(out, "  {cell:>width$}")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

const LOG_TITLES: [&str; 8] = [
    "log", "run", "shard", "segments", "bytes", "records", "void", "damaged",
];
const BACKEND_TITLES: [&str; 6] = [
    "backend",
    "owed records",
    "owed bytes",
    "oldest",
    "dead letters",
    "dead bytes",
];
