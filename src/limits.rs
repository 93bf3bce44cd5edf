//! Every bound, how they relate, and what one shard can come to hold. Pure.
//!
//! A queue, buffer, count or wait that is not named here does not exist. Each says what gives way.
//! What an operator may set is a default here and a field of the plan there.

pub mod access;
pub mod beside;
pub mod filter;
pub mod reload;
pub mod tls;
pub mod tools;
pub mod udp;

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

// ---- What an operator may set ------------------------------------------------------------------
// Past either end the configuration is refused, with the range.

/// Shortest wait that can be set.
pub const SET_WAIT_MIN: Duration = Duration::from_millis(1);
/// Longest wait that can be set; also what a Go file's `timeout = "0s"` (no bound) becomes.
pub const SET_WAIT_MAX: Duration = Duration::from_secs(3600);
/// Largest `max-body-size`.
pub const SET_BODY_BYTES_MAX: usize = 1024 * MIB;
/// Smallest `max-header-size`: less would refuse ordinary clients.
pub const SET_HEAD_BYTES_MIN: usize = KIB;
/// Largest `max-header-size`; Go's own default is as large.
pub const SET_HEAD_BYTES_MAX: usize = MIB;
/// Largest `max-connections` of a listener's clients.
pub const SET_CONNECTIONS_MAX: u64 = 1_000_000;
/// Largest `max-inflight`.
pub const SET_INFLIGHT_BYTES_MAX: usize = 1024 * 1024 * MIB;
/// Largest `max-connections` of one output.
pub const SET_LINKS_MAX: u64 = 4096;
/// Largest `backlog`; the kernel's own `somaxconn` still applies.
pub const SET_BACKLOG_MAX: u64 = 65_535;
/// Most empty polls before a shard sleeps.
pub const SET_POLL_SPINS_MAX: u64 = 4096;
/// Smallest `read-buffer`.
pub const SET_READ_BUFFER_BYTES_MIN: usize = 4 * KIB;
/// Largest `merge-body` and `merge-batch`.
pub const SET_MERGE_BYTES_MAX: usize = 16 * MIB;
/// Most joined requests under way at once.
pub const SET_MERGE_LINKS_MAX: u64 = 64;
/// Bytes of the configuration file, and of a file that holds a secret. A longer one is refused.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a listener's or an output's name.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of a location.
pub const LOCATION_BYTES_MAX: usize = 2 * KIB;

const _: () = {
    assert!(
        SET_READ_BUFFER_BYTES_MIN <= READ_BUFFER_BYTES,
        "a default can be set"
    );
    assert!(
        SET_WAIT_MAX.as_secs() >= IDLE_WAIT_MAX.as_secs(),
        "a default can be set"
    );
};

// ---- Requests ----------------------------------------------------------------------------------

/// Header fields of one request or answer. Past it 431, or a failed backend.
pub const HEADERS_MAX: usize = 100;
/// Bytes of one request target. Past it 414. Never above the head's own bound.
pub const TARGET_BYTES_MAX: usize = 8 * KIB;
/// Bytes of one chunk-size line, extensions included. Past it 400.
pub const CHUNK_LINE_BYTES_MAX: usize = KIB;
/// Bytes of a chunked body's trailer fields. Past it 400.
pub const TRAILER_BYTES_MAX: usize = 4 * KIB;
/// Points of one write whose missing time is filled in cost at most this many bytes each.
pub const STAMP_BYTES_MAX: usize = 21;
/// What a body's first buffer holds before the client has shown that it will send more.
pub const BODY_FIRST_BYTES: usize = 128 * KIB;
/// A body whose client sends nothing keeps room for this many times of what has come, and [`COPY_BYTES_MAX`].
pub const BODY_ROOM_FACTOR: usize = 8;
/// What a write costs the budget beside its body: heads, replies, bookkeeping.
pub const FLIGHT_BYTES: usize = 2 * KIB;
/// Buffers of an idle flight. What grew past it is given back.
pub const FLIGHT_KEEP_BYTES: usize = 32 * KIB;
/// Buffers of the few idle flights that are used next, which stay warm for large bodies.
pub const FLIGHT_KEEP_LARGE_BYTES: usize = 256 * KIB;
/// How many flights those are.
pub const FLIGHTS_KEEP_LARGE_MAX: usize = 64;
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
/// Bytes of a method's name. Past it 400. (The longest that is registered has 17.)
pub const METHOD_BYTES_MAX: usize = 32;
/// Fields that one `Connection` may name. Past it 400, or a failed backend.
pub const CONNECTION_NAMES_MAX: usize = 16;
/// Bytes by which the framing of a chunked body may outgrow what small chunks cost. Past it 400.
pub const CHUNK_EXCESS_BYTES_MAX: u64 = 16 * KIB as u64;
/// Bytes of a message in `X-Influxdb-Error`. What is longer is cut there, not in the body.
pub const ERROR_HEADER_BYTES_MAX: usize = KIB;

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
/// How long a probe that failed, or a refused connection, counts for those who ask whether a backend is there now.
pub const PROBE_COUNTS: Duration = Duration::from_millis(50);
/// Bodies up to this size are copied behind their head and sent as one piece; larger ones are not
/// copied.
pub const COPY_BYTES_MAX: usize = 16 * KIB;
/// Waiting writes looked at for one joined request. The rest wait for the next.
pub const MERGE_LOOK_MAX: usize = 1024;
/// Bytes of a backend's version that is shown. A longer one is not.
pub const VERSION_BYTES_MAX: usize = 64;
/// Addresses kept of one name. What DNS says past it is ignored.
pub const ADDRESSES_MAX: usize = 16;

/// Bytes of measurement and tags, and of what a series is stored by. Past it the line is no point.
/// (InfluxDB's own bound.)
pub const KEY_BYTES_MAX: usize = 65_535;
/// Tags out of order among which a repeated one is looked for. Past it a line is sent alone.
pub const UNSORTED_TAGS_MAX: usize = 128;
// ---- Other relays -------------------------------------------------------------------------------

/// Other relays before the same backends.
pub const PEERS_MAX: usize = 16;
/// How often each is asked what it owes.
pub const PEER_INTERVAL: Duration = Duration::from_secs(1);
/// How long one may take to answer. Past it what it said last holds.
pub const PEER_WAIT_MAX: Duration = Duration::from_millis(500);
/// Bytes of its answer. Past it it is none.
pub const PEER_ANSWER_BYTES_MAX: u64 = 4 * MIB as u64;

// ---- Queries ------------------------------------------------------------------------------------

/// From a question to the first byte of its answer, and from each piece of it to the next. Past it another
/// backend is asked, or the answer is cut.
pub const QUERY_WAIT_MAX: Duration = Duration::from_secs(300);
/// How often it is looked whether a backend that has not answered is down: then another is asked.
pub const QUERY_LOOK: Duration = Duration::from_millis(500);
/// An answer that says it is no longer than this is read whole before any of it goes to the client.
pub const QUERY_HOLD_BYTES_MAX: u64 = 64 * KIB as u64;
/// Idle connections for questions, per backend and shard. What is more is closed.
pub const ASKING_IDLE_MAX: usize = 16;
/// What frames one chunk, at most.
pub const CHUNK_FRAME_BYTES: usize = 32;

// ---- The spool ---------------------------------------------------------------------------------

/// Bytes that one backend may be owed. Past it `when-full` decides.
pub const OWED_BYTES_MAX: u64 = 10 * 1024 * MIB as u64;
/// How long something may be owed. Past it it is dropped and counted.
pub const OWED_AGE_MAX: Duration = Duration::from_secs(168 * 3600);
/// Between two syncs of a log, by default.
pub const SYNC_INTERVAL: Duration = Duration::from_millis(100);
/// Failures of one record, alone, before it is set aside. See also [`POISON_WAIT`].
pub const POISON_ATTEMPTS: u32 = 8;
/// How long it must have failed for that.
pub const POISON_WAIT: Duration = Duration::from_secs(60);
/// Bytes of one segment. A larger record has a segment of its own.
pub const SEGMENT_BYTES: u64 = 8 * MIB as u64;
/// Smallest `segment-size`.
pub const SET_SEGMENT_BYTES_MIN: u64 = 64 * KIB as u64;
/// Largest `segment-size`.
pub const SET_SEGMENT_BYTES_MAX: u64 = 1024 * MIB as u64;
/// Smallest `[spool] max-size`: one segment of the smallest size.
pub const SET_OWED_BYTES_MIN: u64 = SET_SEGMENT_BYTES_MIN;
/// Largest `[spool] max-size` and `buffer-size-mb`, in bytes.
pub const SET_OWED_BYTES_MAX: u64 = 1024 * 1024 * 1024 * MIB as u64;
/// Longest `[spool] max-age`: ten years.
pub const SET_OWED_AGE_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// Largest `poison-attempts`.
pub const SET_POISON_ATTEMPTS_MAX: u32 = 1_000_000;
/// Largest `replay-rate`, in bytes per second.
pub const SET_REPLAY_RATE_MAX: u64 = 1024 * 1024 * MIB as u64;
/// Records gathered in a turn that are flushed before its end, while they are in the CPU's caches.
pub const GATHER_BYTES_MAX: usize = 128 * KIB;
/// Body of a record that is written at once, from where it lies, and not gathered.
pub const WRITE_THROUGH_BYTES_MIN: usize = 32 * KIB;
/// Bytes that are written past the CPU's caches where they are written at once.
pub const STREAM_BYTES_MIN: usize = 4 * KIB;
/// Files of one log that are kept to be written anew.
pub const SPARE_SEGMENTS_MAX: usize = 8;
/// Bytes of one segment while a log has no more than so many of them: less than a CPU's cache.
pub const CALM_SEGMENT_BYTES: u64 = 2 * MIB as u64;
/// See [`CALM_SEGMENT_BYTES`].
pub const CALM_SEGMENTS_MAX: usize = 16;
/// Bytes of one record. Past it it is damage.
pub const RECORD_BYTES_MAX: u64 = 2 * 1024 * MIB as u64;
/// Bytes of the head of a segment, with the names of all backends. Past it it is damage.
pub const SEGMENT_HEAD_BYTES_MAX: usize = 4 * MIB;
/// What one read of a log takes.
pub const SPOOL_READ_BYTES: usize = 256 * KIB;
/// Bytes that may wait in memory for one backend, per shard, where they are on disk too. Past it they
/// are owed instead.
pub const HELD_KEPT_BYTES_MAX: usize = 32 * MIB;
/// Young writes that one shard keeps account of. Past it a write is answered 503.
pub const LEDGER_ENTRIES_MAX: usize = 1 << 20;
/// What one of them takes.
pub const LEDGER_ENTRY_BYTES: usize = 48;
/// Bytes of one replayed request. (The Go relay's own default.)
pub const REPLAY_BATCH_BYTES_MAX: usize = 512 * KIB;
/// Largest `max-batch-kb`, in bytes.
pub const SET_REPLAY_BATCH_BYTES_MAX: usize = 64 * MIB;
/// Between two tries to replay, at first and at most. (The Go relay's own defaults.)
pub const REPLAY_WAIT_MIN: Duration = Duration::from_millis(500);
/// See [`REPLAY_WAIT_MIN`].
pub const REPLAY_WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest `Retry-After` that is honoured.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Records of one window of replay. The rest comes with the next.
pub const WINDOW_RECORDS_MAX: usize = 8192;
/// Bytes of the first window of replay; what follows grows and shrinks with the answers.
pub const WINDOW_BYTES_FIRST: usize = 64 * KIB;
/// Bytes of replay that are read or sent in one go, before others have their turn.
pub const REPLAY_BREATH_BYTES: usize = 64 * KIB;
/// A window that fails is followed by one with so many times fewer records, down to one.
pub const WINDOW_NARROWS_BY: usize = 16;
/// An answer to a window that takes longer than this,
pub const WINDOW_SLOW: Duration = Duration::from_millis(400);
/// and so many times as long as the quickest, makes the next one smaller. Less than half of that, larger.
pub const WINDOW_SLOW_FACTOR: u32 = 4;
/// Hand-over: how long new writes, and their clients, are held at most, at first.
pub const HAND_OVER_WAIT_MIN: Duration = Duration::from_millis(2);
/// The same after tries that were too short for a slow backend.
pub const HAND_OVER_WAIT_MAX: Duration = Duration::from_secs(1);
/// Hand-over: how often shards are looked at.
pub const HAND_OVER_LOOK: Duration = Duration::from_micros(100);
/// After sends that timed out: how long a backend that is back has to finish what it still holds of
/// them, before they are sent again.
pub const GHOST_WAIT: Duration = Duration::from_millis(250);
/// How often it is looked whether sends to a backend that begins to owe have all ended.
pub const QUIET_LOOK: Duration = Duration::from_millis(5);
/// After a hand-over that failed, clients are not held again for so many times as long as the next may.
pub const HAND_OVER_RESTS: u32 = 8;
/// How often it is saved where backends stand in logs of earlier starts; a shard saves its own each [`TICK`].
pub const CURSOR_INTERVAL: Duration = Duration::from_millis(100);
/// How often the replaying task looks whether anything is to be done.
pub const REPLAY_LOOK: Duration = Duration::from_millis(20);
/// How often what is owed is held against `max-size` and `max-age` while the backend is away.
pub const TRIM_INTERVAL: Duration = Duration::from_millis(500);
/// Records behind one that always fails which are tried to see whether the backend takes any.
pub const CANARIES_MAX: usize = 8;
/// Bytes of dead letters per backend. Past it poison is counted and dropped.
pub const DEAD_LETTER_BYTES_MAX: u64 = 256 * MIB as u64;
/// Bytes of a backend's reason that a dead letter keeps.
pub const REASON_BYTES_MAX: usize = KIB;
/// Bytes of live writes, per shard, that wait for their dead letters. Past it they are owed, and have
/// their letters from the replay. A compressed body that would become larger stays as it is in its letter.
pub const LETTERS_WAITING_BYTES_MAX: usize = 2 * MIB;
/// Dead letters of live writes that are written and synced in one go.
pub const LETTERS_BATCH_MAX: usize = 256;
/// Requests by which the dropped lines of one replayed body are looked for. Past it what is left is one letter.
pub const PARTIAL_SENDS_MAX: usize = 24;
/// Bytes that one compressed byte may become: what deflate can do. No backend's count of points is believed past it.
pub const INFLATED_TIMES_MAX: usize = 1032;
/// After a disk has failed: how soon it is tried again.
pub const SPOOL_RETRY: Duration = Duration::from_secs(1);
/// At the start: how long clients wait while backends that are up are brought level.
pub const START_CATCH_UP_MAX: Duration = Duration::from_secs(2);
/// At the end of a drain: ticks in which shards let go of what all have settled. What is left is
/// replayed at the next start.
pub const SETTLE_TICKS_MAX: usize = 4;
/// Names of backends that a spool knows. Past it a new name is not written down, and is new after each start.
pub const KNOWN_NAMES_MAX: usize = 16_384;
/// Bytes of the file of those names. A longer one is damage.
pub const KNOWN_FILE_BYTES_MAX: u64 = 64 * MIB as u64;
/// Logs of earlier starts that are read at once. Past it the start is refused.
pub const LOGS_MAX: usize = 65_536;

const _: () = {
    assert!(
        SET_SEGMENT_BYTES_MIN <= SEGMENT_BYTES && SEGMENT_BYTES <= SET_SEGMENT_BYTES_MAX,
        "a default can be set"
    );
    assert!(
        SET_OWED_BYTES_MIN <= OWED_BYTES_MAX && OWED_BYTES_MAX <= SET_OWED_BYTES_MAX,
        "a default can be set"
    );
    assert!(
        REPLAY_BATCH_BYTES_MAX <= SET_REPLAY_BATCH_BYTES_MAX,
        "a default can be set"
    );
    assert!(
        REPLAY_WAIT_MIN.as_millis() <= REPLAY_WAIT_MAX.as_millis(),
        "the first wait is not longer than the longest"
    );
    assert!(
        (SET_BODY_BYTES_MAX + 4 * HEAD_BYTES_MAX) as u64 * 2 <= RECORD_BYTES_MAX + MIB as u64,
        "a body, stamped, fits a record"
    );
};

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
/// Connections accepted before others get their turn.
pub const ACCEPTS_IN_A_ROW_MAX: u32 = 64;
/// In want of ports or descriptors: how long no further link to a backend is tried while it has one.
pub const OWN_TROUBLE_REST: Duration = Duration::from_millis(250);
/// How soon a name is looked up again after a shard could not connect, or while it has no address.
pub const DNS_DOUBT_INTERVAL: Duration = Duration::from_millis(500);
/// Longest wait between such looks, each twice the last; a shorter `dns-interval` goes before it.
pub const DNS_DOUBT_INTERVAL_MAX: Duration = Duration::from_secs(4);
/// Descriptors of one shard that are no connection: rings, bell, epoll set, files of the spool. An estimate.
pub const DESCRIPTORS_PER_SHARD: usize = 32;
/// Descriptors of no shard: standard streams, helper threads, files of the spool. An estimate.
pub const DESCRIPTORS_BESIDE: usize = 64;
/// All shards up. Past it the start has failed.
pub const START_WAIT_MAX: Duration = Duration::from_secs(10);
/// One word to a service manager that does not read. Past it the word is not said.
pub const NOTIFY_WAIT_MAX: Duration = Duration::from_secs(1);
/// After accept fails for want of descriptors: how long a listener rests.
pub const ACCEPT_REST: Duration = Duration::from_millis(100);
/// Events that repeat are told so often at most, with their sum: dead letters, drops, damage.
pub const REPEAT_INTERVAL: Duration = Duration::from_secs(10);
/// An outage that lasts is said again so often.
pub const REMIND_INTERVAL: Duration = Duration::from_secs(600);
/// How often it is looked whether such a sum is to be told.
pub const REPEAT_LOOK: Duration = Duration::from_secs(1);
/// Changes of state waiting to be logged. Past it they are counted and dropped.
pub const EVENT_QUEUE_MAX: usize = 1024;
/// Lines of the log that wait to be written. Past it a line is dropped and counted.
pub const LOG_QUEUE_LINES_MAX: usize = 1024;
/// Bytes of those lines. Past it a line is dropped and counted.
pub const LOG_QUEUE_BYTES_MAX: usize = MIB;
/// At the end of the process: how long the last lines may take. Past it they are lost.
pub const LOG_FLUSH_WAIT_MAX: Duration = Duration::from_millis(500);
/// Changes of state kept for the status page. The oldest goes.
pub const RECENT_EVENTS_MAX: usize = 64;
/// glommio's buffers for files. Shards do no file I/O yet.
pub const IO_MEMORY_BYTES: usize = 64 * KIB;
/// Lockable memory that the rings of one shard need.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// What one shard can come to hold in memory at the default bounds, term by term; without TLS.
pub const fn shard_bytes_max() -> usize {
    let mut sum = 0;
    sum += INFLIGHT_BYTES_MAX; // all bodies in flight, with what each costs beside its bytes
    sum += CONNECTIONS_MAX * HEAD_BYTES_MAX; // one unfinished head per client
    sum += FLIGHTS_KEEP_MAX * FLIGHT_KEEP_BYTES; // idle flights
    sum += FLIGHTS_KEEP_LARGE_MAX * FLIGHT_KEEP_LARGE_BYTES; // those of them that are used next
    sum += OUTPUTS_MAX * MERGE_LINKS_MAX * MERGE_BATCH_BYTES_MAX; // joined requests
    sum += LEDGER_ENTRIES_MAX * LEDGER_ENTRY_BYTES; // the young end of the log
    sum += 3 * LETTERS_WAITING_BYTES_MAX; // answers that wait for their dead letters; those, and their text
    sum += GATHER_BYTES_MAX + BODY_BYTES_MAX; // what waits for the flush: it is flushed behind the last
    sum += OUTPUTS_MAX * 2 * REPLAY_BATCH_BYTES_MAX; // a window of replay, and its request
    sum += udp::LISTENERS_MAX * (udp::BATCH * udp::DATAGRAM_BYTES_MAX + udp::GATHER_BYTES_MAX); // a batch, and what waits
    sum += filter::filters_bytes_max(BODY_BYTES_MAX); // expressions, and a remote-write body among them
    sum += beside::COMPRESSED_BYTES_MAX; // compressed copies on their way
    sum + READ_BUFFER_BYTES + access::SHARD_BYTES_MAX
}

const _: () = {
    assert!(
        BODY_BYTES_MAX + FLIGHT_BYTES <= INFLIGHT_BYTES_MAX,
        "one full body must be admitted"
    );
    assert!(
        TARGET_BYTES_MAX <= HEAD_BYTES_MAX,
        "a target is part of a head"
    );
    assert!(
        MERGE_BODY_BYTES_MAX <= MERGE_BATCH_BYTES_MAX,
        "one body must fit a joined request"
    );
    assert!(
        BODY_FIRST_BYTES >= READ_BUFFER_BYTES,
        "a first read must fit a first buffer"
    );
    assert!(
        shard_bytes_max() < 1024 * MIB,
        "what the README promises per shard"
    );
};
