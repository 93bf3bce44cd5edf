//! System calls for datagrams that no safe crate has whole: the only file of the engine with pointers.
//!
//! Each function is safe to call with anything: what is handed to the kernel is checked or made here,
//! and lives until the call returns.
#![allow(unsafe_code)] // each block says why it is right

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::AsRawFd;

use libc::{c_int, c_uint, c_void, cmsghdr, iovec, mmsghdr, sock_filter, sock_fprog, socklen_t};
use rustix::io::Errno;
use socket2::Socket;

use crate::limits;

/// What one slot of a batch got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Got {
    /// Bytes.
    pub(super) bytes: usize,
    /// Bytes of each datagram in it, but for the last, which may be shorter.
    pub(super) segment: usize,
}

/// Room for one `UDP_GRO` control message, aligned for its header.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 32]);

/// What `recvmmsg` fills in beside the bytes.
pub(super) struct Headers {
    controls: Box<[Control]>,
    got: Box<[Got]>,
    received: usize,
}

impl Headers {
    pub(super) fn new(count: usize) -> Self {
        Self {
            controls: vec![Control([0; 32]); count].into_boxed_slice(),
            got: vec![Got::default(); count].into_boxed_slice(),
            received: 0,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.got.len()
    }

    pub(super) fn received(&self) -> impl Iterator<Item = Got> {
        self.got[..self.received].iter().copied()
    }

    /// Receives into `bytes`, one datagram every `stride` bytes, [`CALL_MAX`] at a time.
    pub(super) fn receive(
        &mut self,
        socket: &Socket,
        bytes: &mut [u8],
        stride: usize,
    ) -> Result<usize, Errno> {
        self.received = 0;
        let mut rest = bytes.chunks_exact_mut(stride);
        loop {
            let room = (self.count() - self.received).min(CALL_MAX);
            let slots = rest.by_ref().take(room);
            match self.receive_some(socket, slots) {
                Ok(count) => {
                    self.received += count;
                    if count < CALL_MAX || self.received == self.count() {
                        return Ok(self.received);
                    }
                }
                Err(_) if self.received > 0 => return Ok(self.received),
                Err(error) => return Err(error),
            }
        }
    }

    fn receive_some<'a>(
        &mut self,
        socket: &Socket,
        slots: impl Iterator<Item = &'a mut [u8]>,
    ) -> Result<usize, Errno> {
        // SAFETY: zeros are a valid value of these plain structures: null pointers and lengths of 0.
        let (mut messages, mut pieces): ([mmsghdr; CALL_MAX], [iovec; CALL_MAX]) =
            unsafe { (zeroed(), zeroed()) };
        let mut count = 0;
        let controls = self.controls[self.received..].iter_mut();
        for ((slot, control), (message, piece)) in slots
            .zip(controls)
            .zip(messages.iter_mut().zip(&mut pieces))
        {
            piece.iov_base = slot.as_mut_ptr().cast::<c_void>();
            piece.iov_len = slot.len();
            message.msg_hdr.msg_iov = piece;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.0.as_mut_ptr().cast::<c_void>();
            message.msg_hdr.msg_controllen = control.0.len();
            count += 1;
        }
        // SAFETY: the first `count` messages point to slots, pieces and controls that outlive the call, that
        // nobody else holds, and whose lengths are theirs.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| last_error())?;
        let got = &mut self.got[self.received..];
        for (message, got) in messages[..received].iter().zip(got) {
            let bytes = message.msg_len as usize;
            got.bytes = bytes;
            got.segment = segment(message).unwrap_or(bytes);
        }
        Ok(received)
    }
}

/// The size of the datagrams that the kernel merged into one, if it did.
fn segment(message: &mmsghdr) -> Option<usize> {
    // SAFETY: the kernel has filled in the control buffer of this message and its length; a header that
    // is there is followed by the data that it says, here an int.
    unsafe {
        let header: *const cmsghdr = libc::CMSG_FIRSTHDR(&message.msg_hdr);
        let is_ours = !header.is_null()
            && (*header).cmsg_level == libc::SOL_UDP
            && (*header).cmsg_type == libc::UDP_GRO;
        is_ours.then(|| libc::CMSG_DATA(header).cast::<c_int>().read_unaligned())
    }
    .and_then(|bytes| usize::try_from(bytes).ok())
    .filter(|&bytes| bytes > 0)
}

/// Sends as many of the datagrams as one call takes.
pub(super) fn send(
    socket: &Socket,
    bytes: &[u8],
    mut start: usize,
    ends: &[usize],
) -> Result<usize, Errno> {
    // SAFETY: as in `receive_some`.
    let (mut messages, mut pieces): ([mmsghdr; CALL_MAX], [iovec; CALL_MAX]) =
        unsafe { (zeroed(), zeroed()) };
    let mut count = 0;
    for (&end, (message, piece)) in ends.iter().zip(messages.iter_mut().zip(&mut pieces)) {
        let datagram = &bytes[start..end];
        piece.iov_base = datagram.as_ptr().cast_mut().cast::<c_void>();
        piece.iov_len = datagram.len();
        message.msg_hdr.msg_iov = piece;
        message.msg_hdr.msg_iovlen = 1;
        start = end;
        count += 1;
    }
    // SAFETY: the first `count` messages point to pieces of `bytes`, which the kernel only reads.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(sent).map_err(|_| last_error())
}

/// Lets the kernel merge datagrams of one sender that come together and are equally long: a kernel that
/// cannot hands them over one by one.
pub(super) fn merge_arrivals(socket: &Socket) {
    let _not_known_there = set(socket, libc::SOL_UDP, libc::UDP_GRO, &1_i32);
}

/// Lets the kernel cut what is sent by one call into datagrams of so many bytes.
#[cfg(test)]
pub(super) fn cut_departures(socket: &Socket, bytes: c_int) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, &bytes)
}

/// Sets the queue of arrivals, past the system's maximum where that is allowed; what was given.
pub(super) fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<usize> {
    let wish = c_int::try_from(bytes).unwrap_or(c_int::MAX / 2);
    if bytes > 0 && set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &wish).is_err() {
        set(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &wish)?;
    }
    Ok(socket.recv_buffer_size()? / 2) // the kernel doubles it for its own accounts, and says so
}

/// Sets the queue of departures, as far as that is allowed.
pub(super) fn set_send_buffer(socket: &Socket, bytes: usize) {
    let wish = c_int::try_from(bytes).unwrap_or(c_int::MAX / 2);
    if set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &wish).is_err() {
        let _as_it_is = set(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, &wish);
    }
}

/// Datagrams that the kernel dropped at this socket: `SK_MEMINFO_DROPS` of `SO_MEMINFO`.
pub(super) fn drops(socket: &Socket) -> u32 {
    let mut numbers = [0_u32; MEMINFO_VARS];
    let mut bytes = socklen_t::try_from(size_of_val(&numbers)).unwrap_or(0);
    // SAFETY: the kernel writes at most `bytes` bytes into `numbers`, which has so many.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            numbers.as_mut_ptr().cast::<c_void>(),
            &raw mut bytes,
        )
    };
    if got == 0 { numbers[MEMINFO_DROPS] } else { 0 }
}

/// Lets each datagram go to any of the `count` sockets that share the address of this one: a program of
/// the kernel's packet filter that returns a random number below `count`.
pub(super) fn spread(first: &Socket, count: usize) -> io::Result<()> {
    let step = |code: u32, k: u32| sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: 0,
        jf: 0,
        k,
    };
    let random = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM).cast_unsigned();
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, random),
        step(
            libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K,
            u32::try_from(count).unwrap_or(u32::MAX),
        ),
        step(libc::BPF_RET | libc::BPF_A, 0),
    ];
    let program = sock_fprog {
        len: 3,
        filter: steps.as_mut_ptr(),
    };
    // The kernel copies the program before the call returns.
    set(
        first,
        libc::SOL_SOCKET,
        libc::SO_ATTACH_REUSEPORT_CBPF,
        &program,
    )
}

fn set<T>(socket: &Socket, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let bytes = socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `bytes` bytes of `value`, which has so many, and what a filter program
    // points to, which its maker holds meanwhile.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast::<c_void>(),
            bytes,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Datagrams of one system call.
const CALL_MAX: usize = limits::udp::CALL_MAX;
/// `linux/sock_diag.h`, `asm-generic/socket.h`: not in libc.
const SO_MEMINFO: c_int = 55;
const MEMINFO_VARS: usize = 9;
const MEMINFO_DROPS: usize = 8;
const _: () = assert!(CALL_MAX <= c_uint::MAX as usize, "a count of the kernel's");
