//! What systemd is told, and when.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::patience::timed;
use crate::peers::{Ended, Upstream, answer, client, end_of, finish};
use crate::process::{Process, command, relay_to};
use crate::served::Served;
use crate::systemd::Systemd;

#[test]
fn it_is_told_when_the_relay_listens() {
    let (systemd, upstream) = (Systemd::new(), Upstream::new());
    let mut relay = systemd.start(relay_to(upstream.address), "");
    assert_eq!(systemd.hears(), "READY=1\nSTATUS=0 sessions, 1 route\n");
    upstream.brief_session(&relay);
    assert_eq!(relay.stop(), 0);
    // One that cannot listen is not ready.
    let address = upstream.address.to_string();
    let mut failed = command(["-f", &address, "-t", "127.0.0.1:9"]);
    failed.env("NOTIFY_SOCKET", systemd.path()).stderr(Stdio::null());
    assert_eq!(Process { child: failed.spawn().unwrap() }.code(), 3);
    systemd.socket.set_nonblocking(true).unwrap();
    let mut text = [0; 256];
    while let Ok(count) = systemd.socket.recv(&mut text) {
        assert!(!text[..count].starts_with(b"READY"));
    }
}

#[test]
fn it_is_told_of_a_drain_with_the_sessions_that_are_left() {
    let (systemd, upstream) = (Systemd::new(), Upstream::new());
    let mut relay = systemd.start(relay_to(upstream.address), "");
    systemd.hears();
    let (client, server) = upstream.session(&relay);
    relay.signal(Signal::TERM);
    let said = systemd.hears();
    assert!(said.starts_with("STOPPING=1\nSTATUS=1 session, "), "{said}");
    finish(&client);
    answer(server);
    assert_eq!(end_of(&client), Ended::Fin);
    assert_eq!(relay.code(), 0);
}

/// `sd_notify(3)`: with the time at which it began, and READY when it is over, also if it came to nothing.
#[test]
fn it_is_told_of_a_reload() {
    let (systemd, upstream) = (Systemd::new(), Upstream::new());
    let file = systemd.folder.path().join("relay.toml");
    let text = format!("[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"{}\"\n", upstream.address);
    std::fs::write(&file, &text).unwrap();
    let mut command = command(["-c", file.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", systemd.path()).stderr(Stdio::null());
    let mut relay = Process { child: command.spawn().unwrap() };
    assert_eq!(systemd.hears(), "READY=1\nSTATUS=0 sessions, 1 route\n");
    for text in [&text, "nonsense"] {
        std::fs::write(&file, text).unwrap();
        kill_process(Pid::from_child(&relay.child), Signal::HUP).unwrap();
        let said = systemd.hears();
        let began = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.split_once('\n'));
        assert!(began.is_some_and(|(at, _)| at.parse::<u64>().is_ok_and(|at| at > 0)), "{said}");
        assert_eq!(systemd.hears(), "READY=1\nSTATUS=0 sessions, 1 route\n");
    }
    kill_process(Pid::from_child(&relay.child), Signal::TERM).unwrap();
    assert_eq!(relay.code(), 0);
}

/// `sd_notify(3)`: after STOPPING there is nothing to say, whatever comes.
#[test]
fn it_is_told_nothing_more_once_the_relay_stops() {
    let (systemd, upstream) = (Systemd::new(), Upstream::new());
    let file = systemd.folder.path().join("relay.toml");
    std::fs::write(&file, format!("[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"{}\"\n", upstream.address)).unwrap();
    let mut command = command(["-c", file.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", systemd.path());
    let mut relay = Served::of(command);
    let near = client(relay.addresses[0]);
    let far = upstream.accept();
    assert!(systemd.hears().starts_with("READY=1\n"));
    relay.signal(Signal::TERM);
    assert!(systemd.hears().starts_with("STOPPING=1\n"));
    relay.signal(Signal::HUP);
    relay.log.wait_for("not reloaded");
    finish(&near);
    finish(&far);
    assert_eq!(relay.code(), 0);
    systemd.socket.set_nonblocking(true).unwrap();
    assert!(systemd.socket.recv(&mut [0; 256]).is_err());
}

/// A relay that stands still says nothing; one that goes on does.
#[test]
fn the_watchdog_hears_of_a_loop_that_answers() {
    let (systemd, upstream) = (Systemd::new(), Upstream::new());
    let relay = systemd.start(relay_to(upstream.address), "WATCHDOG_USEC=200000");
    assert!(systemd.hears().starts_with("READY=1\n"));
    let alive = "WATCHDOG=1\nSTATUS=0 sessions, 1 route\n";
    for _ in 0..3 {
        assert_eq!(systemd.hears(), alive);
    }
    // A quarter of the period is between two, so three come in less than a period, unless the machine is busy.
    let three = || (0..3).for_each(|_| assert_eq!(systemd.hears(), alive));
    assert!((0..20).any(|_| timed(three).1 < Duration::from_millis(195)), "three times in a period");
    relay.while_it_stands_still(|| {
        systemd.socket.set_nonblocking(true).unwrap();
        while systemd.socket.recv(&mut [0; 256]).is_ok() {}
        systemd.socket.set_nonblocking(false).unwrap();
        systemd.hears_nothing_for(Duration::from_millis(300));
    });
    assert_eq!(systemd.hears(), alive);
    // Another process's watchdog is nothing to it.
    let other = systemd.start(relay_to(upstream.address), "WATCHDOG_USEC=1000 WATCHDOG_PID=1");
    drop(relay);
    while systemd.hears() != "READY=1\nSTATUS=0 sessions, 1 route\n" {}
    systemd.hears_nothing_for(Duration::from_millis(100));
    drop(other);
}
