//! TLS on a client's connection, before its first request.
//!
//! Each connection shakes hands in its own task, so a slow one keeps nobody from being accepted; it has
//! `header-timeout` for it, and is counted among the others meanwhile. What fails is counted, never logged:
//! anybody can make it fail.

use std::io;

use futures_lite::future::poll_fn;

use crate::engine::secure::Unsecured;
use crate::engine::stream::Stream;
use crate::engine::tls::ServerTls;
use crate::limits;
use crate::shard::Shard;

/// The words of Go's own server.
const PLAIN: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\nContent-Length: 48\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// The connection with TLS on it, or nothing: then the client has heard why, as far as it could.
pub async fn secured(shard: &Shard, tls: &ServerTls, mut stream: Stream) -> Option<Stream> {
    let wait = match shard.draining.get() {
        true => limits::DRAIN_IDLE_WAIT_MAX,
        false => shard.world.plan.limits.head_wait_max,
    };
    stream.rest_until(shard.driver.now().after(wait));
    match stream.secure(tls.load_full()).await {
        Ok(()) => return Some(stream),
        Err(Unsecured::Silent) => return None, // many load balancers ask so whether the port is open
        Err(Unsecured::NotTls(byte)) if byte.is_ascii_uppercase() => {
            let _if_it_fits = stream.try_send(PLAIN); // a method begins so
        }
        Err(Unsecured::Failed(why)) if why.kind() == io::ErrorKind::TimedOut => {
            shard.metrics.tls_failed.add(1);
            return None; // it has had its time
        }
        Err(Unsecured::NotTls(_) | Unsecured::Failed(_)) => {}
    }
    shard.metrics.tls_failed.add(1);
    linger(shard, &stream).await;
    None
}

/// Throws away what the client still sends, within bounds: a reset would take the last words with it.
async fn linger(shard: &Shard, stream: &Stream) {
    stream.finish();
    stream.set_deadline(shard.driver.now().after(limits::LINGER_WAIT_MAX));
    let mut thrown = 0;
    while thrown < limits::LINGER_BYTES_MAX {
        match poll_fn(|cx| stream.poll_read_with(cx, <[u8]>::len)).await {
            Ok(0) | Err(_) => return,
            Ok(count) => thrown += count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PLAIN;

    #[test]
    fn the_canned_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(PLAIN).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }
}
