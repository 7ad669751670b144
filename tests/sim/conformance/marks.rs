//! The urgent mark.

use tproxy::net::{Net, Stream};

use super::Story;
use crate::rig::{Rig, kind, read};

pub(super) fn k5_an_urgent_byte_stays_in_the_stream<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, _) = rig.accepted(1);
    rig.say(peer, b"abc");
    rig.say_urgent(peer, b'D');
    rig.say(peer, b"ef");
    let mut all = String::new();
    while let Ok(part) = read(&mut stream) {
        all += &part;
    }
    tell!(story, "{all}");
    story
}

pub(super) fn k15_a_read_stops_at_the_urgent_mark_and_no_edge_follows<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, token) = rig.accepted(1);
    rig.say(peer, b"abc");
    rig.say_urgent(peer, b'D');
    rig.say(peer, b"ef");
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?}", read(&mut stream), rig.events(token));
    tell!(story, "{:?} {:?}", read(&mut stream), read(&mut stream));
    // The mark is remembered only once: of two, the second.
    rig.say_urgent(peer, b'G');
    rig.say(peer, b"h");
    rig.say_urgent(peer, b'I');
    rig.fin(peer);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), read(&mut stream));
    story
}

pub(super) fn k15_splice_does_not_pass_the_mark_and_says_0_before_the_end<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, _) = rig.accepted(1);
    let mut pipe = rig.net().pipe().unwrap();
    rig.say(peer, b"abc");
    rig.say_urgent(peer, b'D');
    rig.say(peer, b"ef");
    rig.settle();
    tell!(story, "{:?}", kind(stream.splice_in(&mut pipe, 100)));
    let mut empty = rig.net().pipe().unwrap();
    tell!(story, "{:?}", kind(stream.splice_in(&mut empty, 100)));
    rig.fin(peer);
    rig.settle();
    tell!(story, "{:?}, and {:?}", kind(stream.splice_in(&mut empty, 100)), read(&mut stream));
    story
}
