//! Accepts connections for one shard, until a drain has taken what the kernel had queued, or no plan has the
//! address any more.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_lite::FutureExt;
use futures_lite::future::yield_now;

use crate::engine::listener::Listener;
use crate::engine::stream::Stream;
use crate::engine::timer;
use crate::engine::tls::ServerTls;
use crate::events::Event;
use crate::front::connection;
use crate::front::in_force::Entrance;
use crate::front::secure;
use crate::front::wish::Door;
use crate::limits;
use crate::shard::Shard;

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
    X-Influxdb-Error: too many connections\r\nRetry-After: 1\r\nContent-Length: 33\r\n\
    Connection: close\r\n\r\n{\"error\":\"too many connections\"}\n";

/// Accepts until the shard drains and the queue is empty, or the entrance is closed; then the socket closes.
pub async fn run(entrance: Rc<Entrance>, listener: Rc<Listener>) {
    let mut failing = false;
    let mut in_a_row = 0;
    while entrance.door().is_some() {
        let shard = entrance.in_force.shard();
        if shard.draining.get() && !shard.is_ending() {
            return; // what is queued is its successor's
        }
        match listener.try_accept() {
            Ok(Some(fd)) => {
                failing = false;
                if let Ok(stream) = Stream::accepted(&shard.driver, fd) {
                    welcome(&entrance, stream);
                }
                in_a_row += 1;
                if in_a_row == limits::ACCEPTS_IN_A_ROW_MAX {
                    in_a_row = 0;
                    yield_now().await;
                }
            }
            Ok(None) if shard.draining.get() => return,
            Ok(None) => {
                in_a_row = 0;
                drop(shard);
                listener.readable().await;
            }
            Err(error) => {
                if !failing {
                    shard.events.tell(Event::AcceptFailed {
                        shard: shard.number,
                        why: error.to_string(),
                    });
                }
                failing = true;
                timer::sleep(limits::ACCEPT_REST).await;
            }
        }
    }
}

fn welcome(entrance: &Rc<Entrance>, stream: Stream) {
    let in_force = &entrance.in_force;
    let shard = in_force.shard();
    shard.metrics.accepted.add(1);
    let Some(door) = entrance.door() else { return };
    if in_force.connections() >= shard.world.plan.limits.connections_max {
        if tls(&shard, &door).is_none() {
            let _if_it_fits = stream.try_send(FULL);
        }
        stream.finish();
        return;
    }
    in_force.count(1);
    let entrance = Rc::clone(entrance);
    glommio::spawn_local(async move {
        let serving = async {
            let stream = match tls(&shard, &door) {
                None => Some(stream),
                Some(tls) => secure::secured(&shard, tls, stream).await,
            };
            drop((shard, door)); // another plan may come into force
            if let Some(stream) = stream {
                connection::serve(&entrance, stream).await;
            }
        };
        if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
            let shard = entrance.in_force.shard();
            shard.events.tell(Event::TaskPanicked {
                shard: shard.number,
            });
        }
        entrance.in_force.count(-1);
    })
    .detach();
}

/// What the door shows its clients; `None` is plain HTTP, as the admin door always is.
fn tls<'a>(shard: &'a Shard, door: &Door) -> Option<&'a ServerTls> {
    shard.world.tls.get(usize::from(door.number))?.as_ref()
}

#[cfg(test)]
mod tests {
    use super::FULL;

    #[test]
    fn the_canned_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }
}
