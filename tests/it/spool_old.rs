//! What is owed for longer than it may be is dropped, and counted; what is younger is delivered.

use crate::client::{ask, until};
use crate::spool_site::Site;
use crate::store::Store;

/// A number of b's row in `/status`.
fn of_b(site: &Site, key: &str) -> u64 {
    let page = ask(&site.http, "GET", "/status", "", b"").body;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    page["status"]["b"][key].as_u64().unwrap()
}

#[test]
fn spool_drops_what_is_too_old_and_delivers_what_is_not() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[("RELAY_SPOOL_MAX_AGE", "2s")]);
    (0..3).for_each(|n| site.write(&format!("m,n={n} v=1i 1")));
    assert_eq!(of_b(&site, "owedRecords"), 3);
    until("they are too old", || of_b(&site, "dropped") == 3);
    assert_eq!(of_b(&site, "owedRecords"), 0);
    site.write("m,n=young v=1i 1");
    b.start();
    site.level("b");
    assert_eq!(b.lines(), ["m,n=young v=1i 1"]);
    assert_eq!(a.count(), 4, "a has them all");
    assert_eq!(of_b(&site, "dropped"), 3);
}
