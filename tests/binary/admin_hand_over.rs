//! `--admin` and `--metrics` at a hand-over.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use rustix::process::{Signal, kill_process};

use crate::admin::{get, get_through, http_address};
use crate::patience::until;
use crate::peers::{Upstream, client, finish, is_refused, limited, relayed, say};
use crate::pid_file::{PidFile, pid_of};
use crate::served::Served;

#[test]
fn a_hand_over_takes_both_http_listeners_along() {
    let folder = tempfile::tempdir().unwrap();
    let (pid_file, path) = (folder.path().join("pid"), folder.path().join("admin.sock"));
    let upstream = Upstream::new();
    let (to, admin) = (upstream.address.to_string(), format!("unix:{}", path.display()));
    let pid_path = pid_file.to_str().unwrap();
    let words = ["-f", "127.0.0.1:0", "-t", &to, "--admin", &admin, "--metrics", "127.0.0.1:0", "--pid-file", pid_path];
    let mut relay = Served::with(&words);
    let metrics = http_address(&relay.log, "metrics");
    let pid_file = PidFile::of(pid_file, relay.id());
    relay.signal(Signal::USR2);
    let new = pid_file.successor_of(relay.id());
    assert_eq!(relay.status().code(), Some(0));
    assert_eq!(get(metrics, "/readyz", ""), (200, "ready\n".to_owned()));
    assert_eq!(get_through(&path, "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    kill_process(pid_of(new), Signal::TERM).unwrap();
    until("the file to go", || (!path.exists()).then_some(()));
}

#[test]
fn an_http_listener_that_the_next_process_does_not_want_is_gone_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (file, socket) = (at("r.toml"), at("admin.sock"));
    let upstream = Upstream::new();
    let route = format!("[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"{}\"\n", upstream.address);
    let rest = format!("pid-file = {:?}\n{route}", at("pid"));
    fs::write(&file, format!("admin = \"unix:{socket}\"\nmetrics = \"127.0.0.1:0\"\n{rest}")).unwrap();
    let mut relay = Served::with(&["-c", &file]);
    let metrics = http_address(&relay.log, "metrics");
    // The old process lives as long as this.
    let near = client(relay.addresses[0]);
    let far = upstream.accept();
    let pid_file = PidFile::of(at("pid").into(), relay.id());
    UnixStream::connect(&socket).unwrap();
    fs::write(&file, rest).unwrap();
    relay.signal(Signal::USR2);
    pid_file.successor_of(relay.id());
    until("the file to go", || (!fs::exists(&socket).unwrap()).then_some(()));
    until("its port to be closed", || is_refused(metrics).then_some(()));
    relayed(&near, &far, b"still");
    finish(&near);
    finish(&far);
    assert_eq!(relay.status().code(), Some(0));
}

#[test]
fn an_http_listener_that_moves_is_at_its_new_address() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (file, [old, new]) = (at("r.toml"), ["old.sock", "new.sock"].map(at));
    let upstream = Upstream::new();
    let rest =
        format!("pid-file = {:?}\n[[route]]\nfrom = \"127.0.0.1:0\"\nto = \"{}\"\n", at("pid"), upstream.address);
    fs::write(&file, format!("admin = \"unix:{old}\"\n{rest}")).unwrap();
    let mut relay = Served::with(&["-c", &file]);
    let pid_file = PidFile::of(at("pid").into(), relay.id());
    fs::write(&file, format!("admin = \"unix:{new}\"\n{rest}")).unwrap();
    relay.signal(Signal::USR2);
    pid_file.successor_of(relay.id());
    assert_eq!(relay.status().code(), Some(0));
    assert_eq!(get_through(&new, "/readyz"), (200, "ready\n".to_owned()));
    until("the old file to go", || (!fs::exists(&old).unwrap()).then_some(()));
}

/// The process before answers whom it has let in.
#[test]
fn who_was_let_in_before_a_hand_over_has_an_answer() {
    // On a machine that is very busy, the client's 2 s may be over before.
    assert!((0..5).any(|_| is_answered_across_a_hand_over()), "it is to have an answer");
}

fn is_answered_across_a_hand_over() -> bool {
    let (upstream, folder) = (Upstream::new(), tempfile::tempdir().unwrap());
    let (pid_file, to) = (folder.path().join("pid"), upstream.address.to_string());
    let words = ["-f", "127.0.0.1:0", "-t", &to, "--admin", "127.0.0.1:0", "--pid-file", pid_file.to_str().unwrap()];
    let mut relay = Served::with(&words);
    let pid_file = PidFile::of(pid_file, relay.id());
    let near = client(relay.addresses[0]);
    let far = upstream.accept();
    relayed(&near, &far, b"hello");
    let admin = http_address(&relay.log, "admin");
    let mut asks = limited(TcpStream::connect(admin).unwrap());
    say(&asks, b"GET /routes HTTP/1.1\r\n");
    // Who comes later has an answer, so this one was let in.
    assert_eq!(get(admin, "/healthz", "Host: localhost\r\n").0, 200);
    relay.signal(Signal::USR2);
    let new = pid_file.successor_of(relay.id());
    relay.log.wait_for("has the listeners and serves");
    let _ = asks.write_all(b"Host: localhost\r\n\r\n");
    let mut text = String::new();
    let is_whole = asks.read_to_string(&mut text).is_ok();
    // The process before has the session.
    let is_answered = is_whole && text.starts_with("HTTP/1.1 200 ") && text.contains("\"live\":1,");
    drop(asks);
    finish(&near);
    finish(&far);
    assert_eq!(relay.status().code(), Some(0));
    kill_process(pid_of(new), Signal::TERM).unwrap();
    is_answered
}
