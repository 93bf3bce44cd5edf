//! Who may do what at a listener, and how often: `users`, `tokens`, and the rates. Pure.
//!
//! ```text
//!  # name  hash                                 rights
//!  grafana   $argon2id$v=19$m=19456,t=2,p=1$…$…   read=*
//!  telegraf  $argon2id$v=19$m=19456,t=2,p=1$…$…   write=telegraf,metrics read=telegraf
//!  ops       sha256:0f3c…                         all
//! ```
//!
//! One entry a line, parted by blanks; `#` begins a comment. Of a token the name is a label, and may be
//! missing. Rights are never implied: an entry without any is a problem. `admin` on a database holds the
//! other two, `*` is every database, `all` is `admin=*`; a blank or a comma in a name is written `%20`, `%2C`.
//!
//! A problem here quotes nothing: whatever stands in a list may be a secret in the wrong place.

use std::collections::HashSet;

use crate::access::hash;
use crate::config::kind::Whole;
use crate::config::problem::nearest;
use crate::config::reader::Reader;
use crate::config::secret;
use crate::config::section::Section;
use crate::http::target::decoded;
use crate::limits::access as bound;
use crate::plan::Secret;
use crate::plan::access::{
    AccessPlan, EntryPlan, HashPlan, RatePlan, RatesPlan, ReachPlan, RightsPlan,
};

const RIGHTS: &str = "`all`, or some of read=DB,DB write=DB admin=DB, where * is every database";

/// Who may write or query; `None` where neither list is set.
pub fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<AccessPlan> {
    let users = read_list(reader, section, "users", "user", user);
    let tokens = read_list(reader, section, "tokens", "token", token);
    if users.is_none() && tokens.is_none() {
        return None;
    }
    let (users, tokens) = (users.unwrap_or_default(), tokens.unwrap_or_default());
    let is_slow = |token: &&EntryPlan| matches!(token.hash, HashPlan::Argon2id(_));
    let slow = tokens.iter().filter(is_slow).count();
    if slow > bound::SLOW_TOKENS_MAX {
        let at = secret::at(reader, section, "tokens");
        let (found, want) = (
            format!("{slow} tokens that are held as argon2id"),
            format!(
                "at most {}, as a wrong token is tried against each; sha256: for the others",
                bound::SLOW_TOKENS_MAX
            ),
        );
        reader.problem(at, found, want);
    }
    Some(AccessPlan { users, tokens })
}

/// One list, with a row that says how many stand in it and nothing else.
fn read_list(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    name: &str,
    one: &str,
    read: fn(&str) -> Result<EntryPlan, Wrong>,
) -> Option<Vec<EntryPlan>> {
    let (set, source) = secret::quiet(reader, section, name);
    let Some(Secret(text)) = set else {
        reader.row(section.key(name), "none", source);
        return None;
    };
    let at = secret::at(reader, section, name);
    let (mut entries, mut names, mut hashes) = (Vec::new(), HashSet::new(), HashSet::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = read(line).and_then(|entry| {
            let is_new = entry.name.is_empty() || names.insert(entry.name.clone());
            match (is_new, &entry.hash) {
                (false, _) => Err(Wrong::new("a name that stands there twice", "each once")),
                (_, HashPlan::Sha256(digest)) if !hashes.insert(*digest) => {
                    Err(Wrong::new("a token that stands there twice", "each once"))
                }
                _ => Ok(entry),
            }
        });
        match entry {
            Ok(entry) => entries.push(entry),
            Err(Wrong { found, want }) => {
                reader.problem(at.clone(), format!("line {number}: {found}"), want);
            }
        }
    }
    let count = entries.len();
    if count == 0 {
        let want = "at least one entry: this would let in nobody";
        reader.problem(at.clone(), format!("no {one} that can be used"), want);
    }
    if count > bound::ENTRIES_MAX {
        let most = format!("at most {}", bound::ENTRIES_MAX);
        reader.problem(at, format!("{count} entries"), most);
    }
    let plural = if count == 1 { "" } else { "s" };
    reader.row(section.key(name), format!("{count} {one}{plural}"), source);
    Some(entries)
}

/// What is wrong with one line.
struct Wrong {
    found: &'static str,
    want: String,
}

impl Wrong {
    fn new(found: &'static str, want: impl Into<String>) -> Self {
        Self {
            found,
            want: want.into(),
        }
    }
}

fn user(line: &str) -> Result<EntryPlan, Wrong> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let is_right = !name.contains(|c: char| c == ':' || c.is_control())
        && name.len() <= bound::NAME_BYTES_MAX
        && !hash::is_meant(name);
    if !is_right {
        let want = "NAME HASH RIGHTS with blanks between them, no colon in the name; `influxdb-relay hash NAME` makes NAME HASH";
        return Err(Wrong::new("no name that a user can have", want));
    }
    let read = read_hash(words.next().unwrap_or_default())?;
    if matches!(read, HashPlan::Sha256(_)) {
        let want = "argon2id, as `influxdb-relay hash NAME` makes it";
        return Err(Wrong::new("a password held as sha256", want));
    }
    Ok(EntryPlan {
        name: name.to_owned(),
        hash: read,
        rights: read_rights(words)?,
    })
}

fn token(line: &str) -> Result<EntryPlan, Wrong> {
    let mut words = line.split_whitespace().peekable();
    let label = words.next_if(|word| !hash::is_meant(word));
    let read = read_hash(words.next().unwrap_or_default())?;
    let label = label.unwrap_or_default();
    if label.len() > bound::NAME_BYTES_MAX || label.contains(char::is_control) {
        let want = "one of at most 256 bytes, without control characters";
        return Err(Wrong::new("a label that is too long, or odd", want));
    }
    Ok(EntryPlan {
        name: label.to_owned(),
        hash: read,
        rights: read_rights(words)?,
    })
}

fn read_hash(word: &str) -> Result<HashPlan, Wrong> {
    let want = "a hash, as `influxdb-relay hash` makes it of a secret: none is kept in the clear";
    hash::parse(word).map_err(|found| Wrong::new(found, want))
}

fn read_rights<'t>(words: impl Iterator<Item = &'t str>) -> Result<RightsPlan, Wrong> {
    let mut rights = RightsPlan::default();
    let mut is_any = false;
    for word in words {
        if word.starts_with('#') {
            break;
        }
        is_any = true;
        if word == "all" {
            rights.admin.all = true;
            continue;
        }
        let reach = match word.split_once('=') {
            Some(("read", names)) => Some((&mut rights.read, names)),
            Some(("write", names)) => Some((&mut rights.write, names)),
            Some(("admin", names)) => Some((&mut rights.admin, names)),
            _ => None,
        };
        let (reach, names) = reach.ok_or_else(|| no_right(word))?;
        add(reach, names)?;
    }
    match is_any {
        true => Ok(rights),
        false => Err(Wrong::new("no rights", RIGHTS)),
    }
}

/// A word that is no right, and the right that was meant, if one is near.
fn no_right(word: &str) -> Wrong {
    let (verb, names) = match word.split_once('=') {
        Some((verb, names)) => (verb, Some(names)),
        None => (word, None),
    };
    let known = match names {
        Some(_) => &["read", "write", "admin"][..],
        None => &["all"],
    };
    let near = nearest(verb, known.iter().copied());
    let want = match (near, names) {
        (Some(near), Some(names)) => format!("`{near}={names}`, or {RIGHTS}"),
        (Some(near), None) => format!("`{near}`, or {RIGHTS}"),
        (None, _) => RIGHTS.to_owned(),
    };
    Wrong::new("a word that is no right", want)
}

/// Returns what is wrong with the rights of one entry, if there are any: what was found, and what to write.
pub fn wrong_rights(words: &[String]) -> Option<String> {
    if words.is_empty() {
        return None;
    }
    let read = read_rights(words.iter().map(String::as_str));
    let Wrong { found, want } = read.err()?;
    Some(format!(
        "found {found} in {:?}; write {want}",
        words.join(" ")
    ))
}

fn add(reach: &mut ReachPlan, names: &str) -> Result<(), Wrong> {
    for name in names.split(',') {
        if name == "*" {
            reach.all = true;
            continue;
        }
        let plain = name.replace('+', "%2B"); // only `%` escapes here
        let name = String::from_utf8(decoded(plain.as_bytes()).collect());
        match name.ok().filter(|name| !name.is_empty()) {
            Some(name) => reach.databases.push(name),
            None => return Err(Wrong::new("a right on a database without a name", RIGHTS)),
        }
    }
    if reach.databases.len() > bound::DATABASES_MAX {
        let most = format!("at most {}, or *", bound::DATABASES_MAX);
        return Err(Wrong::new("a right on too many databases", most));
    }
    Ok(())
}

/// How often writes and queries are taken.
pub fn read_rates(reader: &mut Reader<'_>, section: &Section<'_>, has_users: bool) -> RatesPlan {
    let listener = read_rate(reader, section, "rate-limit", "burst-limit");
    let client = read_rate(reader, section, "client-rate-limit", "client-burst-limit");
    let user = read_rate(reader, section, "user-rate-limit", "user-burst-limit");
    if user.is_some() && !has_users {
        let called = reader.called(section, "user-rate-limit");
        reader.not_in_force.push(format!(
            "{called} is set, but there are neither users nor tokens: nobody says who they are"
        ));
    }
    RatesPlan {
        listener,
        client,
        user: user.filter(|_| has_users),
    }
}

/// A rate of 0 is off, a burst of 0 is 1, as in the Go relay.
fn read_rate(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    rate: &str,
    burst: &str,
) -> Option<RatePlan> {
    let kind = Whole {
        min: 0,
        max: bound::RATE_MAX.into(),
    };
    let per_second = reader.take(section, rate, &kind, 0);
    let most = reader.take(section, burst, &kind, 0);
    if per_second == 0 && most > 0 {
        let (burst, rate) = (reader.called(section, burst), section.key(rate));
        let why = format!("{burst} is set, but {rate} is 0: there is no limit");
        reader.not_in_force.push(why);
    }
    let whole = |number| u32::try_from(number).unwrap_or(bound::RATE_MAX);
    (per_second > 0).then(|| RatePlan {
        per_second: whole(per_second),
        burst: whole(most.max(1)),
    })
}
