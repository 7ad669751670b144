//! Two kernels under one script: the simulated one, and the one this test runs on, through the relay's own `net::mio`.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketType, sockopt};
use rustix::process::Signal;
use tproxy::net::mio::{Listener, Mio};
use tproxy::net::{Control, Hints, ListenOptions, Net, Peer, Sleep, Stream, Time, Token};

use crate::conn::{Life, Who};
use crate::plan::{Dial, Plan};
use crate::seam::{SimListener, SimNet, SimStream, inet};
use crate::trace::Trace;
use crate::world::World;

/// How long nothing must happen before it counts as nothing.
pub(crate) const QUIET: Duration = Duration::from_millis(20);

/// A kernel, and the peers at its other end.
pub(crate) trait Rig: Sized {
    type Net: Net;

    fn new() -> Self;
    fn net(&mut self) -> &mut Self::Net;
    fn listener(&mut self) -> (&mut Self::Net, &mut <Self::Net as Net>::Listener);
    fn stop_listening(&mut self);

    /// A client connects to the listener. Peers have numbers.
    fn client(&mut self) -> usize;
    /// Somebody listens here, or nobody does.
    fn upstream(&mut self, there: bool) -> SocketAddr;
    /// Somebody listens here, and his queue is full.
    fn full_upstream(&mut self) -> SocketAddr;
    /// A connection of the relay that met itself.
    fn met_itself(&mut self) -> <Self::Net as Net>::Stream;
    /// From now on clients come to a listener that holds one in its queue and accepts nobody: `listen(0)`.
    fn narrow(&mut self);
    /// A client whose SYN is out.
    fn knock(&mut self) -> usize;
    /// Is it answered, within that time?
    fn is_answered(&mut self, peer: usize, within: Duration) -> bool;
    /// The narrow listener accepts one.
    fn make_room(&mut self);
    /// The relay's connection has come about at the other end.
    fn answered(&mut self, stream: &<Self::Net as Net>::Stream) -> usize;

    fn say(&mut self, peer: usize, what: &[u8]);
    fn say_urgent(&mut self, peer: usize, what: u8);
    fn fin(&mut self, peer: usize);
    fn close(&mut self, peer: usize);
    fn reset(&mut self, peer: usize);
    /// The peer's process is killed, its socket armed with SO_LINGER {1, 0} or not.
    fn kill(&mut self, peer: usize, armed: bool);
    /// One read: the bytes, or how it ended.
    fn hear(&mut self, peer: usize) -> Result<Vec<u8>, ErrorKind>;
    /// Everything that is on its way arrives.
    fn settle(&mut self);

    /// What the next waits bring for this socket, until nothing more comes.
    fn events(&mut self, token: Token) -> Vec<Hints> {
        let mut seen = Vec::new();
        let mut now = None;
        loop {
            let mut ready = Vec::new();
            let sleep = now.map_or(Sleep::Not, |now: Time| Sleep::Until(now + QUIET));
            let woken = self.net().wait(sleep, &mut ready, &mut Vec::new()).unwrap();
            let waited = now.replace(woken).is_some();
            let before = seen.len();
            seen.extend(ready.iter().filter(|one| one.token == token).map(|one| one.hints));
            if waited && seen.len() == before {
                return seen;
            }
        }
    }

    /// A client that was accepted and registered; its first event, that it can be written to, is taken.
    fn accepted(&mut self, serial: u32) -> (usize, <Self::Net as Net>::Stream, Token) {
        let peer = self.client();
        self.events(Token::listener(0));
        let (net, listener) = self.listener();
        let (mut stream, _) = net.accept(listener).unwrap();
        let token = Token::new(serial, serial, Peer::Client);
        net.register(&mut stream, token).unwrap();
        assert_eq!(self.events(token), [Hints::WRITABLE]);
        (peer, stream, token)
    }

    /// Everything that peer hears until nothing more comes, and how it ends.
    fn hear_all(&mut self, peer: usize) -> (Vec<u8>, &'static str) {
        let mut all = Vec::new();
        loop {
            self.settle();
            match self.hear(peer) {
                Ok(bytes) if bytes.is_empty() => return (all, "EOF"),
                Ok(bytes) => all.extend(bytes),
                Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => return (all, "silence"),
                Err(ErrorKind::ConnectionReset) => return (all, "reset"),
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

/// One read of the relay's end.
pub(crate) fn read(stream: &mut impl Stream) -> Result<String, ErrorKind> {
    let mut room = [0; 64];
    let count = stream.read(&mut room).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&room[..count]).into_owned())
}

/// One write of the relay's end.
pub(crate) fn write(stream: &mut impl Stream, what: &[u8]) -> Result<usize, ErrorKind> {
    stream.write(what).map_err(|error| error.kind())
}

/// What a call gave, in a word.
pub(crate) fn kind<T>(result: io::Result<T>) -> Result<T, ErrorKind> {
    result.map_err(|error| error.kind())
}

/// SO_ERROR of the relay's end.
pub(crate) fn take_error(stream: &mut impl Stream) -> Result<(), ErrorKind> {
    stream.take_error().map_err(|error| error.kind())
}

/// The kernel this test runs on.
pub(crate) struct Real {
    net: Mio,
    listener: Option<Listener>,
    front: SocketAddr,
    back: TcpListener,
    /// Listeners with `listen(0)`, and who waits in the queue of those that are full.
    narrow: Vec<TcpListener>,
    waiting: Vec<TcpStream>,
    peers: Vec<Option<TcpStream>>,
}

impl Rig for Real {
    type Net = Mio;

    fn new() -> Self {
        let mut net = Mio::new(Control::new().unwrap()).unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], 0)).into();
        let (listener, front) = net.listen(&at, &ListenOptions::default(), Token::listener(0)).unwrap();
        let front = inet(&front);
        let back = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { net, listener: Some(listener), front, back, narrow: Vec::new(), waiting: Vec::new(), peers: Vec::new() }
    }

    fn net(&mut self) -> &mut Mio {
        &mut self.net
    }

    fn listener(&mut self) -> (&mut Mio, &mut Listener) {
        (&mut self.net, self.listener.as_mut().unwrap())
    }

    fn stop_listening(&mut self) {
        self.listener = None;
    }

    fn client(&mut self) -> usize {
        self.peer(TcpStream::connect(self.front).unwrap())
    }

    fn upstream(&mut self, there: bool) -> SocketAddr {
        if there {
            return self.back.local_addr().unwrap();
        }
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn full_upstream(&mut self) -> SocketAddr {
        let to = self.listen_for_one();
        self.waiting.push(TcpStream::connect(to).unwrap());
        to
    }

    /// The kernel tries the ports of its range one after the other, every second one first, so sooner or later it
    /// gives the socket the very port that it connects to.
    fn met_itself(&mut self) -> tproxy::net::mio::Socket {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let bounds: Vec<u16> = range.split_whitespace().map(|bound| bound.parse().unwrap()).collect();
        // One that nobody has; from the middle on, for the lowest are given to others more often.
        let mut ports = (bounds[0]..=bounds[1]).step_by(2).skip(usize::from(bounds[1] - bounds[0]) / 4);
        let to = ports.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok()).unwrap();
        for _ in 0..1 << 17 {
            let mut stream = self.net.connect(&to.into()).unwrap();
            // Over loopback the refusal is there when connect returns.
            if stream.take_error().is_ok() {
                return stream;
            }
        }
        panic!("no socket met itself at {to}");
    }

    fn narrow(&mut self) {
        self.front = self.listen_for_one();
    }

    fn knock(&mut self) -> usize {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::io::ioctl_fionbio(&socket, true).unwrap();
        let _ = rustix::net::connect(&socket, &self.front);
        self.peer(socket.into())
    }

    fn is_answered(&mut self, peer: usize, within: Duration) -> bool {
        (0..within.as_millis().div_ceil(QUIET.as_millis())).any(|_| {
            self.events(Token::listener(0));
            // ENOTCONN as long as there is no answer.
            self.stream(peer).peer_addr().is_ok()
        })
    }

    fn make_room(&mut self) {
        self.narrow.last().unwrap().accept().unwrap();
    }

    fn answered(&mut self, _: &tproxy::net::mio::Socket) -> usize {
        let (stream, _) = self.back.accept().unwrap();
        self.peer(stream)
    }

    fn say(&mut self, peer: usize, what: &[u8]) {
        self.stream(peer).write_all(what).unwrap();
    }

    fn say_urgent(&mut self, peer: usize, what: u8) {
        assert_eq!(rustix::net::send(self.stream(peer), &[what], SendFlags::OOB).unwrap(), 1);
    }

    fn fin(&mut self, peer: usize) {
        self.stream(peer).shutdown(Shutdown::Write).unwrap();
    }

    fn close(&mut self, peer: usize) {
        self.peers[peer] = None;
    }

    fn reset(&mut self, peer: usize) {
        sockopt::set_socket_linger(self.stream(peer), Some(Duration::ZERO)).unwrap();
        self.peers[peer] = None;
    }

    /// It is handed to a process that does nothing with it, as its stdin, and that one is killed.
    fn kill(&mut self, peer: usize, armed: bool) {
        let stream = self.peers[peer].take().unwrap();
        sockopt::set_socket_linger(&stream, armed.then_some(Duration::ZERO)).unwrap();
        let mut process = Command::new("sleep").arg("60").stdin(OwnedFd::from(stream)).spawn().unwrap();
        process.kill().unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }

    fn hear(&mut self, peer: usize) -> Result<Vec<u8>, ErrorKind> {
        let mut room = vec![0; 1 << 16];
        let count = self.stream(peer).read(&mut room).map_err(|error| error.kind())?;
        room.truncate(count);
        Ok(room)
    }

    /// Over loopback a segment is in the other queue before the call that sent it returns, unless the machine is busy
    /// and puts that off. Nothing tells when it is there, so this takes as long as it does in the simulation.
    #[expect(clippy::disallowed_methods, reason = "what is waited for raises no event, and an event must not be taken")]
    fn settle(&mut self) {
        std::thread::sleep(QUIET / 10);
    }
}

impl Real {
    /// One may wait in its queue, and nobody else is answered (K7).
    fn listen_for_one(&mut self) -> SocketAddr {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        self.narrow.push(socket.into());
        self.narrow.last().unwrap().local_addr().unwrap()
    }

    fn peer(&mut self, stream: TcpStream) -> usize {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(10 * QUIET)).unwrap();
        self.peers.push(Some(stream));
        self.peers.len() - 1
    }

    fn stream(&mut self, peer: usize) -> &mut TcpStream {
        self.peers[peer].as_mut().unwrap()
    }
}

/// The simulated kernel, as Linux.
pub(crate) struct Sim {
    net: SimNet<true>,
    listener: Option<SimListener>,
}

/// Queues of the simulated sockets.
const CAP: usize = 1 << 20;

/// Where the simulated upstream is.
const UPSTREAM: ([u8; 4], u16) = ([10, 9, 9, 1], 80);

impl Rig for Sim {
    type Net = SimNet<true>;

    fn new() -> Self {
        let world = Rc::new(RefCell::new(World::new(Rc::new(Plan::empty()), Trace::hash_only())));
        Self { net: SimNet(Rc::clone(&world)), listener: Some(SimListener(world)) }
    }

    fn net(&mut self) -> &mut SimNet<true> {
        &mut self.net
    }

    fn listener(&mut self) -> (&mut SimNet<true>, &mut SimListener) {
        (&mut self.net, self.listener.as_mut().unwrap())
    }

    fn stop_listening(&mut self) {
        self.listener = None;
    }

    fn client(&mut self) -> usize {
        let conn = self.knock();
        self.settle();
        conn
    }

    fn upstream(&mut self, there: bool) -> SocketAddr {
        let dial = if there { Dial::Accept } else { Dial::Fail(Errno::CONNREFUSED) };
        self.world(|world| world.next_dial = Some(dial));
        UPSTREAM.into()
    }

    fn full_upstream(&mut self) -> SocketAddr {
        self.world(|world| world.next_dial = Some(Dial::Silence));
        UPSTREAM.into()
    }

    fn met_itself(&mut self) -> SimStream<true> {
        self.world(|world| world.next_dial = Some(Dial::Itself));
        self.net.connect(&SocketAddr::from(UPSTREAM).into()).unwrap()
    }

    fn narrow(&mut self) {
        self.world(|world| world.kernel.laws.backlog = 0);
    }

    fn knock(&mut self) -> usize {
        self.world(|world| {
            world.owners.push(None);
            world.kernel.dial_relay([CAP; 4])
        })
    }

    fn is_answered(&mut self, peer: usize, within: Duration) -> bool {
        self.world(|world| {
            let soon = world.kernel.now + within;
            world.run_until(soon);
            world.kernel.conns[peer].peer.life == Life::Open
        })
    }

    fn make_room(&mut self) {
        let (net, listener) = self.listener();
        net.accept(listener).unwrap();
    }

    fn answered(&mut self, stream: &SimStream<true>) -> usize {
        let conn = stream.conn;
        self.settle();
        self.world(|world| {
            let it = &mut world.kernel.conns[conn];
            for half in [&mut it.from_peer, &mut it.from_relay] {
                (half.send_cap, half.receive_cap) = (CAP as u64, CAP as u64);
            }
            assert_eq!(it.peer.life, Life::Open);
        });
        conn
    }

    fn say(&mut self, peer: usize, what: &[u8]) {
        self.world(|world| assert_eq!(world.kernel.send(peer, Who::Peer, what, false), Ok(what.len())));
        self.settle();
    }

    fn say_urgent(&mut self, peer: usize, what: u8) {
        self.world(|world| assert_eq!(world.kernel.send(peer, Who::Peer, &[what], true), Ok(1)));
        self.settle();
    }

    fn fin(&mut self, peer: usize) {
        self.world(|world| world.kernel.finish(peer, Who::Peer).unwrap());
        self.settle();
    }

    fn close(&mut self, peer: usize) {
        self.world(|world| world.kernel.close(peer, Who::Peer, false));
        self.settle();
    }

    fn reset(&mut self, peer: usize) {
        self.world(|world| world.kernel.close(peer, Who::Peer, true));
        self.settle();
    }

    /// The kernel closes what a killed process had open.
    fn kill(&mut self, peer: usize, armed: bool) {
        self.world(|world| world.kernel.close(peer, Who::Peer, armed));
        self.settle();
    }

    fn hear(&mut self, peer: usize) -> Result<Vec<u8>, ErrorKind> {
        let mut room = vec![0; 1 << 16];
        let count = self.world(|world| world.kernel.recv(peer, Who::Peer, &mut room));
        let count = count.map_err(|error| io::Error::from(error).kind())?;
        room.truncate(count);
        Ok(room)
    }

    fn settle(&mut self) {
        self.world(|world| {
            let soon = world.kernel.now + QUIET / 10;
            world.run_until(soon);
        });
    }
}

impl Sim {
    fn world<T>(&mut self, ask: impl FnOnce(&mut World) -> T) -> T {
        ask(&mut self.net.0.borrow_mut())
    }
}
