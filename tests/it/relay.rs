//! The relay under test: started on free ports, ended with the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

/// A running relay.
pub(crate) struct Relay {
    child: Child,
    /// Where it takes writes.
    pub(crate) http: String,
    /// Where it shows itself.
    pub(crate) admin: String,
}

impl Relay {
    /// A relay in front of these backends, with more variables.
    pub(crate) fn start(outputs: &[(&str, &str)], env: &[(&str, &str)]) -> Self {
        let outputs: Vec<String> = outputs
            .iter()
            .map(|(name, address)| format!("{name}=http://{address}"))
            .collect();
        let mut child = Command::new(env!("CARGO_BIN_EXE_influxdb-relay"))
            .env("RELAY_HTTP_BIND_ADDR", "127.0.0.1:0")
            .env("RELAY_ADMIN_BIND_ADDR", "127.0.0.1:0")
            .env("RELAY_HTTP_OUTPUTS", outputs.join(","))
            .envs(env.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut addresses, mut said) = (Vec::new(), String::new());
        for line in &mut lines {
            let line = line.unwrap();
            if let Some((_, address)) = line.split_once(" address=") {
                addresses.push(address.to_owned());
            }
            said = said + &line + "\n";
            if line.contains("ready shards") {
                break;
            }
        }
        assert_eq!(addresses.len(), 2, "the relay did not come up:\n{said}");
        // Read on, so that its log never fills the pipe; shown where the test fails.
        thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| eprintln!("relay: {line}"))
        });
        Self {
            child,
            admin: addresses.remove(1),
            http: addresses.remove(0),
        }
    }

    /// Asks it to drain.
    pub(crate) fn term(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
