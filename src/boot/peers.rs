//! What the other relays owe: they are asked, once a second, by a thread of its own.
//!
//! Two relays stand before the same backends, and each knows only what it owes itself. A backend that is
//! level here may lack what the other relay took for it: it must not answer queries either. What a relay
//! said last holds while it does not answer: a relay that is gone still owes what it has on its disk.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::{ClientConfig, ClientConnection};
use serde::Deserialize;

use crate::boot::tls::name_of;
use crate::boot::{StartError, helper, rest};
use crate::clock::Clock;
use crate::engine::tls_words;
use crate::limits;
use crate::plan::{PeerPlan, Plan};
use crate::shard::{LEVEL_EVERYWHERE, World};

/// As much of a peer's `/status` as matters here.
#[derive(Debug, Deserialize)]
struct Page {
    status: std::collections::BTreeMap<String, Row>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    buffering: u8,
    owed_bytes: u64,
}

/// Starts the thread, if there are any peers. It ends when another plan is in force.
pub(super) fn start(world: &Arc<World>, tls: Option<Arc<ClientConfig>>) -> Result<(), StartError> {
    if world.plan.peers.is_empty() {
        return Ok(());
    }
    let world = Arc::clone(world);
    helper("peers", move || {
        // Per peer, what it owes each backend.
        let mut owed =
            vec![vec![LEVEL_EVERYWHERE; world.plan.backends.len()]; world.plan.peers.len()];
        let mut silent = vec![false; world.plan.peers.len()];
        let clock = Clock::default();
        let has_not_spoken = wall_ms(&clock);
        for since in &world.peers_silent_since {
            since.store(has_not_spoken, Ordering::Relaxed);
        }
        while !world.is_over.load(Ordering::Relaxed) {
            for (p, peer) in world.plan.peers.iter().enumerate() {
                let asked = ask(peer, tls.as_ref().filter(|_| peer.tls));
                if silent[p] != asked.is_err() {
                    silent[p] = asked.is_err();
                    world.peers_silent_since[p].store(wall_ms(&clock), Ordering::Relaxed);
                    say(peer, asked.as_ref().err());
                }
                if let Ok(page) = asked {
                    world.peers_silent_since[p].store(0, Ordering::Relaxed);
                    owed[p] = debts(&world.plan, &page);
                }
            }
            for (b, debt) in world.peers_owe.iter().enumerate() {
                let most = owed.iter().map(|peer| peer[b]);
                let most = most.filter(|&bytes| bytes != LEVEL_EVERYWHERE).max();
                debt.store(most.unwrap_or(LEVEL_EVERYWHERE), Ordering::Relaxed);
            }
            rest(limits::PEER_INTERVAL);
        }
    })
}

fn wall_ms(clock: &Clock) -> u64 {
    clock.read();
    clock.correct();
    u64::try_from(clock.wall_ns() / 1_000_000).unwrap_or(0)
}

fn say(peer: &PeerPlan, why: Option<&String>) {
    match why {
        Some(why) => tracing::warn!(
            peer = %peer.shown,
            why,
            "the other relay does not say what it owes: what it said last holds"
        ),
        None => tracing::info!(peer = %peer.shown, "the other relay says what it owes"),
    }
}

/// What a peer owes each of our backends, by their labels or names.
fn debts(plan: &Plan, page: &Page) -> Vec<u64> {
    let backends = plan.backends.iter();
    let rows = backends.map(|backend| {
        let row = page.status.get(&backend.label);
        row.or_else(|| page.status.get(&backend.name))
    });
    rows.map(|row| match row {
        Some(row) if row.buffering > 0 => row.owed_bytes,
        _ => LEVEL_EVERYWHERE,
    })
    .collect()
}

/// Asks one peer for its `/status`. An answer is bounded in time and size.
#[allow(clippy::disallowed_methods)] // this thread exists to wait for DNS and for peers
fn ask(peer: &PeerPlan, tls: Option<&Arc<ClientConfig>>) -> Result<Page, String> {
    let words = |why: std::io::Error| {
        let tls = why.get_ref().and_then(|why| why.downcast_ref());
        tls.map_or_else(|| why.to_string(), |why| tls_words::words(why, None))
    };
    let mut addresses = (peer.host.as_str(), peer.port)
        .to_socket_addrs()
        .map_err(words)?;
    let address = addresses.next().ok_or("its name has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, limits::PEER_WAIT_MAX).map_err(words)?;
    stream
        .set_read_timeout(Some(limits::PEER_WAIT_MAX))
        .map_err(words)?;
    stream
        .set_write_timeout(Some(limits::PEER_WAIT_MAX))
        .map_err(words)?;
    let request = format!(
        "GET {}/status HTTP/1.0\r\nHost: {}:{}\r\nUser-Agent: influxdb-relay\r\n\r\n",
        peer.path, peer.host, peer.port
    );
    let answer = match tls {
        None => exchange(&mut stream, request.as_bytes()),
        Some(tls) => {
            let name = name_of("peers", &peer.host).map_err(|why| why.to_string())?;
            let mut session = ClientConnection::new(Arc::clone(tls), name)
                .map_err(|why| tls_words::words(&why, None))?;
            exchange(
                &mut rustls::Stream::new(&mut session, &mut stream),
                request.as_bytes(),
            )
        }
    };
    read(&answer.map_err(words)?)
}

fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream
        .take(limits::PEER_ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)?;
    Ok(answer)
}

fn read(answer: &[u8]) -> Result<Page, String> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n").ok_or("its answer has no head")?;
    let (head, body) = (&answer[..end], &answer[end + 4..]);
    if !head.starts_with(b"HTTP/1.") || head.get(8..13) != Some(b" 200 ") {
        return Err("it does not answer 200".to_owned());
    }
    serde_json::from_slice(body).map_err(|why| format!("its answer is no status page: {why}"))
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_status_page_is_read_and_nothing_else() {
        let page = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"status\":{\"a\":{\"buffering\":1,\"owedBytes\":7,\"other\":[]}}}";
        let read_well = read(page).unwrap();
        assert_eq!(read_well.status["a"].owed_bytes, 7);
        for wrong in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 401 No\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\n\r\n{\"status\":3}",
            b"SSH-2.0\r\n\r\n",
        ] {
            assert!(read(wrong).is_err());
        }
    }
}
