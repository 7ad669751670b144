//! Restarts under load: a thousand clients a second, and none is refused, reset or kept waiting.
//!
//! ```console
//! $ cargo test --release --test restart -- --ignored --nocapture --test-threads 1
//! ```
//! Each client connects, says something, hears it again byte for byte, and sees a clean end. While they come, the relay hands
//! over to a new process 100 times (SIGUSR2), is restarted 20 times behind a listening socket that somebody else holds, and
//! reads its file again 50 times (SIGHUP). A run without any of that comes before and after each, for comparison: the machine
//! has its own pauses. It takes about five minutes.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods)]

mod load;
mod relay;

use std::time::Duration;

use rustix::process::Signal;

use load::{Ledger, Upstream};
use relay::Relay;

/// Between two restarts.
const GAP: Duration = Duration::from_millis(300);

/// Runs with the work of `restart` in them, beside runs without, and compares.
fn compare(name: &str, times: usize, upstream: &Upstream, relay: &mut Relay, mut restart: impl FnMut(&mut Relay)) {
    let calm = |relay: &Relay| upstream.load(relay.address, || std::thread::sleep(Duration::from_secs(10)));
    let before = calm(relay);
    let address = relay.address;
    let during = upstream.load(address, || {
        for _ in 0..times {
            restart(relay);
            std::thread::sleep(GAP);
        }
    });
    let after = calm(relay);
    eprintln!("{name}, {times} times\n  before {before}\n  during {during}\n  after  {after}");
    assert_eq!((during.failed.as_slice(), during.over_second), (&[][..], 0), "{name}");
    // Of as many connections as there were, and one for each restart.
    let rate = |ledger: &Ledger| ledger.slow as f64 / ledger.served as f64;
    let usual = rate(&before).max(rate(&after)) * during.served as f64;
    assert!(during.slow as f64 <= usual + times as f64, "{name}: {} slow, usually {usual}", during.slow);
    assert!(during.served > times * 100, "{name}: the load was not there");
}

#[test]
#[ignore = "five minutes: see the head of this file"]
fn hand_overs_lose_nobody() {
    let upstream = Upstream::new();
    let mut relay = Relay::start(&upstream, false);
    compare("SIGUSR2", 100, &upstream, &mut relay, |relay| relay.hand_over());
}

#[test]
#[ignore = "five minutes: see the head of this file"]
fn restarts_behind_a_socket_unit_lose_nobody() {
    let upstream = Upstream::new();
    let mut relay = Relay::start(&upstream, true);
    // Clients wait until the old one has drained: its sessions are short.
    compare("restart", 20, &upstream, &mut relay, |relay| relay.restart());
}

#[test]
#[ignore = "five minutes: see the head of this file"]
fn reloads_lose_nobody() {
    let upstream = Upstream::new();
    let mut relay = Relay::start(&upstream, false);
    let mut even = false;
    compare("SIGHUP", 50, &upstream, &mut relay, |relay| {
        even = !even;
        relay.write_file(&upstream, if even { "idle-timeout = \"1h\"\n" } else { "" });
        relay.signal(Signal::HUP);
    });
}
