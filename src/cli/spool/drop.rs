//! `spool drop`: gives up on what a backend is owed, or on its dead letters.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::spool::reading::{letters, owed};
use crate::cli::spool::{DropArgs, Trouble};
use crate::spool::archive::{Archive, DONE};
use crate::spool::dead_letter::file_of;

/// Drops it, or says what would be dropped.
///
/// # Errors
/// [`Trouble`]; also where it was not confirmed.
pub fn run(args: &DropArgs) -> Result<ExitCode, Trouble> {
    let (dir, name) = (&args.spool.dir, &args.backend);
    if !dir.is_dir() {
        return Err(Trouble::Missing(dir.display().to_string()));
    }
    let mut archive = Archive::open(dir)?;
    let (mut count, mut bytes) = (0_u64, 0_u64);
    let file = file_of(dir, name);
    if args.dead {
        if file.exists() {
            letters::<Trouble>(&file, |_, letter| {
                count += 1;
                bytes += letter
                    .ok()
                    .and_then(|letter| letter.bytes())
                    .map_or(0, |body| body.len() as u64);
                Ok(())
            })?;
        }
    } else {
        for log in &archive.logs {
            owed::<Trouble>(&log.track, name, |record| {
                count += 1;
                bytes += record.parts.body.len() as u64;
                Ok(())
            })?;
        }
    }
    let what = if args.dead { "dead letters" } else { "records" };
    let words = format!("{name}: {count} {what}, {bytes} bytes");
    if !args.yes {
        return Err(Trouble::NotConfirmed(format!("would drop {words}")));
    }
    if args.dead {
        if file.exists() {
            std::fs::remove_file(&file)?;
        }
    } else {
        for log in &archive.logs {
            if let Some(place) = log.track.names.iter().position(|own| own == name) {
                log.track.set_cursor(place, DONE);
            }
        }
        archive.tick();
    }
    writeln!(std::io::stdout(), "dropped {words}")?;
    Ok(ExitCode::SUCCESS)
}
