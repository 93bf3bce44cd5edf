//! The socket engine: one edge-triggered epoll set per shard, awaited through glommio.
//!
//! glommio's own streams cost twice what a bare epoll loop does, because each of them polls through
//! the ring and each completion interrupts the executor. Here one poll of the ring covers all
//! sockets of a shard:
//!
//! ```text
//!  kernel ─▶ epoll set ─▶ Driver::run ─▶ slot: ready bits, wakers ─▶ Stream::poll_* in its task
//!                ▲               │
//!                └── one POLL_ADD on glommio's ring, only when there is nothing to do
//! ```
//!
//! This room knows sockets, wakers and deadlines, and nothing of HTTP. If another way to wait wins
//! one day, only this room changes.

pub mod bell;
pub mod datagram;
mod datagram_calls;
pub mod driver;
mod joint;
pub mod listener;
pub mod secure;
pub mod stream;
pub mod timer;
pub mod tls;
pub mod tls_words;
