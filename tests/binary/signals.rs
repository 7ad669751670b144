//! SIGINT and SIGTERM stop it, the others do not.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use rustix::process::Signal;

use crate::patience::{timed, until};
use crate::peers::{Ended, Upstream, answer, bytes, client, end_of, finish, is_refused, read_all, relayed, say};
use crate::process::{Newborn, relay_to};

const STOPS: [Signal; 2] = [Signal::INT, Signal::TERM];

#[test]
fn a_session_in_flight_finishes_with_all_its_bytes() {
    for signal in STOPS {
        let upstream = Upstream::new();
        let mut relay = relay_to(upstream.address).start();
        let (client, server) = upstream.session(&relay);
        let (request, answer) = (bytes(1, 300_007), bytes(2, 2_000_003));
        relayed(&client, &server, &request[..100_000]);
        relay.signal(signal);
        relay.log.wait_for("draining 1 sessions, up to 15s");
        relayed(&client, &server, &request[100_000..]);
        finish(&client);
        assert_eq!(end_of(&server), Ended::Fin);
        relayed(&server, &client, &answer);
        finish(&server);
        assert_eq!(end_of(&client), Ended::Fin);
        assert_eq!(relay.code(), 0, "{signal:?}");
        let session = relay.log.wait_for_session();
        assert_eq!((session.up, session.down, session.end.as_str()), (300_007, 2_000_003, "client-eof"));
    }
}

#[test]
fn a_client_that_comes_after_the_signal_is_refused_at_once() {
    for signal in STOPS {
        let upstream = Upstream::new();
        let mut relay = relay_to(upstream.address).start();
        let (client, server) = upstream.session(&relay);
        relay.signal(signal);
        relay.log.wait_for("draining 1 sessions");
        // The line is said in the turn in which the listener closes, a moment before. Who comes in between finds no upstream.
        upstream.refuse();
        until("the listener to be closed", || is_refused(relay.address).then_some(()));
        finish(&client);
        finish(&server);
        assert_eq!(relay.code(), 0);
    }
}

#[test]
fn clients_in_the_kernels_queue_before_the_signal_are_served() {
    // More than are accepted in one turn.
    const CLIENTS: usize = 50;
    for signal in STOPS {
        let upstream = Upstream::new();
        let mut relay = relay_to(upstream.address).start();
        let clients: Vec<_> = relay.while_it_stands_still(|| {
            let clients = (0..CLIENTS).map(|_| client(relay.address)).collect();
            relay.signal(signal);
            clients
        });
        for (key, client) in clients.iter().enumerate() {
            say(client, &bytes(key as u64, 1000));
            finish(client);
        }
        (0..CLIENTS).for_each(|_| answer(upstream.accept()));
        for (key, client) in clients.iter().enumerate() {
            assert_eq!(read_all(client), (bytes(key as u64, 1000), Ended::Fin));
        }
        assert_eq!(relay.code(), 0);
        assert_eq!(relay.log.sessions().len(), CLIENTS);
    }
}

#[test]
fn clients_in_the_queue_of_a_full_relay_are_served_as_room_comes_free() {
    for signal in STOPS {
        let upstream = Upstream::new();
        let mut relay = relay_to(upstream.address).with(["--max-sessions", "1", "--drain-timeout", "off"]).start();
        let (first, server) = upstream.session(&relay);
        let waiting = [1, 2].map(|key| {
            let client = client(relay.address);
            say(&client, &bytes(key, 1000));
            finish(&client);
            client
        });
        relay.signal(signal);
        relay.log.wait_for("draining 1 sessions");
        finish(&first);
        answer(server);
        assert_eq!(end_of(&first), Ended::Fin);
        for (key, client) in (1..).zip(&waiting) {
            answer(upstream.accept());
            assert_eq!(read_all(client), (bytes(key, 1000), Ended::Fin));
        }
        assert_eq!(relay.code(), 0, "{signal:?}");
        assert_eq!(relay.log.sessions().len(), 3);
    }
}

/// The relay finds the signals in two turns. Its clock is read between the first signal and its end, so what is within
/// 300 ms for the test is within 300 ms for the relay. Where the machine was slower, a reset proves nothing.
#[test]
fn a_second_signal_within_300_ms_is_the_same_request() {
    for signals in [[Signal::INT; 2], [Signal::TERM; 2], [Signal::TERM, Signal::INT]] {
        let attempt = || {
            let upstream = Upstream::new();
            let mut relay = relay_to(upstream.address).start();
            let (client, server) = upstream.session(&relay);
            timed(|| {
                relay.signal(signals[0]);
                relay.log.wait_for("draining 1 sessions");
                relay.signal(signals[1]);
                // A reset fails a write too.
                let said = (&client).write_all(b"still here").and_then(|()| client.shutdown(Shutdown::Write));
                let heard = read_all(&server);
                drop(server);
                (said.is_ok(), heard, end_of(&client), relay.code())
            })
        };
        let served = (true, (b"still here".to_vec(), Ended::Fin), Ended::Fin, 0);
        let is_served = (0..10).any(|_| {
            let (outcome, took) = attempt();
            assert!(outcome == served || took >= Duration::from_millis(300), "{signals:?} {took:?}: {outcome:?}");
            outcome == served
        });
        assert!(is_served, "{signals:?}: reset each time");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the time between the signals is what this is about")]
fn a_later_signal_does_not_wait() {
    for signals in [[Signal::INT, Signal::INT], [Signal::INT, Signal::TERM], [Signal::TERM, Signal::INT]] {
        let upstream = Upstream::new();
        let mut relay = relay_to(upstream.address).with(["--drain-timeout", "off"]).start();
        let (client, server) = upstream.session(&relay);
        relay.signal(signals[0]);
        relay.log.wait_for("draining 1 sessions, as long as it takes");
        // Within 300 ms of the first, it would be the same request.
        std::thread::sleep(Duration::from_millis(350));
        let (code, took) = timed(|| {
            relay.signal(signals[1]);
            assert_eq!((end_of(&client), end_of(&server)), (Ended::Reset, Ended::Reset));
            relay.code()
        });
        assert_eq!(code, 4);
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

/// As from a terminal, `timeout`, npm or a supervisor.
#[test]
fn many_signals_at_once_are_one_request() {
    for signals in [[Signal::INT; 2], [Signal::TERM; 2], [Signal::INT, Signal::TERM]] {
        let upstream = Upstream::new();
        let mut relay = relay_to(upstream.address).start();
        let (client, server) = upstream.session(&relay);
        relay.while_it_stands_still(|| (0..10).for_each(|_| signals.iter().for_each(|one| relay.signal(*one))));
        relay.log.wait_for("draining 1 sessions");
        say(&client, b"still here");
        finish(&client);
        answer(server);
        assert_eq!(read_all(&client), (b"still here".to_vec(), Ended::Fin));
        assert_eq!(relay.code(), 0);
    }
}

#[test]
fn sigpipe_is_harmless() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    let (client, server) = upstream.session(&relay);
    relay.signal(Signal::PIPE);
    upstream.brief_session(&relay);
    relayed(&client, &server, b"hello");
    finish(&client);
    finish(&server);
    relay.log.wait_for_sessions(2);
    assert_eq!(relay.stop(), 0);
}

#[test]
fn sighup_without_a_file_is_ignored_and_mentioned_once() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    let (client, server) = upstream.session(&relay);
    for _ in 0..10 {
        relay.signal(Signal::HUP);
        // Its handler has run before the log says so, and before this session's end at the latest.
        relay.log.wait_for("SIGHUP is ignored");
        upstream.brief_session(&relay);
    }
    relayed(&client, &server, b"hello");
    finish(&client);
    finish(&server);
    relay.log.wait_for_sessions(11);
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.with("SIGHUP is ignored").len(), 1, "{:?}", relay.log.lines());
}

#[test]
fn a_signal_right_after_the_handlers_are_there_is_not_lost() {
    for round in 0..20 {
        let mut relay = Newborn::of(relay_to("127.0.0.1:9"));
        // Handlers come before the listener, so this is as early in a relay's life as can be. SIGUSR2's comes last:
        // then those before it are complete. (For some microseconds between its sigaction(2) and its entry in the table
        // of handlers, signal-hook has no choice but to drop a signal.)
        until("the last handler", || relay.catches(Signal::USR2).then_some(()));
        relay.signal(STOPS[round % 2]);
        assert_eq!(relay.code(), 0);
    }
}

#[test]
fn a_signal_right_after_it_listens_is_not_lost() {
    for round in 0..20 {
        let mut relay = Newborn::of(relay_to("127.0.0.1:9"));
        until("the listener", || relay.listens().then_some(()));
        relay.signal(STOPS[round % 2]);
        assert_eq!(relay.code(), 0);
    }
}
