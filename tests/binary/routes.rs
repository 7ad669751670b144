//! Several listeners in one process, and the built-in server.

use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::patience::{LIMIT, skipped, timed, until};
use crate::peers::{Ended, Upstream, bytes, client, clog, end_of, finish, hear, read_all, relayed, say};
use crate::process::{Newborn, relay_to, tproxy};
use crate::served::Served;

/// A session through this listener, whose upstream is this one. Both ends finish.
fn leads_to(upstream: &Upstream, listener: SocketAddr) {
    let near = client(listener);
    let far = upstream.accept();
    relayed(&near, &far, b"question");
    relayed(&far, &near, b"answer");
    finish(&near);
    finish(&far);
    assert_eq!((end_of(&near), end_of(&far)), (Ended::Fin, Ended::Fin));
}

#[test]
fn each_listener_leads_to_the_upstream_behind_it() {
    let (first, second) = (Upstream::new(), Upstream::new());
    let (to_first, to_second) = (first.address.to_string(), second.address.to_string());
    let mut relay =
        Served::with(&["-f", "127.0.0.1:0", "-t", &to_first, "-f", "127.0.0.1:0,127.0.0.2:0", "-t", &to_second]);
    let [one, two, three] = relay.addresses[..] else { panic!("{:?}", relay.addresses) };
    assert_eq!(three.ip().to_string(), "127.0.0.2");
    leads_to(&first, one);
    leads_to(&second, two);
    leads_to(&second, three);
    assert!(first.is_left_alone() && second.is_left_alone());
    assert_eq!(relay.stop(), 0);
}

/// Ports that follow each other and are free now. Another program may take one before the relay does, so it is tried again.
#[test]
fn a_range_leads_there_port_by_port() {
    let (low, high) = neighbours();
    let to = format!("127.0.0.3:{}-{}", low.address.port(), high.address.port());
    let from = format!("127.0.0.2:{}-{}", low.address.port(), high.address.port());
    let mut relay = Served::with(&["-f", &from, "-t", &to]);
    let [first, second] = relay.addresses[..] else { panic!("{:?}", relay.addresses) };
    assert_eq!((first.port(), second.port()), (low.address.port(), high.address.port()));
    leads_to(&high, second);
    leads_to(&low, first);
    assert_eq!(relay.stop(), 0);
}

/// Two upstreams on ports that follow each other. At 127.0.0.1 nearly every port may be that of a connection in TIME_WAIT.
fn neighbours() -> (Upstream, Upstream) {
    for _ in 0..100 {
        let low = Upstream::on(([127, 0, 0, 3], 0).into());
        let next = SocketAddr::from(([127, 0, 0, 3], low.address.port().saturating_add(1)));
        // Whether it is free can only be tried.
        if let Ok(free) = std::net::TcpListener::bind(next) {
            drop(free);
            return (low, Upstream::on(next));
        }
    }
    panic!("no two ports that follow each other are free");
}

#[test]
fn localhost_is_every_loopback_address_of_this_machine() {
    let upstream = Upstream::new();
    let mut relay = Served::with(&["-f", "localhost:0", "-t", &upstream.address.to_string()]);
    assert!(!relay.addresses.is_empty());
    for listener in relay.addresses.clone() {
        assert!(listener.ip().is_loopback(), "{listener}");
        leads_to(&upstream, listener);
    }
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_port_alone_is_every_address_of_this_machine() {
    let upstream = Upstream::new();
    let mut relay = Served::with(&["-f", ":0", "-t", &upstream.address.to_string()]);
    let [listener] = relay.addresses[..] else { panic!("{:?}", relay.addresses) };
    assert!(listener.ip().is_unspecified(), "{listener}");
    leads_to(&upstream, SocketAddr::from(([127, 0, 0, 1], listener.port())));
    if listener.is_ipv6() {
        leads_to(&upstream, SocketAddr::new("::1".parse().unwrap(), listener.port()));
    } else {
        assert_eq!(relay.log.with(" WARN ").len(), 1);
    }
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_name_that_is_none_of_ours_is_3() {
    // TEST-NET-1 is nobody's (RFC 5737), and nobody may ever own this domain (RFC 6761).
    let finished = tproxy(["-f", "no-such-host.invalid:0", "-t", "127.0.0.1:9"]);
    assert_eq!(finished.code, 3, "{finished:?}");
    let [line] = &finished.stderr[..] else { panic!("one line, please: {finished:?}") };
    for part in [" ERROR ", "--from no-such-host.invalid:0: cannot listen there: the name does not resolve"] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

/// A relay whose name server gets a question and never answers. The lookup would be given up after 5 s. None where that is
/// not possible.
fn asking(server: &UdpSocket, name: &str, check: &[&'static str]) -> Option<Newborn> {
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let mut settings = tempfile::NamedTempFile::new().unwrap();
    settings.write_all(b"nameserver 127.53.53.53\n").unwrap();
    let settings = settings.path().to_str().unwrap();
    let mount = format!("mount --bind {settings} /etc/resolv.conf");
    let probe = Command::new("unshare").args(["-m", "sh", "-c", &mount]).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        skipped("only root can have name servers of its own, with unshare and mount");
        return None;
    }
    let shell =
        format!("export RES_OPTIONS=timeout:30; exec unshare -m sh -c '{mount} && exec \"$0\" \"$@\"' \"$0\" \"$@\"");
    let plan = relay_to("127.0.0.1:9").from(format!("{name}.invalid:0")).after_shell(&shell);
    let plan = check.iter().fold(plan, |plan, argument| plan.with([*argument]));
    let relay = Newborn::of(plan);
    // Other programs of this machine, and the relay before, may ask for other names.
    let is_asked = || {
        let mut question = [0; 512];
        let length = server.recv(&mut question).expect("the name should be looked up");
        question[..length].windows(name.len()).any(|part| part == name.as_bytes()).then_some(())
    };
    until("the name to be looked up", is_asked);
    Some(relay)
}

#[test]
fn a_stop_signal_ends_a_relay_or_a_check_that_waits_for_the_name_of_its_listener() {
    let Ok(server) = UdpSocket::bind("127.53.53.53:53") else {
        return skipped("only root can listen on port 53");
    };
    for (signal, name) in [(Signal::TERM, "terminated"), (Signal::INT, "interrupted")] {
        let Some(mut relay) = asking(&server, name, &[]) else { return };
        assert!(!relay.listens());
        let (code, took) = timed(|| {
            relay.signal(signal);
            relay.code()
        });
        assert_eq!(code, 0, "{signal:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    }
    // A check that was not finished has not found that all is well.
    let Some(mut check) = asking(&server, "checked", &["--check"]) else { return };
    let (status, took) = timed(|| {
        check.signal(Signal::TERM);
        check.process.status()
    });
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn the_built_in_server_sends_back_every_byte_and_then_the_fin() {
    let mut relay = Served::with(&["-f", "127.0.0.1:0", "-t", "echo:"]);
    let client = client(relay.addresses[0]);
    let said = bytes(7, 2_000_003);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            say(&client, &said);
            finish(&client);
        });
        let (heard, end) = read_all(&client);
        assert!(heard == said, "{} of {} bytes", heard.len(), said.len());
        assert_eq!(end, Ended::Fin);
    });
    let session = relay.log.wait_for_session();
    assert_eq!((session.up, session.down, session.end.as_str()), (2_000_003, 2_000_003, "client-eof"));
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_client_that_does_not_read_its_echo_holds_up_no_other() {
    let mut relay = Served::with(&["-f", "127.0.0.1:0", "-t", "echo:", "--drain-timeout", "0"]);
    let stalled = client(relay.addresses[0]);
    clog(&stalled);
    let others: Vec<_> = (0..50).map(|_| client(relay.addresses[0])).collect();
    others.iter().for_each(|other| say(other, b"hello"));
    for other in &others {
        assert_eq!(hear(other, 5), b"hello");
        finish(other);
        assert_eq!(end_of(other), Ended::Fin);
    }
    drop(stalled);
    relay.stop();
}

/// Each session that leads to the built-in server takes three descriptors of the process.
#[test]
fn the_built_in_server_has_a_descriptor_for_each_session() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let echo = ["-f", "127.0.0.1:0", "-t", "echo:"];
    // The limit is the process's: it is enough that one route leads there.
    for arguments in [&echo[..], &[&echo[..], &["-f", "127.0.0.1:0", "-t", "127.0.0.1:9"]].concat()] {
        let mut relay = Served::with(arguments);
        let line = relay.log.wait_for("up to ");
        let sessions: u64 = line.rsplit_once("up to ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
        assert!(sessions <= 1 << 20 && sessions.saturating_mul(3) < limit, "{sessions} of {limit}");
        assert_eq!(relay.stop(), 0);
    }
}
