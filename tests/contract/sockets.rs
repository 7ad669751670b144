//! What a route asks of its sockets: where connections come from, keepalive, the user timeout, the queue; and what a reload
//! changes of it.

#![cfg(target_os = "linux")]

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::sockopt;
use tproxy::{Error, Host, Relay, Splice};

use crate::options::{backlog_of, skipped, socket_between};
use crate::reload::{Routes, accept, address, connect, counts, routes, talk};
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

fn source(number: u8) -> IpAddr {
    [127, 0, 0, number].into()
}

/// The idle time of keepalive and TCP_USER_TIMEOUT in milliseconds.
type Times = (Option<Duration>, u32);

fn times(socket: &OwnedFd) -> Times {
    let idle = sockopt::socket_keepalive(socket).unwrap().then(|| sockopt::tcp_keepidle(socket).unwrap());
    (idle, sockopt::tcp_user_timeout(socket).unwrap())
}

/// Those of the relay's two sockets of a session, the client's first. None where they cannot be looked at.
fn relay_times(client: &TcpStream, server: &TcpStream) -> Option<[Times; 2]> {
    let of = |peer: &TcpStream| socket_between(peer.peer_addr().unwrap(), peer.local_addr().unwrap());
    Some([times(&of(client)?), times(&of(server)?)])
}

/// A session, and the times of its sockets once something was said, so that it relays.
fn session_times(routes: &Routes) -> Option<((TcpStream, TcpStream), [Times; 2])> {
    let (client, server) = (connect(routes.from[0]), accept(&routes.to[0]));
    talk(&client, &server);
    let times = relay_times(&client, &server)?;
    Some(((client, server), times))
}

#[test]
fn connections_come_from_the_sources_in_turn() {
    let bench = bench(Splice::Auto, |config| {
        // The one of the other family is of no use here, and in nobody's way.
        config.routes[0].source = vec![source(7), [0, 0, 0, 0, 0, 0, 0, 1].into(), source(8), source(9)];
    });
    let seen: Vec<_> = (0..7)
        .map(|_| {
            let (client, server) = bench.session();
            talk(&client, &server);
            server.peer_addr().unwrap().ip()
        })
        .collect();
    assert_eq!(seen, [7, 8, 9, 7, 8, 9, 7].map(source));
}

#[test]
fn without_a_source_the_kernel_chooses() {
    let bench = bench(Splice::Auto, |_| {});
    let (_client, server) = bench.session();
    assert_eq!(server.peer_addr().unwrap().ip(), source(1));
}

#[test]
fn a_source_of_another_machine_is_an_error_at_start_and_says_what_to_write() {
    let mut config = config(Splice::Auto, [SocketAddr::from(([127, 0, 0, 1], 9))]);
    config.routes[0].source = vec![source(7), [192, 0, 2, 1].into()];
    let error = Relay::bind(config).unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error:?}");
    let expected = "cannot connect from 192.0.2.1: Cannot assign requested address (os error 99) (this machine does not \
                    have that address; write one of its own)";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_reload_changes_where_the_next_connection_comes_from_or_nothing() {
    let mut routes = routes(1, |config| config.routes[0].source = vec![source(7)]);
    let from = |routes: &Routes| {
        let (client, server) = (connect(routes.from[0]), accept(&routes.to[0]));
        talk(&client, &server);
        server.peer_addr().unwrap().ip()
    };
    assert_eq!(from(&routes), source(7));
    let error = routes.reload(|config| config.routes[0].source = vec![source(8), [192, 0, 2, 1].into()]).unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error}");
    assert_eq!(from(&routes), source(7));
    routes.reload(|config| config.routes[0].source = vec![source(8)]).unwrap();
    assert_eq!(from(&routes), source(8));
    routes.reload(|config| config.routes[0].source.clear()).unwrap();
    assert_eq!(from(&routes), source(1));
}

/// To come from an address that was not chosen would be worse than not to come: somebody admits that one only.
#[test]
fn a_name_is_not_connected_to_at_an_address_of_another_family() {
    for (sources, is_served) in [(vec![source(7)], true), (vec![[0, 0, 0, 0, 0, 0, 0, 1].into()], false)] {
        if !is_served && TcpListener::bind("[::1]:0").is_err() {
            return skipped("this machine has no IPv6");
        }
        let bench = bench(Splice::Auto, |config| {
            let Host::Address(_) = config.routes[0].to[0] else { panic!("an address") };
            let port = config.routes[0].to[0].port().unwrap();
            // The resolver has one address for this name.
            config.routes[0].to = vec![Host::name("127.0.0.1", port)];
            config.routes[0].source = sources;
        });
        if is_served {
            let (client, server) = bench.session();
            talk(&client, &server);
            assert_eq!(server.peer_addr().unwrap().ip(), source(7));
        } else {
            assert_eq!(end_of(&bench.relay.client()), Ended::Reset);
            bench.upstream.set_nonblocking(true).unwrap();
            assert_eq!(kind(bench.upstream.accept()), std::io::ErrorKind::WouldBlock);
        }
    }
}

/// A short idle time does not wait until the session is 5 s old.
#[test]
fn both_sockets_of_a_session_have_the_times_of_its_route() {
    for (keepalive, user_timeout, expected) in [
        (Some(2 * SECOND), Some(7 * SECOND), [(Some(2 * SECOND), 7000); 2]),
        (None, None, [(None, 0); 2]),
        (None, Some(SECOND), [(None, 1000); 2]),
        // The upstream's socket gets the longer times later.
        (Some(60 * SECOND), None, [(Some(60 * SECOND), 0), (None, 0)]),
    ] {
        let routes = routes(1, |config| {
            (config.routes[0].keepalive, config.routes[0].tcp_user_timeout) = (keepalive, user_timeout);
        });
        let Some((_session, times)) = session_times(&routes) else {
            return skipped("this kernel does not let a process copy its own descriptors");
        };
        assert_eq!(times, expected);
    }
}

#[test]
fn a_reload_changes_the_times_of_the_next_session_and_of_no_other() {
    let mut routes = routes(1, |config| config.routes[0].keepalive = Some(2 * SECOND));
    let Some((old, before)) = session_times(&routes) else {
        return skipped("this kernel does not let a process copy its own descriptors");
    };
    assert_eq!(before, [(Some(2 * SECOND), 0); 2]);
    let change = |keepalive, user_timeout| {
        move |config: &mut tproxy::Config| {
            (config.routes[0].keepalive, config.routes[0].tcp_user_timeout) = (keepalive, user_timeout);
        }
    };
    assert_eq!(counts(&routes.reload(change(Some(SECOND), Some(9 * SECOND))).unwrap()), [0, 1, 0, 0, 1]);
    let (new, times) = session_times(&routes).unwrap();
    assert_eq!(times, [(Some(SECOND), 9000); 2]);
    routes.reload(change(None, None)).unwrap();
    let (_newest, times) = session_times(&routes).unwrap();
    assert_eq!(times, [(None, 0); 2]);
    assert_eq!(relay_times(&old.0, &old.1), Some(before));
    assert_eq!(relay_times(&new.0, &new.1), Some([(Some(SECOND), 9000); 2]));
}

#[test]
fn a_listener_has_the_backlog_of_its_route_also_after_a_reload() {
    let mut routes = routes(1, |config| config.routes[0].backlog = 5);
    for backlog in [5, 7, 2] {
        routes.reload(|config| config.routes[0].backlog = backlog).unwrap();
        let Some(found) = backlog_of(routes.from[0]) else { return };
        assert_eq!(found, u64::from(backlog));
    }
    talk(&connect(routes.from[0]), &accept(&routes.to[0]));
}

/// A queue of one holds two (K7), and both had connected before the request.
#[test]
fn a_drain_serves_all_that_a_short_queue_holds() {
    let upstream = listener();
    let mut config = config(Splice::Auto, [address(&upstream)]);
    (config.routes[0].backlog, config.max_sessions) = (1, Some(1));
    let mut waiting = Vec::new();
    let relay =
        start_after(config, |front| waiting.extend((0..2).map(|_| limited(TcpStream::connect(front).unwrap()))));
    relay.control.stop();
    for client in &waiting {
        let server = accept(&upstream);
        talk(client, &server);
        finish(client);
        finish(&server);
        assert_eq!((end_of(client), end_of(&server)), (Ended::Fin, Ended::Fin));
    }
    assert_eq!(relay.totals().sessions, 2);
}

#[test]
fn sessions_that_moved_nothing_are_counted() {
    let bench = bench(Splice::Auto, |config| config.routes[0].log_empty = false);
    for is_reset in [true, false] {
        let (client, server) = bench.session();
        if is_reset {
            // The FIN has come through, so the relay has its upstream.
            finish(&client);
            assert_eq!(end_of(&server), Ended::Fin);
            reset(server);
            assert_eq!(end_of(&client), Ended::Reset);
        } else {
            finish(&client);
            finish(&server);
            assert_eq!((end_of(&client), end_of(&server)), (Ended::Fin, Ended::Fin));
        }
    }
    let (client, server) = bench.session();
    talk(&client, &server);
    reset(client);
    assert_eq!(end_of(&server), Ended::Reset);
    let totals = bench.relay.stop();
    assert_eq!((totals.sessions, totals.empty), (3, 2));
}
