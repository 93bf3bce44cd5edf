//! A bell that any thread may ring and one shard hears: an eventfd in its epoll set.
//!
//! For what is rare: a backend begins to owe, or is level again. A shard that sleeps wakes up.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::future::poll_fn;
use rustix::event::{EventfdFlags, eventfd};

use crate::engine::driver::{Driver, READ, Slot};

/// The end that is rung.
#[derive(Debug, Clone)]
pub struct Bell(Arc<OwnedFd>);

impl Bell {
    /// A bell that nobody hears yet.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Rings. Rings that were not heard yet are one.
    pub fn ring(&self) {
        let _rung_already = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// The end that hears.
pub struct Ear {
    driver: Rc<Driver>,
    slot: Rc<Slot>,
    index: usize,
    bell: Bell,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.driver.release(self.index);
    }
}

impl Ear {
    /// Hears `bell` on this shard.
    ///
    /// # Errors
    /// When the epoll set does not take it.
    pub fn new(driver: &Rc<Driver>, bell: Bell) -> io::Result<Self> {
        let (index, slot) = driver.register(&*bell.0, READ)?;
        Ok(Self {
            driver: Rc::clone(driver),
            slot,
            index,
            bell,
        })
    }

    /// Returns when the bell has been rung since the last call.
    pub async fn heard(&self) {
        poll_fn(|cx| {
            if self.slot.has(READ) {
                self.slot.clear(READ);
                let _nothing = rustix::io::read(&*self.bell.0, &mut [0; 8]);
                return Poll::Ready(());
            }
            *self.slot.reader.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
