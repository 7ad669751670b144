//! Clients of `--admin` that are slow, go on sending, or want no body.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use rustix::io::ioctl_fionread;

use crate::admin::{Inside, answer, http_address};
use crate::patience::{LIMIT, until};
use crate::peers::{Upstream, client, limited, read_all, reset, say};
use crate::process::relay_to;
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

/// More can wait than are let in at a time, and the kernel says only once that somebody waits.
#[test]
fn a_client_behind_many_dead_ones_is_let_in() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).with(["--admin", "127.0.0.1:0"]).start();
    let admin = http_address(&relay.log, "admin");
    let last = relay.while_it_stands_still(|| {
        // Sixteen are let in per turn. Two turns come in any case: after SIGCONT, and for the listener's event.
        (0..3 * 16).for_each(|_| reset(client(admin)));
        let last = client(admin);
        say(&last, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        last
    });
    assert_eq!(answer(&rest_of(&last)), (200, "ok\n".to_owned()));
    assert_eq!(relay.stop(), 0);
}
