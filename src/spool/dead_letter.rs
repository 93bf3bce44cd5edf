//! What a backend will never take, set aside: one JSON object a line, readable and replayable.
//!
//! ```text
//! {"time":"2026-01-02T03:04:05.678Z","backend":"b","status":400,"reason":"…","path":"/write",
//!  "query":"db=x&precision=s","body":"cpu load=1 2\n"}
//! ```
//!
//! A body that is not UTF-8 stands as `"base64"`. Credentials are left out.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::limits;

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// When it was set aside: RFC 3339, UTC.
    pub time: String,
    /// The backend's name.
    pub backend: String,
    /// The status that condemned it; 0 where the backend died instead of answering.
    pub status: u16,
    /// What the backend said.
    pub reason: String,
    /// The path that it was for.
    pub path: String,
    /// The query, without credentials.
    pub query: String,
    /// The body, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<String>,
    /// The body, if it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base64: Option<String>,
}

impl DeadLetter {
    /// Puts a body where it belongs.
    pub fn set_body(&mut self, body: &[u8]) {
        match std::str::from_utf8(body) {
            Ok(text) => self.body = Some(text.to_owned()),
            Err(_) => self.base64 = Some(STANDARD.encode(body)),
        }
    }

    /// The body's bytes; `None` where the letter is damaged.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.body, &self.base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(coded)) => STANDARD.decode(coded).ok(),
            (None, None) => None,
        }
    }
}

/// A query without `u` and `p`: what is shown and what is set aside holds no password. Escaped keys
/// are such keys too, and a `;` may part pairs: so it was before Go 1.17.
pub fn without_credentials(query: &str) -> String {
    const PARTED: [char; 2] = ['&', ';'];
    let is_secret = |pair: &&str| {
        let key = pair.trim_end_matches(PARTED).split('=').next();
        ["u", "p", "%75", "%70"].contains(&key.unwrap_or_default()) || has_password(pair.as_bytes())
    };
    let pairs = query.split_inclusive(PARTED);
    let shown: String = pairs.filter(|pair| !is_secret(pair)).collect();
    shown.trim_end_matches(PARTED).to_owned()
}

/// What may be shown of the form that a statement came in: nothing, if it sets a password.
pub fn without_passwords(form: &[u8]) -> &[u8] {
    match has_password(form) {
        true => b"q=(not shown, as it sets a password)",
        false => form,
    }
}

/// Whether a piece of a target or of a form speaks of a password, however it is encoded.
fn has_password(text: &[u8]) -> bool {
    let hex = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (mut plain, mut rest) = (Vec::new(), text);
    while let Some((&first, behind)) = rest.split_first() {
        let decoded = match (first, behind) {
            (b'%', [high, low, ..]) => hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        rest = if decoded.is_some() {
            &behind[2..]
        } else {
            behind
        };
        plain.push(decoded.unwrap_or(first).to_ascii_lowercase());
    }
    memchr::memmem::find(&plain, b"password").is_some()
}

/// The file of one backend's dead letters.
pub fn file_of(dir: &Path, backend: &str) -> PathBuf {
    let mut name = String::new();
    for byte in backend.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.'
                if !name.is_empty() || byte != b'.' =>
            {
                name.push(char::from(byte));
            }
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    dir.join("dead").join(name + ".jsonl")
}

/// Appends letters to the file of `backend`, synced. Waits for the disk: never on a shard.
///
/// # Errors
/// What the disk says; `StorageFull` where the file would outgrow [`limits::DEAD_LETTER_BYTES_MAX`].
pub fn bury(dir: &Path, backend: &str, letters: &[DeadLetter]) -> io::Result<()> {
    crate::spool::disk::Place::folder(&dir.join("dead"))?;
    let mut file = fs::File::options()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o600)
        .open(file_of(dir, backend))?;
    let bytes = file.metadata()?.len();
    let mut lines = Vec::new();
    let mut last = [b'\n'];
    if bytes > 0 && file.read_at(&mut last, bytes - 1)? == 1 && last != *b"\n" {
        lines.push(b'\n'); // a torn letter does not spoil the next one
    }
    for letter in letters {
        serde_json::to_writer(&mut lines, letter)?;
        lines.push(b'\n');
    }
    if bytes + lines.len() as u64 > limits::DEAD_LETTER_BYTES_MAX {
        return Err(io::ErrorKind::StorageFull.into());
    }
    file.write_all(&lines)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::{DeadLetter, file_of, without_credentials};
    use std::path::Path;

    #[test]
    fn a_letter_is_read_as_it_was_written_whatever_its_bytes() {
        for body in [&b"cpu load=1 2\n"[..], b"\xff\x00\n", b""] {
            let mut letter = DeadLetter {
                time: String::new(),
                backend: "b".into(),
                status: 400,
                reason: "no \"good\"\n".into(),
                path: "/write".into(),
                query: "db=x".into(),
                body: None,
                base64: None,
            };
            letter.set_body(body);
            let text = serde_json::to_string(&letter).unwrap();
            assert!(!text.contains('\n'));
            let read: DeadLetter = serde_json::from_str(&text).unwrap();
            assert_eq!(read, letter);
            assert_eq!(read.bytes().unwrap(), body);
        }
    }

    #[test]
    fn credentials_go_and_names_stay_in_the_folder() {
        for (query, shown) in [
            ("db=x&u=me&p=secret&rp=y", "db=x&rp=y"),
            ("db=x&rp=y&p=secret", "db=x&rp=y"),
            ("%75=me&%70=secret&db=x", "db=x"),
            ("db=x;p=secret&u=me;rp=y", "db=x;rp=y"),
            ("u&p&db=u=p=", "db=u=p="),
            ("p=secret", ""),
        ] {
            assert_eq!(without_credentials(query), shown, "{query}");
        }
        let file = |name| file_of(Path::new("d"), name).display().to_string();
        assert_eq!(file("a-1.b"), "d/dead/a-1.b.jsonl");
        assert_eq!(file("../x"), "d/dead/%2E.%2Fx.jsonl");
        assert_ne!(file("a/b"), file("a_b"));
    }

    #[test]
    fn statements_with_passwords_are_not_shown() {
        use super::without_passwords;
        let shown = without_credentials("db=x&q=CREATE+USER+a+WITH+PassWord+'hunter2'&epoch=ns");
        assert_eq!(shown, "db=x&epoch=ns");
        let shown = without_credentials("q=SET+%50ASS%57ORD+FOR+a+%3D+'hunter2'&db=x");
        assert_eq!(shown, "db=x");
        let form = b"q=SET+PASSW%4FRD+FOR+a+%3D+%27hunter2%27";
        assert!(!without_passwords(form).ends_with(b"hunter2%27"));
        assert_eq!(without_passwords(b"q=DROP+USER+a%2"), b"q=DROP+USER+a%2");
    }
}
