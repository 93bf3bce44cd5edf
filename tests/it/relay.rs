//! The relay under test: started on free ports, ended with the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

/// A running relay.
pub(crate) struct Relay {
    child: Child,
    said: Arc<Mutex<String>>,
    /// Where it takes writes: the first listener.
    pub(crate) http: String,
    /// All listeners, in the order of the file.
    pub(crate) doors: Vec<String>,
    /// Where it shows itself.
    pub(crate) admin: String,
    /// Where it takes datagrams.
    pub(crate) udp: Vec<String>,
}

/// A relay that did not come up.
#[derive(Debug)]
pub(crate) struct Refused {
    /// How it ended.
    pub(crate) code: Option<i32>,
    /// What it said.
    pub(crate) said: String,
}

impl Relay {
    /// A relay in front of these backends, with more variables.
    pub(crate) fn start(outputs: &[(&str, &str)], env: &[(&str, &str)]) -> Self {
        Self::try_start(outputs, env).unwrap_or_else(|refused| {
            panic!("the relay did not come up:\n{}", refused.said);
        })
    }

    /// The same, if it comes up.
    pub(crate) fn try_start(
        outputs: &[(&str, &str)],
        env: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        let outputs: Vec<String> = outputs
            .iter()
            .map(|(name, address)| format!("{name}=http://{address}"))
            .collect();
        Self::run(
            command()
                .env("RELAY_HTTP_BIND_ADDR", "127.0.0.1:0")
                .env("RELAY_HTTP_OUTPUTS", outputs.join(","))
                .envs(env.iter().copied()),
        )
    }

    /// A relay without an HTTP listener, in front of these outputs over UDP or HTTP.
    pub(crate) fn of_datagrams(outputs: &str, env: &[(&str, &str)]) -> Self {
        let mut command = command();
        command
            .env("RELAY_UDP_BIND_ADDR", "127.0.0.1:0")
            .env("RELAY_UDP_OUTPUTS", outputs)
            .envs(env.iter().copied());
        Self::run(&mut command).unwrap_or_else(|refused| {
            panic!("the relay did not come up:\n{}", refused.said);
        })
    }

    /// A number of its `/metrics`.
    pub(crate) fn metric(&self, row: &str) -> u64 {
        let page = crate::client::ask(&self.admin, "GET", "/metrics", "", b"").body;
        let found = page
            .lines()
            .find_map(|line| line.strip_prefix(row)?.strip_prefix(' '));
        found
            .unwrap_or_else(|| panic!("no {row} in {page}"))
            .parse()
            .unwrap()
    }

    /// Holds all of it up, until [`Relay::go_on`].
    pub(crate) fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// Ends [`Relay::freeze`].
    pub(crate) fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// A relay that reads this file.
    pub(crate) fn of_file(file: &std::path::Path) -> Self {
        Self::of_file_with(file, &[])
    }

    /// The same, with variables.
    pub(crate) fn of_file_with(file: &std::path::Path, env: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.arg("--config").arg(file).envs(env.iter().copied());
        Self::run(&mut command).unwrap_or_else(|refused| {
            panic!("the relay did not come up:\n{}", refused.said);
        })
    }

    /// A relay that reads a file with this text.
    pub(crate) fn of_text(text: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("relay-{}-{number}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        crate::secret_files::private(&file, text);
        let relay = Self::of_file(&file);
        std::fs::remove_file(&file).unwrap();
        relay
    }

    /// A relay that is started by this command, if it comes up.
    pub(crate) fn run(command: &mut Command) -> Result<Self, Refused> {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut addresses, mut udp, mut said) = (Vec::new(), Vec::new(), String::new());
        let mut is_ready = false;
        let mut line = String::new();
        while !is_ready && stderr.read_line(&mut line).unwrap() > 0 {
            if let Some((_, address)) = line.trim_end().split_once(" address=") {
                let is_udp = line.contains("for datagrams");
                let list = if is_udp { &mut udp } else { &mut addresses };
                list.push(address.to_owned());
            }
            is_ready = line.contains("ready shards");
            said.push_str(&line);
            line.clear();
        }
        let is_whole = addresses.len() >= 2 || (addresses.len() == 1 && !udp.is_empty());
        if !is_ready || !is_whole {
            let _gone = child.kill();
            let code = child.wait().unwrap().code();
            return Err(Refused { code, said });
        }
        let said = Arc::new(Mutex::new(said));
        read_on(stderr, Arc::clone(&said));
        Ok(Self {
            child,
            said,
            admin: addresses.pop().unwrap(),
            http: addresses.first().cloned().unwrap_or_default(),
            doors: addresses,
            udp,
        })
    }

    /// Kibibytes of a row of `/proc/PID/status`, such as `VmRSS`.
    pub(crate) fn kib(&self, row: &str) -> u64 {
        let file = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(file).unwrap();
        let found = status
            .lines()
            .find_map(|line| line.strip_prefix(row)?.strip_prefix(':'));
        let number = found.unwrap().split_whitespace().next().unwrap();
        number.parse().unwrap()
    }

    /// What it has logged until now.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Descriptors that it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder).unwrap().count()
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// Asks it to drain.
    pub(crate) fn term(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Asks it to read its configuration again, and waits until it has.
    pub(crate) fn reload(&self) {
        let said = |words: &str| self.said().matches(words).count();
        let (done, refused) = (said(" reloaded"), said("not reloaded"));
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
        crate::client::until("the configuration is read again", || {
            said(" reloaded") > done || said("not reloaded") > refused
        });
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// SIGKILL; it is gone when this returns.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

/// A command that starts a relay on free ports.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"));
    command.env("RELAY_ADMIN_BIND_ADDR", "127.0.0.1:0");
    command
}

/// Reads on, so that its log never fills the pipe; shown where the test fails.
fn read_on(mut stderr: BufReader<ChildStderr>, said: Arc<Mutex<String>>) {
    thread::spawn(move || {
        let mut line = Vec::new();
        while stderr
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            let text = String::from_utf8_lossy(&line);
            eprint!("relay: {text}");
            said.lock().unwrap().push_str(&text);
            line.clear();
        }
    });
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
