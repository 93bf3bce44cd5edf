//! The warm write path asks the allocator for nothing.
//!
//! The relay runs in this process and its shard's thread is watched. Each allocation there is traced
//! to who asked for it: glommio does, a few times whenever the shard sleeps; our own code must not.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // a test fails by panicking
#![allow(clippy::disallowed_methods)] // a test may look at the clock
#![allow(unsafe_code)] // a counting allocator cannot be had without

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use influxdb_relay::boot;
use influxdb_relay::config::{self, Facts, Input};

struct Counting;

static WATCHED: AtomicI32 = AtomicI32::new(0);
/// Of the watched thread alone, whatever others set `WATCHED` to.
static LOOKING: AtomicBool = AtomicBool::new(false);
static SEEN: AtomicU64 = AtomicU64::new(0);
static OURS: AtomicU64 = AtomicU64::new(0);

/// Whether the innermost frame that is not the standard library's is ours.
fn is_ours(trace: &str) -> bool {
    let mut frames = trace
        .lines()
        .filter(|line| !line.trim_start().starts_with("at "));
    let known = |line: &&str| line.contains("influxdb_relay::") || line.contains("glommio::");
    frames
        .find(known)
        .is_some_and(|line| !line.contains("glommio::"))
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches only atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let watched = WATCHED.load(Ordering::Relaxed);
        let is_watched = || rustix::thread::gettid().as_raw_nonzero().get() == watched;
        // Looking at an allocation allocates, and no other trace can be had meanwhile.
        if watched != 0 && is_watched() && !LOOKING.swap(true, Ordering::Relaxed) {
            SEEN.fetch_add(1, Ordering::Relaxed);
            let trace = Backtrace::force_capture().to_string();
            if is_ours(&trace) && OURS.fetch_add(1, Ordering::Relaxed) == 0 {
                eprintln!("{trace}");
            }
            LOOKING.store(false, Ordering::Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUEST: &[u8] =
    b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nUser-Agent: t\r\nContent-Length: 21\r\n\r\ncpu,host=a load=0.64\n";
const WATCHED_WRITES: usize = 300;
const IN_ONE_SEGMENT: usize = 1; // what came too early is kept in a buffer of its own

struct Sink {
    child: Child,
    address: String,
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn sink() -> Sink {
    let mut child = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
        .args(["sink", "--http", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = child.stdout.take().unwrap();
    while !said.ends_with('\n') {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).unwrap(), 1, "the sink ended: {said}");
        said.push(char::from(byte[0]));
    }
    let address = said.trim().rsplit("http://").next().unwrap().to_owned();
    Sink { child, address }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A request that is long enough to be compressed.
fn long_request() -> Vec<u8> {
    let body = "cpu,host=a load=0.64\n".repeat(100);
    let length = body.len();
    let head = format!("POST /write?db=x HTTP/1.1\r\nHost: r\r\nContent-Length: {length}\r\n\r\n");
    (head + &body).into_bytes()
}
/// [`REQUEST`] by somebody with a token.
const BY_TOKEN: &[u8] = b"POST /write?db=x HTTP/1.1\r\nHost: r\r\nUser-Agent: t\r\nAuthorization: Bearer t0ken\r\nContent-Length: 21\r\n\r\ncpu,host=a load=0.64\n";
/// [`REQUEST`] by a user.
const BY_USER: &[u8] = b"POST /write?db=x&u=jane&p=password HTTP/1.1\r\nHost: r\r\nUser-Agent: t\r\nContent-Length: 21\r\n\r\ncpu,host=a load=0.64\n";
/// Of "password", by the reference implementation.
const PASSWORD: &str =
    "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";

/// Writes `segments` times one segment of requests, and reads all answers.
fn write(stream: &mut TcpStream, request: &[u8], segments: usize) {
    let segment = request.repeat(IN_ONE_SEGMENT);
    let mut answers = vec![0; 64 * 1024];
    for _ in 0..segments {
        stream.write_all(&segment).unwrap();
        let mut seen = 0;
        while seen < IN_ONE_SEGMENT {
            let count = stream.read(&mut answers).unwrap();
            assert!(count > 0, "the relay hung up");
            seen += answers[..count]
                .windows(12)
                .filter(|window| window == b"HTTP/1.1 204")
                .count();
        }
    }
}

/// A relay in a thread of this process, on one CPU, in front of two sinks, with more variables; its
/// shard's thread, which is none of `others`.
fn relay(
    address: &str,
    a: &Sink,
    b: &Sink,
    more: &[(&'static str, String)],
    others: &[i32],
) -> i32 {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let cpu = (0..1024).find(|&cpu| allowed.is_set(cpu)).unwrap();
    let env = [
        ("RELAY_CPUS", cpu.to_string()),
        ("RELAY_HTTP_BIND_ADDR", address.to_owned()),
        ("RELAY_ADMIN_BIND_ADDR", String::new()),
        (
            "RELAY_HTTP_OUTPUTS",
            format!("a=http://{},b=http://{}", a.address, b.address),
        ),
    ];
    let env = env.into_iter().chain(more.iter().cloned());
    let env: Vec<_> = env.map(|(name, value)| (name.to_owned(), value)).collect();
    let secrets = |_: &str| Err("no file".to_owned());
    let facts = Facts {
        cpus_allowed: vec![cpu],
        cpu_quota: None,
    };
    let input = Input {
        file: None,
        env: &env,
        secrets: &secrets,
        facts: &facts,
    };
    let plan = config::read(&input).unwrap().plan;
    std::thread::spawn(move || boot::run(plan, &|| Err(Vec::new())).unwrap());
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if TcpStream::connect(address).is_ok()
            && let Some(thread) = thread_named("shard-0", others)
        {
            return thread;
        }
        assert!(Instant::now() < end, "the relay did not come up");
        std::thread::yield_now();
    }
}

fn thread_named(name: &str, others: &[i32]) -> Option<i32> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .find_map(|task| {
            let comm = std::fs::read_to_string(task.path().join("comm")).ok()?;
            let thread = task.file_name().to_string_lossy().parse().ok()?;
            (comm.starts_with(name) && !others.contains(&thread)).then_some(thread)
        })
}

#[test]
fn a_warm_write_allocates_nothing_whatever_is_configured_nor_does_a_datagram() {
    let (a, b) = (sink(), sink());
    let folder = std::env::temp_dir().join(format!("relay-alloc-{}", std::process::id()));
    let dir = folder.display().to_string();
    // glommio's second thread of a shard has the shard's name too.
    let mut others = Vec::new();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = format!("127.0.0.1:{}", free_port());
    let udp = [
        ("RELAY_UDP_BIND_ADDR", datagrams.clone()),
        (
            "RELAY_UDP_OUTPUTS",
            format!("u={}", receiver.local_addr().unwrap()),
        ),
    ];
    let compress = [("RELAY_HTTP_COMPRESS", "true".to_owned())];
    let token = influxdb_relay::access::hash::of_token(b"t0ken");
    let guarded = [
        ("RELAY_HTTP_USERS", format!("jane {PASSWORD} write=a,x")),
        ("RELAY_HTTP_TOKENS", format!("{token} write=a,x")),
        ("RELAY_HTTP_RATE_LIMIT", "1000000".to_owned()),
        ("RELAY_HTTP_BURST_LIMIT", "1000000".to_owned()),
        ("RELAY_HTTP_CLIENT_RATE_LIMIT", "1000000".to_owned()),
        ("RELAY_HTTP_CLIENT_BURST_LIMIT", "1000000".to_owned()),
        ("RELAY_HTTP_USER_RATE_LIMIT", "1000000".to_owned()),
        ("RELAY_HTTP_USER_BURST_LIMIT", "1000000".to_owned()),
    ];
    let long = long_request();
    for more in [
        &[][..],
        &[("RELAY_SPOOL_DIR", dir)],
        &udp,
        &compress,
        &guarded,
    ] {
        let address = format!("127.0.0.1:{}", free_port());
        let shard = relay(&address, &a, &b, more, &others);
        let mut stream = TcpStream::connect(&address).unwrap();
        let requests: &[&[u8]] = match more {
            more if more == guarded => &[BY_TOKEN, BY_USER],
            more if more == compress => &[REQUEST, &long],
            _ => &[REQUEST],
        };
        for request in requests {
            watch(shard, |writes| write(&mut stream, request, writes));
        }
        if more == udp {
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.connect(&datagrams).unwrap();
            watch(shard, |count| pass(&sender, &receiver, count));
        }
        while let Some(thread) = thread_named("shard-0", &others) {
            others.push(thread);
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Sends so many datagrams, each a batch of its own, and receives what the relay makes of them.
fn pass(sender: &UdpSocket, receiver: &UdpSocket, count: usize) {
    let mut buffer = [0; 2048];
    for _ in 0..count {
        sender.send(b"cpu,host=a load=0.64\nno point").unwrap();
        let mut lines = 0;
        while lines < 1 {
            let bytes = receiver.recv(&mut buffer).unwrap();
            lines += buffer[..bytes]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count();
        }
    }
}

/// One allocation per write would be as many as there are writes, each time. A busy machine lets a sink
/// fall behind, and more writes in flight than ever before take buffers: then it is tried again.
fn watch(shard: i32, mut write: impl FnMut(usize)) {
    let few = u64::try_from(WATCHED_WRITES / 5).unwrap();
    let mut tries = Vec::new();
    while tries.len() < 5 {
        write(500); // warm
        SEEN.store(0, Ordering::Relaxed);
        OURS.store(0, Ordering::Relaxed);
        WATCHED.store(shard, Ordering::Relaxed);
        write(WATCHED_WRITES);
        WATCHED.store(0, Ordering::Relaxed);
        assert!(
            SEEN.load(Ordering::Relaxed) > 0,
            "glommio allocates when the shard sleeps: nothing was watched"
        );
        let ours = OURS.load(Ordering::Relaxed);
        if ours < few {
            return;
        }
        tries.push(ours);
    }
    panic!("{tries:?} allocations of our own in {WATCHED_WRITES} writes each; the first is above");
}

#[test]
fn a_trace_tells_who_asked() {
    let ours = "  3: <alloc::vec::Vec<u8>>::reserve\n   at x.rs\n  4: influxdb_relay::write::admit\n  5: glommio::task::run";
    let glommios = "  3: alloc::rc::Rc<T>::new\n  4: glommio::sys::Source::new\n  5: influxdb_relay::engine::driver::Driver::sleep";
    assert!(is_ours(ours));
    assert!(!is_ours(glommios));
}
