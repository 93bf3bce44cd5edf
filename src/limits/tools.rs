//! Bounds of `sink`, `bench`, `demo` and `spool show`, and what gives way past each. Pure.

use std::time::Duration;

use crate::limits::{KIB, MIB};

/// Bytes of one body at the stand-in backend, and of what it unpacks to. Past it 413, or 400.
pub const SINK_BODY_BYTES_MAX: usize = 64 * MIB;
/// How long the demo waits for an answer, or for a process to come up.
pub const TOOL_WAIT_MAX: Duration = Duration::from_secs(10);
/// Bytes of one piece of an answer that the demo reads.
pub const TOOL_ANSWER_BYTES_MAX: u64 = 1024 * MIB as u64;
/// What one read of the tools takes.
pub const TOOL_READ_BYTES: usize = 256 * KIB;
/// Connections that one `bench` opens, idle ones included. Past it the arguments are refused.
pub const BENCH_CONNECTIONS_MAX: usize = 100_000;
/// Lines of one request that `bench` sends. Past it the arguments are refused.
pub const BENCH_LINES_MAX: usize = 100_000;
/// How long `bench` tries for its first connection. Past it, it gives up with exit code 2.
pub const BENCH_CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// Between two connects of one connection of `bench`, after a failed one.
pub const BENCH_CONNECT_REST: Duration = Duration::from_millis(50);
/// Datagrams that one system call of the tools takes or gives.
pub const TOOL_DATAGRAMS: usize = 64;
/// Bytes of one datagram: what UDP can carry over IPv4. Past it the arguments are refused.
pub const TOOL_DATAGRAM_BYTES_MAX: usize = 65_507;
/// What may wait at a UDP socket of the tools, where the system allows it. Past it the kernel drops,
/// and counts.
pub const TOOL_UDP_BUFFER_BYTES: usize = 64 * MIB;
/// Datagrams that `sink` takes before its connections get their turn.
pub const SINK_DATAGRAMS_PER_TURN: usize = 1024;
/// Datagrams that `sink` takes before it says what it has counted. The rest is counted later.
pub const SINK_DATAGRAMS_BEFORE_STATS: usize = 256 * KIB;
/// Sockets from which one `bench` sends datagrams. Past it the arguments are refused.
pub const BENCH_SOCKETS_MAX: usize = 64;
/// Places where one `bench` receives datagrams. Past it the arguments are refused.
pub const BENCH_RECEIVERS_MAX: usize = 16;
/// Lines of one socket within which `bench` can tell a late one from one that has come before. What
/// comes later than that is counted as duplicated.
pub const BENCH_SEEN_LINES: usize = 4 * MIB;
/// Between two bursts of datagrams of `bench`; each is at most twice as much as is due in it.
pub const BENCH_BURST_GAP: Duration = Duration::from_micros(500);
/// How long a socket of `bench` rests that takes no datagram.
pub const BENCH_SOCKET_REST: Duration = Duration::from_micros(100);
/// Batches that `bench` takes from one receiver before it sends again.
pub const BENCH_BATCHES_PER_TURN: usize = 16;
/// How long `bench` waits for datagrams after the last was sent, whatever still comes.
pub const BENCH_LINGER_MAX: Duration = Duration::from_secs(10);

/// Records that `spool show` shows where no other count is asked for. Past it it says that there are more.
pub const SHOW_RECORDS: usize = 100;
/// Bytes of a body that `spool show` shows. The rest is not shown.
pub const SHOW_BODY_BYTES: usize = 80;
