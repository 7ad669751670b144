//! Rules 9 and 12: connecting has a deadline, and one upstream's trouble is nobody else's.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use tproxy::{Config, Error, Relay, Splice};

use crate::support::*;

#[test]
fn a_client_of_a_refusing_upstream_is_reset() {
    every_mode(|splice| {
        let nobody = nobody();
        let relay = start(config(splice, [nobody.address]));
        let client = relay.client();
        assert_eq!(end_of(&client), Ended::Reset);
    });
}

#[test]
fn the_next_address_is_tried_when_one_refuses() {
    every_mode(|splice| {
        let upstream = listener();
        let refusing = [nobody(), nobody()];
        let relay = start(config(splice, [refusing[0].address, refusing[1].address, upstream.local_addr().unwrap()]));
        let client = relay.client();
        say(&client, b"hello");
        assert_eq!(read_exactly(&limited(upstream.accept().unwrap().0), 5), b"hello");
    });
}

/// connect itself says that there is no way to the broadcast address.
#[test]
fn the_next_address_is_tried_when_one_fails_at_once() {
    every_mode(|splice| {
        let upstream = listener();
        let nowhere = "255.255.255.255:9".parse().unwrap();
        let relay = start(config(splice, [nowhere, nowhere, upstream.local_addr().unwrap()]));
        let client = relay.client();
        say(&client, b"hello");
        assert_eq!(read_exactly(&limited(upstream.accept().unwrap().0), 5), b"hello");
        // And when all fail, it ends.
        let relay = start(config(splice, [nowhere, nowhere]));
        assert_eq!(end_of(&relay.client()), Ended::Reset);
    });
}

#[test]
fn a_black_hole_does_not_eat_the_turn_of_the_next_address() {
    every_mode(|splice| {
        let hole = black_hole();
        let upstream = listener();
        let mut config = config(splice, [hole.address, upstream.local_addr().unwrap()]);
        config.routes[0].connect_timeout = Duration::from_secs(4);
        let relay = start(config);
        // A client that half-closes while its upstream is still connecting is kept.
        let client = relay.client();
        say(&client, b"request");
        finish(&client);
        let upstream = limited(upstream.accept().unwrap().0);
        assert_eq!(read_all(&upstream), (b"request".to_vec(), Ended::Fin));
        say(&upstream, b"answer");
        assert_eq!(read_exactly(&client, 6), b"answer");
    });
}

#[test]
fn connecting_ends_with_its_timeout() {
    every_mode(|splice| {
        let hole = black_hole();
        let mut config = config(splice, [hole.address]);
        config.routes[0].connect_timeout = Duration::from_millis(300);
        let relay = start(config);
        // The kernel would try for two minutes.
        let (ended, took) = timed(|| end_of(&relay.client()));
        assert_eq!(ended, Ended::Reset);
        assert!(took >= Duration::from_millis(300), "{took:?}");
    });
}

#[test]
fn attempts_are_made_as_often_as_asked_for() {
    every_mode(|splice| {
        // An upstream that begins to listen only after the first attempt has failed.
        let nobody = nobody();
        let mut config = config(splice, [nobody.address]);
        (config.routes[0].connect_timeout, config.routes[0].connect_attempts) = (LIMIT, u32::MAX);
        let relay = start(config);
        let client = relay.client();
        say(&client, b"patience");
        linger();
        let upstream = nobody.listen();
        let stream = limited(upstream.accept().unwrap().0);
        assert_eq!(read_exactly(&stream, 8), b"patience");
    });
}

#[test]
fn one_attempt_is_one_pass_without_a_pause() {
    every_mode(|splice| {
        let refusing = [nobody(), nobody()];
        let mut config = config(splice, refusing.each_ref().map(|nobody| nobody.address));
        config.routes[0].connect_attempts = 1;
        let relay = start(config);
        let took = quickest(|| assert_eq!(end_of(&relay.client()), Ended::Reset));
        assert!(took < Duration::from_millis(50), "the least pause is 50 ms: {took:?}");
    });
}

/// K26: they come and go while nobody serves.
#[test]
fn a_client_that_was_reset_before_it_was_accepted_is_not_dialled_for() {
    every_mode(|splice| {
        let upstream = listener();
        let mut last = None;
        let relay = start_after(config(splice, [upstream.local_addr().unwrap()]), |address| {
            for _ in 0..100 {
                reset(limited(TcpStream::connect(address).unwrap()));
            }
            last = Some(limited(TcpStream::connect(address).unwrap()));
        });
        // The queue is in order, so the upstream would have seen the others first.
        let last = last.unwrap();
        say(&last, b"still here");
        let stream = limited(upstream.accept().unwrap().0);
        assert_eq!(read_exactly(&stream, 10), b"still here");
        finish(&last);
        drop(stream);
        assert_eq!(relay.stop().sessions, 101);
        upstream.set_nonblocking(true).unwrap();
        assert_eq!(upstream.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    });
}

#[test]
fn clients_that_wait_delay_nobody() {
    every_mode(|splice| {
        // Every session tries the black hole first; all of them wait at once, not one after the other.
        let hole = black_hole();
        let upstream = listener();
        let mut config = config(splice, [hole.address, upstream.local_addr().unwrap()]);
        config.routes[0].connect_timeout = Duration::from_secs(4);
        let relay = start(config);
        let ((), took) = timed(|| {
            let clients: Vec<_> = (0..50).map(|_| relay.client()).collect();
            let streams: Vec<_> = (0..50).map(|_| limited(upstream.accept().unwrap().0)).collect();
            drop((clients, streams));
        });
        assert!(took < Duration::from_secs(20), "one after the other would take 100 s: {took:?}");
    });
}

/// The upstream says something and resets the connection, often before the relay has even seen that it came about. Had
/// it asked with a second connect(2), the kernel would have thrown the words away with the error.
#[test]
fn what_an_upstream_said_before_it_reset_a_fresh_connection_arrives() {
    every_mode(|splice| {
        const ROUNDS: u64 = 300;
        let upstream = listener();
        let address = upstream.local_addr().unwrap();
        let server = thread::spawn(move || {
            for _ in 0..ROUNDS {
                let stream = upstream.accept().unwrap().0;
                say(&stream, b"go away");
                reset(stream);
            }
        });
        let relay = start(config(splice, [address]));
        for _ in 0..ROUNDS {
            assert_eq!(read_all(&relay.client()), (b"go away".to_vec(), Ended::Reset));
        }
        server.join().unwrap();
        let totals = relay.stop();
        assert_eq!((totals.sessions, totals.down), (ROUNDS, 7 * ROUNDS));
    });
}

#[test]
fn a_relay_to_itself_is_refused_at_start() {
    every_mode(|splice| {
        for (from, host) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.2"), ("[::]:0", "0.0.0.0")] {
            // Which port the kernel gives is known only afterwards, so it is asked for twice.
            let port =
                Relay::bind(config_from(splice, from, "127.0.0.1:9".parse().unwrap())).unwrap().local_addr().port();
            let from = format!("{}{port}", from.strip_suffix('0').unwrap());
            let result = Relay::bind(config_from(splice, &from, format!("{host}:{port}").parse().unwrap()));
            assert!(matches!(result, Err(Error::Loop { .. })), "{result:?}");
        }
    });
}

fn config_from(splice: Splice, from: &str, to: SocketAddr) -> Config {
    let mut config = config(splice, [to]);
    config.routes[0].from = from.parse().unwrap();
    config
}

#[test]
fn ipv6_and_ipv4_clients_share_a_wildcard_listener() {
    every_mode(|splice| {
        let upstream = listener_at("[::1]:0");
        let relay = start(config_from(splice, "[::]:0", upstream.local_addr().unwrap()));
        for host in ["127.0.0.1", "::1"] {
            let client = limited(TcpStream::connect((host, relay.address.port())).unwrap());
            say(&client, b"hello");
            assert_eq!(read_exactly(&limited(upstream.accept().unwrap().0), 5), b"hello");
        }
    });
}
