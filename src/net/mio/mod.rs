//! The real kernel: mio's event queue, TCP and Unix sockets, the monotonic clock.

mod found;
mod inherited;
mod listen;
mod loopback;
mod options;
mod pipe;
mod raw;
mod resolver;
mod socket;
mod source;
mod unix;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use rustix::io::Errno;

use super::{
    Address, AddressKey, Client, Closing, Control, Handed, Hints, Histogram, ListenOptions, Message, NameId, Net,
    Ready, Sleep, Stream, Time, Token,
};
pub use inherited::Inherited;
pub use listen::Listener;
pub use loopback::{is_ours, key, leads_to_itself};
use options::{set_options, set_unix_options, stream_socket, unix_socket};
pub use pipe::Pipe;
use resolver::Resolver;
pub use resolver::look_up;
pub use socket::Socket;
use unix::socket_address;

/// Events taken in one wait: 12 bytes each. Too few would let busy sockets crowd out quiet ones.
const EVENTS_PER_TURN: usize = 1024;

/// One turn of so many is measured, because reading the clock costs something.
const MEASURED: u32 = 8;

/// The control's token. No socket has it: no key has all bits set.
const CONTROL: mio::Token = mio::Token(usize::MAX);

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a token is 64 bits wide and travels in a usize");

/// The event queue of one relay.
#[derive(Debug)]
pub struct Mio {
    poll: Poll,
    events: Events,
    epoch: Instant,
    resolver: Resolver,
    control: Control,
    /// When the last wait ended, and how many there were.
    woken: Time,
    turns: u32,
    turn_times: Histogram,
    /// Listening sockets of which no route has made use.
    inherited: Vec<Inherited>,
    _ends: Ends,
}

impl Mio {
    /// An event queue that listens to `control`.
    ///
    /// # Errors
    /// When the kernel gives no epoll instance (EMFILE, ENFILE, ENOMEM) or watches no more descriptors (ENOSPC).
    pub fn new(control: Control) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&control.wake_fd().as_raw_fd()), CONTROL, Interest::READABLE)?;
        let resolver = Resolver::new(control.clone());
        let (events, ends) = (Events::with_capacity(EVENTS_PER_TURN), Ends(control.clone()));
        Ok(Self {
            poll,
            events,
            epoch: started(),
            resolver,
            control,
            woken: Time::START,
            turns: 0,
            turn_times: Histogram::default(),
            inherited: Vec::new(),
            _ends: ends,
        })
    }

    /// From now on a listener at the address of one of these sockets takes it.
    pub fn inherit(&mut self, sockets: impl IntoIterator<Item = Inherited>) {
        self.inherited.extend(sockets);
    }

    fn now(&self) -> Time {
        Time::START + self.epoch.elapsed()
    }
}

/// The end of the loop. Somebody may wait for an answer.
#[derive(Debug)]
struct Ends(Control);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Net for Mio {
    type Stream = Socket;
    type Listener = Listener;

    fn wait(&mut self, sleep: Sleep, ready: &mut Vec<Ready>, messages: &mut Vec<Message>) -> io::Result<Time> {
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(MEASURED) {
            self.turn_times.add(self.now().since(self.woken));
        }
        // mio rounds a timeout up to the milliseconds of epoll_wait, so an alarm never finds itself early.
        let timeout = match sleep {
            Sleep::Not => Some(Duration::ZERO),
            Sleep::Until(moment) => Some(moment.since(self.now())),
            Sleep::Forever => None,
        };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            // The events of an interrupted wait are those of the wait before it.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(error),
        }
        for event in &self.events {
            match event.token() {
                CONTROL => self.control.take(messages),
                mio::Token(token) => ready.push(Ready { token: Token::from_u64(token as u64), hints: hints(event) }),
            }
        }
        self.woken = self.now();
        Ok(self.woken)
    }

    fn turn_times(&self) -> Histogram {
        self.turn_times
    }

    fn listen(&mut self, at: &Address, how: &ListenOptions, token: Token) -> io::Result<(Listener, Address)> {
        let known = self.inherited.iter().position(|socket| socket.address() == at);
        // In their order: several may be known by one address if the port in it is 0.
        let (listener, bound) = match known {
            Some(index) => self.inherited.remove(index).listen(how)?,
            None => Listener::bind(at, how)?,
        };
        let mut source = SourceFd(&listener.as_fd().as_raw_fd());
        self.poll.registry().register(&mut source, mio_token(token), Interest::READABLE)?;
        Ok((listener, bound))
    }

    fn change_listener(&mut self, listener: &mut Listener, how: &ListenOptions) -> io::Result<()> {
        listener.change(how)
    }

    fn unlisten(&mut self, listener: Listener, why: Closing) {
        // Closing the last descriptor ends its events too. This matters when another process has one (K25).
        let _ = self.poll.registry().deregister(&mut SourceFd(&listener.as_fd().as_raw_fd()));
        self.inherited.extend(listener.close(why));
    }

    fn hand_over(&mut self, listeners: &mut dyn Iterator<Item = &Listener>) -> Vec<Handed> {
        let kept = self.inherited.iter();
        let kept = kept.map(|socket| Handed::new(socket.address().clone(), Arc::clone(socket.socket()), false));
        listeners.map(Listener::hand_over).chain(kept).collect()
    }

    fn resolve(&mut self, name: NameId, host: &str) {
        self.resolver.ask(name, host);
    }

    fn key(&mut self, of: &Address) -> AddressKey {
        key(of)
    }

    fn leads_back(&mut self, listening: SocketAddr, upstream: SocketAddr) -> bool {
        leads_to_itself(listening, upstream)
    }

    fn accept(&mut self, from: &mut Listener) -> io::Result<(Socket, Client)> {
        from.accept()
    }

    fn may_connect_from(&mut self, source: IpAddr) -> io::Result<()> {
        source::check(source)
    }

    fn connect(&mut self, to: &Address, source: Option<IpAddr>, token: Token) -> io::Result<Socket> {
        let mut stream = match to {
            Address::Inet(address) => {
                let socket = stream_socket(*address)?;
                if let Some(source) = source {
                    source::bind(&socket, source, *address)?;
                }
                set_options(&socket)?;
                match rustix::net::connect(&socket, address) {
                    // EINTR: the attempt goes on without us (`connect(2)`).
                    Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                Socket::tcp(socket)
            }
            Address::Unix(name) => {
                let socket = unix_socket()?;
                set_unix_options(&socket)?;
                // At once, or not at all (K22): a connection is never under way.
                rustix::net::connect(&socket, &socket_address(name)?)?;
                Socket::unix(socket)
            }
        };
        self.register(&mut stream, token)?;
        Ok(stream)
    }

    fn connected(&mut self, stream: &mut Socket) -> io::Result<bool> {
        if stream.is_unix() {
            return Ok(true);
        }
        // getpeername answers only for a connection (ENOTCONN while it is under way, and after a reset). A second
        // connect(2) would answer too, but on an error it disconnects and drops what the peer said before.
        let Ok(them) = rustix::net::getpeername(&*stream) else { return stream.take_error().map(|()| false) };
        // Nothing listens there, and the kernel chose that very port for us: the SYN met itself, and we would echo the
        // client to itself (K14). This can happen only where the upstream's address is one of this machine's and its port
        // one that the kernel chooses from. Both can change while we run, so every connection is asked.
        if rustix::net::getsockname(&*stream).is_ok_and(|us| Some(us) == them) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(true)
    }

    fn register(&mut self, stream: &mut Socket, token: Token) -> io::Result<()> {
        // Nothing here dups a descriptor or forks, so closing one also ends its registration (`epoll(7)`, question 6).
        self.poll.registry().register(&mut SourceFd(&stream.as_fd().as_raw_fd()), mio_token(token), INTEREST)
    }

    fn pipe(&mut self) -> io::Result<Pipe> {
        Pipe::new()
    }
}

/// Both directions and, on Linux, the urgent mark. Without it the edge of an urgent byte would carry no hint (K15).
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
        // Both directions are over. A Unix peer that closes shuts them down before it sets SO_ERROR (K20), so this may be
        // half of the news.
        (event.is_write_closed() && !event.is_error(), Hints::HANG_UP),
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

#[expect(clippy::disallowed_methods, reason = "this is the file that owns the clock")]
fn started() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod option_tests;

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener as StdListener, TcpStream};

    use rustix::net::sockopt;

    use super::*;
    use crate::net::Peer;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn listen(net: &mut Mio, at: &str) -> (Listener, SocketAddr) {
        let (listener, bound) = net.listen(&address(at).into(), &ListenOptions::default(), Token::listener(0)).unwrap();
        (listener, bound.inet().unwrap())
    }

    #[test]
    fn a_wait_that_nothing_ends_lasts_as_long_as_was_asked() {
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        let (mut ready, mut messages) = (Vec::new(), Vec::new());
        for micros in [1, 999, 1001, 1500, 2999] {
            let now = net.wait(Sleep::Not, &mut ready, &mut messages).unwrap();
            let until = now + Duration::from_micros(micros);
            let woken = net.wait(Sleep::Until(until), &mut ready, &mut messages).unwrap();
            assert!(woken >= until, "{:?} too early", until.since(woken));
        }
        assert!(ready.is_empty() && messages.is_empty());
    }

    #[test]
    fn the_time_of_a_turn_is_work_and_no_sleep() {
        let nap = Duration::from_millis(50);
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        let mut now = Time::START;
        for _ in 0..=MEASURED {
            now = net.wait(Sleep::Until(now + nap), &mut Vec::new(), &mut Vec::new()).unwrap();
        }
        assert!(net.turn_times().up_to().last().unwrap().1 > 0 && net.turn_times().sum() < nap);
    }

    #[test]
    fn a_wildcard_listener_takes_both_families() {
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        let (mut listener, bound) = listen(&mut net, "[::]:0");
        let port = bound.port();
        for host in ["127.0.0.1", "::1"] {
            let _client = TcpStream::connect((host, port)).unwrap();
            let (_stream, from) = net.accept(&mut listener).unwrap();
            assert_eq!(from.ip().unwrap().to_string(), host);
        }
    }

    /// K14, without waiting for the kernel to choose the unlucky port: the socket is bound to it before it connects.
    fn connected_to_itself(net: &mut Mio, at: SocketAddr) -> io::Result<bool> {
        let socket = stream_socket(at).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::bind(&socket, &at)?;
        let to = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        let begun = rustix::net::connect(&socket, &to);
        assert!(matches!(begun, Ok(()) | Err(Errno::INPROGRESS)), "{begun:?}");
        let mut socket = Socket::tcp(socket);
        loop {
            match net.connected(&mut socket) {
                Ok(false) => {}
                ended => return ended,
            }
        }
    }

    #[test]
    fn a_socket_connected_to_itself_was_refused() {
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        for host in ["127.0.0.1:0", "127.9.9.9:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            let error = connected_to_itself(&mut net, address(host)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{host}");
        }
    }

    /// `sysctl net.ipv4.ip_local_port_range` can be changed while the relay runs.
    #[test]
    fn a_socket_connected_to_itself_was_refused_whatever_ports_the_kernel_chooses_from() {
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let bounds: Vec<u16> = range.split_whitespace().map(|bound| bound.parse().unwrap()).collect();
        // On a machine that chooses from all ports there is none outside, and nothing to be shown.
        for port in (1024..bounds[0]).chain((bounds[1]..=u16::MAX).skip(1)) {
            let error = connected_to_itself(&mut net, SocketAddr::from(([127, 0, 0, 1], port))).unwrap_err();
            if error.kind() != io::ErrorKind::AddrInUse {
                return assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{port}");
            }
        }
    }

    #[test]
    fn a_refused_connection_says_so_once_it_is_over() {
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        let closed = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut socket = net.connect(&closed.into(), None, Token::new(1, 0, Peer::Upstream)).unwrap();
        let error = net.connected(&mut socket).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
