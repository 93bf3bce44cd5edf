//! The floor: what relaying one write to two backends costs at least on one core.
//!
//! A bare, single-threaded, edge-triggered epoll loop: it reads a request, sends it to two backends
//! over pooled connections, answers at the first 2xx and lets the second finish behind. No limits,
//! no health, no stamps, no verdict: the yardstick of `perf/side-by-side`, not a relay.
//!
//!     floor LISTEN BACKEND BACKEND

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)] // a yardstick, not a product

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

/// One connection, to a client or to a backend.
enum Peer {
    /// A client: what it sent that is not yet a whole request.
    Client { stream: TcpStream, pending: Vec<u8> },
    /// A connection to backend `of`, at work for a client's request.
    Link {
        stream: TcpStream,
        of: usize,
        client: Option<(usize, u64)>,
    },
}

struct Floor {
    epoll: std::os::fd::OwnedFd,
    listener: TcpListener,
    backends: [SocketAddr; 2],
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    idle: [Vec<usize>; 2],
    /// Per client: the number of the request that waits for its first answer; 0 for none.
    waiting: Vec<u64>,
    count: u64,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

fn main() {
    let args: Vec<SocketAddr> = std::env::args()
        .skip(1)
        .map(|arg| arg.parse().unwrap())
        .collect();
    let listener = TcpListener::bind(args[0]).unwrap();
    listener.set_nonblocking(true).unwrap();
    println!(
        "floor listening on http://{}",
        listener.local_addr().unwrap()
    );
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(
        &epoll,
        &listener,
        epoll::EventData::new_u64(u64::MAX),
        epoll::EventFlags::IN,
    )
    .unwrap();
    let mut floor = Floor {
        epoll,
        listener,
        backends: [args[1], args[2]],
        peers: Vec::new(),
        free: Vec::new(),
        idle: [Vec::new(), Vec::new()],
        waiting: Vec::new(),
        count: 0,
        scratch: vec![0; 256 * 1024],
        out: Vec::new(),
    };
    let mut events = Vec::with_capacity(512);
    loop {
        events.clear();
        if epoll::wait(&floor.epoll, spare_capacity(&mut events), None).is_err() {
            continue;
        }
        for event in &events {
            match event.data.u64() {
                u64::MAX => floor.accept(),
                index => floor.ready(usize::try_from(index).unwrap()),
            }
        }
    }
}

impl Floor {
    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            self.add(stream, |stream| Peer::Client {
                stream,
                pending: Vec::new(),
            });
        }
    }

    fn add(&mut self, stream: TcpStream, peer: impl FnOnce(TcpStream) -> Peer) -> usize {
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        let index = self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.waiting.push(0);
            self.peers.len() - 1
        });
        let interest = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(
            &self.epoll,
            stream.as_fd(),
            epoll::EventData::new_u64(index as u64),
            interest,
        )
        .unwrap();
        self.peers[index] = Some(peer(stream));
        index
    }

    fn ready(&mut self, index: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        match self.peers[index].take() {
            Some(Peer::Client { stream, pending }) => {
                self.client(index, stream, pending, &mut scratch)
            }
            Some(Peer::Link { stream, of, client }) => {
                self.link(index, stream, of, client, &mut scratch)
            }
            None => {}
        }
        self.scratch = scratch;
    }

    fn client(
        &mut self,
        index: usize,
        mut stream: TcpStream,
        mut pending: Vec<u8>,
        scratch: &mut [u8],
    ) {
        loop {
            match stream.read(scratch) {
                Ok(0) => return self.gone(index),
                Ok(count) => {
                    let short = count < scratch.len();
                    if pending.is_empty() && whole(&scratch[..count]) {
                        self.relay(index, &scratch[..count]);
                    } else {
                        pending.extend_from_slice(&scratch[..count]);
                        if whole(&pending) {
                            self.relay(index, &pending);
                            pending.clear();
                        }
                    }
                    if short {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.gone(index),
            }
        }
        self.peers[index] = Some(Peer::Client { stream, pending });
    }

    /// Sends a whole request to both backends, with a head of their own.
    fn relay(&mut self, client: usize, request: &[u8]) {
        self.count += 1;
        self.waiting[client] = self.count;
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut parsed = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(head)) = parsed.parse(request) else {
            return;
        };
        let mut out = std::mem::take(&mut self.out);
        for of in 0..2 {
            out.clear();
            write!(
                out,
                "POST {} HTTP/1.1\r\nHost: {}\r\n",
                parsed.path.unwrap(),
                self.backends[of]
            )
            .unwrap();
            write!(out, "Content-Length: {}\r\n\r\n", request.len() - head).unwrap();
            out.extend_from_slice(&request[head..]);
            let link = self.idle[of].pop().unwrap_or_else(|| {
                let stream = TcpStream::connect(self.backends[of]).unwrap();
                self.add(stream, |stream| Peer::Link {
                    stream,
                    of,
                    client: None,
                })
            });
            if let Some(Peer::Link {
                stream,
                client: at_work,
                ..
            }) = &mut self.peers[link]
            {
                *at_work = Some((client, self.count));
                send(stream, &out);
            }
        }
        self.out = out;
    }

    fn link(
        &mut self,
        index: usize,
        mut stream: TcpStream,
        of: usize,
        client: Option<(usize, u64)>,
        scratch: &mut [u8],
    ) {
        match stream.read(scratch) {
            Ok(0) | Err(_) => {
                self.idle[of].retain(|idle| *idle != index);
                return self.free.push(index);
            }
            Ok(_) => {}
        }
        let accepted = scratch.starts_with(b"HTTP/1.1 2");
        self.peers[index] = Some(Peer::Link {
            stream,
            of,
            client: None,
        });
        self.idle[of].push(index);
        let Some((client, number)) = client else {
            return;
        };
        if accepted && self.waiting[client] == number {
            self.waiting[client] = 0;
            if let Some(Peer::Client { stream, .. }) = &mut self.peers[client] {
                send(stream, b"HTTP/1.1 204 No Content\r\n\r\n");
            }
        }
    }

    fn gone(&mut self, index: usize) {
        self.waiting[index] = 0;
        self.free.push(index);
    }
}

/// Sends all; where the kernel's buffer is full it waits, which the yardstick may.
fn send(stream: &mut TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(_) => return,
        }
    }
}

/// Whether a request has come whole: its head, and as much body as it announces.
fn whole(bytes: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = parsed.parse(bytes) else {
        return false;
    };
    let length = parsed
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |header| {
        std::str::from_utf8(header.value).unwrap().parse().unwrap()
    });
    bytes.len() >= head + length
}
