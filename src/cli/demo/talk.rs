//! Small talk over HTTP, for the demo: one request, one answer, and the time it may take.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::limits::tools::{TOOL_ANSWER_BYTES_MAX, TOOL_WAIT_MAX};

/// A connection that is kept between requests, and made anew when it has died.
pub(super) struct Talk {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

/// An answer.
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// Header lines.
    head: String,
    /// Its body.
    pub(super) body: String,
}

impl Answer {
    /// The value of a header, named in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Talk {
    /// Nothing is connected yet.
    pub(super) fn to(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            stream: None,
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// Whatever is no answer; the next request begins with a new connection.
    pub(super) fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &str,
        body: &str,
    ) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TOOL_WAIT_MAX))?;
                stream.set_write_timeout(Some(Duration::from_secs(5)))?;
                BufReader::new(stream)
            }
        };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: demo\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let answer = read(&mut stream)?;
        if answer.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let nonsense = || io::Error::other("no HTTP answer");
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let mut answer = Answer {
        status: status.ok_or_else(nonsense)?,
        head,
        body: String::new(),
    };
    let mut body = Vec::new();
    if answer.header("transfer-encoding") == Some("chunked") {
        while chunk(stream, &mut body)? > 0 {}
    } else if let Some(length) = answer.header("content-length") {
        let length: u64 = length.parse().map_err(io::Error::other)?;
        stream
            .take(length.min(TOOL_ANSWER_BYTES_MAX))
            .read_to_end(&mut body)?;
    }
    answer.body = String::from_utf8_lossy(&body).into_owned();
    Ok(answer)
}

fn chunk(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<u64> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let length = u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
    stream
        .take(length.min(TOOL_ANSWER_BYTES_MAX))
        .read_to_end(body)?;
    stream.read_line(&mut line)?;
    Ok(length)
}
