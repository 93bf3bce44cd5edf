//! HTTP/1.1 as bytes and types: heads, bodies, targets, answers. Pure.
//!
//! The danger in a relay is a message whose end two parties see in two places: what one takes for
//! the body of a write, the next takes for a request of its own. So every head and every chunk is
//! read strictly, and what could be read in two ways is refused, never guessed at.
//!
//! ```text
//!  client bytes ─▶ request ─▶ body     what is asked, and where its body ends
//!                     └─▶ target ─▶ write_query   which database, which unit of time
//!  backend bytes ─▶ response ─▶ body   what a backend said
//!                   response ─▶ client bytes
//! ```
//!
//! Nothing in this room allocates per request once its buffers are warm, and nothing in it can
//! panic on a stranger's bytes: `tests/storm.rs` tries.

pub mod body;
pub mod header;
pub mod precision;
pub mod request;
pub mod response;
pub mod target;
pub mod write_query;
