//! `spool verify`: reads everything, and says what is damaged.
//!
//! What a kill or a power cut leaves at the end of what was being written is no damage: nobody was told
//! that it is kept.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use super::letters::{self, LetterFile, Letters, Line};
use super::look::{Log, Piece, Spool};
use super::walk::{Gap, Met, Walk, Why};
use super::{EXIT_DAMAGED, Stop, VerifyArgs};
use crate::spool::{cursors, old_log};

pub(super) fn run(args: &VerifyArgs, out: &mut impl Write) -> Result<u8, Stop> {
    let spool = Spool::look(&args.place.dir)?;
    let mut sum = Sum::default();
    for log in &spool.logs {
        for piece in &log.pieces {
            verify_head(piece, &mut sum, out)?;
        }
        verify_records(log, &mut sum, out)?;
        verify_cursors(log, &mut sum, out)?;
    }
    for file in letters::files(&spool.dir)? {
        verify_letters(&file, &mut sum, out)?;
    }
    writeln!(
        out,
        "{} logs, {} segments, {} records ({} void), {} cursor files, {} dead letters: {} damaged, {} torn",
        spool.logs.len(),
        sum.segments,
        sum.records,
        sum.void,
        sum.cursors,
        sum.letters,
        sum.damaged,
        sum.torn
    )?;
    Ok(if sum.damaged > 0 { EXIT_DAMAGED } else { 0 })
}

/// What was read.
#[derive(Default)]
struct Sum {
    segments: u64,
    records: u64,
    void: u64,
    cursors: u64,
    letters: u64,
    damaged: u64,
    torn: u64,
}

impl Sum {
    fn damaged(&mut self, path: &Path, words: &str, out: &mut impl Write) -> io::Result<()> {
        self.damaged += 1;
        writeln!(out, "{}: {words}", path.display())
    }

    fn torn(&mut self, path: &Path, words: &str, out: &mut impl Write) -> io::Result<()> {
        self.torn += 1;
        writeln!(out, "{}: {words}", path.display())
    }
}

/// Says which copies of a head are damaged. A head without a whole copy costs the records, which are said with them.
fn verify_head(piece: &Piece, sum: &mut Sum, out: &mut impl Write) -> Result<(), Stop> {
    let path = &piece.path;
    let file = match File::open(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(()), // gone meanwhile
        file => file.map_err(|why| Stop::disk(path, why))?,
    };
    sum.segments += 1;
    if let Some(found) = old_log::read_head(&file, path)?
        && found.damaged > 0
    {
        let damaged = found.damaged;
        let words =
            format!("at 0: {damaged} of 4 copies of its head are damaged: the others are read");
        sum.damaged(path, &words, out)?;
    }
    Ok(())
}

fn verify_records(log: &Log, sum: &mut Sum, out: &mut impl Write) -> io::Result<()> {
    let mut walk = Walk::new(log, 0);
    loop {
        match walk.step() {
            Met::End => return Ok(()),
            Met::Gap(gap) => say_gap(&gap, sum, out)?,
            Met::Record => {
                sum.records += 1;
                sum.void += u64::from(walk.record().is_some_and(|record| record.void));
            }
        }
    }
}

fn say_gap(gap: &Gap, sum: &mut Sum, out: &mut impl Write) -> io::Result<()> {
    let (from, to) = (gap.bytes.start, gap.bytes.end);
    match &gap.why {
        Why::Damaged(lost) if from == 0 => {
            let words = format!(
                "at 0: its head is damaged in both copies, or was never written: {lost} records are lost"
            );
            sum.damaged(&gap.path, &words, out)
        }
        Why::Damaged(lost) => {
            let words = format!("at {from}: damaged up to {to}: {lost} records are lost");
            sum.damaged(&gap.path, &words, out)
        }
        Why::Unreadable(why) => {
            let words = format!("at {from}: cannot be read: {why}");
            sum.damaged(&gap.path, &words, out)
        }
        Why::Torn => {
            let words = format!("at {from}: torn tail, no damage: its client never heard of it");
            sum.torn(&gap.path, &words, out)
        }
    }
}

fn verify_cursors(log: &Log, sum: &mut Sum, out: &mut impl Write) -> Result<(), Stop> {
    let path = log.folder.join(cursors::FILE);
    let bytes = cursors::place_bytes(log.names.len());
    let mut places = Vec::new();
    match File::open(&path) {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(()),
        file => file.and_then(|file| {
            file.take((cursors::PLACES * bytes) as u64)
                .read_to_end(&mut places)
        }),
    }
    .map_err(|why| Stop::disk(&path, why))?;
    sum.cursors += 1;
    if log.names.is_empty() {
        return Ok(()); // what they count is not known
    }
    let is_whole = |place: &[u8]| {
        cursors::decode(place).is_some_and(|(_, marks, _)| marks.len() == log.names.len())
    };
    let wrong = |place: &[u8]| !is_whole(place) && place.iter().any(|&byte| byte != 0);
    let has_whole = places.chunks(bytes).any(is_whole);
    for (number, place) in places.chunks(bytes).enumerate() {
        let at = number * bytes;
        match (wrong(place), has_whole) {
            (false, _) => {}
            (true, true) => {
                let words = format!("at {at}: torn, no damage: another place counts");
                sum.torn(&path, &words, out)?;
            }
            (true, false) => {
                let words = format!("at {at}: damaged: what was replayed is replayed again");
                sum.damaged(&path, &words, out)?;
            }
        }
    }
    Ok(())
}

fn verify_letters(file: &LetterFile, sum: &mut Sum, out: &mut impl Write) -> Result<(), Stop> {
    let Some(mut letters) = Letters::open(file)? else {
        return Ok(());
    };
    while let Some((number, line)) = letters.next()? {
        match line {
            Line::Letter(..) => sum.letters += 1,
            Line::Torn => {
                let words = format!("line {number}: torn, no damage: it was not written whole");
                sum.torn(&file.path, &words, out)?;
            }
            Line::Damaged => {
                let words = format!("line {number}: damaged: no dead letter");
                sum.damaged(&file.path, &words, out)?;
            }
        }
    }
    Ok(())
}
