//! The simulated kernel against the real one: K1 to K17 of the design as scripts that run on both, and must tell the
//! same story: which bytes, how they end, in which order, and whether a wake-up came. Never the sizes of queues.
//!
//! The real side is the relay's own `net::mio` over loopback, so what is compared is the seam, not a wrapper of ours.
//! K13 shows in every accepted socket here (their options are inherited), K14 needs a bound socket and is a unit test of
//! `net::mio`, K18 is no call of the seam.

use std::io::ErrorKind;

use tproxy::net::{Bits, Net, Peer, Stream, Token};

use crate::bench::{Bench, Real, Sim, fault, read, write};
use crate::kernel::Due;

/// What a script saw, line by line.
type Story = Vec<String>;

macro_rules! tell {
    ($story:ident, $($what:tt)*) => { $story.push(format!($($what)*)) };
}

/// A test for each script: both kernels tell the same story.
macro_rules! agree {
    ($($(#[$doc:meta])* $name:ident;)*) => { $(
        $(#[$doc])*
        #[test]
        fn $name() {
            let (simulated, real) = (scripts::$name::<Sim>(), scripts::$name::<Real>());
            assert!(!real.is_empty());
            assert_eq!(simulated, real, "the simulated kernel, then the real one");
        }
    )* };
}

agree! {
    k1_what_came_before_a_reset_can_be_read_and_the_error_once;
    k2_a_write_takes_the_error_and_the_bytes_stay;
    k3_closing_over_unread_input_resets;
    k4_dropping_resets_and_what_was_sent_arrives;
    k5_an_urgent_byte_stays_in_the_stream;
    k6_bytes_and_fin_are_one_edge;
    k8_a_reset_is_announced_to_who_does_not_read;
    k9_a_peer_that_closed_resets_and_its_answer_stays;
    k10_an_orderly_close_delivers_all;
    k11_a_reset_throws_away_what_was_not_delivered;
    k12_behind_a_fin_only_the_error_edge_tells_of_a_reset;
    k15_a_read_stops_at_the_urgent_mark_and_no_edge_follows;
    k16_a_fin_before_the_reset_makes_it_epipe;
    k17_the_fin_counts_as_unacknowledged_and_none_left_raises_no_edge;
    /// Not in the list, but the relay leans on it.
    what_an_upstream_said_before_it_reset_is_there_although_nobody_had_asked_yet;
    a_refusal_is_an_event_and_told_once;
    what_is_ready_at_registration_raises_an_event;
    every_arrival_raises_an_edge;
    room_is_announced_to_who_found_none;
    a_client_that_reset_in_the_queue_is_accepted_all_the_same;
    a_queue_that_is_empty_would_block_and_each_client_raises_an_edge;
    clients_in_the_queue_are_reset_with_the_listener;
    a_fin_to_a_dead_socket_is_no_error;
    half_closed_the_other_way_still_carries;
}

/// K7, for which the real listener's queue is too long: the simulated one alone.
#[test]
fn k7_a_full_queue_answers_nobody_until_there_is_room() {
    let mut sim = Sim::new();
    sim.world(|world| world.kernel.laws.backlog = 0);
    let conns: Vec<_> = (0..2)
        .map(|_| {
            sim.world(|world| {
                world.owners.push(None);
                world.kernel.dial_relay([64; 4])
            })
        })
        .collect();
    assert_eq!(conns.iter().map(|conn| sim.knocks(*conn)).collect::<Vec<_>>(), [true, false]);
    let (net, listener) = sim.listener();
    let first = net.accept(listener).unwrap();
    sim.later(std::time::Duration::ZERO, Due::Syn { conn: conns[1], tries: 1 });
    assert!(sim.knocks(conns[1]));
    drop(first);
}

mod scripts {
    use super::*;

    pub(super) fn k1_what_came_before_a_reset_can_be_read_and_the_error_once<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, _) = bench.accepted(1);
        bench.say(peer, b"hello");
        bench.reset(peer);
        for _ in 0..4 {
            tell!(story, "{:?}", read(&mut stream));
        }
        story
    }

    pub(super) fn k2_a_write_takes_the_error_and_the_bytes_stay<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, _) = bench.accepted(1);
        bench.say(peer, b"hello");
        bench.reset(peer);
        tell!(story, "{:?}", write(&mut stream, b"x"));
        for _ in 0..3 {
            tell!(story, "{:?}", read(&mut stream));
        }
        tell!(story, "{:?} {:?}", write(&mut stream, b"x"), fault(&mut stream));
        story
    }

    pub(super) fn k3_closing_over_unread_input_resets<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, _) = bench.accepted(1);
        bench.say(peer, b"unread");
        tell!(story, "{:?}", write(&mut stream, b"reply"));
        bench.settle();
        stream.close();
        tell!(story, "{:?}", bench.hear_all(peer));
        // And the same at the other end.
        let (peer, mut stream, token) = bench.accepted(2);
        tell!(story, "{:?}", write(&mut stream, b"unread"));
        bench.say(peer, b"reply");
        bench.settle();
        bench.close(peer);
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), read(&mut stream));
        story
    }

    pub(super) fn k4_dropping_resets_and_what_was_sent_arrives<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, _) = bench.accepted(1);
        tell!(story, "{:?}", write(&mut stream, b"part"));
        bench.settle();
        drop(stream);
        tell!(story, "{:?}", bench.hear_all(peer));
        story
    }

    pub(super) fn k5_an_urgent_byte_stays_in_the_stream<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, _) = bench.accepted(1);
        bench.say(peer, b"abc");
        bench.say_urgent(peer, b'D');
        bench.say(peer, b"ef");
        let mut all = String::new();
        while let Ok(part) = read(&mut stream) {
            all += &part;
        }
        tell!(story, "{all}");
        story
    }

    pub(super) fn k6_bytes_and_fin_are_one_edge<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, token) = bench.accepted(1);
        bench.say(peer, b"bye");
        bench.fin(peer);
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?} {:?}", read(&mut stream), bench.events(token));
        tell!(story, "{:?} {:?}", read(&mut stream), read(&mut stream));
        story
    }

    pub(super) fn k8_a_reset_is_announced_to_who_does_not_read<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, token) = bench.accepted(1);
        bench.say(peer, b"still there");
        tell!(story, "{:?}", bench.events(token));
        bench.reset(peer);
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?} {:?} {:?}", fault(&mut stream), fault(&mut stream), bench.events(token));
        tell!(story, "{:?} {:?}", read(&mut stream), read(&mut stream));
        story
    }

    pub(super) fn k9_a_peer_that_closed_resets_and_its_answer_stays<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, token) = bench.accepted(1);
        bench.say(peer, b"no thanks");
        bench.close(peer);
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?}", write(&mut stream, b"upload"));
        bench.settle();
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?} {:?}", write(&mut stream, b"more"), write(&mut stream, b"more"));
        tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), fault(&mut stream));
        story
    }

    pub(super) fn k10_an_orderly_close_delivers_all<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, _) = bench.accepted(1);
        tell!(story, "{:?}", write(&mut stream, b"all of it"));
        stream.finish().unwrap();
        stream.close();
        tell!(story, "{:?}", bench.hear_all(peer));
        // Without the FIN before it, too.
        let (peer, mut stream, _) = bench.accepted(2);
        tell!(story, "{:?}", write(&mut stream, b"all of it"));
        stream.close();
        tell!(story, "{:?}", bench.hear_all(peer));
        story
    }

    pub(super) fn k11_a_reset_throws_away_what_was_not_delivered<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, _) = bench.accepted(1);
        let sent = fill(&mut bench, &mut stream);
        drop(stream);
        let (heard, end) = bench.hear_all(peer);
        tell!(story, "all {}, {end}", heard.len() == sent);
        story
    }

    /// Writes until no more is taken for a while.
    fn fill<B: Bench>(bench: &mut B, stream: &mut impl Stream) -> usize {
        let (data, mut sent, mut blocked) = (vec![b'x'; 1 << 16], 0, 0);
        while blocked < 3 {
            match write(stream, &data) {
                Ok(count) => (sent, blocked) = (sent + count, 0),
                Err(error) => {
                    assert_eq!(error, ErrorKind::WouldBlock);
                    blocked += 1;
                    bench.settle();
                    bench.events(Token::LISTENER);
                }
            }
        }
        sent
    }

    pub(super) fn k12_behind_a_fin_only_the_error_edge_tells_of_a_reset<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, token) = bench.accepted(1);
        bench.fin(peer);
        tell!(story, "{:?} {:?}", bench.events(token), read(&mut stream));
        bench.reset(peer);
        tell!(story, "{:?} {:?}", read(&mut stream), bench.events(token));
        tell!(story, "{:?} {:?} {:?}", fault(&mut stream), fault(&mut stream), read(&mut stream));
        story
    }

    pub(super) fn k15_a_read_stops_at_the_urgent_mark_and_no_edge_follows<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, token) = bench.accepted(1);
        bench.say(peer, b"abc");
        bench.say_urgent(peer, b'D');
        bench.say(peer, b"ef");
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?} {:?}", read(&mut stream), bench.events(token));
        tell!(story, "{:?} {:?}", read(&mut stream), read(&mut stream));
        // The mark is remembered only once: of two, the second.
        bench.say_urgent(peer, b'G');
        bench.say(peer, b"h");
        bench.say_urgent(peer, b'I');
        bench.fin(peer);
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), read(&mut stream));
        story
    }

    pub(super) fn k16_a_fin_before_the_reset_makes_it_epipe<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        for fin in [true, false] {
            for by_write in [true, false] {
                let (peer, mut stream, token) = bench.accepted(1 + 2 * u32::from(fin) + u32::from(by_write));
                bench.say(peer, b"last words");
                if fin {
                    bench.fin(peer);
                }
                bench.reset(peer);
                tell!(story, "{:?}", bench.events(token));
                let error = if by_write { write(&mut stream, b"x").map(drop) } else { fault(&mut stream) };
                tell!(story, "{error:?} {:?} {:?}", read(&mut stream), read(&mut stream));
            }
        }
        story
    }

    pub(super) fn k17_the_fin_counts_as_unacknowledged_and_none_left_raises_no_edge<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        // Acknowledged, and nobody says so.
        let (peer, mut stream, token) = bench.accepted(1);
        tell!(story, "{:?}", write(&mut stream, b"hello"));
        tell!(story, "{:?} {:?}", bench.events(token), stream.unacked().ok());
        // Not acknowledged, for there is no room at the other end: the FIN is one more.
        fill(&mut bench, &mut stream);
        let before = stream.unacked().unwrap();
        stream.finish().unwrap();
        tell!(story, "{} more, {}", stream.unacked().unwrap() - before, before > 0);
        tell!(story, "{}", bench.hear_all(peer).1);
        // A real acknowledgement may take its 40 ms.
        let left = (0..50).map(|_| {
            bench.events(token);
            stream.unacked().unwrap()
        });
        tell!(story, "{}", left.into_iter().any(|left| left == 0));
        story
    }

    pub(super) fn what_an_upstream_said_before_it_reset_is_there_although_nobody_had_asked_yet<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        for (serial, fin) in [(1, false), (2, true)] {
            let there = bench.upstream(true);
            let mut stream = bench.net().connect(there).unwrap();
            let token = Token::new(serial, serial, Peer::Upstream);
            bench.net().register(&mut stream, token).unwrap();
            let peer = bench.answered(&stream);
            bench.say(peer, b"hello");
            if fin {
                bench.fin(peer);
            }
            bench.reset(peer);
            tell!(story, "{:?}", bench.events(token));
            tell!(story, "{:?}", bench.net().connected(&mut stream).map_err(|error| error.kind()));
            tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), write(&mut stream, b"x"));
        }
        story
    }

    pub(super) fn a_refusal_is_an_event_and_told_once<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let nobody = bench.upstream(false);
        let mut stream = bench.net().connect(nobody).unwrap();
        let token = Token::new(1, 1, Peer::Upstream);
        bench.net().register(&mut stream, token).unwrap();
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?}", bench.net().connected(&mut stream).map_err(|error| error.kind()));
        tell!(story, "{:?}", bench.net().connected(&mut stream).map_err(|error| error.kind()));
        story
    }

    pub(super) fn what_is_ready_at_registration_raises_an_event<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let peer = bench.client();
        bench.say(peer, b"early");
        bench.fin(peer);
        tell!(story, "{:?}", bench.events(Token::LISTENER));
        let (net, listener) = bench.listener();
        let (mut stream, _) = net.accept(listener).unwrap();
        let token = Token::new(1, 1, Peer::Client);
        net.register(&mut stream, token).unwrap();
        tell!(story, "{:?}", bench.events(token));
        // An upstream's connection that came about has an event, and nothing to read.
        let there = bench.upstream(true);
        let mut stream = bench.net().connect(there).unwrap();
        let token = Token::new(2, 2, Peer::Upstream);
        bench.net().register(&mut stream, token).unwrap();
        bench.answered(&stream);
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?} {:?}", bench.net().connected(&mut stream).ok(), read(&mut stream));
        story
    }

    pub(super) fn every_arrival_raises_an_edge<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, token) = bench.accepted(1);
        bench.say(peer, b"one");
        tell!(story, "{:?}", bench.events(token));
        bench.say(peer, b"two");
        tell!(story, "{:?} {:?}", bench.events(token), bench.events(token));
        tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), bench.events(token));
        story
    }

    pub(super) fn room_is_announced_to_who_found_none<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, token) = bench.accepted(1);
        fill(&mut bench, &mut stream);
        // The last bytes may still find a gap.
        while write(&mut stream, b"x").is_ok() {}
        bench.events(token);
        tell!(story, "{:?} {:?}", write(&mut stream, b"x").is_err(), bench.events(token));
        bench.hear_all(peer);
        let all = bench.events(token).into_iter().fold(Bits::default(), |all, bits| all | bits);
        tell!(story, "{all:?} {:?}", write(&mut stream, b"x"));
        story
    }

    pub(super) fn a_client_that_reset_in_the_queue_is_accepted_all_the_same<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let peer = bench.client();
        bench.say(peer, b"hello");
        bench.reset(peer);
        bench.events(Token::LISTENER);
        let (net, listener) = bench.listener();
        let (mut stream, _) = net.accept(listener).unwrap();
        let token = Token::new(1, 1, Peer::Client);
        net.register(&mut stream, token).unwrap();
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), read(&mut stream));
        story
    }

    pub(super) fn a_queue_that_is_empty_would_block_and_each_client_raises_an_edge<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (net, listener) = bench.listener();
        tell!(story, "{:?}", net.accept(listener).err().map(|error| error.kind()));
        for _ in 0..2 {
            bench.client();
            tell!(story, "{:?}", bench.events(Token::LISTENER));
        }
        let (net, listener) = bench.listener();
        let accepted: Vec<_> = (0..3).map(|_| net.accept(listener).map_err(|error| error.kind())).collect();
        tell!(story, "{:?}", accepted.iter().map(|one| one.as_ref().err()).collect::<Vec<_>>());
        story
    }

    pub(super) fn clients_in_the_queue_are_reset_with_the_listener<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let peers = [bench.client(), bench.client()];
        bench.say(peers[0], b"hello");
        bench.stop_listening();
        for peer in peers {
            tell!(story, "{:?}", bench.hear_all(peer));
        }
        story
    }

    pub(super) fn a_fin_to_a_dead_socket_is_no_error<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, token) = bench.accepted(1);
        bench.reset(peer);
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?} {:?}", stream.finish().map_err(|error| error.kind()), fault(&mut stream));
        story
    }

    pub(super) fn half_closed_the_other_way_still_carries<B: Bench>() -> Story {
        let (mut story, mut bench) = (Story::new(), B::new());
        let (peer, mut stream, token) = bench.accepted(1);
        stream.finish().unwrap();
        tell!(story, "{:?}", bench.hear_all(peer));
        bench.events(token);
        bench.say(peer, b"answer");
        bench.fin(peer);
        tell!(story, "{:?}", bench.events(token));
        tell!(story, "{:?} {:?} {:?}", read(&mut stream), read(&mut stream), fault(&mut stream));
        stream.close();
        story
    }
}
