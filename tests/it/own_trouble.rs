//! Local ports or descriptors that are used up are the relay's own trouble, not the backend's.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::backend::{Backend, status};
use crate::client::{Client, ask_on, until};
use crate::relay::{self, Relay};

/// How the trouble is made, and ended.
trait Trouble {
    fn begin(&mut self, relay: &Relay);
    fn end(&mut self, relay: &Relay);
}

/// No port is left to connect from: the only one of the range is taken.
struct Ports(Option<socket2::Socket>);

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

impl Trouble for Ports {
    fn begin(&mut self, _: &Relay) {
        let port = TcpListener::bind("0.0.0.0:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let taken =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let all: SocketAddr = format!("0.0.0.0:{port}").parse().unwrap();
        taken.bind(&all.into()).unwrap();
        std::fs::write(RANGE, format!("{port} {port}")).unwrap();
        self.0 = Some(taken);
    }

    fn end(&mut self, _: &Relay) {
        std::fs::write(RANGE, "32768 60999").unwrap();
        self.0 = None;
    }
}

/// No descriptor is left: the limit is what is open.
struct Descriptors;

impl Descriptors {
    fn set(relay: &Relay, soft: u64) {
        let pid = Pid::from_raw(relay.pid()).unwrap();
        let limit = Rlimit {
            current: Some(soft),
            maximum: Some(4096),
        };
        prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    }
}

impl Trouble for Descriptors {
    fn begin(&mut self, relay: &Relay) {
        Self::set(relay, 3); // below all that are open
    }

    fn end(&mut self, relay: &Relay) {
        Self::set(relay, 4096);
    }
}

fn last_error(admin: &mut Client) -> serde_json::Value {
    let page = ask_on(admin, "GET", "/status", "", b"").body;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    page["status"]["a"]["lastError"].clone()
}

fn is_up(admin: &mut Client) -> bool {
    let page = ask_on(admin, "GET", "/metrics", "", b"").body;
    page.contains("relay_backend_up{backend=\"a\"} 1\n")
}

/// A backend is not down for it, links that there are go on, and it is said when it begins and when it ends.
fn is_own(trouble: &mut dyn Trouble, words: &str) {
    for merge in ["auto", "off"] {
        is_own_with(merge, trouble, words);
    }
}

fn is_own_with(merge: &str, trouble: &mut dyn Trouble, words: &str) {
    let slow = |_| (Duration::from_millis(100), status(204, "", ""));
    let backend = Backend::with(slow);
    let mut command = relay::command();
    command
        .env("RELAY_HTTP_BIND_ADDR", "127.0.0.1:0")
        .env(
            "RELAY_HTTP_OUTPUTS",
            format!("a=http://{}", backend.address),
        )
        .env("RELAY_CPUS", crate::bare::first_cpu())
        .env("RELAY_PROBE_INTERVAL", "50ms")
        .env("RELAY_HTTP_MERGE", merge)
        .stdin(Stdio::null());
    let relay = Relay::run(&mut command).unwrap_or_else(|refused| panic!("{}", refused.said));
    let mut admin = Client::new(&relay.admin);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::new(&relay.http)).collect();
    let mut write =
        |client: usize| ask_on(&mut clients[client], "POST", "/write?db=d", "", b"m v=1 1").status;
    assert_eq!(write(0), 204);
    assert!(is_up(&mut admin));

    trouble.begin(&relay);
    until("the status names it", || {
        last_error(&mut admin)
            .as_str()
            .is_some_and(|why| why.contains(words))
    });
    for _ in 0..3 {
        assert_eq!(write(1), 204, "by the link that there is");
        assert!(is_up(&mut admin));
    }
    // More at once than there are links: they wait for the one.
    let head = "POST /write?db=d HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\nm v=1 1";
    for client in &mut clients {
        client.send(head.as_bytes());
    }
    for client in &mut clients {
        assert_eq!(client.answer().unwrap().status, 204, "it waits for a link");
    }
    assert!(is_up(&mut admin));
    assert!(last_error(&mut admin).is_string(), "it lasts");

    trouble.end(&relay);
    until("it is over", || last_error(&mut admin).is_null());
    until("it is said that it is over", || {
        relay.said().contains("can be connected to again")
    });
    let said = relay.said();
    assert_eq!(said.matches(words).count(), 1, "{said}");
    assert_eq!(
        said.matches("can be connected to again").count(),
        1,
        "{said}"
    );
    assert!(!said.contains("is down"), "{said}");
    let mut clients: Vec<Client> = (0..4).map(|_| Client::new(&relay.http)).collect();
    for client in &mut clients {
        client.send(head.as_bytes());
    }
    for client in &mut clients {
        assert_eq!(client.answer().unwrap().status, 204);
    }
}

#[test]
fn local_ports_that_are_used_up_mark_no_backend_down() {
    #[allow(unsafe_code)]
    // SAFETY: it concerns this thread alone, which has no socket yet.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    let mut up = std::process::Command::new("ip");
    up.args(["link", "set", "lo", "up"]);
    if !done || !up.status().is_ok_and(|end| end.success()) {
        eprintln!("skipped: a network of its own is not to be had here");
        return;
    }
    is_own(&mut Ports(None), "no local port is left");
}

#[test]
fn descriptors_that_are_used_up_mark_no_backend_down() {
    is_own(&mut Descriptors, "no descriptor is left");
}

#[test]
fn without_a_link_a_write_fails_for_the_trouble_and_the_next_goes_once_it_is_over() {
    let backend = Backend::accepting();
    let mut command = relay::command();
    command
        .env("RELAY_HTTP_BIND_ADDR", "127.0.0.1:0")
        .env(
            "RELAY_HTTP_OUTPUTS",
            format!("a=http://{}", backend.address),
        )
        .env("RELAY_CPUS", crate::bare::first_cpu());
    let relay = Relay::run(&mut command).unwrap_or_else(|refused| panic!("{}", refused.said));
    let mut admin = Client::new(&relay.admin);
    let mut client = Client::new(&relay.http);
    assert_eq!(ask_on(&mut client, "GET", "/ping", "", b"").status, 204);
    until("it was probed", || {
        is_up(&mut admin)
            && ask_on(&mut client, "GET", "/ping", "", b"")
                .header("x-influxdb-version")
                .is_some()
    });
    Descriptors.begin(&relay);
    let answer = ask_on(&mut client, "POST", "/write?db=d", "", b"m v=1 1");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("no port or descriptor"), "{answer:?}");
    assert!(is_up(&mut admin));
    Descriptors.end(&relay);
    assert_eq!(
        ask_on(&mut client, "POST", "/write?db=d", "", b"m v=1 1").status,
        204
    );
}

#[test]
fn too_few_descriptors_are_said_at_the_start() {
    let start = |limit: u64| {
        let backend = Backend::accepting();
        let mut command = relay::command();
        command
            .env("RELAY_HTTP_BIND_ADDR", "127.0.0.1:0")
            .env(
                "RELAY_HTTP_OUTPUTS",
                format!("a=http://{}", backend.address),
            )
            .env("RELAY_CPUS", crate::bare::first_cpu())
            .env("RELAY_MAX_CONNECTIONS", "1000");
        #[allow(unsafe_code)]
        // SAFETY: between fork and exec only a system call is made.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
                let limit = Rlimit {
                    current: Some(200), // what is soft is raised
                    maximum: Some(limit),
                };
                Ok(rustix::process::setrlimit(Resource::Nofile, limit)?)
            });
        }
        let relay = Relay::run(&mut command).unwrap_or_else(|refused| panic!("{}", refused.said));
        relay.said()
    };
    let said = start(512);
    assert!(
        said.contains("RLIMIT_NOFILE is 512") && said.contains("LimitNOFILE"),
        "{said}"
    );
    let said = start(4096);
    assert!(!said.contains("RLIMIT_NOFILE"), "{said}");
}
