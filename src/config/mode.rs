//! `mode`, of HTTP and UDP listeners. Pure.

use crate::config::kind::Word;

/// Whether one output gets a write, or each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each.
    Replicate,
    /// One that is up.
    Balance,
}
/// `mode`.
pub const MODES: Word<Mode> = Word(&[("replicate", Mode::Replicate), ("balance", Mode::Balance)]);
