//! Tests of pairs that start with a preface.

use std::io::ErrorKind;

use super::script::Script;
use crate::net::{Hints, Peer};
use crate::relay::flow::Preface;
use crate::relay::input::End;
use crate::relay::pair::{Fate, Pair};
use crate::relay::pool::{Pool, Splicing};
use crate::relay::side::Side;

const SLICE: usize = 64;

struct Rig {
    pair: Pair<Script>,
    pool: Pool<Vec<u8>>,
    client: Script,
    upstream: Script,
}

fn rig(header: &[u8]) -> Rig {
    let (client, upstream) = (Script::new(), Script::new());
    let mut pool = Pool::new(16, Splicing::OFF);
    let preface = Preface::header(header, &mut pool);
    let pair = Pair::new(Side::new(client.clone()), Side::new(upstream.clone()), Some(preface));
    Rig { pair, pool, client, upstream }
}

impl Rig {
    fn run(&mut self) {
        while Peer::BOTH.map(|peer| self.pair.relay(peer, SLICE, &mut self.pool)).iter().any(|pass| pass.failed) {}
    }
}

#[test]
fn the_preface_goes_out_before_the_client_has_said_anything_and_is_not_counted() {
    let mut rig = rig(b"HEADER");
    rig.run();
    assert_eq!((rig.upstream.written(), rig.pair.flow(Peer::Client).moved()), (b"HEADER".to_vec(), 0));
    assert_eq!(rig.pool.lent(), 0);
    rig.client.reads(b"request").ends();
    rig.pair.mark(Peer::Client, Hints::READABLE | Hints::READ_TO_EAGAIN | Hints::FIN);
    rig.run();
    assert_eq!((rig.upstream.written(), rig.pair.flow(Peer::Client).moved()), (b"HEADERrequest".to_vec(), 7));
    assert!(rig.upstream.is_finished());
    assert_eq!(rig.client.written(), b"");
}

#[test]
fn a_preface_that_goes_out_in_pieces_is_counted_once() {
    let mut rig = rig(b"HEADER");
    rig.upstream.takes(4);
    rig.client.reads(b"request");
    rig.pair.mark(Peer::Client, Hints::READABLE);
    rig.run();
    assert_eq!((rig.upstream.written(), rig.pair.flow(Peer::Client).moved()), (b"HEAD".to_vec(), 0));
    rig.pair.mark(Peer::Upstream, Hints::WRITABLE);
    rig.run();
    assert_eq!((rig.upstream.written(), rig.pair.flow(Peer::Client).moved()), (b"HEADERrequest".to_vec(), 7));
}

/// The kernel counts what the client sent; the header came from us.
#[test]
fn a_doubtful_end_behind_a_preface_is_decided_by_what_was_read() {
    for (received, finished) in [(8, true), (7, false)] {
        let mut rig = rig(b"HEADER");
        rig.pool = Pool::new(16, Splicing { after: 0, pipes_max: 1 });
        rig.pool.add_pipe(Vec::new());
        let preface = Preface::header(b"HEADER", &mut rig.pool);
        rig.pair = Pair::new(Side::new(rig.client.clone()), Side::new(rig.upstream.clone()), Some(preface));
        // A partial splice to the client, then EPIPE: was there a FIN before it?
        rig.upstream.reads(b"an answer");
        rig.client.takes(3).refuses(ErrorKind::BrokenPipe);
        rig.pair.mark(Peer::Upstream, Hints::READABLE);
        rig.client.reads(b"request").ends().received(received);
        rig.run();
        rig.pair.assume_ready();
        rig.run();
        assert_eq!((rig.upstream.written(), rig.upstream.is_finished()), (b"HEADERrequest".to_vec(), finished));
    }
}

#[test]
fn a_preface_that_cannot_be_sent_goes_back_to_the_pool() {
    let mut rig = rig(b"HEADER");
    rig.upstream.refuses(ErrorKind::ConnectionReset);
    rig.run();
    assert_eq!((rig.pair.flow(Peer::Client).moved(), rig.pool.lent()), (0, 0));
    assert_eq!(rig.pair.fate(), Fate::OneSideDead);
    rig.pair.cut(&mut rig.pool);
    rig.pair.end(End::Reset, &mut rig.pool);
    assert!(!rig.client.is_closed() && !rig.upstream.is_closed());
}
