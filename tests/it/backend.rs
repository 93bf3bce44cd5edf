//! A backend that does what it is told: answer so, late, partly, wrongly, or not at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// What it does with a write, after it has waited.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Sends these bytes, and keeps the connection.
    Say(Vec<u8>),
    /// Sends these bytes, and closes.
    SayAndClose(Vec<u8>),
    /// Says nothing, and keeps the connection.
    Hang,
}

/// One write, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The head.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// A scripted backend.
pub(crate) struct Backend {
    /// Where it is.
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A whole answer.
pub(crate) fn status(status: u16, headers: &str, body: &str) -> Act {
    let length = if status == 204 {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    Act::Say(format!("HTTP/1.1 {status} Status\r\n{headers}{length}\r\n{body}").into_bytes())
}

impl Backend {
    /// A backend that waits, then does this with every write; pings are answered at once.
    pub(crate) fn new(wait: Duration, act: Act) -> Self {
        Self::with(move |_| (wait, act.clone()))
    }

    /// A backend that accepts at once.
    pub(crate) fn accepting() -> Self {
        Self::new(Duration::ZERO, status(204, "", ""))
    }

    /// A backend that decides by the number of the write.
    pub(crate) fn with(script: impl Fn(usize) -> (Duration, Act) + Send + Sync + 'static) -> Self {
        Self::over(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// The same, at a listener that there is.
    pub(crate) fn over(
        listener: TcpListener,
        script: impl Fn(usize) -> (Duration, Act) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (record, script) = (Arc::clone(&seen), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (record, script) = (Arc::clone(&record), Arc::clone(&script));
                thread::spawn(move || serve(stream, &record, &*script));
            }
        });
        Self { address, seen }
    }

    /// A backend that accepts at once, and keeps nothing of what it was sent.
    pub(crate) fn forgetful() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().ok()?);
                    while request(&mut reader).is_some() {
                        (&stream)
                            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                            .ok()?;
                    }
                    Some(())
                });
            }
        });
        Self {
            address,
            seen: Arc::default(),
        }
    }

    /// An address where nobody listens, and nobody will: the port stays taken.
    pub(crate) fn nobody() -> String {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap();
        socket.bind(&any.into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        std::mem::forget(socket);
        address.to_string()
    }

    /// The writes it was sent.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    stream: TcpStream,
    record: &Mutex<Vec<Seen>>,
    script: &dyn Fn(usize) -> (Duration, Act),
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let seen = request(&mut reader)?;
        if seen.head.starts_with("GET") {
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\nX-Influxdb-Version: 1.test\r\n\r\n")
                .ok()?;
            continue;
        }
        let number = {
            let mut record = record.lock().unwrap();
            record.push(seen);
            record.len() - 1
        };
        let (wait, act) = script(number);
        thread::sleep(wait);
        match act {
            Act::Say(bytes) => stream.write_all(&bytes).ok()?,
            Act::SayAndClose(bytes) => return stream.write_all(&bytes).ok(),
            Act::Hang => {}
        }
    }
}

/// The next request of a connection; `None` at its end.
pub(crate) fn request(reader: &mut BufReader<impl Read>) -> Option<Seen> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { head, body })
}
