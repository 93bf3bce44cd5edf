//! One link: a connection to a backend, the request it carries, the answer it brings.
//!
//! The task that submits a write also sends it, there and then; only what the kernel does not take at
//! once is left to the link's own task, which reads the answer, settles the jobs and takes the next.
//! A request is sent a second time only where that is safe: nothing of it was sent, or a link that
//! had worked before died without a byte of an answer (writes are idempotent once stamped).

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_lite::FutureExt;
use futures_lite::future::poll_fn;

use crate::backend::answer::{AnswerReader, Fed, Reply};
use crate::backend::compose::compose;
use crate::backend::compress::Held;
use crate::backend::lane::Job;
use crate::backend::outcome::{Failure, Outcome};
use crate::backend::own_trouble::lacks;
use crate::backend::pool::Backend;
use crate::clock::Moment;
use crate::engine::driver::Driver;
use crate::engine::stream::Stream;
use crate::events::Event;
use crate::limits::beside::COMPRESSED_KEEP_BYTES;

/// A connection to a backend.
pub struct Link {
    backend: Rc<Backend>,
    stream: OnceCell<Stream>,
    /// The head, and the bodies where they are small or compressed; a large body is sent from its flight.
    out: RefCell<Vec<u8>>,
    compressed: RefCell<Option<Held>>,
    sent: Cell<usize>,
    total: Cell<usize>,
    send_failed: Cell<bool>,
    /// What is under way: one, or several that were joined.
    jobs: RefCell<Vec<Job>>,
    settling: RefCell<Vec<Job>>,
    joined: Cell<bool>,
    answered: Cell<u64>,
    /// The next answer is its last.
    is_retired: Cell<bool>,
    reader: RefCell<AnswerReader>,
    reply: RefCell<Reply>,
}

/// How an exchange ended.
enum End {
    Answered {
        reusable: bool,
    },
    Failed(Failure),
    /// Nothing was under way, and the backend hung up.
    Gone,
}

impl Link {
    /// Opens a link for `jobs`, which are at least one.
    pub(super) fn open(backend: &Rc<Backend>, jobs: Vec<Job>) {
        Self::open_for(backend, jobs, false);
    }

    /// Opens a link for jobs that were joined.
    pub(super) fn open_joined(backend: &Rc<Backend>, jobs: &mut Vec<Job>) {
        Self::open_for(backend, std::mem::take(jobs), true);
    }

    fn open_for(backend: &Rc<Backend>, jobs: Vec<Job>, joined: bool) {
        let link = Rc::new(Self {
            backend: Rc::clone(backend),
            stream: OnceCell::new(),
            out: RefCell::default(),
            compressed: RefCell::default(),
            sent: Cell::new(0),
            total: Cell::new(0),
            send_failed: Cell::new(false),
            jobs: RefCell::new(jobs),
            settling: RefCell::default(),
            joined: Cell::new(joined),
            answered: Cell::new(0),
            is_retired: Cell::new(false),
            reader: RefCell::default(),
            reply: RefCell::default(),
        });
        backend.link_opened(&link);
        glommio::spawn_local(async move {
            if AssertUnwindSafe(Rc::clone(&link).run())
                .catch_unwind()
                .await
                .is_err()
            {
                let around = &link.backend.around;
                around.events.tell(Event::TaskPanicked {
                    shard: around.shard,
                });
            }
            link.fail(Failure::Closed);
            link.backend.link_gone(&link);
            link.backend.pump();
        })
        .detach();
    }

    /// Whatever is under way has until `due`; a link at rest closes then.
    pub(super) fn end_at(&self, due: Moment) {
        if let Some(stream) = self.stream.get() {
            stream.set_deadline(due);
        }
    }

    /// The connection, once there is one.
    pub(super) fn stream(&self) -> Option<&Stream> {
        self.stream.get()
    }

    /// Has the link end after the answer that is under way.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
    }

    /// Sends a write on this idle link.
    pub(super) fn begin(self: Rc<Self>, job: Job) {
        self.jobs.borrow_mut().push(job);
        self.send_first();
    }

    /// Sends writes that were joined on this idle link.
    pub(super) fn begin_joined(self: Rc<Self>, jobs: &mut Vec<Job>) {
        self.joined.set(true);
        self.jobs.borrow_mut().append(jobs);
        self.send_first();
    }

    async fn run(self: Rc<Self>) {
        let due = self
            .jobs
            .borrow()
            .first()
            .map_or(Moment::NEVER, |job| job.due);
        match connect(&self.backend, due).await {
            Ok(stream) => {
                let _first = self.stream.set(stream);
            }
            Err(error) => {
                let failure = self.backend.connect_failed(&error);
                if failure == Failure::Local && self.backend.has_link() {
                    return self.hand_back();
                }
                return self.fail(failure);
            }
        }
        if self.backend.is_cut() {
            return self.fail(Failure::Down);
        }
        self.send_first();
        loop {
            match poll_fn(|cx| self.poll(cx)).await {
                End::Answered { reusable } => {
                    let reusable = reusable && !self.is_retired.get();
                    self.settle(reusable);
                    if !reusable {
                        return;
                    }
                }
                End::Failed(failure) => {
                    if !self.retry(failure) {
                        let complaint = self.stream.get().and_then(Stream::complaint);
                        let why = complaint.as_deref().unwrap_or_else(|| failure.words());
                        self.backend.failed(failure, why);
                        self.fail(failure);
                    }
                    return;
                }
                End::Gone => return,
            }
        }
    }

    /// Puts the request together and sends what the kernel takes.
    fn send_first(&self) {
        let Some(stream) = self.stream.get() else {
            return;
        };
        let now = self.backend.around.driver.now();
        let jobs = &mut *self.jobs.borrow_mut();
        let Some(first) = jobs.first() else { return };
        stream.set_deadline(first.due);
        let out = &mut *self.out.borrow_mut();
        out.clear();
        let (total, compressed) = compose(out, &self.backend, jobs);
        self.total.set(total);
        *self.compressed.borrow_mut() = compressed;
        jobs.iter_mut().for_each(|job| job.sent = now);
        self.sent.set(0);
        self.send_failed.set(false);
        self.send_more(stream, out, jobs);
        if self.sent.get() < self.total.get() {
            stream.poke();
        }
    }

    /// Sends what the kernel takes; whether it took anything.
    fn send_more(&self, stream: &Stream, out: &[u8], jobs: &[Job]) -> bool {
        let (sent, total) = (self.sent.get(), self.total.get());
        let sending = if total == out.len() {
            stream.try_send(&out[sent..])
        } else {
            let Some(job) = jobs.first() else {
                return false;
            };
            let request = job.request();
            match out.get(sent..) {
                Some(head) => stream.try_send_two(head, &request.body),
                None => stream.try_send(&request.body[sent - out.len()..]),
            }
        };
        match sending {
            Ok(count) => {
                self.sent.set(sent + count);
                count > 0
            }
            Err(_) => {
                // The backend may have answered before it hung up: what there is to read decides.
                self.send_failed.set(true);
                false
            }
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<End> {
        let Some(stream) = self.stream.get() else {
            return Poll::Ready(End::Failed(Failure::Connect));
        };
        loop {
            let idle = self.jobs.borrow().is_empty();
            let sending = !idle && !self.send_failed.get() && self.sent.get() < self.total.get();
            if sending {
                self.send_more(stream, &self.out.borrow(), &self.jobs.borrow());
            }
            let read = stream.poll_read_with(cx, |bytes| {
                if bytes.is_empty() {
                    return None;
                }
                Some(
                    self.reader
                        .borrow_mut()
                        .feed(bytes, &mut self.reply.borrow_mut()),
                )
            });
            let end = match read {
                Poll::Pending
                    if sending && !self.send_failed.get() && self.sent.get() < self.total.get() =>
                {
                    match stream.poll_writable(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(())) => continue,
                        Poll::Ready(Err(_)) => End::Failed(Failure::TimedOut),
                    }
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) if idle => End::Gone,
                Poll::Ready(Ok(Some(Fed::More))) => continue,
                Poll::Ready(Ok(Some(Fed::Nonsense))) => End::Failed(Failure::Nonsense),
                Poll::Ready(Ok(Some(Fed::Whole { reusable }))) => self.whole(reusable),
                Poll::Ready(Ok(None)) => match self.reader.borrow_mut().end() {
                    Fed::Whole { reusable } => self.whole(reusable),
                    _ => End::Failed(Failure::Closed),
                },
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                    End::Failed(Failure::TimedOut)
                }
                Poll::Ready(Err(_)) => End::Failed(Failure::Closed),
            };
            return Poll::Ready(end);
        }
    }

    /// An answer that came before the whole request was sent leaves the link in mid-body.
    fn whole(&self, reusable: bool) -> End {
        End::Answered {
            reusable: reusable && self.sent.get() == self.total.get(),
        }
    }

    /// The answer is whole: everybody hears it. The link rests first, so that a lane's next write
    /// takes the one that is warm.
    fn settle(self: &Rc<Self>, reusable: bool) {
        self.answered.set(self.answered.get() + 1);
        self.reader.borrow_mut().reset();
        let Some(mut settling) = self.take_jobs() else {
            return;
        };
        let backend = &self.backend;
        backend.answered();
        if let (Some(stream), true) = (self.stream.get(), reusable) {
            stream.set_deadline(Moment::NEVER);
            backend.link_rests(self);
        }
        let reply = self.reply.take();
        let kind = settling.first().map(|job| job.request().kind);
        let outcome = Outcome::of_reply(kind.unwrap_or_default(), &reply);
        let joined = self.joined.replace(false);
        // Only these speak of single points. Any other answer is that of all: asking again one by one would multiply
        // the load of a backend that has too much of it.
        let one_by_one = matches!(reply.status, 400 | 413 | 422) && settling.len() > 1;
        let now = backend.around.driver.now();
        for mut job in settling.drain(..) {
            backend
                .metrics()
                .request_duration
                .observe(now.since(job.sent));
            if one_by_one {
                job.alone = true;
                backend.start(job);
            } else {
                job.settle(outcome, Some(&reply));
            }
        }
        self.settling.replace(settling);
        self.reply.replace(reply);
        if joined {
            backend.joiner.landed();
        }
        backend.pump();
    }

    /// Whether the jobs go out again, on a new link.
    fn retry(&self, failure: Failure) -> bool {
        let unheard = !self.reader.borrow().has_begun();
        let safe = self.answered.get() > 0 || self.sent.get() == 0;
        if failure != Failure::Closed
            || !unheard
            || !safe
            || self.jobs.borrow().iter().any(|job| job.retried)
        {
            return false;
        }
        self.let_go();
        let mut jobs = self.jobs.take();
        jobs.iter_mut().for_each(|job| job.retried = true);
        if self.joined.replace(false) {
            self.backend.joiner.landed();
        }
        for mut job in jobs {
            job.alone = true;
            Self::open(&self.backend, vec![job]);
        }
        true
    }

    /// What is under way waits for another link.
    fn hand_back(self: &Rc<Self>) {
        if self.joined.replace(false) {
            self.backend.joiner.landed();
        }
        for job in self.take_jobs().into_iter().flatten() {
            self.backend.start(job);
        }
    }

    /// Whatever is under way has failed.
    fn fail(self: &Rc<Self>, failure: Failure) {
        if self.joined.replace(false) {
            self.backend.joiner.landed();
        }
        let Some(mut settling) = self.take_jobs() else {
            return;
        };
        for job in settling.drain(..) {
            job.settle(Outcome::Failed(failure), None);
        }
    }

    /// A compressed body is no longer needed. It may be large, and there may be many links.
    fn let_go(&self) {
        let out = &mut *self.out.borrow_mut();
        if self.compressed.take().is_some() && out.capacity() > COMPRESSED_KEEP_BYTES {
            *out = Vec::new();
        }
    }

    fn take_jobs(&self) -> Option<Vec<Job>> {
        self.let_go();
        let jobs = &mut *self.jobs.borrow_mut();
        if jobs.is_empty() {
            return None;
        }
        let mut settling = self.settling.take();
        std::mem::swap(jobs, &mut settling);
        Some(settling)
    }
}

/// Connects to the first of the backend's addresses that takes it, until `due` at most; if its name gets
/// others meanwhile, to one of those.
pub(super) async fn connect(backend: &Backend, due: Moment) -> io::Result<Stream> {
    loop {
        let addresses: Arc<Vec<SocketAddr>> = backend.shared.addresses.load_full();
        let connected = connect_to(backend, &addresses, due).await;
        let is_late = backend.around.driver.now() >= due;
        let has_moved = !Arc::ptr_eq(&addresses, &backend.shared.addresses.load());
        match connected {
            Ok(stream) if has_moved && !is_late && !backend.is_at(&stream) => {}
            Err(_) if has_moved && !is_late => {}
            Ok(stream) => {
                backend.own_trouble_ends();
                return Ok(stream);
            }
            Err(why) => return Err(why),
        }
    }
}

async fn connect_to(
    backend: &Backend,
    addresses: &[SocketAddr],
    due: Moment,
) -> io::Result<Stream> {
    let driver: &Rc<Driver> = &backend.around.driver;
    let mut last = io::Error::other("its name has no address yet");
    for (index, &address) in addresses.iter().enumerate() {
        let left = due.since(driver.now());
        let tries = u32::try_from(addresses.len() - index).unwrap_or(1);
        let deadline = driver.now().after(left / tries.max(1));
        let connected = match &backend.shared.tls {
            None => Stream::connect(driver, address, deadline).await,
            Some(tls) => Stream::connect_secure(driver, address, deadline, tls).await,
        };
        match connected {
            Ok(stream) => return Ok(stream),
            // Our own trouble is the reason only where no address has another.
            Err(error) if index > 0 && lacks(&error).is_some() && lacks(&last).is_none() => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}
