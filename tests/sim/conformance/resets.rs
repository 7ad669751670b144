//! What a reset leaves behind: which bytes can be read, and which error is told.

use tproxy::net::{Net, Peer, Stream, Token};

use super::{Story, fill};
use crate::rig::{Rig, kind, read, take_error, write};

pub(super) fn k1_what_came_before_a_reset_can_be_read_and_the_error_once<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, _) = rig.accepted(1);
    rig.say(peer, b"hello");
    rig.reset(peer);
    for _ in 0..4 {
        tell!(story, "{:?}", read(&mut stream));
    }
    story
}

pub(super) fn k2_a_write_takes_the_error_and_the_bytes_stay<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, _) = rig.accepted(1);
    rig.say(peer, b"hello");
    rig.reset(peer);
    tell!(story, "{:?}", write(&mut stream, b"x"));
    for _ in 0..3 {
        tell!(story, "{:?}", read(&mut stream));
    }
    tell!(story, "{:?} {:?}", write(&mut stream, b"x"), take_error(&mut stream));
    story
}

pub(super) fn k8_a_reset_is_announced_to_who_does_not_read<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, token) = rig.accepted(1);
    rig.say(peer, b"still there");
    tell!(story, "{:?}", rig.events(token));
    rig.reset(peer);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?} {:?}", take_error(&mut stream), take_error(&mut stream), rig.events(token));
    tell!(story, "{:?} {:?}", read(&mut stream), read(&mut stream));
    story
}

pub(super) fn k11_a_reset_throws_away_what_was_not_delivered<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, _) = rig.accepted(1);
    let sent = fill(&mut rig, &mut stream);
    drop(stream);
    let (heard, end) = rig.hear_all(peer);
    tell!(story, "all {}, {end}", heard.len() == sent);
    story
}

pub(super) fn k12_behind_a_fin_only_the_error_edge_tells_of_a_reset<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, token) = rig.accepted(1);
    rig.fin(peer);
    tell!(story, "{:?} {:?}", rig.events(token), read(&mut stream));
    rig.reset(peer);
    tell!(story, "{:?} {:?}", read(&mut stream), rig.events(token));
    tell!(story, "{:?} {:?} {:?}", take_error(&mut stream), take_error(&mut stream), read(&mut stream));
    story
}

pub(super) fn k19_what_was_received_is_counted_and_the_fin_with_it<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    for (serial, fin) in [(1, true), (2, false)] {
        let (peer, mut stream, token) = rig.accepted(serial);
        rig.say(peer, b"hello");
        rig.settle();
        tell!(story, "{:?} {:?}", kind(stream.received()), read(&mut stream));
        if fin {
            rig.fin(peer);
            rig.settle();
        }
        rig.reset(peer);
        rig.events(token);
        // Whatever is said of the error, and however often.
        tell!(story, "{:?} {:?} {:?}", take_error(&mut stream), read(&mut stream), kind(stream.received()));
    }
    story
}

pub(super) fn k29_what_was_not_acknowledged_is_counted_after_a_reset_too<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    for (serial, fin) in [(1, false), (2, true)] {
        // The peer hung up: its kernel answers what comes with a reset, and acknowledges nothing.
        let (peer, mut stream, token) = rig.accepted(serial);
        rig.close(peer);
        rig.events(token);
        tell!(story, "{:?}", write(&mut stream, b"upload"));
        rig.settle();
        rig.events(token);
        tell!(story, "{:?} {:?} {:?}", stream.unacked().ok(), take_error(&mut stream), stream.unacked().ok());
        // It had not even been sent when the reset came, and perhaps a FIN behind it.
        let (peer, mut stream, token) = rig.accepted(10 + serial);
        fill(&mut rig, &mut stream);
        if fin {
            stream.shutdown_write().unwrap();
        }
        let before = stream.unacked().unwrap();
        rig.reset(peer);
        rig.events(token);
        let after = stream.unacked().unwrap();
        tell!(story, "{} {} {:?}", before > 0, before == after, take_error(&mut stream));
        tell!(story, "{}", before == stream.unacked().unwrap());
    }
    story
}

pub(super) fn k16_a_fin_before_the_reset_makes_it_epipe<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    for fin in [true, false] {
        for by_write in [true, false] {
            let (peer, mut stream, token) = rig.accepted(1 + 2 * u32::from(fin) + u32::from(by_write));
            rig.say(peer, b"last words");
            if fin {
                rig.fin(peer);
            }
            rig.reset(peer);
            tell!(story, "{:?}", rig.events(token));
            let error = if by_write { write(&mut stream, b"x").map(drop) } else { take_error(&mut stream) };
            tell!(story, "{error:?} {:?} {:?}", read(&mut stream), read(&mut stream));
        }
    }
    story
}

pub(super) fn what_an_upstream_said_before_it_reset_is_there_although_nobody_had_asked_yet<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    for (serial, fin) in [(1, false), (2, true)] {
        let there = rig.upstream(true);
        let token = Token::new(serial, serial, Peer::Upstream);
        let mut stream = rig.net().connect(&there.into(), None, token).unwrap();
        let peer = rig.answered(&stream);
        rig.say(peer, b"hello");
        if fin {
            rig.fin(peer);
        }
        rig.reset(peer);
        tell!(story, "{:?}", rig.events(token));
        tell!(story, "{:?}", rig.net().connected(&mut stream).map_err(|error| error.kind()));
        tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), write(&mut stream, b"x"));
    }
    story
}
