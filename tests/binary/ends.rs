//! Each word that `end=` can have, brought about from outside, and what both ends see of it.
//!
//! Two cannot be had without a network that loses packets: client-timeout and upstream-timeout.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;

use crate::journal::Session;
use crate::patience::until;
use crate::peers::{
    BlackHole, Ended, Nobody, Upstream, client, clog, end_of, fate_of_a_client, finish, hear, read_all, relayed, reset,
    say,
};
use crate::process::{Relay, relay_to};

/// A relay with one session, in which `abc` went up and `defg` came down.
struct Bench {
    relay: Relay,
    client: TcpStream,
    server: TcpStream,
}

fn bench<const N: usize>(arguments: [&str; N]) -> Bench {
    let upstream = Upstream::new();
    let relay = relay_to(upstream.address).with(arguments).start();
    let (client, server) = upstream.session(&relay);
    relayed(&client, &server, b"abc");
    relayed(&server, &client, b"defg");
    Bench { relay, client, server }
}

/// The session's line says this, and how long it took.
#[track_caller]
fn ended(relay: &Relay, end: &str, up: u64, down: u64) -> Session {
    let session = relay.log.wait_for_session();
    assert_eq!((session.end.as_str(), session.up, session.down), (end, up, down));
    assert!(session.undelivered.is_none() || !end.ends_with("-eof"), "after an orderly end: {session:?}");
    session
}

fn error_of_writing(mut stream: &TcpStream) -> ErrorKind {
    until("an error", || stream.write(b"x").err()).kind()
}

#[test]
fn client_eof_when_the_client_finished_first() {
    let Bench { relay, client, server } = bench([]);
    finish(&client);
    assert_eq!(end_of(&server), Ended::Fin);
    say(&server, b"answer");
    drop(server);
    assert_eq!(hear(&client, 6), b"answer");
    assert_eq!(end_of(&client), Ended::Fin);
    ended(&relay, "client-eof", 3, 10);
}

#[test]
fn upstream_eof_when_the_upstream_finished_first() {
    let Bench { relay, client, server } = bench([]);
    finish(&server);
    assert_eq!(end_of(&client), Ended::Fin);
    say(&client, b"answer");
    drop(client);
    assert_eq!(hear(&server, 6), b"answer");
    assert_eq!(end_of(&server), Ended::Fin);
    ended(&relay, "upstream-eof", 9, 4);
}

#[test]
fn client_reset_when_the_client_resets() {
    let Bench { relay, client, server } = bench([]);
    reset(client);
    assert_eq!(end_of(&server), Ended::Reset);
    ended(&relay, "client-reset", 3, 4);
}

#[test]
fn upstream_reset_when_the_upstream_resets() {
    let Bench { relay, client, server } = bench([]);
    reset(server);
    assert_eq!(end_of(&client), Ended::Reset);
    ended(&relay, "upstream-reset", 3, 4);
}

#[test]
fn client_closed_when_there_is_more_for_a_client_that_hung_up() {
    let Bench { relay, client, server } = bench([]);
    drop(client);
    assert_eq!(end_of(&server), Ended::Fin);
    // Its kernel takes this byte and answers with a reset: EPIPE, since the FIN came before it (K9, K16).
    say(&server, b"x");
    ended(&relay, "client-closed", 3, 5);
    // After its FIN a reset shows only to who writes (K12).
    assert_eq!(error_of_writing(&server), ErrorKind::BrokenPipe);
}

#[test]
fn upstream_closed_when_there_is_more_for_an_upstream_that_hung_up() {
    let Bench { relay, client, server } = bench([]);
    drop(server);
    assert_eq!(end_of(&client), Ended::Fin);
    say(&client, b"x");
    ended(&relay, "upstream-closed", 4, 4);
    assert_eq!(error_of_writing(&client), ErrorKind::BrokenPipe);
}

/// Bytes and FIN arrive together, and the reset that answers the bytes comes before the FIN can be passed on.
#[test]
fn closed_also_when_the_last_that_is_said_to_who_hung_up_comes_with_a_fin() {
    for (swap, end) in [(false, "upstream-closed"), (true, "client-closed")] {
        let Bench { relay, client, server } = bench([]);
        let (near, far) = if swap { (server, client) } else { (client, server) };
        drop(far);
        assert_eq!(end_of(&near), Ended::Fin);
        rustix::net::send(&near, b"too late", rustix::net::SendFlags::MORE).unwrap();
        finish(&near);
        let counts = if swap { (3, 12) } else { (11, 4) };
        ended(&relay, end, counts.0, counts.1);
    }
}

/// As PostgreSQL does: the client has said goodbye and is gone, and the server's last bytes meet nobody.
#[test]
fn what_a_side_that_hung_up_was_still_sent_is_said_to_be_undelivered() {
    for (swap, undelivered) in [(false, (31, 0)), (true, (0, 31))] {
        let Bench { relay, client, server } = bench([]);
        let (near, far) = if swap { (server, client) } else { (client, server) };
        drop(far);
        assert_eq!(end_of(&near), Ended::Fin);
        say(&near, &[0; 31]);
        let session = relay.log.wait_for_session();
        assert_eq!(session.undelivered, Some(undelivered), "{session:?}");
    }
}

#[test]
fn a_reset_that_cost_nothing_says_nothing_and_one_that_cost_bytes_says_how_many() {
    let Bench { relay, client, server } = bench([]);
    reset(server);
    assert_eq!(end_of(&client), Ended::Reset);
    assert_eq!(relay.log.wait_for_session().undelivered, None);
    for swap in [false, true] {
        let Bench { relay, client, server } = bench(["--splice", "off"]);
        let (near, far) = if swap { (client, server) } else { (server, client) };
        clog(&near);
        reset(near);
        let session = relay.log.wait_for_session();
        // What came before the reset can still be read.
        let (heard, ended) = read_all(&far);
        assert_eq!(ended, Ended::Reset);
        let (up, down) = session.undelivered.expect("there was something");
        let (written, said, other) = if swap { (session.up - 3, up, down) } else { (session.down - 4, down, up) };
        // And what was held, one buffer at most.
        let lost = written - heard.len() as u64;
        assert!(lost > 0 && (lost..=lost + (64 << 10)).contains(&said), "{lost} lost, {session:?}");
        assert_eq!(other, 0, "{session:?}");
    }
}

/// Nothing is asked of the kernel when a drain resets what is left: what is held is said.
#[test]
fn a_drain_that_resets_a_clogged_session_says_what_was_held() {
    let Bench { mut relay, client, server } = bench(["--splice", "off", "--drain-timeout", "0"]);
    clog(&server);
    assert_eq!(relay.stop(), 4);
    relay.log.wait_for("draining 1 sessions, up to 0s");
    let session = relay.log.sessions().remove(0);
    assert_eq!(session.end, "drain");
    let (up, down) = session.undelivered.unwrap_or_default();
    assert!(up == 0 && down <= 64 << 10, "{session:?}");
    drop(client);
}

#[test]
fn idle_timeout_when_nothing_moved_for_long() {
    let Bench { relay, client, server } = bench(["--idle-timeout", "100ms"]);
    assert_eq!((end_of(&client), end_of(&server)), (Ended::Reset, Ended::Reset));
    let session = ended(&relay, "idle-timeout", 3, 4);
    assert!((0.1..4.0).contains(&session.time), "{session:?}");
}

#[test]
fn half_close_timeout_when_nothing_moved_for_long_after_one_fin() {
    for client_is_first in [true, false] {
        let Bench { relay, client, server } = bench(["--half-close-timeout", "100ms"]);
        let (near, far) = if client_is_first { (client, server) } else { (server, client) };
        finish(&near);
        // What was said cannot be unsaid: this end has had its FIN.
        assert_eq!(end_of(&far), Ended::Fin);
        assert_eq!(end_of(&near), Ended::Reset);
        let session = ended(&relay, "half-close-timeout", 3, 4);
        assert!((0.1..4.0).contains(&session.time), "{session:?}");
    }
}

#[test]
fn refused_when_nobody_listens_there() {
    let nobody = Nobody::new();
    let relay = relay_to(nobody.address).with(["--connect-attempts", "1"]).start();
    assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
    let session = ended(&relay, "refused", 0, 0);
    assert_eq!(session.upstream, Some(nobody.address));
}

#[test]
fn unreachable_when_there_is_no_way_there() {
    // TCP has no broadcast: the kernel says ENETUNREACH and sends nothing.
    let relay = relay_to("255.255.255.255:9").with(["--connect-attempts", "1"]).start();
    assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
    ended(&relay, "unreachable", 0, 0);
}

#[test]
fn connect_timeout_when_the_upstream_does_not_answer() {
    let hole = BlackHole::new();
    let relay = relay_to(hole.address).with(["--connect-timeout", "200ms"]).start();
    assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
    let session = ended(&relay, "connect-timeout", 0, 0);
    assert!(session.connect >= 0.2 && session.time >= session.connect, "{session:?}");
}

#[test]
fn client_gone_when_the_client_resets_before_the_upstream_is_there() {
    let hole = BlackHole::new();
    let relay = relay_to(hole.address).start();
    let before = relay.descriptors();
    let client = client(relay.address);
    until("both descriptors of the session", || (relay.descriptors().len() == before.len() + 2).then_some(()));
    reset(client);
    ended(&relay, "client-gone", 0, 0);
    assert_eq!(relay.descriptors(), before, "they are free at once");
}

#[test]
fn no_resources_when_there_is_no_descriptor_for_the_upstream() {
    let upstream = Upstream::new();
    let relay = relay_to(upstream.address).with(["--connect-timeout", "200ms"]).start();
    relay.leave_descriptors(1);
    assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
    assert_eq!(relay.log.with("connect: too many open files").len(), 1);
    let session = ended(&relay, "no-resources", 0, 0);
    assert_eq!(session.upstream, Some(upstream.address));
}

/// Its reset was being held back for a client that does not read when the relay was to stop.
#[test]
fn the_first_cause_stays_when_the_drain_cuts_its_ending_short() {
    let Bench { mut relay, client, server } = bench(["--reset-grace", "1m", "--drain-timeout", "0"]);
    clog(&server);
    let before = relay.sleeps();
    reset(server);
    // It asks the client's kernel again and again how much has arrived: by then it has seen the reset.
    until("a few turns after the reset", || (relay.sleeps() > before + 5 && relay.is_asleep()).then_some(()));
    assert_eq!(relay.stop(), 4);
    assert_eq!(relay.log.sessions()[0].end, "upstream-reset");
    drop(client);
}

/// "drain" has its tests among the exit codes; here it ends a session that never got its upstream.
#[test]
fn drain_when_a_session_that_still_connects_has_had_its_time() {
    let hole = BlackHole::new();
    let mut relay = relay_to(hole.address).with(["--connect-timeout", "1m", "--drain-timeout", "50ms"]).start();
    let before = relay.descriptors().len();
    let client = client(relay.address);
    until("both descriptors of the session", || (relay.descriptors().len() == before + 2).then_some(()));
    assert_eq!(relay.stop(), 4);
    assert_eq!(end_of(&client), Ended::Reset);
    ended(&relay, "drain", 0, 0);
}
