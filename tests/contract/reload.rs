//! Rule 15: a failed reload changes nothing and says why; a good one keeps every session and every listener whose address
//! stays. Routes beside each other, each with its own limit.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tproxy::net::Address;
use tproxy::{Config, Control, Error, Relay, Reloaded, Route, Splice};

use crate::support::*;

/// A relay with a route for each upstream: from 127.0.0.1, 127.0.0.2 and so on, each at a port that the kernel chose.
pub(crate) struct Routes {
    pub(crate) relay: Running,
    config: Config,
    pub(crate) from: Vec<SocketAddr>,
    pub(crate) to: Vec<TcpListener>,
}

pub(crate) fn routes(count: u8, change: impl FnOnce(&mut Config)) -> Routes {
    let to: Vec<_> = (0..count).map(|_| listener()).collect();
    let mut config = config(Splice::Auto, [address(&to[0])]);
    for (number, upstream) in (2..).zip(&to[1..]) {
        let mut route = Route::new(SocketAddr::from(([127, 0, 0, number], 0)), [address(upstream)]);
        route.reset_grace = config.routes[0].reset_grace;
        config.routes.push(route);
    }
    change(&mut config);
    let relay = Relay::bind(config.clone()).unwrap();
    let from = relay.local_addrs().iter().filter_map(Address::inet).collect();
    let relay = start_relay(relay);
    Routes { relay, config, from, to }
}

pub(crate) fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().unwrap()
}

/// An address where nobody listens.
fn free() -> SocketAddr {
    address(&listener())
}

pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    limited(TcpStream::connect(to).unwrap())
}

pub(crate) fn accept(upstream: &TcpListener) -> TcpStream {
    limited(upstream.accept().unwrap().0)
}

/// What one says, the other hears, both ways.
pub(crate) fn talk(client: &TcpStream, upstream: &TcpStream) {
    say(client, b"question");
    assert_eq!(read_exactly(upstream, 8), b"question");
    say(upstream, b"answer");
    assert_eq!(read_exactly(client, 6), b"answer");
}

/// Routes kept, changed, added, removed, and sessions under old settings.
pub(crate) fn counts(reloaded: &Reloaded) -> [usize; 5] {
    [reloaded.kept, reloaded.changed, reloaded.added, reloaded.removed, reloaded.sessions]
}

impl Routes {
    pub(crate) fn reload(&mut self, change: impl FnOnce(&mut Config)) -> Result<Reloaded, Error> {
        let mut config = self.config.clone();
        change(&mut config);
        let reloaded = self.relay.control.reload(config.clone());
        if reloaded.is_ok() {
            self.config = config;
        }
        reloaded
    }
}

#[test]
fn a_session_keeps_its_settings_and_the_next_has_the_new_ones() {
    let mut routes = routes(2, |_| {});
    let old = connect(routes.from[0]);
    let old_upstream = accept(&routes.to[0]);
    let elsewhere = address(&routes.to[1]);
    let reloaded = routes.reload(|config| config.routes[0].to = vec![elsewhere.into()]).unwrap();
    assert_eq!(counts(&reloaded), [1, 1, 0, 0, 1]);
    assert_eq!(reloaded.local_addrs, routes.from);
    let new = connect(routes.from[0]);
    talk(&new, &accept(&routes.to[1]));
    talk(&old, &old_upstream);
    let reloaded = routes.reload(|config| config.resolve_ttl = Duration::from_secs(9)).unwrap();
    assert_eq!((counts(&reloaded), reloaded.needs_restart), ([2, 0, 0, 0, 1], vec!["resolve-ttl"]));
}

#[test]
fn two_routes_may_swap_their_listeners() {
    let mut routes = routes(2, |_| {});
    let swap = |config: &mut Config| {
        let from = config.routes[0].from.clone();
        config.routes[0].from = std::mem::replace(&mut config.routes[1].from, from);
    };
    assert_eq!(counts(&routes.reload(swap).unwrap()), [0, 2, 0, 0, 0]);
    for (from, to) in [(0, 1), (1, 0)] {
        talk(&connect(routes.from[from]), &accept(&routes.to[to]));
    }
}

#[test]
fn a_removed_listener_serves_who_had_connected_and_closes() {
    let mut routes = routes(2, |config| config.max_sessions = Some(1));
    let first = connect(routes.from[0]);
    let first_upstream = accept(&routes.to[0]);
    talk(&first, &first_upstream);
    // There is no room for them, so they wait in the queue.
    let waiting: Vec<_> = (0..20).map(|_| connect(routes.from[1])).collect();
    let reloaded = routes.reload(|config| config.routes.truncate(1)).unwrap();
    assert_eq!(counts(&reloaded), [1, 0, 0, 1, 0]);
    drop((first, first_upstream));
    for client in waiting {
        let upstream = accept(&routes.to[1]);
        talk(&client, &upstream);
        finish(&client);
        finish(&upstream);
        assert_eq!([end_of(&client), end_of(&upstream)], [Ended::Fin, Ended::Fin]);
    }
    until("the listener is gone", || !listens(routes.from[1]));
    talk(&connect(routes.from[0]), &accept(&routes.to[0]));
}

#[test]
fn an_added_listener_is_told_and_serves() {
    let mut routes = routes(2, |_| {});
    let to = address(&routes.to[1]);
    let third = Route::new(SocketAddr::from(([127, 0, 0, 3], 0)), [to]);
    let reloaded = routes.reload(|config| config.routes.insert(0, third)).unwrap();
    assert_eq!(counts(&reloaded), [2, 0, 1, 0, 0]);
    assert_eq!(reloaded.local_addrs[1..], routes.from);
    talk(&connect(reloaded.local_addrs[0].inet().unwrap()), &accept(&routes.to[1]));
}

#[test]
fn a_failed_reload_changes_nothing() {
    let mut routes = routes(2, |_| {});
    let client = connect(routes.from[1]);
    let upstream = accept(&routes.to[1]);
    let (taken, free, to) = (listener(), free(), address(&routes.to[0]));
    let cannot_bind = |config: &mut Config| {
        config.routes = vec![Route::new(free, [to]), Route::new(address(&taken), [to])];
    };
    let error = routes.reload(cannot_bind).unwrap_err();
    assert!(matches!(&error, Error::Listen { address, .. } if *address == self::address(&taken)), "{error}");
    assert!(is_refused(free));
    let out_of_range = |config: &mut Config| config.routes[0].connect_timeout = Duration::ZERO;
    assert!(matches!(routes.reload(out_of_range), Err(Error::Config(_))));
    let itself = routes.from[1];
    for spares in [&[][..], &[to]] {
        let hosts = spares.iter().chain([&itself]);
        let leads_back = |config: &mut Config| config.routes[0].to = hosts.map(|host| (*host).into()).collect();
        assert!(matches!(routes.reload(leads_back), Err(Error::Loop { .. })));
    }
    talk(&client, &upstream);
    for number in 0..2 {
        talk(&connect(routes.from[number]), &accept(&routes.to[number]));
    }
    assert_eq!(counts(&routes.reload(|_| {}).unwrap()), [2, 0, 0, 0, 0]);
}

/// The old listener has the clients of the new one, so that cannot be bound before the old one is closed.
#[test]
fn an_address_that_overlaps_a_removed_one_is_refused_in_words() {
    let mut routes = routes(1, |_| {});
    let at = free();
    let to = address(&routes.to[0]);
    routes.reload(|config| config.routes.push(Route::new(at, [to]))).unwrap();
    let anywhere = SocketAddr::from(([0, 0, 0, 0], at.port()));
    let error = routes.reload(|config| config.routes[1] = Route::new(anywhere, [to])).unwrap_err();
    let expected = format!(
        "cannot listen on {anywhere} while {at}, which is to be removed, is open (restart, or reload twice: first \
         without either)"
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(counts(&routes.reload(|config| config.routes.truncate(1)).unwrap()), [1, 0, 0, 1, 0]);
    until("the listener is gone", || !listens(at));
    assert_eq!(
        counts(&routes.reload(|config| config.routes.push(Route::new(anywhere, [to]))).unwrap()),
        [1, 0, 1, 0, 0]
    );
}

#[test]
fn a_route_at_its_limit_lets_clients_wait_and_others_go_on() {
    let routes = routes(2, |config| config.routes[0].max_sessions = Some(1));
    let first = connect(routes.from[0]);
    let first_upstream = accept(&routes.to[0]);
    let second = connect(routes.from[0]);
    say(&second, b"later");
    // They come after the second, and are served before it.
    for _ in 0..10 {
        talk(&connect(routes.from[1]), &accept(&routes.to[1]));
    }
    routes.to[0].set_nonblocking(true).unwrap();
    assert_eq!(kind(routes.to[0].accept()), std::io::ErrorKind::WouldBlock);
    routes.to[0].set_nonblocking(false).unwrap();
    drop((first, first_upstream));
    assert_eq!(read_exactly(&accept(&routes.to[0]), 5), b"later");
}

#[test]
fn it_is_not_reloaded_when_it_drains_or_has_ended() {
    let mut routes = routes(1, |_| {});
    let client = connect(routes.from[0]);
    let upstream = accept(&routes.to[0]);
    routes.relay.control.stop();
    until("the listener is gone", || !listens(routes.from[0]));
    assert!(matches!(routes.reload(|_| {}), Err(Error::Draining)));
    assert!(is_refused(routes.from[0]));
    talk(&client, &upstream);
    drop((client, upstream));
    routes.relay.totals();
    assert!(matches!(routes.reload(|_| {}), Err(Error::Ended)));
}

#[test]
fn a_reload_does_not_wait_for_a_relay_that_never_runs() {
    let relay = Relay::bind(config(Splice::Auto, [free()])).unwrap();
    let control: Control = relay.control();
    thread::scope(|scope| {
        let asking = scope.spawn(|| control.reload(config(Splice::Auto, [free()])));
        drop(relay);
        assert!(matches!(asking.join().unwrap(), Err(Error::Ended)));
    });
}

#[test]
fn a_stop_behind_a_reload_ends_it() {
    let mut routes = routes(2, |config| config.max_sessions = Some(1));
    let (first, waits) = (connect(routes.from[0]), connect(routes.from[1]));
    let first_upstream = accept(&routes.to[0]);
    routes.reload(|config| config.routes.truncate(1)).unwrap();
    routes.relay.control.stop();
    talk(&first, &first_upstream);
    drop((first, first_upstream));
    let upstream = accept(&routes.to[1]);
    talk(&waits, &upstream);
    drop((waits, upstream));
    assert_eq!(routes.relay.totals().sessions, 2);
    assert!(routes.from.iter().all(|from| is_refused(*from)));
}

/// About a thousand connections a second, where the machine has them to give; and between two reloads always some.
#[test]
fn fifty_reloads_refuse_and_reset_nobody() {
    const RELOADS: usize = 50;
    const BETWEEN: usize = 100;
    let mut routes = routes(2, |_| {});
    let (done, gone, served) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    let (from, to) = (routes.from.clone(), [address(&routes.to[0]), address(&routes.to[1])]);
    let upstreams: Vec<_> = routes.to.iter().map(|one| one.try_clone().unwrap()).collect();
    thread::scope(|scope| {
        // Also if the test fails: else they would wait for ever.
        let end = AtTheEnd(&done);
        for upstream in upstreams.iter().chain(&upstreams).chain(&upstreams) {
            scope.spawn(|| echo(upstream, &gone));
        }
        let clients: Vec<_> = (0..6)
            .map(|number: usize| {
                let (from, served, done) = (from[number % 2], &served, &done);
                scope.spawn(move || {
                    let mut key = number as u64;
                    while !done.load(Ordering::Relaxed) {
                        ask(from, key);
                        served.fetch_add(1, Ordering::Relaxed);
                        key += 6;
                    }
                })
            })
            .collect();
        for reload in 0..RELOADS {
            let before = served.load(Ordering::Relaxed);
            until("clients are served", || served.load(Ordering::Relaxed) >= before + BETWEEN);
            let change = |config: &mut Config| match reload % 5 {
                0 => config.routes[0].idle_timeout = Some(Duration::from_secs(60 + reload as u64)),
                1 => config.routes[0].to = vec![to[reload / 5 % 2].into()],
                2 => config.routes.push(Route::new(SocketAddr::from(([127, 0, 0, 3], 0)), to)),
                3 => drop(config.routes.pop()),
                _ => config.routes[1].idle_timeout = Some(Duration::from_secs(60 + reload as u64)),
            };
            let reloaded = routes.reload(change).unwrap();
            assert_eq!(reloaded.local_addrs[..2], from, "the listeners stay");
        }
        drop(end);
        clients.into_iter().for_each(|client| client.join().unwrap());
        // Wakes those that wait for a client.
        gone.store(true, Ordering::Relaxed);
        (0..6).for_each(|number| drop(TcpStream::connect(to[number % 2])));
    });
    let served = served.into_inner();
    assert!(served >= RELOADS * BETWEEN, "{served}");
    let totals = routes.relay.stop();
    assert_eq!((totals.sessions, totals.cut_short), (served as u64, 0));
    assert_eq!((totals.up, totals.down), (served as u64 * SAID as u64, served as u64 * SAID as u64));
}

/// Bytes of one question, and of its answer.
const SAID: usize = 3000;

/// Connects, says something, and hears the same: every byte, and then a clean end.
fn ask(from: SocketAddr, key: u64) {
    let client = connect(from);
    let said = keyed(key, SAID);
    say(&client, &said);
    finish(&client);
    let (heard, ended) = read_all(&client);
    assert_eq!((heard.len(), ended), (SAID, Ended::Fin));
    assert!(heard == said, "not what was said");
}

/// Says to each client what it says.
fn echo(upstream: &TcpListener, gone: &AtomicBool) {
    loop {
        let stream = accept(upstream);
        if gone.load(Ordering::Relaxed) {
            return;
        }
        let (said, ended) = read_all(&stream);
        assert_eq!(ended, Ended::Fin);
        say(&stream, &said);
    }
}
