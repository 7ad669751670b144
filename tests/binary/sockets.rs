//! Source addresses that have no port left or are gone, peers that are given up, and what the log leaves out or says more.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::process::Command;

use crate::peers::{Ended, Nobody, Upstream, end_of, fate_of_a_client, finish, hear, relayed, reset, say};
use crate::ports::{self, in_a_network_of_its_own, limit_ports, next};
use crate::process::relay_to;

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(done.success(), "ip {arguments}: {done}");
}

/// The number that a client said, and where its connection comes from.
fn served(upstream: &Upstream) -> (u8, String, TcpStream) {
    let (number, server) = next(upstream);
    (number, server.peer_addr().unwrap().ip().to_string(), server)
}

#[test]
fn each_source_has_ports_of_its_own_and_without_one_it_is_passed_over() {
    in_a_network_of_its_own(|| {
        let upstream = Upstream::new();
        let sources = ["--source", "127.0.0.7,127.0.0.8", "--source", "127.0.0.9", "--connect-timeout", "1m"];
        let relay = relay_to(upstream.address).with(sources).start();
        limit_ports(1);
        let mut servers = Vec::new();
        for (number, from) in [(1, "127.0.0.7"), (2, "127.0.0.8"), (3, "127.0.0.9")] {
            let _client = ports::client(number, relay.address);
            let (said, source, server) = served(&upstream);
            assert_eq!((said, source.as_str()), (number, from));
            servers.push(server);
        }
        let _fourth = ports::client(4, relay.address);
        let warning = relay.log.wait_for("connect: no source port is left to ");
        assert!(warning.contains("--source"), "{warning}");
        // The port of one is free again: it is found, whose turn it may be.
        reset(servers.remove(1));
        let (said, source, _server) = served(&upstream);
        assert_eq!((said, source.as_str()), (4, "127.0.0.8"));
    });
}

#[test]
fn a_source_that_is_gone_is_said_once_and_used_again_when_it_is_back() {
    in_a_network_of_its_own(|| {
        ip("address add 10.50.0.1/32 dev lo");
        ip("address add 10.50.0.2/32 dev lo");
        let upstream = Upstream::new();
        let sources = ["--source", "10.50.0.1,10.50.0.2", "--connect-timeout", "1m"];
        let mut relay = relay_to(upstream.address).with(sources).start();
        ip("address del 10.50.0.1/32 dev lo");
        for number in 1..=3 {
            let _client = ports::client(number, relay.address);
            let (said, source, _server) = served(&upstream);
            assert_eq!((said, source.as_str()), (number, "10.50.0.2"));
        }
        ip("address del 10.50.0.2/32 dev lo");
        let _waits = ports::client(4, relay.address);
        relay.log.wait_for("cannot connect from 10.50.0.2: Cannot assign requested address");
        ip("address add 10.50.0.1/32 dev lo");
        let (said, source, _server) = served(&upstream);
        assert_eq!((said, source.as_str()), (4, "10.50.0.1"));
        relay.log.wait_for("10.50.0.1 can be connected from again");
        relay.stop();
        let lines = relay.log.lines();
        let told = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!((told("cannot connect from"), told("no source port"), told(" is down")), (2, 0, 0), "{lines:?}");
    });
}

#[test]
fn a_source_of_another_machine_is_exit_3_and_one_that_is_no_address_exit_2() {
    let finished = relay_to("127.0.0.1:9").with(["--source", "192.0.2.1"]).run();
    assert_eq!(finished.code, 3, "{finished:?}");
    for words in ["cannot connect from 192.0.2.1: ", "this machine does not have that address"] {
        assert!(finished.stderr.concat().contains(words), "{finished:?}");
    }
    for (source, words) in
        [("eth0", "is no IP address"), ("0.0.0.0", "no address of a machine"), ("::1", "add an IPv4 one")]
    {
        let finished = relay_to("127.0.0.1:9").with(["--source", source]).run();
        assert!(finished.code == 2 && finished.stderr.concat().contains(words), "{finished:?}");
    }
}

/// A reader that stalls acknowledges the probes of its closed window, and is given up all the same.
#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_takes_nothing_is_given_up_after_the_user_timeout() {
    let upstream = Upstream::new();
    let relay = relay_to(upstream.address).with(["--tcp-user-timeout", "300ms", "--splice", "off"]).start();
    for (is_client, end) in [(true, "client-timeout"), (false, "upstream-timeout")] {
        let (client, server) = upstream.session(&relay);
        let (reader, writer) = if is_client { (client, server) } else { (server, client) };
        // Until it is told that this is no use.
        let error = std::iter::repeat(()).find_map(|()| (&writer).write(&[7; 64 << 10]).err()).unwrap();
        assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()), "{error}");
        let session = relay.log.wait_for(&format!("end={end}"));
        assert!(session.contains("undelivered="), "{session}");
        drop(reader);
    }
}

#[test]
fn what_moved_nothing_is_counted_in_the_last_line_and_not_logged() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--no-log-empty", "--log-open"]).start();
    for _ in 0..2 {
        let (probe, server) = upstream.session(&relay);
        relay.log.wait_for(&format!(" open client={} ", probe.local_addr().unwrap()));
        reset(probe);
        assert_eq!(end_of(&server), Ended::Reset);
    }
    let (client, server) = upstream.session(&relay);
    relayed(&client, &server, b"something");
    finish(&client);
    finish(&server);
    assert_eq!(relay.log.wait_for_session().client, client.local_addr().unwrap());
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.sessions().len(), 1);
    let last = relay.log.lines().pop().unwrap();
    assert!(last.contains("stopped after 3 sessions, up=9 down=0 spliced=") && last.ends_with(" empty=2"), "{last}");
}

/// Nobody answers there: such a session has a line whatever was moved.
#[test]
fn a_session_that_never_reached_its_upstream_is_logged() {
    let nobody = Nobody::new();
    let mut relay = relay_to(nobody.address).with(["--no-log-empty"]).start();
    assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
    assert_eq!(relay.log.wait_for_session().end, "refused");
    assert_eq!(relay.stop(), 0);
    assert!(!relay.log.lines().pop().unwrap().contains("empty="));
}

#[test]
fn a_line_says_that_a_session_begins_to_relay() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--log-open"]).start();
    let (client, server) = upstream.session(&relay);
    let line = relay.log.wait_for(" open client=");
    let (from, to) = (client.local_addr().unwrap(), upstream.address);
    let expected = format!(" INFO  [tproxy] open client={from} upstream={to} connect=");
    let took =
        line.split_once(&expected).and_then(|(_, took)| took.strip_suffix('s')).unwrap_or_else(|| panic!("{line}"));
    assert!(took.parse::<f64>().is_ok() && took.split_once('.').is_some_and(|(_, millis)| millis.len() == 3), "{line}");
    assert!(relay.log.sessions().is_empty());
    say(&client, b"x");
    assert_eq!(hear(&server, 1), b"x");
    reset(client);
    relay.log.wait_for_session();
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.with(" open ").len(), 1);
}
