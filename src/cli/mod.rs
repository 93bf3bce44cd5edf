//! One file or room per subcommand: what the operator types, and what is said back.

pub mod bench;
pub mod check;
pub mod load;
pub mod serve;
pub mod sink;

mod chunked;
mod duration;
mod poll;
