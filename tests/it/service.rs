//! What a service manager hears (`Type=notify`): a socket of the test stands for systemd.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::unistd::Pid;

use crate::backend::{Backend, status};
use crate::client::{until, write};
use crate::relay::Relay;
use crate::reload::{Filed, config};
use crate::restart::Line;
use crate::spool_site::Folder;

/// Hears what services say.
struct Manager {
    /// What `NOTIFY_SOCKET` says.
    name: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    /// At a name that is in no folder.
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("relay-it-manager-{}-{number}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::of(
            format!("@{name}"),
            UnixDatagram::bind_addr(&address).unwrap(),
        )
    }

    /// At a path, as systemd has it.
    fn at_path(folder: &Folder) -> Self {
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::of(path.display().to_string(), socket)
    }

    fn of(name: String, socket: UnixDatagram) -> Self {
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&heard);
        thread::spawn(move || {
            let mut room = [0; 4096];
            while let Ok(length) = socket.recv(&mut room) {
                let words = String::from_utf8(room[..length].to_vec()).unwrap();
                told.lock().unwrap().push(words);
            }
        });
        Self { name, heard }
    }

    /// All that it has heard but signs of life.
    fn words(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let words = heard.iter().filter(|words| *words != "WATCHDOG=1");
        words.cloned().collect()
    }

    fn beats(&self) -> usize {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|words| *words == "WATCHDOG=1").count()
    }

    /// Waits until it has heard so many words, and returns them.
    fn hears(&self, count: usize) -> Vec<String> {
        until("the service manager is told", || {
            self.words().len() >= count
        });
        self.words()
    }
}

fn has(words: &str, line: &str) -> bool {
    words.lines().any(|found| found == line)
}

#[test]
fn service_is_ready_reloads_and_stops() {
    let (a, folder) = (Backend::accepting(), Folder::new());
    let right = config("", &[("a", &a.address)]);
    for manager in [Manager::new(), Manager::at_path(&folder)] {
        let site = Filed::start_with(&right, &[("NOTIFY_SOCKET", &manager.name)]);
        let words = manager.hears(1);
        assert!(has(&words[0], "READY=1"), "{words:?}");
        assert!(words[0].contains("STATUS=serving: "), "{words:?}");

        // Twice: to something else, and to something that is wrong. A reload ends whatever comes of it.
        for (round, text) in [
            format!("limits.max-connections = 7\n{right}"),
            "[[http]".to_owned(),
        ]
        .iter()
        .enumerate()
        {
            let before = now_micros();
            site.becomes(text);
            let words = manager.hears(3 + 2 * round);
            let [begins, ends] = &words[1 + 2 * round..] else {
                panic!("{words:?}")
            };
            assert!(has(begins, "RELOADING=1"), "{words:?}");
            let since = begins
                .lines()
                .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
            let since: u64 = since.unwrap().parse().unwrap();
            assert!((before..=now_micros()).contains(&since), "{words:?}");
            assert!(has(ends, "READY=1"), "{words:?}");
            assert_eq!(ends.contains("not reloaded"), round == 1, "{words:?}");
        }
        site.relay.term();
        let words = manager.hears(6);
        assert!(has(&words[5], "STOPPING=1"), "{words:?}");
        assert_eq!(words.len(), 6, "{words:?}");
        assert_eq!(manager.beats(), 0, "nobody asked for signs of life");
        assert!(site.relay_ends().success());
    }
}

fn now_micros() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000 + u64::try_from(now.tv_nsec()).unwrap() / 1000
}

#[test]
fn service_manager_that_is_not_there_is_passed_over() {
    let a = Backend::accepting();
    for name in ["", "@nobody-is-here", "/nowhere/at/all", "relative"] {
        let relay = Relay::start(&[("a", &a.address)], &[("NOTIFY_SOCKET", name)]);
        assert_eq!(write(&relay.http, "/write?db=x", "m v=1 1").status, 204);
    }
}

/// The thread of a shard.
fn shard(relay: &Relay, number: usize) -> Pid {
    let folder = format!("/proc/{}/task", relay.pid());
    let mut threads = std::fs::read_dir(folder).unwrap().flatten();
    let found = threads.find(|thread| {
        let name = std::fs::read_to_string(thread.path().join("comm")).unwrap();
        name.starts_with(&format!("shard-{number}"))
    });
    let found = found.unwrap().file_name();
    Pid::from_raw(found.to_str().unwrap().parse().unwrap())
}

#[test]
fn service_watchdog_falls_silent_while_one_shard_hangs() {
    let (a, manager) = (Backend::accepting(), Manager::new());
    let env = [
        ("NOTIFY_SOCKET", &*manager.name),
        ("WATCHDOG_USEC", "800000"),
        ("RELAY_CPUS", "0-1"),
    ];
    let relay = Relay::start(&[("a", &a.address)], &env);
    let begun = Instant::now();
    until("there are signs of life", || manager.beats() >= 4);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(1100),
        "four, each after half of the time, took {took:?}"
    );
    let thread = shard(&relay, 1);
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(thread).unwrap();
    until("it is named", || relay.said().contains("a shard hangs"));
    assert!(
        relay.said().contains("shard=1"),
        "the one that hangs: {}",
        relay.said()
    );
    // Whoever waits 800 ms for a sign of life acts before this.
    let beats = manager.beats();
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(manager.beats(), beats, "nobody speaks for the others");
    ptrace::detach(thread, None).unwrap();
    until("there are signs of life again", || manager.beats() > beats);
}

#[test]
fn service_watchdog_is_for_the_process_that_it_names() {
    let (a, manager) = (Backend::accepting(), Manager::new());
    let env = [
        ("NOTIFY_SOCKET", &*manager.name),
        ("WATCHDOG_USEC", "200000"),
        ("WATCHDOG_PID", "1"),
    ];
    let relay = Relay::start(&[("a", &a.address)], &env);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(manager.beats(), 0);
    relay.term();
    assert!(has(&manager.hears(2)[1], "STOPPING=1"));
}

#[test]
fn service_watchdog_hears_of_a_relay_that_reloads_and_drains() {
    // A backend that hangs: the reload waits a second for it, the drain longer.
    let (a, manager) = (Backend::accepting(), Manager::new());
    let hung = Backend::new(Duration::from_secs(60), status(204, "", ""));
    let outputs = [("a", a.address.as_str()), ("h", hung.address.as_str())];
    let text = config("shutdown-timeout = \"2s\"", &outputs);
    let env = [
        ("NOTIFY_SOCKET", &*manager.name),
        ("WATCHDOG_USEC", "200000"),
    ];
    let site = Filed::start_with(&text, &env);
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "m v=1 1").status,
        204
    );
    until("it hangs", || hung.seen().len() == 1);
    let beats = manager.beats();
    site.becomes(&format!("limits.max-connections = 7\n{text}"));
    assert!(manager.beats() >= beats + 5, "while it reloads");
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "m v=1 2").status,
        204
    );
    until("it hangs again", || hung.seen().len() == 2);
    site.relay.term();
    manager.hears(4);
    let beats = manager.beats();
    assert!(site.relay_ends().success());
    assert!(manager.beats() >= beats + 5, "while it drains");
}

#[test]
fn service_unit_is_what_systemd_takes() {
    let top = env!("CARGO_MANIFEST_DIR");
    let unit = std::fs::read_to_string(format!("{top}/scripts/influxdb-relay.service")).unwrap();
    for line in [
        "Type=notify",
        "NotifyAccess=all",
        "SystemCallFilter=io_uring_setup io_uring_enter io_uring_register",
    ] {
        assert!(has(&unit, line), "no {line}");
    }
    let folder = Folder::new();
    let path = folder.path().join("influxdb-relay.service");
    let program = env!("CARGO_BIN_EXE_influxdb-relay");
    std::fs::write(&path, unit.replace("/usr/bin/influxdb-relay", program)).unwrap();
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output();
    match verified {
        Ok(done) => assert!(done.status.success() && done.stderr.is_empty(), "{done:?}"),
        Err(why) => eprintln!("not verified, as there is no systemd-analyze: {why}"),
    }
}

#[test]
fn service_goes_on_under_a_successor() {
    let a = Backend::accepting();
    let folder = Folder::new();
    let dir = folder.path().display().to_string();
    for spool in [None, Some(dir.as_str())] {
        let manager = Manager::new();
        let name = manager.name.clone();
        let mut env = vec![("NOTIFY_SOCKET", &*name), ("WATCHDOG_USEC", "400000")];
        env.extend(spool.map(|dir| ("RELAY_SPOOL_DIR", dir)));
        let relay = Relay::start(&[("a", &a.address)], &env);
        let line = Line::of(relay);
        manager.hears(1);
        let mut last = 1;
        for _ in 0..2 {
            line.restart();
            let heard = manager.hears(last + if spool.is_some() { 2 } else { 1 });
            let since = &heard[last..];
            let pid = format!("MAINPID={}", line.pid.get());
            assert!(has(&since[0], &pid), "{heard:?}");
            assert!(has(since.last().unwrap(), "READY=1"), "{heard:?}");
            // That one process ends does not end the service.
            assert!(!heard.concat().contains("STOPPING"), "{heard:?}");
            last = heard.len();
            let beats = manager.beats();
            until("the successor lives", || manager.beats() > beats + 1);
        }
        assert_eq!(
            write(&line.relay.http, "/write?db=x", "m v=1 1").status,
            204
        );
    }
}
