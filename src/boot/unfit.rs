//! One file that the relay does not start with: whose it is, what was found, what to do.

/// One file that cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {found}; {want}")]
pub struct Unfit {
    /// Whose file, and which.
    pub at: String,
    /// What was found; nothing of what is in it.
    pub found: String,
    /// What to do.
    pub want: &'static str,
}
