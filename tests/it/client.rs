//! A client that speaks bytes, so that a test can say anything, and hears everything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Header names in lower case, and values, sorted.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body.
    pub(crate) body: String,
}

impl Answer {
    /// The value of one header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|header| header.0 == name)
            .map(|header| header.1.as_str())
    }
}

/// What a connection is made of: TCP, or TLS on it.
pub(crate) trait Wire: Read + Write + Send {
    /// Says that no more will come.
    fn end(&mut self);

    /// Has its close be a reset.
    fn reset(&mut self) {
        panic!("only TCP can be reset");
    }
}

impl Wire for TcpStream {
    fn end(&mut self) {
        let _already = self.shutdown(Shutdown::Write);
    }

    fn reset(&mut self) {
        let socket = socket2::SockRef::from(&*self);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// One connection.
pub(crate) struct Client {
    reader: BufReader<Box<dyn Wire>>,
}

impl Client {
    /// Connects.
    pub(crate) fn new(address: &str) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// Speaks on a connection that there is.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self::on(Box::new(stream))
    }

    /// Speaks on whatever there is.
    pub(crate) fn on(wire: Box<dyn Wire>) -> Self {
        Self {
            reader: BufReader::new(wire),
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> &mut Self {
        let _the_answer_tells = self.reader.get_mut().write_all(bytes);
        self
    }

    /// Says that no more will come.
    pub(crate) fn finish(&mut self) -> &mut Self {
        self.reader.get_mut().end();
        self
    }

    /// Ends the connection by a reset: what was not read on either side is gone.
    pub(crate) fn reset(&mut self) {
        self.reader.get_mut().reset();
    }

    /// Reads one answer; `None` when the relay has closed.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        self.answer_to("POST")
    }

    /// Reads the answer to a request of this method.
    pub(crate) fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        headers.sort();
        let value = |name: &str| {
            headers
                .iter()
                .find(|header| header.0 == name)
                .map(|header| header.1.clone())
        };
        let length = value("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = Vec::new();
        if value("transfer-encoding").as_deref() == Some("chunked") {
            while self.chunk(&mut body)? > 0 {}
        } else if method != "HEAD" {
            body.resize(length, 0);
            self.reader.read_exact(&mut body).ok()?;
        }
        Some(Answer {
            status,
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    fn chunk(&mut self, body: &mut Vec<u8>) -> Option<usize> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes).ok()?;
        body.extend_from_slice(&bytes[..length]);
        Some(length)
    }

    /// Everything until the relay closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _reset_is_an_end_too = self.reader.read_to_end(&mut rest);
        rest
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(address: &str, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
    ask_on(&mut Client::new(address), method, target, headers, body)
}

/// One request on a connection that there is.
pub(crate) fn ask_on(
    client: &mut Client,
    method: &str,
    target: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: r\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(&[head.as_bytes(), body].concat());
    client
        .answer_to(method)
        .unwrap_or_else(|| panic!("{method} {target}: no answer"))
}

/// One write.
pub(crate) fn write(address: &str, target: &str, body: &str) -> Answer {
    ask(address, "POST", target, "", body.as_bytes())
}

/// Waits until `is` holds, for ten seconds at most.
pub(crate) fn until(what: &str, is: impl FnMut() -> bool) {
    within(Duration::from_secs(10), what, is);
}

/// Waits until `is` holds, for `most` at most.
pub(crate) fn within(most: Duration, what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + most;
    while !is() {
        assert!(Instant::now() < end, "in vain for {most:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
