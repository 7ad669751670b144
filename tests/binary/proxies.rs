//! The PROXY protocol, on sockets: what an upstream is told of the client, and what is believed of it. The headers here are
//! written by hand, from the specification.

use std::net::{SocketAddr, TcpStream};

use crate::patience::until;
use crate::peers::{
    Ended, Upstream, answer, client, end_of, finish, has_ipv6, hear, is_quiet, read_all, relayed, reset, say,
};
use crate::process::{Relay, relay_to, tproxy};

const TRUST: [&str; 3] = ["--accept-proxy", "--proxy-from", "127.0.0.0/8,::1"];

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn accepting(upstream: &Upstream) -> Relay {
    relay_to(upstream.address).with(TRUST).start()
}

/// A binary header from 203.0.113.9:4660 to 192.0.2.7:443, and what is behind it.
fn binary(behind: &[u8]) -> Vec<u8> {
    let block = [203, 0, 113, 9, 192, 0, 2, 7, 0x12, 0x34, 0x01, 0xbb];
    [SIGNATURE, b"\x21\x11\x00\x0c", &block, behind].concat()
}

#[test]
fn the_upstream_is_told_where_the_client_came_from_before_anybody_has_said_anything() {
    for (from, version, family) in [
        ("127.0.0.1:0", "v1", "TCP4"),
        ("127.0.0.1:0", "v2", "4"),
        ("[::1]:0", "v1", "TCP6"),
        ("[::1]:0", "v2", "6"),
        // An IPv4 client of a wildcard of IPv6 is an IPv4 client.
        ("[::]:0", "v1", "TCP4"),
        ("[::]:0", "v2", "4"),
    ] {
        if from.starts_with('[') && !has_ipv6() {
            continue;
        }
        let upstream = Upstream::new();
        let relay = relay_to(upstream.address).from(from).with(["--send-proxy", version]).start();
        let near = match from {
            "[::]:0" => client(([127, 0, 0, 1], relay.address.port()).into()),
            _ => client(relay.address),
        };
        let far = upstream.accept();
        let (source, destination) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
        let expected = expected(family, source, destination);
        assert_eq!(hear(&far, expected.len()), expected, "{from} {version}");
        assert!(is_quiet(&far));
        // The server speaks first.
        relayed(&far, &near, b"220 hello");
        relayed(&near, &far, b"EHLO");
        finish(&far);
        finish(&near);
        let session = relay.log.wait_for_session();
        assert_eq!((session.up, session.down, session.client), (4, 9, source), "only payload is counted");
    }
}

fn expected(family: &str, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let octets = |address: SocketAddr| match address {
        SocketAddr::V4(address) => address.ip().octets().to_vec(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    match family {
        "4" => [SIGNATURE, b"\x21\x11\x00\x0c", &octets(source), &octets(destination), &ports].concat(),
        "6" => [SIGNATURE, b"\x21\x21\x00\x24", &octets(source), &octets(destination), &ports].concat(),
        line => {
            format!("PROXY {line} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port())
                .into_bytes()
        }
    }
}

#[test]
fn a_client_that_is_announced_is_the_client() {
    for header in [b"PROXY TCP4 203.0.113.9 192.0.2.7 4660 443\r\n".to_vec(), binary(b"")] {
        let upstream = Upstream::new();
        let relay = accepting(&upstream);
        // Byte by byte, and the last together with the first of the client's own.
        let near = client(relay.address);
        near.set_nodelay(true).unwrap();
        for byte in &header[..header.len() - 1] {
            say(&near, &[*byte]);
        }
        assert!(upstream.is_left_alone(), "nothing is dialled before the header is whole");
        say(&near, &[&header[header.len() - 1..], b"hello"].concat());
        let far = upstream.accept();
        assert_eq!(hear(&far, 5), b"hello");
        relayed(&far, &near, b"and back");
        finish(&near);
        finish(&far);
        let session = relay.log.wait_for_session();
        assert_eq!((session.client.to_string().as_str(), session.up, session.down), ("203.0.113.9:4660", 5, 8));
        assert_eq!((session.end.as_str(), session.undelivered), ("client-eof", None));
    }
}

#[test]
fn a_header_with_a_fin_behind_it_is_served() {
    let upstream = Upstream::new();
    let relay = accepting(&upstream);
    let near = client(relay.address);
    say(&near, &binary(b"ping"));
    finish(&near);
    answer(upstream.accept());
    assert_eq!(read_all(&near), (b"ping".to_vec(), Ended::Fin));
    assert_eq!(relay.log.wait_for_session().end, "client-eof");
}

#[test]
fn what_was_accepted_is_passed_on_in_either_version() {
    let line = b"PROXY TCP4 203.0.113.9 192.0.2.7 4660 443\r\n";
    for (accepted, version, sent) in [
        (binary(b""), "v1", line.to_vec()),
        (line.to_vec(), "v2", binary(b"")),
        (binary(b""), "v2", binary(b"")),
        (b"PROXY UNKNOWN\r\n".to_vec(), "v2", [SIGNATURE, b"\x20\x00\x00\x00"].concat()),
        ([SIGNATURE, b"\x20\x00\x00\x00"].concat(), "v1", b"PROXY UNKNOWN\r\n".to_vec()),
    ] {
        let upstream = Upstream::new();
        let relay = relay_to(upstream.address).with(TRUST).with(["--send-proxy", version]).start();
        let near = client(relay.address);
        say(&near, &[&accepted[..], b"hello"].concat());
        let far = upstream.accept();
        assert_eq!(hear(&far, sent.len() + 5), [&sent[..], b"hello"].concat(), "{accepted:?}");
        assert!(is_quiet(&far));
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_keeps_its_address() {
    let upstream = Upstream::new();
    // Neither is it subject to the lists.
    let relay = relay_to(upstream.address).with(TRUST).with(["--deny", "127.0.0.0/8"]).start();
    let near = client(relay.address);
    say(&near, &[SIGNATURE, b"\x20\x00\x00\x00"].concat());
    let far = upstream.accept();
    relayed(&near, &far, b"are you well?");
    finish(&near);
    finish(&far);
    assert_eq!(relay.log.wait_for_session().client, near.local_addr().unwrap());
}

#[test]
fn a_client_is_judged_by_the_address_it_is_announced_with() {
    let upstream = Upstream::new();
    let limits = ["--deny", "203.0.113.0/24", "--max-sessions-per-ip", "1", "-v"];
    let relay = relay_to(upstream.address).with(TRUST).with(limits).start();
    let denied = client(relay.address);
    say(&denied, &binary(b"hello"));
    assert_eq!(end_of(&denied), Ended::Reset);
    relay.log.wait_for("client 203.0.113.9:4660 is denied");
    until("its record", || relay.log.with("session client=203.0.113.9:4660 upstream=- ").pop());
    assert!(upstream.is_left_alone());
    let announced = |address: &str| {
        let near = client(relay.address);
        say(&near, format!("PROXY TCP4 {address} 192.0.2.7 4660 443\r\n").as_bytes());
        near
    };
    let (one, first) = (announced("198.51.100.1"), upstream.accept());
    assert_eq!(end_of(&announced("198.51.100.1")), Ended::Reset, "its address has a session");
    let (other, second) = (announced("198.51.100.2"), upstream.accept());
    relayed(&one, &first, b"one");
    relayed(&other, &second, b"other");
}

#[test]
fn a_stranger_is_reset_unread_and_no_upstream_hears_of_it() {
    let upstream = Upstream::new();
    let relay = relay_to(upstream.address).with(["--accept-proxy", "--proxy-from", "192.0.2.0/24,unix", "-v"]).start();
    let near = TcpStream::connect(relay.address).map(crate::peers::limited);
    assert!(near.is_err() || end_of(&near.unwrap()) == Ended::Reset);
    relay.log.wait_for(" is denied: it is none of --proxy-from");
    assert!(until("its record", || relay.log.with("session client=127.0.0.1:").pop()).contains("end=denied"));
    assert!(upstream.is_left_alone());
}

#[test]
fn what_is_no_header_ends_the_session_at_once_and_its_absence_after_5_seconds() {
    let upstream = Upstream::new();
    let relay = accepting(&upstream);
    let silent = client(relay.address);
    for (count, bytes) in
        [b"GET / HTTP/1.1\r\n".as_slice(), b"PROXY TCP4 1.2.3.4\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b"]
            .iter()
            .enumerate()
    {
        let near = client(relay.address);
        say(&near, bytes);
        assert_eq!(end_of(&near), Ended::Reset);
        assert_eq!(relay.log.wait_for_sessions(count + 1)[count].end, "bad-header");
    }
    // The end, in the middle of it.
    let near = client(relay.address);
    say(&near, &binary(b"")[..20]);
    finish(&near);
    assert_eq!((end_of(&near), relay.log.wait_for_sessions(4)[3].end.as_str()), (Ended::Reset, "bad-header"));
    let near = client(relay.address);
    say(&near, b"PROXY");
    reset(near);
    assert_eq!(relay.log.wait_for_sessions(5)[4].end, "client-gone");
    assert_eq!(end_of(&silent), Ended::Reset);
    let session = relay.log.wait_for_sessions(6).remove(5);
    assert!(session.end == "header-timeout" && session.time >= 5.0 && session.upstream.is_none(), "{session:?}");
    assert!(upstream.is_left_alone());
}

#[test]
fn whom_to_believe_must_be_said_and_everybody_is_a_warning() {
    let upstream = Upstream::new();
    for everybody in ["0.0.0.0/0", "10.0.0.0/8,::/0"] {
        let relay = relay_to(upstream.address).with(["--accept-proxy", "--proxy-from", everybody]).start();
        relay.log.wait_for("WARN  [tproxy] --proxy-from ");
    }
    assert_eq!(accepting(&upstream).log.with("WARN "), [""; 0]);
    for arguments in [vec!["--accept-proxy"], vec!["--proxy-from", "10.0.0.0/8"]] {
        let finished = tproxy(["--to", "127.0.0.1:1"].into_iter().chain(arguments));
        assert_eq!((finished.code, finished.stderr.len()), (2, 1), "{finished:?}");
    }
}
