//! The way of the log to stderr: a bounded queue of lines, and one thread that writes them.
//!
//! A write to stderr can fail (a full disk, a reader that is gone) and can block for ever (a pipe that
//! nobody reads). So no other thread writes there: a line that finds the queue full, or cannot be
//! written, is dropped and counted, and the next line is tried as ever. Once lines can be written again,
//! one line says how many were lost.

use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::fmt::MakeWriter;

use crate::boot::helper;
use crate::limits;
use crate::metrics::LOG_LINES_DROPPED;

/// The queue of this process, once [`open`] was called.
static QUEUE: OnceLock<Queue> = OnceLock::new();

struct Queue {
    lines: Sender<Item>,
    /// Bytes of the lines that wait.
    bytes: AtomicUsize,
}

enum Item {
    Line(Vec<u8>),
    /// Answered when all lines before it are written or dropped.
    Flush(Sender<()>),
}

/// Starts the thread that writes the lines. Once per process; without a thread, each line is written
/// by the thread that logs it.
pub(super) fn open() {
    let (lines, queue) = bounded(limits::LOG_QUEUE_LINES_MAX);
    if helper("log-sink", move || write_all(&queue)).is_ok() {
        let bytes = AtomicUsize::new(0);
        let _opened_twice = QUEUE.set(Queue { lines, bytes });
    }
}

/// Adds one line, or drops and counts it. Never waits.
pub(super) fn push(line: Vec<u8>) {
    let Some(queue) = QUEUE.get() else {
        if io::stderr().write_all(&line).is_err() {
            count_dropped(1);
        }
        return;
    };
    let length = line.len();
    let waiting = queue.bytes.fetch_add(length, Ordering::Relaxed);
    let has_room = waiting + length <= limits::LOG_QUEUE_BYTES_MAX;
    if !has_room || queue.lines.try_send(Item::Line(line)).is_err() {
        queue.bytes.fetch_sub(length, Ordering::Relaxed);
        count_dropped(1);
    }
}

/// Waits until the lines so far are written or dropped, for a bounded time: a reader may be stuck.
pub(super) fn flush() {
    let Some(queue) = QUEUE.get() else { return };
    let (done, is_done) = bounded(1);
    let wait = limits::LOG_FLUSH_WAIT_MAX;
    if queue.lines.send_timeout(Item::Flush(done), wait).is_ok() {
        let _stuck = is_done.recv_timeout(wait);
    }
}

fn count_dropped(lines: u64) {
    LOG_LINES_DROPPED.fetch_add(lines, Ordering::Relaxed);
}

/// Writes what comes, until the process ends.
fn write_all(queue: &Receiver<Item>) {
    let mut said = LOG_LINES_DROPPED.load(Ordering::Relaxed);
    let mut is_cut = false;
    for item in queue {
        let line = match item {
            Item::Line(line) => line,
            Item::Flush(done) => {
                let _nobody_waits_any_more = done.try_send(());
                continue;
            }
        };
        if let Some(queue) = QUEUE.get() {
            queue.bytes.fetch_sub(line.len(), Ordering::Relaxed);
        }
        let written = write_line(&line, &mut is_cut);
        if written.is_err() {
            count_dropped(1);
            continue;
        }
        let dropped = LOG_LINES_DROPPED.load(Ordering::Relaxed);
        if dropped > said {
            let lines = dropped - said;
            said = dropped; // before the line, which may itself be dropped
            tracing::warn!(lines, "lines of this log could not be written and are lost");
        }
    }
}

/// Writes one line; `is_cut` says that the line before it ended in its middle.
fn write_line(line: &[u8], is_cut: &mut bool) -> io::Result<()> {
    if *is_cut {
        write_bytes(b"\n", &mut false)?;
        *is_cut = false;
    }
    write_bytes(line, is_cut)
}

fn write_bytes(mut bytes: &[u8], is_cut: &mut bool) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(io::stderr(), bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                *is_cut = !bytes.is_empty();
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait_until_writable(),
            Err(why) => return Err(why.into()),
        }
    }
    Ok(())
}

/// Waits for room where somebody has made stderr non-blocking.
fn wait_until_writable() {
    let stderr = io::stderr();
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    let most = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let _asked_again = poll(&mut polled, Some(&most));
}

/// Collects each event of the log into one line.
pub(super) struct Lines;

/// One line that is being made.
pub(super) struct Line(Vec<u8>);

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(Vec::new())
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.0);
        if !line.is_empty() {
            push(line);
        }
    }
}
