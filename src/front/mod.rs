//! The HTTP door of one shard: it accepts, reads requests, has them answered, and closes.
//!
//! What it lets in is whole and unambiguous; what it turns away never gets further than this room.

pub mod body;
pub mod connection;
pub mod gate;
pub mod in_force;
mod intake;
pub mod listener;
pub mod route;
pub mod secure;
pub mod turn_away;
pub mod wish;
