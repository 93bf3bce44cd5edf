//! `spool export`: what is owed, or the dead letters, as line protocol that can be sent again.
//!
//! ```text
//! # POST /write?db=x&precision=s
//! cpu load=1 2
//! ```
//!
//! A comment stands before each change of target, and around a body that may end in an open quote:
//! what stands between two comments can be sent as one.

use std::io::{self, Write};

use super::letters::{self, Letters, Line};
use super::look::{Log, Spool};
use super::owed::Owed;
use super::words::{self, Plain, is_lines, is_remote_write, on_one_line};
use super::{ExportArgs, Stop};
use crate::cli::say;
use crate::clock::time_shown;
use crate::spool::dead_letter::DeadLetter;
use crate::spool::record::Record;

pub(super) fn run(args: &ExportArgs, out: &mut impl Write) -> Result<u8, Stop> {
    let spool = Spool::look(&args.place.dir)?;
    spool.must_know(args.backend.as_deref())?;
    let mut skipped = Skipped::default();
    if args.dead {
        export_dead(args, &spool, &mut skipped, out)?;
    } else {
        export_owed(args, &spool, &mut skipped, out)?;
    }
    skipped.say();
    Ok(0)
}

/// What was not written.
#[derive(Default)]
struct Skipped {
    /// No line protocol.
    binary: u64,
    /// Gzip that cannot be inflated.
    gzip: u64,
    /// Lines of dead letters that are none.
    lines: u64,
}

impl Skipped {
    fn say(&self) {
        for (count, words) in [
            (
                self.binary,
                "records are no line protocol and were left out: --json writes them",
            ),
            (
                self.gzip,
                "bodies are gzip that cannot be inflated and were left out: --json writes them as they are",
            ),
            (
                self.lines,
                "lines are no dead letters and were left out: `spool verify` says which",
            ),
        ] {
            if count > 0 {
                say::error(format_args!("influxdb-relay spool: {count} {words}"));
            }
        }
    }
}

fn export_owed(
    args: &ExportArgs,
    spool: &Spool,
    skipped: &mut Skipped,
    out: &mut impl Write,
) -> io::Result<()> {
    let wanted = args.backend.as_deref();
    let mut owed = Owed::new(&spool.logs, wanted);
    let mut plain = Plain::default();
    let mut lines = Lines::default();
    while let Some((log, record)) = owed.next() {
        let parts = &record.parts;
        let body = plain.body(parts);
        if args.json {
            let body = words::body_of_kind(parts.kind, body.unwrap_or(parts.body));
            let letter = letter(log, &record, wanted, body);
            print_json(&letter, out)?;
            continue;
        }
        match body {
            _ if !is_lines(parts.kind) => skipped.binary += 1,
            Err(_) => skipped.gzip += 1,
            Ok(body) => {
                let path = words::path_shown(parts.kind);
                let target = words::target(&path, &words::query_shown(parts.query));
                lines.print(&target, body, parts.joinable, out)?;
            }
        }
    }
    owed.say_damaged();
    Ok(())
}

/// A record in the form of a dead letter.
fn letter(log: &Log, record: &Record<'_>, wanted: Option<&str>, body: &[u8]) -> DeadLetter {
    let lacking = log.lacking(record).map(|target| log.name(target));
    let mut letter = DeadLetter {
        time: time_shown(record.wall_ms),
        backend: match wanted {
            Some(wanted) => wanted.to_owned(),
            None => lacking.collect::<Vec<_>>().join(","),
        },
        status: 0,
        reason: "owed".to_owned(),
        path: words::path_shown(record.parts.kind).into_owned(),
        query: words::query_shown(record.parts.query),
        body: None,
        base64: None,
    };
    letter.set_body(body);
    letter
}

fn export_dead(
    args: &ExportArgs,
    spool: &Spool,
    skipped: &mut Skipped,
    out: &mut impl Write,
) -> Result<(), Stop> {
    let mut lines = Lines::default();
    for file in letters::files_of(&spool.dir, args.backend.as_deref())? {
        let Some(mut letters) = Letters::open(&file)? else {
            continue;
        };
        while let Some((_, line)) = letters.next()? {
            match line {
                Line::Letter(letter, _) if args.json => print_json(&letter, out)?,
                Line::Letter(letter, _) if is_remote_write(&letter.path) => skipped.binary += 1,
                // Poison may end in an open quote.
                Line::Letter(letter, body) => {
                    let target = on_one_line(&words::target(&letter.path, &letter.query));
                    lines.print(&target, &body, false, out)?;
                }
                Line::Torn | Line::Damaged => skipped.lines += 1,
            }
        }
    }
    Ok(())
}

fn print_json(letter: &DeadLetter, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, letter)?;
    out.write_all(b"\n")
}

/// Bodies, one behind the other.
#[derive(Default)]
struct Lines {
    /// Where the last ones go.
    target: String,
    /// The last one may end in an open quote.
    is_open: bool,
}

impl Lines {
    fn print(
        &mut self,
        target: &str,
        body: &[u8],
        joinable: bool,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if self.target != target || self.is_open || !joinable {
            writeln!(out, "# POST {target}")?;
            target.clone_into(&mut self.target);
        }
        self.is_open = !joinable;
        out.write_all(body)?;
        match body.last() {
            None | Some(b'\n') => Ok(()),
            Some(_) => out.write_all(b"\n"),
        }
    }
}
