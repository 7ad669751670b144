//! How connections come about.

use std::time::Duration;

use tproxy::net::{Net, Peer, Sleep, Token};

use super::Story;
use crate::rig::{QUIET, Rig, read, take_error, write};

pub(super) fn k7_a_full_queue_answers_nobody_until_there_is_room<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    rig.narrow();
    let (first, second) = (rig.knock(), rig.knock());
    tell!(story, "{} {}", rig.is_answered(first, QUIET), rig.is_answered(second, QUIET));
    // It knocks again after a second.
    rig.make_room();
    tell!(story, "{}", rig.is_answered(second, Duration::from_secs(10)));
    story
}

pub(super) fn k7_a_connection_to_a_full_queue_neither_stands_nor_fails<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let full = rig.full_upstream();
    let token = Token::new(1, 1, Peer::Upstream);
    let mut stream = rig.net().connect(&full.into(), None, token).unwrap();
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?}", rig.net().connected(&mut stream).map_err(|error| error.kind()));
    tell!(story, "{:?} {:?}", read(&mut stream), write(&mut stream, b"x"));
    story
}

/// Nobody sets an option of the accepted socket itself.
pub(super) fn k13_what_the_listener_armed_the_accepted_socket_is<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, _) = rig.accepted(1);
    rig.say_urgent(peer, b'!');
    tell!(story, "{:?}", read(&mut stream));
    drop(stream);
    tell!(story, "{:?}", rig.hear_all(peer));
    story
}

/// Other than a refusal, that is not an error told once.
pub(super) fn k14_a_connection_to_itself_stands_and_is_refused<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let token = Token::new(1, 1, Peer::Upstream);
    let mut stream = rig.met_itself(token);
    tell!(story, "{:?} {:?}", rig.events(token), take_error(&mut stream));
    for _ in 0..2 {
        tell!(story, "{:?}", rig.net().connected(&mut stream).map_err(|error| error.kind()));
    }
    story
}

pub(super) fn a_refusal_is_an_event_and_told_once<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let nobody = rig.upstream(false);
    let token = Token::new(1, 1, Peer::Upstream);
    let mut stream = rig.net().connect(&nobody.into(), None, token).unwrap();
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?}", rig.net().connected(&mut stream).map_err(|error| error.kind()));
    tell!(story, "{:?}", rig.net().connected(&mut stream).map_err(|error| error.kind()));
    story
}

/// Both are accepted. The first has said nothing, the second was reset while it waited.
pub(super) fn k26_a_new_client_raises_an_edge_at_once_and_says_if_it_was_reset<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    rig.client();
    let gone = rig.client();
    rig.reset(gone);
    rig.events(Token::listener(0));
    for serial in [1, 2] {
        let (net, listener) = rig.listener();
        let (mut stream, _) = net.accept(listener).unwrap();
        let token = Token::new(serial, serial, Peer::Client);
        net.register(&mut stream, token).unwrap();
        // In the very next wait.
        let mut ready = Vec::new();
        rig.net().wait(Sleep::Not, &mut ready, &mut Vec::new()).unwrap();
        let hints: Vec<_> = ready.iter().filter(|one| one.token == token).map(|one| one.hints).collect();
        tell!(story, "{hints:?} {:?} {:?}", take_error(&mut stream), take_error(&mut stream));
    }
    story
}

pub(super) fn a_client_that_reset_in_the_queue_is_accepted_all_the_same<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let peer = rig.client();
    rig.say(peer, b"hello");
    rig.reset(peer);
    rig.events(Token::listener(0));
    let (net, listener) = rig.listener();
    let (mut stream, _) = net.accept(listener).unwrap();
    let token = Token::new(1, 1, Peer::Client);
    net.register(&mut stream, token).unwrap();
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), read(&mut stream));
    story
}

pub(super) fn a_queue_that_is_empty_would_block_and_each_client_raises_an_edge<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (net, listener) = rig.listener();
    tell!(story, "{:?}", net.accept(listener).err().map(|error| error.kind()));
    for _ in 0..2 {
        rig.client();
        tell!(story, "{:?}", rig.events(Token::listener(0)));
    }
    let (net, listener) = rig.listener();
    let accepted: Vec<_> = (0..3).map(|_| net.accept(listener).map_err(|error| error.kind())).collect();
    tell!(story, "{:?}", accepted.iter().map(|one| one.as_ref().err()).collect::<Vec<_>>());
    story
}

pub(super) fn clients_in_the_queue_are_reset_with_the_listener<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let peers = [rig.client(), rig.client()];
    rig.say(peers[0], b"hello");
    rig.stop_listening();
    for peer in peers {
        tell!(story, "{:?}", rig.hear_all(peer));
    }
    story
}
