//! A backend that is a long way off.

use std::time::Duration;

use crate::client::{within, write};
use crate::spool_site::Site;
use crate::store::Store;

/// Each answer takes 300 ms: 11 MB in records of 1 KB are there in less than 12 s.
#[test]
fn spool_brings_a_backend_level_that_is_far_away() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let filler = "x".repeat(950);
    for n in 0..11_000 {
        let line = format!("m,n={n} f=\"{filler}\" 1");
        assert_eq!(write(&site.http, "/write?db=x", &line).status, 204);
    }
    b.is_away(Duration::from_millis(300));
    b.start();
    within(Duration::from_secs(12), "b has everything", || {
        b.count() == 11_000
    });
    let requests = b.seen().len();
    assert!(requests < 30, "one request a window: {requests}");
    site.level("b");
}
