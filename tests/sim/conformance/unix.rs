//! What is different between Unix sockets.

use tproxy::net::{Net, Peer, Stream, Token};

use super::{Story, fill};
use crate::rig::{Rig, kind, read, take_error, write};

pub(super) fn k20_a_close_over_unread_input_is_epipe_to_a_write_and_a_reset_behind_what_was_said<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    let (peer, mut stream, token) = rig.accepted(1);
    tell!(story, "{:?}", write(&mut stream, b"nobody reads this"));
    rig.say(peer, b"answer");
    tell!(story, "{:?}", rig.events(token));
    rig.close(peer);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?}", write(&mut stream, b"x"), write(&mut stream, b"x"));
    for _ in 0..3 {
        tell!(story, "{:?}", read(&mut stream));
    }
    tell!(story, "{:?} {:?}", write(&mut stream, b"x"), take_error(&mut stream));
    story
}

pub(super) fn k20_so_error_takes_the_reset_and_the_end_looks_clean<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    let (peer, mut stream, token) = rig.accepted(1);
    tell!(story, "{:?}", write(&mut stream, b"nobody reads this"));
    rig.say(peer, b"answer");
    rig.close(peer);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?}", take_error(&mut stream), take_error(&mut stream));
    tell!(story, "{:?} {:?} {:?}", write(&mut stream, b"x"), read(&mut stream), read(&mut stream));
    story
}

pub(super) fn k20_a_close_with_nothing_unread_is_the_end_and_no_error<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    let (peer, mut stream, token) = rig.accepted(1);
    rig.say(peer, b"last words");
    rig.close(peer);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?}", write(&mut stream, b"x"), take_error(&mut stream));
    tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), stream.shutdown_write().is_ok());
    story
}

/// A splice is told it as a read is, and writes nothing as a write does.
pub(super) fn k20_a_pull_takes_the_reset<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    let (peer, mut stream, token) = rig.accepted(1);
    let (mut pipe, mut empty) = (rig.net().pipe().unwrap(), rig.net().pipe().unwrap());
    tell!(story, "{:?}", write(&mut stream, b"nobody reads this"));
    rig.say(peer, b"answer");
    rig.close(peer);
    rig.events(token);
    tell!(story, "{:?}", kind(stream.splice_in(&mut pipe, 100)));
    tell!(story, "{:?}", kind(stream.splice_out(&mut pipe, 6)));
    tell!(story, "{:?} {:?}", kind(stream.splice_in(&mut empty, 100)), kind(stream.splice_in(&mut empty, 100)));
    tell!(story, "{:?}", read(&mut stream));
    story
}

pub(super) fn k21_to_drop_a_stream_delivers_what_is_queued_and_is_a_reset_only_over_unread_input<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    for (serial, unread) in [(1, false), (2, true)] {
        let (peer, mut stream, _) = rig.accepted(serial);
        if unread {
            rig.say(peer, b"nobody reads this");
        }
        rig.settle();
        tell!(story, "{:?} {:?}", write(&mut stream, b"hello"), kind(stream.unacked()));
        tell!(story, "{:?} {:?}", kind(stream.received()), kind(stream.retransmission_timeout()));
        drop(stream);
        tell!(story, "{:?}", rig.hear_all(peer));
    }
    story
}

pub(super) fn k21_a_whole_queue_outlives_the_stream<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    let (peer, mut stream, _) = rig.accepted(1);
    let sent = fill(&mut rig, &mut stream);
    drop(stream);
    let (heard, end) = rig.hear_all(peer);
    tell!(story, "all {}, {end}", heard.len() == sent);
    story
}

pub(super) fn k22_a_full_backlog_would_block_and_no_event_follows<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    let full = rig.full_unix();
    let token = Token::new(1, 1, Peer::Upstream);
    tell!(story, "{:?}", rig.net().connect(&full, None, token).map(drop).map_err(|error| error.raw_os_error()));
    tell!(story, "{:?}", rig.events(token));
    story
}

pub(super) fn k27_a_read_stops_behind_a_message_with_a_descriptor_and_no_edge_follows<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    let (peer, mut stream, token) = rig.accepted(1);
    rig.say(peer, b"abc");
    rig.pass(peer, b"DEF");
    rig.say(peer, b"ghi");
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?}", read(&mut stream), rig.events(token));
    tell!(story, "{:?} {:?}", read(&mut stream), read(&mut stream));
    rig.say(peer, b"abc");
    rig.pass(peer, b"DEF");
    rig.say(peer, b"ghi");
    let mut pipe = rig.net().pipe().unwrap();
    tell!(story, "{:?} {:?}", kind(stream.splice_in(&mut pipe, 100)), read(&mut stream));
    tell!(story, "{}", stream.short_is_dry());
    story
}

pub(super) fn an_urgent_byte_stays_in_a_unix_stream_and_stops_a_read<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    let (peer, mut stream, token) = rig.accepted(1);
    rig.say(peer, b"abc");
    rig.say_urgent(peer, b'D');
    rig.say(peer, b"ef");
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?}", read(&mut stream), rig.events(token));
    tell!(story, "{:?} {:?}", read(&mut stream), read(&mut stream));
    story
}

pub(super) fn a_client_of_a_unix_socket_has_credentials_and_no_address<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    rig.client();
    rig.events(Token::listener(0));
    let (net, listener) = rig.listener();
    let (_, client) = net.accept(listener).unwrap();
    tell!(story, "{:?} {}", client.address(), client.credentials().is_some());
    tell!(story, "{:?}", net.accept(listener).map(drop).map_err(|error| error.kind()));
    story
}

pub(super) fn clients_in_the_queue_of_a_unix_socket_are_reset_with_the_listener<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    let (silent, speaking) = (rig.client(), rig.client());
    rig.say(speaking, b"nobody reads this");
    rig.stop_listening();
    tell!(story, "{:?} {:?}", rig.hear_all(silent), rig.hear_all(speaking));
    story
}

pub(super) fn a_unix_stream_carries_on_half_closed_and_announces_room<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::unix());
    let (peer, mut stream, token) = rig.accepted(1);
    rig.fin(peer);
    tell!(story, "{:?} {:?}", rig.events(token), read(&mut stream));
    let sent = fill(&mut rig, &mut stream);
    let mut heard = 0;
    while heard < sent {
        heard += rig.hear(peer).unwrap().len();
    }
    rig.settle();
    let all = rig.events(token).into_iter().fold(tproxy::net::Hints::default(), |all, hints| all | hints);
    tell!(story, "{:?} {}", all.has(tproxy::net::Hints::WRITABLE), stream.shutdown_write().is_ok());
    tell!(story, "{:?}", rig.hear_all(peer));
    story
}
