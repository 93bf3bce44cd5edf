//! Who may do what at one door, and how often. Pure.

/// Who may write or query at one door. Names are unique, and so are hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPlan {
    /// People and programs with a name and a password.
    pub users: Vec<EntryPlan>,
    /// Those with a token; a name here is a label, and may be empty.
    pub tokens: Vec<EntryPlan>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPlan {
    /// As the client writes it; of a token its label.
    pub name: String,
    /// What its secret is held against.
    pub hash: HashPlan,
    /// What it may do.
    pub rights: RightsPlan,
}

/// What a secret is held against. It is a secret too: who has it can try passwords at leisure.
#[derive(Clone, PartialEq, Eq)]
pub enum HashPlan {
    /// Argon2id: slow, for what people think of.
    Argon2id(Argon2Plan),
    /// SHA-256: fast, for tokens that a machine has drawn.
    Sha256([u8; 32]),
}

impl std::fmt::Debug for HashPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// An argon2id hash, version 1.3, within the bounds of `limits::access`.
#[derive(Clone, PartialEq, Eq)]
pub struct Argon2Plan {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// The salt.
    pub salt: Vec<u8>,
    /// The hash.
    pub hash: Vec<u8>,
}

/// What somebody may do, by database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RightsPlan {
    /// Where it may read.
    pub read: ReachPlan,
    /// Where it may write.
    pub write: ReachPlan,
    /// Where it may do anything, reading and writing included.
    pub admin: ReachPlan,
}

/// Some databases, or all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReachPlan {
    /// All, and what belongs to none.
    pub all: bool,
    /// These.
    pub databases: Vec<String>,
}

/// How often writes and queries are taken at one door; `None` is any number of times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RatesPlan {
    /// From all clients together.
    pub listener: Option<RatePlan>,
    /// From one client address; IPv6 by its first 64 bits.
    pub client: Option<RatePlan>,
    /// From one user or token.
    pub user: Option<RatePlan>,
}

/// A rate; both numbers are above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatePlan {
    /// Requests per second.
    pub per_second: u32,
    /// Requests that may come at once after a rest.
    pub burst: u32,
}
