//! SIGKILL: a relay that vanishes is seen as a reset, for its sockets are armed all their life (K4).

use std::io::{ErrorKind, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::peers::{Ended, Upstream, bytes, end_of, hear, read_all, relayed};
use crate::process::relay_to;

#[test]
fn a_killed_relay_is_seen_as_a_reset_by_both_ends() {
    let upstream = Upstream::new();
    let mut relay = relay_to(upstream.address).start();
    let (client, server) = upstream.session(&relay);
    relayed(&client, &server, b"hello");
    relayed(&server, &client, b"hello");
    relay.signal(Signal::KILL);
    assert_eq!((end_of(&client), end_of(&server)), (Ended::Reset, Ended::Reset));
    assert_eq!(relay.signalled(), Signal::KILL.as_raw());
}

#[test]
fn a_relay_killed_in_mid_stream_is_seen_as_a_reset_by_both_ends() {
    for client_reads in [true, false] {
        let upstream = Upstream::new();
        let mut relay = relay_to(upstream.address).start();
        let (client, server) = upstream.session(&relay);
        let (reader, writer) = if client_reads { (client, server) } else { (server, client) };
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| write_until_it_fails(&writer));
            hear(&reader, 3_000_000);
            relay.signal(Signal::KILL);
            assert_eq!(read_all(&reader).1, Ended::Reset);
            assert_eq!(writing.join().unwrap(), ErrorKind::ConnectionReset);
        });
        assert_eq!(relay.signalled(), Signal::KILL.as_raw());
    }
}

fn write_until_it_fails(mut stream: &TcpStream) -> ErrorKind {
    let chunk = bytes(1, 64 << 10);
    loop {
        if let Err(error) = stream.write_all(&chunk) {
            return error.kind();
        }
    }
}
