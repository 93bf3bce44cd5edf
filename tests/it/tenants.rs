//! Writes that a header tells apart are never joined.

use std::thread;

use crate::backend::Seen;
use crate::client::{Client, until};
use crate::relay::Relay;
use crate::spool_site::Site;
use crate::store::{Does, Store};

/// A write of one tenant.
fn request(tenant: &str, line: &str) -> Vec<u8> {
    let length = line.len();
    let head = format!(
        "POST /write?db=x HTTP/1.1\r\nHost: r\r\nX-Scope-OrgID: {tenant}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), line.as_bytes()].concat()
}

/// Each request holds the lines of the tenant that its header names, and of no other.
fn are_apart(seen: &[Seen]) -> usize {
    let mut lines = 0;
    for request in seen.iter().filter(|seen| seen.head.contains("/write")) {
        let tenant = ["red", "blue"].into_iter().find(|tenant| {
            let line = format!("x-scope-orgid: {tenant}");
            request.head.to_ascii_lowercase().contains(&line)
        });
        let tenant = tenant.unwrap_or_else(|| panic!("no tenant: {}", request.head));
        let body = String::from_utf8(request.body.clone()).unwrap();
        for line in body.lines() {
            assert!(line.contains(tenant), "{tenant}: {line}");
            lines += 1;
        }
    }
    lines
}

#[test]
fn spool_joins_no_writes_of_two_tenants_in_a_catch_up() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let mut client = Client::new(&site.http);
    for n in 0..40 {
        let tenant = ["red", "blue"][n / 5 % 2];
        client.send(&request(tenant, &format!("m,t={tenant},n={n} v=1i 1")));
        assert_eq!(client.answer().unwrap().status, 204);
    }
    b.start();
    site.level("b");
    assert_eq!(are_apart(&b.seen()), 40);
    assert!(b.seen().len() < 40, "those of one tenant are joined");
}

/// A refused batch is halved, and each half is still its tenant's.
#[test]
fn spool_halves_a_batch_of_one_tenant_with_its_header() {
    let (a, mut b) = (Store::new(), Store::away());
    b.rule(
        |seen| match String::from_utf8_lossy(&seen.body).contains("n=7 ") {
            true => Does::Say(400, "", "{\"error\":\"no\"}"),
            false => Does::Take,
        },
    );
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let mut client = Client::new(&site.http);
    for n in 0..20 {
        client.send(&request("red", &format!("m,t=red,n={n} v=1i 1")));
        assert_eq!(client.answer().unwrap().status, 204);
    }
    b.start();
    until("all that is right is there", || b.count() == 19);
    are_apart(&b.seen());
}

#[test]
fn merge_joins_no_writes_of_two_tenants() {
    let a = Store::new();
    let relay = Relay::start(
        &[("a", &a.address)],
        &[("RELAY_HTTP_MERGE", "auto"), ("RELAY_CPUS", "0")],
    );
    thread::scope(|scope| {
        for client in 0..8 {
            let (http, tenant) = (&relay.http, ["red", "blue"][client % 2]);
            scope.spawn(move || {
                let mut wire = Client::new(http);
                for n in 0..50 {
                    wire.send(&request(
                        tenant,
                        &format!("m,t={tenant},c={client},n={n} v=1i 1"),
                    ));
                    assert_eq!(wire.answer().unwrap().status, 204);
                }
            });
        }
    });
    assert_eq!(are_apart(&a.seen()), 400);
}
