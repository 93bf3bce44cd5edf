//! UDP sockets of one shard: they receive and send many datagrams by one system call.
//!
//! ```text
//!  claim ─▶ one socket per shard on one address, and who of them gets a datagram
//!  Inlet ── receive ─▶ Batch ─▶ datagrams          Outlet ◀── send ── datagrams in one buffer
//! ```
//!
//! The kernel hands a datagram to one of the sockets that share an address. It chooses by sender, so that
//! one busy sender keeps one shard busy while the others idle: then they may take from its socket as
//! [`Guest`]s. [`Steering::Spread`] lets the kernel draw lots instead. What is sent to a multicast group comes to
//! the first socket, whoever sends it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_lite::future::poll_fn;
use rustix::io::Errno;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use crate::clock::Moment;
use crate::engine::datagram_calls::{self as calls, Headers};
use crate::engine::driver::{Driver, LATE, Slot, WRITE};
use crate::engine::joint::Joint;
use crate::engine::listener::any_family;
use crate::limits;

/// Which socket of an address gets a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    /// Any.
    Spread,
    /// All of one sender's go to the same.
    Flow,
}

/// What is asked of the sockets of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Bytes of each one's queue in the kernel; 0 leaves it as it is.
    pub buffer_bytes: usize,
    /// Which of them gets a datagram.
    pub steering: Steering,
    /// Whether the kernel merges datagrams of one sender that come together and are equally long. What it
    /// drops then it counts as one.
    pub gro: bool,
    /// The number of the interface on which a multicast group is joined, or an address has its zone; 0 is the
    /// kernel's choice.
    pub interface: u32,
}

/// Opens a socket for each of `count` shards. With them comes the size that the kernel gave their queues.
/// Once per start.
///
/// # Errors
/// `AddrInUse` when anybody else receives there; otherwise what the kernel says.
pub fn claim(address: SocketAddr, count: usize, wish: Wish) -> io::Result<(Vec<Socket>, usize)> {
    let address = in_zone(address, wish.interface);
    let (probe, address) = any_family(address, |address| {
        let socket = open(address)?;
        socket.bind(&address.into())?;
        Ok(socket)
    })?;
    let bound = probe.local_addr()?;
    let address = bound.as_socket().unwrap_or(address);
    drop(probe);
    join(address, Vec::new(), count, wish)
}

/// Goes on with sockets of an address that a predecessor has opened, and opens more, or closes some, until
/// there are `count`.
///
/// # Errors
/// What the kernel says.
pub fn join(
    address: SocketAddr,
    mut sockets: Vec<Socket>,
    count: usize,
    wish: Wish,
) -> io::Result<(Vec<Socket>, usize)> {
    sockets.truncate(count);
    let mut given = usize::MAX;
    for socket in &sockets {
        if wish.gro {
            calls::merge_arrivals(socket);
        }
        given = given.min(calls::set_receive_buffer(socket, wish.buffer_bytes)?);
    }
    while sockets.len() < count {
        let socket = open(address)?;
        socket.set_reuse_port(true)?;
        if wish.gro {
            calls::merge_arrivals(&socket);
        }
        given = given.min(calls::set_receive_buffer(&socket, wish.buffer_bytes)?);
        socket.bind(&address.into())?;
        sockets.push(socket);
    }
    if let Some(first) = sockets.first() {
        join_group(first, address, wish.interface)?;
    }
    if let (Some(first), Steering::Spread, 2..) = (sockets.first(), wish.steering, count) {
        calls::spread(first, count)?;
    }
    Ok((sockets, given))
}

/// The address in the zone of an interface, where it is one of IPv6.
fn in_zone(mut address: SocketAddr, interface: u32) -> SocketAddr {
    if let SocketAddr::V6(address) = &mut address {
        address.set_scope_id(interface);
    }
    address
}

/// Joins the group that the address is, if it is one. Of the sockets that share it only one may, and the others
/// take only what they have joined themselves: each would be given each datagram.
fn join_group(first: &Socket, address: SocketAddr, interface: u32) -> io::Result<()> {
    let joined = match address.ip() {
        IpAddr::V4(ip) if ip.is_multicast() => {
            first.join_multicast_v4_n(&ip, &InterfaceIndexOrAddress::Index(interface))
        }
        IpAddr::V6(ip) if ip.is_multicast() => first.join_multicast_v6(&ip, interface),
        _ => Ok(()),
    };
    match joined {
        // It was joined by the predecessor that this socket is from.
        Err(why) if why.raw_os_error() == Some(Errno::ADDRINUSE.raw_os_error()) => Ok(()),
        joined => joined,
    }
}

/// Datagrams that the kernel has dropped since a socket was opened, since its queue was full.
pub fn drops(socket: &Socket) -> u32 {
    calls::drops(socket)
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_multicast() => socket.set_multicast_all_v4(false)?,
        IpAddr::V6(ip) if ip.is_multicast() => socket.set_multicast_all_v6(false)?,
        _ => {}
    }
    Ok(socket)
}

/// Datagrams that came by one call.
pub struct Batch {
    headers: Headers,
    bytes: Box<[u8]>,
}

impl Batch {
    /// Room for so many datagrams of any size.
    pub fn new(datagrams: usize) -> Self {
        Self {
            headers: Headers::new(datagrams),
            bytes: vec![0; datagrams * STRIDE].into_boxed_slice(),
        }
    }

    /// How many fit.
    pub fn room(&self) -> usize {
        self.headers.count()
    }

    /// Takes what the kernel has queued, as far as there is room; whether there may be more.
    fn receive(&mut self, socket: &Socket) -> io::Result<bool> {
        loop {
            match self.headers.receive(socket, &mut self.bytes, STRIDE) {
                Ok(count) => return Ok(count == self.room()),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The datagrams of the last receive, in the order they came. What the kernel had merged
    /// is taken apart.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let slots = self.bytes.chunks_exact(STRIDE).zip(self.headers.received());
        slots.flat_map(|(slot, got)| {
            let whole = &slot[..got.bytes.min(STRIDE)];
            let empty = whole.is_empty().then_some(whole); // a datagram too
            whole.chunks(got.segment.max(1)).chain(empty)
        })
    }
}

/// Bytes from one datagram of a batch to the next: not a power of two, so that many small ones do not
/// compete for the same lines of the CPU's cache.
const STRIDE: usize = limits::udp::DATAGRAM_BYTES_MAX + 1 + 192;

/// A shard's end of a shared address.
pub struct Inlet(Joint);

impl Inlet {
    /// Puts a socket from [`claim`] into the shard's epoll set.
    ///
    /// # Errors
    /// When the epoll set does not take it.
    pub fn new(driver: &Rc<Driver>, socket: Socket) -> io::Result<Self> {
        Joint::new(driver, socket).map(Self)
    }

    /// Takes what the kernel has queued, as far as there is room; whether there may be more.
    ///
    /// # Errors
    /// What the kernel says; nothing was taken then.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<bool> {
        let is_full = batch.receive(&self.0.socket)?;
        if !is_full {
            self.0.is_empty_now();
        }
        Ok(is_full)
    }

    /// Returns when datagrams may be waiting, or when [`Inlet::poke`] is called.
    pub async fn readable(&self) {
        self.0.readable().await;
    }

    /// Wakes the task that waits in [`Inlet::readable`].
    pub fn poke(&self) {
        self.0.poke();
    }

    /// Datagrams that the kernel has dropped since the socket was opened, since its queue was full; it
    /// counts to 2³² and begins anew. What `SO_RXQ_OVFL` reports with the next datagram, and so too late
    /// where none follows.
    pub fn drops(&self) -> u32 {
        calls::drops(&self.0.socket)
    }
}

/// Another shard's socket, of which this one takes some datagrams.
pub struct Guest(Socket);

impl Guest {
    /// At this socket.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub fn at(socket: &Socket) -> io::Result<Self> {
        socket.try_clone().map(Self)
    }

    /// As [`Inlet::receive`].
    ///
    /// # Errors
    /// As there.
    pub fn receive(&self, batch: &mut Batch) -> io::Result<bool> {
        batch.receive(&self.0)
    }
}

/// A socket that sends to one address.
pub struct Outlet {
    driver: Rc<Driver>,
    slot: Rc<Slot>,
    index: usize,
    socket: Socket,
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.driver.release(self.index);
    }
}

impl Outlet {
    /// A socket for `address`; nothing is sent.
    ///
    /// # Errors
    /// What the kernel says: no route, out of descriptors.
    pub fn connect(driver: &Rc<Driver>, address: SocketAddr) -> io::Result<Self> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
        calls::set_send_buffer(&socket, limits::udp::SEND_BUFFER_BYTES);
        socket.connect(&address.into())?;
        let (index, slot) = driver.register(&socket, WRITE)?;
        Ok(Self {
            driver: Rc::clone(driver),
            slot,
            index,
            socket,
        })
    }

    /// Sends the first datagrams of `bytes`, each of which ends at one of `ends`; how many went. `start` is
    /// where the first begins.
    ///
    /// # Errors
    /// What the kernel says of the first of them, or of an earlier one (`ConnectionRefused`): none went.
    pub fn send(&self, bytes: &[u8], start: usize, ends: &[usize]) -> io::Result<usize> {
        loop {
            match calls::send(&self.socket, bytes, start, ends) {
                Ok(sent) => return Ok(sent),
                Err(Errno::INTR) => {}
                Err(error) => {
                    if error == Errno::AGAIN {
                        self.slot.clear(WRITE);
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// Forgets what the kernel would tell of earlier datagrams with the next send.
    pub fn forgive(&self) {
        let _is_old = self.socket.take_error();
    }

    /// Waits until the socket takes more; whether it does before `deadline`.
    pub async fn writable(&self, deadline: Moment) -> bool {
        self.slot.clear(LATE);
        self.driver.set_deadline(self.index, deadline);
        let in_time = poll_fn(|cx| self.poll_writable(cx)).await;
        self.driver.set_deadline(self.index, Moment::NEVER);
        in_time
    }

    fn poll_writable(&self, cx: &Context<'_>) -> Poll<bool> {
        if self.slot.has(WRITE) {
            return Poll::Ready(true);
        }
        if self.slot.has(LATE) {
            return Poll::Ready(false);
        }
        *self.slot.writer.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::{Batch, Steering, Wish, claim};
    use crate::engine::datagram_calls as calls;

    fn wish(steering: Steering, gro: bool) -> Wish {
        Wish {
            buffer_bytes: 1 << 20,
            steering,
            gro,
            interface: 0,
        }
    }

    /// How many of 1,000 datagrams of one sender each of three sockets gets.
    fn shares(steering: Steering) -> Vec<usize> {
        let address = "127.0.0.1:0".parse().unwrap();
        let (sockets, given) = claim(address, 3, wish(steering, false)).unwrap();
        assert!(given > 50_000, "{given}");
        let bound = sockets[0].local_addr().unwrap().as_socket().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut batch = Batch::new(64);
        let mut got = vec![0; 3];
        for n in 0..1_000 {
            sender.send_to(b"x", bound).unwrap();
            if n % 50 == 49 {
                for (socket, got) in sockets.iter().zip(&mut got) {
                    let _empty = batch
                        .headers
                        .receive(socket, &mut batch.bytes, super::STRIDE);
                    *got += batch.datagrams().count();
                }
            }
        }
        assert_eq!(got.iter().sum::<usize>(), 1_000);
        got
    }

    #[test]
    fn one_sender_keeps_all_sockets_busy_or_one() {
        let spread = shares(Steering::Spread);
        assert!(spread.iter().all(|&share| share > 200), "{spread:?}");
        let flow = shares(Steering::Flow);
        assert_eq!(
            flow.iter().filter(|&&share| share > 0).count(),
            1,
            "{flow:?}"
        );
    }

    #[test]
    fn datagrams_of_any_size_are_taken_whole_and_merged_ones_apart() {
        let address = "127.0.0.1:0".parse().unwrap();
        let (sockets, _) = claim(address, 1, wish(Steering::Spread, true)).unwrap();
        let bound = sockets[0].local_addr().unwrap().as_socket().unwrap();
        let sender = socket2::Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut batch = Batch::new(100);
        let sizes = [1, 0, 100, 65_507, 3, 0];
        for (n, size) in sizes.into_iter().enumerate() {
            let datagram = vec![b'a' + u8::try_from(n).unwrap(); size];
            sender.send_to(&datagram, &bound.into()).unwrap();
        }
        // One send that the kernel cuts into datagrams of 100 bytes, and delivers merged.
        calls::cut_departures(&sender, 100).unwrap();
        sender.send_to(&[b'z'; 250], &bound.into()).unwrap();
        let _all = batch
            .headers
            .receive(&sockets[0], &mut batch.bytes, super::STRIDE);
        let got: Vec<usize> = batch.datagrams().map(<[u8]>::len).collect();
        assert_eq!(got, [1, 0, 100, 65_507, 3, 0, 100, 100, 50]);
        let last = batch.datagrams().nth(4).unwrap();
        assert_eq!(last, b"eee");
    }

    #[test]
    fn what_the_kernel_drops_is_known_though_nothing_follows() {
        let address = "127.0.0.1:0".parse().unwrap();
        let small = Wish {
            buffer_bytes: 4096,
            ..wish(Steering::Flow, false)
        };
        let (sockets, _) = claim(address, 1, small).unwrap();
        let bound = sockets[0].local_addr().unwrap().as_socket().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..500 {
            sender.send_to(b"x", bound).unwrap();
        }
        let mut batch = Batch::new(1024);
        let got = batch
            .headers
            .receive(&sockets[0], &mut batch.bytes, super::STRIDE)
            .unwrap();
        assert_eq!(got + calls::drops(&sockets[0]) as usize, 500);
        assert!(got < 100, "{got}");
    }

    #[test]
    fn an_address_that_somebody_has_is_refused() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let why = claim(address, 2, wish(Steering::Spread, false))
            .err()
            .unwrap();
        assert_eq!(why.kind(), std::io::ErrorKind::AddrInUse);
    }
}
