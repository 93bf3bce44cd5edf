//! SIGUSR2: the relay starts its successor, and no request fails.

use std::cell::Cell;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::backend::{Backend, status};
use crate::client::{Client, until, within, write};
use crate::datagrams::{Receiver, sender};
use crate::relay::Relay;
use crate::reload::{Filed, bodies, config};
use crate::spool_site::{Folder, Writers};
use crate::store::Store;

/// A relay that is restarted, and its process now.
pub(crate) struct Line {
    pub(crate) relay: Relay,
    pub(crate) pid: Cell<i32>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ended_with_the_test = kill_process(pid(self.pid.get()), Signal::KILL);
    }
}

fn pid(number: i32) -> Pid {
    Pid::from_raw(number).unwrap()
}

impl Line {
    pub(crate) fn of(relay: Relay) -> Self {
        let pid = Cell::new(relay.pid());
        Self { relay, pid }
    }

    /// Restarts it by the script; the successor takes requests, and its predecessor is gone, when this returns.
    pub(crate) fn restart(&self) {
        let count = || self.relay.said().matches("ready shards").count();
        let (ready, old) = (count(), self.pid.get());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/restart");
        let done = Command::new(script).arg(old.to_string()).output().unwrap();
        assert!(done.status.success(), "{done:?}\n{}", self.relay.said());
        let successor = String::from_utf8(done.stdout).unwrap();
        self.pid.set(successor.trim().parse().unwrap());
        until("its predecessor is gone", || is_gone(old));
        until("it takes requests", || count() > ready);
    }
}

/// Whether a process has ended; one that nobody has waited for yet has.
fn is_gone(number: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat"));
    test_kill_process(pid(number)).is_err() || stat.is_ok_and(|stat| stat.contains(") Z "))
}

/// Clients of two kinds: half of them keep their connection as long as they may, half make one for each write.
/// A request that is not answered, or not with 204, fails the test.
struct Clients {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Clients {
    fn start(http: &str, clients: usize) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..clients).map(|number| {
            let (http, stop, count) = (http.to_owned(), Arc::clone(&stop), Arc::clone(&count));
            thread::spawn(move || {
                let (mut kept, mut written) = (None, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let body = format!("m,c={number} v={}i {}", written.len(), written.len() + 1);
                    let mut client: Client = kept.take().unwrap_or_else(|| Client::new(&http));
                    let head = format!(
                        "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    let answer = client.send((head + &body).as_bytes()).answer();
                    let answer = answer.unwrap_or_else(|| panic!("no answer to {body}"));
                    assert_eq!(answer.status, 204, "{body}: {}", answer.body);
                    if number % 2 == 0 && answer.header("connection") != Some("close") {
                        kept = Some(client);
                    }
                    written.push(body);
                    count.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(500)); // the machine is for the relay
                }
                written
            })
        });
        Self {
            threads: threads.collect(),
            stop,
            count,
        }
    }

    fn go_on(&self, more: usize) {
        let then = self.count.load(Ordering::Relaxed) + more;
        until("writes are acknowledged", || {
            self.count.load(Ordering::Relaxed) >= then
        });
    }

    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        let mut all: Vec<String> = threads.flat_map(|thread| thread.join().unwrap()).collect();
        all.sort();
        all
    }
}

#[test]
fn restart_ten_times_under_load_fails_no_request() {
    let (a, b) = (Backend::accepting(), Backend::accepting());
    let outputs = [("a", a.address.as_str()), ("b", b.address.as_str())];
    let line = Line::of(Relay::start(&outputs, &[]));
    let clients = Clients::start(&line.relay.http, 8);
    for _ in 0..10 {
        clients.go_on(100);
        line.restart();
    }
    clients.go_on(100);
    let written = clients.stop();
    eprintln!("{} writes", written.len());
    for backend in [&a, &b] {
        until("it has all writes", || {
            backend.seen().len() >= written.len()
        });
        let mut had = bodies(backend);
        had.sort();
        assert_eq!(had, written, "each once");
    }
}

#[test]
fn restart_with_a_spool_fails_no_request_and_loses_nothing() {
    let (a, mut b) = (Store::new(), Store::new());
    let folder = Folder::new();
    let outputs = [("a", a.address.as_str()), ("b", b.address.as_str())];
    let dir = folder.path().display().to_string();
    let line = Line::of(Relay::start(&outputs, &[("RELAY_SPOOL_DIR", &dir)]));
    let clients = Clients::start(&line.relay.http, 6);
    let writers = Writers::start(&line.relay.http, 2);
    for round in 0..5 {
        match round {
            1 => b.stop(),
            3 => b.start(),
            _ => {}
        }
        clients.go_on(60);
        line.restart();
    }
    clients.go_on(60);
    let written = clients.stop();
    let kept = writers.stop();
    for store in [&a, &b] {
        within(
            Duration::from_secs(30),
            "it has what was acknowledged",
            || {
                let points = store.points();
                let has = |body: &String| {
                    let (point, value) = body.split_once(' ').unwrap();
                    let (value, time) = value.split_once(' ').unwrap();
                    points.get(&format!("{point} {time}")).map(String::as_str) == Some(value)
                };
                let mut last = kept.points.iter();
                written.iter().all(has)
                    && last.all(|(point, value)| points.get(point) == Some(value))
            },
        );
    }
}

#[test]
fn restart_into_a_file_that_is_wrong_changes_nothing() {
    let a = Backend::accepting();
    let right = config("", &[("a", &a.address)]);
    let site = Filed::start(&right);
    for wrong in [
        "[[http]".to_owned(),
        format!("spool.dir = \"/proc/none\"\n{right}"),
    ] {
        std::fs::write(site.file(), wrong).unwrap();
        let failed = || site.relay.said().matches("did not come up").count();
        let before = failed();
        kill_process(pid(site.relay.pid()), Signal::USR2).unwrap();
        until("the successor fails", || failed() > before);
        assert_eq!(
            write(&site.relay.http, "/write?db=x", "m v=1 1").status,
            204
        );
    }
}

#[test]
fn restart_answers_what_waits_in_the_kernels_queue() {
    let a = Backend::new(Duration::from_millis(300), status(204, "", ""));
    let folder = Folder::new();
    let dir = folder.path().display().to_string();
    let outputs = [("a", a.address.as_str())];
    let line = Line::of(Relay::start(&outputs, &[("RELAY_SPOOL_DIR", &dir)]));
    let http = line.relay.http.clone();
    let under_way = thread::spawn(move || write(&http, "/write?db=x", "m v=1 1").status);
    until("it is on its way", || a.seen().len() == 1);
    kill_process(pid(line.pid.get()), Signal::USR2).unwrap();
    until("it ends", || line.relay.said().contains("this relay ends"));
    let waiting: Vec<_> = (0..20)
        .map(|n| {
            let mut stream = TcpStream::connect(&line.relay.http).unwrap();
            let body = format!("m v=2 {n}");
            write!(
                stream,
                "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            Client::over(stream)
        })
        .collect();
    for mut client in waiting {
        assert_eq!(client.answer().unwrap().status, 204);
    }
    assert_eq!(under_way.join().unwrap(), 204);
    let said = line.relay.said();
    let (_, number) = said.rsplit_once("a successor was started pid=").unwrap();
    let number = number.split_whitespace().next().unwrap();
    line.pid.set(number.parse().unwrap());
}

#[test]
fn restart_loses_no_datagram() {
    let a = Receiver::new();
    let relay = Relay::of_datagrams(&format!("a={}", a.address), &[]);
    let line = Line::of(relay);
    let socket = sender(&line.relay.udp[0]);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let sending = thread::spawn(move || {
        let mut sent = 0_usize;
        while !stopped.load(Ordering::Relaxed) {
            sent += 1;
            socket
                .send(format!("m v={sent}i {sent}").as_bytes())
                .unwrap();
            thread::sleep(Duration::from_micros(300));
        }
        sent
    });
    for _ in 0..3 {
        line.restart();
    }
    stop.store(true, Ordering::Relaxed);
    let sent = sending.join().unwrap();
    let mut numbers: Vec<usize> = a
        .wait_for(sent)
        .iter()
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=sent).collect::<Vec<usize>>());
}
