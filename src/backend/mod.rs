//! One backend as one shard sees it: its links, its health, the writes on their way to it.
//!
//! ```text
//!  fanout ─ Job ─▶ pool ─┬─ a link that is idle ──▶ exchange: send, read the answer ─▶ Flight::hear
//!                        ├─ a new link, if allowed ▲                                      │
//!                        └─ the queue ─────────────┘ (and `merge` joins what waits there) ▼ fanout
//!  probe ─▶ health ◀─ every exchange
//! ```
//!
//! A write may outlive its request: the client hears the first success, the other sends go on. So a
//! [`flight::Flight`] is shared within the shard, holds its body until the last backend has spoken,
//! and counts against the shard's budget until then.

pub mod answer;
mod ask_now;
pub mod asking;
pub mod backoff;
mod complaints;
mod compose;
pub mod compress;
pub mod errand;
pub mod exchange;
pub mod flight;
pub mod health;
pub mod lane;
pub mod letters;
pub mod merge;
mod moved;
pub mod outcome;
pub mod outgoing;
mod own_trouble;
pub mod partial;
pub mod pool;
pub mod probe;
pub mod refusals;
pub mod request;
pub mod shared;
pub mod voice;
