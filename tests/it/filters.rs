//! Filters in a running relay: each output gets its points, and is owed no others.

use crate::backend::{Backend, Seen, status};
use crate::client::{ask, until, write};
use crate::reload::{Filed, bodies, config};
use crate::spool_site::Folder;
use crate::store::Store;
use std::io::Write;
use std::time::Duration;

const BODY: &str = "cpu,host=a v=1 1\ncpu,rack=b v=2 2\nmem,host=a v=3 3\n";

fn filters(rows: &[(&str, &str)]) -> String {
    let table =
        |(rule, outputs): &(&str, &str)| format!("[[filter]]\n{rule}\noutputs = [{outputs}]\n");
    rows.iter().map(table).collect()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap()
}

/// A remote-write body: per series `NAME{LABEL="a"}` = 1 at 1000 ms, packed as one Snappy literal.
pub(crate) fn remote_write(series: &[(&str, &str)]) -> Vec<u8> {
    let message: Vec<u8> = series
        .iter()
        .flat_map(|(name, label)| one_series(name, label))
        .collect();
    let mut body = vec![byte(message.len()), 60 << 2, byte(message.len() - 1)];
    body.extend(message);
    body
}

fn one_series(name: &str, label: &str) -> Vec<u8> {
    let mut series = Vec::new();
    for (name, value) in [("__name__", name), (label, "a")] {
        let mut label = vec![0x0a, byte(name.len())];
        label.extend(name.as_bytes());
        label.extend([0x12, byte(value.len())]);
        label.extend(value.as_bytes());
        series.extend([0x0a, byte(label.len())]);
        series.extend(label);
    }
    series.extend([0x12, 0x0c, 0x09]);
    series.extend(1.0_f64.to_le_bytes());
    series.extend([0x10, 0xe8, 0x07]);
    let mut message = vec![0x0a, byte(series.len())];
    message.extend(series);
    message
}

fn last(backend: &Backend) -> Seen {
    backend.seen().pop().unwrap()
}

#[test]
fn filters_part_a_write_and_leave_a_whole_one_alone() {
    let [all, cpu, none] = [(); 3].map(|()| Backend::accepting());
    let outputs = [
        ("all", &*all.address),
        ("cpu", &*cpu.address),
        ("none", &*none.address),
    ];
    let rules = filters(&[
        ("measurement-expression = \"^cpu$\"", "\"cpu\""),
        ("tag-expression = \"^host$\"", "\"cpu\""),
        ("tag-value-expression = \"^nobody$\"", "\"none\""),
    ]);
    let site = Filed::start(&(config("", &outputs) + &rules));
    assert_eq!(write(&site.relay.http, "/write?db=x", BODY).status, 204);
    until("two have it", || {
        all.seen().len() == 1 && cpu.seen().len() == 1
    });
    assert_eq!(bodies(&all), [BODY]);
    assert_eq!(bodies(&cpu), ["cpu,host=a v=1 1\n"]);
    // Packed, and for one of them plain now.
    let packed = gzip(BODY);
    let answer = ask(
        &site.relay.http,
        "POST",
        "/write?db=x",
        "Content-Encoding: gzip\r\n",
        &packed,
    );
    assert_eq!(answer.status, 204);
    until("two have it", || {
        all.seen().len() == 2 && cpu.seen().len() == 2
    });
    assert_eq!(last(&all).body, packed);
    assert!(last(&all).head.contains("Content-Encoding: gzip"));
    assert_eq!(last(&cpu).body, b"cpu,host=a v=1 1\n");
    assert!(!last(&cpu).head.contains("Content-Encoding"));
    // Nothing lost: as it came.
    let whole = "cpu,host=a   v=1 1\n# a remark\n\n";
    assert_eq!(write(&site.relay.http, "/write?db=x", whole).status, 204);
    until("two have it", || cpu.seen().len() == 3);
    assert_eq!(last(&cpu).body, whole.as_bytes());
    // Undated points have one time on both.
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "cpu,host=a v=1\nmem v=1").status,
        204
    );
    until("two have it", || {
        all.seen().len() == 4 && cpu.seen().len() == 4
    });
    let (whole, part) = (last(&all).body, last(&cpu).body);
    assert!(whole.starts_with(&part) && part.starts_with(b"cpu,host=a v=1 1"));
    // A point without tags passes what is asked of tags, as in the Go relay.
    until("it has that", || none.seen().len() == 1);
    assert!(bodies(&none)[0].starts_with("mem v=1 1"));
}

#[test]
fn filters_that_leave_nothing_for_anybody_answer_success() {
    let a = Backend::accepting();
    let rules = filters(&[("measurement-expression = \"^cpu$\"", "\"a\"")]);
    let site = Filed::start(&(config("", &[("a", &a.address)]) + &rules));
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "mem v=1 1").status,
        204
    );
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "cpu v=1 1").status,
        204
    );
    until("it has one", || a.seen().len() == 1);
    // Of those that are to get it all fail: that is what the client hears.
    let b = Backend::new(Duration::ZERO, status(500, "", "{\"error\":\"full\"}"));
    let outputs = [("a", &*a.address), ("b", &*b.address)];
    site.becomes(&(config("", &outputs) + &rules));
    let answer = write(&site.relay.http, "/write?db=x", "mem v=1 1");
    assert_eq!(
        (answer.status, &*answer.body),
        (500, "{\"error\":\"full\"}")
    );
    assert_eq!(a.seen().len(), 1);
}

#[test]
fn filters_decide_what_is_owed() {
    let (a, mut b) = (Store::new(), Store::away());
    let folder = Folder::new();
    let spool = format!("spool.dir = \"{}\"", folder.path().display());
    let outputs = [("a", &*a.address), ("b", &*b.address)];
    let rules = filters(&[("measurement-expression = \"^cpu$\"", "\"b\"")]);
    let site = Filed::start(&(config(&spool, &outputs) + &rules));
    for n in 0..20 {
        let body = match n % 4 {
            0 => format!("mem v={n}i {n}"),
            1 => format!("cpu v={n}i {n}"),
            _ => format!("mem v={n}i {n}\ncpu v={n}i {n}\n"),
        };
        assert_eq!(write(&site.relay.http, "/write?db=x", &body).status, 204);
    }
    let owed = "relay_spool_owed_records{backend=\"b\"}";
    until("b is owed what is for it", || site.relay.metric(owed) == 15);
    b.start();
    until("b is level", || site.relay.metric(owed) == 0);
    assert_eq!((a.count(), b.count()), (30, 15));
    assert!(
        b.lines().iter().all(|line| line.starts_with("cpu ")),
        "{:?}",
        b.lines()
    );
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "mem v=1i 99\ncpu v=1i 99").status,
        204
    );
    until("it is live again", || b.count() == 16);
}

#[test]
fn filters_read_remote_write_and_only_for_those_who_ask() {
    let (all, up) = (Backend::accepting(), Backend::accepting());
    let outputs = [("all", &*all.address), ("up", &*up.address)];
    let rules = filters(&[("measurement-expression = \"^no_such_metric$\"", "\"up\"")]);
    let site = Filed::start(&(config("", &outputs) + &rules));
    let both = remote_write(&[("up", "job"), ("no_such_metric", "job")]);
    let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n";
    let post = |body: &[u8]| {
        ask(
            &site.relay.http,
            "POST",
            "/api/v1/prom/write?db=x",
            headers,
            body,
        )
        .status
    };
    assert_eq!(post(&both), 204);
    until("both have it", || {
        all.seen().len() == 1 && up.seen().len() == 1
    });
    assert_eq!(last(&all).body, both);
    let kept = one_series("no_such_metric", "job");
    assert!(last(&up).body.ends_with(&kept), "{:?}", last(&up).body);
    assert!(last(&up).head.contains("Content-Encoding: snappy"));
    assert_eq!(post(&remote_write(&[("up", "job")])), 204);
    until("one has it", || all.seen().len() == 2);
    assert_eq!(post(b"no snappy"), 400);
    assert_eq!(up.seen().len(), 1);
}
