//! SIGHUP: another configuration comes into force, and no client notices.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::backend::{Act, Backend, status};
use crate::client::{Client, ask, until, write};
use crate::datagrams::{Receiver, sender};
use crate::relay::Relay;
use crate::secret_files::private;
use crate::spool_site::Folder;
use crate::store::own_address;
use crate::tls_bench::Authority;

/// A relay that reads a file, which changes.
pub(crate) struct Filed {
    folder: Folder,
    pub(crate) relay: Relay,
}

impl Filed {
    /// A relay with this configuration.
    pub(crate) fn start(text: &str) -> Self {
        Self::start_with(text, &[])
    }

    /// The same, with variables.
    pub(crate) fn start_with(text: &str, env: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let file = folder.path().join("relay.toml");
        private(&file, text);
        let relay = Relay::of_file_with(&file, env);
        Self { folder, relay }
    }

    /// Waits for its end.
    pub(crate) fn relay_ends(self) -> ExitStatus {
        self.relay.wait()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    /// Another configuration, read at once.
    pub(crate) fn becomes(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
        self.relay.reload();
    }
}

/// A configuration with one listener before these outputs; `more` stands before it.
pub(crate) fn config(more: &str, outputs: &[(&str, &str)]) -> String {
    let mut text = format!(
        "admin.bind-addr = \"127.0.0.1:0\"\n{more}\n[[http]]\nname = \"door\"\nbind-addr = \"127.0.0.1:0\"\n"
    );
    for (name, address) in outputs {
        text += &format!("[[http.output]]\nname = \"{name}\"\nlocation = \"http://{address}\"\n");
    }
    text
}

/// Clients that write without a pause, each on one connection that must never close.
pub(crate) struct Strict {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<(Vec<String>, Duration)>>,
}

impl Strict {
    pub(crate) fn start(http: &str, clients: usize) -> Self {
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..clients).map(|number| {
            let (http, stop, count) = (http.to_owned(), Arc::clone(&stop), Arc::clone(&count));
            thread::spawn(move || {
                let mut client = Client::new(&http);
                let (mut written, mut slowest) = (Vec::new(), Duration::ZERO);
                for value in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let body = format!("m,c={number} v={value}i {value}");
                    let length = body.len();
                    let head = format!(
                        "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {length}\r\n\r\n"
                    );
                    let begun = Instant::now();
                    let answer = client.send((head + &body).as_bytes()).answer();
                    let answer = answer.unwrap_or_else(|| panic!("closed at {body}"));
                    assert_eq!(answer.status, 204, "{body}: {}", answer.body);
                    assert_eq!(answer.header("connection"), None, "{body}");
                    slowest = slowest.max(begun.elapsed());
                    written.push(body);
                    count.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(300)); // the machine is for the relay
                }
                (written, slowest)
            })
        });
        Self {
            threads: threads.collect(),
            stop,
            count,
        }
    }

    pub(crate) fn go_on(&self, more: usize) {
        let then = self.count.load(Ordering::Relaxed) + more;
        until("writes are acknowledged", || {
            self.count.load(Ordering::Relaxed) >= then
        });
    }

    pub(crate) fn stop(self) -> (Vec<String>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut all, mut slowest) = (Vec::new(), Duration::ZERO);
        for thread in self.threads {
            let (written, slow) = thread.join().unwrap();
            all.extend(written);
            slowest = slowest.max(slow);
        }
        (all, slowest)
    }
}

pub(crate) fn bodies(backend: &Backend) -> Vec<String> {
    let seen = backend.seen().into_iter();
    seen.map(|seen| String::from_utf8(seen.body).unwrap())
        .collect()
}

#[test]
fn reload_adds_and_removes_outputs_under_load_without_a_failed_request() {
    let [a, b, c] = [(); 3].map(|()| Backend::accepting());
    let sets: [&[(&str, &str)]; 6] = [
        &[("b", &b.address), ("c", &c.address)],
        &[("c", &c.address), ("b", &b.address), ("a", &a.address)],
        &[("c", &c.address)],
        &[("a", &a.address), ("b", &b.address), ("c", &c.address)],
        &[("c", &c.address), ("a", &a.address)],
        &[("a", &a.address), ("b", &b.address), ("c", &c.address)],
    ];
    let site = Filed::start(&config("", &[("a", &a.address), ("c", &c.address)]));
    let writers = Strict::start(&site.relay.http, 8);
    writers.go_on(200);
    assert_eq!(b.seen().len(), 0);
    let mut counts = Vec::new();
    for outputs in sets {
        site.becomes(&config("", outputs));
        let before = (a.seen().len(), b.seen().len());
        writers.go_on(300);
        counts.push((a.seen().len() - before.0, b.seen().len() - before.1));
    }
    let answered = site.relay.metric(ANSWERED);
    let (written, slowest) = writers.stop();
    eprintln!("{} writes, the slowest took {slowest:?}", written.len());
    // Who answers first decides: the last writes may still be on their way to c.
    until("c has them all", || c.seen().len() >= written.len());
    let mut had = bodies(&c);
    had.sort();
    let mut all = written.clone();
    all.sort();
    assert_eq!(had, all, "c was there all the time: each write once");
    assert!(counts[0].1 >= 250 && counts[0].0 == 0, "{counts:?}");
    assert_eq!(counts[2], (0, 0));
    assert!(counts[4].0 >= 250 && counts[4].1 == 0, "{counts:?}");
    assert!(answered >= 1_900, "counted on: {answered}");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
}

const ANSWERED: &str = "relay_http_requests_total{path=\"/write\",method=\"POST\",code=\"204\"}";

#[test]
fn reload_of_a_file_that_is_wrong_changes_nothing_and_says_why() {
    let (a, b) = (Backend::accepting(), Backend::accepting());
    let right = config("", &[("a", &a.address), ("b", &b.address)]);
    let site = Filed::start(&right);
    for (wrong, says) in [
        ("[[http]\n".to_owned(), "line 1"),
        (right.replace("location", "locaton"), "locaton"),
        (
            right.replace(
                "127.0.0.1:0\"\n[[http.output",
                "127.0.0.1:1x\"\n[[http.output",
            ),
            "bind-addr",
        ),
        (
            format!("cpus = \"0\"\n{right}"),
            "cpus: changed, which takes a restart (SIGUSR2",
        ),
        (format!("spool.dir = \"/tmp/none\"\n{right}"), "spool.dir"),
        (
            format!(
                "{right}[[http]]\nname = \"second\"\nbind-addr = \"{}\"\n",
                a.address
            ),
            "cannot listen on",
        ),
    ] {
        site.becomes(&wrong);
        let said = site.relay.said();
        assert!(said.contains(says), "{says} in {said}");
        assert_eq!(
            write(&site.relay.http, "/write?db=x", "m v=1 1").status,
            204
        );
    }
    std::fs::remove_file(site.file()).unwrap();
    site.relay.reload();
    assert!(site.relay.said().contains("relay.toml"));
    let before = b.seen().len();
    site.becomes(&config("", &[("a", &a.address)]));
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "m v=1 1").status,
        204
    );
    until("a has all", || a.seen().len() == 7);
    assert_eq!(b.seen().len(), before);
    site.becomes(&config("", &[("a", &a.address)]));
    assert!(site.relay.said().contains("nothing has changed"));
}

#[test]
fn reload_changes_limits_for_connections_that_are_open() {
    let a = Backend::accepting();
    let outputs = [("a", a.address.as_str())];
    let site = Filed::start(&config("", &outputs));
    let mut client = Client::new(&site.relay.http);
    let request = "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 9\r\n\r\nm v=1 123";
    assert_eq!(
        client.send(request.as_bytes()).answer().unwrap().status,
        204
    );
    site.becomes(&config("limits.max-body-size = \"8B\"", &outputs));
    let answer = client.send(request.as_bytes()).answer().unwrap();
    assert_eq!(answer.status, 413);
    site.becomes(&config("limits.max-body-size = \"9B\"", &outputs));
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "m v=1 123").status,
        204
    );
}

#[test]
fn reload_opens_and_closes_listeners() {
    let a = Backend::accepting();
    let first = config("", &[("a", &a.address)]);
    let second = own_address();
    let both = format!(
        "{first}[[http]]\nname = \"second\"\nbind-addr = \"{second}\"\n[[http.output]]\nlocation = \"http://{}\"\n",
        a.address
    );
    let site = Filed::start(&first);
    site.becomes(&both);
    let mut client = Client::new(&second);
    let ping = b"GET /ping HTTP/1.1\r\nHost: r\r\n\r\n";
    assert_eq!(client.send(ping).answer().unwrap().status, 204);
    assert_eq!(write(&second, "/write?db=x", "m v=1 1").status, 204);
    site.becomes(&first);
    let answer = client.send(ping).answer().unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (503, Some("close"))
    );
    until("nobody listens there", || {
        std::net::TcpStream::connect(&second).is_err()
    });
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "m v=1 1").status,
        204
    );
    site.becomes(&both);
    assert_eq!(write(&second, "/write?db=x", "m v=1 1").status, 204);
}

#[test]
fn reload_does_not_wait_for_a_backend_that_hangs() {
    let (a, hung) = (
        Backend::accepting(),
        Backend::new(Duration::ZERO, Act::Hang),
    );
    let outputs = [("a", a.address.as_str()), ("hung", hung.address.as_str())];
    let site = Filed::start(&config("", &outputs));
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "m v=1 1").status,
        204
    );
    let begun = Instant::now();
    site.becomes(&config("", &outputs[..1]));
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "m v=1 2").status,
        204
    );
    // And a client that waits for it is answered what it would have been.
    let site = Filed::start(
        &config("", &outputs[1..]).replace("[[http.output]]", "[[http.output]]\ntimeout = \"2s\""),
    );
    let http = site.relay.http.clone();
    let waiting = thread::spawn(move || write(&http, "/write?db=x", "m v=1 3").status);
    until("it is on its way", || hung.seen().len() == 2);
    site.becomes(&config("", &outputs[..1]));
    assert_eq!(
        write(&site.relay.http, "/write?db=x", "m v=1 4").status,
        204
    );
    assert_eq!(waiting.join().unwrap(), 503);
}

#[test]
fn reload_leaves_no_descriptor_open() {
    let (a, b, folder) = (Backend::accepting(), Backend::accepting(), Folder::new());
    let udp = "[[udp]]\nbind-addr = \"127.0.0.1:0\"\n[[udp.output]]\nlocation = \"127.0.0.1:9\"\n";
    let spool = format!("spool.dir = \"{}\"", folder.path().display());
    let both = [("a", a.address.as_str()), ("b", b.address.as_str())];
    let texts = [
        config(&spool, &both) + udp,
        config(
            &format!("limits.max-body-size = \"1MB\"\n{spool}"),
            &both[1..],
        ) + udp,
    ];
    let site = Filed::start(&texts[0]);
    let mut client = Client::new(&site.relay.http);
    let mut round = |n: usize| {
        let request = "POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1";
        assert_eq!(
            client.send(request.as_bytes()).answer().unwrap().status,
            204
        );
        site.becomes(&texts[n % 2]);
        site.relay.descriptors()
    };
    let first = (1..=6).map(&mut round).max().unwrap();
    let last = (7..=30).map(&mut round).skip(18).min().unwrap();
    assert!(last <= first, "{first} descriptors became {last}");
}

#[test]
fn reload_turns_tls_on_and_off_and_certificates_that_are_wrong_change_nothing() {
    let (a, folder) = (Backend::accepting(), Folder::new());
    let pem = folder.path().join("pem");
    private(
        &pem,
        &Authority::new("ours").sign(&["localhost"]).combined(),
    );
    let plain = config("", &[("a", &a.address)]);
    let secure = |file: &str| {
        plain.replace(
            "name = \"door\"",
            &format!("name = \"door\"\nssl-combined-pem = \"{file}\""),
        )
    };
    let site = Filed::start(&plain);
    let mut open = Client::new(&site.relay.http);
    let ping = b"GET /ping HTTP/1.1\r\nHost: r\r\n\r\n";
    assert_eq!(open.send(ping).answer_to("GET").unwrap().status, 204);
    site.becomes(&secure("/nowhere"));
    assert!(site.relay.said().contains("nothing has changed"));
    site.becomes(&secure(&pem.display().to_string()));
    // A connection that was there goes on as it is; new ones have to speak TLS.
    assert_eq!(open.send(ping).answer_to("GET").unwrap().status, 204);
    let answer = Client::new(&site.relay.http)
        .send(ping)
        .answer_to("GET")
        .unwrap();
    assert!(
        answer.body.contains("HTTP request to an HTTPS server"),
        "{}",
        answer.body
    );
    site.becomes(&plain);
    assert_eq!(ask(&site.relay.http, "GET", "/ping", "", b"").status, 204);
}

#[test]
fn reload_puts_users_and_limits_in_force_for_connections_that_are_open() {
    let a = Backend::accepting();
    let open = config("", &[("a", &a.address)]);
    let token = "tokens = \"sha256:3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0 write=x\"";
    let guarded = open.replace("name = \"door\"", &format!("name = \"door\"\n{token}"));
    let limited = open.replace("name = \"door\"", "name = \"door\"\nrate-limit = 1");
    let site = Filed::start(&open);
    let mut client = Client::new(&site.relay.http);
    let mut write = |headers: &str| {
        let request = format!(
            "POST /write?db=x HTTP/1.1\r\nHost: r\r\n{headers}Content-Length: 7\r\n\r\nm v=1 1"
        );
        client.send(request.as_bytes()).answer().unwrap().status
    };
    assert_eq!(write(""), 204);
    site.becomes(&guarded);
    assert_eq!(write(""), 401);
    assert_eq!(write("Authorization: Token token\r\n"), 204);
    site.becomes(&limited);
    assert_eq!((write(""), write("")), (204, 429));
    site.becomes(&open);
    assert_eq!((write(""), write("")), (204, 204));
}

#[test]
fn reload_lets_a_body_that_is_coming_come() {
    let (a, b) = (Backend::accepting(), Backend::accepting());
    let site = Filed::start(&config("", &[("a", &a.address)]));
    let mut client = Client::new(&site.relay.http);
    client.send(b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: 9\r\n\r\nm v=");
    let mut heads = Client::new(&site.relay.http);
    heads.send(b"POST /write?db=x HTTP/1.1\r\nHos");
    // Another connection's answer shows that the shards have seen those bytes.
    assert_eq!(ask(&site.relay.http, "GET", "/ping", "", b"").status, 204);
    site.becomes(&config("", &[("b", &b.address)]));
    assert_eq!(client.send(b"1 123").answer().unwrap().status, 204);
    let rest = b"t: r\r\nContent-Length: 9\r\n\r\nm v=1 124";
    assert_eq!(heads.send(rest).answer().unwrap().status, 204);
    assert_eq!(bodies(&b), ["m v=1 123", "m v=1 124"]);
    assert_eq!(bodies(&a).len(), 0);
}

#[test]
fn reload_loses_no_datagram() {
    let (a, b) = (Receiver::new(), Receiver::new());
    let config = |outputs: &[&Receiver]| {
        let mut text =
            "admin.bind-addr = \"127.0.0.1:0\"\n[[udp]]\nbind-addr = \"127.0.0.1:0\"\n".to_owned();
        for output in outputs {
            text += &format!("[[udp.output]]\nlocation = \"{}\"\n", output.address);
        }
        text
    };
    let site = Filed::start(&config(&[&a]));
    let socket = sender(&site.relay.udp[0]);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let sending = thread::spawn(move || {
        let mut sent = 0;
        while !stopped.load(Ordering::Relaxed) {
            sent += 1;
            socket
                .send(format!("m v={sent}i {sent}").as_bytes())
                .unwrap();
            thread::sleep(Duration::from_micros(300));
        }
        sent
    });
    for outputs in [&[&a, &b][..], &[&b, &a], &[&a], &[&a, &b]] {
        site.becomes(&config(outputs));
    }
    stop.store(true, Ordering::Relaxed);
    let sent = sending.join().unwrap();
    until("all datagrams are counted", || {
        site.relay.metric("relay_udp_datagrams_total") == sent
    });
    let mut numbers: Vec<u64> = a
        .wait_for(usize::try_from(sent).unwrap())
        .iter()
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=sent).collect::<Vec<u64>>());
    assert!(!b.lines().is_empty());
    assert_eq!(site.relay.metric("relay_udp_kernel_drops_total"), 0);
}

#[test]
fn reload_keeps_what_is_known_of_a_backend_that_is_down() {
    let a = Backend::accepting();
    let away = own_address();
    let outputs = [("a", a.address.as_str()), ("away", away.as_str())];
    let site = Filed::start(&config("", &outputs));
    until("it is down", || {
        site.relay.said().contains("backend is down")
    });
    site.becomes(&config("limits.max-body-size = \"1MB\"", &outputs));
    let up = site.relay.metric("relay_backend_up{backend=\"away\"}");
    assert_eq!(up, 0);
    let _back = Backend::over(std::net::TcpListener::bind(&away).unwrap(), |_| {
        (Duration::ZERO, status(204, "", ""))
    });
    until("it is up", || site.relay.said().contains("backend is up"));
    assert_eq!(site.relay.said().matches("backend is down").count(), 1);
}
