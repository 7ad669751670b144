//! Listening sockets that somebody else has opened: socket units, supervisors, shells.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::patience::until;
use crate::peers::{Ended, Upstream, client, end_of, finish, is_refused, limited, relayed, reset, say};
use crate::pid_file::{PidFile, pid_of};
use crate::process::{Process, TPROXY, undisturbed};
use crate::served::Served;

/// A relay that starts with this descriptor under number 3, after these words of a shell.
fn with(socket: impl Into<OwnedFd>, shell: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{shell} exec 3<&0 </dev/null; exec \"$0\" \"$@\"")).arg(TPROXY).args(arguments);
    undisturbed(&mut command).stdin(Stdio::from(socket.into()));
    command
}

/// The shell's process becomes the relay.
const LISTEN_FDS: &str = "export LISTEN_PID=$$ LISTEN_FDS=1;";

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Runs it to its end: its exit code, and what it said.
fn failed(mut command: Command) -> (i32, String) {
    let mut process = Process { child: command.stderr(Stdio::piped()).spawn().unwrap() };
    let code = process.code();
    let said = std::io::read_to_string(process.child.stderr.take().unwrap()).unwrap();
    (code, said)
}

#[test]
fn a_socket_is_taken_by_its_number_by_its_name_and_by_its_address() {
    let upstream = Upstream::new();
    let to = upstream.address.to_string();
    for (shell, from) in [
        ("", "fd:3"),
        (LISTEN_FDS, "fd:3"),
        ("export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web;", "systemd:web"),
        (LISTEN_FDS, ""),
    ] {
        let (listener, address) = listener();
        let written = address.to_string();
        let from = if from.is_empty() { &written } else { from };
        let mut relay = Served::of(with(listener, shell, &["-f", from, "-t", &to]));
        assert_eq!(relay.addresses, [address], "{shell} {from}");
        let near = client(address);
        let far = upstream.accept();
        relayed(&near, &far, b"hello");
        reset(far);
        assert_eq!(end_of(&near), Ended::Reset);
        assert_eq!(relay.stop(), 0);
    }
}

/// K23: a client that came before the relay did has none of the listener's options, and its end is told all the same.
#[test]
fn a_client_that_waits_already_is_served_and_told_the_truth() {
    let (upstream, (listener, address)) = (Upstream::new(), listener());
    let early: Vec<_> = (0..3).map(|_| limited(TcpStream::connect(address).unwrap())).collect();
    early.iter().for_each(|early| say(early, b"early"));
    let mut relay = Served::of(with(listener, "", &["-f", "fd:3", "-t", &upstream.address.to_string()]));
    for near in &early {
        let far = upstream.accept();
        reset(far);
        assert_eq!(end_of(near), Ended::Reset);
    }
    // Killed, it is not a clean end either.
    let near = limited(TcpStream::connect(address).unwrap());
    let far = upstream.accept();
    relayed(&near, &far, b"x");
    relay.signal(Signal::KILL);
    relay.killed();
    assert_eq!((end_of(&near), end_of(&far)), (Ended::Reset, Ended::Reset));
}

/// `admin` is what a relay calls the socket of its own `--admin` when it hands over.
#[test]
fn a_hand_over_takes_a_socket_along_whatever_its_name_is() {
    let (upstream, (listener, address), folder) = (Upstream::new(), listener(), tempfile::tempdir().unwrap());
    let (pid_file, to) = (folder.path().join("pid"), upstream.address.to_string());
    let shell = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=admin;";
    let words = ["-f", "systemd:admin", "-t", &to, "--pid-file", pid_file.to_str().unwrap()];
    // This moves the listener: none of ours keeps it open.
    let mut relay = Served::of(with(listener, shell, &words));
    let pid_file = PidFile::of(pid_file, relay.id());
    relay.signal(Signal::USR2);
    let second = pid_file.successor_of(relay.id());
    assert_eq!(relay.status().code(), Some(0));
    let near = client(address);
    let far = upstream.accept();
    relayed(&near, &far, b"hello");
    finish(&near);
    finish(&far);
    assert_eq!(end_of(&near), Ended::Fin);
    rustix::process::kill_process(pid_of(second), Signal::TERM).unwrap();
    until("it to end", || is_refused(address).then_some(()));
}

/// As with a socket unit: who comes while nobody serves waits.
#[test]
fn clients_wait_while_a_relay_is_replaced() {
    let (upstream, (listener, address)) = (Upstream::new(), listener());
    let to = upstream.address.to_string();
    let start = || Served::of(with(listener.try_clone().unwrap(), LISTEN_FDS, &["-f", "fd:3", "-t", &to]));
    let mut relay = start();
    let near = client(address);
    let far = upstream.accept();
    relay.signal(Signal::TERM);
    relay.log.wait_for("draining 1 sessions");
    finish(&near);
    finish(&far);
    assert_eq!(relay.code(), 0);
    let waiting = client(address);
    let mut relay = start();
    let far = upstream.accept();
    relayed(&waiting, &far, b"I have waited");
    finish(&waiting);
    finish(&far);
    assert_eq!((end_of(&waiting), relay.stop()), (Ended::Fin, 0));
}

#[test]
fn what_cannot_be_listened_on_is_named() {
    let (listener, address) = listener();
    let connected = TcpStream::connect(address).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    let arguments = ["-f", "fd:3", "-t", "127.0.0.1:9"];
    for (socket, words) in [
        (OwnedFd::from(connected), "it does not listen"),
        (datagrams.into(), "it is no stream socket"),
        (file.into(), "it is no socket"),
    ] {
        for shell in ["", LISTEN_FDS] {
            let (code, said) = failed(with(socket.try_clone().unwrap(), shell, &arguments));
            assert_eq!(code, 3, "{said}");
            assert!(said.contains(words) && said.contains('3'), "{said}");
        }
    }
    for (from, words) in [("fd:9", "nothing is open there"), ("systemd:web", "but fd:3 systemd:unknown")] {
        let socket = listener.try_clone().unwrap();
        let (code, said) = failed(with(socket, LISTEN_FDS, &["-f", from, "-t", "127.0.0.1:9"]));
        assert!(code == 3 && said.contains(words) && said.contains(from), "{code} {said}");
    }
}

#[test]
fn a_socket_that_no_route_names_is_closed_with_a_warning() {
    let (upstream, (listener, address)) = (Upstream::new(), listener());
    let mut relay = Served::of(with(listener, LISTEN_FDS, &["-f", "127.0.0.1:0", "-t", &upstream.address.to_string()]));
    let warning = relay.log.wait_for("no route listens on ");
    assert!(warning.contains(&address.to_string()) && warning.contains("WARN"), "{warning}");
    assert!(is_refused(address));
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_socket_that_a_reload_removes_is_taken_again_when_it_is_named_again() {
    let (upstream, (listener, address)) = (Upstream::new(), listener());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.toml");
    let route = |from: &str| format!("[[route]]\nfrom = \"{from}\"\nto = \"{}\"\n", upstream.address);
    let (both, one) = (route("127.0.0.1:0") + &route("fd:3"), route("127.0.0.1:0"));
    fs::write(&path, &both).unwrap();
    let mut relay = Served::of(with(listener, LISTEN_FDS, &["-c", path.to_str().unwrap()]));
    let reload = |text: &str, expected: &str| {
        fs::write(&path, text).unwrap();
        relay.signal(Signal::HUP);
        relay.log.wait_for(expected);
    };
    reload(&one, "reloaded: 1 route kept, 0 added, 1 removed");
    // Nobody serves it, and it is there. Who comes in the very turn of the reload may find it still served.
    let comes = || {
        let client = client(address);
        say(&client, b"hello");
        upstream.is_left_alone().then_some(client)
    };
    let waiting = (0..3).find_map(|_| comes()).expect("nobody serves it");
    // One that fails for another reason takes it, and gives it back.
    let taken = route(&upstream.address.to_string());
    reload(&(both.clone() + &taken), "not reloaded, nothing has changed");
    reload(&both, "reloaded: 1 route kept, 1 added, 0 removed");
    let far = upstream.accept();
    relayed(&far, &waiting, b"welcome");
    finish(&waiting);
    finish(&far);
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_unix_socket_can_be_inherited_and_its_file_stays() {
    let upstream = Upstream::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let from = format!("unix:{}", path.display());
    let mut relay = Served::of(with(listener, LISTEN_FDS, &["-f", &from, "-t", &upstream.address.to_string()]));
    let near = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let far = upstream.accept();
    say(&far, b"x");
    let mut byte = [0];
    std::io::Read::read_exact(&mut &near, &mut byte).unwrap();
    drop((near, far));
    assert_eq!(relay.stop(), 0);
    assert!(path.exists(), "it is its owner's");
}

/// Where it is installed.
#[test]
fn systemd_starts_it_with_the_first_client() {
    let upstream = Upstream::new();
    let address = { listener().1 };
    let mut activate = Command::new("systemd-socket-activate");
    activate.args(["-l", &address.to_string(), "--", TPROXY, "-f", "fd:3", "-t", &upstream.address.to_string()]);
    undisturbed(&mut activate).stderr(Stdio::null());
    let Ok(child) = activate.spawn() else { return };
    let process = Process { child };
    let near = until("systemd to listen", || TcpStream::connect(address).ok());
    let near = limited(near);
    let far = upstream.accept();
    relayed(&near, &far, b"first");
    finish(&near);
    finish(&far);
    assert_eq!(end_of(&near), Ended::Fin);
    drop(process);
    assert!(is_refused(address));
}
