//! The processes of the demo: each has a place, can be killed there, and started again.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::account::{Points, recorded, selected};
use super::talk::Talk;
use crate::limits::tools::TOOL_WAIT_MAX;

/// A process with an address that stays.
pub(super) struct Actor {
    command: Box<dyn Fn() -> Command + Send>,
    child: Option<Child>,
}

impl Actor {
    fn new(command: impl Fn() -> Command + Send + 'static) -> Self {
        Self {
            command: Box::new(command),
            child: None,
        }
    }

    /// Whether it runs.
    pub(super) fn is_there(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Starts it.
    pub(super) fn start(&mut self) -> io::Result<()> {
        self.child = Some((self.command)().spawn()?);
        Ok(())
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A backend: a real InfluxDB, or a sink that records.
pub(super) struct Backend {
    /// Its process.
    pub(super) actor: Actor,
    /// Where it is.
    pub(super) address: String,
    /// What a sink has recorded; `None` is an InfluxDB.
    record: Option<PathBuf>,
}

impl Backend {
    /// A real one.
    pub(super) fn influxd(folder: &Path, name: &str) -> io::Result<Self> {
        let (address, rpc, folder) = (free_address()?, free_address()?, folder.join(name));
        let at = address.clone();
        let actor = Actor::new(move || {
            let mut command = quiet("influxd".as_ref());
            command
                .args(["run", "-config", "/dev/null"])
                .env("INFLUXDB_REPORTING_DISABLED", "true")
                .env("INFLUXDB_MONITOR_STORE_ENABLED", "false")
                .env("INFLUXDB_BIND_ADDRESS", &rpc)
                .env("INFLUXDB_HTTP_BIND_ADDRESS", &at)
                .env("INFLUXDB_META_DIR", folder.join("meta"))
                .env("INFLUXDB_DATA_DIR", folder.join("data"))
                .env("INFLUXDB_DATA_WAL_DIR", folder.join("wal"));
            command
        });
        Ok(Self {
            actor,
            address,
            record: None,
        })
    }

    /// The built-in sink.
    pub(super) fn sink(own: &Path, folder: &Path, name: &str) -> io::Result<Self> {
        let (address, record) = (free_address()?, folder.join(name));
        let (at, own, to) = (address.clone(), own.to_owned(), record.clone());
        let actor = Actor::new(move || {
            let mut command = quiet(&own);
            command.args(["sink", "--http", &at, "--record"]).arg(&to);
            command
        });
        Ok(Self {
            actor,
            address,
            record: Some(record),
        })
    }

    /// Whether it is a real one.
    pub(super) fn is_real(&self) -> bool {
        self.record.is_none()
    }

    /// Waits until it answers.
    pub(super) fn wait(&self) -> io::Result<()> {
        wait_for(&self.address, "/ping", |status| status < 300)
    }

    /// What it has.
    pub(super) fn points(&self) -> io::Result<Points> {
        match &self.record {
            Some(record) => Ok(recorded(&fs::read_to_string(record)?)),
            None => {
                let target = "/query?db=demo&q=SELECT+v+FROM+demo";
                let accept = "Accept: application/csv\r\n";
                let answer = Talk::to(&self.address).ask("GET", target, accept, "")?;
                Ok(selected(&answer.body))
            }
        }
    }
}

/// A relay.
pub(super) struct Relay {
    /// Its process.
    pub(super) actor: Actor,
    /// Where it takes writes.
    pub(super) http: String,
    /// Where it shows itself.
    pub(super) admin: String,
}

impl Relay {
    /// A relay there, with these variables.
    pub(super) fn at(
        own: &Path,
        http: &str,
        admin: &str,
        env: Vec<(&'static str, String)>,
    ) -> Self {
        let own = own.to_owned();
        let addresses = [
            ("RELAY_HTTP_BIND_ADDR", http),
            ("RELAY_ADMIN_BIND_ADDR", admin),
        ];
        let addresses = addresses.map(|(name, address)| (name, address.to_owned()));
        let actor = Actor::new(move || {
            let mut command = quiet(&own);
            let inherited = std::env::vars_os().map(|(name, _)| name);
            for name in inherited.filter(|name| name.to_string_lossy().starts_with("RELAY_")) {
                command.env_remove(name); // the operator's own relay is another one
            }
            command
                .envs(addresses.iter().cloned())
                .envs(env.iter().cloned());
            command
        });
        Self {
            actor,
            http: http.to_owned(),
            admin: admin.to_owned(),
        }
    }

    /// Waits until it takes writes.
    pub(super) fn wait(&self) -> io::Result<()> {
        wait_for(&self.http, "/ready", |status| status > 0)
    }
}

fn quiet(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// An address where nobody listens now.
pub(super) fn free_address() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

fn wait_for(address: &str, target: &str, is_well: fn(u16) -> bool) -> io::Result<()> {
    let tries = TOOL_WAIT_MAX.as_millis() / LOOK.as_millis();
    for _ in 0..tries {
        let answer = Talk::to(address).ask("GET", target, "", "");
        if answer.is_ok_and(|answer| is_well(answer.status)) {
            return Ok(());
        }
        rest(LOOK);
    }
    Err(io::Error::other(format!("nobody answers at {address}")))
}

/// Rests the demo.
#[allow(clippy::disallowed_methods)] // it has nothing else to do
pub(super) fn rest(span: Duration) {
    thread::sleep(span);
}

/// Whether a real InfluxDB can be started.
pub(super) fn has_influxd() -> bool {
    let version = quiet("influxd".as_ref()).arg("version").status();
    version.is_ok_and(|status| status.success())
}

const LOOK: Duration = Duration::from_millis(50);
