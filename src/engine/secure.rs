//! What a stream does once TLS is on it: the same as a plain one, as its callers see it.
//!
//! Two things differ beneath. Bytes that were taken for sending may wait here for the socket: whoever reads
//! or sends next sends them on, and one that waits to read wakes for it too. And an end that the peer has not
//! said (`close_notify`) is an error, since anybody on the way could have made it.

use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_lite::future::poll_fn;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use rustls::ServerConfig;
use socket2::Socket;

use crate::clock::Moment;
use crate::engine::driver::{Driver, LATE, WRITE};
use crate::engine::stream::{Stream, park};
use crate::engine::tls::{ClientTls, Session};
use crate::limits;

/// Why there is no TLS on an accepted stream.
#[derive(Debug)]
pub enum Unsecured {
    /// The client hung up before it said anything.
    Silent,
    /// What came is no TLS; its first byte.
    NotTls(u8),
    /// What went wrong, in words; the client may have been told.
    Failed(io::Error),
}

/// The first byte of a TLS record that begins a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

impl Stream {
    /// [`Stream::connect`], and TLS behind it, until `deadline` at most.
    ///
    /// # Errors
    /// As [`Stream::connect`]; what is wrong with the peer's certificate, in words.
    pub async fn connect_secure(
        driver: &Rc<Driver>,
        address: SocketAddr,
        deadline: Moment,
        tls: &ClientTls,
    ) -> io::Result<Self> {
        let mut stream = Self::connect(driver, address, deadline).await?;
        let session = Session::of_client(tls).map_err(io::Error::other)?;
        let shaken = poll_fn(|cx| stream.poll_handshake(&session, cx, &mut true)).await;
        shaken.map_err(|why| match why.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other("it hung up in the TLS handshake"),
            _ => why,
        })?;
        stream.tls = Some(Box::new(session));
        Ok(stream)
    }

    /// Takes a client's handshake, until the stream's deadline at most.
    ///
    /// # Errors
    /// Why there is no TLS. The stream is a plain one still.
    pub async fn secure(&mut self, config: Arc<ServerConfig>) -> Result<(), Unsecured> {
        let session =
            Session::of_server(config).map_err(|why| Unsecured::Failed(io::Error::other(why)))?;
        let mut has_begun = false;
        let shaken = poll_fn(|cx| self.poll_handshake(&session, cx, &mut has_begun)).await;
        match shaken {
            Ok(None) => {
                self.tls = Some(Box::new(session));
                Ok(())
            }
            Ok(Some(byte)) => Err(Unsecured::NotTls(byte)),
            Err(why) if !has_begun && why.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Unsecured::Silent)
            }
            Err(why) => Err(Unsecured::Failed(why)),
        }
    }

    /// Ready when the peers have agreed, or with the first byte of something that is no TLS.
    fn poll_handshake(
        &self,
        session: &Session,
        cx: &Context<'_>,
        has_begun: &mut bool,
    ) -> Poll<io::Result<Option<u8>>> {
        let plain = &mut *self.driver.plain.borrow_mut();
        plain.clear();
        for _ in 0..limits::tls::READS_IN_A_ROW_MAX {
            let is_sent = self.send_on(session);
            if !session.is_handshaking() {
                return Poll::Ready(is_sent.map(|_| None));
            }
            match self.poll_feed(session, cx, limits::tls::RECORD_BYTES_MAX, plain, has_begun) {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(other) => return Poll::Ready(other),
                Poll::Pending => {
                    if is_sent.is_ok_and(|is_sent| !is_sent) {
                        park(&self.slot.writer, cx);
                    }
                    return Poll::Pending;
                }
            }
            session.hold(plain); // what a client says early
            plain.clear();
            if let Some(Err(why)) = session.ended() {
                let _told_if_it_listens = self.send_on(session);
                return Poll::Ready(Err(why));
            }
        }
        self.go_on_later(cx)
    }

    /// One read of the socket into the session; the byte that is no TLS, if there is one before it began.
    fn poll_feed(
        &self,
        session: &Session,
        cx: &Context<'_>,
        most: usize,
        plain: &mut Vec<u8>,
        has_begun: &mut bool,
    ) -> Poll<io::Result<Option<u8>>> {
        let scratch = &mut *self.driver.scratch.borrow_mut();
        let room = scratch.len().min(most);
        let read = self.poll_recv(cx, room, || {
            recv(&self.socket, &mut scratch[..room], RecvFlags::empty()).map(|read| read.0)
        });
        Poll::Ready(match read {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(why)) => Err(why),
            Poll::Ready(Ok(0)) => {
                session.cut();
                Ok(None)
            }
            Poll::Ready(Ok(count)) => match scratch[0] {
                byte if byte != HANDSHAKE && !*has_begun => Ok(Some(byte)),
                _ => {
                    *has_begun = true;
                    session.feed(&scratch[..count], plain);
                    Ok(None)
                }
            },
        })
    }

    /// Reads once, `most` bytes of ciphertext at most, and shows `take` what they say.
    pub(super) fn poll_open<R>(
        &self,
        session: &Session,
        cx: &Context<'_>,
        most: usize,
        take: impl FnOnce(&[u8]) -> R,
    ) -> Poll<io::Result<R>> {
        let plain = &mut *self.driver.plain.borrow_mut();
        plain.clear();
        session.take_held(plain);
        for _ in 0..limits::tls::READS_IN_A_ROW_MAX {
            if !plain.is_empty() {
                return Poll::Ready(Ok(take(plain)));
            }
            match session.ended() {
                None => {}
                Some(Ok(())) => return Poll::Ready(Ok(take(&[]))),
                Some(Err(why)) => {
                    let _told_if_it_listens = self.send_on(session);
                    return Poll::Ready(Err(why));
                }
            }
            match self.poll_feed(session, cx, most, plain, &mut true) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(why)) => return Poll::Ready(Err(why)),
                Poll::Pending => {
                    // A send that fails is not told here: what there is to read decides.
                    if self.send_on(session).is_ok_and(|is_sent| !is_sent) {
                        park(&self.slot.writer, cx);
                    }
                    return Poll::Pending;
                }
            }
        }
        self.go_on_later(cx)
    }

    /// Much came and said nothing: others have their turn, and the deadline holds.
    fn go_on_later<R>(&self, cx: &Context<'_>) -> Poll<io::Result<R>> {
        if self.slot.has(LATE) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what may wait of `pieces`, and sends what the kernel takes.
    pub(super) fn try_seal(&self, session: &Session, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let is_nothing = pieces.iter().all(|piece| piece.is_empty());
        if is_nothing || !self.send_on(session)? {
            return Ok(0);
        }
        let taken = session.seal(pieces)?;
        if !self.send_on(session)? {
            // Whoever reads from this stream now has something to send on, too.
            self.slot.wake_reader();
        }
        Ok(taken)
    }

    /// Sends the ciphertext that waits; whether none does any more.
    pub(super) fn send_on(&self, session: &Session) -> io::Result<bool> {
        while session.has_unsent() {
            if !self.slot.has(WRITE) {
                return Ok(false);
            }
            let mut wire = Wire {
                socket: &self.socket,
                is_short: false,
            };
            match session.write_to(&mut wire) {
                Ok(_) if wire.is_short => self.slot.clear(WRITE),
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => self.slot.clear(WRITE),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        if session.ends_now() {
            let _already_gone = self.socket.shutdown(Shutdown::Write);
        }
        Ok(true)
    }
}

/// The socket, as rustls writes to it.
struct Wire<'a> {
    socket: &'a Socket,
    /// The kernel took less than it was given: its buffer is full.
    is_short: bool,
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: usize = pieces.iter().map(|piece| piece.len()).sum();
        let sent = sendmsg(
            self.socket,
            pieces,
            &mut SendAncillaryBuffer::default(),
            SendFlags::NOSIGNAL,
        );
        let sent = sent.map_err(|why: Errno| io::Error::from(why))?;
        self.is_short = sent < all;
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Stream;
    use crate::engine::driver::Driver;
    use crate::engine::tls::tests::configs;
    use futures_lite::future::{poll_fn, poll_once};
    use glommio::LocalExecutor;
    use rustls::{ClientConnection, StreamOwned};
    use socket2::SockRef;
    use std::cell::Cell;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::rc::Rc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::Duration;

    type Client = StreamOwned<ClientConnection, TcpStream>;

    /// Runs a relay's end of a connection against a client in a thread of its own. The kernel takes little
    /// ahead. What each tells the other is that it is its turn.
    fn run<F: Future<Output = ()>>(
        client: impl FnOnce(Client, Sender<usize>, Receiver<usize>) + Send + 'static,
        server: impl FnOnce(Rc<Stream>, Sender<usize>, Receiver<usize>) -> F,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (config, own) = configs();
        let (to_server, from_client) = channel();
        let (to_client, from_server) = channel();
        let client = thread::spawn(move || {
            let stream = TcpStream::connect(address).unwrap();
            SockRef::from(&stream).set_recv_buffer_size(2048).unwrap();
            let wait = Some(Duration::from_secs(10));
            stream.set_read_timeout(wait).unwrap();
            stream.set_nodelay(true).unwrap();
            let session = ClientConnection::new(config.config.load_full(), config.name).unwrap();
            client(StreamOwned::new(session, stream), to_server, from_server);
        });
        LocalExecutor::default().run(async move {
            let driver = Driver::new(0, 32 * 1024).unwrap();
            glommio::spawn_local(Rc::clone(&driver).run()).detach();
            let accepted = listener.accept().unwrap().0;
            accepted.set_nonblocking(true).unwrap();
            SockRef::from(&accepted).set_send_buffer_size(2048).unwrap();
            let mut stream = Stream::accepted(&driver, accepted.into()).unwrap();
            stream.secure(own).await.unwrap();
            let ticking = Rc::clone(&driver);
            glommio::spawn_local(async move {
                loop {
                    glommio::timer::sleep(Duration::from_millis(50)).await;
                    ticking.tick();
                }
            })
            .detach();
            stream.set_deadline(driver.now().after(Duration::from_secs(5)));
            server(Rc::new(stream), to_client, from_client).await;
        });
        client.join().unwrap();
    }

    /// Sends until the kernel takes no more and the rest waits; how much.
    fn fill(stream: &Stream) -> usize {
        let mut sent = 0;
        while !stream.has_unsent().unwrap() {
            sent += stream.try_send(&[b'a'; 16 * 1024]).unwrap();
        }
        sent
    }

    #[test]
    fn what_waits_is_sent_on_by_whoever_waits_to_read() {
        let client = |mut tls: Client, to_server: Sender<usize>, turns: Receiver<usize>| {
            tls.flush().unwrap();
            let mut heard = vec![0; turns.recv().unwrap()];
            tls.read_exact(&mut heard).unwrap();
            tls.write_all(b"x").unwrap();
            // Then as much once more, and the end behind it.
            let count = turns.recv().unwrap();
            heard.clear();
            tls.read_to_end(&mut heard).unwrap();
            assert!(heard == vec![b'a'; count]);
            assert_eq!(tls.sock.read(&mut [0]).unwrap(), 0, "the socket's own end");
            drop(to_server);
        };
        run(client, |stream, to_client, _| async move {
            let heard = Rc::new(Cell::new(0));
            let reader = glommio::spawn_local({
                let (stream, heard) = (Rc::clone(&stream), Rc::clone(&heard));
                async move {
                    let read = poll_fn(|cx| stream.poll_read_with(cx, <[u8]>::len)).await;
                    heard.set(read.unwrap());
                    let end = poll_fn(|cx| stream.poll_read_with(cx, <[u8]>::len)).await;
                    end.map_err(|why| why.kind())
                }
            });
            glommio::timer::sleep(Duration::from_millis(20)).await; // it waits
            to_client.send(fill(&stream)).unwrap();
            while heard.get() == 0 {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
            let count = fill(&stream);
            stream.finish();
            assert!(stream.has_unsent().unwrap());
            to_client.send(count).unwrap();
            assert_eq!(reader.await, Err(ErrorKind::UnexpectedEof)); // it says no end itself
        });
    }

    #[test]
    fn to_have_sent_all_is_to_have_given_it_to_the_kernel() {
        let client = |mut tls: Client, to_server: Sender<usize>, turns: Receiver<usize>| {
            tls.flush().unwrap();
            let mut heard = vec![0; turns.recv().unwrap()];
            tls.read_exact(&mut heard).unwrap();
            to_server.send(0).unwrap();
        };
        run(client, |stream, to_client, turns| async move {
            let count = fill(&stream);
            assert_eq!(
                poll_once(stream.send_all(b"")).await.map(Result::unwrap),
                None
            );
            to_client.send(count).unwrap();
            stream.send_all(b"").await.unwrap();
            drop(stream); // what the kernel has goes on
            while turns.try_recv().is_err() {
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    #[test]
    fn what_was_more_than_asked_for_is_read_without_a_word_of_the_kernel() {
        let client = move |mut tls: Client, to_server: Sender<usize>, turns: Receiver<usize>| {
            tls.flush().unwrap();
            let mut record = Vec::new();
            tls.conn.writer().write_all(&[b'a'; 1000]).unwrap();
            while tls.conn.wants_write() {
                tls.conn.write_tls(&mut record).unwrap();
            }
            let (first, last) = record.split_at(record.len() - 20);
            tls.sock.write_all(first).unwrap();
            turns.recv().unwrap();
            tls.sock.write_all(last).unwrap();
            turns.recv().unwrap();
            drop(to_server);
        };
        run(client, |stream, to_client, _| async move {
            let mut all = Vec::new();
            let first = poll_once(poll_fn(|cx| {
                let mut room = Vec::with_capacity(100);
                stream.poll_read_into(cx, &mut room)
            }));
            let _part_of_a_record = first.await;
            glommio::timer::sleep(Duration::from_millis(20)).await;
            to_client.send(0).unwrap();
            while all.len() < 1000 {
                let mut room = Vec::with_capacity(100);
                let read = poll_fn(|cx| stream.poll_read_into(cx, &mut room)).await;
                assert_eq!(read.unwrap(), 100);
                all.append(&mut room);
            }
            assert_eq!(all, [b'a'; 1000]);
            to_client.send(0).unwrap();
        });
    }
}
