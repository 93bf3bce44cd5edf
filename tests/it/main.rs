//! The relay as a process, between real sockets: what clients hear, and what backends are sent.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // a test fails by panicking
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // a scripted backend is no shard

mod answers;
mod backend;
mod bad_input;
mod client;
mod drain;
mod edges;
mod influxd;
mod recorded;
mod relay;
mod sent;
mod spool_admin;
