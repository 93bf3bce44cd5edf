//! `spool drop`: gives up what a backend is owed, or its dead letters. Only while no relay runs.

use std::fs;
use std::io::Write;

use super::letters::{self, Letters};
use super::look::{self, Log};
use super::owed::Owed;
use super::words::on_one_line;
use super::{DropArgs, EXIT_WRONG, Stop};
use crate::http::target::encode;
use crate::spool::archive::Archive;
use crate::spool::old_log::DONE;
use crate::spool::unusable::Unusable;

pub(super) fn run(args: &DropArgs, out: &mut impl Write) -> Result<u8, Stop> {
    let dir = &args.place.dir;
    look::must_be_there(dir)?;
    let mut archive = Archive::open(dir).map_err(|why| match why {
        Unusable::Locked(path) if !args.dead => Stop::Live {
            path,
            backend: escaped(&args.backend),
        },
        why => why.into(),
    })?;
    let logs: Vec<Log> = archive.logs.iter().map(Log::of).collect();
    look::must_know(dir, &logs, &args.backend)?;
    if args.dead {
        return drop_dead(args, out);
    }
    let (mut records, mut bytes) = (0, 0);
    let mut owed = Owed::new(&logs, Some(&args.backend));
    while let Some((_, record)) = owed.next() {
        records += 1;
        bytes += record.parts.body.len() as u64;
    }
    owed.say_damaged();
    let whose = format!(
        "{records} records ({bytes} bytes) owed to {}",
        on_one_line(&args.backend)
    );
    if !args.yes {
        return would(&whose, out);
    }
    for log in &archive.logs {
        for (place, name) in log.track.names.iter().enumerate() {
            if *name == args.backend {
                log.track.set_cursor(place, DONE);
            }
        }
    }
    archive.tick();
    must_be_saved(args)?;
    writeln!(out, "dropped {whose}")?;
    Ok(0)
}

/// A name as it stands in a query.
fn escaped(name: &str) -> String {
    let mut out = Vec::new();
    encode(name, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn would(whose: &str, out: &mut impl Write) -> Result<u8, Stop> {
    writeln!(out, "would drop {whose}: add --yes to do it")?;
    Ok(EXIT_WRONG)
}

/// What is on disk now says the same.
fn must_be_saved(args: &DropArgs) -> Result<(), Stop> {
    for log in Archive::look(&args.place.dir)?.logs {
        let names = log.track.names.iter().enumerate();
        let mut own = names.filter(|(_, name)| **name == args.backend);
        if own.any(|(place, _)| log.track.cursor(place) != DONE) {
            let why =
                std::io::Error::other("its cursors could not be saved, and nothing is dropped");
            return Err(Stop::disk(log.folder(), why));
        }
    }
    Ok(())
}

fn drop_dead(args: &DropArgs, out: &mut impl Write) -> Result<u8, Stop> {
    let own = letters::files_of(&args.place.dir, Some(&args.backend))?;
    let (mut lines, mut bytes, mut paths) = (0, 0, Vec::new());
    for file in own {
        bytes += file.bytes;
        if let Some(mut letters) = Letters::open(&file)? {
            while letters.next()?.is_some() {
                lines += 1;
            }
        }
        paths.push(file.path);
    }
    let whose = format!(
        "{lines} dead letters ({bytes} bytes) of {}",
        on_one_line(&args.backend)
    );
    if !args.yes {
        return would(&whose, out);
    }
    for path in paths {
        fs::remove_file(&path).map_err(|why| Stop::disk(&path, why))?;
    }
    writeln!(out, "dropped {whose}")?;
    Ok(0)
}
