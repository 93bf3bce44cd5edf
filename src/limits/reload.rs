//! Bounds of a reload, and what gives way past each. Pure.

use std::time::Duration;

/// So long a reload waits for backends that have not answered, once all clients have their answers; without a
/// spool their sends go on beside it, with one what they had been sent is owed to them.
pub const SETTLE_MAX: Duration = Duration::from_secs(1);
/// Signals that wait while a reload is under way; past it a further reload is part of the one that waits.
pub const ASKS_MAX: usize = 4;
/// Between two looks of a shard that reloads.
pub const LOOK: Duration = Duration::from_millis(2);
