//! Rule 14: who is here may finish, who comes later is refused, and it ends.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::support::*;

#[test]
fn sessions_finish_and_new_clients_are_refused() {
    every_mode(|splice| {
        let bench = bench(splice, |_| {});
        let (client, upstream) = bench.session();
        bench.relay.control.stop();
        until("the listener is gone", || !listens(bench.relay.address));
        assert!(is_refused(bench.relay.address));
        say(&client, b"request");
        finish(&client);
        assert_eq!(read_all(&upstream), (b"request".to_vec(), Ended::Fin));
        assert!(bench.relay.is_still_running());
        say(&upstream, b"answer");
        finish(&upstream);
        assert_eq!(read_all(&client), (b"answer".to_vec(), Ended::Fin));
        let totals = bench.relay.totals();
        assert_eq!((totals.up, totals.down, totals.cut_short), (7, 6, 0));
    });
}

#[test]
fn with_no_sessions_it_ends_at_once() {
    every_mode(|splice| {
        let bench = bench(splice, |_| {});
        assert_eq!(bench.relay.stop().sessions, 0);
        assert!(is_refused(bench.relay.address));
    });
}

#[test]
fn who_connected_before_the_request_is_served() {
    every_mode(|splice| {
        let upstream = listener();
        let relay = tproxy::Relay::bind(config(splice, [upstream.local_addr().unwrap()])).unwrap();
        // More than are accepted in one turn, all of them in the kernel's queue before the relay runs or can be asked.
        let clients = (0..100).map(|_| {
            let client = limited(TcpStream::connect(relay.local_addr()).unwrap());
            say(&client, b"in time");
            finish(&client);
            client
        });
        let clients: Vec<_> = clients.collect();
        relay.control().stop();
        let running = thread::spawn(move || relay.run().unwrap());
        for _ in 0..100 {
            let stream = limited(upstream.accept().unwrap().0);
            assert_eq!(read_all(&stream), (b"in time".to_vec(), Ended::Fin));
            say(&stream, b"served");
        }
        for client in clients {
            assert_eq!(read_all(&client), (b"served".to_vec(), Ended::Fin));
        }
        let totals = running.join().unwrap();
        assert_eq!((totals.sessions, totals.cut_short), (100, 0));
    });
}

#[test]
fn what_is_left_at_the_deadline_is_reset() {
    every_mode(|splice| {
        let bench = bench(splice, |config| config.drain_timeout = Some(Duration::from_millis(200)));
        let (client, upstream) = bench.session();
        let (totals, took) = timed(|| bench.relay.stop());
        assert_eq!((totals.sessions, totals.cut_short), (1, 1));
        assert!(took >= Duration::from_millis(200) && took < LIMIT, "{took:?}");
        assert_eq!([end_of(&client), end_of(&upstream)], [Ended::Reset, Ended::Reset]);
    });
}

#[test]
fn stop_may_be_asked_for_again_and_changes_nothing() {
    every_mode(|splice| {
        let bench = bench(splice, |config| config.drain_timeout = None);
        let (client, upstream) = bench.session();
        bench.relay.control.stop();
        until("the drain has begun", || !listens(bench.relay.address));
        for _ in 0..100 {
            bench.relay.control.stop();
            say(&client, b"x");
            assert_eq!(read_exactly(&upstream, 1), b"x");
        }
        finish(&client);
        finish(&upstream);
        let totals = bench.relay.stop();
        assert_eq!((totals.sessions, totals.up, totals.cut_short), (1, 100, 0));
    });
}

#[test]
fn stop_now_does_not_wait_for_the_drain() {
    every_mode(|splice| {
        let bench = bench(splice, |config| config.drain_timeout = None);
        let (client, upstream) = bench.session();
        bench.relay.control.stop();
        until("the drain has begun", || !listens(bench.relay.address));
        bench.relay.control.stop_now();
        let totals = bench.relay.totals();
        assert_eq!((totals.sessions, totals.cut_short), (1, 1));
        assert_eq!([end_of(&client), end_of(&upstream)], [Ended::Reset, Ended::Reset]);
    });
}

#[test]
fn who_had_connected_is_served_although_the_relay_is_full() {
    every_mode(|splice| {
        let bench = bench(splice, |config| {
            (config.max_sessions, config.drain_timeout) = (Some(1), None);
        });
        let first = bench.session();
        let waiting = [b'2', b'3'].map(|name| {
            let client = limited(TcpStream::connect(bench.relay.address).unwrap());
            say(&client, &[name]);
            finish(&client);
            client
        });
        bench.relay.control.stop();
        // It has heard of the request: one more byte goes through afterwards.
        say(&first.0, b"1");
        finish(&first.0);
        assert_eq!(read_all(&first.1), (b"1".to_vec(), Ended::Fin));
        finish(&first.1);
        for (client, name) in waiting.iter().zip(*b"23") {
            let stream = limited(bench.upstream.accept().unwrap().0);
            assert_eq!(read_all(&stream), (vec![name], Ended::Fin));
            say(&stream, b"served");
            finish(&stream);
            assert_eq!(read_all(client), (b"served".to_vec(), Ended::Fin));
        }
        let totals = bench.relay.totals();
        assert_eq!((totals.sessions, totals.cut_short), (3, 0));
    });
}

#[test]
fn requests_found_together_are_one() {
    every_mode(|splice| {
        let upstream = listener();
        let relay = tproxy::Relay::bind(config(splice, [upstream.local_addr().unwrap()])).unwrap();
        let client = limited(TcpStream::connect(relay.local_addr()).unwrap());
        for _ in 0..3 {
            relay.control().stop();
        }
        let running = thread::spawn(move || relay.run().unwrap());
        let stream = limited(upstream.accept().unwrap().0);
        say(&client, b"hello");
        assert_eq!(read_exactly(&stream, 5), b"hello");
        drop(client);
        drop(stream);
        assert_eq!(running.join().unwrap().cut_short, 0);
    });
}

#[test]
fn with_a_timeout_of_zero_nothing_is_waited_for() {
    every_mode(|splice| {
        let bench = bench(splice, |config| config.drain_timeout = Some(Duration::ZERO));
        let (client, upstream) = bench.session();
        say(&client, b"hello");
        read_exactly(&upstream, 5);
        let (totals, took) = timed(|| bench.relay.stop());
        assert_eq!(totals.cut_short, 1);
        assert!(took < Duration::from_secs(10), "the default is 15 s: {took:?}");
        assert_eq!([end_of(&client), end_of(&upstream)], [Ended::Reset, Ended::Reset]);
    });
}

/// A container's network vanishes with its last process: what was written must have arrived by then.
#[test]
fn the_end_of_the_drain_waits_until_the_last_byte_was_acknowledged() {
    every_mode(|splice| {
        for swap in [false, true] {
            let bench = bench(splice, |_| {});
            let (client, upstream) = bench.session();
            let (near, far) = if swap { (upstream, client) } else { (client, upstream) };
            bench.relay.control.stop();
            until("the drain has begun", || !listens(bench.relay.address));
            // More than the far end's kernel takes unread, less than the relay's.
            let said = keyed(11, 1 << 20);
            say(&near, &said);
            finish(&near);
            finish(&far);
            assert_eq!(end_of(&near), Ended::Fin);
            // Both have finished and all is written; but the far one reads late, and the relay is still there for it.
            assert!(bench.relay.is_still_running());
            assert!(read_all(&far) == (said, Ended::Fin));
            assert_eq!(bench.relay.totals().cut_short, 0);
        }
    });
}
