//! One file or room per subcommand: what the operator types, and what is said back.

pub mod bench;
pub mod check;
pub mod demo;
pub mod hash;
pub mod load;
pub mod serve;
pub mod sink;
pub mod spool;

mod chunked;
mod datagrams;
mod duration;
mod poll;
mod say;
