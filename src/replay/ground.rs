//! What replay stands on: a clock, a disk, a backend. The shell has real ones; a simulation has its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::outgoing::Kind;
use crate::clock::Moment;
use crate::replay::judge::Sent;
use crate::spool::disk::DiskFile;
use crate::spool::source::Want;
use crate::spool::track::Track;

/// One request to the backend.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Which endpoint.
    pub kind: Kind,
    /// The query, without `?`.
    pub query: &'a [u8],
    /// Header lines.
    pub headers: &'a [u8],
    /// The client's `Authorization`.
    pub authorization: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// What is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpse {
    /// The status that condemned it; 0 where the backend died.
    pub status: u16,
    /// What the backend said.
    pub reason: String,
    /// Which endpoint it was for.
    pub kind: Kind,
    /// The query.
    pub query: Vec<u8>,
    /// The lines, or the whole body where it has none.
    pub body: Vec<u8>,
}

/// What operators hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The backend is owed something from now on.
    Owing,
    /// It is level, and takes writes as they come.
    Level,
    /// Something was set aside.
    Buried {
        /// How many pieces.
        pieces: usize,
        /// The status that condemned the first.
        status: u16,
        /// What the backend said of it.
        reason: String,
    },
    /// Dead letters could not be written, so what they hold is lost.
    Unburied(String),
    /// Records could not be read, and are lost.
    Damaged(u64),
    /// Something was dropped: which row of `board::DROPPED`, and how many records.
    Dropped(usize, u64),
    /// It does not take what it is owed: what it says.
    Stuck(String),
}

/// What replay stands on.
#[allow(async_fn_in_trait)] // one executor, nothing is sent to another thread
pub trait Ground {
    /// A file of a log.
    type File: DiskFile;

    /// Now, on the clock that orders are read from.
    fn now(&self) -> Moment;

    /// Milliseconds since 1970.
    fn wall_ms(&self) -> u64;

    /// Returns when the backend is not live.
    async fn while_live(&self);

    /// Lets others run for about so long.
    async fn rest(&self, span: Duration);

    /// Reads a piece of a log, off the shard.
    async fn read(&self, want: &Want<Self::File>) -> io::Result<Vec<u8>>;

    /// Sends one request and waits for the answer.
    async fn send(&self, request: Request<'_>) -> Sent;

    /// Whether the backend is taken for up.
    fn is_up(&self) -> bool;

    /// Whether every shard takes it for up: one that did not would miss the next write.
    fn is_up_everywhere(&self) -> bool;

    /// Writes dead letters, off the shard.
    async fn bury(&self, corpses: Vec<Corpse>) -> io::Result<()>;

    /// Inflates a gzip body; `None` if it is none.
    fn inflate(&self, body: &[u8]) -> Option<Vec<u8>>;

    /// The logs of earlier starts, oldest run first.
    fn old_logs(&self) -> Vec<Arc<Track<Self::File>>>;

    /// The logs of this start, one per shard.
    fn logs(&self) -> &[Arc<Track<Self::File>>];

    /// A number from 0 to 1, for jitter.
    fn dice(&self) -> u64;

    /// Tells operators.
    fn say(&self, news: News);
}
