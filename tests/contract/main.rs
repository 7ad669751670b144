//! The contract of the relay, rule by rule, on real sockets of the loopback interface. Each case that has two sides
//! runs both ways round.
//!
//! The relay copies small messages and splices bulk here, as it does by default. `tests/copied.rs` and
//! `tests/spliced.rs` run the same cases with nothing spliced, and with everything.
//!
//! What a person sees of the binary (exit codes, signals, the log, descriptors) is in `tests/binary`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

mod connecting;
mod drain;
mod ends;
mod integrity;
mod support;
mod switching;
mod waiting;

const SPLICE: tproxy::Splice = tproxy::Splice::Auto;
