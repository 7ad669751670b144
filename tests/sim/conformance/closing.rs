//! How a connection is closed, and what that says to the other end.

use std::time::Duration;

use tproxy::net::Stream;

use super::{Story, fill};
use crate::rig::{Rig, read, take_error, write};

pub(super) fn k3_closing_over_unread_input_resets<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, _) = rig.accepted(1);
    rig.say(peer, b"unread");
    tell!(story, "{:?}", write(&mut stream, b"reply"));
    rig.settle();
    stream.close();
    tell!(story, "{:?}", rig.hear_all(peer));
    // And the same at the other end.
    let (peer, mut stream, token) = rig.accepted(2);
    tell!(story, "{:?}", write(&mut stream, b"unread"));
    rig.say(peer, b"reply");
    rig.settle();
    rig.close(peer);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), read(&mut stream));
    story
}

/// Of a peer. The relay's own is armed for life; `tests/binary` kills it, too.
pub(super) fn k4_a_killed_process_says_goodbye_and_armed_it_resets<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    for (serial, armed) in [(1, false), (2, true)] {
        let (peer, mut stream, token) = rig.accepted(serial);
        rig.say(peer, b"part");
        rig.kill(peer, armed);
        tell!(story, "{:?}", rig.events(token));
        tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), take_error(&mut stream));
    }
    story
}

pub(super) fn k4_dropping_resets_and_what_was_sent_arrives<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, _) = rig.accepted(1);
    tell!(story, "{:?}", write(&mut stream, b"part"));
    rig.settle();
    drop(stream);
    tell!(story, "{:?}", rig.hear_all(peer));
    story
}

pub(super) fn k9_a_peer_that_closed_resets_and_its_answer_stays<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, token) = rig.accepted(1);
    rig.say(peer, b"no thanks");
    rig.close(peer);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?}", write(&mut stream, b"upload"));
    rig.settle();
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?}", write(&mut stream, b"more"), write(&mut stream, b"more"));
    tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), take_error(&mut stream));
    story
}

pub(super) fn k10_an_orderly_close_delivers_all<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, _) = rig.accepted(1);
    tell!(story, "{:?}", write(&mut stream, b"all of it"));
    stream.shutdown_write().unwrap();
    stream.close();
    tell!(story, "{:?}", rig.hear_all(peer));
    // Without the FIN before it, too.
    let (peer, mut stream, _) = rig.accepted(2);
    tell!(story, "{:?}", write(&mut stream, b"all of it"));
    stream.close();
    tell!(story, "{:?}", rig.hear_all(peer));
    story
}

pub(super) fn k17_the_fin_counts_as_unacknowledged_and_none_left_raises_no_edge<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    // Acknowledged, and nobody says so.
    let (peer, mut stream, token) = rig.accepted(1);
    tell!(story, "{:?}", write(&mut stream, b"hello"));
    tell!(story, "{:?} {:?}", rig.events(token), stream.unacked().ok());
    // Not acknowledged, for there is no room at the other end: the FIN is one more.
    fill(&mut rig, &mut stream);
    let before = stream.unacked().unwrap();
    stream.shutdown_write().unwrap();
    tell!(story, "{} more, {}", stream.unacked().unwrap() - before, before > 0);
    tell!(story, "{}", rig.hear_all(peer).1);
    // A real acknowledgement may take its 40 ms.
    let left = (0..50).map(|_| {
        rig.events(token);
        stream.unacked().unwrap()
    });
    tell!(story, "{}", left.into_iter().any(|left| left == 0));
    story
}

/// That it doubles with each loss is seen on a path that loses: `tests/path`.
pub(super) fn k28_a_closed_window_leaves_the_retransmission_timeout_as_it_is<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (_peer, mut stream, token) = rig.accepted(1);
    fill(&mut rig, &mut stream);
    let before = stream.retransmission_timeout().unwrap();
    tell!(story, "{}", (Duration::from_millis(100)..Duration::from_secs(2)).contains(&before));
    // Longer than that.
    let looks = before.as_millis() / 20 + 2;
    (0..looks).for_each(|_| drop(rig.events(token)));
    tell!(story, "{} {}", stream.unacked().unwrap() > 0, stream.retransmission_timeout().unwrap() == before);
    story
}

pub(super) fn a_fin_to_a_dead_socket_is_no_error<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, token) = rig.accepted(1);
    rig.reset(peer);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?}", stream.shutdown_write().map_err(|error| error.kind()), take_error(&mut stream));
    story
}

pub(super) fn half_closed_the_other_way_still_carries<B: Rig>() -> Story {
    let (mut story, mut rig) = (Story::new(), B::new());
    let (peer, mut stream, token) = rig.accepted(1);
    stream.shutdown_write().unwrap();
    tell!(story, "{:?}", rig.hear_all(peer));
    rig.events(token);
    rig.say(peer, b"answer");
    rig.fin(peer);
    tell!(story, "{:?}", rig.events(token));
    tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), take_error(&mut stream));
    stream.close();
    story
}
