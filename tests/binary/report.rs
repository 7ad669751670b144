//! SIGUSR1: the counters and the sessions that live, in the log.

use std::collections::BTreeSet;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::admin::get_through;
use crate::patience::until;
use crate::peers::{Ended, Upstream, bytes, clog, fate_of_a_client, finish, relayed, reset};
use crate::process::{Relay, relay_to};

/// The word behind this key.
fn word<'a>(line: &'a str, key: &str) -> &'a str {
    let found = line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("{key}: {line}"))
}

fn live(relay: &Relay) -> Vec<String> {
    relay.log.with(" live route=")
}

#[test]
fn a_report_has_the_counters_and_a_line_for_each_session_that_lives() {
    let upstream = Upstream::new();
    let limit = ["--max-sessions-per-ip", "1", "--at-limit", "reset", "--splice", "off"];
    let mut relay = relay_to(upstream.address).with(limit).start();
    let (one, far) = upstream.session(&relay);
    relayed(&one, &far, b"123");
    relayed(&far, &one, b"12");
    finish(&one);
    finish(&far);
    relay.log.wait_for_session();
    let (one, far) = upstream.session(&relay);
    relayed(&one, &far, &bytes(1, 3_000));
    relayed(&far, &one, &bytes(2, 5));
    assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
    relay.log.wait_for("its address has 1 sessions");
    relay.signal(Signal::USR1);
    let counters = relay.log.wait_for(" report live=");
    let (before, said) = counters.split_once("report ").unwrap();
    let expected = "live=1 listeners=1 stopping=false sessions=1 up=3 down=2 undelivered=0/0 spliced=0 denied=0 limited=1 \
                    empty=0";
    assert!(before.contains(" INFO ") && said == expected, "{counters}");
    let line = relay.log.wait_for(" live route=");
    assert_eq!(word(&line, "client"), one.local_addr().unwrap().to_string());
    assert_eq!(word(&line, "upstream"), upstream.address.to_string());
    assert_eq!(["up", "down", "stage"].map(|key| word(&line, key)), ["3000", "5", "relaying"]);
    let seconds = |key| word(&line, key).strip_suffix('s').unwrap().parse::<f64>().unwrap();
    assert!(seconds("idle") <= seconds("age") && seconds("age") < 60.0, "{line}");
    drop((one, far));
    relay.stop();
}

#[test]
fn the_counters_have_the_bytes_that_were_not_delivered_in_the_order_of_the_session() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    let (client, far) = upstream.session(&relay);
    clog(&far);
    reset(client);
    let session = relay.log.wait_for_session();
    drop(far);
    relay.signal(Signal::USR1);
    let counters = relay.log.wait_for(" report live=0 ");
    let line = relay.log.with(" session client=").pop().unwrap();
    let undelivered = word(&line, "undelivered");
    assert!(undelivered.starts_with("0/"), "{session:?}");
    assert_eq!(word(&counters, "undelivered"), undelivered);
    relay.stop();
}

/// It is asked for page by page, so that the log's queue is never full of it.
#[test]
fn a_report_of_many_sessions_pushes_no_line_out() {
    const SESSIONS: usize = 700;
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--drain-timeout", "0"]).start();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| upstream.session(&relay)).collect();
    for times in 1..=3 {
        relay.signal(Signal::USR1);
        until("a line for each session", || (live(&relay).len() == times * SESSIONS).then_some(()));
        assert_eq!(relay.log.with(" report live=").len(), times, "the counters are said once");
    }
    let clients: BTreeSet<_> = sessions.iter().map(|(client, _)| client.local_addr().unwrap().to_string()).collect();
    let named: BTreeSet<_> = live(&relay).iter().map(|line| word(line, "client").to_owned()).collect();
    assert_eq!(named, clients);
    assert_eq!(relay.stop(), 4);
    relay.log.wait_for_sessions(SESSIONS);
    assert!(relay.log.with("dropped").is_empty() && relay.log.with("left out").is_empty());
}

/// A turn looks through 4,096 slots at most. A page without a session is not the last one.
#[test]
fn a_report_goes_on_behind_thousands_of_free_slots() {
    const SESSIONS: usize = 4_200;
    let limit = getrlimit(Resource::Nofile);
    let wanted = 2 * SESSIONS as u64 + 1_000;
    assert!(limit.maximum.is_none_or(|most| most >= wanted), "the hard limit of descriptors is below {wanted}");
    setrlimit(Resource::Nofile, Rlimit { current: limit.current.map(|now| now.max(wanted)), ..limit }).unwrap();
    let (upstream, folder) = (Upstream::new(), tempfile::tempdir().unwrap());
    let socket = folder.path().join("admin.sock");
    let mut relay = relay_to(upstream.address).with(["--admin", &format!("unix:{}", socket.display())]).start();
    let mut sessions: Vec<_> = (0..SESSIONS).map(|_| upstream.session(&relay)).collect();
    // The last one has the last slot.
    let (client, far) = sessions.pop().unwrap();
    drop(sessions);
    relay.log.wait_for_sessions(SESSIONS - 1);
    relay.signal(Signal::USR1);
    let line = relay.log.wait_for(" live route=");
    assert_eq!(word(&line, "client"), client.local_addr().unwrap().to_string());
    // So do the numbers for Prometheus.
    relayed(&client, &far, b"12345");
    let text = get_through(&socket, "/metrics").1;
    assert!(text.contains("direction=\"up\"} 5\n"), "{text}");
    drop((client, far));
    relay.stop();
}

#[test]
fn a_drain_that_lasts_says_who_is_left() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--drain-timeout", "1m"]).start();
    let sessions: Vec<_> = (0..12).map(|_| upstream.session(&relay)).collect();
    relay.signal(Signal::TERM);
    relay.log.wait_for("still draining: 12 sessions are left, and 10 of them follow");
    until("their lines", || (live(&relay).len() == 10).then_some(()));
    assert!(live(&relay).iter().all(|line| word(line, "stage") == "relaying"));
    drop(sessions);
    assert_eq!(relay.code(), 0);
}
