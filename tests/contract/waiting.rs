//! Rules 9 and 11: every wait has a deadline, and who cannot be served yet waits outside.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::kernel::unacked;
use tproxy::ResetGrace;

use crate::support::*;

/// For what is to happen when nothing moves.
const SHORT: Duration = Duration::from_millis(200);

/// For what is not to happen while something moves, also if a busy machine lets nothing move for long.
const LONG: Duration = Duration::from_secs(2);

#[test]
fn a_half_closed_session_ends_when_nothing_moves_any_more() {
    both_ways(
        |config| config.routes[0].half_close_timeout = Some(SHORT),
        |Ends { near, far }| {
            let (ended, took) = timed(|| {
                finish(&near);
                end_of(&near)
            });
            assert_eq!(ended, Ended::Reset);
            assert!(took >= SHORT, "{took:?}");
            // The FIN was passed on before, so the reset reaches the far end only when it speaks.
            assert_eq!(end_of(&far), Ended::Fin);
            until("the far end is told", || std::io::Write::write(&mut &far, b"x").is_err());
        },
    );
}

#[test]
fn a_fin_behind_a_reader_that_stalls_starts_the_half_close_time() {
    both_ways(
        |config| {
            config.routes[0].half_close_timeout = Some(SHORT);
            config.routes[0].reset_grace = ResetGrace::Fixed(SHORT);
        },
        |Ends { near, far }| {
            clog(&near);
            finish(&near);
            // The far end reads until the FIN has reached the relay, and then no more: the FIN stays unread.
            until("the FIN has arrived", || {
                if unacked(&near) > 0 {
                    read_exactly(&far, 256 << 10);
                }
                unacked(&near) == 0
            });
            assert_eq!(end_of(&near), Ended::Reset);
            assert_eq!(throw_away(&far), Ended::Reset);
        },
    );
}

#[test]
fn what_nobody_takes_is_not_thrown_away_for_ever() {
    both_ways(
        |config| {
            config.routes[0].half_close_timeout = Some(SHORT);
            config.routes[0].reset_grace = ResetGrace::Fixed(SHORT);
        },
        |Ends { near, far }| {
            // An answer that the near end does not read, all of it in the relay's hands.
            clog(&far);
            finish(&far);
            until("the answer and the FIN have arrived", || {
                if unacked(&far) > 0 {
                    read_exactly(&near, 256 << 10);
                }
                unacked(&far) == 0
            });
            drop(far);
            until("the near end, which goes on writing, is told", || std::io::Write::write(&mut &near, b"x").is_err());
        },
    );
}

#[test]
fn a_half_closed_session_goes_on_while_something_moves() {
    both_ways(
        |config| config.routes[0].half_close_timeout = Some(LONG),
        |Ends { near, far }| {
            finish(&near);
            tick_for_long(&far, &near);
            finish(&far);
            assert_eq!(end_of(&near), Ended::Fin);
        },
    );
}

#[test]
fn a_session_that_is_not_half_closed_may_be_silent() {
    every_mode(|splice| {
        let bench = bench(splice, |config| config.routes[0].half_close_timeout = Some(Duration::from_millis(20)));
        let (client, upstream) = bench.session();
        for _ in 0..10 {
            linger();
        }
        say(&client, b"still here");
        assert_eq!(read_exactly(&upstream, 10), b"still here");
    });
}

#[test]
fn an_idle_session_ends_for_both() {
    both_ways(
        |config| config.routes[0].idle_timeout = Some(SHORT),
        |Ends { near, far }| {
            let (ends, took) = timed(|| {
                say(&near, b"hello");
                read_exactly(&far, 5);
                [end_of(&near), end_of(&far)]
            });
            assert_eq!(ends, [Ended::Reset, Ended::Reset]);
            assert!(took >= SHORT, "{took:?}");
        },
    );
}

/// What it writes is thrown away once the time is up, which must not put the reset off.
#[test]
fn a_writer_does_not_put_off_the_end_of_an_idle_session() {
    both_ways(
        |config| {
            (config.routes[0].idle_timeout, config.routes[0].reset_grace) = (Some(SHORT), ResetGrace::Fixed(SHORT))
        },
        |Ends { near, far: _far }| {
            // Once the path is full nothing moves until the time is up; then it goes on writing.
            assert_eq!(error_of_writing_on(&near), ErrorKind::ConnectionReset);
        },
    );
}

#[test]
fn a_byte_either_way_keeps_a_session_from_being_idle() {
    both_ways(|config| config.routes[0].idle_timeout = Some(LONG), |Ends { near, far }| tick_for_long(&near, &far));
}

/// Small messages with pauses between, for longer than `LONG`.
fn tick_for_long(from: &TcpStream, to: &TcpStream) {
    let mut gone = Duration::ZERO;
    while gone < LONG + LONG / 4 {
        gone += timed(|| {
            say(from, b"tick");
            read_exactly(to, 4);
            linger();
        })
        .1;
    }
}

#[test]
fn at_the_limit_new_clients_wait_until_a_session_ends() {
    every_mode(|splice| {
        let bench = bench(splice, |config| config.max_sessions = Some(2));
        let first = bench.session();
        let _second = bench.session();
        let third = bench.relay.client();
        say(&third, b"me too");
        bench.upstream.set_nonblocking(true).unwrap();
        linger();
        assert!(bench.upstream.accept().is_err(), "the third client is let in only when there is room");
        bench.upstream.set_nonblocking(false).unwrap();
        drop(first);
        let upstream = limited(bench.upstream.accept().unwrap().0);
        assert_eq!(read_exactly(&upstream, 6), b"me too");
    });
}

#[test]
fn a_session_is_served_while_others_move_bulk() {
    every_mode(|splice| {
        let bench = bench(splice, |_| {});
        let bulk: Vec<_> = (0..4).map(|_| bench.session()).collect();
        let (client, upstream) = bench.session();
        let done = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            for (client, upstream) in &bulk {
                scope.spawn(|| {
                    let chunk = vec![0; 1 << 20];
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        say(client, &chunk);
                    }
                    finish(client);
                });
                scope.spawn(|| assert_eq!(throw_away(upstream), Ended::Fin));
            }
            let end = AtTheEnd(&done);
            let ((), took) = timed(|| {
                for _ in 0..50 {
                    say(&client, b"ping");
                    read_exactly(&upstream, 4);
                    say(&upstream, b"pong");
                    read_exactly(&client, 4);
                }
            });
            drop(end);
            assert!(took < Duration::from_secs(10), "{took:?}");
        });
    });
}
