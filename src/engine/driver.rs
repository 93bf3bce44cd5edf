//! One shard's epoll set: takes readiness from the kernel, wakes the tasks it belongs to.
//!
//! A turn is: poll the set without blocking, read the clock, wake; then yield, so that what was
//! woken runs. Only when polls stay empty does the shard sleep in glommio's ring, on the epoll
//! descriptor itself. Two traps of glommio 0.9 shape this file:
//!
//! - A task that keeps itself ready starves glommio's timers until the preempt timer (100 ms): so a
//!   stretch of turns ends after `POLL_STRETCH_MAX` and goes through the ring once.
//! - An executor can park with tasks to run, if its preempt timer fires at a bad moment: so the
//!   housekeeping tick ([`Driver::tick`]) is a glommio timer that never stops.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::Waker;

use futures_lite::AsyncReadExt;
use futures_lite::future::yield_now;
use rustix::event::Timespec;
use rustix::event::epoll;

use crate::clock::{Clock, Moment};
use crate::limits;

/// Bytes may be read, or the end of them.
pub(crate) const READ: u8 = 1;
/// Bytes may be written.
pub(crate) const WRITE: u8 = 2;
/// The peer is gone or half gone: a short read no longer means that there is nothing more.
pub(crate) const HANGUP: u8 = 4;
/// The deadline has passed.
pub(crate) const LATE: u8 = 8;
/// The deadline is that of a connection at rest: a drain may bring it forward.
pub(crate) const REST: u8 = 16;

const POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// What the driver and one socket share.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) bits: Cell<u8>,
    pub(crate) reader: RefCell<Option<Waker>>,
    pub(crate) writer: RefCell<Option<Waker>>,
}

impl Slot {
    pub(crate) fn has(&self, bit: u8) -> bool {
        self.bits.get() & bit != 0
    }

    pub(crate) fn set(&self, bits: u8) {
        self.bits.set(self.bits.get() | bits);
    }

    pub(crate) fn clear(&self, bit: u8) {
        self.bits.set(self.bits.get() & !bit);
    }

    pub(crate) fn wake_reader(&self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

#[derive(Default)]
struct Slots {
    all: Vec<Option<Rc<Slot>>>,
    deadlines: Vec<u64>,
    free: Vec<usize>,
}

/// The epoll set, the slots and the clock of one shard.
pub struct Driver {
    epoll: OwnedFd,
    slots: RefCell<Slots>,
    clock: Clock,
    spins: u32,
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// What one read said, decrypted: as long as `scratch` and one record. Empty where there is no TLS.
    pub(crate) plain: RefCell<Vec<u8>>,
}

impl Driver {
    /// A driver that polls `spins` times in vain before it sleeps, and reads into one buffer of
    /// `read_buffer_bytes`.
    ///
    /// # Errors
    /// When the kernel gives no epoll descriptor.
    pub fn new(spins: u32, read_buffer_bytes: usize) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            slots: RefCell::default(),
            clock: Clock::default(),
            spins,
            scratch: RefCell::new(vec![0; read_buffer_bytes].into_boxed_slice()),
            plain: RefCell::default(),
        }))
    }

    /// The shard's clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// When the current turn began.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Takes turns for ever. One task per shard.
    pub async fn run(self: Rc<Self>) {
        let mut events = Vec::with_capacity(limits::EVENTS_MAX);
        loop {
            let stretch = self.now().after(limits::POLL_STRETCH_MAX);
            let mut empty = 0;
            while empty <= self.spins && self.now() < stretch {
                empty = if self.turn(&mut events) { 0 } else { empty + 1 };
                yield_now().await;
            }
            self.sleep().await;
            self.clock.read();
        }
    }

    /// Wakes whoever waits past a deadline, and corrects the clock. Once per `TICK`.
    pub fn tick(&self) {
        self.clock.read();
        self.clock.correct();
        let now = self.now().0;
        let slots = &mut *self.slots.borrow_mut();
        for (deadline, slot) in slots.deadlines.iter_mut().zip(&slots.all) {
            if *deadline <= now {
                *deadline = u64::MAX;
                if let Some(slot) = slot {
                    slot.set(LATE);
                    slot.wake_reader();
                    slot.wake_writer();
                }
            }
        }
    }

    /// Brings the deadlines of all connections at rest forward to `deadline`. Once per drain.
    pub fn cut_rest(&self, deadline: Moment) {
        let slots = &mut *self.slots.borrow_mut();
        for (due, slot) in slots.deadlines.iter_mut().zip(&slots.all) {
            if slot.as_ref().is_some_and(|slot| slot.has(REST)) {
                *due = deadline.0.min(*due);
            }
        }
    }

    /// One poll of the set; whether it brought anything.
    fn turn(&self, events: &mut Vec<epoll::Event>) -> bool {
        events.clear();
        let polled = epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(events),
            Some(&POLL),
        );
        self.clock.read();
        if polled.is_err() {
            return false; // EINTR: the next turn polls again
        }
        let slots = self.slots.borrow();
        for event in events.iter() {
            let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(Some(slot)) = slots.all.get(index) else {
                continue;
            };
            deliver(slot, event.flags);
        }
        !events.is_empty()
    }

    /// Sleeps in glommio's ring until the epoll set has something, a timer fires or a task is woken.
    async fn sleep(&self) {
        // SAFETY: the descriptor is open as long as `self`, and `ManuallyDrop` keeps the stream
        // from closing it. glommio's public way to poll any descriptor is to read from a stream
        // over it: its construction queues the poll, and once that fires, the read of one byte
        // fails with ENOTSOCK without having touched anything.
        #[allow(unsafe_code)]
        let stream = unsafe { glommio::net::TcpStream::from_raw_fd(self.epoll.as_raw_fd()) };
        let mut stream = ManuallyDrop::new(stream);
        let _enotsock = stream.read(&mut [0]).await;
    }

    pub(crate) fn register(&self, fd: &impl AsFd, bits: u8) -> io::Result<(usize, Rc<Slot>)> {
        let slot = Rc::new(Slot::default());
        slot.set(bits);
        let index = {
            let slots = &mut *self.slots.borrow_mut();
            let index = slots.free.pop().unwrap_or_else(|| {
                slots.all.push(None);
                slots.deadlines.push(u64::MAX);
                slots.all.len() - 1
            });
            slots.all[index] = Some(Rc::clone(&slot));
            slots.deadlines[index] = u64::MAX;
            index
        };
        let interest = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(index as u64);
        if let Err(error) = epoll::add(&self.epoll, fd, data, interest) {
            self.release(index);
            return Err(error.into());
        }
        Ok((index, slot))
    }

    /// Forgets a slot. Its descriptor must be closed before another is registered: closing takes it
    /// out of the set.
    pub(crate) fn release(&self, index: usize) {
        let slots = &mut *self.slots.borrow_mut();
        slots.all[index] = None;
        slots.deadlines[index] = u64::MAX;
        slots.free.push(index);
    }

    /// Takes a descriptor out of the set that others hold too, so that closing it here does not.
    pub(crate) fn forget(&self, fd: &impl AsFd) {
        let _gone_already = epoll::delete(&self.epoll, fd);
    }

    pub(crate) fn set_deadline(&self, index: usize, deadline: Moment) {
        self.slots.borrow_mut().deadlines[index] = deadline.0;
    }
}

fn deliver(slot: &Slot, flags: epoll::EventFlags) {
    let gone = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
    if flags.intersects(gone) {
        slot.set(HANGUP);
    }
    if flags.intersects(gone | epoll::EventFlags::IN) {
        slot.set(READ);
        slot.wake_reader();
    }
    if flags.intersects(gone | epoll::EventFlags::OUT) {
        slot.set(WRITE);
        slot.wake_writer();
    }
}
