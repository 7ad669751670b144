//! One test for each way to end: 0 drained, 1 failed while running, 2 usage, 3 cannot listen, 4 sessions were reset.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::patience::skipped;
use crate::peers::{Ended, Nobody, Upstream, end_of, hear, say};
use crate::ports::in_a_network_of_its_own;
use crate::process::relay_to;

#[test]
fn a_relay_whose_sessions_finished_exits_with_0() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    upstream.brief_session(&relay);
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.with(" WARN ").len() + relay.log.with(" ERROR ").len(), 0, "{:?}", relay.log.lines());
}

#[test]
fn a_dead_listener_ends_the_relay_with_1_and_resets_its_sessions() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    let (client, server) = upstream.session(&relay);
    let Some(listener) = relay.listener() else {
        return skipped("this kernel does not let a parent have its child's descriptors");
    };
    // A listening socket that was shut down gives EINVAL to accept.
    rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
    assert_eq!(relay.code(), 1);
    relay.log.wait_for(" ERROR [tproxy] cannot accept clients any more: Invalid argument (os error 22)");
    assert_eq!((end_of(&client), end_of(&server)), (Ended::Reset, Ended::Reset));
}

#[test]
fn a_limit_of_files_without_room_for_one_session_is_1_and_names_the_remedy() {
    let finished = relay_to("127.0.0.1:9").after_shell("ulimit -n 20").run();
    assert_eq!(finished.code, 1);
    let said = finished.stderr.join("\n");
    assert!(said.contains("ERROR") && said.contains("20 open files") && said.contains("raise `ulimit -n`"), "{said}");
}

#[test]
fn a_relay_to_itself_is_refused_under_every_alias_with_2() {
    for (from, alias) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.2"),
        ("0.0.0.0", "0.0.0.0"),
    ] {
        // Taken, so that no other test gets the port meanwhile, and yet one can listen there.
        let taken = Nobody::on(([0, 0, 0, 0], 0).into());
        let port = taken.address.port();
        let finished = relay_to(format!("{alias}:{port}")).from(format!("{from}:{port}")).run();
        assert_eq!(finished.code, 2, "{finished:?}");
        // A name is looked up once it listens.
        let line = finished.stderr.last().unwrap();
        assert!(line.contains("ERROR") && line.contains("is this relay itself"), "{line}");
        assert!(line.contains(&format!("{from}:{port}")), "{line}");
    }
}

/// Whichever of the two addresses the resolver puts second, it is the relay's in one of the two runs.
#[test]
fn a_name_of_which_any_address_is_the_relay_itself_is_refused_with_2() {
    let mut hosts = tempfile::NamedTempFile::new().unwrap();
    hosts.write_all(b"127.0.0.1 several.test\n127.0.0.2 several.test\n").unwrap();
    let hosts = hosts.path().to_str().unwrap();
    let probe =
        Command::new("unshare").args(["-m", "mount", "--bind", hosts, "/etc/hosts"]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        return skipped("only root can have a file of hosts of its own, with unshare and mount");
    }
    let shell = format!("exec unshare -m sh -c 'mount --bind {hosts} /etc/hosts && exec \"$0\" \"$@\"' \"$0\" \"$@\"");
    for own in ["127.0.0.1", "127.0.0.2"] {
        // Taken, so that no other test gets the port meanwhile, and yet one can listen there.
        let taken = Nobody::on(([0, 0, 0, 0], 0).into());
        let port = taken.address.port();
        let plan = relay_to(format!("several.test:{port}")).from(format!("{own}:{port}"));
        let finished = plan.after_shell(&shell).run();
        assert_eq!(finished.code, 2, "{finished:?}");
        let line = finished.stderr.last().unwrap();
        assert!(line.contains(&format!("--to: the upstream {own}:{port} is this relay itself")), "{line}");
    }
}

#[test]
fn another_port_of_the_same_address_is_no_relay_to_itself() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).from("0.0.0.0:0").start();
    upstream.brief_session(&relay);
    assert_eq!(relay.stop(), 0);
}

/// `sysctl net.ipv4.ip_nonlocal_bind=1` lets a socket be bound to every address, as some load balancers need it.
#[test]
fn an_address_of_another_machine_is_no_relay_to_itself_although_it_can_be_bound() {
    in_a_network_of_its_own(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1").unwrap();
        let upstream = Upstream::new();
        let port = upstream.address.port();
        drop(upstream);
        // Nobody else is in this network.
        let mut relay = relay_to(format!("192.0.2.1:{port}")).from(format!("0.0.0.0:{port}")).start();
        assert_eq!(relay.stop(), 0);
        let finished = relay_to(format!("127.0.0.2:{port}")).from(format!("0.0.0.0:{port}")).run();
        assert_eq!(finished.code, 2, "{finished:?}");
    });
}

#[test]
fn an_address_that_is_taken_is_3() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let finished = relay_to("127.0.0.1:9").from(address).run();
    assert_eq!(finished.code, 3);
    let said = finished.stderr.join("\n");
    let line =
        format!(" ERROR [tproxy] cannot listen on {address}: Address already in use (os error 98) (another process");
    assert!(said.contains(&line), "{said}");
}

#[test]
fn an_address_of_another_machine_is_3() {
    // TEST-NET-1, which is nobody's (RFC 5737).
    let finished = relay_to("127.0.0.1:9").from("192.0.2.1:0").run();
    assert_eq!(finished.code, 3);
    assert!(finished.stderr.join("\n").contains("cannot listen on 192.0.2.1:0: "), "{finished:?}");
}

#[test]
fn sessions_that_outlive_the_drain_deadline_are_reset_with_4() {
    reset_when_stopping("50ms", 1);
}

#[test]
fn a_drain_timeout_of_0_resets_at_once_with_4() {
    reset_when_stopping("0", 1);
}

#[test]
fn a_second_request_resets_what_is_left_with_4() {
    reset_when_stopping("off", 2);
}

/// A session that neither side finishes sees a reset at both ends, never a FIN, and the log says why.
#[expect(clippy::disallowed_methods, reason = "signals within 300 ms are one request")]
fn reset_when_stopping(drain_timeout: &str, requests: usize) {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--drain-timeout", drain_timeout]).start();
    // It is not counted among those that were reset.
    upstream.brief_session(&relay);
    relay.log.wait_for_session();
    let (client, server) = upstream.session(&relay);
    say(&client, b"hello");
    assert_eq!(hear(&server, 5), b"hello");
    relay.signal(Signal::TERM);
    for _ in 1..requests {
        relay.log.wait_for("draining 1 sessions");
        std::thread::sleep(std::time::Duration::from_millis(350));
        relay.signal(Signal::TERM);
    }
    assert_eq!((end_of(&client), end_of(&server)), (Ended::Reset, Ended::Reset));
    assert_eq!(relay.code(), 4);
    let session = relay.log.wait_for_sessions(2).remove(1);
    assert_eq!((session.end.as_str(), session.up, session.down), ("drain", 5, 0));
    relay.log.wait_for(" WARN  [tproxy] 1 sessions had not finished and were reset");
}
