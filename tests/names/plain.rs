//! What every machine can show: a name of its own, and one that nobody has.

use std::net::ToSocketAddrs as _;

use crate::patience::{a_while, timed, until};
use crate::relay::Relay;
use crate::upstream::Upstream;

/// Longer than a label may be (63), so it is known not to exist without asking a name server.
fn impossible_name() -> String {
    format!("{}.invalid", "a".repeat(64))
}

#[test]
fn localhost_leads_to_the_loopback_address_that_answers() {
    // Some machines know one of the two only.
    for at in ("localhost", 0).to_socket_addrs().unwrap() {
        let upstream = Upstream::new(&at.to_string(), "A");
        let mut relay = Relay::here(&["-f", "127.0.0.1:0", "-t", &format!("localhost:{}", upstream.port())]);
        assert_eq!(relay.ask(0).unwrap(), "A");
        relay.wait_for(&["session ", &format!(" upstream={} ", upstream.address), " end=upstream-eof"]);
        assert_eq!(relay.stop().0, 0);
    }
}

#[test]
fn no_thread_is_left_when_a_name_was_looked_up_and_nothing_is_called() {
    let upstream = Upstream::new("127.0.0.1:0", "A");
    let relay = Relay::here(&["-f", "127.0.0.1:0", "-t", &format!("localhost:{}", upstream.port())]);
    for _ in 0..3 {
        assert_eq!(relay.ask(0).unwrap(), "A");
    }
    relay.wait_for(&["session "]);
    until("the resolver's thread to end", || (relay.resolver_threads() == 0).then_some(()));
    // What is written to the log is written on a thread of its own.
    let mut sleeps = relay.sleeps();
    until("the relay to be idle", || {
        a_while();
        let before = std::mem::replace(&mut sleeps, relay.sleeps());
        (before == sleeps).then_some(())
    });
}

#[test]
fn a_name_that_does_not_exist_ends_its_sessions_at_once_and_no_others() {
    let upstream = Upstream::new("127.0.0.1:0", "A");
    let (nowhere, there) = (format!("{}:80", impossible_name()), format!("127.0.0.1:{}", upstream.port()));
    let mut relay = Relay::here(&["-f", "127.0.0.1:0", "-t", &nowhere, "-f", "127.0.0.1:0", "-t", &there]);
    for _ in 0..3 {
        let (told, time) = timed(|| relay.ask(0));
        assert!(told.is_err(), "{told:?}");
        // The connect deadline is 5 s.
        assert!(time.as_secs() < 3, "{time:?}");
        assert_eq!(relay.ask(1).unwrap(), "A");
    }
    relay.wait_for(&["session ", " upstream=- ", " end=unresolved"]);
    assert_eq!(relay.stop().0, 0);
}
