//! Files of a spool that are not as they were written: the start works, and what is whole is delivered.

use std::fs;
use std::path::PathBuf;

use crate::client::until;
use crate::spool_site::Site;
use crate::store::Store;

const COUNT: usize = 300;

fn point(n: usize) -> String {
    format!("m,n={n} v=1i {n}")
}

/// A relay, killed, whose spool owes b 300 points; on one shard, so that they are in one log.
fn owing(env: &[(&str, &str)]) -> (Store, Store, Site) {
    let (a, b) = (Store::new(), Store::away());
    let mut site = Site::new(&[("a", &a), ("b", &b)], env);
    for n in 0..COUNT {
        site.write(&point(n));
    }
    site.kill();
    (a, b, site)
}

/// Starts it; b comes and gets all but these.
fn delivers_all_but(mut b: Store, site: &mut Site, lost: &[usize]) {
    site.start();
    b.start();
    site.level("b");
    let missing: Vec<usize> = (0..COUNT)
        .filter(|n| b.value(&format!("m,n={n} {n}")).is_none())
        .collect();
    assert_eq!(missing, lost);
    site.write("later v=1i 1");
    until("it takes new writes", || b.value("later 1").is_some());
}

/// The segment that holds this point, and where its record begins in it.
fn record_of(site: &Site, n: usize) -> (PathBuf, Vec<u8>, usize) {
    let body = point(n);
    for path in site.folder.files(".seg") {
        let bytes = fs::read(&path).unwrap();
        if let Some(at) = find(&bytes, body.as_bytes()) {
            let start = (0..at)
                .rev()
                .find(|&start| bytes[start..].starts_with(b"KEPT"));
            return (path, bytes, start.unwrap());
        }
    }
    panic!("no record of {body}");
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

const ONE_SHARD: (&str, &str) = ("RELAY_CPUS", "0");

#[test]
fn spool_loses_only_the_records_that_are_damaged() {
    let (_a, b, mut site) = owing(&[ONE_SHARD]);
    // In the state, the checksum, the length, and in the body of one after the other.
    for (n, byte) in [(100, 1), (150, 5), (200, 41), (250, 100)] {
        let (path, mut bytes, start) = record_of(&site, n);
        bytes[start + byte] ^= 0x20;
        fs::write(path, bytes).unwrap();
    }
    delivers_all_but(b, &mut site, &[100, 150, 200, 250]);
    let said = site.said();
    assert!(
        said.contains("records of the spool are damaged and lost"),
        "{said}"
    );
}

#[test]
fn spool_cuts_a_torn_tail() {
    let (_a, b, mut site) = owing(&[ONE_SHARD]);
    let (path, bytes, start) = record_of(&site, COUNT - 1);
    fs::write(path, &bytes[..start + 70]).unwrap();
    delivers_all_but(b, &mut site, &[COUNT - 1]);
    assert!(!site.said().contains("damaged"), "{}", site.said());
}

#[test]
fn spool_needs_one_copy_of_a_head_and_no_cursors() {
    let env = [ONE_SHARD, ("RELAY_SPOOL_SEGMENT_SIZE", "64KiB")];
    let (a, b) = (Store::new(), Store::away());
    let mut site = Site::new(&[("a", &a), ("b", &b)], &env);
    for n in 0..COUNT {
        site.write(&format!("m,n={n} v=1i,s=\"{}\" {n}", "s".repeat(1000)));
    }
    site.kill();
    let segments = site.folder.files(".seg");
    assert!(segments.len() >= 4, "{segments:?}");
    let mut bytes = fs::read(&segments[1]).unwrap();
    bytes[3] ^= 1;
    fs::write(&segments[1], bytes).unwrap();
    for cursors in site.folder.files("cursors") {
        fs::write(cursors, b"nonsense").unwrap();
    }
    delivers_all_but(b, &mut site, &[]);
    let said = site.said();
    assert!(said.contains("1 of 4 copies of its head"), "{said}");
}

/// Both copies of a head are gone: its records are lost and counted, and those around it are delivered.
#[test]
fn spool_counts_the_records_of_a_segment_without_a_head() {
    let env = [ONE_SHARD, ("RELAY_SPOOL_SEGMENT_SIZE", "64KiB")];
    let (a, b) = (Store::new(), Store::away());
    let mut b = b;
    let mut site = Site::new(&[("a", &a), ("b", &b)], &env);
    for n in 0..COUNT {
        site.write(&format!("m,n={n} v=1i,s=\"{}\" {n}", "s".repeat(1000)));
    }
    site.kill();
    let segments = site.folder.files(".seg");
    let first = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        usize::from_str_radix(&name, 16).unwrap()
    };
    let lost = first(&segments[2]) - first(&segments[1]);
    fs::write(&segments[1], b"").unwrap();
    site.start();
    b.start();
    site.level("b");
    assert_eq!(b.count(), COUNT - lost);
    let damaged = site.metric("relay_spool_damaged_total{backend=\"b\"}");
    assert_eq!(damaged, lost as u64);
    assert!(
        site.said().contains("its head is damaged"),
        "{}",
        site.said()
    );
}

#[test]
fn spool_starts_though_nothing_of_a_log_can_be_read() {
    let (_a, b, mut site) = owing(&[ONE_SHARD]);
    for segment in site.folder.files(".seg") {
        fs::write(segment, b"nonsense").unwrap();
    }
    site.start();
    let said = site.said();
    assert!(said.contains("nothing of it can be replayed"), "{said}");
    drop(b);
    site.write("later v=1i 1");
}

#[test]
fn spool_of_a_later_version_is_left_alone() {
    let (_a, b, mut site) = owing(&[ONE_SHARD]);
    let (path, mut bytes, _) = record_of(&site, 0);
    let was = bytes.clone();
    for copy in [0, 512] {
        bytes[copy + 8..copy + 12].copy_from_slice(&7_u32.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[copy..copy + 64]);
        bytes[copy + 64..copy + 68].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&path, &bytes).unwrap();
    let refused = site.try_start().unwrap_err();
    assert_eq!(refused.code, Some(2), "{}", refused.said);
    let (name, said) = (path.to_str().unwrap(), &refused.said);
    assert!(said.contains(name) && said.contains("version 7"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing was changed");
    fs::write(&path, was).unwrap();
    delivers_all_but(b, &mut site, &[]);
}
