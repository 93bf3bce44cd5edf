//! One output over UDP, as one shard sees it: sends what is packed, and knows whether anybody is there.
//!
//! UDP has no answers; but where nobody receives, the other machine says so (ICMP), and the kernel tells
//! it with a later send. An output that refuses counts as down for a moment: all that changes is whom
//! `mode = "balance"` chooses.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use futures_lite::future::poll_fn;

use crate::backend::shared::Shared;
use crate::clock::Moment;
use crate::engine::datagram::Outlet;
use crate::events::Event;
use crate::limits;
use crate::metrics::UdpDrop;
use crate::plan::OutputId;
use crate::shard::Shard;
use crate::udp::pack::Pack;

/// One output over UDP.
pub struct Output {
    id: OutputId,
    /// Which of the door's packs it is sent.
    pub pack: usize,
    shared: Arc<Shared>,
    socket: RefCell<Option<(SocketAddr, Rc<Outlet>)>>,
    /// It has refused a datagram: until when it counts as down.
    down_until: Cell<Moment>,
    /// What is wrong with it was told.
    told: Cell<bool>,
    /// A batch is being sent; others wait for their turn.
    sending: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Output {
    /// No socket yet.
    pub fn new(shard: &Shard, id: OutputId, pack: usize) -> Self {
        Self {
            id,
            pack,
            shared: Arc::clone(&shard.world.outputs[id.0]),
            socket: RefCell::default(),
            down_until: Cell::new(Moment(0)),
            told: Cell::new(false),
            sending: Cell::new(false),
            waiting: RefCell::default(),
        }
    }

    /// Whether it has not refused anything lately.
    pub fn is_up(&self, now: Moment) -> bool {
        now >= self.down_until.get()
    }

    /// Takes note of a new address of its name, and of its return. Once per tick.
    pub fn tick(&self, shard: &Shard) {
        let socket = &mut *self.socket.borrow_mut();
        if socket.as_ref().map(|socket| socket.0) != self.address() {
            *socket = None;
        }
        if self.told.get() && self.is_up(shard.driver.now()) {
            self.told.set(false);
            if let Some((_, outlet)) = socket {
                outlet.forgive(); // it is of before
            }
            shard.events.tell(Event::OutputUp {
                shard: shard.number,
                output: self.id,
            });
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        self.shared.addresses.load().first().copied()
    }

    fn socket(&self, shard: &Shard) -> Result<Rc<Outlet>, String> {
        let socket = &mut *self.socket.borrow_mut();
        if let Some((_, outlet)) = socket {
            return Ok(Rc::clone(outlet));
        }
        let Some(address) = self.address() else {
            self.shared.addresses_doubted.store(true, Ordering::Relaxed);
            return Err("its name has no address".to_owned());
        };
        let outlet = Outlet::connect(&shard.driver, address).map_err(|why| why.to_string())?;
        let outlet = Rc::new(outlet);
        *socket = Some((address, Rc::clone(&outlet)));
        Ok(outlet)
    }

    /// Sends all datagrams of a pack. What the kernel does not take is counted, not kept. Once per batch; one
    /// batch at a time.
    pub async fn send(&self, shard: &Shard, pack: &Pack) {
        poll_fn(|cx| match self.sending.get() {
            false => Poll::Ready(()),
            true => {
                self.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await;
        self.sending.set(true);
        self.send_now(shard, pack).await;
        self.sending.set(false);
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }

    async fn send_now(&self, shard: &Shard, pack: &Pack) {
        let row = &shard.metrics.outputs[self.id.0];
        let outlet = match self.socket(shard) {
            Ok(outlet) => outlet,
            Err(why) => return self.lose(shard, pack.lines(), &why),
        };
        let (ends, mut done, mut was_cut) = (pack.ends(), 0, false);
        while done < ends.len() {
            let start = done.checked_sub(1).map_or(0, |last| ends[last]);
            match outlet.send(pack.bytes(), start, &ends[done..]) {
                Ok(sent) => {
                    if was_cut {
                        self.refused(shard);
                    }
                    let whole = (ends.len() - done).min(limits::udp::CALL_MAX);
                    was_cut = sent < whole; // the kernel tells of an error only where nothing went
                    done += sent;
                    row.datagrams.add(sent as u64);
                    row.bytes.add((ends[done - 1] - start) as u64);
                }
                Err(why) if why.kind() == ErrorKind::WouldBlock => {
                    was_cut = false;
                    let due = shard.driver.now().after(limits::udp::SEND_WAIT_MAX);
                    if !outlet.writable(due).await {
                        let why = "its queue in the kernel stays full";
                        return self.lose(shard, &pack.lines()[done..], why);
                    }
                }
                Err(why) if why.kind() == ErrorKind::ConnectionRefused => {
                    was_cut = false;
                    self.refused(shard);
                }
                Err(why) => {
                    was_cut = false;
                    self.lose(shard, &pack.lines()[done..=done], &why.to_string());
                    done += 1;
                }
            }
        }
    }

    /// A datagram that was sent earlier has come back.
    fn refused(&self, shard: &Shard) {
        shard.metrics.outputs[self.id.0].refused.add(1);
        self.shared.addresses_doubted.store(true, Ordering::Relaxed);
        self.trouble(shard, "nobody receives there (connection refused)");
    }

    /// Datagrams with so many lines each are not sent.
    fn lose(&self, shard: &Shard, lines: &[u32], why: &str) {
        let row = &shard.metrics.outputs[self.id.0];
        row.failed.add(lines.len() as u64);
        let lines = lines.iter().map(|&lines| u64::from(lines)).sum();
        shard.metrics.udp.drop(UdpDrop::Output, lines);
        self.trouble(shard, why);
    }

    fn trouble(&self, shard: &Shard, why: &str) {
        self.down_until
            .set(shard.driver.now().after(limits::udp::DOWN_REST));
        if !self.told.replace(true) {
            shard.events.tell(Event::OutputDown {
                shard: shard.number,
                output: self.id,
                why: why.to_owned(),
            });
        }
    }
}
