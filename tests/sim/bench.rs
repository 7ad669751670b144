//! Two kernels under one script: the simulated one, and the one this test runs on, through the relay's own `net::mio`.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{SendFlags, sockopt};
use tproxy::net::mio::{Listener, Mio};
use tproxy::net::{Bits, Net, Peer, Stopper, Stream, Time, Token};

use crate::conn::{Life, Who};
use crate::kernel::{ConnId, Due};
use crate::plan::Plan;
use crate::seam::{SimListener, SimNet};
use crate::trace::Trace;
use crate::world::World;

/// How long nothing must happen before it counts as nothing.
const QUIET: Duration = Duration::from_millis(20);

/// A kernel, and the peers at its other end.
pub(crate) trait Bench: Sized {
    type Net: Net;

    fn new() -> Self;
    fn net(&mut self) -> &mut Self::Net;
    fn listener(&mut self) -> (&mut Self::Net, &mut <Self::Net as Net>::Listener);
    fn stop_listening(&mut self);

    /// A client connects to the listener. Peers have numbers.
    fn client(&mut self) -> usize;
    /// Somebody listens here, or nobody does.
    fn upstream(&mut self, there: bool) -> SocketAddr;
    /// The relay's connection has come about at the other end.
    fn answered(&mut self, stream: &<Self::Net as Net>::Stream) -> usize;

    fn say(&mut self, peer: usize, what: &[u8]);
    fn say_urgent(&mut self, peer: usize, what: u8);
    fn fin(&mut self, peer: usize);
    fn close(&mut self, peer: usize);
    fn reset(&mut self, peer: usize);
    /// One read: the bytes, or how it ended.
    fn hear(&mut self, peer: usize) -> Result<Vec<u8>, ErrorKind>;
    /// Everything that is on its way arrives.
    fn settle(&mut self);

    /// What the next waits bring for this socket, until nothing more comes.
    fn events(&mut self, token: Token) -> Vec<Bits> {
        let mut seen = Vec::new();
        let mut now = None;
        loop {
            let mut ready = Vec::new();
            let until = now.map_or(Time::START, |now: Time| now + QUIET);
            let turn = self.net().wait(Some(until), &mut ready).unwrap();
            let waited = now.replace(turn.now).is_some();
            let before = seen.len();
            seen.extend(ready.iter().filter(|one| one.token == token).map(|one| one.bits));
            if waited && seen.len() == before {
                return seen;
            }
        }
    }

    /// A client that was accepted and registered; its first event, that it can be written to, is taken.
    fn accepted(&mut self, serial: u32) -> (usize, <Self::Net as Net>::Stream, Token) {
        let peer = self.client();
        self.events(Token::LISTENER);
        let (net, listener) = self.listener();
        let (mut stream, _) = net.accept(listener).unwrap();
        let token = Token::new(serial, serial, Peer::Client);
        net.register(&mut stream, token).unwrap();
        assert_eq!(self.events(token), [Bits::WRITABLE]);
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

/// SO_ERROR of the relay's end.
pub(crate) fn fault(stream: &mut impl Stream) -> Result<(), ErrorKind> {
    stream.fault().map_err(|error| error.kind())
}

/// The kernel this test runs on.
pub(crate) struct Real {
    net: Mio,
    listener: Option<Listener>,
    front: SocketAddr,
    back: TcpListener,
    peers: Vec<Option<TcpStream>>,
}

impl Bench for Real {
    type Net = Mio;

    fn new() -> Self {
        let net = Mio::new(Stopper::new().unwrap()).unwrap();
        let listener = net.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let front = listener.local_addr().unwrap();
        let back = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { net, listener: Some(listener), front, back, peers: Vec::new() }
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

    fn hear(&mut self, peer: usize) -> Result<Vec<u8>, ErrorKind> {
        let mut room = vec![0; 1 << 16];
        let count = self.stream(peer).read(&mut room).map_err(|error| error.kind())?;
        room.truncate(count);
        Ok(room)
    }

    // Over loopback a segment is in the other queue before the call that sent it returns.
    fn settle(&mut self) {}
}

impl Real {
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

impl Bench for Sim {
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
        let conn = self.world(|world| {
            world.owners.push(None);
            world.kernel.dial_relay([CAP; 4])
        });
        self.settle();
        conn
    }

    fn upstream(&mut self, there: bool) -> SocketAddr {
        let dial =
            if there { crate::plan::Dial::Accept } else { crate::plan::Dial::Fail(rustix::io::Errno::CONNREFUSED) };
        self.world(|world| world.next_dial = Some(dial));
        ([10, 9, 9, 1], 80).into()
    }

    fn answered(&mut self, stream: &crate::seam::SimStream<true>) -> usize {
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

    fn hear(&mut self, peer: usize) -> Result<Vec<u8>, ErrorKind> {
        let mut room = vec![0; 1 << 16];
        let count = self.world(|world| world.kernel.recv(peer, Who::Peer, &mut room));
        let count = count.map_err(|error| std::io::Error::from(error).kind())?;
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
    pub(crate) fn world<T>(&mut self, ask: impl FnOnce(&mut World) -> T) -> T {
        ask(&mut self.net.0.borrow_mut())
    }

    /// A client whose SYN is on its way; does it get an answer?
    pub(crate) fn knocks(&mut self, conn: ConnId) -> bool {
        self.settle();
        self.world(|world| world.kernel.conns[conn].peer.life == Life::Open)
    }

    /// What is due by itself, for the curious.
    pub(crate) fn later(&mut self, wait: Duration, due: Due) {
        self.world(|world| world.kernel.after(wait, due));
    }
}
