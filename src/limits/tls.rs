//! Bounds of TLS, and what gives way past each. Pure.
//!
//! rustls has its own for what comes: 64 KiB of one handshake message, one record of ciphertext, 16 KiB of
//! plaintext. A handshake has a client's `header-timeout`, or what is left of a request's time.

use std::time::Duration;

/// Bytes of one record, encrypted. (RFC 8446 section 5.2, and TLS 1.2's longer ones.)
pub const RECORD_BYTES_MAX: usize = 16 * 1024 + 2048 + 5;
/// Bytes that one client's connection encrypts ahead of the kernel. Past it the sender waits.
pub const SEND_BYTES_MAX: usize = 16 * 1024;
/// The same for a connection to a backend, of which there are fewer.
pub const BACKEND_SEND_BYTES_MAX: usize = 64 * 1024;
/// What one client's connection can hold beside what a plain one does: a record that is not whole yet, one
/// that is read and was more than was asked for, and what waits to be sent. Not in `limits::shard_bytes_max`.
pub const CONNECTION_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX + SEND_BYTES_MAX;
/// Reads of one connection in a row that bring no plaintext. Past it others have their turn.
pub const READS_IN_A_ROW_MAX: usize = 16;
/// How often it is looked whether the files of a certificate have changed.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Sessions that are remembered per backend, so that the next connect costs less. The oldest goes.
pub const SESSIONS_MAX: usize = 256;

const _: () = assert!(
    CONNECTION_BYTES_MAX <= 64 * 1024,
    "what the README promises per connection"
);
