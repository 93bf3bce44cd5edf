//! The durable log of what backends may have missed.
//!
//! A write is in its shard's log before it is sent anywhere, so before its client hears. While all
//! backends take writes, the log is written and forgotten, segment by segment. Once one misses what
//! another accepted, new writes for it are no longer sent: the log is its queue, and `replay` brings
//! it level again.
//!
//! ```text
//!  write ─▶ keeper ─▶ log ─▶ segments ─▶ source ─▶ replay ─▶ backend, later
//!             │  ledger: the young end, who has what          │
//!             └─ board ◀── live, owing, handing over ─────────┘
//! ```
//!
//! Constraints:
//! - One log per shard, one per start of the relay; only its shard writes to it.
//! - A process that is killed loses nothing that a client heard of: records are in the kernel before
//!   the send. A power cut loses at most what `fsync` allows.
//! - Each record has its length, its checksum, its sequence in the log and its order among all shards.
//! - A torn tail is cut; damage in the middle costs the records that it hit.
//! - Segments have a fixed size and their space is taken when they are made. Those that are written
//!   again and again are mapped, and a disk that fails is an error all the same.
//! - What everybody has need not reach the disk; marks that say so do, before anything is let go of.
//! - Memory does not grow with what is owed: only the young end of a log is in memory.
//!
//! The bytes of a record stand at the top of `record`, those of a segment's head in `segment`, those
//! of the cursors in `cursors`, the folder in `archive`.

pub mod archive;
pub mod board;
pub mod cursors;
pub mod dead_letter;
pub mod disk;
pub mod door;
pub mod flushing;
mod in_place;
pub mod keeper;
pub mod known;
pub mod ledger;
pub mod letting_go;
pub mod log;
pub mod old_log;
pub mod record;
pub mod resume;
pub mod segment;
pub mod source;
pub mod spares;
pub mod syncing;
pub mod track;
pub mod unusable;
mod window;
