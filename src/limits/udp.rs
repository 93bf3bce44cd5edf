//! Bounds of UDP, and what gives way past each. Pure.

use std::time::Duration;

const MIB: usize = 1024 * 1024;

/// Bytes of one datagram. IP has no larger ones.
pub const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Bytes of the payload of one datagram that is sent. A line that is longer is dropped and counted.
pub const PAYLOAD_BYTES_MAX: usize = 65_507;
/// `[[udp]]` tables.
pub const LISTENERS_MAX: usize = 16;
/// Datagrams of one batch: what is taken before anything is sent.
pub const BATCH: usize = 64;
/// Largest `batch`.
pub const SET_BATCH_MAX: u64 = 1024;
/// Datagrams of one system call.
pub const CALL_MAX: usize = 64;
/// Bytes of a listener's queue in the kernel, per shard, as far as the kernel gives them. Past it the
/// kernel drops, and counts.
pub const READ_BUFFER_BYTES: usize = 4 * MIB;
/// Largest `read-buffer` of a UDP listener.
pub const SET_READ_BUFFER_BYTES_MAX: usize = 1024 * MIB;
/// Bytes of an output's queue in the kernel, as far as it gives them.
pub const SEND_BUFFER_BYTES: usize = MIB;
/// `mtu`: bytes of a datagram that lines are packed into. (The Go relay's.)
pub const MTU: usize = 1024;
/// Batches in a row before other tasks of the shard have their turn.
pub const BATCHES_IN_A_ROW_MAX: usize = 4;
/// How long an output's full queue in the kernel holds up a batch. Past it what is left is dropped and
/// counted.
pub const SEND_WAIT_MAX: Duration = Duration::from_millis(100);
/// How long an output that refuses datagrams counts as down, in `mode = "balance"`.
pub const DOWN_REST: Duration = Duration::from_secs(1);
/// How long nothing must be lost until a loss has ended.
pub const LOSS_REST: Duration = Duration::from_secs(1);
/// How long a receive that fails is followed by none.
pub const FAULT_REST: Duration = Duration::from_millis(100);
/// Largest `flush-window`.
pub const SET_WINDOW_MAX: Duration = Duration::from_secs(10);
/// Bytes of points that wait for an output over HTTP, per listener and shard. Past it points are dropped
/// and counted.
pub const GATHER_BYTES_MAX: usize = 4 * MIB;
/// Writes over HTTP under way at once, per listener and shard; what comes meanwhile is gathered.
pub const CARRIERS_MAX: usize = 8;
/// Bytes of an interface's name, as in the kernel. A longer one is refused.
pub const INTERFACE_BYTES_MAX: usize = 15;
