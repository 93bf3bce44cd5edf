//! Who may do what at a door, and how often.
//!
//! ```text
//!  head ─▶ credentials ─▶ roll ─┬─ known by its digest ───────────────▶ rights ─▶ rates
//!                               └─ argon2id: prover, off the shard ───▶
//! ```
//!
//! A password costs tens of milliseconds to verify, which a shard does not have. So each is verified once,
//! on a thread beside the shard; from then on a keyed digest of it is compared. What a flood of wrong
//! passwords gets is a place in a queue with a bound, and it never stands in the way of those who
//! are known.
//!
//! One [`warden::Warden`] per door is shared by all shards: the list, which never changes, and the cells
//! of the rates, one atomic word each. One [`gate::Gate`] per door and shard remembers who has proven
//! themselves. Both are made from the plan, and end with it: a new configuration trusts nobody yet.

pub mod credentials;
pub mod gate;
pub mod hash;
pub mod pace;
pub mod rates;
pub mod rights;
pub mod roll;
pub mod warden;
