//! Changes of state, on their way from a shard to the log: a bounded queue, never waited for.
//!
//! A shard says what changed and goes on; one thread outside the shards makes words of it. When the
//! queue is full the event is dropped and counted, since a log may not slow a write.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::limits;
use crate::plan::{BackendId, OutputId};

/// One change of state, as a shard saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The backend answers again.
    BackendUp {
        /// Who saw it.
        shard: usize,
        /// Which backend.
        backend: BackendId,
    },
    /// The backend no longer takes writes.
    BackendDown {
        /// Who saw it.
        shard: usize,
        /// Which backend.
        backend: BackendId,
        /// What was last heard of it.
        why: String,
    },
    /// The backend answers, and takes no write.
    BackendRefuses {
        /// Who saw it.
        shard: usize,
        /// Which backend.
        backend: BackendId,
        /// What it answers.
        why: String,
    },
    /// It takes writes again.
    BackendTakes {
        /// Who saw it.
        shard: usize,
        /// Which backend.
        backend: BackendId,
        /// How many writes it had refused to this shard.
        refused: u64,
    },
    /// This machine lacks something for a connection to the backend: a port, a descriptor.
    OwnTrouble {
        /// Who saw it.
        shard: usize,
        /// Which backend.
        backend: BackendId,
        /// What the kernel said, and what to do.
        why: String,
    },
    /// The backend can be connected to again.
    OwnTroubleOver {
        /// Who saw it.
        shard: usize,
        /// Which backend.
        backend: BackendId,
    },
    /// Accepting failed, mostly for want of descriptors; it rests and tries again.
    AcceptFailed {
        /// Who saw it.
        shard: usize,
        /// What the kernel said.
        why: String,
    },
    /// The backend missed what another accepted: new writes for it are kept, not sent.
    Owing {
        /// Which backend.
        backend: BackendId,
    },
    /// It has everything again.
    Level {
        /// Which backend.
        backend: BackendId,
    },
    /// It is up, and does not take what it is owed.
    Stuck {
        /// Which backend.
        backend: BackendId,
        /// What it says.
        why: String,
    },
    /// Something that it will never take was set aside.
    Buried {
        /// Which backend.
        backend: BackendId,
        /// How many lines or bodies.
        pieces: usize,
        /// What it answered to the first of them; 0 if it died.
        status: u16,
        /// What it said.
        reason: String,
    },
    /// Dead letters could not be written.
    Unburied {
        /// Which backend.
        backend: BackendId,
        /// What the disk said.
        why: String,
    },
    /// Records for it could not be read.
    Damaged {
        /// Which backend.
        backend: BackendId,
        /// How many, at least.
        records: u64,
    },
    /// Records for it were dropped.
    Dropped {
        /// Which backend.
        backend: BackendId,
        /// Why: a row of the spool's reasons.
        row: usize,
        /// How many.
        records: u64,
    },
    /// An operator wants dropped what backends are owed.
    Flushed {
        /// How many backends are owed anything.
        backends: usize,
        /// The one that is meant; `None` is all of an address.
        backend: Option<BackendId>,
    },
    /// The spool's disk takes no writes.
    SpoolFailed {
        /// Which shard's log.
        shard: usize,
        /// What the disk said.
        why: String,
    },
    /// It takes them again.
    SpoolRecovered {
        /// Which shard's log.
        shard: usize,
    },
    /// An output over UDP does not take datagrams.
    OutputDown {
        /// Who saw it.
        shard: usize,
        /// Which output.
        output: OutputId,
        /// What was seen.
        why: String,
    },
    /// It has refused none for a moment.
    OutputUp {
        /// Who saw it.
        shard: usize,
        /// Which output.
        output: OutputId,
    },
    /// The kernel drops datagrams, since the queue of a UDP door is full; or a loss has ended.
    UdpLoss {
        /// Whose queue.
        shard: usize,
        /// Which UDP door of the plan.
        door: usize,
        /// How many were lost, once it has ended.
        lost: Option<u64>,
    },
    /// A client has connected. Told with `RELAY_LOG=debug` only, as are the next two.
    Connected {
        /// To which shard.
        shard: usize,
        /// Its address.
        peer: Option<IpAddr>,
    },
    /// Its connection is closed.
    Disconnected {
        /// Of which shard.
        shard: usize,
        /// Its address.
        peer: Option<IpAddr>,
        /// How many requests came by it.
        requests: u64,
    },
    /// A request was answered.
    Answered {
        /// By which shard.
        shard: usize,
        /// Where it went.
        path: &'static str,
        /// How.
        method: &'static str,
        /// With what.
        status: u16,
        /// From its first byte to its answer.
        took: Duration,
    },
    /// A task met a bug and was ended; its connection is closed, everything else goes on.
    TaskPanicked {
        /// Who saw it.
        shard: usize,
    },
}

/// An event, and the plan by which its numbers count: the first, the second … of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which plan was in force for who saw it.
    pub generation: u64,
    /// What changed.
    pub event: Event,
}

/// A shard's end of the queue.
#[derive(Debug, Clone)]
pub struct Events {
    queue: Sender<Told>,
    dropped: Arc<AtomicU64>,
    generation: u64,
}

impl Events {
    /// The queue: the end that all shards share, and the one that the log thread reads.
    pub fn queue() -> (Self, Receiver<Told>) {
        let (sender, receiver) = bounded(limits::EVENT_QUEUE_MAX);
        let events = Self {
            queue: sender,
            dropped: Arc::default(),
            generation: 0,
        };
        (events, receiver)
    }

    /// The same queue, for those who go by another plan.
    #[must_use]
    pub fn of(&self, generation: u64) -> Self {
        Self {
            generation,
            ..self.clone()
        }
    }

    /// Says what changed. Never waits.
    pub fn tell(&self, event: Event) {
        let told = Told {
            generation: self.generation,
            event,
        };
        if self.queue.try_send(told).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says a detail, if half of the queue is free: what matters goes first. Never waits.
    pub fn tell_detail(&self, event: Event) {
        if self.queue.len() < limits::EVENT_QUEUE_MAX / 2 {
            self.tell(event);
        }
    }

    /// Events that found the queue full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
