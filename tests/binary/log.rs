//! What the log says, and what it does not.

use std::collections::BTreeSet;

use crate::peers::{Ended, Upstream, bytes, end_of, finish, hear, relayed, reset, say};
use crate::process::{Plan, Relay, relay_to};

#[test]
fn the_listening_line_names_the_port_that_the_kernel_chose() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    assert_ne!(relay.address.port(), 0);
    let line = relay.log.wait_for("listening on");
    let expected = format!(" INFO  [tproxy] listening on {}, relaying to {}, up to ", relay.address, upstream.address);
    let (stamp, limit) = line.split_once(&expected).unwrap_or_else(|| panic!("{line}"));
    assert!(stamp.len() >= "2026-01-01T00:00:00Z".len() && stamp.ends_with('Z'), "{line}");
    assert!(limit.strip_suffix(" sessions").is_some_and(|limit| limit.parse::<usize>().is_ok()), "{line}");
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.with("listening on").len(), 1);
}

#[test]
fn a_session_has_one_line_with_every_field() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    let (client, server) = upstream.session(&relay);
    relayed(&client, &server, &bytes(1, 300_007));
    relayed(&server, &client, &bytes(2, 1_000_003));
    finish(&client);
    assert_eq!(end_of(&server), Ended::Fin);
    finish(&server);
    assert_eq!(end_of(&client), Ended::Fin);
    let session = relay.log.wait_for_session();
    assert_eq!(session.client, client.local_addr().unwrap());
    assert_eq!(session.upstream, Some(upstream.address));
    assert_eq!((session.up, session.down), (300_007, 1_000_003));
    assert!(session.connect <= session.time, "{session:?}");
    assert_eq!(session.end, "client-eof");
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.sessions().len(), 1);
    let last = relay.log.lines().pop().unwrap();
    assert!(last.contains("stopped after 1 sessions, up=300007 down=1000003 spliced="), "{last}");
}

#[test]
fn every_session_has_exactly_one_line_however_it_ends() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    let mut clients = BTreeSet::new();
    for _ in 0..10 {
        clients.insert(upstream.brief_session(&relay));
        for client_resets in [true, false] {
            let (client, server) = upstream.session(&relay);
            clients.insert(client.local_addr().unwrap());
            say(&client, b"hello");
            assert_eq!(hear(&server, 5), b"hello");
            let (near, far) = if client_resets { (client, server) } else { (server, client) };
            reset(near);
            assert_eq!(end_of(&far), Ended::Reset);
        }
    }
    let sessions = relay.log.wait_for_sessions(30);
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.sessions(), sessions);
    assert_eq!(sessions.iter().map(|session| session.client).collect::<BTreeSet<_>>(), clients);
    for (end, count) in [("client-eof", 10), ("client-reset", 10), ("upstream-reset", 10)] {
        assert_eq!(sessions.iter().filter(|session| session.end == end).count(), count, "{sessions:?}");
    }
}

#[test]
fn quiet_silences_all_but_warnings() {
    assert_eq!(log_of_a_session(|plan| plan.with(["-q"])), [""; 0]);
    assert_eq!(log_of_a_session(|plan| plan.with(["--quiet", "--max-sessions", "1"])).len(), 1);
    assert_eq!(log_of_a_session(|plan| plan.with(["-qq", "--max-sessions", "1"])), [""; 0]);
}

#[test]
fn rust_log_sets_the_level() {
    assert_eq!(log_of_a_session(|plan| plan.rust_log("warn")), [""; 0]);
    assert!(has_session(&log_of_a_session(|plan| plan.rust_log("info"))));
    assert!(has_session(&log_of_a_session(|plan| plan.rust_log("DEBUG"))));
}

#[test]
fn flags_win_over_rust_log() {
    assert!(has_session(&log_of_a_session(|plan| plan.with(["-v"]).rust_log("error"))));
    assert!(has_session(&log_of_a_session(|plan| plan.with(["-vv"]).rust_log("off"))));
    assert_eq!(log_of_a_session(|plan| plan.with(["-q"]).rust_log("trace")), [""; 0]);
}

#[test]
fn a_rust_log_that_is_no_level_is_a_warning() {
    for nonsense in ["nonsense", "tproxy=debug,info"] {
        let log = log_of_a_session(|plan| plan.rust_log(nonsense));
        let warnings: Vec<_> = log.iter().filter(|line| line.contains(" WARN ")).collect();
        let [warning] = &warnings[..] else { panic!("one warning, please: {log:?}") };
        assert!(warning.contains("RUST_LOG") && warning.contains(nonsense) && warning.contains("info"), "{warning}");
        assert!(has_session(&log));
    }
    assert!(log_of_a_session(|plan| plan.rust_log("")).iter().all(|line| !line.contains(" WARN ")));
}

fn has_session(log: &[String]) -> bool {
    log.iter().any(|line| line.contains(" session client="))
}

/// All that such a relay says in a life with one session.
fn log_of_a_session(change: impl FnOnce(Plan) -> Plan) -> Vec<String> {
    let upstream = Upstream::new();
    let mut relay: Relay = change(relay_to(upstream.address)).start();
    upstream.brief_session(&relay);
    assert_eq!(relay.stop(), 0);
    relay.log.lines()
}
