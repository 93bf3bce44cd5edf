//! What is in a body does not matter to the spool: compressed ones, Prometheus ones, and those of a
//! relay that keeps them in memory, with a file of the Go relay.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::client::{ask, until, write};
use crate::relay::Relay;
use crate::spool_site::{Folder, Site};
use crate::store::{Does, Store, own_address};

fn gzip(body: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn spool_delivers_prometheus_bodies_one_by_one_as_they_came() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let mut dice = StdRng::seed_from_u64(7);
    let mut bodies = Vec::new();
    for n in 0..60 {
        let mut body = vec![0; dice.random_range(1..3000)];
        dice.fill_bytes(&mut body);
        body[0] = n;
        let headers = "Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n";
        let answer = ask(&site.http, "POST", "/api/v1/write", headers, &body);
        assert_eq!(answer.status, 204);
        bodies.push(body);
    }
    b.start();
    site.level("b");
    assert!(b.taken() == bodies, "the same bytes, in order");
    assert_eq!(a.taken().len(), 60);
    for seen in b.seen() {
        let head = seen.head;
        assert!(head.contains("Content-Encoding: snappy\r\n"), "{head}");
        assert!(
            head.contains("X-Prometheus-Remote-Write-Version: 0.1.0\r\n"),
            "{head}"
        );
    }
}

#[test]
fn spool_takes_prometheus_word_for_what_it_has_outgrown() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    b.rule(|seen| match seen.body[0] {
        1 => Does::Say(400, "", "out of order sample"),
        2 => Does::Say(400, "", "duplicate sample for timestamp"),
        3 => Does::Say(400, "", "out of bounds"),
        _ => Does::Take,
    });
    for n in [0, 1, 2, 3, 4] {
        let answer = ask(&site.http, "POST", "/api/v1/write", "", &[n, 0xff]);
        assert_eq!(answer.status, 204);
    }
    b.start();
    site.level("b");
    assert_eq!(b.taken(), [[0, 0xff], [4, 0xff]]);
    let letters = std::fs::read_to_string(site.folder.path().join("dead/b.jsonl")).unwrap();
    assert_eq!(letters.lines().count(), 1, "{letters}");
    assert!(
        letters.contains("out of bounds") && letters.contains("\"base64\":\"A/8=\""),
        "{letters}"
    );
}

#[test]
fn spool_delivers_compressed_bodies() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    b.rule(
        |seen| match String::from_utf8_lossy(&seen.body).contains("bad") {
            true => Does::Say(400, "", "unable to parse"),
            false => Does::Take,
        },
    );
    for n in 0..20 {
        // With times it stays compressed, without it is stamped.
        let body = match n % 2 {
            0 => format!("m,n={n} v=1i {n}\nm,n={n} v=2i 7{n}"),
            _ => format!("m,n={n} v=1i\nm,n={n} v=2i 7{n}"),
        };
        let target = "/write?db=x";
        let answer = ask(
            &site.http,
            "POST",
            target,
            "Content-Encoding: gzip\r\n",
            &gzip(&body),
        );
        assert_eq!(answer.status, 204, "{answer:?}");
        site.write(&format!("plain,n={n} v=1i {n}"));
    }
    b.start();
    site.level("b");
    assert_eq!(b.count(), 60);
    assert_eq!(a.points(), b.points());
}

#[test]
fn spool_finds_the_bad_line_of_a_compressed_body() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    // It parses everything, and refuses a body with a line that is none, keeping the others.
    b.rule(|seen| {
        let is_gzip = seen
            .head
            .to_ascii_lowercase()
            .contains("content-encoding: gzip");
        let is_bad = String::from_utf8_lossy(&seen.body).contains("bad");
        match is_gzip || is_bad {
            true => Does::Say(400, "", "unable to parse"),
            false => Does::Take,
        }
    });
    let body = "m,n=1 v=1i 1\nbad v=1i 1\nm,n=2 v=1i 1\n";
    let headers = "Content-Encoding: gzip\r\n";
    let answer = ask(&site.http, "POST", "/write?db=x", headers, &gzip(body));
    assert_eq!(answer.status, 204, "{answer:?}");
    b.start();
    site.level("b");
    assert_eq!(
        b.points().into_keys().collect::<Vec<_>>(),
        ["m,n=1 1", "m,n=2 1"]
    );
    let letters = std::fs::read_to_string(site.folder.path().join("dead/b.jsonl")).unwrap();
    assert_eq!(letters.lines().count(), 1, "{letters}");
    assert!(letters.contains("\"body\":\"bad v=1i 1\\n\""), "{letters}");
}

#[test]
fn spool_delivers_to_the_target_and_with_the_credentials_of_each_write() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[]);
    let targets = [
        ("/write?db=x", ""),
        ("/write?db=x&rp=short", ""),
        ("/write?db=y&precision=s", "Authorization: Token me:one\r\n"),
        ("/write?db=y&precision=s", "Authorization: Token me:two\r\n"),
        ("/write?db=x&u=me&p=secret", ""),
    ];
    let line = |n: usize| format!("m,n={n},t={} v=1i {n}", n % 7 % targets.len());
    for n in 0..100 {
        let (target, headers) = targets[n % 7 % targets.len()];
        let answer = ask(&site.http, "POST", target, headers, line(n).as_bytes());
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    b.start();
    site.level("b");
    let mut lines = [Vec::new(), Vec::new()];
    for seen in b.seen() {
        let body = String::from_utf8(seen.body).unwrap();
        for line in body.lines() {
            let own = line.split(",t=").nth(1).unwrap()[..1]
                .parse::<usize>()
                .unwrap();
            let (target, headers) = targets[own];
            assert!(
                seen.head
                    .starts_with(&format!("POST {target} HTTP/1.1\r\n")),
                "{line}: {}",
                seen.head
            );
            assert_eq!(
                seen.head.contains("Authorization"),
                !headers.is_empty(),
                "{line}: {}",
                seen.head
            );
            assert!(seen.head.contains(headers), "{line}: {}", seen.head);
            lines[usize::from(target.contains("db=y"))].push(line.to_owned());
        }
    }
    for (database, own) in [("x", [0, 1, 4].as_slice()), ("y", &[2, 3])] {
        let expected = (0..100).filter(|n| own.contains(&(n % 7 % targets.len())));
        let expected: Vec<String> = expected.map(line).collect();
        let got = &lines[usize::from(database == "y")];
        assert_eq!(got, &expected, "{database}, in order");
    }
}

#[test]
fn spool_in_memory_needs_only_the_go_relays_buffer() {
    let (a, mut b) = (Store::new(), Store::away());
    let folder = Folder::new();
    let file = folder.path().join("relay.toml");
    let text = format!(
        "[[http]]\nname = \"go\"\nbind-addr = \"{}\"\noutput = [\n\
         {{ name = \"a\", location = \"http://{}/write\" }},\n\
         {{ name = \"b\", location = \"http://{}/write\", buffer-size-mb = 10, max-batch-kb = 50, \
         max-delay-interval = \"5s\" }},\n]\n",
        own_address(),
        a.address,
        b.address
    );
    std::fs::write(&file, text).unwrap();
    let relay = Relay::of_file(&file);
    for n in 0..300 {
        let answer = write(&relay.http, "/write?db=x", &format!("m,n={n} v=1i {n}"));
        assert_eq!(answer.status, 204);
    }
    b.start();
    until("it has everything", || b.count() == 300);
    assert_eq!(b.lines(), a.lines());
    until("it is live again", || {
        relay.said().contains("backend is level")
    });
    write(&relay.http, "/write?db=x", "later v=1i 1");
    until("and takes new writes", || b.value("later 1").is_some());
    assert!(folder.files(".seg").is_empty());
}

#[test]
fn spool_in_memory_lets_go_of_what_everybody_has() {
    let (a, b) = (Store::new(), Store::new());
    let folder = Folder::new();
    let file = folder.path().join("relay.toml");
    let text = format!(
        "[[http]]\nname = \"go\"\nbind-addr = \"{}\"\noutput = [\n\
         {{ name = \"a\", location = \"http://{}/write\" }},\n\
         {{ name = \"b\", location = \"http://{}/write\", buffer-size-mb = 10 }},\n]\n",
        own_address(),
        a.address,
        b.address
    );
    std::fs::write(&file, text).unwrap();
    let relay = Relay::of_file_with(&file, &[("RELAY_CPUS", "0")]);
    let files = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", relay.pid())).unwrap();
        let targets = open.flatten().map(|fd| std::fs::read_link(fd.path()));
        targets
            .flatten()
            .filter(|target| target.to_string_lossy().contains(".seg"))
            .count()
    };
    let body = "k".repeat(200_000);
    for n in 0..300 {
        let answer = write(
            &relay.http,
            "/write?db=x",
            &format!("m,n={n} v=\"{body}\" 1"),
        );
        assert_eq!(answer.status, 204);
    }
    // 60 MB in files of 2 MiB: each is written anew again and again.
    assert!((1..=10).contains(&files()), "{} files", files());
}
