//! One backend as all shards know it: its addresses, how it is met over TLS, and what is wrong with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::backend::answer::Reply;
use crate::backend::outcome::{Failure, Outcome};
use crate::backend::voice::Voice;
use crate::engine::tls::ClientTls;
use crate::limits;

/// What all shards share of one backend; nothing on the request path writes it.
#[derive(Debug, Default)]
pub struct Shared {
    /// Where it is, by DNS or by its literal address; empty while the name has no address.
    pub addresses: ArcSwap<Vec<SocketAddr>>,
    /// How it is met over TLS; `None` is plain HTTP.
    pub tls: Option<ClientTls>,
    /// A shard could not connect, or had no answer: the name is looked up again soon.
    pub addresses_doubted: AtomicBool,
    /// Its say in what clients hear.
    pub voice: Voice,
    /// How often a shard has found it up again: the others ask too then.
    pub returns: AtomicU64,
    /// What it calls itself (`X-Influxdb-Version`), as last heard by a probe.
    pub version: ArcSwapOption<String>,
    /// What is wrong with it, until it is over.
    pub last_error: ArcSwapOption<LastError>,
}

/// What was last wrong with a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// In words.
    pub words: String,
    /// When it was first seen: milliseconds since 1970.
    pub wall_ms: u64,
}

impl Shared {
    /// Goes on with what was known of it under the last plan.
    pub fn go_on(&self, before: &Self) {
        self.addresses.store(before.addresses.load_full());
        self.version.store(before.version.load_full());
        self.last_error.store(before.last_error.load_full());
    }

    /// Something is wrong with it, seen at `wall_ms`. What is the same as before keeps its time.
    pub fn complain(&self, words: &str, wall_ms: u64) {
        let known = self.last_error.load();
        if known.as_ref().map(|known| known.words.as_str()) != Some(words) {
            self.last_error.store(Some(Arc::new(LastError {
                words: words.to_owned(),
                wall_ms,
            })));
        }
    }

    /// What was wrong with it is over.
    pub fn is_well(&self) {
        self.last_error.store(None);
    }
}

/// What a backend answered to a write that it did not take, for people.
pub(super) fn words_of(outcome: Outcome, reply: Option<&Reply>) -> String {
    let status = match outcome {
        Outcome::Refused(status) | Outcome::Failed(Failure::Status(status)) => status,
        Outcome::Partial { status, .. } => status,
        Outcome::Accepted | Outcome::Spare { .. } | Outcome::Failed(_) => 0,
    };
    let body = reply.map_or(&[][..], |reply| &reply.body);
    let body = String::from_utf8_lossy(&body[..body.len().min(limits::REASON_BYTES_MAX)]);
    let plain = body.trim().replace(char::is_control, " ");
    match plain.is_empty() {
        true => format!("it answers {status} to writes"),
        false => format!("it answers {status} to writes: {plain}"),
    }
}
