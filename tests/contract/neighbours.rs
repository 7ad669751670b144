//! Rule 12: nothing in the loop blocks. Beside whatever happens rarely, a neighbour's round trips stay short.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use tproxy::Config;

use crate::support::*;

/// The longest round trip of a neighbour that nothing holds up.
const QUICK: Duration = Duration::from_millis(50);

/// On a busy machine they take longer, also without a relay: at most so many times as long as those.
const FACTOR: u32 = 4;

/// A relay that blocks does so every time; a busy machine that stops the test hardly ever does.
const TRIES: usize = 5;

/// Round trips before the act and behind it.
const PINGS: u32 = 20;

/// The far end has not read what it was sent when both have finished, so a close that lingers would wait for it.
#[test]
fn a_neighbour_is_served_beside_a_close_over_undelivered_bytes() {
    beside_both_ways(|Ends { near, far }| {
        // More than the far end's kernel takes unread, less than the relay's.
        say(&near, &keyed(15, 1 << 20));
        finish(&near);
        finish(&far);
        // The kernel keeps the socket, for it still has bytes for the far end.
        until("the relay has closed", || is_orphaned(far.peer_addr().unwrap(), far.local_addr().unwrap()));
    });
}

#[test]
fn a_neighbour_is_served_beside_a_half_close() {
    beside_both_ways(|Ends { near, far }| {
        finish(&near);
        assert_eq!(end_of(&far), Ended::Fin);
    });
}

#[test]
fn a_neighbour_is_served_beside_a_reset() {
    beside_both_ways(|Ends { near, far }| {
        reset(near);
        assert_eq!(end_of(&far), Ended::Reset);
    });
}

#[test]
fn a_neighbour_is_served_beside_a_storm_of_clients() {
    beside(
        |_| {},
        |bench| {
            let clients: Vec<_> = (0..100).map(|_| bench.relay.client()).collect();
            let streams: Vec<_> = (0..100).map(|_| limited(bench.upstream.accept().unwrap().0)).collect();
            drop((clients, streams));
        },
    );
}

#[test]
fn a_neighbour_is_served_beside_a_connect_that_is_refused() {
    let nobody = nobody();
    beside(
        |config| config.routes[0].to.insert(0, nobody.address.into()),
        |bench| {
            for _ in 0..5 {
                bench.session();
            }
        },
    );
}

#[test]
fn a_neighbour_is_served_beside_the_begin_of_the_drain() {
    beside(
        |config| config.drain_timeout = None,
        |bench| {
            let others: Vec<_> = (0..20).map(|_| bench.session()).collect();
            bench.relay.control.stop();
            until("the drain has begun", || !listens(bench.relay.address));
            drop(others);
        },
    );
}

/// The same with a session of its own, and either end of it as the near one.
fn beside_both_ways(act: impl Fn(Ends) + Sync) {
    beside(
        |_| {},
        |bench| {
            let (client, upstream) = bench.session();
            act(Ends { near: client, far: upstream });
            let (client, upstream) = bench.session();
            act(Ends { near: upstream, far: client });
        },
    );
}

/// A neighbour plays ping-pong while the act happens. In one of a few tries no round trip takes long.
fn beside(change: impl Fn(&mut Config) + Sync, act: impl Fn(&Bench) + Sync) {
    every_mode(|splice| {
        let is_quick = |(worst, without): &(Duration, Duration)| *worst < QUICK.max(FACTOR * *without);
        let mut tries: Vec<(Duration, Duration)> = Vec::new();
        while tries.len() < TRIES && !tries.last().is_some_and(is_quick) {
            let bench = bench(splice, &change);
            let session = bench.session();
            tries.push(worst_round_trips(&session, || act(&bench)));
        }
        assert!(tries.last().is_some_and(is_quick), "the worst round trips, and those without a relay: {tries:?}");
    });
}

/// The longest round trip of those before, during and after the act; and the longest of two that have no relay between them.
fn worst_round_trips(session: &(TcpStream, TcpStream), act: impl FnOnce()) -> (Duration, Duration) {
    let listener = listener();
    let client = limited(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let direct = (client, limited(listener.accept().unwrap().0));
    let (pings, done) = ([const { AtomicU32::new(0) }; 2], AtomicBool::new(false));
    thread::scope(|scope| {
        let [neighbour, other] = [(session, &pings[0]), (&direct, &pings[1])]
            .map(|(ends, pings)| scope.spawn(|| worst_round_trip(ends, pings, &done)));
        let end = AtTheEnd(&done);
        until("both play", || pings.iter().all(|pings| pings.load(Ordering::Relaxed) >= PINGS));
        act();
        drop(end);
        (neighbour.join().unwrap(), other.join().unwrap())
    })
}

fn worst_round_trip(ends: &(TcpStream, TcpStream), pings: &AtomicU32, done: &AtomicBool) -> Duration {
    let (client, upstream) = ends;
    let (mut worst, mut after) = (Duration::ZERO, 0);
    while after < PINGS {
        after = if done.load(Ordering::Relaxed) { after + 1 } else { 0 };
        let ((), took) = timed(|| {
            say(client, b"ping");
            read_exactly(upstream, 4);
            say(upstream, b"pong");
            read_exactly(client, 4);
        });
        worst = worst.max(took);
        pings.fetch_add(1, Ordering::Relaxed);
    }
    worst
}
