//! The simulated kernel against the real one: scripts that run on both and must tell the same story: which bytes, how
//! they end, in which order, and whether a wake-up came. Never the sizes of queues.
//!
//! The real side is the relay's own `net::mio` over loopback, so what is compared is the seam, not a wrapper of ours.
//! The facts K1 to K22, K26 and K27 that the scripts are named after stand in [`tproxy::net`], under "Kernel facts". Each has a
//! script here, two of them with a part that cannot be simulated, and is tested on the real kernel alone:
//!
//! - K13: that dropping resets and that the urgent byte stays are inherited on both. NODELAY, the times of keepalive and
//!   the user timeout change nothing that bytes or ends could show; a simulator would repeat what it was told.
//! - K18: it is asked once, at start, when there is no loop and no seam yet; the simulation knows no addresses.

use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::net::sockopt;
use tproxy::net::mio::leads_to_itself;
use tproxy::net::{Stream, Token};

use crate::rig::{Real, Rig, Sim, write};

/// What a script saw, line by line.
type Story = Vec<String>;

macro_rules! tell {
    ($story:ident, $($what:tt)*) => { $story.push(format!($($what)*)) };
}

mod closing;
mod connecting;
mod events;
mod marks;
mod pipes;
mod resets;
mod unix;

/// The scripts of all topics.
mod scripts {
    pub(super) use super::{closing::*, connecting::*, events::*, marks::*, pipes::*, resets::*, unix::*};
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
    k28_a_closed_window_leaves_the_retransmission_timeout_as_it_is;
    k29_what_was_not_acknowledged_is_counted_after_a_reset_too;
    k17_the_fin_counts_as_unacknowledged_and_none_left_raises_no_edge;
    /// Not in the list, but the relay leans on it.
    what_an_upstream_said_before_it_reset_is_there_although_nobody_had_asked_yet;
    a_refusal_is_an_event_and_told_once;
    what_is_ready_at_registration_raises_an_event;
    every_arrival_raises_an_edge;
    room_is_announced_to_who_found_none;
    k26_a_new_client_raises_an_edge_at_once_and_says_if_it_was_reset;
    a_client_that_reset_in_the_queue_is_accepted_all_the_same;
    a_queue_that_is_empty_would_block_and_each_client_raises_an_edge;
    clients_in_the_queue_are_reset_with_the_listener;
    k20_a_close_over_unread_input_is_epipe_to_a_write_and_a_reset_behind_what_was_said;
    k20_so_error_takes_the_reset_and_the_end_looks_clean;
    k20_a_close_with_nothing_unread_is_the_end_and_no_error;
    k20_a_pull_takes_the_reset;
    k21_to_drop_a_stream_delivers_what_is_queued_and_is_a_reset_only_over_unread_input;
    k21_a_whole_queue_outlives_the_stream;
    k22_a_full_backlog_would_block_and_no_event_follows;
    k27_a_read_stops_behind_a_message_with_a_descriptor_and_no_edge_follows;
    an_urgent_byte_stays_in_a_unix_stream_and_stops_a_read;
    a_client_of_a_unix_socket_has_credentials_and_no_address;
    clients_in_the_queue_of_a_unix_socket_are_reset_with_the_listener;
    a_unix_stream_carries_on_half_closed_and_announces_room;
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
