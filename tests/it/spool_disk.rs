//! A disk that is full: clients do not notice, and once there is room the spool is at work again.

use crate::client::until;
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
