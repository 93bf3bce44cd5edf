//! Every bound, how they relate, and what one shard can come to hold. Pure.
//!
//! A queue, buffer, count or wait that is not named here does not exist. Each says what gives way.
//! What an operator may set is a default here and a field of the plan there.

use std::time::Duration;

/// One kibibyte.
pub const KIB: usize = 1 << 10;
/// One mebibyte.
pub const MIB: usize = 1 << 20;

// ---- Defaults of the configuration -------------------------------------------------------------

/// Bytes of one body. Past it a write is answered 413. (InfluxDB's own default.)
pub const BODY_BYTES_MAX: usize = 25_000_000;
/// Bytes of one request head. Past it 431; 414 where the target alone is too long.
pub const HEAD_BYTES_MAX: usize = 16 * KIB;
/// Client connections per shard. Past it 503 and close.
pub const CONNECTIONS_MAX: usize = 10_000;
/// From the first byte of a head to its last. Past it 408 and close.
pub const HEAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// From the last byte of a head to the last of its body. Past it 408 and close.
pub const BODY_WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two requests. Past it the connection is closed.
pub const IDLE_WAIT_MAX: Duration = Duration::from_secs(120);
/// Bytes of all bodies in flight on one shard. Past it a write is answered 503.
pub const INFLIGHT_BYTES_MAX: usize = 256 * MIB;
/// One write at one backend, connect and answer included. Past it the backend has failed.
pub const BACKEND_WAIT_MAX: Duration = Duration::from_secs(10);
/// Drain on SIGTERM. Past it what is left is cut.
pub const SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(15);
/// Links per backend and shard. Past it writes wait for one that is free.
pub const LINKS_MAX: usize = 128;
/// What the kernel queues before a shard accepts. Past it the kernel drops the SYN.
pub const BACKLOG: u32 = 4096;
/// Empty polls of the sockets before a shard sleeps.
pub const POLL_SPINS: u32 = 16;
/// What one read of a small request takes; larger bodies are read in place.
pub const READ_BUFFER_BYTES: usize = 32 * KIB;
/// Largest body that is joined with others. A larger one goes alone.
pub const MERGE_BODY_BYTES_MAX: usize = 16 * KIB;
/// Largest joined request. What does not fit waits for the next.
pub const MERGE_BATCH_BYTES_MAX: usize = 256 * KIB;
/// Joined requests under way at once, per backend and shard. Past it writes wait, and so join.
pub const MERGE_LINKS_MAX: usize = 2;
/// Between two probes of a backend that is up.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// One probe. Past it the backend is down.
pub const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);
/// Between two looks at a name in DNS.
pub const DNS_INTERVAL: Duration = Duration::from_secs(30);
/// One backend in `/health`.
pub const HEALTH_WAIT_MAX: Duration = Duration::from_secs(5);

// ---- Requests ----------------------------------------------------------------------------------

/// Header fields of one request or answer. Past it 431, or a failed backend.
pub const HEADERS_MAX: usize = 100;
/// Bytes of one request target. Past it 414. Never above the head's own bound.
pub const TARGET_BYTES_MAX: usize = 8 * KIB;
/// Bytes of one chunk-size line, extensions included. Past it 400.
pub const CHUNK_LINE_BYTES_MAX: usize = 1 * KIB;
/// Bytes of a chunked body's trailer fields. Past it 400.
pub const TRAILER_BYTES_MAX: usize = 4 * KIB;
/// Points of one write whose missing time is filled in cost at most this many bytes each.
pub const STAMP_BYTES_MAX: usize = 21;
/// What a body's first buffer holds before the client has shown that it will send more.
pub const BODY_FIRST_BYTES: usize = 64 * KIB;
/// What a write costs the budget beside its body: heads, replies, bookkeeping.
pub const FLIGHT_BYTES: usize = 2 * KIB;
/// Buffers of an idle flight. What grew past it is given back.
pub const FLIGHT_KEEP_BYTES: usize = 32 * KIB;
/// Idle flights kept for reuse per shard. Past it they are freed.
pub const FLIGHTS_KEEP_MAX: usize = 1024;
/// After an early answer: how long what the client still sends is thrown away before the close.
pub const LINGER_WAIT_MAX: Duration = Duration::from_secs(2);
/// After an early answer: how many bytes are thrown away before the close.
pub const LINGER_BYTES_MAX: usize = 64 * MIB;
/// On drain: how long an idle connection may still begin one more request.
pub const DRAIN_IDLE_WAIT_MAX: Duration = Duration::from_millis(500);
/// What `Retry-After` says, in seconds.
pub const RETRY_AFTER_SECS: u32 = 1;

// ---- Backends ----------------------------------------------------------------------------------

/// Backends of one listener. Past it the configuration is refused.
pub const OUTPUTS_MAX: usize = 64;
/// Listeners. Past it the configuration is refused.
pub const LISTENERS_MAX: usize = 64;
/// Bytes of one answer's head. Past it the backend has failed.
pub const ANSWER_HEAD_BYTES_MAX: usize = 16 * KIB;
/// Bytes of one answer's body to a write. Past it the backend has failed.
pub const ANSWER_BODY_BYTES_MAX: usize = 256 * KIB;
/// Interim (1xx) answers before the final one. Past it the backend has failed.
pub const INTERIM_ANSWERS_MAX: usize = 8;
/// Failures in a row, other than a refused connection, that mean a backend is down.
pub const FAILURES_MAX: u32 = 3;
/// Between two probes of a backend that is down, at first and at most.
pub const PROBE_BACKOFF_MIN: Duration = Duration::from_millis(250);
/// See [`PROBE_BACKOFF_MIN`].
pub const PROBE_BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Addresses kept of one name. What DNS says past it is ignored.
pub const ADDRESSES_MAX: usize = 16;

// ---- The process -------------------------------------------------------------------------------

/// Shards. Past it the configuration is refused.
pub const SHARDS_MAX: usize = 256;
/// The housekeeping tick: how late a deadline may be noticed. glommio needs a periodic timer in
/// each executor, or it can sleep with tasks to run.
pub const TICK: Duration = Duration::from_millis(50);
/// Longest stretch of a shard's own polling before glommio's timers get their turn.
pub const POLL_STRETCH_MAX: Duration = Duration::from_micros(500);
/// Readiness events taken in one poll. The rest come with the next.
pub const EVENTS_MAX: usize = 512;
/// After accept fails for want of descriptors: how long a listener rests.
pub const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Changes of state waiting to be logged. Past it they are counted and dropped.
pub const EVENT_QUEUE_MAX: usize = 1024;
/// Changes of state kept for the status page. The oldest goes.
pub const RECENT_EVENTS_MAX: usize = 64;
/// glommio's buffers for files. Shards do no file I/O yet.
pub const IO_MEMORY_BYTES: usize = 64 * KIB;
/// Lockable memory that the rings of one shard need.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// What one shard can come to hold in memory at the default bounds, term by term.
pub const fn shard_bytes_max() -> usize {
    let mut sum = 0;
    sum += INFLIGHT_BYTES_MAX; // all bodies in flight, with what each costs beside its bytes
    sum += CONNECTIONS_MAX * HEAD_BYTES_MAX; // one unfinished head per client
    sum += FLIGHTS_KEEP_MAX * FLIGHT_KEEP_BYTES; // idle flights
    sum += OUTPUTS_MAX * MERGE_LINKS_MAX * MERGE_BATCH_BYTES_MAX; // joined requests
    sum + READ_BUFFER_BYTES
}

const _: () = {
    assert!(BODY_BYTES_MAX + FLIGHT_BYTES <= INFLIGHT_BYTES_MAX, "one full body must be admitted");
    assert!(TARGET_BYTES_MAX <= HEAD_BYTES_MAX, "a target is part of a head");
    assert!(MERGE_BODY_BYTES_MAX <= MERGE_BATCH_BYTES_MAX, "one body must fit a joined request");
    assert!(BODY_FIRST_BYTES >= READ_BUFFER_BYTES, "a first read must fit a first buffer");
    assert!(shard_bytes_max() < 1024 * MIB, "what the README promises per shard");
};
