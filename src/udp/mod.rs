//! The UDP door of one shard: datagrams in; their points out, packed anew, over UDP and over HTTP.
//!
//! ```text
//!  kernel ─▶ door: a batch ─▶ sorter ◇ ─┬─▶ pack ◇ ─▶ outlet ─▶ UDP output
//!             │   line by line:         │
//!             │   judged, dated         └─▶ carrier ─▶ fanout, spool ─▶ HTTP output
//!             └─ what the kernel dropped, counted
//! ```
//!
//! Nobody hears an answer here, so nothing is lost without being counted. What one call of the kernel
//! brings goes out before the next: no point waits for others, unless `flush-window` says so.
//! InfluxDB throws a whole datagram away for one bad line; since lines of many senders share one here,
//! a line that is no point goes no further.

pub mod carrier;
pub mod door;
pub mod help;
pub mod helping;
pub mod outlet;
pub mod pack;
pub mod sorter;
