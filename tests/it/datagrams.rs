//! Both ends of a relay for datagrams: who sends, and who receives what it sends on.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::client::until;

/// Receives, and keeps it all.
pub(crate) struct Receiver {
    /// Where it is.
    pub(crate) address: String,
    got: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Receiver {
    /// On a port of its own.
    pub(crate) fn new() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// There.
    pub(crate) fn at(address: &str) -> Self {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address.parse().unwrap()),
            socket2::Type::DGRAM,
            None,
        )
        .unwrap();
        let _as_much_as_there_is = socket.set_recv_buffer_size(8 << 20);
        socket
            .bind(&address.parse::<std::net::SocketAddr>().unwrap().into())
            .unwrap();
        let socket = UdpSocket::from(socket);
        let address = socket.local_addr().unwrap().to_string();
        let got: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = Arc::downgrade(&got);
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Some(kept) = kept.upgrade() {
                if let Ok(bytes) = socket.recv(&mut buffer) {
                    kept.lock().unwrap().push(buffer[..bytes].to_vec());
                }
            }
        });
        Self { address, got }
    }

    /// All datagrams, in order.
    pub(crate) fn datagrams(&self) -> Vec<Vec<u8>> {
        self.got.lock().unwrap().clone()
    }

    /// All lines, in order; newlines within strings part none.
    pub(crate) fn lines(&self) -> Vec<String> {
        let datagrams = self.datagrams();
        let text = |datagram: &Vec<u8>| String::from_utf8_lossy(datagram).into_owned();
        let lines = datagrams.iter().map(text);
        lines
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    /// Waits until it has so many lines; all of them.
    pub(crate) fn wait_for(&self, lines: usize) -> Vec<String> {
        until(&format!("{lines} lines"), || self.lines().len() >= lines);
        self.lines()
    }
}

/// A socket that sends there.
pub(crate) fn sender(address: &str) -> UdpSocket {
    let own = if address.starts_with('[') {
        "[::1]:0"
    } else {
        "127.0.0.1:0"
    };
    let socket = UdpSocket::bind(own).unwrap();
    socket.connect(address).unwrap();
    socket
}
