//! A socket that others may hold too, in one shard's epoll set: a successor has it, or the main thread, or a
//! shard that helps.

use std::io;
use std::rc::Rc;
use std::task::Poll;

use futures_lite::future::poll_fn;
use socket2::Socket;

use crate::engine::driver::{Driver, READ, Slot};

/// One shard's hold on a socket from which something is taken.
pub(super) struct Joint {
    driver: Rc<Driver>,
    slot: Rc<Slot>,
    index: usize,
    /// The socket.
    pub(super) socket: Socket,
}

impl Drop for Joint {
    fn drop(&mut self) {
        self.driver.forget(&self.socket); // it stays open where others hold it
        self.driver.release(self.index);
    }
}

impl Joint {
    /// Puts a socket into the shard's epoll set.
    pub(super) fn new(driver: &Rc<Driver>, socket: Socket) -> io::Result<Self> {
        let (index, slot) = driver.register(&socket, READ)?;
        Ok(Self {
            driver: Rc::clone(driver),
            slot,
            index,
            socket,
        })
    }

    /// Nothing is queued now: what comes from now on is a new event.
    pub(super) fn is_empty_now(&self) {
        self.slot.clear(READ);
    }

    /// Returns when something may be queued, or when [`Joint::poke`] is called.
    pub(super) async fn readable(&self) {
        let mut waited = false;
        poll_fn(|cx| {
            if waited || self.slot.has(READ) {
                return Poll::Ready(());
            }
            waited = true;
            *self.slot.reader.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Wakes the task that waits in [`Joint::readable`].
    pub(super) fn poke(&self) {
        self.slot.wake_reader();
    }
}
