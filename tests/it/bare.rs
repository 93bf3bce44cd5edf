//! A relay as a bare process: on ports that are chosen before, so that nothing has to be read from it.

use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running relay whose stderr may be anything.
pub(crate) struct Bare {
    child: Child,
    /// Where it takes writes.
    pub(crate) http: String,
    /// Where it shows itself.
    pub(crate) admin: String,
}

/// A command that starts a relay in front of one backend, and where it will listen.
pub(crate) fn relay(backend: &str) -> (Command, String, String) {
    let (http, admin) = (free(), free());
    let mut command = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"));
    command
        .env("RELAY_HTTP_BIND_ADDR", &http)
        .env("RELAY_ADMIN_BIND_ADDR", &admin)
        .env("RELAY_CPUS", first_cpu())
        .env("RELAY_HTTP_OUTPUTS", format!("a=http://{backend}"));
    (command, http, admin)
}

impl Bare {
    /// Starts it, and waits until it answers.
    pub(crate) fn start((mut command, http, admin): (Command, String, String)) -> Self {
        let child = command.spawn().unwrap();
        let mut bare = Self { child, http, admin };
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&bare.http).is_err() {
            assert!(bare.child.try_wait().unwrap().is_none(), "it has ended");
            assert!(Instant::now() < until, "it does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        bare
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks it to drain, and waits for its end.
    pub(crate) fn end(&mut self, wait: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let until = Instant::now() + wait;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A loopback address that was free a moment ago.
pub(crate) fn free() -> String {
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().to_string()
}

/// The first CPU that this process may use: one shard is enough.
pub(crate) fn first_cpu() -> String {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    let first = (0..1024).find(|cpu| set.is_set(*cpu));
    first.unwrap().to_string()
}
