//! What systemd is told of a hand-over.

use std::time::Duration;

use super::*;
use crate::patience::{a_while, timed};
use crate::systemd::Systemd;

#[test]
fn a_stop_while_systemd_is_told_is_a_hand_over() {
    let systemd = Systemd::new();
    let mut setup = Setup::with(&[("NOTIFY_SOCKET", &systemd.path())], &[]);
    let near = client(setup.address);
    let far = setup.upstream.accept();
    setup.relay.signal(Signal::USR2);
    // READY and MAINPID are read, and BARRIER is not: it is not let go.
    for _ in 0..2 {
        systemd.hears();
    }
    setup.relay.signal(Signal::TERM);
    setup.relay.log.wait_for("draining 1 sessions");
    setup.serves();
    setup.serves_its_file();
    finish(&near);
    finish(&far);
    // What is not read by now never will be.
    drop(systemd);
    assert_eq!(setup.relay.status().code(), Some(0));
    setup.serves_its_file();
}

/// If the process that systemd knows ended before systemd has read of another, the service would have ended.
#[test]
fn the_process_before_stays_until_systemd_has_read_of_the_new_one() {
    let systemd = Systemd::new();
    let mut setup = Setup::with(&[("NOTIFY_SOCKET", &systemd.path())], &[]);
    let ((), took) = timed(|| {
        setup.relay.signal(Signal::USR2);
        // READY and MAINPID. BARRIER and its descriptor stay where they are.
        for _ in 0..2 {
            systemd.hears();
        }
        a_while();
    });
    // It has nothing else to do. It stays for 5 s; on a machine that is very busy they may be over.
    assert!(setup.relay.is_alive() || took > Duration::from_secs(4), "after {took:?}");
    drop(systemd);
    assert_eq!(setup.relay.status().code(), Some(0));
    setup.serves();
}

/// `sd_notify(3)` and `sd_notify_barrier(3)`: the main process is another as soon as it serves, and not before.
#[test]
fn systemd_is_told_which_process_is_the_main_one() {
    let systemd = Systemd::new();
    let mut setup =
        Setup::with(&[("NOTIFY_SOCKET", &systemd.path()), ("WATCHDOG_PID", Path::new("1"))], &["--drain-delay", "1h"]);
    assert!(systemd.hears().starts_with("READY=1\n"));
    setup.relay.signal(Signal::USR2);
    let new = setup.successor_of(setup.relay.id());
    assert_eq!(systemd.hears(), format!("MAINPID={new}\n"));
    // The descriptor beside it was not taken, and is closed by now.
    assert_eq!(systemd.hears(), "BARRIER=1\n");
    // It says nothing of stopping: the service goes on. There is no delay either.
    assert_eq!(setup.relay.status().code(), Some(0));
    kill_process(pid_of(new), Signal::TERM).unwrap();
    assert!(systemd.hears().starts_with("STOPPING=1\n"));
    kill_process(pid_of(new), Signal::KILL).unwrap();
}

/// `sd_watchdog_enabled(3)`: the variables name the process before. The new one is watched all the same, and the one before is
/// silent from the moment it is not the main one.
#[test]
fn systemd_watches_the_new_process() {
    let (folder, upstream) = (tempfile::tempdir().unwrap(), Upstream::new());
    let (pid_file, systemd) = (folder.path().join("pid"), Systemd::new());
    rustix::net::sockopt::set_socket_passcred(&systemd.socket, true).unwrap();
    let mut command = Command::new("sh");
    let shell = "export WATCHDOG_PID=$$ WATCHDOG_USEC=100000; exec \"$0\" \"$@\"";
    command.args(["-c", shell, TPROXY, "-f", "127.0.0.1:0", "-t"]).arg(upstream.address.to_string());
    undisturbed(&mut command).arg("--pid-file").arg(&pid_file).env("NOTIFY_SOCKET", systemd.path());
    let mut setup = Setup::of(folder, upstream, command);
    // Who has said it, and what.
    let hears = || {
        let (mut text, mut space) =
            ([0; 256], [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))]);
        let mut beside = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let mut room = [std::io::IoSliceMut::new(&mut text)];
        let got = rustix::net::recvmsg(&systemd.socket, &mut room, &mut beside, rustix::net::RecvFlags::CMSG_CLOEXEC)
            .unwrap();
        let who = beside.drain().find_map(|one| match one {
            rustix::net::RecvAncillaryMessage::ScmCredentials(who) => {
                Some(who.pid.as_raw_nonzero().get().cast_unsigned())
            }
            _ => None,
        });
        (who.unwrap(), String::from_utf8_lossy(&text[..got.bytes]).into_owned())
    };
    let near = client(setup.address);
    let far = setup.upstream.accept();
    let old = setup.relay.id();
    while hears() != (old, "WATCHDOG=1\nSTATUS=1 session, 1 route\n".to_owned()) {}
    setup.relay.signal(Signal::USR2);
    let new = setup.successor_of(old);
    while hears() != (old, format!("MAINPID={new}\n")) {}
    let after: Vec<_> = (0..5).map(|_| hears()).collect();
    assert_eq!(after[0], (old, "BARRIER=1\n".to_owned()));
    assert!(after[1..].iter().all(|(who, text)| *who == new && text.starts_with("WATCHDOG=1\n")), "{after:?}");
    finish(&near);
    finish(&far);
    assert_eq!(setup.relay.status().code(), Some(0));
}
