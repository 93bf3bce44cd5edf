//! A listening socket of one shard, on an address that all shards share through `SO_REUSEPORT`.
//!
//! `SO_REUSEPORT` would let a second relay share the port unseen, so [`claim`] first binds without
//! it: that fails if anybody listens there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use socket2::{Domain, Protocol, Socket, Type};

use crate::engine::driver::Driver;
use crate::engine::joint::Joint;

/// Opens one listening socket for each of `count` shards. Once per start.
///
/// With port 0 the kernel chooses one, the same for all. `[::]` takes IPv4 too, and where the kernel has no
/// IPv6 it is `0.0.0.0`.
///
/// # Errors
/// `AddrInUse` when anybody else listens there; otherwise what the kernel says.
pub fn claim(address: SocketAddr, count: usize, backlog: u32) -> io::Result<Vec<Socket>> {
    let (probe, address) = any_family(address, bound)?;
    let bound = probe.local_addr()?;
    let address = bound.as_socket().unwrap_or(address);
    drop(probe);
    join(address, count, backlog)
}

/// Opens `count` more listening sockets at an address that this process, or its predecessor, listens on.
///
/// # Errors
/// What the kernel says.
pub fn join(address: SocketAddr, count: usize, backlog: u32) -> io::Result<Vec<Socket>> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    (0..count)
        .map(|_| {
            let socket = open(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(backlog)?;
            Ok(socket)
        })
        .collect()
}

/// Opens a socket with `open` at an address; at that of IPv4 where all addresses are meant, and the kernel has
/// no IPv6.
///
/// # Errors
/// What the kernel says of the address as it is written.
pub(super) fn any_family(
    address: SocketAddr,
    open: impl Fn(SocketAddr) -> io::Result<Socket>,
) -> io::Result<(Socket, SocketAddr)> {
    match open(address) {
        Err(why) if address.is_ipv6() && address.ip().is_unspecified() && is_no_ipv6(&why) => {
            let all = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            open(all).map(|socket| (socket, all))
        }
        opened => opened.map(|socket| (socket, address)),
    }
}

/// Returns whether the kernel has no IPv6, by what it said.
fn is_no_ipv6(why: &io::Error) -> bool {
    let none = [
        Errno::AFNOSUPPORT,
        Errno::PROTONOSUPPORT,
        Errno::ADDRNOTAVAIL,
        Errno::NOPROTOOPT,
    ];
    none.iter()
        .any(|none| why.raw_os_error() == Some(none.raw_os_error()))
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = open(address)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // connections in TIME_WAIT do not hold the port
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    Ok(socket)
}

/// A shard's end of a shared address.
pub struct Listener(Joint);

impl Listener {
    /// Puts a socket from [`claim`] into the shard's epoll set.
    ///
    /// # Errors
    /// When the epoll set does not take it.
    pub fn new(driver: &Rc<Driver>, socket: Socket) -> io::Result<Self> {
        Joint::new(driver, socket).map(Self)
    }

    /// The next connection from the kernel's queue, non-blocking; `None` when the queue is empty.
    ///
    /// # Errors
    /// What the kernel says: mostly that descriptors have run out, when asking again at once would
    /// be an endless loop.
    pub fn try_accept(&self) -> io::Result<Option<OwnedFd>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        loop {
            match accept_with(&self.0.socket, flags) {
                Ok(fd) => return Ok(Some(fd)),
                Err(Errno::AGAIN) => {
                    self.0.is_empty_now();
                    return Ok(None);
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns when a connection may be waiting, or when [`Listener::poke`] is called.
    pub async fn readable(&self) {
        self.0.readable().await;
    }

    /// Wakes the task that waits in [`Listener::readable`].
    pub fn poke(&self) {
        self.0.poke();
    }
}
