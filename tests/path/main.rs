//! A long path that loses packets: what was acknowledged by the relay before a reset arrives behind it.
//!
//! ```console
//! # cargo test --release --test path -- --ignored --nocapture
//! # TPROXY_PATH_SEED=2 cargo test --release --test path -- --ignored --nocapture     # other packets are lost
//! ```
//! Two network namespaces, joined by two TUN devices and a small program between them (`wire.py`) that holds each packet
//! for 150 ms and loses 2 of 100, in both directions. An upstream beside the relay sends 256 KiB to each of 100 clients at
//! the other end, waits until its kernel has nothing left that is not acknowledged, and resets. Each client is to have all
//! of it before it sees the reset. The same is done with the grace of a machine room, to compare.
//!
//! And an upstream that vanishes while bytes to it are under way, without a word: the far end loses its address. A session
//! with `--tcp-user-timeout` ends within it, one without does not.
//!
//! It needs root, `ip` (iproute2), python3 and /dev/net/tun, and takes about a quarter of a minute.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod network;
mod peers;
mod vanish;

use std::thread;

use network::{End, Network, Wire};
use peers::{Client, Relay, Upstream};

const SESSIONS: usize = 100;
const BYTES: usize = 256 << 10;

/// The default, and what it was before.
const GRACES: [&str; 2] = ["auto", "300ms"];

#[test]
#[ignore = "needs root, iproute2, python3 and /dev/net/tun, and takes a minute: see the head of this file"]
fn what_was_acknowledged_before_a_reset_crosses_a_long_path_that_loses_packets() {
    let seed = std::env::var("TPROXY_PATH_SEED").map_or(1, |seed| seed.parse().unwrap());
    let network = Network::new(&Wire { delay_ms: 150, loss_percent: 2, seed });
    let whole = thread::scope(|scope| {
        let runs = GRACES.map(|grace| scope.spawn(|| count_whole(&network, grace)));
        runs.map(|run| run.join().unwrap())
    });
    let carried = network.cut();
    for (grace, whole) in GRACES.iter().zip(whole) {
        eprintln!("--reset-grace {grace}: {whole} of {SESSIONS} whole");
    }
    eprintln!("{carried}");
    assert_eq!(whole[0], SESSIONS, "not all of it arrived");
}

/// How many clients of a relay with this grace get everything?
fn count_whole(network: &Network, grace: &str) -> usize {
    let upstream = Upstream::start(network, BYTES);
    let relay = Relay::start(network, upstream.address, &["--reset-grace", grace]);
    let clients: Vec<_> = thread::scope(|scope| {
        let run = || {
            network.enter(End::Far);
            Client::run(relay.address)
        };
        let runs: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(run)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let lines = relay.stop();
    let is_whole = |client: &&Client| client.received == BYTES && client.was_reset;
    for torn in clients.iter().filter(|client| !is_whole(client)) {
        let line = lines.iter().find(|line| line.contains(&format!("client={} ", torn.address))).unwrap();
        // Those of the short grace are its own doing.
        if grace == GRACES[0] {
            eprintln!("{} of {BYTES} bytes: {line}", torn.received);
        }
        // What the kernel took and the client did not get is said to be undelivered.
        let field = |name: &str| line.split(name).nth(1).map_or("", |rest| rest.split(' ').next().unwrap());
        let down: usize = field(" down=").parse().unwrap();
        let undelivered = field(" undelivered=").split('/').nth(1).map_or(0, |count| count.parse().unwrap());
        assert!((down - torn.received..=BYTES).contains(&undelivered), "{} received: {line}", torn.received);
    }
    clients.iter().filter(is_whole).count()
}
