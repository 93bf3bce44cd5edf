//! Files that hold secrets: the one place where they are read.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::limits;

/// A file that holds a secret, whole, or why not. Per start, and per change of the file.
///
/// # Errors
/// In words, without a byte of what is in it.
pub fn read(path: &Path) -> Result<String, String> {
    read_text(path)
}

/// A small text file, whole, or why not.
///
/// # Errors
/// In words.
pub fn read_text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(limits::CONFIG_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limits::CONFIG_BYTES_MAX {
        return Err(format!("longer than {} bytes", limits::CONFIG_BYTES_MAX));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}
