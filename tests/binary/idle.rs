//! What a relay costs while nothing happens: descriptors as the ledger says, and no system call.

use crate::patience::{a_while, until};
use crate::peers::{BlackHole, Ended, Nobody, Upstream, end_of, fate_of_a_client, finish, relayed, reset};
use crate::proc::inherited_descriptors;
use crate::process::{Relay, relay_to};

/// stdin, stdout, stderr.
const STDIO: usize = 3;
/// A pair of sockets: what is written to one wakes the event queue, which watches the other.
const CONTROL: usize = 2;
/// The handlers of SIGINT and SIGTERM each have a copy of the end that is written to.
const STOP_SIGNALS: usize = 2;
/// A pair of sockets: the handlers of SIGHUP, SIGUSR1 and SIGUSR2 wake the thread that waits for them.
const OTHER_SIGNALS: usize = 2;
/// The event queue.
const EPOLL: usize = 1;
/// Where clients connect.
const LISTENER: usize = 1;

const FIXED: usize = STDIO + CONTROL + STOP_SIGNALS + OTHER_SIGNALS + EPOLL + LISTENER;

/// The client's connection and the upstream's.
const EACH_SESSION: usize = 2;

#[track_caller]
fn holds(relay: &Relay, sessions: usize) {
    let expected = FIXED + inherited_descriptors() + EACH_SESSION * sessions;
    until(&format!("{expected} descriptors"), || (relay.descriptors().len() == expected).then_some(()));
}

#[test]
fn descriptors_are_a_fixed_number_and_two_for_each_session() {
    const SESSIONS: usize = 20;
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    holds(&relay, 0);
    let mut sessions = Vec::new();
    for count in 1..=SESSIONS {
        let (client, server) = upstream.session(&relay);
        relayed(&client, &server, b"hello");
        relayed(&server, &client, b"hello");
        sessions.push((client, server));
        assert_eq!(relay.descriptors().len(), FIXED + inherited_descriptors() + EACH_SESSION * count);
    }
    // A half-closed session still has both.
    finish(&sessions[0].0);
    assert_eq!(end_of(&sessions[0].1), Ended::Fin);
    holds(&relay, SESSIONS);
    // However a session ends, both are free.
    for (index, (client, server)) in sessions.into_iter().enumerate() {
        match index % 4 {
            0 => drop((client, server)),
            1 => reset(client),
            2 => reset(server),
            _ => drop((server, client)),
        }
    }
    relay.log.wait_for_sessions(SESSIONS);
    holds(&relay, 0);
    assert_eq!(relay.stop(), 0);
}

#[test]
fn sessions_that_came_to_nothing_leave_no_descriptor() {
    let (nobody, hole) = (Nobody::new(), BlackHole::new());
    let refused = relay_to(nobody.address).with(["--connect-attempts", "2"]).start();
    let timed_out = relay_to(hole.address).with(["--connect-timeout", "100ms"]).start();
    for relay in [refused, timed_out] {
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..10).map(|_| scope.spawn(|| fate_of_a_client(relay.address))).collect();
            assert!(clients.into_iter().all(|client| client.join().unwrap() == Ended::Reset));
        });
        relay.log.wait_for_sessions(10);
        holds(&relay, 0);
    }
}

#[test]
fn the_listener_is_closed_while_draining() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    let (client, server) = upstream.session(&relay);
    relay.signal(rustix::process::Signal::TERM);
    relay.log.wait_for("draining 1 sessions");
    let expected = FIXED - LISTENER + inherited_descriptors() + EACH_SESSION;
    until("the listener to be closed", || (relay.descriptors().len() == expected).then_some(()));
    drop((client, server));
    assert_eq!(relay.code(), 0);
}

#[test]
fn an_idle_relay_makes_no_system_call() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    let sessions: Vec<_> = (0..20).map(|_| upstream.session(&relay)).collect();
    for (client, server) in &sessions {
        relayed(client, server, b"hello");
        relayed(server, client, b"hello");
    }
    // The log's thread may still be at its last line.
    let mut before = relay.sleeps();
    until("it to settle", || {
        a_while();
        let settled = std::mem::replace(&mut before, relay.sleeps()) == before;
        settled.then_some(())
    });
    let worked = relay.processor_time();
    a_while();
    // A thread that sleeps cannot make a call without waking up, and would have to sleep again.
    assert_eq!(relay.sleeps(), before);
    assert_eq!(relay.processor_time(), worked);
    drop(sessions);
    assert_eq!(relay.stop(), 0);
}
