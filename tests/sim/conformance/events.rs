//! Which events come, and when.

use tproxy::net::{Hints, Net, Peer, Token};

use super::{Story, fill};
use crate::rig::{Rig, read, write};

pub(super) fn k6_bytes_and_fin_are_one_edge<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, token) = rig.accepted(1);
    rig.say(peer, b"bye");
    rig.fin(peer);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?}", read(&mut stream), rig.events(token));
    tell!(story, "{:?} {:?}", read(&mut stream), read(&mut stream));
    story
}

pub(super) fn what_is_ready_at_registration_raises_an_event<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let peer = rig.client();
    rig.say(peer, b"early");
    rig.fin(peer);
    tell!(story, "{:?}", rig.events(Token::listener(0)));
    let (net, listener) = rig.listener();
    let (mut stream, _) = net.accept(listener).unwrap();
    let token = Token::new(1, 1, Peer::Client);
    net.register(&mut stream, token).unwrap();
    tell!(story, "{:?}", rig.events(token));
    // An upstream's connection that came about has an event, and nothing to read.
    let there = rig.upstream(true);
    let token = Token::new(2, 2, Peer::Upstream);
    let mut stream = rig.net().connect(&there.into(), None, token).unwrap();
    rig.answered(&stream);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?}", rig.net().connected(&mut stream).ok(), read(&mut stream));
    story
}

pub(super) fn every_arrival_raises_an_edge<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, token) = rig.accepted(1);
    rig.say(peer, b"one");
    tell!(story, "{:?}", rig.events(token));
    rig.say(peer, b"two");
    tell!(story, "{:?} {:?}", rig.events(token), rig.events(token));
    tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), rig.events(token));
    story
}

pub(super) fn room_is_announced_to_who_found_none<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, token) = rig.accepted(1);
    fill(&mut rig, &mut stream);
    // The last bytes may still find a gap.
    while write(&mut stream, b"x").is_ok() {}
    rig.events(token);
    tell!(story, "{:?} {:?}", write(&mut stream, b"x").is_err(), rig.events(token));
    rig.hear_all(peer);
    let all = rig.events(token).into_iter().fold(Hints::default(), |all, hints| all | hints);
    tell!(story, "{all:?} {:?}", write(&mut stream, b"x"));
    story
}
