//! The two ends of a relay: what they do, and what they see. Every call has a limit.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::patience::{A_WHILE, LIMIT};
use crate::process::Relay;

/// A server that accepts when told to.
pub(crate) struct Upstream {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Upstream {
    pub(crate) fn new() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        sockopt::set_socket_timeout(&listener, Timeout::Recv, Some(LIMIT)).unwrap();
        Self { listener, address }
    }

    /// Waits for the next connection.
    pub(crate) fn accept(&self) -> TcpStream {
        limited(self.listener.accept().expect("a connection should have come").0)
    }

    /// Refuses everybody from now on. shutdown(2) ends listening only, so that the port stays ours.
    pub(crate) fn refuse(&self) {
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).unwrap();
    }

    /// Does nobody come for a while?
    pub(crate) fn is_left_alone(&self) -> bool {
        sockopt::set_socket_timeout(&self.listener, Timeout::Recv, Some(A_WHILE)).unwrap();
        let came = self.listener.accept();
        sockopt::set_socket_timeout(&self.listener, Timeout::Recv, Some(LIMIT)).unwrap();
        came.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// A session through the relay: the client's end and this one.
    pub(crate) fn session(&self, relay: &Relay) -> (TcpStream, TcpStream) {
        let client = client(relay.address);
        (client, self.accept())
    }

    /// A session from its beginning to its good end, and whose it was.
    pub(crate) fn brief_session(&self, relay: &Relay) -> SocketAddr {
        let (client, server) = self.session(relay);
        finish(&client);
        answer(server);
        assert_eq!(end_of(&client), Ended::Fin);
        client.local_addr().unwrap()
    }

    /// Answers everybody from now on, in so many threads, until nobody has come for a long time.
    pub(crate) fn answer_all(&self, threads: usize) {
        for _ in 0..threads {
            let listener = self.listener.try_clone().unwrap();
            std::thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    let mut stream = limited(stream);
                    // A test may well stop its relay before this is said.
                    let _ = stream.write_all(&read_all(&stream).0);
                }
            });
        }
    }
}

impl AsFd for Upstream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Has this machine IPv6? Some containers have not.
pub(crate) fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// Reads all there is, says it back and closes.
pub(crate) fn answer(mut stream: TcpStream) {
    let (said, ended) = read_all(&stream);
    assert_eq!(ended, Ended::Fin);
    stream.write_all(&said).unwrap();
}

pub(crate) fn client(relay: SocketAddr) -> TcpStream {
    limited(TcpStream::connect_timeout(&relay, LIMIT).unwrap())
}

pub(crate) fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// How a stream ended, for who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Fin,
    Reset,
}

/// Bytes that a test says at most. Somebody who never ends would fill the machine's memory.
const MOST: u64 = 1 << 30;

/// Everything there is to read, and how it ended.
pub(crate) fn read_all(stream: &TcpStream) -> (Vec<u8>, Ended) {
    let mut all = Vec::new();
    match stream.take(MOST).read_to_end(&mut all) {
        Ok(count) if count as u64 == MOST => panic!("there is no end"),
        Ok(_) => (all, Ended::Fin),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => (all, Ended::Reset),
        Err(error) => panic!("after {} bytes: {error}", all.len()),
    }
}

/// How it ends, after nothing.
pub(crate) fn end_of(stream: &TcpStream) -> Ended {
    let (rest, ended) = read_all(stream);
    assert_eq!(rest.len(), 0, "nothing was to come but the end");
    ended
}

/// How it ends for a client that says nothing, and hears nothing before.
pub(crate) fn fate_of_a_client(relay: SocketAddr) -> Ended {
    match TcpStream::connect_timeout(&relay, LIMIT) {
        Ok(stream) => end_of(&limited(stream)),
        // Reset before this end had looked whether it is connected.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ended::Reset,
        Err(error) => panic!("{error}"),
    }
}

/// Is there nothing to read now, not even an end?
pub(crate) fn is_quiet(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let seen = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    seen.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

pub(crate) fn say(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
}

pub(crate) fn hear(mut stream: &TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Says all of this at one end and hears it at the other, while it is being said.
pub(crate) fn relayed(from: &TcpStream, to: &TcpStream, bytes: &[u8]) {
    std::thread::scope(|scope| {
        scope.spawn(|| say(from, bytes));
        assert!(hear(to, bytes.len()) == bytes, "the same bytes in the same order");
    });
}

/// Says something until nobody takes any more of it, for a while.
pub(crate) fn clog(mut stream: &TcpStream) {
    stream.set_write_timeout(Some(A_WHILE)).unwrap();
    let chunk = bytes(1, 256 << 10);
    let error = loop {
        if let Err(error) = stream.write(&chunk) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

/// A FIN.
pub(crate) fn finish(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// A reset.
pub(crate) fn reset(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Is a new client refused?
pub(crate) fn is_refused(address: SocketAddr) -> bool {
    match TcpStream::connect_timeout(&address, LIMIT) {
        Ok(_) => false,
        // A client that came just before the listener went is reset instead.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            true
        }
    }
}

/// So many bytes that any loss, repetition or mix-up shows.
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// An address that is taken, so that nobody else gets it, and refuses everybody: bound, but not listening.
pub(crate) struct Nobody {
    socket: OwnedFd,
    pub(crate) address: SocketAddr,
}

impl Nobody {
    /// At a loopback address.
    pub(crate) fn new() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn on(address: SocketAddr) -> Self {
        let socket = socket();
        // Whoever sets this too may listen there, as long as we do not.
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::bind(&socket, &address).unwrap();
        let address = rustix::net::getsockname(&socket).unwrap().try_into().unwrap();
        Self { socket, address }
    }

    /// Somebody after all.
    pub(crate) fn listen(self) -> Upstream {
        rustix::net::listen(&self.socket, 16).unwrap();
        sockopt::set_socket_timeout(&self.socket, Timeout::Recv, Some(LIMIT)).unwrap();
        Upstream { listener: self.socket.into(), address: self.address }
    }
}

/// An address that answers no SYN: its queue, of one, is full (K7).
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _sockets: (OwnedFd, TcpStream),
}

impl BlackHole {
    pub(crate) fn new() -> Self {
        let listener = socket();
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
        let filler = client(address);
        Self { address, _sockets: (listener, filler) }
    }
}

/// One that no child inherits, whichever test starts one at this moment.
fn socket() -> OwnedFd {
    rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}
