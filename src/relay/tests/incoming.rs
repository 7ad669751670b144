//! Tests of headers that come before the client's bytes, and of what becomes of them.

use std::io::ErrorKind;

use super::script::Script;
use crate::net::{Hints, Peer};
use crate::relay::incoming::{Accepted, Incoming, Progress};
use crate::relay::pair::Pair;
use crate::relay::pool::{Pool, Splicing};
use crate::relay::proxy::{Ends, ProxyVersion, encode};
use crate::relay::side::Side;

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n";

struct Rig {
    client: Script,
    side: Side<Script>,
    header: Incoming<Vec<u8>>,
    pool: Pool<Vec<u8>>,
}

fn rig() -> Rig {
    let client = Script::new();
    let mut side = Side::new(client.clone());
    side.mark(Hints::READABLE);
    Rig { side, client, header: Incoming::default(), pool: Pool::new(64, Splicing::OFF) }
}

impl Rig {
    fn read(&mut self) -> Progress<Vec<u8>> {
        self.side.mark(Hints::READABLE);
        self.header.read(&mut self.side, &mut self.pool)
    }

    fn accepted(&mut self) -> Accepted<Vec<u8>> {
        match self.read() {
            Progress::Whole(header) => header,
            progress => panic!("{progress:?}"),
        }
    }
}

#[test]
fn a_header_is_read_byte_by_byte_and_holds_a_lease_only_while_a_part_is_there() {
    let mut rig = rig();
    assert!(matches!(rig.read(), Progress::Incomplete));
    assert_eq!(rig.pool.lent(), 0);
    for byte in &LINE[..LINE.len() - 1] {
        rig.client.reads(&[*byte]);
        assert!(matches!(rig.read(), Progress::Incomplete));
        assert_eq!(rig.pool.lent(), 1);
    }
    rig.client.reads(&LINE[LINE.len() - 1..]);
    let header = rig.accepted();
    let ends =
        Ends::Inet { source: "192.0.2.1:56324".parse().unwrap(), destination: "198.51.100.7:443".parse().unwrap() };
    assert_eq!((header.ends(), header.has_rest()), (ends, false));
    assert!(header.into_preface(None, &mut rig.pool).is_none(), "nothing is left of it");
    assert_eq!(rig.pool.lent(), 0);
}

#[test]
fn a_bad_header_an_end_and_an_error_in_it_give_the_lease_back() {
    for act in [
        |client: &Script| client.reads(b"GET / HTTP/1.1\r\n").ends().clone(),
        |client: &Script| client.reads(b"PROXY TCP4 ").ends().clone(),
        |client: &Script| client.ends().clone(),
        |client: &Script| client.reads(b"PROXY ").fails(ErrorKind::ConnectionReset).clone(),
    ] {
        let mut rig = rig();
        act(&rig.client);
        let progress = loop {
            match rig.read() {
                Progress::Incomplete => {}
                progress => break progress,
            }
        };
        assert!(matches!(progress, Progress::Bad));
        assert_eq!(rig.pool.lent(), 0);
    }
}

/// The rest is larger than a buffer of the pool.
#[test]
fn what_was_read_behind_it_goes_to_the_upstream_with_and_without_another_header() {
    let rest = [b'x'; 100];
    for send in [None, Some(ProxyVersion::V1), Some(ProxyVersion::V2)] {
        let mut rig = rig();
        rig.client.reads(&[LINE, &rest].concat());
        let header = rig.accepted();
        let sent = send.map_or(Vec::new(), |version| encode(version, header.ends()).bytes().to_vec());
        let preface = header.into_preface(send, &mut rig.pool);
        let upstream = Script::new();
        let mut pair = Pair::new(rig.side, Side::new(upstream.clone()), preface);
        pair.relay(Peer::Client, 64, &mut rig.pool);
        assert_eq!(upstream.written(), [&sent[..], &rest].concat());
        assert_eq!((pair.flow(Peer::Client).moved(), rig.pool.lent()), (100, 0), "only payload is counted");
    }
}

/// The kernel counted the header too.
#[test]
fn a_doubtful_end_behind_a_header_is_decided_by_all_that_was_read() {
    let all = LINE.len() as u64 + 7;
    for (received, finished) in [(all + 1, true), (all, false)] {
        let mut rig = rig();
        rig.pool = Pool::new(64, Splicing { after: 0, pipes_max: 1 });
        rig.pool.add_pipe(Vec::new());
        rig.client.reads(&[LINE, b"req"].concat());
        let preface = rig.accepted().into_preface(None, &mut rig.pool);
        let upstream = Script::new();
        let mut pair = Pair::new(rig.side, Side::new(upstream.clone()), preface);
        upstream.reads(b"an answer");
        rig.client.takes(3).refuses(ErrorKind::BrokenPipe);
        pair.mark(Peer::Upstream, Hints::READABLE);
        rig.client.reads(b"uest").ends().received(received);
        while Peer::BOTH.map(|peer| pair.relay(peer, 64, &mut rig.pool)).iter().any(|pass| pass.failed) {}
        pair.assume_ready();
        while Peer::BOTH.map(|peer| pair.relay(peer, 64, &mut rig.pool)).iter().any(|pass| pass.failed) {}
        assert_eq!((upstream.written(), upstream.is_finished()), (b"request".to_vec(), finished));
    }
}

#[test]
fn a_header_that_was_not_sent_is_not_undelivered() {
    let mut rig = rig();
    rig.client.reads(&[LINE, b"request"].concat());
    let preface = rig.accepted().into_preface(Some(ProxyVersion::V2), &mut rig.pool);
    let upstream = Script::new();
    let mut pair = Pair::new(rig.side, Side::new(upstream.clone()), preface);
    // 20 of the 28 bytes of the header, then 8 and 3 of the request's 7. What was written is not acknowledged.
    for (takes, unacked, undelivered) in [(20, 20, 7), (11, 31, 4 + 3), (0, 3, 4 + 3), (0, 0, 4)] {
        if takes > 0 {
            upstream.takes(takes);
            pair.mark(Peer::Upstream, Hints::WRITABLE);
            pair.relay(Peer::Client, 64, &mut rig.pool);
        }
        upstream.unacked(unacked);
        assert_eq!(pair.undelivered(Peer::Upstream), undelivered, "{takes} {unacked}");
    }
    assert_eq!(pair.flow(Peer::Client).moved(), 3);
    pair.mark(Peer::Upstream, Hints::WRITABLE);
    upstream.refuses(ErrorKind::ConnectionReset);
    pair.relay(Peer::Client, 64, &mut rig.pool);
    assert_eq!((pair.undelivered(Peer::Upstream), rig.pool.lent()), (4, 0), "what is dropped is said");
}
