//! Connections that cannot be made for want of something of this machine's: ports, descriptors, memory.
//!
//! That says nothing of the backend: it is not marked down, the links that there are go on, and what finds none
//! of them idle waits for one instead of failing.

use std::io;
use std::rc::Rc;

use rustix::io::Errno;

use crate::backend::outcome::Failure;
use crate::backend::pool::Backend;
use crate::events::Event;
use crate::limits;

/// What a connection may lack of this machine's, by the kernel's error, and what to do.
const LACKS: [(Errno, &str); 6] = [
    (
        Errno::ADDRNOTAVAIL,
        "no local port is left to connect from: widen net.ipv4.ip_local_port_range, or lower max-connections of the \
         outputs",
    ),
    (
        Errno::MFILE,
        "no descriptor is left: raise LimitNOFILE, or lower max-connections",
    ),
    (
        Errno::NFILE,
        "no descriptor of the system is left: raise fs.file-max",
    ),
    (Errno::NOBUFS, NO_MEMORY),
    (Errno::NOMEM, NO_MEMORY),
    (
        Errno::NOSPC,
        "no epoll watch is left: raise fs.epoll.max_user_watches",
    ),
];
const NO_MEMORY: &str = "the kernel has no memory left for a socket";

/// Returns what this machine lacks, in words, if that is why a connection could not be made.
pub(super) fn lacks(why: &io::Error) -> Option<&'static str> {
    let code = why.raw_os_error()?;
    let mut lacks = LACKS.iter();
    let found = lacks.find(|(errno, _)| errno.raw_os_error() == code);
    found.map(|(_, words)| *words)
}

impl Backend {
    /// A connection could not be made. Its health hears of it, unless that is our own trouble.
    pub(super) fn connect_failed(self: &Rc<Self>, why: &io::Error) -> Failure {
        if let Some(lack) = lacks(why) {
            self.own_trouble_begins(why, lack);
            return Failure::Local;
        }
        let failure = match why.kind() == io::ErrorKind::TimedOut {
            true => Failure::TimedOut,
            false => Failure::Connect,
        };
        self.failed(failure, &format!("cannot connect: {why}"));
        failure
    }

    /// This machine lacks something for a connection: no link is opened for a moment, where there is one.
    pub(super) fn own_trouble_begins(&self, why: &io::Error, lack: &'static str) {
        let rest = self.around.driver.now().after(limits::OWN_TROUBLE_REST);
        self.open_after.set(rest);
        let words = format!("cannot connect: {why}: {lack}");
        self.note(&words);
        if !self.has_own_trouble.replace(true) && !self.is_retired() {
            self.around.events.tell(Event::OwnTrouble {
                shard: self.around.shard,
                backend: self.id,
                why: words,
            });
        }
    }

    /// A connection was made.
    pub(super) fn own_trouble_ends(&self) {
        if !self.has_own_trouble.replace(false) {
            return;
        }
        let known = self.shared.last_error.load();
        let is_ours = |words: &str| LACKS.iter().any(|(_, lack)| words.contains(lack));
        if known.as_ref().is_some_and(|error| is_ours(&error.words)) {
            self.shared.is_well();
        }
        if !self.is_retired() {
            self.around.events.tell(Event::OwnTroubleOver {
                shard: self.around.shard,
                backend: self.id,
            });
        }
    }

    /// Returns whether a new link may be tried: in our own trouble only now and then, or if there is no other.
    pub(super) fn may_open(&self) -> bool {
        !self.has_own_trouble.get()
            || self.around.driver.now() >= self.open_after.get()
            || !self.has_link()
    }

    /// Returns whether there is a link that is connected.
    pub(super) fn has_link(&self) -> bool {
        let links = self.links.borrow();
        links.iter().any(|link| link.stream().is_some())
    }
}
