//! The names of the backends that a spool knows: those that were there at its first start, and those that have
//! accepted something since. Who is not among them is new, and decides nothing yet.
//!
//! ```text
//! DIR/known.json    {"known":["a","b"]}
//! ```
//!
//! The file is replaced as a whole. Where it is damaged, nobody is new.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::limits;

/// The file in the spool's folder.
pub const FILE: &str = "known.json";
const FRESH: &str = "known.json.new";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    known: BTreeSet<String>,
}

/// Returns the names on file; `None` where there is no file.
///
/// # Errors
/// It cannot be read, or is damaged.
pub fn read(dir: &Path) -> io::Result<Option<BTreeSet<String>>> {
    let file = match File::open(dir.join(FILE)) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why),
    };
    let mut text = String::new();
    let mut bounded = file.take(limits::KNOWN_FILE_BYTES_MAX + 1);
    bounded.read_to_string(&mut text)?;
    if text.len() as u64 > limits::KNOWN_FILE_BYTES_MAX {
        return Err(io::Error::other("it is too long"));
    }
    let page: Page = serde_json::from_str(&text)?;
    Ok(Some(page.known))
}

/// Replaces the names on file. Waits for the disk: never on a shard.
///
/// # Errors
/// What the disk says; what was on file is still there then.
pub fn write(dir: &Path, known: &BTreeSet<String>) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Page {
        known: known.clone(),
    })?;
    text.push(b'\n');
    let fresh = dir.join(FRESH);
    let mut options = File::options();
    options.create(true).write(true).truncate(true).mode(0o600);
    let mut file = options.open(&fresh)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&fresh, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

/// Adds names, as many as may be kept; whether there are more now.
pub fn add<'n>(known: &mut BTreeSet<String>, names: impl Iterator<Item = &'n str>) -> bool {
    let before = known.len();
    for name in names {
        if known.len() < limits::KNOWN_NAMES_MAX && !known.contains(name) {
            known.insert(name.to_owned());
        }
    }
    known.len() > before
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{FILE, add, read, write};

    #[test]
    fn what_is_written_is_read_and_damage_is_no_list() {
        let name = format!("relay-known-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _left_behind = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        assert_eq!(read(&dir).unwrap(), None);
        let mut known = BTreeSet::new();
        assert!(add(&mut known, ["a", "b \"\n"].into_iter()));
        assert!(!add(&mut known, ["a"].into_iter()));
        write(&dir, &known).unwrap();
        assert_eq!(read(&dir).unwrap(), Some(known));
        let whole = std::fs::read(dir.join(FILE)).unwrap();
        for end in 0..whole.len() - 2 {
            std::fs::write(dir.join(FILE), &whole[..end]).unwrap();
            assert!(read(&dir).is_err(), "cut at {end}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
