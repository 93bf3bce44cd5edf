//! What a backend is owed goes to it, in order, until it is level; then it takes writes as they come
//! again.
//!
//! One task per backend, on one shard, reads all shards' logs and merges them by order. Reading and
//! writing files is done off the shard; one request at a time is under way to the backend.
//!
//! ```text
//!  logs of earlier starts, run by run ─┐
//!  log of shard 0 ─────────────────────┼─▶ window: records by order ─▶ groups by target ─▶ backend
//!  log of shard 1 ─────────────────────┘                                   │
//!                              poison: halved down to the lines ◀── 400 ───┘──▶ dead letters
//! ```
//!
//! # Why nothing newer passes something older
//!
//! Say that Y is newer than X if Y came after X's client had heard of X. Each record's order is read
//! from one clock, after its write came and before its client hears, so Y's order is above X's, on
//! whichever shards they are.
//!
//! 1. *While the backend is owing*, no shard sends it new writes: each shard reads the state when it
//!    keeps a write, and X's shard had read OWING (or later) before X's client heard, so Y's shard
//!    reads OWING or later. All of them are in logs, and only this task sends.
//! 2. *The task sends by order.* It takes the time K, then the ends of all logs, and sends only records
//!    with an order below K and below that of every record whose fate is still open. If Y is among
//!    them, X is: X was in its log, and its fate known, before its client heard, so before Y came, so
//!    before K.
//! 3. *When a backend begins to owe*, sends to it may be under way on all shards. The task waits until
//!    none is (`quiet`), and begins with the oldest write that any shard knows to be missing. What is
//!    newer than that is sent again even if the backend has it: so it ends with the newest.
//! 4. *Hand-over.* The task sets HANDING OVER. A shard that has read it sends and tails nothing more for
//!    this backend: it holds the write, and does not answer its client. It says how far its tail goes.
//!    When all shards have said so, and all tails are delivered, the task sets LIVE; each shard that
//!    reads it sends what it held, and only then are those clients answered. So if X was held, Y came
//!    after X was sent. If X was in a tail, it was delivered before LIVE was set.
//! 5. *If the tails are not delivered in time*, the task sets OWING again: what was held joins the tail,
//!    by its order, and clients are answered. The next try may take longer.
//!
//! 6. *A start after a kill or a power cut* delivers again what a backend may have. That ends well if it is all
//!    that is newer than something, and ill if X is among it and Y is not. So beside its cursors each log
//!    saves `had`: an order below which the backend has everything of the run. Nothing older than the
//!    highest `had` that any log of the run has saved is delivered again, of any log; nothing newer is
//!    missing, since a log saves its marks before it lets go of a record (`spool::letting_go`), and since
//!    they are synced before older records go than a power cut may take. If Y was let go of, `had` is above
//!    Y's order and so above X's. And what has begun with a run is done with those before it.
//!
//! Between sends that are live, on different connections, there is no order but the one in which they
//! were sent, as with any client of the backend that has two connections.
//!
//! `tests/sim.rs` holds this to a model, and plants bugs in it.

pub mod catch_up;
pub mod delivery;
pub mod ground;
pub mod hand_over;
pub mod judge;
pub mod poison;
pub mod queue;
pub mod shell;

pub mod window;
pub mod window_size;
