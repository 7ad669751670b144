//! Clients of `--admin` that are slow, go on sending, or want no body.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::admin::{Inside, answer};
use crate::patience::until;
use crate::peers::{limited, read_all, say};

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
