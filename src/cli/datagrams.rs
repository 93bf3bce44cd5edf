//! Datagrams in batches, for `sink` and `bench`: one system call takes or gives up to 64 of them.
//!
//! What finds a socket's buffer full is dropped by the kernel, and nobody is told. So the buffer is as
//! large as the system allows, and what was dropped all the same is read from the kernel's own table:
//! a loss at a tool can then be told from a loss at what it measures.

use std::array;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use rustix::fs::fstat;
use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_send_buffer_size,
};

use crate::limits::tools::{TOOL_DATAGRAMS, TOOL_UDP_BUFFER_BYTES};

/// A socket that takes datagrams, and the last batch of them.
pub(super) struct Mailbox {
    socket: UdpSocket,
    inode: u64,
    // With an address type that has a size: the kernel writes where each datagram came from.
    headers: MultiHeaders<SockaddrStorage>,
    buffer: Vec<u8>,
    sizes: [usize; TOOL_DATAGRAMS],
}

impl Mailbox {
    /// Listens at `address`; port 0 lets the system choose.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        // The first needs rights; the second is cut to what any process may have.
        if set_socket_recv_buffer_size_force(&socket, TOOL_UDP_BUFFER_BYTES).is_err() {
            set_socket_recv_buffer_size(&socket, TOOL_UDP_BUFFER_BYTES)?;
        }
        let inode = fstat(&socket)?.st_ino;
        Ok(Self {
            socket,
            inode,
            headers: MultiHeaders::preallocate(TOOL_DATAGRAMS, None),
            buffer: vec![0; TOOL_DATAGRAMS * STRIDE],
            sizes: [0; TOOL_DATAGRAMS],
        })
    }

    /// The socket, to register it.
    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Takes a batch of those that wait; returns how many. Less than a full batch has emptied the socket.
    pub(super) fn take(&mut self) -> usize {
        let mut chunks = self.buffer.chunks_exact_mut(STRIDE);
        let mut slices: [[IoSliceMut<'_>; 1]; TOOL_DATAGRAMS] =
            array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let Ok(taken) = recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None) else {
            return 0;
        };
        let mut count = 0;
        for (message, size) in taken.zip(&mut self.sizes) {
            *size = message.bytes;
            count += 1;
        }
        count
    }

    /// One datagram of the last batch.
    pub(super) fn datagram(&self, index: usize) -> &[u8] {
        &self.buffer[index * STRIDE..][..self.sizes[index]]
    }

    /// How many datagrams the kernel has dropped at this socket, exact to the last; `None` where its
    /// table cannot be read.
    pub(super) fn kernel_drops(&self) -> Option<u64> {
        let table = match self.socket.local_addr().ok()? {
            SocketAddr::V4(_) => "/proc/self/net/udp",
            SocketAddr::V6(_) => "/proc/self/net/udp6",
        };
        drops_of(&fs::read_to_string(table).ok()?, self.inode)
    }
}

/// The last column of the row that has this inode.
fn drops_of(table: &str, inode: u64) -> Option<u64> {
    let inode = inode.to_string();
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(INODE_COLUMN);
        if columns.next() != Some(&inode) {
            return None;
        }
        columns.last()?.parse().ok()
    })
}

/// A socket that sends datagrams to one place.
pub(super) struct Outbox {
    socket: UdpSocket,
    headers: MultiHeaders<()>,
}

impl Outbox {
    /// Sends to `to`, from a port that the system chooses.
    pub(super) fn connect(to: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        // Cut to what the system allows.
        set_socket_send_buffer_size(&socket, TOOL_UDP_BUFFER_BYTES)?;
        socket.connect(to)?;
        let headers = MultiHeaders::preallocate(TOOL_DATAGRAMS, None);
        Ok(Self { socket, headers })
    }

    /// Sends what `bytes` holds, in datagrams of `size` bytes, at most a batch; returns how many went.
    pub(super) fn send(&mut self, bytes: &[u8], size: usize) -> Result<usize, Errno> {
        let mut chunks = bytes.chunks_exact(size);
        let count = chunks.len().min(TOOL_DATAGRAMS);
        let slices: [[IoSlice<'_>; 1]; TOOL_DATAGRAMS] =
            array::from_fn(|_| [IoSlice::new(chunks.next().unwrap_or_default())]);
        let sent = sendmmsg(
            self.socket.as_raw_fd(),
            &mut self.headers,
            &slices[..count],
            [None; TOOL_DATAGRAMS],
            [],
            MsgFlags::MSG_DONTWAIT,
        )?;
        Ok(sent.count())
    }
}

/// From one buffer to the next: the largest datagram, and one line of the CPU's cache more, or all
/// buffers would begin in the same set of it.
const STRIDE: usize = 65_536 + 64;
const INODE_COLUMN: usize = 9;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::{Mailbox, Outbox, drops_of};

    #[test]
    fn drops_are_of_the_row_with_the_inode() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
             11: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17\n\
             12: 0100007F:4711 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 99 2 0000000000000000 0\n";
        assert_eq!(drops_of(table, 4711), Some(17));
        assert_eq!(drops_of(table, 99), Some(0));
        assert_eq!(drops_of(table, 9), None);
        assert_eq!(drops_of("", 9), None);
    }

    #[test]
    fn batches_arrive_as_they_were_sent() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let mut mailbox = Mailbox::bind(address.parse().unwrap()).unwrap();
            let to = mailbox.socket().local_addr().unwrap();
            let mut outbox = Outbox::connect(to).unwrap();
            // Twice: the headers that the kernel has written to are used again.
            for _ in 0..2 {
                assert_eq!(outbox.send(b"abcdefghi", 3), Ok(3));
                assert_eq!(mailbox.take(), 3);
                assert_eq!(mailbox.datagram(0), b"abc");
                assert_eq!(mailbox.datagram(2), b"ghi");
                assert_eq!(mailbox.take(), 0);
            }
            assert_eq!(mailbox.kernel_drops(), Some(0));
        }
    }

    #[test]
    fn the_largest_datagram_is_whole() {
        let mut mailbox = Mailbox::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = mailbox.socket().local_addr().unwrap();
        sender.send_to(&[b'x'; 65_507], to).unwrap();
        sender.send_to(b"", to).unwrap();
        assert_eq!(mailbox.take(), 2);
        assert_eq!(mailbox.datagram(0).len(), 65_507);
        assert_eq!(mailbox.datagram(1), b"");
    }
}
