//! Upstreams that are reached by name, as a person meets them: the binary, getaddrinfo, /etc/hosts and name servers.
//!
//! ```console
//! $ cargo test --test names                                        # those that need nothing
//! # cargo test --release --test names -- --include-ignored         # all
//! ```
//! The others need root, `ip` (iproute2), `unshare` and `mount` (util-linux), and one of them redis-server. Each has a
//! network namespace of its own, and its relay a mount namespace in which `/etc/hosts`, `/etc/resolv.conf` and
//! `/etc/nsswitch.conf` are its own: nothing on this machine changes.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod machine;
mod name_server;
mod patience;
mod relay;
mod upstream;

mod black_hole;
mod hosts;
mod plain;
mod redis;
mod silence;
