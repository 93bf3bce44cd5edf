//! Bounds of filters, and what gives way past each. Pure.

use crate::limits::{KIB, MIB};

/// `[[filter]]` tables. Past it the configuration is refused.
pub const FILTERS_MAX: usize = 32;
/// Expressions of one filter: measurement, names of tags, values of tags.
pub const EXPRESSIONS_PER_FILTER: usize = 3;
/// Bytes of one expression as written. Past it the configuration is refused.
pub const EXPRESSION_BYTES_MAX: usize = 4 * KIB;
/// Groups within groups of one expression. Past it the configuration is refused.
pub const EXPRESSION_DEPTH_MAX: u32 = 64;
/// Bytes of what one expression is compiled to; every shard has its own. Past it the configuration is
/// refused.
pub const PROGRAM_BYTES_MAX: usize = MIB;
/// Bytes of the states that an expression remembers while it looks, per shard. Past it they are
/// forgotten, and made anew.
pub const PROGRAM_STATES_BYTES_MAX: usize = 256 * KIB;
/// Tags and symbols of one remote-write 2.0 body. Past it 413. (Prometheus sends some thousand.)
pub const SYMBOLS_MAX: usize = 1 << 20;
/// What it takes to know where they are.
pub const SYMBOLS_BYTES_MAX: usize = SYMBOLS_MAX * 8;
/// Bytes that one byte of Snappy can stand for: a copy of 64 is written in 3. A body that claims more is
/// refused before room is made for it.
pub const SNAPPY_RATIO_MAX: usize = 22;
/// What idle room for remote-write bodies is kept, per buffer and shard. More is given back.
pub const ROOM_KEEP_BYTES: usize = MIB;

/// What the filters of one shard can come to hold: their expressions, and, while it is looked at, a
/// remote-write body of `body_bytes_max`, what stays of it, and where its symbols are.
pub const fn filters_bytes_max(body_bytes_max: usize) -> usize {
    FILTERS_MAX * EXPRESSIONS_PER_FILTER * (PROGRAM_BYTES_MAX + PROGRAM_STATES_BYTES_MAX)
        + 2 * body_bytes_max
        + SYMBOLS_BYTES_MAX
}
