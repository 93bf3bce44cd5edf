//! `spool show`: what is owed, or the dead letters, a line each, without credentials.

use std::io::{self, Write};

use super::letters::{self, Letters, Line};
use super::look::{Log, Spool};
use super::owed::Owed;
use super::words::{self, Plain, body_shown, on_one_line};
use super::{ShowArgs, Stop};
use crate::clock::time_shown;
use crate::spool::record::Record;

pub(super) fn run(args: &ShowArgs, out: &mut impl Write) -> Result<u8, Stop> {
    let spool = Spool::look(&args.place.dir)?;
    spool.must_know(args.backend.as_deref())?;
    if args.dead {
        show_dead(args, &spool, out)?;
    } else {
        show_owed(args, &spool, out)?;
    }
    Ok(0)
}

fn show_owed(args: &ShowArgs, spool: &Spool, out: &mut impl Write) -> io::Result<()> {
    let mut owed = Owed::new(&spool.logs, args.backend.as_deref());
    let mut plain = Plain::default();
    let mut shown = 0;
    while let Some((log, record)) = owed.next() {
        if shown == args.limit {
            say_more(args, out)?;
            break;
        }
        shown += 1;
        print(log, &record, &mut plain, out)?;
    }
    if shown == 0 && args.limit > 0 {
        writeln!(out, "nothing is owed")?;
    }
    owed.say_damaged();
    Ok(())
}

fn print(
    log: &Log,
    record: &Record<'_>,
    plain: &mut Plain,
    out: &mut impl Write,
) -> io::Result<()> {
    let parts = &record.parts;
    let lacking: Vec<String> = log.lacking(record).map(|target| log.name(target)).collect();
    let target = words::target(
        &words::path_shown(parts.kind),
        &words::query_shown(parts.query),
    );
    // What cannot be inflated is shown as it is.
    let body = plain.body(parts).unwrap_or(parts.body);
    let body = words::body_of_kind(parts.kind, body);
    writeln!(
        out,
        "{} {} {} for {} {target} {} bytes {}",
        on_one_line(&log.label()),
        record.sequence,
        time_shown(record.wall_ms),
        on_one_line(&lacking.join(",")),
        parts.body.len(),
        body_shown(body),
    )
}

fn show_dead(args: &ShowArgs, spool: &Spool, out: &mut impl Write) -> Result<(), Stop> {
    let mut shown = 0;
    for file in letters::files_of(&spool.dir, args.backend.as_deref())? {
        let Some(mut letters) = Letters::open(&file)? else {
            continue;
        };
        while let Some((number, line)) = letters.next()? {
            if shown == args.limit {
                say_more(args, out)?;
                return Ok(());
            }
            shown += 1;
            let backend = on_one_line(&file.backend);
            match line {
                Line::Letter(letter, body) => writeln!(
                    out,
                    "{backend} {number} {} {} {} {} bytes {} {}",
                    on_one_line(&letter.time),
                    letter.status,
                    on_one_line(&words::target(&letter.path, &letter.query)),
                    body.len(),
                    body_shown(&body),
                    on_one_line(&letter.reason),
                )?,
                Line::Torn => writeln!(out, "{backend} {number} torn: no whole letter")?,
                Line::Damaged => writeln!(out, "{backend} {number} damaged: no letter")?,
            }
        }
    }
    if shown == 0 && args.limit > 0 {
        writeln!(out, "no dead letters")?;
    }
    Ok(())
}

fn say_more(args: &ShowArgs, out: &mut impl Write) -> io::Result<()> {
    let limit = args.limit;
    writeln!(
        out,
        "and more: these are the first {limit}; --limit N shows N"
    )
}
