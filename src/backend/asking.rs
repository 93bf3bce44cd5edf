//! Connections for questions to one backend. They are not the pool's: a question may stream for minutes, and
//! must not stand in the way of a write.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use crate::backend::exchange::connect;
use crate::backend::outgoing::Request;
use crate::backend::pool::Backend;
use crate::backend::request::push_start;
use crate::clock::Moment;
use crate::engine::stream::Stream;
use crate::http::response::push_decimal;
use crate::limits;

/// Questions to one backend, as one shard sees them.
#[derive(Default)]
pub struct Asking {
    idle: RefCell<Vec<Stream>>,
    outstanding: Cell<usize>,
    closed: Cell<bool>,
}

impl Asking {
    /// No more questions: what is at rest is closed.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.idle.take();
    }

    /// Closes what is at rest and does not satisfy `stays`.
    pub(super) fn retain(&self, stays: impl Fn(&Stream) -> bool) {
        self.idle.borrow_mut().retain(stays);
    }
}

/// A question that is under way.
pub struct UnderWay(Rc<Backend>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let outstanding = &self.0.asking.outstanding;
        outstanding.set(outstanding.get() - 1);
    }
}

impl Backend {
    /// Questions to it that are under way on this shard.
    pub fn outstanding(&self) -> usize {
        self.asking.outstanding.get()
    }

    /// Counts a question, for as long as the result is held.
    pub fn question(self: &Rc<Self>) -> UnderWay {
        self.asking.outstanding.set(self.outstanding() + 1);
        UnderWay(Rc::clone(self))
    }

    /// A connection that was used before, if there is one: it may have died meanwhile.
    pub fn used_connection(&self) -> Option<Stream> {
        let idle = &mut *self.asking.idle.borrow_mut();
        while let Some(stream) = idle.pop() {
            if self.is_at(&stream) {
                return Some(stream);
            }
        }
        None
    }

    /// A new connection. If there is none to be had, its health hears of it.
    ///
    /// # Errors
    /// What the kernel says; `TimedOut` at `due`.
    pub async fn new_connection(self: &Rc<Self>, due: Moment) -> io::Result<Stream> {
        let connected = connect(self, due).await;
        if let Err(why) = &connected {
            let _counted_by_who_asks = self.connect_failed(why);
        }
        connected
    }

    /// A connection whose answer has been read whole.
    pub fn give_back(&self, stream: Stream) {
        let idle = &mut *self.asking.idle.borrow_mut();
        if idle.len() < limits::ASKING_IDLE_MAX && !self.asking.closed.get() {
            stream.set_deadline(Moment::NEVER);
            idle.push(stream);
        }
    }

    /// Appends the head of a question: the client's query and headers, this backend's path, host and
    /// credentials, framed anew.
    pub fn push_question(&self, out: &mut Vec<u8>, method: &str, path: &[u8], request: &Request) {
        push_start(out, method, path, &self.plan, request);
        out.extend_from_slice(&request.headers);
        if method != "GET" || !request.body.is_empty() {
            out.extend_from_slice(b"Content-Length: ");
            push_decimal(request.body.len() as u64, out);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}
