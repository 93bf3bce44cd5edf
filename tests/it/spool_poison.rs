//! What one backend will never take, and another took: it is set aside, word for word, and nothing
//! waits behind it.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::backend::Seen;
use crate::client::until;
use crate::spool_site::{Folder, Site};
use crate::store::{Does, Store};

const REFUSED: Does = Does::Say(
    400,
    "X-Influxdb-Error: unable to parse\r\n",
    "{\"error\":\"unable to parse\"}",
);

fn holds(seen: &Seen, word: &str) -> bool {
    let body = String::from_utf8_lossy(&seen.body);
    body.contains(word)
}

/// The dead letters of backend b.
fn letters(folder: &Folder) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path().join("dead/b.jsonl")).unwrap_or_default();
    let parse = |line| serde_json::from_str(line).unwrap();
    text.lines().map(parse).collect()
}

/// The bodies of the dead letters, in order, without the newlines at their ends.
fn dead(folder: &Folder) -> Vec<String> {
    let body = |letter: Value| letter["body"].as_str().unwrap().trim_end().to_owned();
    letters(folder).into_iter().map(body).collect()
}

/// A relay before a, which takes everything, and b, which is not there yet.
fn site(env: &[(&str, &str)]) -> (Store, Store, Site) {
    let (a, b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], env);
    (a, b, site)
}

fn point(n: usize) -> String {
    format!("m,n={n} v=1i {n}")
}

/// b has these points and no others, and everything that was written later.
fn has_all_but(b: &Store, site: &Site, innocents: impl Iterator<Item = usize>) {
    site.level("b");
    site.write("later v=1i 1");
    until("nothing waits behind it", || b.value("later 1").is_some());
    let mut expected: Vec<String> = innocents.map(|n| format!("m,n={n} {n}")).collect();
    expected.push("later 1".to_owned());
    expected.sort();
    assert_eq!(b.points().into_keys().collect::<Vec<_>>(), expected);
}

#[test]
fn spool_sets_aside_exactly_the_lines_that_are_refused() {
    let (_a, mut b, site) = site(&[]);
    b.rule(|seen| match holds(seen, "bad") {
        true => REFUSED,
        false => Does::Take,
    });
    for n in 0..40 {
        let (one, other) = (point(2 * n), point(2 * n + 1));
        let body = match n {
            7 => format!("bad,n=7 v=1i 7\n{one}\n{other}"),
            20 => format!("{one}\nbad,n=20 v=\"of two\nlines\" 20\n{other}\n"),
            33 => format!("{one}\n{other}\nbad,n=33 v=1i 33"),
            _ => format!("{one}\n{other}"),
        };
        site.write(&body);
    }
    b.start();
    has_all_but(&b, &site, 0..80);
    assert_eq!(
        dead(&site.folder),
        [
            "bad,n=7 v=1i 7",
            "bad,n=20 v=\"of two\nlines\" 20",
            "bad,n=33 v=1i 33"
        ]
    );
    for letter in letters(&site.folder) {
        assert_eq!(
            (&letter["backend"], &letter["status"], &letter["reason"]),
            (
                &"b".into(),
                &400.into(),
                &"{\"error\":\"unable to parse\"}".into()
            )
        );
        assert_eq!(
            (&letter["path"], &letter["query"]),
            (&"/write".into(), &"db=x".into())
        );
    }
}

#[test]
fn spool_sets_aside_what_is_refused_live_after_another_took_it() {
    let (_a, mut b, site) = site(&[]);
    b.start();
    b.rule(|seen| match holds(seen, "bad") {
        true => REFUSED,
        false => Does::Take,
    });
    for n in 0..20 {
        // Who speaks first decides what the client hears; b is owed it only if that is a.
        let body = format!("{}\nbad,n={n} v=1i {n}", point(n));
        let answer = crate::client::write(&site.http, "/write?db=x", &body);
        assert!(matches!(answer.status, 204 | 400), "{answer:?}");
    }
    for n in 20..40 {
        site.write(&point(n));
    }
    has_all_but(&b, &site, 0..40);
    assert_eq!(dead(&site.folder).len(), 20, "{:?}", dead(&site.folder));
}

#[test]
fn spool_splits_what_is_too_large_for_a_backend() {
    let (_a, mut b, site) = site(&[]);
    b.rule(|seen| match seen.body.len() > 500 {
        true => Does::Say(413, "", "Request Entity Too Large"),
        false => Does::Take,
    });
    for n in 0..60 {
        site.write(&point(n));
    }
    let long = format!("m,n=60 v=\"{}\" 60", "long".repeat(150));
    site.write(&long);
    site.write(&point(61));
    b.start();
    has_all_but(&b, &site, (0..60).chain([61]));
    assert_eq!(dead(&site.folder), [long], "what is too long by itself");
}

#[test]
fn spool_sets_aside_a_write_that_always_gets_500() {
    never_taken(&Does::Say(500, "", "engine: it never heals"), 500);
}

#[test]
fn spool_sets_aside_a_write_on_which_a_backend_dies() {
    never_taken(&Does::Close, 0);
}

fn never_taken(does: &Does, status: u16) {
    let env = [
        ("RELAY_SPOOL_POISON_ATTEMPTS", "3"),
        ("RELAY_SPOOL_POISON_AFTER", "1s"),
    ];
    let (_a, mut b, site) = site(&env);
    let does = does.clone();
    b.rule(move |seen| match holds(seen, "deadly") {
        true => does.clone(),
        false => Does::Take,
    });
    for n in 0..50 {
        match n {
            20 => site.write("deadly,n=20 v=1i 20"),
            _ => site.write(&point(n)),
        }
    }
    b.start();
    has_all_but(&b, &site, (0..50).filter(|n| *n != 20));
    assert_eq!(dead(&site.folder), ["deadly,n=20 v=1i 20"]);
    assert_eq!(letters(&site.folder)[0]["status"], status);
    let taken = b.lines();
    let last_of = |n| taken.iter().rposition(|line| *line == point(n)).unwrap();
    assert!(
        (21..49).all(|n| last_of(n) < last_of(n + 1)),
        "what was tried beside it came again in its turn: {taken:?}"
    );
}

#[test]
fn spool_keeps_a_write_that_all_get_500_for() {
    let env = [
        ("RELAY_SPOOL_POISON_ATTEMPTS", "3"),
        ("RELAY_SPOOL_POISON_AFTER", "1s"),
        ("RELAY_HTTP_MAX_DELAY_INTERVAL", "500ms"),
    ];
    let (_a, mut b, site) = site(&env);
    b.rule(|_| Does::Say(500, "", "disk full"));
    for n in 0..5 {
        site.write(&point(n));
    }
    b.start();
    until("it was tried often enough", || b.seen().len() > 20);
    b.rule(|_| Does::Take);
    has_all_but(&b, &site, 0..5);
    assert_eq!(dead(&site.folder), Vec::<String>::new());
}

#[test]
fn spool_sets_nothing_aside_for_a_backend_that_heals_at_the_wrong_moment() {
    let env = [
        ("RELAY_SPOOL_POISON_ATTEMPTS", "3"),
        ("RELAY_SPOOL_POISON_AFTER", "1s"),
    ];
    let (_a, mut b, site) = site(&env);
    let has_healed = AtomicBool::new(false);
    b.rule(move |seen| {
        // It heals when it is asked, after one write has failed often enough, for the one behind.
        let is_asked_for_another = seen.body == point(1).as_bytes();
        match has_healed.fetch_or(is_asked_for_another, Ordering::Relaxed) || is_asked_for_another {
            true => Does::Take,
            false => Does::Say(500, "", "disk full"),
        }
    });
    for n in 0..5 {
        site.write(&point(n));
    }
    b.start();
    has_all_but(&b, &site, 0..5);
    assert_eq!(dead(&site.folder), Vec::<String>::new());
}
