//! The simulated kernel against the real one: scripts that run on both and must tell the same story: which bytes, how
//! they end, in which order, and whether a wake-up came. Never the sizes of queues.
//!
//! The real side is the relay's own `net::mio` over loopback, so what is compared is the seam, not a wrapper of ours.
//! What the other files call K1 to K19 are the facts of Linux that the relay leans on:
//!
//! | fact | what the kernel does |
//! |---|---|
//! | K1 | bytes that came before a reset can be read; then the error, once; then it looks like the end |
//! | K2 | a write may be told that error instead, and the bytes stay |
//! | K3 | to close over unread input is to reset |
//! | K4 | a killed process says FIN; with SO_LINGER {1, 0} armed it resets |
//! | K5 | an urgent byte is lost from the stream unless SO_OOBINLINE is set |
//! | K6 | bytes and the FIN behind them may be one edge, and no other comes |
//! | K7 | `listen(0)` lets one client in; the next is not answered until there is room |
//! | K8 | a reset is an edge to who does not read, and bytes before it stay readable |
//! | K9 | to write to a closed peer succeeds once, then is EPIPE; what it said stays readable |
//! | K10 | shutdown, disarm, close: all bytes arrive, then the FIN |
//! | K11 | to reset throws away what had not been delivered |
//! | K12 | after a FIN reads say the end, whatever comes: a reset shows in the ERROR edge and SO_ERROR alone |
//! | K13 | accepted sockets inherit their listener's options |
//! | K14 | a socket may connect to itself |
//! | K15 | a read stops short at the urgent mark, and no edge follows; splice says EAGAIN there, and 0 once the FIN came |
//! | K16 | a reset after the FIN is EPIPE and the end was true; without, ECONNRESET, and the end is a lie |
//! | K17 | what SIOCOUTQ counts is not acknowledged, the FIN as one; that none is left raises no edge |
//! | K18 | a UDP socket can be bound to an address if and only if it is ours |
//! | K19 | TCP_INFO counts what was received, the FIN as one, and still does after a reset |
//!
//! Each has a script here, two of them with a part that cannot be simulated, and is tested on the real kernel alone:
//!
//! - K13: that dropping resets and that the urgent byte stays are inherited on both. NODELAY, the times of keepalive and
//!   the user timeout change nothing that bytes or ends could show; a simulator would repeat what it was told.
//! - K18: it is asked once, at start, when there is no loop and no seam yet; the simulation knows no addresses.

use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::net::sockopt;
use tproxy::net::mio::leads_to_itself;
use tproxy::net::{Hints, Net, Peer, Stream, Token};

use crate::rig::{QUIET, Real, Rig, Sim, kind, read, take_error, write};

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
            let (simulated, mut real) = (scripts::$name::<Sim>(), scripts::$name::<Real>());
            assert!(!real.is_empty());
            // A busy machine may be late with an event; it cannot be wrong three times.
            for _ in 0..2 {
                if real != simulated {
                    real = scripts::$name::<Real>();
                }
            }
            assert_eq!(simulated, real, "the simulated kernel, then the real one");
        }
    )* };
}

agree! {
    k1_what_came_before_a_reset_can_be_read_and_the_error_once;
    k2_a_write_takes_the_error_and_the_bytes_stay;
    k3_closing_over_unread_input_resets;
    k4_a_killed_process_says_goodbye_and_armed_it_resets;
    k4_dropping_resets_and_what_was_sent_arrives;
    k5_an_urgent_byte_stays_in_the_stream;
    k6_bytes_and_fin_are_one_edge;
    k7_a_full_queue_answers_nobody_until_there_is_room;
    k7_a_connection_to_a_full_queue_neither_stands_nor_fails;
    k8_a_reset_is_announced_to_who_does_not_read;
    k9_a_peer_that_closed_resets_and_its_answer_stays;
    k10_an_orderly_close_delivers_all;
    k11_a_reset_throws_away_what_was_not_delivered;
    k12_behind_a_fin_only_the_error_edge_tells_of_a_reset;
    k13_what_the_listener_armed_the_accepted_socket_is;
    k14_a_connection_to_itself_stands_and_is_refused;
    k15_a_read_stops_at_the_urgent_mark_and_no_edge_follows;
    k15_splice_does_not_pass_the_mark_and_says_0_before_the_end;
    spliced_bytes_arrive_and_the_end_is_told_by_reading;
    a_pull_is_told_the_reset_and_nobody_else;
    k19_what_was_received_is_counted_and_the_fin_with_it;
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

/// K13, of options that show in no stream: the real kernel alone. A listener of std's, so that it is the kernel that is
/// asked, and not `net::mio`; and one without them, so that it is not their default.
#[test]
fn k13_what_a_stream_does_not_show_is_inherited_too() {
    let (idle, zero) = (Duration::from_secs(77), Some(Duration::ZERO));
    for set in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if set {
            sockopt::set_tcp_nodelay(&listener, true).unwrap();
            sockopt::set_socket_linger(&listener, zero).unwrap();
            sockopt::set_socket_oobinline(&listener, true).unwrap();
            sockopt::set_socket_keepalive(&listener, true).unwrap();
            sockopt::set_tcp_keepidle(&listener, idle).unwrap();
            sockopt::set_tcp_keepintvl(&listener, idle).unwrap();
            sockopt::set_tcp_keepcnt(&listener, 7).unwrap();
            sockopt::set_tcp_user_timeout(&listener, 7777).unwrap();
        }
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert_eq!(sockopt::tcp_nodelay(&stream).unwrap(), set);
        assert_eq!(sockopt::socket_linger(&stream).unwrap() == zero, set);
        assert_eq!(sockopt::socket_oobinline(&stream).unwrap(), set);
        assert_eq!(sockopt::socket_keepalive(&stream).unwrap(), set);
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap() == idle, set);
        assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap() == idle, set);
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap() == 7, set);
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap() == 7777, set);
    }
}

/// K18: the real kernel alone, and what the relay concludes from it.
#[test]
fn k18_a_udp_socket_tells_which_addresses_are_ours() {
    // Then every address can be bound, and the relay has to ask for more.
    let bindable = std::fs::read_to_string("/proc/sys/net/ipv4/ip_nonlocal_bind").is_ok_and(|text| text.trim() == "1");
    for (address, ours) in [
        ("127.0.0.1", true),
        ("127.0.0.2", true),
        ("127.255.255.254", true),
        ("::ffff:127.0.0.1", true),
        ("0.0.0.0", true),
        ("192.0.2.1", false),
        ("198.51.100.7", false),
        ("::ffff:192.0.2.1", false),
    ] {
        let address: IpAddr = address.parse().unwrap();
        let bound = UdpSocket::bind((address, 0)).map(drop).map_err(|error| error.kind());
        let expected = if ours || bindable { Ok(()) } else { Err(ErrorKind::AddrNotAvailable) };
        assert_eq!(bound, expected, "{address}");
        assert_eq!(leads_to_itself(([0, 0, 0, 0], 80).into(), (address, 80).into()), ours, "{address}");
    }
}

mod scripts {
    use super::*;

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
        let mut stream = rig.net().connect(&full.into()).unwrap();
        let token = Token::new(1, 1, Peer::Upstream);
        rig.net().register(&mut stream, token).unwrap();
        tell!(story, "{:?}", rig.events(token));
        tell!(story, "{:?}", rig.net().connected(&mut stream).map_err(|error| error.kind()));
        tell!(story, "{:?} {:?}", read(&mut stream), write(&mut stream, b"x"));
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

    pub(super) fn k11_a_reset_throws_away_what_was_not_delivered<B: Rig>() -> Story {
        let (mut story, mut rig) = (Story::new(), B::new());
        let (peer, mut stream, _) = rig.accepted(1);
        let sent = fill(&mut rig, &mut stream);
        drop(stream);
        let (heard, end) = rig.hear_all(peer);
        tell!(story, "all {}, {end}", heard.len() == sent);
        story
    }

    /// Writes until no more is taken for a while.
    fn fill<B: Rig>(rig: &mut B, stream: &mut impl Stream) -> usize {
        let (data, mut sent, mut blocked) = (vec![b'x'; 1 << 16], 0, 0);
        while blocked < 3 {
            match write(stream, &data) {
                Ok(count) => (sent, blocked) = (sent + count, 0),
                Err(error) => {
                    assert_eq!(error, ErrorKind::WouldBlock);
                    blocked += 1;
                    rig.settle();
                    rig.events(Token::listener(0));
                }
            }
        }
        sent
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
        let mut stream = rig.met_itself();
        let token = Token::new(1, 1, Peer::Upstream);
        rig.net().register(&mut stream, token).unwrap();
        tell!(story, "{:?} {:?}", rig.events(token), take_error(&mut stream));
        for _ in 0..2 {
            tell!(story, "{:?}", rig.net().connected(&mut stream).map_err(|error| error.kind()));
        }
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

    pub(super) fn what_an_upstream_said_before_it_reset_is_there_although_nobody_had_asked_yet<B: Rig>() -> Story {
        let (mut story, mut rig) = (Story::new(), B::new());
        for (serial, fin) in [(1, false), (2, true)] {
            let there = rig.upstream(true);
            let mut stream = rig.net().connect(&there.into()).unwrap();
            let token = Token::new(serial, serial, Peer::Upstream);
            rig.net().register(&mut stream, token).unwrap();
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

    pub(super) fn a_refusal_is_an_event_and_told_once<B: Rig>() -> Story {
        let (mut story, mut rig) = (Story::new(), B::new());
        let nobody = rig.upstream(false);
        let mut stream = rig.net().connect(&nobody.into()).unwrap();
        let token = Token::new(1, 1, Peer::Upstream);
        rig.net().register(&mut stream, token).unwrap();
        tell!(story, "{:?}", rig.events(token));
        tell!(story, "{:?}", rig.net().connected(&mut stream).map_err(|error| error.kind()));
        tell!(story, "{:?}", rig.net().connected(&mut stream).map_err(|error| error.kind()));
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
        let mut stream = rig.net().connect(&there.into()).unwrap();
        let token = Token::new(2, 2, Peer::Upstream);
        rig.net().register(&mut stream, token).unwrap();
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
}
