//! What the kernel reports of the relay's sockets, against figures that are written out here.

#![cfg(target_os = "linux")]

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::sockopt;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tproxy::Control;
use tproxy::net::mio::{Listener, Mio};
use tproxy::net::{ListenOptions, Net as _, Peer, Stream as _, Token};

use crate::support::*;

#[test]
fn accepted_and_connected_sockets_have_the_options_that_were_promised() {
    let upstream = listener();
    let mut net = Mio::new(Control::new().unwrap()).unwrap();
    let (mut listener, front) = listen(&mut net);
    let client = TcpStream::connect(front).unwrap();
    let _accepted = net.accept(&mut listener).unwrap();
    let mut connected =
        net.connect(&upstream.local_addr().unwrap().into(), None, Token::new(1, 0, Peer::Upstream)).unwrap();
    let (_server, us) = upstream.accept().unwrap();
    until("it is connected", || net.connected(&mut connected).unwrap());
    connected.keep_alive(tproxy::net::KEEPALIVE);
    let pairs = [(client.peer_addr().unwrap(), client.local_addr().unwrap()), (us, upstream.local_addr().unwrap())];
    for (local, peer) in pairs {
        let Some(socket) = socket_between(local, peer) else {
            return skipped("this kernel does not let a process copy its own descriptors");
        };
        assert_eq!(sockopt::socket_linger(&socket).unwrap(), Some(Duration::ZERO));
        assert!(sockopt::tcp_nodelay(&socket).unwrap());
        assert!(sockopt::socket_oobinline(&socket).unwrap());
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), Duration::from_secs(60));
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), Duration::from_secs(10));
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), 6);
    }
}

#[test]
fn four_thousand_and_ninety_six_clients_may_wait_in_the_queue() {
    let mut net = Mio::new(Control::new().unwrap()).unwrap();
    let (_listener, front) = listen(&mut net);
    let Some(backlog) = backlog_of(front) else { return };
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let most: u64 = somaxconn.trim().parse().unwrap();
    assert_eq!(backlog, most.min(4096));
}

/// How many clients may wait at this listener, if `ss` can say.
pub(crate) fn backlog_of(front: SocketAddr) -> Option<u64> {
    let port = front.port();
    let table = match Command::new("ss").args(["-ltnH", &format!("sport = :{port}")]).output() {
        Ok(output) => String::from_utf8(output.stdout).unwrap(),
        Err(error) => {
            skipped(&format!("ss: {error}"));
            return None;
        }
    };
    // State, Recv-Q, Send-Q: of a listener, how many may wait.
    let Some(backlog) = table.split_whitespace().nth(2) else {
        skipped("ss does not see this listener");
        return None;
    };
    Some(backlog.parse().unwrap())
}

/// What the peer's kernel did not take is counted, whether it was sent or not.
#[test]
fn bytes_behind_a_full_window_and_the_fin_are_not_acknowledged() {
    let (mut net, server) = (Mio::new(Control::new().unwrap()).unwrap(), listener());
    let mut stream = net.connect(&server.local_addr().unwrap().into(), None, Token::new(1, 0, Peer::Upstream)).unwrap();
    let (peer, _) = server.accept().unwrap();
    until("it is connected", || net.connected(&mut stream).unwrap());
    assert_eq!(stream.unacked().unwrap(), 0);
    let (chunk, mut written) = (vec![0; 64 << 10], 0);
    let error = loop {
        match stream.write(&chunk) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let arrived = || usize::try_from(rustix::io::ioctl_fionread(&peer).unwrap()).unwrap();
    // An acknowledgement may be on its way.
    until("what did not arrive is counted", || stream.unacked().unwrap() == written - arrived());
    assert!(arrived() < written);
    stream.shutdown_write().unwrap();
    until("the FIN is counted too", || stream.unacked().unwrap() == written + 1 - arrived());
}

/// The peer delays its acknowledgement by 40 ms, as a peer that answers does. The byte has been sent, so only SIOCOUTQ
/// counts it. A busy machine may ask too late, so there are many tries.
#[test]
fn a_byte_that_was_sent_counts_until_it_is_acknowledged() {
    let (mut net, server) = (Mio::new(Control::new().unwrap()).unwrap(), listener());
    let mut stream = net.connect(&server.local_addr().unwrap().into(), None, Token::new(1, 0, Peer::Upstream)).unwrap();
    let mut peer = limited(server.accept().unwrap().0);
    until("it is connected", || net.connected(&mut stream).unwrap());
    until("a byte is sent and not acknowledged", || {
        sockopt::set_tcp_quickack(&peer, false).unwrap();
        assert_eq!(stream.write(b"x").unwrap(), 1);
        let unacked = stream.unacked().unwrap();
        read_exactly(&peer, 1);
        peer.write_all(b"y").unwrap();
        until("the answer is there", || stream.read(&mut [0; 8]).is_ok());
        until("it is acknowledged", || stream.unacked().unwrap() == 0);
        unacked == 1
    });
}

/// A listener as a route has it, and its address.
fn listen(net: &mut Mio) -> (Listener, SocketAddr) {
    let at = "127.0.0.1:0".parse().unwrap();
    let (listener, bound) = net.listen(&at, &ListenOptions::default(), Token::listener(0)).unwrap();
    (listener, bound.to_string().parse().unwrap())
}

/// A copy of this process's socket with these ends.
pub(crate) fn socket_between(local: SocketAddr, peer: SocketAddr) -> Option<OwnedFd> {
    let process = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).ok()?;
    let numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    // Other tests open and close descriptors at the same time.
    let copies = numbers.into_iter().map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()));
    let mut sockets = copies.filter(|copy| !matches!(copy, Err(rustix::io::Errno::BADF))).map_while(Result::ok);
    let ends =
        |socket: &OwnedFd| Some((rustix::net::getsockname(socket).ok()?, rustix::net::getpeername(socket).ok()??));
    sockets.find(|socket| ends(socket).is_some_and(|ends| ends == (local.into(), peer.into())))
}

/// Says that a test checks nothing here, for this reason.
#[expect(clippy::print_stderr, reason = "the test harness is who reads this")]
pub(crate) fn skipped(reason: &str) {
    eprintln!("skipped: {reason}");
}
