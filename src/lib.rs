//! A write relay: one client's points, to every backend, under one honest answer, or to disk until the
//! backend is back.
//!
//! ```text
//!  client ─ HTTP ─▶ front ─▶ write ─▶ fanout ─┬─▶ backend ─▶ InfluxDB / Prometheus
//!                     │                 ▲     ├─▶ backend ─▶ InfluxDB / Prometheus
//!                     │                 │     └─▶ spool ─▶ replay ─▶ backend, later
//!                     │                 │
//!  client ─ UDP ──────┼────▶ udp ───────┴─▶ UDP output
//!                     ├─▶ query ─▶ one backend that lacks nothing
//!                     └─▶ admin: /ping /health /ready /status /metrics /admin
//! ```
//!
//! Each shard is one executor pinned to one CPU. It owns its listeners, its client connections,
//! its links to the backends, its spool log, its memory budget and its counters; `boot` starts the
//! shards and stops them, puts another plan in force under them (`boot/reload`), and hands the listening sockets to
//! a successor (`boot/succession`). The route of one write, file by file, is the order of the modules below, from
//! the bottom up: `front/listener` → (`engine/secure`) → `front/connection` → `front/intake` → `http/request`,
//! `http/body` → `front/route` → (`front/gate`, `access`) → `write` → `http/target`, `payload/line` →
//! (`fanout/share`, `payload/filter`) → `fanout` → (`spool/keeper`) → `backend/pool` → `backend/compose` →
//! `backend/exchange` → `fanout/verdict` → `http/response`, written by `front/connection`. What a
//! backend missed goes `spool/log` → `spool/source` → `replay/queue` → `replay/delivery` →
//! `backend/errand`. A datagram goes `engine/datagram` → `udp/door` → `udp/sorter`, `payload/judge` →
//! `udp/pack` → `udp/outlet`, or → `udp/carrier` → `fanout`.
//!
//! # Floors
//!
//! A room may import rooms that stand below it, never beside or above it. `tests/house.rs` reads
//! this table and holds every `use` to it.
//!
//! | floor | rooms | |
//! |---|---|---|
//! | 8 | `cli` | one file per subcommand |
//! | 7 | `config`, `boot` | the file and the environment become a `Plan`; a `Plan` becomes running shards |
//! | 6 | `front`, `udp` | the doors of one shard: HTTP, UDP |
//! | 5 | `write`, `query`, `admin`, `replay` | what the relay does |
//! | 4 | `fanout` | one write, every backend at once |
//! | 3 | `shard` | what one pinned executor owns; state only, starts no task |
//! | 2 | `backend`, `access` | one backend as one shard sees it; who may do what, and how often |
//! | 1 | `engine`, `http`, `payload`, `metrics`, `events`, `spool` | sockets and TLS; bytes and types; the durable log |
//! | 0 | `limits`, `plan`, `clock` | every bound; what to run; the only clock |
//!
//! # What is not here
//!
//! - No lock, and nothing that two shards both write, but one word per backend (`spool/board`): whether
//!   it is live; and, where a rate is limited, one word per bucket (`access/rates`).
//! - No socket, clock, file or random number in a file whose first line ends in `Pure.`
//! - No bound outside `limits`, and no room but `config` and `cli` that has seen the config file.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod front;
pub mod udp;

pub mod write;

pub mod query;

pub mod replay;

pub mod admin;

pub mod fanout;

pub mod shard;

pub mod access;
pub mod backend;

pub mod http;
pub mod payload;
pub mod spool;

pub mod engine;
pub mod events;
pub mod metrics;
pub mod plan;

pub mod clock;
pub mod limits;

pub mod boot;
pub mod cli;
pub mod config;
