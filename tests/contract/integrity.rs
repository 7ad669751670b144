//! Rule 1: what one side sent before its FIN reaches the other exactly, in order, once.

use std::thread;
use std::time::Duration;

use crate::support::*;

#[test]
fn every_byte_arrives_both_ways_at_once() {
    for buffer_size in [4 << 10, 64 << 10, 1 << 20] {
        both_ways(
            |config| config.buffer_size = buffer_size,
            |Ends { near, far }| {
                let (there, back) = (keyed(1, 9_999_999), keyed(2, 7_777_777));
                thread::scope(|scope| {
                    let halves = [(&near, &there, &back), (&far, &back, &there)];
                    for (stream, ours, theirs) in halves {
                        scope.spawn(move || {
                            say(stream, ours);
                            finish(stream);
                        });
                        scope.spawn(move || assert!(read_all(stream) == (theirs.clone(), Ended::Fin)));
                    }
                });
            },
        );
    }
}

#[test]
fn a_gibibyte_arrives_whole() {
    const CHUNK: usize = 1 << 20;
    both_ways(
        |_| {},
        |Ends { near, far }| {
            // A prime's worth of noise: a chunk that is lost, repeated or moved does not fit where it ends up.
            let noise = keyed(14, CHUNK + 1021);
            let chunk = |i: usize| &noise[i % 1021..][..CHUNK];
            thread::scope(|scope| {
                scope.spawn(|| {
                    (0..1024).for_each(|i| say(&near, chunk(i)));
                    finish(&near);
                });
                (0..1024).for_each(|i| assert!(read_exactly(&far, CHUNK) == chunk(i), "MiB {i}"));
                assert_eq!(end_of(&far), Ended::Fin);
            });
        },
    );
}

#[test]
fn many_sessions_do_not_mix() {
    every_mode(|splice| {
        let bench = bench(splice, |_| {});
        for round in 0..8 {
            let sessions: Vec<_> = (0..50).map(|_| bench.session()).collect();
            thread::scope(|scope| {
                for (i, (client, upstream)) in sessions.iter().enumerate() {
                    let key = round * 1000 + i as u64;
                    scope.spawn(move || {
                        let (request, answer) = (keyed(key, 10_000), keyed(!key, 30_000));
                        say(client, &request);
                        assert!(read_exactly(upstream, request.len()) == request);
                        say(upstream, &answer);
                        finish(client);
                        finish(upstream);
                        assert!(read_all(client) == (answer, Ended::Fin));
                        assert_eq!(end_of(upstream), Ended::Fin);
                    });
                }
            });
        }
        let totals = bench.relay.stop();
        assert_eq!((totals.sessions, totals.up, totals.down), (400, 4_000_000, 12_000_000));
    });
}

#[test]
fn fin_waits_for_the_last_byte() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            let sent = keyed(3, 20 << 20);
            thread::scope(|scope| {
                scope.spawn(|| {
                    say(&near, &sent);
                    finish(&near);
                });
                // Nobody reads until the path is full, so the FIN finds the relay holding bytes.
                until("the path is full", || {
                    far.set_nonblocking(true).unwrap();
                    let full = far.peek(&mut [0; 1 << 16]).is_ok_and(|count| count == 1 << 16);
                    far.set_nonblocking(false).unwrap();
                    full
                });
                assert!(read_all(&far) == (sent.clone(), Ended::Fin));
            });
        },
    );
}

#[test]
fn a_stalled_reader_does_not_stop_the_other_direction() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            let stuck = clog(&near);
            let answer = keyed(4, 8 << 20);
            thread::scope(|scope| {
                scope.spawn(|| say(&far, &answer));
                assert!(read_exactly(&near, answer.len()) == answer);
            });
            // And what was stuck is still all there.
            finish(&near);
            assert_eq!(read_all(&far).0.len() as u64, stuck);
        },
    );
}

#[test]
fn an_urgent_byte_stays_in_the_stream() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            say(&near, b"abc");
            say_urgently(&near, b'D');
            say(&near, b"ef");
            assert_eq!(read_exactly(&far, 6), b"abcDef");
            // With a FIN right behind it.
            say(&near, b"gh");
            say_urgently(&near, b'I');
            finish(&near);
            assert_eq!(read_all(&far), (b"ghI".to_vec(), Ended::Fin));
        },
    );
}

/// K15: a read stops at the mark, and no further edge comes.
#[test]
fn an_urgent_byte_that_was_queued_before_the_relay_reads_stops_nothing() {
    every_mode(|splice| {
        for with_fin in [false, true] {
            let upstream = listener();
            let mut client = None;
            let _relay = start_after(config(splice, [upstream.local_addr().unwrap()]), |address| {
                let stream = limited(std::net::TcpStream::connect(address).unwrap());
                say(&stream, b"abc");
                say_urgently(&stream, b'D');
                say(&stream, b"ef");
                if with_fin {
                    finish(&stream);
                }
                client = Some(stream);
            });
            let far = limited(upstream.accept().unwrap().0);
            assert_eq!(read_exactly(&far, 6), b"abcDef");
            if with_fin {
                assert_eq!(end_of(&far), Ended::Fin);
            }
        }
    });
}

/// The same from the upstream's side: the relay does not read while the client's side is full.
#[test]
fn an_urgent_byte_behind_a_clog_stops_nothing() {
    both_ways(
        |_| {},
        |Ends { near, far }| {
            let before = clog(&near) as usize;
            near.set_write_timeout(Some(LIMIT)).unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    say(&near, b"abc");
                    say_urgently(&near, b'D');
                    say(&near, b"ef");
                    finish(&near);
                });
                let (all, ended) = read_all(&far);
                assert_eq!((&all[before..], ended), (b"abcDef".as_slice(), Ended::Fin));
            });
        },
    );
}

#[test]
fn small_messages_are_not_held_back() {
    every_mode(|splice| {
        let bench = bench(splice, |_| {});
        let (client, upstream) = bench.session();
        client.set_nodelay(true).unwrap();
        upstream.set_nodelay(true).unwrap();
        // Two writes each: with Nagle's algorithm each round trip would wait 40 ms for a delayed acknowledgement.
        let took = quickest(|| {
            for _ in 0..50 {
                for _ in 0..2 {
                    say(&client, b"ping");
                }
                read_exactly(&upstream, 8);
                say(&upstream, b"pong");
                read_exactly(&client, 4);
            }
        });
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}
