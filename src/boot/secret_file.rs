//! Files that hold secrets: the one place where they are read, and where one that is open to all is refused.
//!
//! Who may log in to a machine is not thereby to know the passwords of its databases. What counts is the file
//! that is read, at the end of all links, as it is when it is open: its mode comes from the descriptor, so
//! nobody can put another file there in between.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::boot::unfit::Unfit;
use crate::limits;

/// What those may do who are neither the file's owner nor in its group; the last is to change it.
const OTHERS: u32 = 0o007;
/// What to do about a secret that is open to all.
pub const CLOSE_IT: &str = "`chmod 640` it, with the relay's group (`chgrp`), or 600 if the relay owns it; where a \
                            container mounts it, set defaultMode (Kubernetes) or mode (Docker) to 0440";

/// A small text file.
#[derive(Debug)]
pub struct TextFile {
    /// All of it.
    pub text: String,
    /// The bits that say who may do what with it.
    mode: u32,
}

impl TextFile {
    /// What is wrong with its mode, if it holds a secret: in words; `None` where others may do nothing with it.
    pub fn exposed(&self) -> Option<String> {
        let may = match self.mode & OTHERS {
            0 => return None,
            bits if bits & 0o2 != 0 => "change",
            bits if bits & 0o4 != 0 => "read",
            _ => "use",
        };
        let mode = self.mode & 0o7777;
        Some(format!(
            "a secret that all users may {may} (mode {mode:04o})"
        ))
    }
}

/// Why a secret could not be had.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    /// It cannot be read: why.
    Failed(String),
    /// Others may read or change it: in words.
    Exposed(String),
}

impl Unread {
    /// The problem in full, for `at`. What can be read at all has `want` for a remedy.
    pub fn at(self, at: String, want: &'static str) -> Unfit {
        match self {
            Self::Failed(why) => Unfit {
                at,
                found: format!("cannot be read ({why})"),
                want,
            },
            Self::Exposed(found) => Unfit {
                at,
                found,
                want: CLOSE_IT,
            },
        }
    }
}

/// A file that holds a secret, whole, or why not. Per start, and per change of the file.
///
/// # Errors
/// Without a byte of what is in it.
pub fn read(path: &Path) -> Result<String, Unread> {
    let file = read_text(path).map_err(Unread::Failed)?;
    match file.exposed() {
        None => Ok(file.text),
        Some(found) => Err(Unread::Exposed(found)),
    }
}

/// A small text file, whole, or why not. Whoever finds a secret in it asks [`TextFile::exposed`].
///
/// # Errors
/// In words.
pub fn read_text(path: &Path) -> Result<TextFile, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mode = file.metadata().map_err(|error| error.to_string())?.mode();
    file.take(limits::CONFIG_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limits::CONFIG_BYTES_MAX {
        return Err(format!("longer than {} bytes", limits::CONFIG_BYTES_MAX));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))?;
    Ok(TextFile { text, mode })
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::{OTHERS, Unread, read, read_text};

    #[test]
    fn every_mode_that_is_open_to_others_is_refused_and_no_other() {
        let folder = std::env::temp_dir().join(format!("relay-modes-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (file, link) = (folder.join("secret"), folder.join("link"));
        write(&file, "hunter2").unwrap();
        symlink(&file, &link).unwrap(); // a link's own mode is 0777
        for mode in 0o400..=0o777 {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let Ok(text) = read_text(&file) else {
                continue; // not everybody may read what is not for them
            };
            assert_eq!(text.text, "hunter2");
            for path in [&file, &link] {
                match read(path) {
                    Ok(text) => {
                        assert_eq!(mode & OTHERS, 0, "{mode:o}");
                        assert_eq!(text, "hunter2");
                    }
                    Err(Unread::Exposed(why)) => {
                        assert_ne!(mode & OTHERS, 0, "{mode:o}");
                        assert!(why.ends_with(&format!("(mode {mode:04o})")), "{why}");
                        assert!(!why.contains("hunter2"));
                    }
                    Err(Unread::Failed(why)) => panic!("{mode:o}: {why}"),
                }
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
