//! System calls that fail as the kernel may let them fail, one test for each answer: strace injects the error.
//!
//! Where there is no strace, or it may not trace, these tests say so and are skipped.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::admin::{get, http_address};
use crate::patience::{timed, until};
use crate::peers::{Ended, Upstream, bytes, client, end_of, fate_of_a_client, finish, hear, read_all, say};
use crate::process::{Newborn, Plan, Relay, TPROXY, relay_to, undisturbed};
use crate::served::Served;
use crate::systemd::Systemd;

/// A relay whose system calls fail like this, or none where that cannot be had.
fn relay_with(upstream: &Upstream, fault: &'static str) -> Option<Relay> {
    plan(upstream, fault).map(Plan::start)
}

#[expect(clippy::print_stderr, reason = "a test that did nothing has to say so")]
fn plan(upstream: &Upstream, fault: &'static str) -> Option<Plan> {
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    match works {
        Ok(status) if status.success() => Some(relay_to(upstream.address).injecting(fault)),
        Ok(_) => {
            eprintln!("skipped: strace may not trace here");
            None
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            eprintln!("skipped: there is no strace");
            None
        }
    }
}

/// A request and its answer, each with its FIN.
fn is_served(upstream: &Upstream, relay: &Relay) {
    let near = client(relay.address);
    say(&near, b"request");
    finish(&near);
    let far = upstream.accept();
    assert_eq!(read_all(&far), (b"request".to_vec(), Ended::Fin));
    say(&far, b"answer");
    drop(far);
    assert_eq!(read_all(&near), (b"answer".to_vec(), Ended::Fin));
}

/// Everybody is served although this call fails now and then, and the relay ends well.
fn is_survived(fault: &'static str) -> Option<Relay> {
    let upstream = Upstream::new();
    let mut relay = plan(&upstream, fault)?.with(["--connect-attempts", "3"]).start();
    for _ in 0..5 {
        is_served(&upstream, &relay);
    }
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.sessions().len(), 5);
    assert!(relay.log.sessions().iter().all(|session| session.end == "client-eof"));
    Some(relay)
}

#[test]
fn a_shortage_of_descriptors_in_accept_is_waited_out() {
    for fault in ["accept4:error=EMFILE:when=1..3", "accept4:error=ENFILE:when=1..3", "accept4:error=ENOMEM:when=1..3"]
    {
        let Some(relay) = is_survived(fault) else { return };
        assert_eq!(relay.log.with("WARN").len(), 1, "one line for one shortage");
        assert_eq!(relay.log.with("resumed").len(), 1);
    }
}

/// No other client wakes the thread of `--admin`, so it has to try again by itself.
#[test]
fn a_shortage_of_descriptors_for_admin_is_waited_out() {
    let upstream = Upstream::new();
    // Each thread has a count of its own, and this one accepts before anybody comes.
    for fault in ["accept4:error=EMFILE:when=2", "accept4:error=ENOMEM:when=2..4"] {
        let Some(plan) = plan(&upstream, fault) else { return };
        let mut relay = plan.with(["--admin", "127.0.0.1:0"]).start();
        let admin = http_address(&relay.log, "admin");
        assert_eq!(get(admin, "/healthz", "Host: localhost\r\n"), (200, "ok\n".to_owned()), "{fault}");
        assert_eq!(relay.stop(), 0);
    }
}

#[test]
fn without_ipv6_the_wildcard_listens_on_every_ipv4_address() {
    let upstream = Upstream::new();
    // The listener's is the first socket.
    let Some(plan) = plan(&upstream, "socket:error=EAFNOSUPPORT:when=1") else { return };
    let mut relay = plan.from("[::]:0").start();
    relay.address = (Ipv4Addr::LOCALHOST, relay.address.port()).into();
    relay.log.wait_for("WARN");
    let warnings = relay.log.with("WARN");
    let expected = format!("this machine has no IPv6: 0.0.0.0:{} is used instead of [::]:0", relay.address.port());
    assert_eq!((warnings.len(), warnings[0].contains(&expected)), (1, true), "{warnings:?}");
    is_served(&upstream, &relay);
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_client_lost_before_it_was_accepted_costs_nothing() {
    for fault in
        ["accept4:error=ECONNABORTED:when=1..3", "accept4:error=EPROTO:when=2+3", "accept4:error=EINTR:when=1+2"]
    {
        let Some(relay) = is_survived(fault) else { return };
        assert_eq!(relay.log.with("WARN").len(), 0);
    }
}

#[test]
fn a_dead_listener_ends_the_relay_with_1() {
    let upstream = Upstream::new();
    for fault in ["accept4:error=EINVAL:when=1", "accept4:error=EBADF:when=1", "accept4:error=ENOTSOCK:when=1"] {
        let Some(mut relay) = relay_with(&upstream, fault) else { return };
        assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
        assert_eq!(relay.code(), 1);
        assert_eq!(relay.log.with("cannot accept clients any more").len(), 1);
    }
}

#[test]
fn a_failed_wait_ends_the_relay_with_1_and_an_interrupted_one_does_not() {
    let upstream = Upstream::new();
    let Some(mut relay) = relay_with(&upstream, "epoll_wait:error=EBADF:when=3") else { return };
    // Each is an event; who comes when it is over is refused.
    let _clients = [(); 3].map(|()| TcpStream::connect(relay.address));
    assert_eq!(relay.code(), 1);
    assert_eq!(relay.log.with("cannot wait for events").len(), 1);
    is_survived("epoll_wait:error=EINTR:when=1+2");
}

/// `WATCHDOG=1` says that the loop runs, and not only the thread that sends it.
#[test]
fn systemd_hears_nothing_of_a_loop_that_stands_still() {
    let upstream = Upstream::new();
    if plan(&upstream, "epoll_wait").is_none() {
        return;
    }
    let systemd = Systemd::new();
    // Longer than a question to the loop may take.
    systemd.socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut command = Command::new("strace");
    // Its fourth wait begins five seconds late: so long the loop stands still.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=epoll_wait"]);
    command.args(["-e", "inject=epoll_wait:delay_enter=5000000:when=4", TPROXY, "-f", "127.0.0.1:0", "-t"]);
    undisturbed(&mut command).arg(upstream.address.to_string());
    command.env("NOTIFY_SOCKET", systemd.path()).env("WATCHDOG_USEC", "200000");
    let _relay = Served::of(command);
    let heard = (0..40).take_while(|_| systemd.socket.recv(&mut [0; 256]).is_ok()).count();
    assert!((1..40).contains(&heard), "READY, and what it said while the loop went on: {heard}");
}

#[test]
fn an_upstream_that_refuses_once_is_tried_again() {
    is_survived("connect:error=ECONNREFUSED:when=1");
    is_survived("connect:error=ENETUNREACH:when=1+3");
}

#[test]
fn a_shortage_while_connecting_is_waited_out() {
    // The first socket is the listener's.
    is_survived("socket:error=EMFILE:when=2..4");
    is_survived("socket:error=ENOBUFS:when=3");
    if let Some(relay) = is_survived("connect:error=EADDRNOTAVAIL:when=1..3") {
        assert_eq!(relay.log.with("connect: no source port is left to ").len(), 1);
    }
}

#[test]
fn an_upstream_that_cannot_be_reached_resets_its_client() {
    let upstream = Upstream::new();
    for (fault, end) in [
        ("connect:error=ECONNREFUSED", "refused"),
        ("connect:error=EHOSTUNREACH", "unreachable"),
        ("connect:error=EACCES", "unreachable"),
    ] {
        let Some(mut relay) = relay_with(&upstream, fault) else { return };
        assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
        assert_eq!(relay.stop(), 0);
        assert_eq!(relay.log.sessions()[0].end, end);
    }
}

#[test]
fn a_socket_that_cannot_be_watched_ends_its_session_only() {
    let upstream = Upstream::new();
    // The first two registrations are the control's and the listener's, the third is the first client's.
    let Some(mut relay) = relay_with(&upstream, "epoll_ctl:error=ENOSPC:when=3") else { return };
    assert_eq!(fate_of_a_client(relay.address), Ended::Reset);
    is_served(&upstream, &relay);
    assert_eq!(relay.stop(), 0);
    let ends: Vec<_> = relay.log.sessions().into_iter().map(|session| session.end).collect();
    assert_eq!(ends, ["no-resources", "client-eof"]);
}

#[test]
fn interrupted_reads_and_writes_lose_nothing() {
    is_survived("recvfrom:error=EINTR:when=1+2");
    // A signal's handler sends too, and has no second try: so no signal here.
    let upstream = Upstream::new();
    let Some(relay) = relay_with(&upstream, "sendto:error=EINTR:when=1+2") else { return };
    for _ in 0..5 {
        is_served(&upstream, &relay);
    }
}

#[test]
fn a_fin_to_nobody_is_no_error() {
    let upstream = Upstream::new();
    let Some(mut relay) = relay_with(&upstream, "shutdown:error=ENOTCONN") else { return };
    // The FINs are those of the close, once both sides have finished.
    let near = client(relay.address);
    let far = upstream.accept();
    say(&near, b"request");
    finish(&near);
    assert_eq!(hear(&far, 7), b"request");
    finish(&far);
    assert_eq!([end_of(&near), end_of(&far)], [Ended::Fin, Ended::Fin]);
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.sessions()[0].end, "client-eof");
}

#[test]
fn a_fin_that_cannot_be_sent_is_a_reset() {
    let upstream = Upstream::new();
    let Some(mut relay) = relay_with(&upstream, "shutdown:error=ENOBUFS:when=1") else { return };
    let near = client(relay.address);
    let far = upstream.accept();
    finish(&near);
    assert_eq!([end_of(&far), end_of(&near)], [Ended::Reset, Ended::Reset]);
    assert_eq!(relay.stop(), 0);
    assert_eq!(relay.log.sessions()[0].end, "no-resources");
}

/// It is held up behind listen(2), so that there is time to look.
#[test]
fn once_it_listens_it_can_be_asked_to_stop() {
    let upstream = Upstream::new();
    let Some(plan) = plan(&upstream, "listen:delay_exit=300000") else { return };
    let mut relay = Newborn::of(plan);
    until("it to listen", || relay.listens().then_some(()));
    assert_eq!([Signal::INT, Signal::TERM].map(|signal| relay.catches(signal)), [true; 2]);
    relay.signal(Signal::TERM);
    assert_eq!(relay.code(), 0);
}

/// The log has a second for each line at exit, and needs none of it once all lines are written.
#[test]
fn a_relay_ends_as_soon_as_its_last_line_is_written() {
    let upstream = Upstream::new();
    let Some(mut relay) = relay_with(&upstream, "write:delay_exit=20000") else { return };
    let (code, took) = timed(|| relay.stop());
    assert_eq!(code, 0);
    assert!(took < Duration::from_millis(900), "{took:?}");
}

#[test]
fn bulk_is_copied_where_it_cannot_be_spliced() {
    let bulk = bytes(23, 8 << 20);
    for (fault, spliced) in [
        ("pipe2:error=EMFILE", false),
        ("splice:error=EINVAL", false),
        ("splice:error=ENOMEM:when=1", false),
        // A sandbox.
        ("splice:error=EPERM", false),
        ("splice:error=EACCES", false),
        ("splice:error=ENOBUFS", false),
        // Both ends of a pipe, some of the time.
        ("splice:error=EPERM:when=2", true),
        ("splice:error=ENOBUFS:when=4", true),
        ("splice:error=EACCES:when=5", true),
        ("splice:error=EINTR:when=1+2", true),
        // The first is a pull. A push that says so although there is room is in no kernel: no event would follow.
        ("splice:error=EAGAIN:when=1", true),
    ] {
        let upstream = Upstream::new();
        let Some(plan) = plan(&upstream, fault) else { return };
        let mut relay = plan.with(["--splice", "on"]).start();
        let near = client(relay.address);
        let far = upstream.accept();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                say(&far, &bulk);
                finish(&far);
            });
            assert!(read_all(&near) == (bulk.clone(), Ended::Fin), "{fault}");
        });
        finish(&near);
        assert_eq!(end_of(&far), Ended::Fin);
        assert_eq!(relay.stop(), 0);
        assert_eq!(
            (relay.log.with("WARN").len(), relay.log.sessions()[0].end.as_str()),
            (0, "upstream-eof"),
            "{fault}"
        );
        let last = relay.log.lines().pop().unwrap();
        assert_eq!(!last.ends_with(" spliced=0"), spliced, "{fault}: {last}");
    }
}
