//! Clients of `--admin` that are slow, go on sending, or want no body.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use rustix::io::ioctl_fionread;
use rustix::process::{Signal, kill_process};

use crate::admin::{Inside, answer, get, http_address};
use crate::patience::{LIMIT, until};
use crate::peers::{Upstream, client, finish, limited, read_all, relayed, say};
use crate::pid_file::{PidFile, pid_of};
use crate::served::Served;

/// All that is said until the end.
fn rest_of(mut stream: &TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_request_that_comes_in_drops_has_no_more_time_than_another() {
    let inside = Inside::with(&[]);
    let stream = limited(TcpStream::connect(inside.admin).unwrap());
    say(&stream, b"GET /healthz HTTP/1.1\r\nX: ");
    // 2 s in all. A byte whenever another request has been answered is many within each 2 s.
    until("the slow one to be reset", || {
        assert_eq!(inside.get("/healthz").0, 200);
        (&stream).write_all(b"x").err()
    });
    // Nor did it come so far that its headers were too many.
    assert_eq!(read_all(&stream).0, b"");
}

#[test]
fn an_answer_arrives_whole_although_its_client_goes_on_sending() {
    let inside = Inside::with(&[]);
    let goes_on = || {
        let stream = limited(TcpStream::connect(inside.admin).unwrap());
        say(&stream, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(answer(&rest_of(&stream)).0, 405);
        // When sixteen others have been answered, what came before was read.
        (0..48).all(|_| {
            inside.get("/healthz");
            (&stream).write_all(b"x").is_ok()
        })
    };
    // On a machine that is very busy, its 2 s may be over before.
    assert!((0..5).any(|_| goes_on()), "it can go on");
}

#[test]
fn who_wants_no_body_gets_none_also_with_a_refusal() {
    let inside = Inside::with(&[]);
    for (host, status) in [("localhost", "200 OK"), ("example.com", "403 Forbidden")] {
        let stream = limited(TcpStream::connect(inside.admin).unwrap());
        say(&stream, format!("HEAD /routes HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        let text = rest_of(&stream);
        assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")) && text.ends_with("\r\n\r\n"), "{text}");
        assert_eq!(text.matches("\r\n\r\n").count(), 1, "{text}");
    }
}

/// More than a socket holds: it is written in several parts.
#[test]
fn a_long_answer_arrives_whole_at_a_reader_that_begins_late() {
    const ROUTES: usize = 600;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (file, socket) = (at("r.toml"), at("admin.sock"));
    let route = |number| format!("[[route]]\nname = \"r{number:060}\"\nfrom = \"127.0.0.1:0\"\nto = \"127.0.0.1:9\"\n");
    let routes: String = (0..ROUTES).map(route).collect();
    fs::write(&file, format!("admin = \"unix:{socket}\"\n{routes}")).unwrap();
    let mut relay = Served::with(&["-c", &file]);
    let late = || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        // Nothing more arrives until something is read.
        until("a part of the answer", || (ioctl_fionread(&stream).unwrap() > 100_000).then_some(()));
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    };
    // On a machine that is very busy, its 2 s may be over before.
    let text = (0..5).find_map(|_| late()).expect("the whole answer");
    let (status, body) = answer(&text);
    assert!(status == 200 && body.len() > 250_000, "{} bytes do not fill a socket", body.len());
    for number in 0..ROUTES {
        assert_eq!(body.matches(&format!("tproxy_sessions{{route=\"r{number:060}\"}} 0\n")).count(), 1, "{number}");
    }
    assert_eq!(relay.stop(), 0);
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
    let admin = http_address(&relay, "admin");
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
