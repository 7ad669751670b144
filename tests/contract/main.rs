//! The contract of the relay, rule by rule, on real sockets of the loopback interface.
//!
//! Each case runs in all three splice modes: with small messages copied and bulk spliced, as by default, with nothing
//! spliced, and with everything. Each case that has two sides also runs both ways round.
//!
//! What a person sees of the binary (exit codes, signals, the log, descriptors) is in `tests/binary`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

mod connecting;
mod drain;
mod ends;
mod integrity;
mod kernel;
mod neighbours;
mod options;
mod reload;
mod sockets;
mod support;
mod switching;
mod unix;
mod waiting;
