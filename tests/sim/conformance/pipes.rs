//! Bytes that go through a pipe.

use tproxy::net::{Net, Stream};

use super::Story;
use crate::rig::{Rig, kind, read, take_error};

pub(super) fn spliced_bytes_arrive_and_the_end_is_told_by_reading<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (from, mut source, _) = rig.accepted(1);
    let (to, mut target, token) = rig.accepted(2);
    let mut pipe = rig.net().pipe().unwrap();
    tell!(story, "{:?}", kind(source.splice_in(&mut pipe, 100)));
    for words in [b"hello".as_slice(), b"world"] {
        rig.say(from, words);
        rig.settle();
        let count = source.splice_in(&mut pipe, 100).unwrap();
        tell!(story, "{count} {:?}", kind(target.splice_out(&mut pipe, count)));
        rig.settle();
        tell!(story, "{:?}", rig.hear(to));
    }
    rig.fin(from);
    rig.settle();
    tell!(story, "{:?} {:?}", kind(source.splice_in(&mut pipe, 100)), read(&mut source));
    // A target that is gone is told to a push as to a write.
    rig.reset(to);
    tell!(story, "{:?}", rig.events(token));
    story
}

pub(super) fn a_pull_is_told_the_reset_and_nobody_else<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, token) = rig.accepted(1);
    let mut pipe = rig.net().pipe().unwrap();
    rig.say(peer, b"hello");
    rig.settle();
    rig.reset(peer);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?}", kind(stream.splice_in(&mut pipe, 100)));
    let mut empty = rig.net().pipe().unwrap();
    tell!(story, "{:?} {:?}", kind(stream.splice_in(&mut empty, 100)), kind(stream.splice_in(&mut empty, 100)));
    tell!(story, "{:?} {:?}", read(&mut stream), take_error(&mut stream));
    tell!(story, "{:?}", kind(stream.splice_out(&mut pipe, 5)));
    story
}
