//! The binary as a person meets it: exit codes, signals, the log, descriptors, what it says to bad input.
//!
//! What it does with bytes is in `tests/contract`. Linux only: these tests look into `/proc`.

#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

mod journal;
mod patience;
mod peers;
mod pid_file;
mod proc;
mod process;
mod served;
mod systemd;

mod admin;
mod admin_clients;
mod admin_counts;
mod admin_hand_over;
mod bad_input;
mod clients;
mod config_file;
mod databases;
mod descriptors;
mod ends;
mod exit_codes;
mod hand_over;
mod http;
mod idle;
mod inherited;
mod injected;
mod kill;
mod log;
mod log_format;
mod notify;
mod options;
mod port_file;
mod ports;
mod proxies;
mod real_proxies;
mod reload;
mod replacing;
mod report;
mod routes;
mod signals;
mod sockets;
mod stderr;
mod unit;
mod unix;
