//! What a write carries: line protocol, and the gzip that it may come in; remote-write. Pure.
//!
//! ```text
//!  body ── gzip ──▶ plain body ── line ──▶ the same body, each point with a time
//!                                   │
//!                                 point: where one line ends, and what it lacks
//!                                   │
//!                     datagram ── judge ──▶ each line: to be packed, sent alone, or not at all
//!
//!  either body ── filter, remote_write ──▶ what of it an output is to get
//! ```
//!
//! Nothing judges a point that came by HTTP. A body leaves as it came but for the times it lacked;
//! what is wrong with it the backends say, so that a client hears what it would hear without a
//! relay. A datagram has no answer, and its lines leave among strangers': those are judged.

pub mod deflate;
pub mod filter;
pub mod gzip;
pub mod judge;
mod key;
pub mod line;
mod point;
mod protobuf;
pub mod remote_write;
pub mod typed_field;
mod value;
