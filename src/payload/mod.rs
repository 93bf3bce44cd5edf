//! What a write carries: line protocol, and the gzip that it may come in. Pure.
//!
//! ```text
//!  body ── gzip ──▶ plain body ── line ──▶ the same body, each point with a time
//!                                   │
//!                                 point: where one line ends, and what it lacks
//! ```
//!
//! Nothing here judges a point. A body leaves as it came but for the times it lacked; what is
//! wrong with it the backends say, so that a client hears what it would hear without a relay.

pub mod gzip;
pub mod line;
mod point;
