//! A restart without a lost request: the relay starts its successor, which is given the listening sockets.
//!
//! ```text
//!  SIGUSR2 ─▶ the same command again, with the sockets ─▶ "here I am" ─▶ this one drains, and ends
//!                                                             │
//!    without a spool the successor takes requests before it says so; with one it waits for the end of
//!    this one, since a spool has one owner, and connections wait in the kernel's queue meanwhile
//! ```
//!
//! A socket that two processes hold stays open when one of them ends, and so does its queue: no connection
//! that the kernel has accepted is reset. If the successor does not come up, nothing has changed.

use std::env;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use crossbeam::channel::{Receiver, bounded};
use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::boot::notify::WATCHDOG_PID;
use crate::boot::{StartError, helper};

/// The variable that tells a successor what it was given. Not one of those that set the relay up.
const WILL: &str = "INFLUXDB_RELAY_WILL";
/// The first number of a descriptor that is given.
const FIRST: RawFd = 3;
/// What the successor says once it is there.
const HERE: u8 = b'!';

/// One address and its sockets, as they are given.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Given {
    /// As in the plan.
    pub(super) bind: SocketAddr,
    /// What it is for.
    pub(super) what: What,
    /// The numbers of its sockets.
    fds: Vec<RawFd>,
}

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// Clients, over HTTP.
    Http,
    /// Operators.
    Admin,
    /// Datagrams.
    Udp,
}

#[derive(Debug, Serialize, Deserialize)]
struct Will {
    talk: RawFd,
    sockets: Vec<Given>,
}

/// What the predecessor has given.
#[derive(Default)]
pub(super) struct Inheritance {
    sockets: Vec<(SocketAddr, What, Vec<Socket>)>,
    talk: Option<UnixStream>,
}

impl Inheritance {
    /// What this process was given; nothing, if nobody started it so. Once per process, before it opens
    /// anything.
    ///
    /// # Errors
    /// It was given something that is not there.
    pub(super) fn take() -> Result<Self, String> {
        let Ok(text) = env::var(WILL) else {
            return Ok(Self::default());
        };
        let bad = |why: String| format!("{WILL}: {why}: remove the variable");
        let will: Will = serde_json::from_str(&text).map_err(|why| bad(why.to_string()))?;
        let mut sockets = Vec::new();
        for given in will.sockets {
            let own = given.fds.iter().map(|&fd| own(fd).map(Socket::from));
            let own: Result<Vec<Socket>, io::Error> = own.collect();
            let own = own.map_err(|why| bad(why.to_string()))?;
            sockets.push((given.bind, given.what, own));
        }
        let talk = own(will.talk).map_err(|why| bad(why.to_string()))?;
        Ok(Self {
            sockets,
            talk: Some(UnixStream::from(talk)),
        })
    }

    /// The sockets of an address; none, if it was not given.
    pub(super) fn sockets(&mut self, bind: SocketAddr, what: What) -> Vec<Socket> {
        let place = self
            .sockets
            .iter()
            .position(|given| given.0 == bind && given.1 == what);
        place.map_or_else(Vec::new, |place| self.sockets.remove(place).2)
    }

    /// Whether there is a predecessor that has not been told to end.
    pub(super) fn has_predecessor(&self) -> bool {
        self.talk.is_some()
    }

    /// Tells the predecessor that it may end. What was not taken is closed.
    pub(super) fn here(&mut self) {
        self.sockets.clear();
        if let Some(talk) = &mut self.talk {
            let _it_is_gone = talk.write_all(&[HERE]);
        }
    }

    /// Waits for the end of the predecessor, `wait` at most.
    pub(super) fn alone(&mut self, wait: Duration) {
        if let Some(mut talk) = self.talk.take() {
            let _waits_for_ever = talk.set_read_timeout(Some(wait));
            let _gone_or_late = talk.read_exact(&mut [0]); // a signal does not end the wait
        }
    }
}

/// Takes a descriptor that was given; whoever this process starts does not get it.
fn own(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < FIRST {
        return Err(io::Error::other("it names a standard stream"));
    }
    // SAFETY: the predecessor opened it for this process, under this number, and nothing else here knows
    // it: this runs once, before anything is opened. A number that is not open fails in the next call.
    #[allow(unsafe_code)]
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// What becomes of a successor.
pub(super) enum News {
    /// It is there: this process may end.
    Here,
    /// It has ended before it was.
    Gone,
}

/// A successor on its way.
pub(super) struct Successor {
    /// Its process.
    pub(super) pid: u32,
    /// What becomes of it: one piece of news.
    pub(super) news: Receiver<News>,
    /// Closed by the end of this process, which tells the successor.
    _talk: UnixStream,
}

/// Starts this command again and gives it `sockets`.
///
/// # Errors
/// The program cannot be started, or descriptors have run out.
pub(super) fn start(sockets: &[(SocketAddr, What, &[Socket])]) -> io::Result<Successor> {
    let (talk, its_talk) = UnixStream::pair()?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    let mut will = Will {
        talk: FIRST,
        sockets: Vec::new(),
    };
    fds.push(its_talk.into());
    for (bind, what, sockets) in sockets {
        let mut numbers = Vec::new();
        for socket in *sockets {
            numbers.push(FIRST + i32::try_from(fds.len()).unwrap_or(i32::MAX));
            fds.push(socket.try_clone()?.into());
        }
        will.sockets.push(Given {
            bind: *bind,
            what: *what,
            fds: numbers,
        });
    }
    let mappings = (FIRST..).zip(fds).map(|(child_fd, parent_fd)| FdMapping {
        parent_fd,
        child_fd,
    });
    let mut command = Command::new(program()?);
    command
        .args(env::args_os().skip(1))
        .env(WILL, serde_json::to_string(&will)?)
        .env_remove(WATCHDOG_PID);
    command
        .fd_mappings(mappings.collect())
        .map_err(io::Error::other)?;
    let child = command.spawn()?;
    let pid = child.id();
    let news = listen(talk.try_clone()?, child).map_err(io::Error::other)?;
    Ok(Successor {
        pid,
        news,
        _talk: talk,
    })
}

/// The program as it is now: of one that was replaced the kernel says that it is deleted.
fn program() -> io::Result<PathBuf> {
    let path = env::current_exe()?;
    let text = path.to_string_lossy();
    Ok(match text.strip_suffix(" (deleted)") {
        Some(replaced) => PathBuf::from(replaced),
        None => path,
    })
}

fn listen(mut talk: UnixStream, mut child: Child) -> Result<Receiver<News>, StartError> {
    let (tell, news) = bounded(1);
    helper("successor", move || {
        let mut said = [0];
        let is_here = talk.read_exact(&mut said).is_ok() && said[0] == HERE;
        let _nobody_asks = tell.send(if is_here { News::Here } else { News::Gone });
        if !is_here {
            let _reaped = child.wait();
        }
    })?;
    Ok(news)
}
