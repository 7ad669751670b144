//! Who may come, how many, and for how long; and a drain that begins later or ends the idle first.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};
use rustix::process::Signal;

use crate::patience::until;
use crate::peers::{Ended, Upstream, answer, client, end_of, fate_of_a_client, finish, is_refused, limited, relayed};
use crate::process::{Relay, relay_to};

/// A client that connects from this address of the loopback network.
fn client_from(last: u8, relay: &Relay) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let from: IpAddr = Ipv4Addr::new(127, 0, 0, last).into();
    rustix::net::bind(&socket, &SocketAddr::new(from, 0)).unwrap();
    rustix::net::connect(&socket, &relay.address).unwrap();
    limited(socket.into())
}

/// It gets its answer.
fn is_served(client: TcpStream, upstream: &Upstream) {
    relayed(&client, &upstream.accept(), b"hello");
}

/// The causes of the clients that were not served so far.
fn refusals(relay: &Relay) -> Vec<String> {
    let lines = relay.log.with("DEBUG [tproxy] session ");
    lines.iter().map(|line| line.rsplit_once("end=").unwrap().1.to_owned()).collect()
}

#[test]
fn a_denied_client_is_reset_and_no_upstream_hears_of_it() {
    let upstream = Upstream::new();
    for arguments in [["--deny", "127.0.0.2,10.0.0.0/8"], ["--allow", "127.0.0.1/32"]] {
        let mut relay = relay_to(upstream.address).with(arguments).with(["-v"]).start();
        for _ in 0..3 {
            assert_eq!(end_of(&client_from(2, &relay)), Ended::Reset);
        }
        let line = until("three refusals", || (refusals(&relay).len() == 3).then(|| relay.log.with(" is denied")));
        assert_eq!(refusals(&relay), ["denied"; 3]);
        assert!(line.len() == 1 && line[0].contains("INFO  [tproxy] client 127.0.0.2:"), "once a minute: {line:?}");
        is_served(client_from(1, &relay), &upstream);
        relay.log.wait_for("INFO  [tproxy] session client=127.0.0.1:");
        assert_eq!(relay.stop(), 0);
        let stopped = relay.log.with("stopped after");
        assert!(stopped[0].contains("stopped after 1 sessions, ") && stopped[0].contains(" denied=3"), "{stopped:?}");
    }
    assert!(upstream.is_left_alone());
}

#[test]
fn a_list_of_networks_may_be_written_in_several_options() {
    let upstream = Upstream::new();
    let relay = relay_to(upstream.address).with(["--deny", "127.0.0.2", "--deny", "127.0.0.3"]).start();
    assert_eq!([2, 3].map(|last| end_of(&client_from(last, &relay))), [Ended::Reset; 2]);
    is_served(client_from(1, &relay), &upstream);
    assert!(upstream.is_left_alone());
}

#[test]
fn a_client_address_has_so_many_sessions_and_another_address_is_served() {
    let upstream = Upstream::new();
    let relay = relay_to(upstream.address).with(["--max-sessions-per-ip", "2", "-v"]).start();
    let mine = [client(relay.address), client(relay.address)].map(|client| (client, upstream.accept()));
    mine.iter().for_each(|(client, server)| relayed(client, server, b"hello"));
    assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
    assert_eq!(until("a refusal", || refusals(&relay).pop()), "limit");
    relay.log.wait_for("is reset: its address has 2 sessions, which is the most");
    is_served(client_from(2, &relay), &upstream);
    relay.log.wait_for_sessions(1);
    let [(client, server), _still] = mine;
    finish(&client);
    finish(&server);
    relay.log.wait_for_sessions(2);
    is_served(client_from(1, &relay), &upstream);
    assert_eq!(relay.log.wait_for_sessions(3).len(), 3);
    assert!(upstream.is_left_alone());
}

#[test]
fn at_the_limit_clients_are_reset_if_they_are_not_to_wait() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--max-sessions", "1", "--at-limit", "reset", "-v"]).start();
    let (near, far) = upstream.session(&relay);
    relay.log.wait_for("at the limit of 1 sessions; new clients are reset (--max-sessions-per-ip");
    for _ in 0..5 {
        assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
    }
    until("five refusals", || (refusals(&relay) == ["limit"; 5]).then_some(()));
    assert_eq!(relay.log.with("there is no room for another session").len(), 1, "once a minute");
    finish(&near);
    finish(&far);
    relay.log.wait_for_session();
    is_served(client(relay.address), &upstream);
    relay.log.wait_for_sessions(2);
    assert_eq!(relay.stop(), 0);
    let stopped = relay.log.with("stopped after");
    assert!(stopped[0].contains("stopped after 2 sessions, ") && stopped[0].ends_with(" limited=5"), "{stopped:?}");
}

#[test]
fn a_session_ends_with_its_lifetime_however_busy_it_is() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--max-lifetime", "400ms"]).start();
    let (near, far) = upstream.session(&relay);
    let error = until("the end of the session", || {
        (&near).write_all(b"ping").and_then(|()| (&far).read_exact(&mut [0; 4])).err()
    });
    // At one end or the other.
    assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()), "{error}");
    let session = relay.log.wait_for_session();
    assert_eq!(session.end, "lifetime");
    assert!(session.time >= 0.36, "{session:?}");
    assert_eq!(relay.stop(), 0);
}

#[test]
fn clients_are_served_as_before_until_the_delay_of_the_drain_is_over() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--drain-delay", "1s", "--drain-timeout", "20s"]).start();
    let (near, far) = upstream.session(&relay);
    relay.signal(Signal::TERM);
    relay.log.wait_for("asked to stop with 1 sessions; clients are accepted for 1s, then it drains");
    let late = client(relay.address);
    answer_a(&late, &upstream);
    relayed(&near, &far, b"still here");
    relay.log.wait_for("draining 1 sessions, up to 20s");
    // The listener closes a little after it says so. Whoever comes in between finds no upstream.
    upstream.refuse();
    until("a client to be refused", || is_refused(relay.address).then_some(()));
    finish(&near);
    finish(&far);
    assert_eq!(relay.code(), 0);
}

fn answer_a(client: &TcpStream, upstream: &Upstream) {
    finish(client);
    answer(upstream.accept());
    assert_eq!(end_of(client), Ended::Fin);
}

#[test]
fn a_second_signal_does_not_wait_for_the_delay() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--drain-delay", "1h"]).start();
    let (near, _far) = upstream.session(&relay);
    relay.signal(Signal::TERM);
    relay.log.wait_for("asked to stop with 1 sessions");
    // Within 300 ms it is the same request.
    until("the session to be reset", || {
        relay.signal(Signal::TERM);
        relay.log.sessions().pop()
    });
    assert_eq!((end_of(&near), relay.code()), (Ended::Reset, 4));
}

#[test]
fn while_draining_the_idle_end_first_and_count_as_finished() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--drain-idle-timeout", "1s", "--drain-timeout", "20s"]).start();
    let [(idle, _far), (busy, server)] = [(); 2].map(|()| upstream.session(&relay));
    relay.signal(Signal::TERM);
    until("the idle session to end", || {
        relayed(&busy, &server, b"ping");
        (!relay.log.sessions().is_empty()).then_some(())
    });
    assert_eq!((relay.log.wait_for_session().end.as_str(), end_of(&idle)), ("drain-idle", Ended::Reset));
    relayed(&busy, &server, b"pong");
    finish(&busy);
    finish(&server);
    assert_eq!(relay.code(), 0, "nobody was reset who was not idle");
}

#[test]
fn the_idle_time_of_the_drain_does_not_count_before_it_and_during_the_delay_nobody_is_reset() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address)
        .with(["--drain-delay", "700ms", "--drain-idle-timeout", "100ms", "--drain-timeout", "20s"])
        .start();
    let (idle, _far) = upstream.session(&relay);
    relay.signal(Signal::TERM);
    assert_eq!(end_of(&idle), Ended::Reset);
    let session = relay.log.wait_for_session();
    assert!(session.end == "drain-idle" && session.time >= 0.7, "{session:?}");
    assert_eq!(relay.code(), 0);
    assert!(Duration::from_secs_f64(session.time) < Duration::from_secs(20));
}

#[test]
fn the_idle_time_of_the_drain_counts_from_the_last_byte_also_if_that_was_before_the_signal() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address)
        .with(["--drain-delay", "2s", "--drain-idle-timeout", "2s", "--drain-timeout", "20s"])
        .start();
    let (_idle, _far) = upstream.session(&relay);
    relay.signal(Signal::TERM);
    let session = relay.log.wait_for_session();
    // When the drain begins it has been idle for long enough.
    assert!(session.end == "drain-idle" && session.time >= 2.0 && session.time < 4.0, "{session:?}");
    assert_eq!(relay.code(), 0);
}

#[test]
fn a_signal_right_after_the_delay_is_a_second_one() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--drain-delay", "1s", "--drain-timeout", "off"]).start();
    let (near, _far) = upstream.session(&relay);
    relay.signal(Signal::TERM);
    relay.log.wait_for("draining 1 sessions, as long as it takes");
    relay.signal(Signal::TERM);
    assert_eq!((end_of(&near), relay.code()), (Ended::Reset, 4));
}
