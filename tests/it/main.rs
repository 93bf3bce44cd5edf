//! The relay as a process, between real sockets: what clients hear, and what backends are sent.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)] // a test fails by panicking
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // a scripted backend is no shard

mod access;
mod admin;
mod answers;
mod backend;
mod bad_input;
mod balance;
mod balancers;
mod bare;
mod client;
mod compress;
mod datagrams;
mod drain;
mod edges;
mod filters;
mod goforks;
mod hostile;
mod influxd;
mod log_sink;
mod names;
mod query;
mod query_influxd;
mod query_influxql;
mod rates;
mod recorded;
mod relay;
mod reload;
mod reload_spool;
mod restart;
mod secret_files;
mod sent;
mod service;
mod spool_admin;
mod spool_away;
mod spool_bodies;
mod spool_change;
mod spool_damage;
mod spool_disk;
mod spool_influxd;
mod spool_killed;
mod spool_old;
mod spool_poison;
mod spool_refusing;
mod spool_site;
mod store;
mod tls;
mod tls_bench;
mod tls_files;
mod tls_influxd;
mod tls_out;
mod udp;
mod udp_carried;
mod udp_influxd;
mod udp_judge;
