//! The map holds: every `use` points down, pure files are pure, and every room is on the map.
//!
//! Reads the floor table out of `src/lib.rs` and the word `Pure.` out of each file's first lines. The
//! compiler does not mind a circle of imports, so this test does.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of one file, its unit tests not counted.
const FILE_LINES_MAX: usize = 450;

/// What a pure file may not name, and what it should do instead.
const IMPURE: [(&str, &str); 9] = [
    ("std::fs", "take the bytes as an argument"),
    ("std::env", "take the value as an argument"),
    ("std::net::Tcp", "move bytes in the shell beside it"),
    ("std::net::Udp", "move bytes in the shell beside it"),
    ("std::thread", "start threads in `boot`"),
    ("Instant::now", "take `now` as an argument"),
    ("SystemTime", "take the time as an argument"),
    ("glommio", "leave tasks to the shell beside it"),
    ("rustix::", "leave system calls to the shell beside it"),
];

struct Source {
    /// Below `src/`, such as `backend/pool.rs`.
    path: String,
    /// Without its unit tests.
    code: String,
    whole: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    assert!(found.len() > 40, "the sources were found");
    found
        .into_iter()
        .map(|path| {
            let whole = fs::read_to_string(&path).unwrap();
            let code = without_tests(&whole).to_owned();
            let path = path.strip_prefix(&root).unwrap().display().to_string();
            Source { path, code, whole }
        })
        .collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn without_tests(code: &str) -> &str {
    code.split("\n#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or(code)
}

/// The room of a file: its folder, or its own name.
fn room(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Rooms and their floors, from the table in the crate's own documentation.
fn floors(lib: &str) -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    for line in lib.lines() {
        let cells: Vec<&str> = line
            .trim_start_matches("//!")
            .split('|')
            .map(str::trim)
            .collect();
        let Some(floor) = cells.get(1).and_then(|cell| cell.parse().ok()) else {
            continue;
        };
        for name in cells[2].split(',') {
            floors.insert(name.trim().trim_matches('`').to_owned(), floor);
        }
    }
    floors
}

/// Every `crate::…` path that code names, with what follows `crate::`.
fn named(code: &str) -> Vec<&str> {
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let paths = lines.flat_map(|line| line.split("crate::").skip(1));
    paths
        .map(|rest| {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "_:{*".contains(c)));
            &rest[..end.unwrap_or(rest.len())]
        })
        .collect()
}

/// What is wrong with the imports of one file.
fn wrong_imports(path: &str, code: &str, floors: &BTreeMap<String, u32>) -> Vec<String> {
    let own = room(path);
    let mut wrong = Vec::new();
    for name in named(code) {
        let target = name.split(':').next().unwrap();
        match (floors.get(own), floors.get(target)) {
            (_, None) => wrong.push(format!(
                "{path}: `crate::{name}` names no room: import the file that owns it"
            )),
            (Some(here), Some(there)) if target != own && there >= here => {
                wrong.push(format!(
                    "{path}: `{own}` (floor {here}) imports `{target}` (floor {there}): point down"
                ));
            }
            _ => {}
        }
        if name.ends_with('*') {
            wrong.push(format!("{path}: `crate::{name}`: name what is used"));
        }
    }
    if code.contains("use super::") && code.contains("::*;") {
        wrong.push(format!("{path}: a glob: name what is used"));
    }
    wrong
}

#[test]
fn every_import_points_down() {
    let floors = floors(
        &fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap(),
    );
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|source| !["lib.rs", "main.rs"].contains(&source.path.as_str()))
        .flat_map(|source| wrong_imports(&source.path, &source.code, &floors))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_is_on_the_map_and_every_room_of_the_map_is_there() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let map: BTreeSet<String> = floors(&lib).into_keys().collect();
    let there: BTreeSet<String> = sources()
        .iter()
        .map(|source| room(&source.path).to_owned())
        .filter(|room| room != "lib" && room != "main")
        .collect();
    assert_eq!(map, there);
}

/// Whether the first paragraph of a file's documentation ends in the mark.
fn is_pure(code: &str) -> bool {
    let first: Vec<&str> = code
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .take_while(|line| !line.trim().is_empty())
        .collect();
    first
        .last()
        .is_some_and(|line| line.trim_end().ends_with(" Pure."))
}

fn impurities(path: &str, code: &str) -> Vec<String> {
    let code: Vec<&str> = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let found = IMPURE.iter().filter(|(name, _)| code.contains(name));
    found
        .map(|(name, remedy)| format!("{path}: a pure file names `{name}`: {remedy}"))
        .collect()
}

#[test]
fn pure_files_are_pure() {
    let sources = sources();
    let pure: Vec<&Source> = sources
        .iter()
        .filter(|source| is_pure(&source.whole))
        .collect();
    assert!(pure.len() > 20, "the mark was found: {}", pure.len());
    let wrong: Vec<String> = pure
        .iter()
        .flat_map(|source| impurities(&source.path, &source.code))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_begin_with_a_sentence_and_stay_small() {
    for source in sources() {
        assert!(
            source.whole.starts_with("//! "),
            "{}: the first line says what the file is for",
            source.path
        );
        let lines = source.code.lines().count();
        assert!(
            lines <= FILE_LINES_MAX,
            "{}: {lines} lines: find the second room in it",
            source.path
        );
    }
}

/// Whether files of one room import one another in a circle; the circle's files.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        at: &str,
        edges: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
    ) -> Option<Vec<String>> {
        if let Some(begin) = way.iter().position(|seen| seen == at) {
            return Some(way[begin..].to_vec());
        }
        way.push(at.to_owned());
        let found = edges
            .get(at)
            .into_iter()
            .flatten()
            .find_map(|next| visit(next, edges, way));
        way.pop();
        found
    }
    edges
        .keys()
        .find_map(|start| visit(start, edges, &mut Vec::new()))
}

/// Rooms whose files know one another, and why that is right.
const KNIT: [(&str, &str); 1] = [(
    "backend",
    "a link settles jobs, a job tells its backend, a backend hands jobs to links: one machine in four files",
)];

#[test]
fn files_of_a_room_import_in_no_circle() {
    let mut rooms: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for source in sources() {
        let own = room(&source.path).to_owned();
        let file = source.path.trim_end_matches(".rs").replace('/', "::");
        for name in named(&source.code) {
            let parts: Vec<&str> = name.split("::").collect();
            if parts[0] == own && parts.len() > 2 {
                let target = format!("{own}::{}", parts[1]);
                if target != file
                    && !file.ends_with("::mod")
                    && !file.starts_with(&format!("{target}::"))
                {
                    rooms
                        .entry(own.clone())
                        .or_default()
                        .entry(file.clone())
                        .or_default()
                        .insert(target);
                }
            }
        }
    }
    for (room, edges) in &rooms {
        let knit = KNIT.iter().any(|(name, _)| name == room);
        let found = circle(edges);
        assert_eq!(found.is_some(), knit, "{room}: {found:?}");
    }
}

#[test]
fn the_checks_find_what_they_are_for() {
    let floors = floors("//! | 2 | `high` | |\n//! | 1 | `low`, `side` | |");
    assert_eq!(floors.len(), 3);
    assert!(wrong_imports("high/a.rs", "use crate::low::b::C;", &floors).is_empty());
    assert_eq!(
        wrong_imports("low.rs", "use crate::high::b::C;", &floors).len(),
        1
    );
    assert_eq!(
        wrong_imports("low.rs", "use crate::side::C;", &floors).len(),
        1
    );
    assert_eq!(
        wrong_imports("high/a.rs", "use crate::{low::B, side::C};", &floors).len(),
        1
    );
    assert_eq!(
        wrong_imports("high/a.rs", "use crate::low::*;", &floors).len(),
        1
    );
    assert_eq!(
        wrong_imports("low.rs", "fn f() { crate::high::g() }", &floors).len(),
        1
    );
    assert!(
        is_pure("//! One thing. Pure.\n//!\n//! More.")
            && !is_pure("//! One thing.\n//!\n//! Pure.")
    );
    assert_eq!(impurities("a.rs", "use std::fs::File;").len(), 1);
    assert!(impurities("a.rs", "/// like std::fs").is_empty());
    let edges = |pairs: &[(&str, &str)]| {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            edges
                .entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        edges
    };
    assert!(circle(&edges(&[("a", "b"), ("b", "c"), ("c", "a")])).is_some());
    assert!(circle(&edges(&[("a", "b"), ("b", "c"), ("a", "c")])).is_none());
}
