//! Which options sockets have on the real kernel: accepted and connected ones, before and after a listener was changed.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;

use super::options::{KEEPALIVE_INTERVAL, KEEPALIVE_PROBES};
use super::*;
use crate::net::{KEEPALIVE, Peer};

const TOKEN: Token = Token::new(1, 0, Peer::Upstream);

/// What a route may ask for of a socket: the idle time of keepalive, and TCP_USER_TIMEOUT in milliseconds.
fn times(socket: &Socket) -> (Option<Duration>, u32) {
    let keeps = sockopt::socket_keepalive(socket).unwrap();
    if keeps {
        assert_eq!(sockopt::tcp_keepintvl(socket).unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(sockopt::tcp_keepcnt(socket).unwrap(), KEEPALIVE_PROBES);
    }
    let idle = keeps.then(|| sockopt::tcp_keepidle(socket).unwrap());
    (idle, sockopt::tcp_user_timeout(socket).unwrap())
}

fn listen(net: &mut Mio, how: &ListenOptions) -> (Listener, SocketAddr) {
    let any = "127.0.0.1:0".parse().unwrap();
    let (listener, bound) = net.listen(&any, how, Token::listener(0)).unwrap();
    (listener, bound.inet().unwrap())
}

fn connect(net: &mut Mio, to: SocketAddr, source: Option<IpAddr>) -> Socket {
    let mut socket = net.connect(&to.into(), source, TOKEN).unwrap();
    while !net.connected(&mut socket).unwrap() {}
    socket
}

fn net() -> Mio {
    Mio::new(Control::new().unwrap()).unwrap()
}

/// K13: what the options cost the listener, an accepted socket has for free.
#[test]
fn both_ends_carry_every_option() {
    let mut net = net();
    let how = ListenOptions { user_timeout: Some(Duration::from_micros(30_000_001)), ..ListenOptions::default() };
    let (mut listener, bound) = listen(&mut net, &how);
    let mut dialled = connect(&mut net, bound, Some([127, 0, 0, 7].into()));
    let (accepted, client) = net.accept(&mut listener).unwrap();
    let local: SocketAddr = rustix::net::getsockname(&dialled).unwrap().try_into().unwrap();
    assert_eq!((client.address(), client.ip()), (Some(local), Some(IpAddr::from([127, 0, 0, 7]))));
    assert_eq!(times(&dialled), (None, 0), "a connected socket has what its route asks for later, and no more");
    dialled.keep_alive(KEEPALIVE);
    dialled.set_user_timeout(how.user_timeout.unwrap());
    for socket in [&dialled, &accepted] {
        assert_eq!(sockopt::socket_linger(socket).unwrap(), Some(Duration::ZERO));
        assert!(sockopt::tcp_nodelay(socket).unwrap());
        assert!(sockopt::socket_oobinline(socket).unwrap());
        assert_eq!(times(socket), (Some(KEEPALIVE), 30_001));
        assert!(rustix::fs::fcntl_getfl(socket).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
        assert!(rustix::io::fcntl_getfd(socket).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}

#[test]
fn the_longest_times_are_taken_by_the_kernel() {
    let mut net = net();
    let (most, longest) = (Duration::from_secs(32_767), Duration::from_millis(2_147_483_647));
    let how = ListenOptions {
        backlog: u16::MAX,
        keepalive: Some(most),
        user_timeout: Some(longest),
        ..ListenOptions::default()
    };
    let (mut listener, bound) = listen(&mut net, &how);
    let _client = TcpStream::connect(bound).unwrap();
    let (accepted, _) = net.accept(&mut listener).unwrap();
    assert_eq!(times(&accepted), (Some(most), 2_147_483_647));
}

#[test]
fn a_listener_without_keepalive_gives_sockets_without() {
    let mut net = net();
    let how = ListenOptions { keepalive: None, ..ListenOptions::default() };
    let (mut listener, bound) = listen(&mut net, &how);
    let _client = TcpStream::connect(bound).unwrap();
    let (accepted, _) = net.accept(&mut listener).unwrap();
    assert_eq!(times(&accepted), (None, 0));
}

/// K23. A client that had connected before keeps what it has; the next get what the listener has now.
#[test]
fn a_changed_listener_gives_its_next_clients_the_new_times() {
    let mut net = net();
    let second = Duration::from_secs(1);
    let plain = (Some(KEEPALIVE), 0);
    let (mut listener, bound) = listen(&mut net, &ListenOptions::default());
    let mut before = plain;
    for (keepalive, user_timeout, expected) in [
        (Some(7 * second), Some(second), (Some(7 * second), 1000)),
        (None, None, (None, 0)),
        (Some(KEEPALIVE), None, plain),
    ] {
        let _waits = TcpStream::connect(bound).unwrap();
        net.change_listener(&mut listener, &ListenOptions { keepalive, user_timeout, ..ListenOptions::default() })
            .unwrap();
        let _next = TcpStream::connect(bound).unwrap();
        let [first, second] = [(); 2].map(|()| net.accept(&mut listener).unwrap().0);
        assert_eq!((times(&first), times(&second)), (before, expected));
        before = expected;
    }
}

/// Clients that the kernel lets in while nobody accepts.
fn let_in(net: &mut Mio, listener: &mut Listener, bound: &Address) -> usize {
    // A Unix socket refuses those for whom there is no room; another leaves them waiting.
    let clients: Vec<_> = (0..9).map(|_| net.connect(bound, None, TOKEN)).collect();
    // On loopback, the handshake of a client that is let in is over when connect(2) returns.
    let accepted = std::iter::from_fn(|| net.accept(listener).ok()).count();
    drop(clients);
    accepted
}

/// K7: the queue holds one more than was asked for. listen(2) may be called again, and keeps the queue.
#[test]
fn a_changed_listener_has_the_new_backlog() {
    let mut net = net();
    let how = |backlog| ListenOptions { backlog, ..ListenOptions::default() };
    let name = format!("\0tproxy-backlog-{}", std::process::id());
    for at in [Address::from(SocketAddr::from(([127, 0, 0, 1], 0))), Address::Unix(name.as_bytes().into())] {
        let (mut listener, bound) = net.listen(&at, &how(2), Token::listener(0)).unwrap();
        assert_eq!(let_in(&mut net, &mut listener, &bound), 3);
        net.change_listener(&mut listener, &how(5)).unwrap();
        assert_eq!(let_in(&mut net, &mut listener, &bound), 6);
        net.change_listener(&mut listener, &how(1)).unwrap();
        assert_eq!(let_in(&mut net, &mut listener, &bound), 2);
    }
}

#[test]
fn to_connect_from_an_address_of_another_machine_is_no_failure_of_the_upstream() {
    let mut net = net();
    let (_listener, bound) = listen(&mut net, &ListenOptions::default());
    let error = net.connect(&bound.into(), Some([192, 0, 2, 1].into()), TOKEN).unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::AddrNotAvailable, None), "{error}");
    assert!(net.may_connect_from([192, 0, 2, 1].into()).is_err());
    net.may_connect_from([127, 0, 0, 9].into()).unwrap();
}

/// K14: a socket that is bound to its upstream's address and gets its port has met itself, as any other.
#[test]
fn a_source_that_is_the_upstream_makes_no_connection_to_itself() {
    let mut net = net();
    let (_listener, bound) = listen(&mut net, &ListenOptions::default());
    let mut socket = connect(&mut net, bound, Some(bound.ip()));
    assert!(net.connected(&mut socket).unwrap());
}
