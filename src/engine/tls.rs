//! One TLS session without its socket: ciphertext in, plaintext out, and the other way round.
//!
//! rustls does the protocol; this file says what it may hold. Nothing of what came stays in rustls: all
//! plaintext of one read is taken out of it at once, into a buffer of the shard, and what its reader has no
//! room for is held here, less than one record. What goes out waits in rustls while the kernel takes no more,
//! up to the bounds of `limits::tls`.
//!
//! ```text
//!  recv ─▶ scratch ─▶ feed ─▶ rustls ─▶ plain ─▶ reader     (what does not fit: held)
//!  sendmsg ◀────── write_to ◀─ rustls ◀─ seal ◀─ writer     (what does not fit: not taken)
//! ```

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, IoSlice, Write};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::engine::tls_words::words;
use crate::limits;

/// What a door shows its clients; replaced when its files change.
pub type ServerTls = ArcSwap<ServerConfig>;

/// How a backend is met, by all shards: rustls takes a lock of its own once per handshake, to remember
/// sessions. What is trusted, who is expected there, and what is shown to it.
#[derive(Debug)]
pub struct ClientTls {
    /// Replaced when its files change.
    pub config: ArcSwap<ClientConfig>,
    /// The name or address that its certificate must be for.
    pub name: ServerName<'static>,
    /// The configured file of who is trusted, for words; `None` is the system's roots, or anybody.
    pub ca_file: Option<Arc<str>>,
}

/// How the bytes from the peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It said that there are no more.
    Said,
    /// The connection broke off: more may have been meant.
    Cut,
    /// What it sent is no TLS, or it has refused us.
    Broken,
}

/// One end of one TLS connection.
pub(super) struct Session {
    rustls: RefCell<Connection>,
    held: RefCell<Vec<u8>>,
    end: Cell<Option<End>>,
    complaint: RefCell<Option<String>>,
    ca_file: Option<Arc<str>>,
    finishing: Cell<bool>,
}

impl Session {
    /// Before the first byte of a client.
    pub(super) fn of_server(config: Arc<ServerConfig>) -> Result<Self, String> {
        match ServerConnection::new(config) {
            Ok(rustls) => Ok(Self::over(rustls.into(), limits::tls::SEND_BYTES_MAX, None)),
            Err(why) => Err(words(&why, None)),
        }
    }

    /// Before the first byte to a backend.
    pub(super) fn of_client(tls: &ClientTls) -> Result<Self, String> {
        match ClientConnection::new(tls.config.load_full(), tls.name.clone()) {
            Ok(rustls) => Ok(Self::over(
                rustls.into(),
                limits::tls::BACKEND_SEND_BYTES_MAX,
                tls.ca_file.clone(),
            )),
            Err(why) => Err(words(&why, tls.ca_file.as_deref())),
        }
    }

    fn over(mut rustls: Connection, send_bytes_max: usize, ca_file: Option<Arc<str>>) -> Self {
        rustls.set_buffer_limit(Some(send_bytes_max));
        Self {
            rustls: RefCell::new(rustls),
            held: RefCell::default(),
            end: Cell::new(None),
            complaint: RefCell::default(),
            ca_file,
            finishing: Cell::new(false),
        }
    }

    /// Whether the peers have not agreed yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.rustls.borrow().is_handshaking()
    }

    /// Takes what came from the socket, and appends what it says: at most as many bytes, and one record.
    pub(super) fn feed(&self, mut bytes: &[u8], plain: &mut Vec<u8>) {
        let rustls = &mut *self.rustls.borrow_mut();
        while !bytes.is_empty() && self.end.get().is_none() {
            let taken = rustls.read_tls(&mut bytes);
            let state = rustls.process_new_packets();
            drain(rustls, plain);
            match (taken, state) {
                (_, Err(why)) => self.break_off(words(&why, self.ca_file.as_deref())),
                (_, Ok(state)) if state.peer_has_closed() => self.end.set(Some(End::Said)),
                (Ok(1..), Ok(_)) => {}
                (Ok(0), Ok(_)) => self.break_off("its TLS cannot be read on".to_owned()),
                (Err(why), Ok(_)) => self.break_off(why.to_string()),
            }
        }
    }

    fn break_off(&self, why: String) {
        self.end.set(Some(End::Broken));
        *self.complaint.borrow_mut() = Some(why);
    }

    /// The socket has ended.
    pub(super) fn cut(&self) {
        if self.end.get().is_none() {
            self.end.set(Some(End::Cut));
        }
    }

    /// How the bytes from the peer ended, if they have: an end that was not said is none of a message.
    pub(super) fn ended(&self) -> Option<io::Result<()>> {
        self.end.get().map(|end| match end {
            End::Said => Ok(()),
            End::Cut => Err(io::ErrorKind::UnexpectedEof.into()),
            End::Broken => Err(self.error()),
        })
    }

    /// What was wrong with what the peer sent, in words.
    pub(super) fn complaint(&self) -> Option<String> {
        self.complaint.borrow().clone()
    }

    fn error(&self) -> io::Error {
        let why = self.complaint().unwrap_or_default();
        io::Error::new(io::ErrorKind::InvalidData, why)
    }

    /// Keeps what the reader had no room for.
    pub(super) fn hold(&self, plain: &[u8]) {
        self.held.borrow_mut().extend_from_slice(plain);
    }

    /// Appends what is held, and holds it no more.
    pub(super) fn take_held(&self, plain: &mut Vec<u8>) {
        let held = &mut *self.held.borrow_mut();
        if !held.is_empty() {
            plain.extend_from_slice(held);
            *held = Vec::new(); // a connection at rest owns no buffer
        }
    }

    /// Encrypts as much of `pieces` as may wait; how much.
    pub(super) fn seal(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.rustls.borrow_mut().writer().write_vectored(pieces)
    }

    /// Whether ciphertext waits for the socket.
    pub(super) fn has_unsent(&self) -> bool {
        self.rustls.borrow().wants_write()
    }

    /// Writes ciphertext to the socket, once.
    pub(super) fn write_to(&self, socket: &mut dyn Write) -> io::Result<usize> {
        self.rustls.borrow_mut().write_tls(socket)
    }

    /// Nothing more will be sent: says so, behind what waits.
    pub(super) fn finish(&self) {
        if !self.finishing.replace(true) {
            self.rustls.borrow_mut().send_close_notify();
        }
    }

    /// Whether the socket's own end is to follow, once nothing waits any more. Says it once.
    pub(super) fn ends_now(&self) -> bool {
        self.finishing.replace(false)
    }
}

/// Takes all plaintext out of rustls.
fn drain(rustls: &mut Connection, plain: &mut Vec<u8>) {
    let mut reader = rustls.reader();
    while let Ok(bytes) = reader.fill_buf() {
        let count = bytes.len();
        if count == 0 {
            return;
        }
        plain.extend_from_slice(bytes);
        reader.consume(count);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{ClientTls, Session};
    use crate::limits::tls::{RECORD_BYTES_MAX, SEND_BYTES_MAX};
    use arc_swap::ArcSwap;
    use rustls::crypto::ring;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use std::io::{ErrorKind, IoSlice};
    use std::sync::Arc;

    /// What both ends of a connection are made of.
    pub(in crate::engine) fn configs() -> (ClientTls, Arc<ServerConfig>) {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let tls = ClientTls {
            config: ArcSwap::from_pointee(client),
            name: ServerName::try_from("localhost").unwrap(),
            ca_file: None,
        };
        (tls, Arc::new(server))
    }

    /// Both ends of a connection, before a word.
    fn ends() -> (Session, Session) {
        let (client, server) = configs();
        let client = Session::of_client(&client).unwrap();
        (client, Session::of_server(server).unwrap())
    }

    fn wire(from: &Session) -> Vec<u8> {
        let mut wire = Vec::new();
        while from.has_unsent() {
            from.write_to(&mut wire).unwrap();
        }
        wire
    }

    /// Moves what waits from one end to the other, so many bytes at a time.
    fn pass(from: &Session, to: &Session, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in wire(from).chunks(step) {
            let mut plain = Vec::new();
            to.feed(piece, &mut plain);
            assert!(plain.len() <= piece.len() + RECORD_BYTES_MAX);
            all.extend(plain);
        }
        all
    }

    fn shaken(step: usize) -> (Session, Session) {
        let (client, server) = ends();
        while client.is_handshaking() || server.is_handshaking() {
            assert_eq!(pass(&client, &server, step), b"");
            assert_eq!(pass(&server, &client, step), b"");
        }
        (client, server)
    }

    #[test]
    fn whatever_the_cuts_all_that_was_said_arrives() {
        let said: Vec<u8> = (0..=250).cycle().take(100_000).collect();
        for step in [1, 2, 5, 100, 1000, 4096, 16_384, 65_536, 1_000_000] {
            let (client, server) = shaken(step);
            let (mut rest, mut heard) = (&said[..], Vec::new());
            while !rest.is_empty() {
                let taken = client
                    .seal(&[IoSlice::new(&rest[..1]), IoSlice::new(&rest[1..])])
                    .unwrap();
                assert!(taken > 0, "nothing waits, so something is taken");
                rest = &rest[taken..];
                heard.extend(pass(&client, &server, step));
            }
            assert!(heard == said, "{step}");
            assert!(server.ended().is_none());
            client.finish();
            assert_eq!(pass(&client, &server, step), b"");
            assert!(client.ends_now() && !client.ends_now());
            assert!(server.ended().unwrap().is_ok());
        }
    }

    #[test]
    fn no_more_is_taken_than_may_wait() {
        let (_client, server) = shaken(4096);
        wire(&server); // tickets
        let much = vec![7; 1_000_000];
        assert_eq!(server.seal(&[IoSlice::new(&much)]).unwrap(), SEND_BYTES_MAX);
        assert_eq!(server.seal(&[IoSlice::new(&much)]).unwrap(), 0);
        assert!(wire(&server).len() < SEND_BYTES_MAX + 1000);
        assert!(server.seal(&[IoSlice::new(&much)]).unwrap() > 0);
    }

    #[test]
    fn an_end_that_nobody_said_is_an_error_and_so_is_a_flipped_bit() {
        let (client, server) = shaken(4096);
        server.cut();
        assert_eq!(
            server.ended().unwrap().unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
        drop(client);
        let count = {
            let (client, _server) = shaken(4096);
            client.seal(&[IoSlice::new(b"abc")]).unwrap();
            wire(&client).len()
        };
        // The third byte is a version that nobody reads (RFC 8446 section 5.1).
        for at in (0..count).filter(|&at| at != 2) {
            let (client, server) = shaken(4096);
            client.seal(&[IoSlice::new(b"abc")]).unwrap();
            let mut bytes = wire(&client);
            bytes[at] ^= 0x40;
            let mut plain = Vec::new();
            server.feed(&bytes, &mut plain);
            assert_eq!(plain, b"", "byte {at}");
            // A length that grew waits for more; all else is known at once.
            let is_told = server.ended().is_some_and(|end| end.is_err());
            assert!(
                is_told == server.complaint().is_some() && (is_told || at == 3 || at == 4),
                "byte {at}"
            );
        }
    }

    #[test]
    fn what_is_held_comes_first_and_once() {
        let (session, _) = ends();
        session.hold(b"ab");
        session.hold(b"c");
        let mut plain = b"0".to_vec();
        session.take_held(&mut plain);
        session.take_held(&mut plain);
        assert_eq!(plain, b"0abc");
    }
}
