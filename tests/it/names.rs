//! Names of backends that move, and names that come late. Each relay has a hosts file of its own.

use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::backend::{Act, Backend, status};
use crate::bare::{self, Bare};
use crate::client::{Client, ask, until, within, write};
use crate::datagrams::{Receiver, sender};
use crate::spool_site::Folder;

/// How soon a new address is to be gone by.
const MOVE_MAX: Duration = Duration::from_secs(15);

/// A hosts file, and what it says.
struct Hosts {
    path: PathBuf,
    _folder: Folder,
}

impl Hosts {
    fn new(text: &str) -> Self {
        let folder = Folder::new();
        let path = folder.path().join("hosts");
        std::fs::write(&path, text).unwrap();
        Self {
            path,
            _folder: folder,
        }
    }

    /// Written in place: it is mounted.
    fn say(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }

    /// Has `command` see this file as `/etc/hosts`; `false` where that is not allowed.
    fn give(&self, command: &mut Command) -> bool {
        mounts_over(command, &self.path, "/etc/hosts")
    }
}

/// Has `command` run in mounts of its own, where `source` lies over `target`.
pub(crate) fn mounts_over(command: &mut Command, source: &Path, target: &str) -> bool {
    let may = Command::new("unshare").args(["-m", "true"]).status();
    if !may.is_ok_and(|end| end.success()) {
        eprintln!("skipped: a mount namespace is not to be had here");
        return false;
    }
    let source = std::ffi::CString::new(source.as_os_str().as_bytes()).unwrap();
    let target = std::ffi::CString::new(target).unwrap();
    #[allow(unsafe_code)]
    // SAFETY: between fork and exec only system calls are made, on strings that were made before.
    unsafe {
        command.pre_exec(move || {
            let null = std::ptr::null();
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let done = libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(null, c"/".as_ptr(), null, private, null.cast()) == 0
                && libc::mount(
                    source.as_ptr(),
                    target.as_ptr(),
                    null,
                    libc::MS_BIND,
                    null.cast(),
                ) == 0;
            match done {
                true => Ok(()),
                false => Err(std::io::Error::last_os_error()),
            }
        });
    }
    true
}

/// Two backends on one port of two hosts, and the port.
fn two(
    first: impl Fn(usize) -> (Duration, Act) + Send + Sync + 'static,
) -> (Backend, Backend, u16) {
    for _ in 0..50 {
        let old = TcpListener::bind("127.0.0.5:0").unwrap();
        let port = old.local_addr().unwrap().port();
        if let Ok(new) = TcpListener::bind(("127.0.0.6", port)) {
            let accepts = |_| (Duration::ZERO, status(204, "", ""));
            return (Backend::over(old, first), Backend::over(new, accepts), port);
        }
    }
    panic!("no port is free on both");
}

fn accepts(_: usize) -> (Duration, Act) {
    (Duration::ZERO, status(204, "", ""))
}

fn start(hosts: &Hosts, output: &str, env: &[(&str, &str)]) -> Option<Bare> {
    let mut start = bare::relay(output);
    start.0.envs(env.iter().copied()).stderr(Stdio::inherit());
    hosts.give(&mut start.0).then(|| Bare::start(start))
}

const SOON: [(&str, &str); 1] = [("RELAY_DNS_INTERVAL", "100ms")];

#[test]
fn writes_follow_a_name_that_moves_while_pooled_links_live() {
    let (old, new, port) = two(accepts);
    let hosts = Hosts::new("127.0.0.5 backend.test\n");
    let Some(relay) = start(&hosts, &format!("backend.test:{port}"), &SOON) else {
        return;
    };
    let mut client = Client::new(&relay.http);
    let mut write = |line: &str| {
        let answer = crate::client::ask_on(&mut client, "POST", "/write?db=d", "", line.as_bytes());
        assert_eq!(answer.status, 204, "{answer:?}");
    };
    write("m v=1 1");
    assert_eq!(old.seen().len(), 1);
    hosts.say("127.0.0.6 backend.test\n");
    within(MOVE_MAX, "links at rest are closed", || {
        let page = ask(&relay.admin, "GET", "/metrics", "", b"").body;
        page.contains("relay_backend_connections{backend=\"a\",state=\"idle\"} 0")
    });
    within(MOVE_MAX, "writes go to the new host", || {
        write("m v=2 2");
        !new.seen().is_empty()
    });
    let before = old.seen().len();
    (0..50).for_each(|_| write("m v=3 3"));
    assert_eq!(old.seen().len(), before, "the old host gets nothing more");
}

#[test]
fn a_link_at_work_is_let_go_after_its_answer_and_nothing_is_overtaken() {
    let slow = |number| match number {
        0 => (Duration::from_millis(3000), status(204, "", "")),
        _ => accepts(number),
    };
    let (old, new, port) = two(slow);
    let hosts = Hosts::new("127.0.0.5 backend.test\n");
    let Some(relay) = start(&hosts, &format!("backend.test:{port}"), &SOON) else {
        return;
    };
    let mut client = Client::new(&relay.http);
    let head = "POST /write?db=d HTTP/1.1\r\nHost: r\r\nContent-Length: 7\r\n\r\n";
    client.send(format!("{head}m v=1 1{head}m v=2 2").as_bytes());
    until("the old host has the first", || old.seen().len() == 1);
    hosts.say("127.0.0.6 backend.test\n");
    // Another client is served by the new host meanwhile.
    within(MOVE_MAX, "other writes go to the new host", || {
        write(&relay.http, "/write?db=d", "m v=9 9");
        new.seen().iter().any(|seen| seen.body == b"m v=9 9")
    });
    let second = |backend: &Backend| backend.seen().iter().any(|seen| seen.body == b"m v=2 2");
    assert!(!second(&new) && !second(&old), "the first is unanswered");
    assert_eq!(client.answer().unwrap().status, 204);
    assert_eq!(client.answer().unwrap().status, 204);
    assert!(second(&new) && !second(&old));
}

#[test]
fn queries_follow_a_name_that_moves() {
    let (old, new, port) = two(accepts);
    let hosts = Hosts::new("127.0.0.5 backend.test\n");
    let Some(relay) = start(&hosts, &format!("backend.test:{port}"), &SOON) else {
        return;
    };
    let query = || {
        let answer = ask(&relay.http, "POST", "/query?q=SHOW+DATABASES", "", b"");
        assert_eq!(answer.status, 204);
    };
    query();
    assert_eq!(old.seen().len(), 1);
    hosts.say("127.0.0.6 backend.test\n");
    within(MOVE_MAX, "queries go to the new host", || {
        query();
        !new.seen().is_empty()
    });
    let before = old.seen().len();
    (0..10).for_each(|_| query());
    assert_eq!(old.seen().len(), before, "the old host is asked no more");
}

#[test]
fn a_name_that_is_unknown_at_the_start_is_asked_for_again_soon() {
    let backend = Backend::accepting();
    let port = backend.address.rsplit_once(':').unwrap().1;
    let hosts = Hosts::new("127.0.0.9 else.test\n");
    let seldom = [("RELAY_DNS_INTERVAL", "1h")];
    let Some(relay) = start(&hosts, &format!("backend.test:{port}"), &seldom) else {
        return;
    };
    assert_eq!(write(&relay.http, "/write?db=d", "m v=1 1").status, 503);
    hosts.say("127.0.0.1 backend.test\n");
    within(MOVE_MAX, "it is found", || {
        write(&relay.http, "/write?db=d", "m v=1 1").status == 204
    });
}

#[test]
fn a_name_whose_host_is_gone_is_asked_for_again_soon() {
    let (old, new, port) = two(|_| (Duration::ZERO, Act::SayAndClose(Vec::new())));
    let hosts = Hosts::new("127.0.0.7 backend.test\n"); // nobody there
    let seldom = [("RELAY_DNS_INTERVAL", "1h")];
    let Some(relay) = start(&hosts, &format!("backend.test:{port}"), &seldom) else {
        return;
    };
    assert_eq!(write(&relay.http, "/write?db=d", "m v=1 1").status, 503);
    hosts.say("127.0.0.6 backend.test\n");
    within(MOVE_MAX, "its new host is found", || {
        write(&relay.http, "/write?db=d", "m v=1 1").status == 204
    });
    assert!(old.seen().is_empty() && !new.seen().is_empty());
}

#[test]
fn datagrams_follow_a_name_that_moves() {
    let port = Receiver::new();
    let (_, port) = port.address.rsplit_once(':').unwrap();
    let old = Receiver::at(&format!("127.0.0.5:{port}"));
    let new = Receiver::at(&format!("127.0.0.6:{port}"));
    let hosts = Hosts::new("127.0.0.5 backend.test\n");
    let nobody = Backend::nobody();
    let listen = bare::free();
    let output = format!("u=backend.test:{port}");
    let udp = [
        ("RELAY_DNS_INTERVAL", "100ms"),
        ("RELAY_UDP_BIND_ADDR", &listen),
        ("RELAY_UDP_OUTPUTS", &output),
    ];
    let Some(_relay) = start(&hosts, &nobody, &udp) else {
        return;
    };
    let sender = sender(&listen);
    within(MOVE_MAX, "the old host is sent to", || {
        sender.send(b"m v=1 1").unwrap();
        !old.lines().is_empty()
    });
    hosts.say("127.0.0.6 backend.test\n");
    within(MOVE_MAX, "the new host is sent to", || {
        sender.send(b"m v=2 2").unwrap();
        !new.lines().is_empty()
    });
}

#[test]
fn what_is_owed_follows_a_name_that_moves() {
    let (old, new, port) = two(|_| (Duration::ZERO, status(500, "", "no")));
    let hosts = Hosts::new("127.0.0.5 backend.test\n");
    let other = Backend::accepting();
    let outputs = format!("a=http://{},b=http://backend.test:{port}", other.address);
    let spool = Folder::new();
    let env = [
        SOON[0],
        ("RELAY_HTTP_OUTPUTS", outputs.as_str()),
        ("RELAY_SPOOL_DIR", spool.path().to_str().unwrap()),
    ];
    let Some(relay) = start(&hosts, &other.address, &env) else {
        return;
    };
    assert_eq!(write(&relay.http, "/write?db=d", "m v=1 1").status, 204);
    until("it was sent again, by replay", || old.seen().len() > 2);
    hosts.say("127.0.0.6 backend.test\n");
    within(MOVE_MAX, "the new host has it", || {
        new.seen()
            .iter()
            .any(|seen| seen.body.starts_with(b"m v=1 1"))
    });
}
