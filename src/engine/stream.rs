//! A TCP stream in a shard's epoll set: reads into the shard's one buffer, sends what fits, has a
//! deadline.
//!
//! A read that fills less than its buffer has drained the socket, so no second read is made to be
//! told so; unless the peer has hung up, when the end is still to be read. With TLS on it (`secure`) it
//! reads and sends the same for its callers.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_lite::future::poll_fn;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock::Moment;
use crate::engine::driver::{Driver, HANGUP, LATE, READ, REST, Slot, WRITE};
use crate::engine::tls::Session;

/// One connected socket, closed on drop.
pub struct Stream {
    pub(super) driver: Rc<Driver>,
    pub(super) slot: Rc<Slot>,
    index: usize,
    pub(super) socket: Socket,
    /// The address that it was connected to; `None` where it was accepted.
    connected_to: Option<SocketAddr>,
    pub(super) tls: Option<Box<Session>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.driver.release(self.index);
    }
}

impl Stream {
    /// Takes over an accepted, non-blocking socket.
    ///
    /// # Errors
    /// When the epoll set does not take it.
    pub fn accepted(driver: &Rc<Driver>, fd: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(fd);
        socket.set_tcp_nodelay(true)?;
        Self::over(driver, socket, READ | WRITE)
    }

    /// Connects to `address`, until `deadline` at most.
    ///
    /// # Errors
    /// What the kernel says: refused, unreachable, out of descriptors; `TimedOut` at the deadline.
    pub async fn connect(
        driver: &Rc<Driver>,
        address: SocketAddr,
        deadline: Moment,
    ) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        let mut stream = Self::over(driver, socket, 0)?;
        stream.connected_to = Some(address);
        stream.set_deadline(deadline);
        match stream.socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        poll_fn(|cx| stream.poll_writable(cx)).await?;
        match stream.socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    fn over(driver: &Rc<Driver>, socket: Socket, bits: u8) -> io::Result<Self> {
        let (index, slot) = driver.register(&socket, bits)?;
        Ok(Self {
            driver: Rc::clone(driver),
            slot,
            index,
            socket,
            connected_to: None,
            tls: None,
        })
    }

    /// The address that it was connected to; `None` where it was accepted.
    pub fn connected_to(&self) -> Option<SocketAddr> {
        self.connected_to
    }

    /// From now on, reads and writes that would wait past `deadline` fail with `TimedOut`, up to one
    /// `TICK` late. [`Moment::NEVER`] takes it back.
    pub fn set_deadline(&self, deadline: Moment) {
        self.slot.clear(LATE | REST);
        self.driver.set_deadline(self.index, deadline);
    }

    /// [`Stream::set_deadline`] for a connection at rest: nothing is lost if a drain closes it sooner.
    pub fn rest_until(&self, deadline: Moment) {
        self.set_deadline(deadline);
        self.slot.set(REST);
    }

    /// Reads once, into the shard's own buffer, and shows `take` what came: nothing means the end.
    /// `take` must not read from a stream itself.
    ///
    /// # Errors
    /// What the kernel says; `TimedOut` past the deadline.
    pub fn poll_read_with<R>(
        &self,
        cx: &Context<'_>,
        take: impl FnOnce(&[u8]) -> R,
    ) -> Poll<io::Result<R>> {
        if let Some(session) = &self.tls {
            return self.poll_open(session, cx, usize::MAX, take);
        }
        let scratch = &mut *self.driver.scratch.borrow_mut();
        let room = scratch.len();
        match self.poll_recv(cx, room, || {
            recv(&self.socket, &mut scratch[..], RecvFlags::empty()).map(|read| read.0)
        }) {
            Poll::Ready(Ok(count)) => Poll::Ready(Ok(take(&scratch[..count]))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Reads once, behind what `into` holds, as much as its spare capacity takes; 0 means the end.
    ///
    /// # Errors
    /// As [`Stream::poll_read_with`].
    pub fn poll_read_into(&self, cx: &Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let room = into.capacity() - into.len();
        assert!(room > 0, "a read into no room would look like the end");
        if let Some(session) = &self.tls {
            return self.poll_open(session, cx, room, |bytes| {
                let (fits, rest) = bytes.split_at(bytes.len().min(room));
                into.extend_from_slice(fits);
                session.hold(rest);
                fits.len()
            });
        }
        self.poll_recv(cx, room, || {
            recv(&self.socket, spare_capacity(into), RecvFlags::empty()).map(|read| read.0)
        })
    }

    pub(super) fn poll_recv(
        &self,
        cx: &Context<'_>,
        room: usize,
        mut receive: impl FnMut() -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        while self.slot.has(READ) {
            match receive() {
                Ok(count) => {
                    if count > 0 && count < room && !self.slot.has(HANGUP) {
                        self.slot.clear(READ);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::AGAIN) => self.slot.clear(READ),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        if self.slot.has(LATE) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        park(&self.slot.reader, cx);
        Poll::Pending
    }

    /// Sends what the kernel takes now; 0 means nothing, and that [`Stream::poll_writable`] will
    /// tell when.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(session) = &self.tls {
            return self.try_seal(session, &[IoSlice::new(bytes)]);
        }
        self.try_sending(bytes.len(), || {
            send(&self.socket, bytes, SendFlags::NOSIGNAL)
        })
    }

    /// [`Stream::try_send`] of two pieces that follow one another, without copying them together.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn try_send_two(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let pieces = [IoSlice::new(first), IoSlice::new(second)];
        if let Some(session) = &self.tls {
            return self.try_seal(session, &pieces);
        }
        self.try_sending(first.len() + second.len(), || {
            sendmsg(
                &self.socket,
                &pieces,
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            )
        })
    }

    fn try_sending(
        &self,
        all: usize,
        send: impl Fn() -> Result<usize, Errno>,
    ) -> io::Result<usize> {
        while self.slot.has(WRITE) {
            match send() {
                Ok(count) => {
                    if count < all {
                        self.slot.clear(WRITE);
                    }
                    return Ok(count);
                }
                Err(Errno::AGAIN) => self.slot.clear(WRITE),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }

    /// Ready when bytes may be sent.
    ///
    /// # Errors
    /// `TimedOut` past the deadline.
    pub fn poll_writable(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if self.slot.has(WRITE) {
            return Poll::Ready(Ok(()));
        }
        if self.slot.has(LATE) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        park(&self.slot.writer, cx);
        Poll::Pending
    }

    /// Whether bytes that were taken for sending still wait for the kernel: only with TLS.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn has_unsent(&self) -> io::Result<bool> {
        match &self.tls {
            Some(session) => self.send_on(session).map(|is_sent| !is_sent),
            None => Ok(false),
        }
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// What the kernel says; `TimedOut` past the deadline.
    pub async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let sent = self.try_send(bytes)?;
            bytes = &bytes[sent..];
            if bytes.is_empty() && !self.has_unsent()? {
                return Ok(());
            }
            poll_fn(|cx| self.poll_writable(cx)).await?;
        }
    }

    /// Where the peer is; `None` if it is gone.
    pub fn peer(&self) -> Option<IpAddr> {
        let peer = self.socket.peer_addr().ok()?;
        peer.as_socket().map(|peer| peer.ip())
    }

    /// What TLS has found wrong with the peer, in words, if anything.
    pub fn complaint(&self) -> Option<String> {
        self.tls.as_ref().and_then(|session| session.complaint())
    }

    /// Wakes the task that waits to read, so that it looks around: something changed beside the
    /// socket.
    pub fn poke(&self) {
        self.slot.wake_reader();
    }

    /// Tells the peer that no more will be sent; what it sends can still be read.
    pub fn finish(&self) {
        if let Some(session) = &self.tls {
            session.finish();
            let _already_gone = self.send_on(session);
            return;
        }
        let _already_gone = self.socket.shutdown(Shutdown::Write);
    }
}

/// Puts the task's waker where the driver looks, without a clone if it is there already.
pub(super) fn park(place: &std::cell::RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut place = place.borrow_mut();
    match &*place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}
