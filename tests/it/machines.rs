//! Machines as they are: no IPv6 in the kernel, odd files in sysfs, few CPUs, process 1 of a container.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::backend::Backend;
use crate::client::{ask, until, write};
use crate::datagrams::sender;
use crate::names::mounts_over;
use crate::relay::{self, Relay};
use crate::spool_site::Folder;

fn command(backend: &str) -> Command {
    let mut command = relay::command();
    command
        .env("RELAY_HTTP_BIND_ADDR", "127.0.0.1:0")
        .env("RELAY_HTTP_OUTPUTS", format!("a=http://{backend}"));
    command
}

fn started(command: &mut Command) -> Relay {
    Relay::run(command).unwrap_or_else(|refused| panic!("{:?}\n{}", refused.code, refused.said))
}

fn takes_writes(relay: &Relay) {
    let port = relay.http.rsplit_once(':').unwrap().1;
    let answer = write(&format!("127.0.0.1:{port}"), "/write?db=d", "m v=1 1");
    assert_eq!(answer.status, 204, "{answer:?}");
}

/// Has each `socket(AF_INET6, …)` of the process fail as on a kernel without IPv6.
fn without_ipv6(command: &mut Command) {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    };
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equals = |k, jf| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, jf, k);
    let answer = |k| step(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    let mut steps = [
        load(0), // the number of the call
        equals(u32::try_from(libc::SYS_socket).unwrap(), 3),
        load(if cfg!(target_endian = "little") {
            16
        } else {
            20
        }), // its first argument
        equals(libc::AF_INET6.cast_unsigned(), 1),
        answer(libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT.cast_unsigned()),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    #[allow(unsafe_code)]
    // SAFETY: between fork and exec only system calls are made, on memory that was made before.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog {
                len: 6,
                filter: steps.as_mut_ptr(),
            };
            let filter = &raw const program;
            let done = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, filter) == 0;
            match done {
                true => Ok(()),
                false => Err(io::Error::last_os_error()),
            }
        });
    }
}

#[test]
fn without_ipv6_all_addresses_are_those_of_ipv4() {
    let backend = Backend::accepting();
    let mut command = command(&backend.address);
    let all = [
        "RELAY_HTTP_BIND_ADDR",
        "RELAY_ADMIN_BIND_ADDR",
        "RELAY_UDP_BIND_ADDR",
    ];
    command
        .envs(all.map(|name| (name, ":0")))
        .env("RELAY_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef")
        .env(
            "RELAY_UDP_OUTPUTS",
            format!("u=http://{}/?db=d", backend.address),
        );
    without_ipv6(&mut command);
    let relay = started(&mut command);
    for address in [&relay.http, &relay.admin, &relay.udp[0]] {
        assert!(address.starts_with("0.0.0.0:"), "{address}");
    }
    takes_writes(&relay);
    let port = |address: &str| format!("127.0.0.1:{}", address.rsplit_once(':').unwrap().1);
    assert_eq!(
        ask(&port(&relay.admin), "GET", "/metrics", "", b"").status,
        200
    );
    let socket = sender(&port(&relay.udp[0]));
    until("a datagram reaches the backend", || {
        socket.send(b"u v=1 1").unwrap();
        backend
            .seen()
            .iter()
            .any(|seen| seen.body.starts_with(b"u v=1 1"))
    });
    relay.reload();
    takes_writes(&relay);
    relay.term();
    assert_eq!(relay.wait().code(), Some(0));
}

#[test]
fn without_ipv6_an_address_of_ipv6_is_refused() {
    let mut command = command("127.0.0.1:1");
    command.env("RELAY_HTTP_BIND_ADDR", "[::1]:0");
    without_ipv6(&mut command);
    let refused = Relay::run(&mut command).err().expect("it is refused");
    assert_eq!(refused.code, Some(2), "{}", refused.said);
    assert!(!refused.said.contains("panicked"), "{}", refused.said);
}

/// Starts with `folder` over the folder that tells of CPUs, or over all of `/sys`.
fn starts_with_sysfs(folder: &Folder, target: &str) {
    let backend = Backend::accepting();
    let mut command = command(&backend.address);
    if mounts_over(&mut command, folder.path(), target) {
        let relay = started(&mut command);
        takes_writes(&relay);
        assert!(!relay.said().contains("panicked"), "{}", relay.said());
        relay.term();
        assert_eq!(relay.wait().code(), Some(0));
    }
}

#[test]
fn an_empty_sysfs_is_no_hindrance() {
    starts_with_sysfs(&Folder::new(), "/sys");
}

#[test]
fn an_odd_sysfs_is_no_hindrance() {
    let folder = Folder::new();
    starts_with_sysfs(&folder, "/sys/devices/system");
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for online in ["", "\n", "0-", "x", "3-1", "4096", "7"] {
        put("cpu/online", online);
        put("node/online", online);
        put("cpu/cpu0/topology/core_id", "-1\n");
        put("cpu/cpu0/topology/physical_package_id", "-1\n");
        starts_with_sysfs(&folder, "/sys/devices/system");
    }
}

#[test]
fn each_shard_runs_on_its_own_cpu_and_what_waits_for_disks_on_any() {
    let backend = Backend::accepting();
    let relay = started(&mut command(&backend.address));
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    let all = (0..1024).filter(|cpu| set.is_set(*cpu)).count();
    let (mut shards, mut others) = (Vec::new(), 0);
    for thread in std::fs::read_dir(format!("/proc/{}/task", relay.pid())).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let cpus = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        match cpus.unwrap().trim().parse::<usize>() {
            Ok(cpu) => shards.push(cpu),
            Err(_) => others += 1,
        }
    }
    if all == 1 {
        return; // they cannot be told apart
    }
    shards.sort_unstable();
    let cpus: Vec<usize> = (0..1024).filter(|cpu| set.is_set(*cpu)).collect();
    assert_eq!(shards, cpus, "one thread each");
    assert!(others > 2 * all, "helpers, and threads that wait for disks");
}

/// A control group of the first version with a quota, and one in it without.
struct Quota(std::path::PathBuf);

impl Quota {
    /// `None` where that is not allowed.
    fn new(name: &str, microseconds: &str) -> Option<Self> {
        let folder = format!("/sys/fs/cgroup/cpu/relay-it-{}-{name}", std::process::id());
        let quota = Self(folder.into());
        let made = std::fs::create_dir_all(quota.0.join("inner"))
            .and_then(|()| std::fs::write(quota.0.join("cpu.cfs_quota_us"), microseconds));
        if made.is_err() {
            eprintln!("skipped: a control group is not to be had here");
        }
        made.ok().map(|()| quota)
    }

    fn give(&self, command: &mut Command, inner: &str) {
        let file = self.0.join(inner).join("cgroup.procs");
        let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
        #[allow(unsafe_code)]
        // SAFETY: between fork and exec only a system call is made.
        unsafe {
            command.pre_exec(move || Ok(rustix::io::write(&file, b"0").map(drop)?));
        }
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let removed = || {
            std::fs::remove_dir(self.0.join("inner")).is_ok()
                && std::fs::remove_dir(&self.0).is_ok()
        };
        until("the control group is empty", removed);
    }
}

#[test]
fn auto_starts_no_more_shards_than_the_quota_has_whole_cpus() {
    let backend = Backend::accepting();
    let Some(quota) = Quota::new("auto", "150000") else {
        return;
    };
    for inner in ["", "inner"] {
        let mut command = command(&backend.address);
        quota.give(&mut command, inner);
        let relay = started(&mut command);
        takes_writes(&relay);
        assert!(relay.said().contains("ready shards=1"), "{}", relay.said());
        let all = rustix::thread::sched_getaffinity(None).unwrap().count();
        let said = relay
            .said()
            .contains("the control group's quota is 1.5 (/sys");
        assert_eq!(said, all > 1, "{}", relay.said());
    }
    let all = rustix::thread::sched_getaffinity(None).unwrap();
    let all: Vec<String> = (0..1024)
        .filter(|cpu| all.is_set(*cpu))
        .map(|cpu| cpu.to_string())
        .collect();
    let mut command = command(&backend.address);
    command.env("RELAY_CPUS", all.join(","));
    quota.give(&mut command, "");
    let relay = started(&mut command);
    let ready = format!("ready shards={}", all.len());
    assert!(
        relay.said().contains(&ready),
        "a list is what it is: {}",
        relay.said()
    );
    let said = relay.said().contains("past it the kernel stops all shards");
    assert_eq!(said, all.len() > 1, "{}", relay.said());
}

/// A relay as process 1 of a namespace of its own. Its end is that of `unshare`.
struct First {
    outer: std::process::Child,
    http: String,
    said: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Drop for First {
    fn drop(&mut self) {
        let _gone = self.outer.kill(); // the namespace ends with it: --kill-child
        let _gone = self.outer.wait();
    }
}

impl First {
    /// `None` where that is not allowed.
    fn start(backend: &str) -> Option<Self> {
        let may = Command::new("unshare")
            .args(["-p", "-f", "--mount-proc", "true"])
            .status();
        if !may.is_ok_and(|end| end.success()) {
            eprintln!("skipped: a process namespace is not to be had here");
            return None;
        }
        let (relay, http, _) = crate::bare::relay(backend);
        let mut command = Command::new("unshare");
        command
            .args(["-p", "-f", "--mount-proc", "--kill-child"])
            .arg(relay.get_program())
            .envs(
                relay
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stderr(std::process::Stdio::piped());
        let mut outer = command.spawn().unwrap();
        let said = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let (kept, stderr) = (said.clone(), outer.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let first = Self { outer, http, said };
        until("it is ready", || {
            first.said.lock().unwrap().contains("ready shards")
        });
        Some(first)
    }

    /// The relay's process, as it is seen from outside.
    fn relay(&self) -> rustix::process::Pid {
        let outer = self.outer.id();
        let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
        let child = children
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        rustix::process::Pid::from_raw(child).unwrap()
    }
}

#[test]
fn process_1_of_a_container_refuses_to_restart_and_goes_on() {
    let backend = Backend::accepting();
    let Some(mut first) = First::start(&backend.address) else {
        return;
    };
    let relay = first.relay();
    for count in 1..3 {
        rustix::process::kill_process(relay, rustix::process::Signal::USR2).unwrap();
        until("it says why not", || {
            let said = first.said.lock().unwrap();
            said.matches("SIGUSR2: this relay is process 1").count() == count
        });
        assert_eq!(write(&first.http, "/write?db=d", "m v=1 1").status, 204);
    }
    assert!(
        !first
            .said
            .lock()
            .unwrap()
            .contains("a successor was started")
    );
    rustix::process::kill_process(relay, rustix::process::Signal::TERM).unwrap();
    assert_eq!(first.outer.wait().unwrap().code(), Some(0));
}
