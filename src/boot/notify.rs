//! What the service manager is told (`Type=notify` of systemd): ready, reloading, stopping, alive.
//!
//! ```text
//!  start ─▶ READY=1          SIGHUP ─▶ RELOADING=1 ─▶ READY=1          SIGTERM ─▶ STOPPING=1
//!  SIGUSR2 ─▶ the successor: MAINPID=itself ─▶ its predecessor drains and says nothing ─▶ READY=1
//! ```
//!
//! Datagrams of lines to the socket that `NOTIFY_SOCKET` names: sd_notify(3). Without that variable nobody
//! is told anything. It is a protocol of one call; the crate for it does not know abstract sockets (`@`),
//! which container managers use.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::limits;

/// Whose watchdog it is; a successor does not get it, as it speaks for another process.
pub(super) const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// The way to the service manager, if there is one. Any thread may have it.
#[derive(Debug, Clone, Default)]
pub(super) struct Notifier(Option<Arc<Manager>>);

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// So long it waits between two signs of life, if it wants any.
    patience: Option<Duration>,
}

impl Notifier {
    /// The service manager that started this process. Once per process.
    pub(super) fn from_env() -> Self {
        let Some(path) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return Self::default();
        };
        let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
        let is_ours = number(WATCHDOG_PID).is_none_or(|pid| pid == u64::from(process::id()));
        let patience = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && is_ours);
        match reach(&path) {
            Ok((socket, address)) => Self(Some(Arc::new(Manager {
                socket,
                address,
                patience: patience.map(Duration::from_micros),
            }))),
            Err(why) => {
                tracing::warn!(%why, ?path, "NOTIFY_SOCKET: the service manager cannot be told anything");
                Self::default()
            }
        }
    }

    /// How long the service manager waits between two signs of life; `None` if it does not ask for them.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.0.as_ref()?.patience
    }

    /// Requests are taken.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Requests are taken by this process, which has taken the place of another.
    pub(super) fn ready_instead(&self, status: &str) {
        let pid = process::id();
        self.tell(&format!("MAINPID={pid}\nREADY=1\nSTATUS={status}"));
    }

    /// This process will take the place of another, once that has ended.
    pub(super) fn successor(&self) {
        let pid = process::id();
        self.tell(&format!(
            "MAINPID={pid}\nSTATUS=taking over: the process before this one drains"
        ));
    }

    /// A reload begins; [`Notifier::ready`] ends it.
    pub(super) fn reloading(&self) {
        let micros = Clock::default().now().0 / 1000;
        self.tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"
        ));
    }

    /// The service ends, `most` later at the latest. Not of a process that has a successor: its service goes on.
    pub(super) fn stopping(&self, most: Duration) {
        self.tell(&format!("STOPPING=1\nSTATUS=draining, {most:?} at most"));
    }

    /// A sign of life.
    pub(super) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, lines: &str) {
        let Some(manager) = &self.0 else { return };
        let sent = manager
            .socket
            .send_to_addr(lines.as_bytes(), &manager.address);
        if let Err(why) = sent {
            tracing::warn!(%why, lines, "the service manager could not be told");
        }
    }
}

/// A path, or after an `@` a name that is in no folder.
fn reach(path: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(path)?,
        _ => return Err(io::Error::other("it begins with neither / nor @")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(limits::NOTIFY_WAIT_MAX))?;
    Ok((socket, address))
}
