//! The real kernel: mio's event queue, TCP sockets, the monotonic clock.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

pub use super::pipe::Pipe;
use super::{Control, Hints, Net, Ready, Stream, Time, Token, Turn, raw};

/// Clients that may wait in the kernel's queue before they are accepted. The kernel lowers it to
/// `net.core.somaxconn`, which is 4096 since Linux 5.4 (`listen(2)`).
pub const LISTEN_BACKLOG: u16 = 4096;

/// Events taken in one wait: 12 bytes each. Too few would let busy sockets crowd out quiet ones.
const EVENTS_PER_TURN: usize = 1024;

/// A dead peer is noticed within 60 s + 6 × 10 s, without ever disturbing a live one.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

/// The control's token: no socket has it, for a key never has all bits set.
const CONTROL: mio::Token = mio::Token(usize::MAX);

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a token is 64 bits wide and travels in a usize");

/// The event queue of one relay.
#[derive(Debug)]
pub struct Mio {
    poll: Poll,
    events: Events,
    epoch: Instant,
    control: Control,
    /// Ports a connecting socket may be given, and so may meet itself at.
    ephemeral: RangeInclusive<u16>,
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct Listener(TcpListener);

/// A connected TCP socket; four bytes.
#[derive(Debug)]
pub struct Socket(TcpStream);

impl Mio {
    /// An event queue that listens to `control`.
    ///
    /// # Errors
    /// When the kernel gives no epoll instance (EMFILE, ENFILE, ENOMEM) or watches no more descriptors (ENOSPC).
    pub fn new(control: Control) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&control.rx().as_raw_fd()), CONTROL, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            epoch: started(),
            control,
            ephemeral: ephemeral_ports(),
        })
    }

    /// Listens on `address`; port 0 lets the kernel choose one. A wildcard `[::]` takes IPv4 too, whatever the sysctl
    /// `net.ipv6.bindv6only` says.
    ///
    /// # Errors
    /// Those of `socket(2)`, `bind(2)` and `listen(2)`: above all EADDRINUSE, EADDRNOTAVAIL, EACCES.
    pub fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        let socket = stream_socket(address)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, false)?;
        }
        // Accepted sockets inherit these (K13): set once here, they cost nothing per client.
        set_options(&socket)?;
        set_keepalive(&socket)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, LISTEN_BACKLOG.into())?;
        let mut listener = TcpListener::from_std(socket.into());
        let token = mio_token(Token::LISTENER);
        self.poll.registry().register(&mut listener, token, Interest::READABLE)?;
        Ok(Listener(listener))
    }
}

impl Listener {
    /// The address it is bound to, the port the kernel chose included.
    ///
    /// # Errors
    /// Those of `getsockname(2)`, none of which a bound socket gives.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Net for Mio {
    type Stream = Socket;
    type Listener = Listener;

    fn wait(&mut self, until: Option<Time>, ready: &mut Vec<Ready>) -> io::Result<Turn> {
        // mio rounds a timeout up to the milliseconds of epoll_wait, so an alarm never finds itself early.
        let timeout = match until {
            None => None,
            Some(Time::START) => Some(Duration::ZERO),
            Some(moment) => Some(moment.since(self.now())),
        };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            // The events of an interrupted wait are those of the wait before it.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(error),
        }
        let mut stop = false;
        for event in &self.events {
            match event.token() {
                CONTROL => stop = self.control.take_requests(),
                mio::Token(token) => ready.push(Ready { token: Token::from_u64(token as u64), hints: hints(event) }),
            }
        }
        Ok(Turn { now: self.now(), stop })
    }

    fn accept(&mut self, from: &mut Listener) -> io::Result<(Socket, SocketAddr)> {
        let (stream, address) = from.0.accept()?;
        // On a dual-stack listener an IPv4 client shows up as ::ffff:a.b.c.d.
        Ok((Socket(stream.into()), SocketAddr::new(address.ip().to_canonical(), address.port())))
    }

    fn connect(&mut self, to: SocketAddr) -> io::Result<Socket> {
        let socket = stream_socket(to)?;
        set_options(&socket)?;
        match rustix::net::connect(&socket, &to) {
            // EINTR: the attempt goes on without us (`connect(2)`).
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(Socket(socket.into())),
            Err(error) => Err(error.into()),
        }
    }

    fn connected(&mut self, stream: &mut Socket) -> io::Result<bool> {
        // getpeername answers only for a connection (ENOTCONN while it comes about, and after a reset). To call connect
        // once more would answer too, but on an error it disconnects, and what the peer said before is thrown away.
        let Ok(them) = stream.0.peer_addr() else { return stream.take_error().map(|()| false) };
        // Nobody listens there, and the kernel chose that very port for us: SYN met SYN and we would echo the client
        // to itself (K14).
        if self.ephemeral.contains(&them.port()) && stream.0.local_addr().is_ok_and(|us| us == them) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(true)
    }

    fn register(&mut self, stream: &mut Socket, token: Token) -> io::Result<()> {
        // Nothing here dups a descriptor or forks, so closing one also ends its registration (`epoll(7)`, question 6).
        self.poll.registry().register(&mut SourceFd(&stream.0.as_raw_fd()), mio_token(token), INTEREST)
    }

    fn pipe(&mut self) -> io::Result<Pipe> {
        Pipe::new()
    }
}

impl Mio {
    fn now(&self) -> Time {
        Time::START + self.epoch.elapsed()
    }
}

impl Stream for Socket {
    const SHORT_IS_DRY: bool = cfg!(target_os = "linux");
    type Pipe = Pipe;

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // std passes MSG_NOSIGNAL.
        self.0.write(data)
    }

    fn splice_in(&mut self, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        pipe.fill(self.0.as_fd(), most)
    }

    fn splice_out(&mut self, pipe: &mut Pipe, count: usize) -> io::Result<usize> {
        pipe.empty(self.0.as_fd(), count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self.0.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => self.take_error(),
            result => result,
        }
    }

    fn take_error(&mut self) -> io::Result<()> {
        self.0.take_error()?.map_or(Ok(()), Err)
    }

    fn unacked(&self) -> io::Result<usize> {
        raw::unacked(self.0.as_fd())
    }

    fn received(&self) -> io::Result<u64> {
        raw::received(self.0.as_fd())
    }

    fn keep_alive(&mut self) {
        // Without, it is as before: a dead peer is noticed when it is owed something.
        let _ = set_keepalive(&self.0);
    }

    fn close(self) {
        // If disarming fails, so will the goodbye: the peer sees a reset, which is then the truth.
        let _ = sockopt::set_socket_linger(&self.0, None);
    }
}

/// Both directions and, where there is such a thing, the urgent mark, whose edge would otherwise say nothing (K15).
#[cfg(target_os = "linux")]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(target_os = "linux"))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

#[expect(clippy::cast_possible_truncation, reason = "a usize has 64 bits here, see the compile_error above")]
fn mio_token(token: Token) -> mio::Token {
    mio::Token(token.as_u64() as usize)
}

fn hints(event: &Event) -> Hints {
    let hints = [
        (event.is_readable(), Hints::READABLE),
        (event.is_writable(), Hints::WRITABLE),
        (event.is_read_closed() || event.is_write_closed() || is_urgent(event), Hints::READ_TO_EAGAIN),
        // A reset sets SO_ERROR before it shuts both directions down (`tcp_reset` and the barrier in `tcp_poll`), so an
        // end of input without an error was a FIN, or an error that a call has been told of already.
        (event.is_read_closed() && !event.is_error(), Hints::FIN),
        (event.is_error(), Hints::ERROR),
    ];
    hints.into_iter().filter(|(seen, _)| *seen).fold(Hints::default(), |hints, (_, bit)| hints | bit)
}

#[cfg(target_os = "linux")]
fn is_urgent(event: &Event) -> bool {
    event.is_priority()
}

#[cfg(not(target_os = "linux"))]
fn is_urgent(_: &Event) -> bool {
    false
}

/// A non-blocking TCP socket of the address's family.
fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        use rustix::net::SocketFlags;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(socket)
    }
}

fn set_options(socket: &OwnedFd) -> io::Result<()> {
    // Dropping the socket resets it: see `Stream`.
    sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
    // Small messages go out at once instead of waiting for the acknowledgement of the one before.
    sockopt::set_tcp_nodelay(socket, true)?;
    // The urgent byte stays in the stream; otherwise it would be lost (K5).
    sockopt::set_socket_oobinline(socket, true)?;
    Ok(())
}

fn set_keepalive(socket: impl AsFd) -> io::Result<()> {
    let socket = socket.as_fd();
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    Ok(())
}

/// The range of ports the kernel gives to connecting sockets (`ip(7)`, ip_local_port_range), or all where it says none.
fn ephemeral_ports() -> RangeInclusive<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok().and_then(|text| {
        let mut bounds = text.split_whitespace().map(str::parse);
        Some(bounds.next()?.ok()?..=bounds.next()?.ok()?)
    });
    range.unwrap_or(0..=u16::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the file that owns the clock")]
fn started() -> Instant {
    Instant::now()
}

/// Would a connection to `upstream` end at the listener bound to `listening`, under whatever alias?
pub fn leads_to_itself(listening: SocketAddr, upstream: SocketAddr) -> bool {
    let (here, mut there) = (listening.ip().to_canonical(), upstream);
    // As an upstream, a wildcard means loopback.
    there.set_ip(match upstream.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        address => address,
    });
    // A wildcard listener takes every address that is ours, `[::]` those of IPv4 too.
    let takes_all = here.is_unspecified() && (here.is_ipv6() || there.is_ipv4());
    listening.port() == there.port() && (here == there.ip() || (takes_all && is_ours(there)))
}

/// Is this address one of this machine's? Then a socket can be bound to it (K18); and since the sysctl
/// `net.ipv4.ip_nonlocal_bind` lets a socket be bound to any, what is sent there would also come from there.
fn is_ours(address: SocketAddr) -> bool {
    let mut anywhere = address;
    anywhere.set_port(0);
    let comes_from_there = |socket: UdpSocket| {
        socket.connect(address).is_ok() && socket.local_addr().is_ok_and(|from| from.ip() == address.ip())
    };
    let unbound = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(anywhere).is_ok()
        && (address.ip().is_loopback() || UdpSocket::bind(unbound).is_ok_and(comes_from_there))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener as StdListener;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_relay_to_itself_is_recognised_under_every_alias() {
        for (listening, upstream) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "0.0.0.0:80"),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.2:80"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("0.0.0.0:80", "[::ffff:127.9.9.9]:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("[::]:80", "0.0.0.0:80"),
            ("[::]:80", "[::]:80"),
            ("[::]:80", "[::1]:80"),
            ("[::1]:80", "[::]:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
        ] {
            assert!(leads_to_itself(address(listening), address(upstream)), "{listening} <- {upstream}");
        }
    }

    #[test]
    fn another_port_another_address_or_another_host_is_no_loop() {
        for (listening, upstream) in [
            ("127.0.0.1:80", "127.0.0.1:81"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("127.0.0.2:80", "0.0.0.0:80"),
            ("0.0.0.0:80", "192.0.2.1:80"),
            ("[::]:80", "192.0.2.1:80"),
            ("[::]:80", "[2001:db8::1]:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("127.0.0.1:80", "[::]:80"),
        ] {
            assert!(!leads_to_itself(address(listening), address(upstream)), "{listening} <- {upstream}");
        }
    }

    /// K13: what the options cost the listener, an accepted socket has for free.
    #[test]
    fn both_ends_carry_every_option() {
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        let mut listener = net.listen(address("127.0.0.1:0")).unwrap();
        let mut dialled = net.connect(listener.local_addr().unwrap()).unwrap();
        while !net.connected(&mut dialled).unwrap() {}
        let (accepted, client) = net.accept(&mut listener).unwrap();
        assert_eq!(client, dialled.0.local_addr().unwrap());
        dialled.keep_alive();
        for socket in [dialled, accepted] {
            assert_eq!(sockopt::socket_linger(&socket.0).unwrap(), Some(Duration::ZERO));
            assert!(sockopt::tcp_nodelay(&socket.0).unwrap());
            assert!(sockopt::socket_oobinline(&socket.0).unwrap());
            assert!(sockopt::socket_keepalive(&socket.0).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&socket.0).unwrap(), KEEPALIVE_IDLE);
            assert_eq!(sockopt::tcp_keepintvl(&socket.0).unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(sockopt::tcp_keepcnt(&socket.0).unwrap(), KEEPALIVE_PROBES);
            assert!(rustix::fs::fcntl_getfl(&socket.0).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
            assert!(rustix::io::fcntl_getfd(&socket.0).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn a_wildcard_listener_takes_both_families() {
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        let mut listener = net.listen(address("[::]:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "::1"] {
            let _client = TcpStream::connect((host, port)).unwrap();
            let (_stream, from) = net.accept(&mut listener).unwrap();
            assert_eq!(from.ip().to_string(), host);
        }
    }

    /// K14, without waiting for the kernel to choose the unlucky port: the socket is bound to it before it connects.
    #[test]
    fn a_socket_connected_to_itself_was_refused() {
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        let port = net.ephemeral.clone().find(|port| StdListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let socket = stream_socket(to).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::bind(&socket, &to).unwrap();
        let begun = rustix::net::connect(&socket, &to);
        assert!(matches!(begun, Ok(()) | Err(Errno::INPROGRESS)), "{begun:?}");
        let error = net.connected(&mut Socket(socket.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_refused_connection_says_so_once_it_is_over() {
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        let closed = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut socket = net.connect(closed).unwrap();
        let error = net.connected(&mut socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
