//! Queries: what a text does decides who gets it.
//!
//! ```text
//!  target, body ─▶ form ◇ ─▶ text ─▶ influxql ◇ ─┬─▶ writes, or may: every backend, as a write
//!                                                └─▶ reads ─▶ choose ◇ ─▶ ask: one backend, streamed
//! ```
//!
//! A backend that is owed anything would show a hole, so it is not asked while another is level.

pub mod ask;
pub mod choose;
pub mod form;
pub mod influxql;
pub mod question;
pub mod touches;
