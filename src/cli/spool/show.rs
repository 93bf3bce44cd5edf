//! `spool show`: what is owed, record by record, or the dead letters.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::spool::reading::{dead_files, letters, owed, path_of, time_of};
use crate::cli::spool::{ShowArgs, Spool, Trouble};
use crate::limits;
use crate::spool::dead_letter::without_credentials;
use crate::spool::record::Record;

/// Prints it.
///
/// # Errors
/// [`Trouble`].
pub fn run(spool: &Spool, args: &ShowArgs) -> Result<ExitCode, Trouble> {
    let out = &mut std::io::stdout().lock();
    let mut left = args.limit;
    let mut more = 0_u64;
    if args.dead {
        for file in dead_files(&spool.dir)? {
            letters::<Trouble>(&file, |line, letter| match letter {
                Ok(letter)
                    if args
                        .backend
                        .as_ref()
                        .is_some_and(|name| *name != letter.backend) =>
                {
                    Ok(())
                }
                Ok(_) if left == 0 => {
                    more += 1;
                    Ok(())
                }
                Ok(letter) => {
                    left -= 1;
                    let body = letter.bytes().unwrap_or_default();
                    writeln!(
                        out,
                        "{} {} {} {}?{} {} bytes: {} [{}]",
                        letter.time,
                        letter.backend,
                        letter.status,
                        letter.path,
                        letter.query,
                        body.len(),
                        start_of(&body),
                        letter.reason.escape_debug()
                    )?;
                    Ok(())
                }
                Err(why) => Ok(writeln!(
                    out,
                    "{}: line {line}: damaged: {why}",
                    file.display()
                )?),
            })?;
        }
        return end(out, more);
    }
    let names = match &args.backend {
        Some(name) => vec![name.clone()],
        None => spool.names(),
    };
    for name in names {
        for log in &spool.archive.logs {
            owed::<Trouble>(&log.track, &name, |record| {
                if left == 0 {
                    more += 1;
                    return Ok(());
                }
                left -= 1;
                let log = (log.track.run, log.track.shard);
                Ok(writeln!(out, "{name} {}", line(log, record))?)
            })?;
        }
    }
    end(out, more)
}

fn end(out: &mut impl Write, more: u64) -> Result<ExitCode, Trouble> {
    if more > 0 {
        writeln!(out, "({more} more: raise --limit)")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line((run, shard): (u64, u32), record: &Record<'_>) -> String {
    let query = String::from_utf8_lossy(record.parts.query).into_owned();
    format!(
        "{} run {run} shard {shard} record {} {}?{} {} bytes: {}",
        time_of(record.wall_ms),
        record.sequence,
        path_of(record.parts.kind),
        without_credentials(&query),
        record.parts.body.len(),
        start_of(record.parts.body)
    )
}

/// The first bytes of a body, as one line.
fn start_of(body: &[u8]) -> String {
    let end = body.len().min(limits::SHOWN_BODY_BYTES);
    body[..end].escape_ascii().to_string()
}
