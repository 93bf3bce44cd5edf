//! The event loop that `sink` and `bench` share: one epoll, one timer, and the signals that stop.
//!
//! The tools must never be what a measurement is bound by, and must not share the engine that they
//! measure. So: no executor, no wakers; tokens out, and a timer exact to the microsecond, which the
//! milliseconds of `epoll_wait` are not.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::limits::EVENTS_MAX;

/// A moment: nanoseconds of the monotonic clock.
pub(super) type Nanos = u64;

/// Nanoseconds of a second.
pub(super) const SECOND: Nanos = 1_000_000_000;

/// The monotonic clock, now. The tools stand outside any shard, and so read their own.
pub(super) fn now() -> Nanos {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds since 1970: what line protocol calls a time.
pub(super) fn wall() -> Nanos {
    nanos(clock_gettime(ClockId::Realtime))
}

fn nanos(time: Timespec) -> Nanos {
    time.tv_sec.unsigned_abs() * SECOND + time.tv_nsec.unsigned_abs()
}

/// A length of time, for sums with moments. Lengths past centuries are cut.
pub(super) fn span(length: Duration) -> Nanos {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// What happened to one registered descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    /// What it was registered as.
    pub(super) token: usize,
    /// The other side will send no more, or the socket has failed: read to the end.
    pub(super) hangup: bool,
}

/// When a descriptor is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// Once for each change in either direction; the owner reads until a short read.
    Edge,
    /// As long as there is something to read.
    Level,
}

/// One epoll with one timer in it.
pub(super) struct Poll {
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Nanos,
    events: Vec<Event>,
}

impl Poll {
    /// Nothing registered yet.
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let events = Vec::with_capacity(EVENTS_MAX);
        let poll = Self {
            epoll,
            timer,
            armed: 0,
            events,
        };
        epoll::add(
            &poll.epoll,
            &poll.timer,
            TIMER,
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(poll)
    }

    /// Tells of `source` as `token` from now on, until it is closed.
    pub(super) fn add(&self, source: impl AsFd, token: usize, trigger: Trigger) -> io::Result<()> {
        let flags = match trigger {
            Trigger::Edge => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            Trigger::Level => EventFlags::IN,
        };
        Ok(epoll::add(
            &self.epoll,
            source,
            EventData::new_u64(token as u64),
            flags,
        )?)
    }

    /// Tells no more of `source`.
    pub(super) fn remove(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Waits until something is ready, or `until`; `None` is no deadline. `ready` is replaced.
    pub(super) fn wait(&mut self, ready: &mut Vec<Ready>, until: Option<Nanos>) -> io::Result<()> {
        ready.clear();
        let now = now();
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let timeout = match until {
            Some(until) if until <= now => Some(&at_once),
            Some(until) => {
                self.arm(until)?;
                None
            }
            None => None,
        };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &self.events {
            let (data, flags) = (event.data, event.flags);
            let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
            match usize::try_from(data.u64()) {
                Ok(TIMER_TOKEN) | Err(_) => self.armed = 0,
                Ok(token) => ready.push(Ready {
                    token,
                    hangup: flags.intersects(ends),
                }),
            }
        }
        Ok(())
    }

    fn arm(&mut self, until: Nanos) -> io::Result<()> {
        if self.armed == until {
            return Ok(());
        }
        let it_value = Timespec {
            tv_sec: (until / SECOND).cast_signed(),
            tv_nsec: (until % SECOND).cast_signed(),
        };
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        self.armed = until;
        Ok(())
    }
}

/// A socket that becomes readable at SIGTERM or SIGINT.
pub(super) fn stop_signal() -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    pipe::register(SIGTERM, writer.try_clone()?)?;
    pipe::register(SIGINT, writer)?;
    Ok(reader)
}

const TIMER_TOKEN: usize = usize::MAX;
const TIMER: EventData = EventData::new_u64(u64::MAX);
