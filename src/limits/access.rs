//! Bounds of who may do what, and how often, and what gives way past each. Pure.

/// Users of one listener, and tokens of one. Past it the configuration is refused.
pub const ENTRIES_MAX: usize = 4096;
/// Tokens of one listener that are held as argon2id: a wrong token is tried against each of them. Past
/// it the configuration is refused; SHA-256 has no such bound.
pub const SLOW_TOKENS_MAX: usize = 8;
/// Databases that one entry names for one right. Past it the configuration is refused.
pub const DATABASES_MAX: usize = 256;
/// Bytes of a user's name.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of name and password, or of a token, as a client brings them. Past it they are wrong: 401.
pub const CREDENTIAL_BYTES_MAX: usize = 1024;
/// Bytes of a generated token before they are written down.
pub const TOKEN_BYTES: usize = 32;
/// Bytes of the salt of a generated hash.
pub const SALT_BYTES: usize = 16;
/// Databases that the text of one query names. Past it it needs a right on all.
pub const NAMED_MAX: usize = 64;

/// Memory that one argon2id hash may ask for, in KiB. Past it the configuration is refused.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 64 * 1024;
/// Passes that one may ask for. Past it the configuration is refused.
pub const ARGON2_PASSES_MAX: u32 = 10;
/// Lanes that one may ask for. Past it the configuration is refused.
pub const ARGON2_LANES_MAX: u32 = 16;
/// Bytes of a hash: less is guessed too easily, more is for nothing.
pub const ARGON2_HASH_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// Verifications that wait, or run, at one door of one shard; a shard runs one at a time. Past it 503.
pub const PROOFS_MAX: usize = 64;
/// Those of one client address, so that one that guesses passwords leaves room for others. Past it 503.
pub const PROOFS_PER_CLIENT_MAX: usize = 16;

/// Largest `rate-limit` and `burst-limit`, of each kind.
pub const RATE_MAX: u32 = 1_000_000_000;
/// Cells of the client addresses of one listener. Past it addresses share one, by lot.
pub const CLIENT_CELLS: usize = 1 << 16;
/// Longest `Retry-After` of a 429, in seconds.
pub const RETRY_AFTER_SECS_MAX: u64 = 3600;

/// What one shard can come to hold for all of this: one verification, and those that wait at one door.
pub const SHARD_BYTES_MAX: usize =
    ARGON2_MEMORY_KIB_MAX as usize * 1024 + PROOFS_MAX * 2 * CREDENTIAL_BYTES_MAX;

const _: () = {
    assert!(CLIENT_CELLS.is_power_of_two(), "a hash is cut to a cell");
    assert!(PROOFS_PER_CLIENT_MAX < PROOFS_MAX, "one leaves room");
};
