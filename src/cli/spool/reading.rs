//! Reading logs and dead letters piece by piece, waiting for the disk.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backend::flight::Kind;
use crate::spool::dead_letter::DeadLetter;
use crate::spool::disk::DiskFile;
use crate::spool::record::Record;
use crate::spool::source::{Bound, Source, Step};
use crate::spool::track::{LEVEL, Track};

/// Walks the records that the backend called `name` is owed in one log; the count of damaged ones.
///
/// # Errors
/// What `each` says, or the disk.
pub fn owed<E: From<io::Error>>(
    track: &Arc<Track<File>>,
    name: &str,
    mut each: impl FnMut(&Record<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    let Some(place) = track.names.iter().position(|own| own == name) else {
        return Ok(0);
    };
    let next = track.cursor(place);
    if next == LEVEL {
        return Ok(0);
    }
    let mut source = Source::new(Arc::clone(track), place, next, 0);
    loop {
        match source.step(Bound::ALL) {
            Step::Ready => {
                if let Some(record) = source.record() {
                    each(&record)?;
                }
                source.take();
            }
            Step::Want(want) => {
                let bytes = piece(&want.segment.file, want.at, want.bytes)?;
                source.fill(&want, &bytes);
            }
            Step::Empty => return Ok(source.take_damaged()),
        }
    }
}

/// Bytes of a file, fewer at its end.
///
/// # Errors
/// What the disk says.
pub fn piece(file: &File, at: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let left = file.metadata()?.len().saturating_sub(at);
    let mut buffer = vec![0; bytes.min(usize::try_from(left).unwrap_or(usize::MAX))];
    let mut filled = 0;
    while filled < buffer.len() {
        match DiskFile::read_at(file, &mut buffer[filled..], at + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// The files of dead letters, sorted.
///
/// # Errors
/// What the disk says; none is no error.
pub fn dead_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    match fs::read_dir(dir.join("dead")) {
        Ok(entries) => files.extend(entries.flatten().map(|entry| entry.path())),
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(why),
    }
    files.sort();
    Ok(files)
}

/// Walks the letters of one file, each with its line's number; what cannot be read is an `Err` of it.
///
/// # Errors
/// What `each` says, or the disk.
pub fn letters<E: From<io::Error>>(
    file: &Path,
    mut each: impl FnMut(usize, Result<DeadLetter, String>) -> Result<(), E>,
) -> Result<(), E> {
    let lines = BufReader::new(File::open(file)?).split(b'\n');
    for (number, line) in lines.enumerate() {
        let letter = serde_json::from_slice::<DeadLetter>(&line?).map_err(|why| why.to_string());
        each(number + 1, letter)?;
    }
    Ok(())
}

/// The path of a kind of write, as the backends of the field have it.
pub fn path_of(number: u8) -> &'static str {
    match Kind::of_number(number) {
        Some(Kind::Write) => "/write",
        Some(Kind::WriteV2) => "/api/v2/write",
        Some(Kind::WriteV3) => "/api/v3/write_lp",
        Some(Kind::RemoteWrite) => "/api/v1/write",
        None => "(unknown)",
    }
}

/// Milliseconds since 1970, for people.
pub fn time_of(wall_ms: u64) -> String {
    let ms = i64::try_from(wall_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}
