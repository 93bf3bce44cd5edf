//! Files of dead letters, line by line.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::Stop;
use crate::limits::DEAD_LETTER_BYTES_MAX;
use crate::limits::tools::TOOL_READ_BYTES;
use crate::spool::dead_letter::{DeadLetter, without_credentials};

/// The dead letters of one backend.
pub(super) struct LetterFile {
    pub(super) path: PathBuf,
    pub(super) backend: String,
    pub(super) bytes: u64,
}

/// All files of dead letters, by their backends' names.
pub(super) fn files(dir: &Path) -> Result<Vec<LetterFile>, Stop> {
    let folder = dir.join("dead");
    let entries = match fs::read_dir(&folder) {
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|why| Stop::disk(&folder, why))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|why| Stop::disk(&folder, why))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(stem) = name.strip_suffix(".jsonl") {
            let path = entry.path();
            let bytes = entry.metadata().map_err(|why| Stop::disk(&path, why))?;
            found.push(LetterFile {
                bytes: bytes.len(),
                backend: backend_of(stem),
                path,
            });
        }
    }
    found.sort_by(|a, b| a.backend.cmp(&b.backend));
    Ok(found)
}

/// The files of the backend `wanted`, or of all.
pub(super) fn files_of(dir: &Path, wanted: Option<&str>) -> Result<Vec<LetterFile>, Stop> {
    let mut found = files(dir)?;
    found.retain(|file| wanted.is_none_or(|wanted| wanted == file.backend));
    Ok(found)
}

/// The backend's name, out of that of its file.
fn backend_of(stem: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = stem.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escape = behind.get(..2).filter(|_| first == b'%');
        let byte = escape.and_then(|two| u8::from_str_radix(str::from_utf8(two).ok()?, 16).ok());
        rest = byte.map_or(behind, |_| &behind[2..]);
        bytes.push(byte.unwrap_or(first));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What one line is.
pub(super) enum Line {
    /// A letter and its body.
    Letter(DeadLetter, Vec<u8>),
    /// The last line, cut off in the middle: a write was torn.
    Torn,
    /// No letter.
    Damaged,
}

/// One file, being read.
pub(super) struct Letters {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
    number: u64,
}

impl Letters {
    /// Opens a file; `None` where it was removed meanwhile.
    pub(super) fn open(file: &LetterFile) -> Result<Option<Self>, Stop> {
        let opened = match File::open(&file.path) {
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|why| Stop::disk(&file.path, why))?,
        };
        Ok(Some(Self {
            path: file.path.clone(),
            file: BufReader::with_capacity(TOOL_READ_BYTES, opened),
            line: Vec::new(),
            number: 0,
        }))
    }

    /// The next line that is not empty, and its number.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Line)>, Stop> {
        loop {
            let (whole, bytes) = self.read().map_err(|why| Stop::disk(&self.path, why))?;
            if bytes == 0 {
                return Ok(None);
            }
            self.number += 1;
            if bytes == self.line.len() as u64 && self.line.trim_ascii().is_empty() {
                continue;
            }
            return Ok(Some((self.number, self.letter(whole))));
        }
    }

    /// Reads one line; whether it has an end, and its bytes. What is longer than any letter is not kept.
    fn read(&mut self) -> io::Result<(bool, u64)> {
        self.line.clear();
        let mut bytes = 0;
        loop {
            let mut piece = Vec::new();
            let mut some = (&mut self.file).take(DEAD_LETTER_BYTES_MAX);
            let count = some.read_until(b'\n', &mut piece)? as u64;
            bytes += count;
            let whole = piece.last() == Some(&b'\n');
            self.line = piece;
            if whole || count < DEAD_LETTER_BYTES_MAX {
                return Ok((whole, bytes));
            }
        }
    }

    fn letter(&self, whole: bool) -> Line {
        let read: Option<DeadLetter> = serde_json::from_slice(&self.line).ok();
        match read.and_then(|letter| letter.bytes().map(|body| (letter, body))) {
            Some((mut letter, body)) => {
                letter.query = without_credentials(&letter.query);
                Line::Letter(letter, body)
            }
            None if whole => Line::Damaged,
            None => Line::Torn,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::backend_of;
    use crate::spool::dead_letter::file_of;

    #[test]
    fn the_name_of_a_file_tells_its_backend() {
        for name in ["a-1.b", "listener/b", "../x", "ä %41", "%", ".hidden"] {
            let file = file_of(Path::new("d"), name);
            let stem = file.file_stem().unwrap().to_string_lossy();
            assert_eq!(backend_of(&stem), name);
        }
    }
}
