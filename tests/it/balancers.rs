//! HAProxy and nginx with the files that `scripts` has, before two relays and two backends: what is
//! acknowledged through them is in both backends, whoever dies meanwhile.
//!
//! ```text
//!  writers ─▶ HAProxy / nginx ─┬─▶ relay 1 ─┬─▶ backend a
//!                              └─▶ relay 2 ─┴─▶ backend b
//! ```

use std::collections::BTreeMap;
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::backend::{Backend, Seen, status};
use crate::client::{Answer, Client, ask, until, within, write};
use crate::datagrams::{Receiver, sender};
use crate::relay::Relay;
use crate::spool_site::{Folder, Site};
use crate::store::{Does, Store, own_address};

/// A shipped file, with other addresses in it.
struct Shipped(String);

impl Shipped {
    fn new(name: &str) -> Self {
        Self(std::fs::read_to_string(path_of(name)).unwrap())
    }

    /// Puts this in the place of that, wherever it stands; it has to stand somewhere.
    fn put(mut self, place: &str, here: &str) -> Self {
        assert!(self.0.contains(place), "no {place:?} in the shipped file");
        self.0 = self.0.replace(place, here);
        self
    }

    /// The file, in this folder.
    fn write(self, folder: &Folder, name: &str) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, self.0).unwrap();
        path
    }
}

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name)
}

/// Where this program is; `None`, and said, where it is not installed.
fn installed(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .chain([PathBuf::from("/usr/sbin")]) // not in the PATH of every user
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: no {name} is installed");
    }
    found
}

fn has_stream_module() -> bool {
    let has = Path::new("/etc/nginx/modules-enabled/50-mod-stream.conf").exists();
    if !has {
        eprintln!("skipped: no libnginx-mod-stream is installed");
    }
    has
}

fn is_well(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        !said.contains("[WARNING]") && !said.contains("[warn]"),
        "{said}"
    );
}

/// A load balancer, ended with the test.
struct Balancer {
    child: Child,
    folder: Folder,
}

impl Balancer {
    /// Started in the foreground; it listens there when this returns.
    fn run(command: &mut Command, folder: Folder, address: &str) -> Self {
        let said = std::fs::File::create(folder.path().join("said")).unwrap();
        let child = command.stderr(said).spawn().unwrap();
        let balancer = Self { child, folder };
        until("the balancer listens", || {
            TcpStream::connect(address).is_ok()
        });
        balancer
    }

    fn haproxy(program: &Path, at: &Front, relays: [&str; 2], backends: [&str; 2]) -> Self {
        let folder = Folder::new();
        let file = Shipped::new("haproxy.cfg")
            .put("10.0.0.1:9096", relays[0])
            .put("10.0.0.2:9096", relays[1])
            .put("10.0.0.11:8086", backends[0])
            .put("10.0.0.12:8086", backends[1])
            .put("NAME_1    b1", "NAME_1    a")
            .put("NAME_2    b2", "NAME_2    b")
            .put("bind :8086", &format!("bind {}", at.http))
            .put("bind :8087", &format!("bind {}", at.straight))
            .put("\n    user  haproxy\n    group haproxy\n", "\n")
            .put("log   /dev/log local0", "log   stderr format raw local0")
            .write(&folder, "haproxy.cfg");
        let mut command = Command::new(program);
        Self::run(command.arg("-db").arg("-f").arg(file), folder, &at.http)
    }

    fn nginx(program: &Path, at: &str, relays: [&str; 2]) -> Self {
        let folder = Folder::new();
        let file = Shipped::new("nginx.conf")
            .put("server 10.0.0.1:9096 ", &format!("server {} ", relays[0]))
            .put("server 10.0.0.2:9096 ", &format!("server {} ", relays[1]))
            .put("listen 8086 ", &format!("listen {at} "));
        let file = at_home(file, &folder).write(&folder, "nginx.conf");
        Self::run(
            Command::new(program)
                .args(["-g", "daemon off;", "-c"])
                .arg(file),
            folder,
            at,
        )
    }
}

/// Keeps an nginx in this folder, so that any user may start it.
fn at_home(file: Shipped, folder: &Folder) -> Shipped {
    let home = folder.path().display();
    let bodies = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {home}/{kind};\n"))
        .concat();
    file.put("/run/nginx.pid", &format!("{home}/pid"))
        .put("/var/log/nginx/error.log", "stderr")
        .put("/etc/nginx/nginx-stream", &format!("{home}/nginx-stream"))
        .put("\nhttp {\n", &format!("\nhttp {{\n{bodies}"))
        .put("worker_processes auto", "worker_processes 2")
        .put("worker_rlimit_nofile 65536;", "worker_rlimit_nofile 1024;")
        .put("worker_connections 16384", "worker_connections 512")
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _gone = kill_process(Pid::from_child(&self.child), Signal::TERM); // its workers go with it
        let _gone = self.child.wait();
        if thread::panicking() {
            let said = std::fs::read_to_string(self.folder.path().join("said"));
            eprintln!("the balancer said: {}", said.unwrap_or_default());
        }
    }
}

/// Where a balancer is to listen.
struct Front {
    http: String,
    straight: String,
}

impl Front {
    fn new() -> Self {
        Self {
            http: own_address(),
            straight: own_address(),
        }
    }
}

/// Clients that write each point once, with a time, and remember what was acknowledged.
struct Writers {
    ledger: Arc<Ledger>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Ledger {
    stop: AtomicBool,
    acknowledged: Mutex<BTreeMap<String, String>>,
    failed: AtomicUsize,
}

const WRITERS: usize = 4;
/// Writes of one connection.
const PER_CONNECTION: usize = 25;

impl Writers {
    fn start(address: &str) -> Self {
        let ledger: Arc<Ledger> = Arc::default();
        let threads = (0..WRITERS).map(|writer| {
            let (ledger, address) = (Arc::clone(&ledger), address.to_owned());
            thread::spawn(move || ledger.write(&address, writer))
        });
        Self {
            threads: threads.collect(),
            ledger,
        }
    }

    fn failed(&self) -> usize {
        self.ledger.failed.load(Ordering::Relaxed)
    }

    /// Waits until so many more writes are acknowledged.
    fn go_on(&self, more: usize) {
        let count = || self.ledger.acknowledged.lock().unwrap().len();
        let enough = count() + more;
        within(Duration::from_secs(20), "writes are acknowledged", || {
            count() >= enough
        });
    }

    /// Ends them; what was acknowledged, and how many writes were not.
    fn stop(self) -> (BTreeMap<String, String>, usize) {
        self.ledger.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let acknowledged = std::mem::take(&mut *self.ledger.acknowledged.lock().unwrap());
        (acknowledged, self.ledger.failed.load(Ordering::Relaxed))
    }
}

impl Ledger {
    fn write(&self, address: &str, writer: usize) {
        let mut client = None;
        for number in 1.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let point = format!("w,c={writer} {number}");
            let body = format!("w,c={writer} v={number}i {number}\n");
            let mut connection = client.take().unwrap_or_else(|| Client::new(address));
            let answer = connection.send(&post(&body)).answer();
            if answer.is_some_and(|answer| answer.status == 204) {
                let mut acknowledged = self.acknowledged.lock().unwrap();
                acknowledged.insert(point, format!("v={number}i"));
                client = (number % PER_CONNECTION != 0).then_some(connection);
            } else {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_millis(1)); // the machine is for the relays
        }
    }
}

fn post(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn relays(a: &Store, b: &Store) -> [Site; 2] {
    [(); 2].map(|()| Site::new(&[("a", a), ("b", b)], &[("RELAY_CPUS", "0")]))
}

fn points(relay: &Site) -> u64 {
    relay.metric("relay_points_total{path=\"/write\"}")
}

/// What one connection writes goes through one relay, in order; a large body goes through whole.
fn one_connection_one_relay(address: &str, relays: &[Site; 2], stores: [&Store; 2]) {
    let mut client = Client::new(address);
    for time in 1..=20 {
        let answer = client.send(&post(&format!("one v=1 {time}"))).answer();
        assert_eq!(answer.map(|answer| answer.status), Some(204));
    }
    let mut both = relays.each_ref().map(points);
    both.sort_unstable();
    assert_eq!(both, [0, 20]);
    let large = format!("large v=\"{}\" 1", "x".repeat(20_000_000));
    let answer = write(address, "/write?db=x", &large);
    assert_eq!(answer.status, 204, "{answer:?}");
    for store in stores {
        until("the large one is there", || {
            store.value("large 1").is_some()
        });
    }
}

/// A relay is killed under load, and comes back; so does a backend.
fn a_relay_goes_and_a_backend_goes(writers: &Writers, relays: &mut [Site; 2], b: &mut Store) {
    writers.go_on(300);
    assert_eq!(writers.failed(), 0, "nothing is wrong yet");
    relays[0].kill();
    writers.go_on(300);
    relays[0].start();
    until("it gets writes again", || points(&relays[0]) > 50);
    // What was under way on connections to the dead one is lost, and the client hears it.
    let failed = writers.failed();
    eprintln!("failed writes at the end of a relay: {failed}");
    assert!(failed <= 3 * WRITERS, "{failed} failed");
    b.stop();
    for relay in &*relays {
        let before = points(relay);
        until("both relays owe something", || points(relay) > before + 50);
    }
    assert_eq!(writers.failed(), failed, "a backend's end is not heard");
}

/// Everything acknowledged is in both.
fn both_have(stores: [&Store; 2], acknowledged: &BTreeMap<String, String>) {
    assert!(acknowledged.len() > 600);
    for (place, store) in stores.into_iter().enumerate() {
        let what = format!("backend {place} has all");
        within(Duration::from_secs(20), &what, || {
            let points = store.points();
            let mut all = acknowledged.iter();
            all.all(|(point, value)| points.get(point) == Some(value))
        });
    }
}

#[test]
fn balancers_files_are_right_as_they_are() {
    if let Some(haproxy) = installed("haproxy") {
        let mut command = Command::new(haproxy);
        command.args(["-c", "-f"]).arg(path_of("haproxy.cfg"));
        is_well(&command.output().unwrap());
    }
    let Some(nginx) = installed("nginx") else {
        return;
    };
    let folder = Folder::new();
    if has_stream_module() {
        Shipped::new("nginx-stream.conf").write(&folder, "nginx-stream.conf");
    }
    let mut files = vec![at_home(Shipped::new("nginx.conf"), &folder).write(&folder, "nginx.conf")];
    if rustix::process::geteuid().is_root() {
        files.push(path_of("nginx.conf")); // its log is root's
    }
    for file in files {
        let mut command = Command::new(&nginx);
        is_well(&command.args(["-t", "-c"]).arg(file).output().unwrap());
    }
}

#[test]
fn balancers_haproxy_loses_nothing_and_asks_nobody_who_lacks_something() {
    let Some(program) = installed("haproxy") else {
        return;
    };
    let (a, mut b) = (Store::new(), Store::new());
    let mut relays = relays(&a, &b);
    let at = Front::new();
    let places = relays.each_ref().map(|relay| relay.http.clone());
    let places = places.each_ref().map(String::as_str);
    let _haproxy = Balancer::haproxy(&program, &at, places, [&a.address, &b.address]);
    one_connection_one_relay(&at.http, &relays, [&a, &b]);
    let writers = Writers::start(&at.http);
    a_relay_goes_and_a_backend_goes(&writers, &mut relays, &mut b);
    a.rule(|seen| says(seen, "a", true));
    b.rule(|seen| says(seen, "b", false));
    b.start();
    for relay in &relays {
        until("b is up and owed something", || {
            let status = ask(&relay.http, "GET", "/status", "", b"").body;
            status.contains("catching-up")
        });
    }
    let pings = b.pings();
    until("HAProxy itself calls b up", || b.pings() > pings + 5);
    for _ in 0..50 {
        let answer = read(&at.http);
        assert_eq!((answer.status, answer.body.as_str()), (200, "a"));
        assert_eq!(answer.header("x-relay-backend"), Some("a"));
        let answer = read(&at.straight);
        assert_eq!((answer.status, answer.body.as_str()), (200, "a"));
        assert_eq!(answer.header("x-relay-backend"), None, "past the relays");
    }
    b.rule(|seen| says(seen, "b", true));
    until("b is level and asked again", || {
        read(&at.straight).body == "b"
    });
    let (acknowledged, failed) = writers.stop();
    assert!(failed <= 4 * WRITERS, "{failed} failed");
    both_have([&a, &b], &acknowledged);
    past_the_relays(&at.straight, &mut relays, [&a, &b]);
}

/// A relay that is down takes no backend out; what changes data goes through one.
fn past_the_relays(straight: &str, relays: &mut [Site; 2], stores: [&Store; 2]) {
    relays[0].kill();
    let mut asked = BTreeMap::<String, usize>::new();
    until("both are asked, past the relays", || {
        let answer = read(straight);
        assert_eq!(answer.status, 200);
        if answer.header("x-relay-backend").is_none() {
            *asked.entry(answer.body).or_default() += 1;
        }
        asked.get("a") > Some(&20) && asked.get("b") > Some(&20)
    });
    let changes = [
        "q=CREATE+DATABASE+y",
        "q=SELECT+*+INTO+y+FROM+m",
        "q=SELECT+1%3BDROP+DATABASE+y",
        "%71=DROP+DATABASE+y&q=SELECT+1",
    ];
    for change in changes {
        let target = format!("/query?db=x&{change}");
        ask(straight, "GET", &target, "", b"");
        for store in stores {
            until(change, || {
                let mut seen = store.seen().into_iter().rev();
                seen.any(|seen| seen.head.contains(change))
            });
        }
    }
    relays[0].start();
}

fn says(seen: &Seen, name: &'static str, takes: bool) -> Does {
    match (seen.head.contains(" /query"), takes) {
        (true, _) => Does::Say(200, "", name),
        (false, true) => Does::Take,
        (false, false) => Does::Say(503, "", ""),
    }
}

fn read(address: &str) -> Answer {
    ask(address, "GET", "/query?db=x&q=SELECT+1", "", b"")
}

#[test]
fn balancers_nginx_loses_nothing() {
    let Some(program) = installed("nginx") else {
        return;
    };
    let (a, mut b) = (Store::new(), Store::new());
    let mut relays = relays(&a, &b);
    let at = Front::new();
    let places = relays.each_ref().map(|relay| relay.http.clone());
    let places = places.each_ref().map(String::as_str);
    let _nginx = Balancer::nginx(&program, &at.http, places);
    one_connection_one_relay(&at.http, &relays, [&a, &b]);
    let writers = Writers::start(&at.http);
    a_relay_goes_and_a_backend_goes(&writers, &mut relays, &mut b);
    a.rule(|seen| says(seen, "a", true));
    for _ in 0..50 {
        let answer = read(&at.http);
        assert_eq!((answer.status, answer.body.as_str()), (200, "a"));
    }
    b.start();
    writers.go_on(100);
    let (acknowledged, failed) = writers.stop();
    assert!(failed <= 4 * WRITERS, "{failed} failed");
    both_have([&a, &b], &acknowledged);
}

/// Before what answers 503 as a relay may that has stored something: what may lack a time is sent once,
/// what carries times goes to the other too.
fn only_what_carries_times_is_sent_again(start: impl Fn(&Front, [&str; 2]) -> Balancer) {
    let relays = [(); 2].map(|()| Backend::new(Duration::ZERO, status(503, "", "a word")));
    let at = Front::new();
    let _balancer = start(&at, relays.each_ref().map(|relay| &*relay.address));
    let sent = |path: &str| {
        let words = format!("POST {path}");
        relays.each_ref().map(|relay| {
            let mut seen = relay.seen();
            seen.retain(|seen| seen.head.starts_with(&words));
            seen.len()
        })
    };
    for path in [
        "/write?db=x",
        "/api/v2/write?bucket=x",
        "/api/v3/write_lp?db=x",
        "/query?q=DROP",
    ] {
        let answer = write(&at.http, path, "m v=1");
        assert_eq!((answer.status, answer.body.as_str()), (503, "a word"));
        assert_eq!(sent(path).iter().sum::<usize>(), 1, "{path}");
    }
    for path in ["/api/v1/write", "/api/v1/prom/write"] {
        let answer = write(&at.http, path, "snappy");
        assert_eq!((answer.status, answer.body.as_str()), (503, "a word"));
        assert!(sent(path).iter().all(|&times| times > 0), "{path}");
    }
}

#[test]
fn balancers_send_again_only_what_carries_times() {
    if let Some(program) = installed("haproxy") {
        only_what_carries_times_is_sent_again(|at, relays| {
            Balancer::haproxy(&program, at, relays, relays)
        });
    }
    if let Some(program) = installed("nginx") {
        only_what_carries_times_is_sent_again(|at, relays| {
            Balancer::nginx(&program, &at.http, relays)
        });
    }
}

#[test]
fn balancers_nginx_brings_datagrams_to_relays_that_are_there() {
    let Some(program) = installed("nginx").filter(|_| has_stream_module()) else {
        return;
    };
    let (one, two) = (Receiver::new(), Receiver::new());
    let (at, place) = (own_address(), own_address());
    let env = [("RELAY_CPUS", "0"), ("RELAY_UDP_BIND_ADDR", &*place)];
    let first = || Relay::of_datagrams(&format!("o={}", one.address), &env);
    let relay_one = first();
    let relay_two = Relay::of_datagrams(&format!("o={}", two.address), &env[..1]);
    let folder = Folder::new();
    Shipped::new("nginx-stream.conf")
        .put("server 10.0.0.1:8089 ", &format!("server {place} "))
        .put(
            "server 10.0.0.2:8089 ",
            &format!("server {} ", relay_two.udp[0]),
        )
        .put("listen 8089 ", &format!("listen {at} "))
        .write(&folder, "nginx-stream.conf");
    let file = Shipped::new("nginx.conf").put("listen 8086 ", &format!("listen {at} "));
    let file = at_home(file, &folder).write(&folder, "nginx.conf");
    let mut command = Command::new(program);
    command.args(["-g", "daemon off;", "-c"]).arg(file);
    let _nginx = Balancer::run(&mut command, folder, &at);
    let senders: Vec<UdpSocket> = (0..8).map(|_| sender(&at)).collect();
    let send = |from: usize, to: usize| {
        for number in from..to {
            let line = format!("u v={number}i {number}");
            let _refused = senders[number % senders.len()].send(line.as_bytes());
            thread::sleep(Duration::from_millis(2)); // no queue is to overflow
        }
    };
    let arrived = || one.lines().len() + two.lines().len();
    send(0, 400);
    until("all arrive", || arrived() == 400);
    assert!(one.lines().len() > 50 && two.lines().len() > 50);
    relay_one.kill();
    send(400, 800);
    until("nearly all arrive", || arrived() >= 780);
    let _relay_one = first();
    let before = one.lines().len();
    until("the first gets some again", || {
        let _refused = sender(&at).send(b"u v=1i 1");
        thread::sleep(Duration::from_millis(20));
        one.lines().len() > before
    });
}
