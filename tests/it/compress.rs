//! `compress`: what goes to a backend as gzip, and that it is the same body.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::backend::{Act, Backend, Seen, status};
use crate::client::{Client, ask, until, write};
use crate::relay::Relay;
use crate::spool_site::Site;
use crate::store::Store;

fn pack(plain: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn is_packed(seen: &Seen) -> bool {
    seen.head.contains("\r\nContent-Encoding: gzip\r\n")
}

fn plain(seen: &Seen) -> Vec<u8> {
    let mut plain = Vec::new();
    match is_packed(seen) {
        true => {
            _ = MultiGzDecoder::new(&*seen.body)
                .read_to_end(&mut plain)
                .unwrap()
        }
        false => plain.extend_from_slice(&seen.body),
    }
    plain
}

/// Lines of line protocol, of so many bytes.
fn lines(bytes: usize, time: &str) -> Vec<u8> {
    let line = format!("cpu,host=a load=0.64{time}\n");
    line.repeat(bytes.div_ceil(line.len())).into_bytes()
}

/// What a write is, where it goes, header lines, its body, and whether it arrives compressed.
type Row = (&'static str, &'static str, &'static str, Vec<u8>, bool);

fn rows() -> [Row; 12] {
    let mut noise = vec![0; 5000];
    StdRng::seed_from_u64(3).fill_bytes(&mut noise);
    noise.retain(|&byte| byte != b'\n');
    let noise = [b"# ", &*noise, b"\nm v=1 1\n"].concat(); // a comment may hold anything
    let gzip = "Content-Encoding: gzip\r\n";
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let prom = "Content-Encoding: snappy\r\n";
    let (v1, v2, v3) = (
        "/write?db=x",
        "/api/v2/write?bucket=x",
        "/api/v3/write_lp?db=x",
    );
    let long = || lines(100_000, " 17");
    let statement = [b"q=CREATE+DATABASE+", &*vec![b'x'; 2000]].concat();
    [
        ("short", v1, "", lines(900, " 17"), false),
        ("of some length", v1, "", lines(1100, " 17"), true),
        ("long", v1, "", long(), true),
        ("stamped", v1, "", lines(100_000, ""), true),
        ("2.x", v2, "", long(), true),
        ("3.x", v3, "", long(), true),
        ("too long", v1, "", lines(4_200_000, " 17"), false),
        ("noise", v1, "", noise, false),
        (
            "came so",
            v1,
            gzip,
            pack(&long(), Compression::none()),
            true,
        ),
        (
            "came so, and is stamped",
            v1,
            gzip,
            pack(&lines(9000, ""), Compression::best()),
            true,
        ),
        ("remote-write", "/api/v1/write", prom, long(), false),
        ("a statement", "/query", form, statement, false),
    ]
}

#[test]
fn what_came_plain_and_is_worth_it_goes_compressed() {
    let (a, b) = (Backend::accepting(), Backend::accepting());
    let relay = Relay::of_text(&format!(
        "[[http]]\nbind-addr = \"127.0.0.1:0\"\noutput = [{{ name = \"a\", compress = true, location = \"http://{}\" }}, \
         {{ name = \"b\", location = \"http://{}\" }}]\n",
        a.address, b.address
    ));
    for (what, target, headers, body, is_compressed) in rows() {
        let count = a.seen().len();
        let answer = ask(&relay.http, "POST", target, headers, &body);
        assert_eq!(answer.status, 204, "{what}: {answer:?}");
        until(what, || a.seen().len() > count && b.seen().len() > count);
        let (at_a, at_b) = (&a.seen()[count], &b.seen()[count]);
        assert_eq!(is_packed(at_a), is_compressed, "{what}: {}", at_a.head);
        let codings = at_a.head.matches("Content-Encoding").count();
        assert!(codings <= 1, "{what}: {}", at_a.head);
        assert!(plain(at_a) == plain(at_b), "{what}: the same points");
        if what == "came so" {
            assert!(at_a.body == body, "not compressed again");
        } else if is_compressed {
            assert!(at_a.body.len() < plain(at_b).len() / 5, "{what}");
        }
    }
}

#[test]
fn joined_writes_are_compressed_as_one() {
    let slow = Backend::new(Duration::from_millis(30), status(204, "", ""));
    let relay = Relay::start(
        &[("a", &slow.address)],
        &[
            ("RELAY_HTTP_MERGE", "auto"),
            ("RELAY_HTTP_COMPRESS", "true"),
            ("RELAY_CPUS", &crate::answers::first_cpu()),
        ],
    );
    let write = |n: usize| {
        let http = relay.http.clone();
        thread::spawn(move || {
            for m in 0..10 {
                let body = format!("m,client={n},pad={} v={m} {m}", "x".repeat(200));
                assert_eq!(write(&http, "/write?db=x", &body).status, 204);
            }
        })
    };
    let writers: Vec<_> = (0..24).map(write).collect();
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    let seen = slow.seen();
    let got = seen
        .iter()
        .map(|seen| String::from_utf8(plain(seen)).unwrap());
    let mut got: Vec<String> = got
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 240, "each once");
    let packed = seen.iter().filter(|seen| is_packed(seen)).count();
    assert!(
        packed > 0,
        "{} requests, none of them compressed",
        seen.len()
    );
}

#[test]
fn a_compressed_write_is_sent_again_where_that_is_safe() {
    // The backend closes after each answer without saying so.
    let closing = Backend::new(
        Duration::ZERO,
        Act::SayAndClose(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
    );
    let relay = Relay::start(
        &[("a", &closing.address)],
        &[("RELAY_HTTP_COMPRESS", "true")],
    );
    let mut client = Client::new(&relay.http);
    for n in 0..100 {
        let body = [
            format!("first v={n} {n}\n").as_bytes(),
            &lines(3_000_000 / (1 + n * n), " 17"),
        ]
        .concat();
        let head = format!(
            "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.send(head.as_bytes()).send(&body);
        assert_eq!(
            client.answer().map(|answer| answer.status),
            Some(204),
            "{n}"
        );
        assert!(plain(closing.seen().last().unwrap()) == body, "{n}");
    }
}

#[test]
fn what_is_owed_is_compressed_too() {
    let (a, mut b) = (Store::new(), Store::away());
    let site = Site::new(&[("a", &a), ("b", &b)], &[("RELAY_HTTP_COMPRESS", "true")]);
    for n in 0..50 {
        let body: Vec<String> = (0..50).map(|m| format!("m,n={n},m={m} v=1i {n}")).collect();
        site.write(&body.join("\n"));
    }
    b.start();
    site.level("b");
    assert_eq!(b.count(), 2500);
    assert_eq!(a.points(), b.points());
    assert!(b.seen().iter().any(is_packed), "it was");
    let bytes: usize = b.seen().iter().map(|seen| seen.body.len()).sum();
    assert!(bytes < 20_000, "{bytes}");
}
