//! The relay under test: started on free ports, ended with the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

/// A running relay.
pub(crate) struct Relay {
    child: Child,
    said: Arc<Mutex<String>>,
    /// Where it takes writes.
    pub(crate) http: String,
    /// Where it shows itself.
    pub(crate) admin: String,
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

    /// A relay that reads this file.
    pub(crate) fn of_file(file: &std::path::Path) -> Self {
        Self::run(command().arg("--config").arg(file)).unwrap_or_else(|refused| {
            panic!("the relay did not come up:\n{}", refused.said);
        })
    }

    fn run(command: &mut Command) -> Result<Self, Refused> {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut addresses, mut said, mut is_ready) = (Vec::new(), String::new(), false);
        let mut line = String::new();
        while !is_ready && stderr.read_line(&mut line).unwrap() > 0 {
            if let Some((_, address)) = line.trim_end().split_once(" address=") {
                addresses.push(address.to_owned());
            }
            is_ready = line.contains("ready shards");
            said.push_str(&line);
            line.clear();
        }
        if !is_ready || addresses.len() != 2 {
            let _gone = child.kill();
            let code = child.wait().unwrap().code();
            return Err(Refused { code, said });
        }
        let said = Arc::new(Mutex::new(said));
        read_on(stderr, Arc::clone(&said));
        Ok(Self {
            child,
            said,
            admin: addresses.remove(1),
            http: addresses.remove(0),
        })
    }

    /// What it has logged until now.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Asks it to drain.
    pub(crate) fn term(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
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

fn command() -> Command {
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
