//! `influxdb-relay sink --udp` and `bench --target udp://…`, run on loopback.
//!
//! What the tools count is what tests and measurements of the relay rest on, so here every datagram is
//! accounted for: one that the kernel drops on a busy machine is a number too, and never a failure.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio, id};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

const TOOL: &str = env!("CARGO_BIN_EXE_influxdb-relay");

/// A sink, until it goes out of scope.
struct Sink {
    child: Child,
    http: SocketAddr,
    udp: SocketAddr,
}

impl Sink {
    fn start(udp: &str, more: &[&str]) -> Self {
        let args = ["sink", "--http", "127.0.0.1:0", "--udp", udp];
        let mut command = Command::new(TOOL);
        command.args(args).args(more).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |scheme: &str| {
            let line = lines.next().unwrap().unwrap();
            let (_, address) = line.split_once(scheme).unwrap();
            address.parse().unwrap()
        };
        let (http, udp) = (address("http://"), address("udp://"));
        Self { child, http, udp }
    }

    fn stats(&self) -> Value {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.write_all(b"GET /stats HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free just now.
fn free(host: &str) -> SocketAddr {
    UdpSocket::bind((host, 0)).unwrap().local_addr().unwrap()
}

fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(TOOL);
    command.arg("bench").args(args).output().unwrap()
}

fn measured(args: &[&str]) -> Value {
    let output = bench(&[args, &["--json"]].concat());
    let (said, wrong) = (output.stdout, String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{wrong}");
    serde_json::from_slice(&said).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn a_sink_counts_every_datagram_and_records_it() {
    let folder = env::temp_dir().join(format!("udp-cli-{}", id()));
    fs::create_dir_all(&folder).unwrap();
    let record = folder.join("record");
    for host in ["127.0.0.1:0", "[::1]:0"] {
        let _ = fs::remove_file(&record);
        let sink = Sink::start(host, &["--record", record.to_str().unwrap()]);
        let sender = UdpSocket::bind(host).unwrap();
        let (mut recorded, mut points) = (String::new(), 0);
        for turn in 0..500 {
            let (body, lines, newline) = match turn % 3 {
                0 => (format!("m v={turn}i"), 1, "\n"),
                1 => (format!("m v={turn}i\nm v=0i\n"), 2, ""),
                _ => (format!("# {turn}\n\nm v=\"{}\"", "x".repeat(turn)), 1, "\n"),
            };
            sender.send_to(body.as_bytes(), sink.udp).unwrap();
            recorded += &body;
            recorded += newline;
            points += lines;
        }
        let stats = sink.stats();
        let udp = &stats["udp"];
        assert_eq!(udp["kernel_drops"], 0, "the buffer holds so many");
        assert_eq!(
            (&udp["datagrams"], &udp["points"]),
            (&500.into(), &points.into())
        );
        assert_eq!(stats["points"], 0, "of HTTP there was none");
        assert_eq!(fs::read_to_string(&record).unwrap(), recorded);
    }
    fs::remove_file(&record).unwrap();
    fs::remove_dir(&folder).unwrap();
}

#[test]
fn what_bench_sends_a_sink_counts() {
    let sink = Sink::start("127.0.0.1:0", &[]);
    let target = format!("udp://{}", sink.udp);
    let sent = measured(&["--target", &target, "--duration", "200ms", "--lines", "5"]);
    let stats = sink.stats();
    let (udp, drops) = (&stats["udp"], number(&stats["udp"]["kernel_drops"]));
    assert_eq!(
        number(&sent["sent"]["datagrams"]),
        number(&udp["datagrams"]) + drops
    );
    assert_eq!(
        number(&sent["sent"]["points"]),
        number(&udp["points"]) + 5 * drops
    );
    assert_eq!(
        number(&sent["sent"]["bytes"]),
        number(&udp["bytes"]) + 5 * 96 * drops
    );
}

#[test]
fn what_bench_sends_itself_is_accounted_for() {
    for (host, shape) in [
        ("127.0.0.1", vec!["--rate", "5000"]),
        (
            "::1",
            vec!["--rate", "5000", "--lines", "10", "--no-timestamps"],
        ),
        ("127.0.0.1", vec!["--lines", "3", "--size", "200"]),
        (
            "127.0.0.1",
            vec!["--rate", "9000", "--poisson", "--warmup", "100ms"],
        ),
    ] {
        let address = free(host);
        let (receive, target) = (address.to_string(), format!("udp://{address}"));
        let mut args = vec![
            "--target",
            &target,
            "--receive",
            &receive,
            "--connections",
            "3",
        ];
        args.extend_from_slice(&shape);
        args.extend_from_slice(&["--duration", "300ms"]);
        let run = measured(&args);
        let ear = &run["receivers"][0];
        let (sent, lines) = (&run["sent"], number(&run["lines"]));
        let drops = number(&ear["kernel_drops"]);
        assert!(number(&sent["datagrams"]) > 0, "{run}");
        assert_eq!(
            number(&sent["datagrams"]),
            number(&ear["datagrams"]) + drops,
            "{run}"
        );
        assert_eq!(number(&ear["lost"]), drops * lines, "{run}");
        assert_eq!(
            number(&sent["points"]),
            number(&ear["points"]) + number(&ear["lost"])
        );
        let line_bytes = number(&run["line_bytes"]);
        assert_eq!(number(&sent["bytes"]), number(&sent["points"]) * line_bytes);
        for key in ["duplicated", "damaged", "out_of_order"] {
            assert_eq!(ear[key], 0, "{key}: {run}");
        }
        assert_eq!(ear["address"], receive);
        assert!(ear["latency_us"]["p99.9"].as_f64().unwrap() > 0.0, "{run}");
        if shape == ["--rate", "5000"] {
            let due = number(&sent["datagrams"]) + number(&run["unsent"]);
            assert!((1499..=1501).contains(&due), "{run}");
        }
    }
}

#[test]
fn several_targets_each_have_their_share() {
    let (a, b) = (free("127.0.0.1"), free("127.0.0.1"));
    let (to_a, to_b) = (format!("udp://{a}"), format!("udp://{b}"));
    let (at_a, at_b) = (a.to_string(), b.to_string());
    let run = measured(&[
        "--target",
        &to_a,
        "--target",
        &to_b,
        "--receive",
        &at_a,
        "--receive",
        &at_b,
        "--rate",
        "2000",
        "--duration",
        "200ms",
    ]);
    let ears = run["receivers"].as_array().unwrap();
    let expected: u64 = ears.iter().map(|ear| number(&ear["expected"])).sum();
    assert_eq!(expected, number(&run["sent"]["points"]), "{run}");
    for ear in ears {
        assert_eq!(number(&ear["lost"]), number(&ear["kernel_drops"]), "{run}");
        assert!(number(&ear["points"]) > 0, "{run}");
    }
}

/// What a bad relay did, in lines.
#[derive(Debug, Default, PartialEq)]
struct Deeds {
    taken: u64,
    dropped: u64,
    doubled: u64,
    swapped: u64,
    damaged: u64,
}

/// Takes datagrams of three lines until one without any says stop, and sends their lines on one by one, a
/// time behind each: in every hundred datagrams it drops one, doubles one, swaps lines in one, changes a
/// digit in one and makes one up.
fn bad_relay(to: SocketAddr) -> (SocketAddr, JoinHandle<Deeds>) {
    let door = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap();
    door.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let out = UdpSocket::bind("127.0.0.1:0").unwrap();
    let relay = move || {
        let mut deeds = Deeds::default();
        let mut buffer = [0; 2048];
        for turn in 0_u64.. {
            let size = door.recv(&mut buffer).unwrap();
            let text = str::from_utf8(&buffer[..size]).unwrap();
            let mut lines: Vec<String> = text.lines().map(|line| format!("{line} 17\n")).collect();
            if lines.is_empty() {
                break;
            }
            assert_eq!(lines.len(), 3);
            deeds.taken += 3;
            match turn % 100 {
                10 => {
                    lines.pop();
                    deeds.dropped += 1;
                }
                20 => {
                    lines.push(lines[1].clone());
                    deeds.doubled += 1;
                }
                30 => {
                    lines.swap(0, 2);
                    deeds.swapped += 2; // two come after one that was sent later
                }
                40 => {
                    lines[2] = lines[2].replacen("usage_idle=", "usage_idle=9", 1);
                    deeds.damaged += 1;
                }
                50 => {
                    lines.insert(1, "cpu,host=a v=1 17\n".to_owned());
                    deeds.damaged += 1;
                }
                _ => {}
            }
            for line in lines {
                out.send_to(line.as_bytes(), to).unwrap();
            }
        }
        deeds
    };
    (address, thread::spawn(relay))
}

#[test]
fn what_lies_between_is_found_out() {
    let address = free("127.0.0.1");
    let (door, relay) = bad_relay(address);
    let (receive, target) = (address.to_string(), format!("udp://{door}"));
    let run = measured(&[
        "--target",
        &target,
        "--receive",
        &receive,
        "--rate",
        "2000",
        "--lines",
        "3",
        "--duration",
        "500ms",
        "--no-timestamps",
    ]);
    let stop = UdpSocket::bind("127.0.0.1:0").unwrap();
    stop.send_to(b"", door).unwrap();
    let deeds = relay.join().unwrap();
    let ear = &run["receivers"][0];
    assert_eq!(ear["kernel_drops"], 0, "the buffer holds so many");
    let said = |key: &str| number(&ear[key]);
    // What was damaged, but not made up, is missing as well; what the relay was never given, too.
    let damaged_own = (deeds.taken / 3 + 59) / 100;
    let missing = number(&run["sent"]["points"]) - deeds.taken;
    assert_eq!(
        said("lost"),
        deeds.dropped + damaged_own + missing,
        "{run} {deeds:?}"
    );
    let told = Deeds {
        dropped: deeds.dropped,
        taken: deeds.taken,
        doubled: said("duplicated"),
        swapped: said("out_of_order"),
        damaged: said("damaged"),
    };
    assert_eq!(told, deeds, "{run}");
    assert!(
        deeds.damaged >= 10,
        "there was something to find: {deeds:?}"
    );
}

#[test]
fn nobody_there_is_an_error_by_its_kind() {
    // Connected to somebody else, it keeps its port and takes nothing from bench.
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    deaf.connect("127.0.0.1:9").unwrap();
    let target = format!("udp://{}", deaf.local_addr().unwrap());
    let run = measured(&["--target", &target, "--rate", "1000", "--duration", "100ms"]);
    assert!(number(&run["errors"]["refused"]) > 0, "{run}");
    assert_eq!(run["receivers"], json!([]));
}

#[test]
fn words_are_for_people() {
    let address = free("127.0.0.1").to_string();
    let target = format!("udp://{address}");
    let args = [
        "--target",
        &target,
        "--receive",
        &address,
        "--duration",
        "50ms",
        "--rate",
        "100",
    ];
    let text = String::from_utf8(bench(&args).stdout).unwrap();
    for part in [
        "1 sockets × 1 lines of 96 bytes; 100 datagrams/s, evenly spaced",
        "errors        none",
        "damaged 0, out of order 0",
        "p99.99",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn wrong_arguments_say_what_to_write() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let udp = ["--target", "udp://127.0.0.1:9"];
    let http = ["--target", "http://127.0.0.1:9"];
    for (code, target, more, wants) in [
        (1, &udp, vec!["--target", "http://a:1"], "start bench twice"),
        (
            1,
            &udp,
            vec!["--target", "udp://a"],
            "write udp://HOST:PORT",
        ),
        (1, &udp, vec!["--lines", "683"], "write 1 to 682"),
        (1, &udp, vec!["--lines", "0"], "write 1 to 682"),
        (1, &udp, vec!["--size", "50"], "write 96 or more"),
        (1, &udp, vec!["--size", "70000"], "write 65507 or less"),
        (1, &udp, vec!["--connections", "0"], "write 1 to 64"),
        (1, &udp, vec!["--connections", "65"], "write 1 to 64"),
        (1, &udp, vec!["--rate", "0"], "datagrams a second"),
        (1, &udp, vec!["--gzip"], "of HTTP alone"),
        (1, &udp, vec!["--receive", "127.0.0.1:0"], "write a port"),
        (
            1,
            &udp,
            vec!["--receive", &taken, "--linger", "1m"],
            "or less",
        ),
        (
            2,
            &udp,
            vec!["--receive", &taken],
            "choose another --receive",
        ),
        (1, &http, vec!["--size", "100"], "of UDP alone"),
        (1, &http, vec!["--receive", &taken], "of UDP alone"),
    ] {
        let output = bench(&[&target[..], &more].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{more:?}: {text}");
        assert!(text.contains(wants), "{more:?}: {text}");
    }
}
