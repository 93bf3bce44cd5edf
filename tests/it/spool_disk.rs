//! A disk that is full: clients do not notice, and once there is room the spool is at work again.

use std::fs::{self, File};
use std::time::Duration;

use crate::client::{until, within};
use crate::spool_site::{Folder, Site, addresses};
use crate::store::Store;

fn write(site: &Site, n: usize) {
    site.write(&format!("m,n={n} v=\"{}\" {n}", "k".repeat(10_000)));
}

fn has(store: &Store, n: usize) -> bool {
    store.value(&format!("m,n={n} {n}")).is_some()
}

#[test]
fn spool_on_a_full_disk_stops_no_write_and_goes_on_when_there_is_room() {
    let Some(folder) = Folder::on_disk_of("3m") else {
        return;
    };
    let (a, mut b) = (Store::new(), Store::away());
    let env = [("RELAY_SPOOL_SEGMENT_SIZE", "256KiB")];
    let site = Site::at(folder, addresses(&[("a", &a), ("b", &b)]), &env);
    (0..450).for_each(|n| write(&site, n));
    site.says("the spool's disk takes nothing", 1);
    assert_eq!(a.count(), 450);
    b.start();
    site.level("b");
    let kept = (0..450).take_while(|n| has(&b, *n)).count();
    assert!((200..315).contains(&kept), "{kept} of 10 kB each were kept");

    let mut n = 450;
    until("the disk is tried again", || {
        write(&site, n);
        n += 1;
        site.said().contains("the spool's disk takes writes again")
    });
    b.stop();
    let away = n..n + 50;
    away.clone().for_each(|n| write(&site, n));
    b.start();
    site.level("b");
    assert_eq!(away.filter(|n| !has(&b, *n)).count(), 0);
    assert_eq!(a.count(), n + 50);
}

/// A write whose record goes into the log from where it lies.
fn write_large(site: &Site, n: usize) {
    site.write(&format!("m,n={n} v=\"{}\" {n}", "k".repeat(40_000)));
}

/// Whether the relay has files of its spool in its memory.
fn is_mapped(site: &Site) -> bool {
    let maps = fs::read_to_string(format!("/proc/{}/maps", site.pid()));
    maps.unwrap().contains(".seg")
}

#[test]
fn spool_files_that_are_cut_under_the_relay_end_neither_it_nor_a_write() {
    let (a, b) = (Store::new(), Store::new());
    let env = [("RELAY_CPUS", "0"), ("RELAY_SPOOL_SEGMENT_SIZE", "256KiB")];
    let site = Site::new(&[("a", &a), ("b", &b)], &env);
    let mut n = 0;
    let write = |n: &mut usize| {
        write_large(&site, *n);
        *n += 1;
    };
    within(Duration::from_secs(10), "files are written anew", || {
        write(&mut n);
        is_mapped(&site)
    });
    for _ in 0..3 {
        for path in site.folder.files(".seg") {
            // It may have another name by now.
            let _gone = File::options()
                .write(true)
                .open(path)
                .map(|file| file.set_len(0));
        }
        (0..40).for_each(|_| write(&mut n));
    }
    until("both have all", || {
        [&a, &b].iter().all(|store| (0..n).all(|n| has(store, n)))
    });
}
