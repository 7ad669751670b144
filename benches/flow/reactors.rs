//! The whole reactor on a kernel that is two queues and a list of events.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use criterion::{BenchmarkId, Criterion, Throughput};
use fastrand::Rng;
use tproxy::net::{
    Address, AddressKey, Client, Closing, Handed, Hints, Histogram, ListenOptions, Message, NameId, Net, Peer, Ready,
    Sleep, Time, Token,
};
use tproxy::reactor::{Limits, Reactor};
use tproxy::{Config, Error};

use crate::MESSAGE;
use crate::wire::{Pipe, Socket, Wire};

/// Idle sessions beside the one that is not, itself included.
const SESSIONS: [usize; 3] = [1, 64, 1_000];

/// Messages that one turn finds.
const AT_ONCE: usize = 64;

/// Between two turns, in nanoseconds.
const TICK: u64 = 1_000;

pub(crate) fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reactor");
    group.throughput(Throughput::Elements(1));
    for sessions in SESSIONS {
        let id = BenchmarkId::new("one 64 B message, sessions", sessions);
        group.bench_function(id, |bencher| bencher.iter(message(sessions)));
    }
    group.bench_function("a session from accept to reap", |bencher| bencher.iter(session()));
    group.throughput(Throughput::Elements(AT_ONCE as u64));
    group.bench_function("64 B messages on 64 sessions in one turn", |bencher| bencher.iter(many()));
    group.finish();
}

/// Each session in turn, as it comes to those who wait long: what is remembered of it may have left the cache.
pub(crate) fn message(sessions: usize) -> impl FnMut() {
    let mut house = House::of(sessions);
    let mut turns = 0;
    move || {
        house.messages(turns % sessions, 1);
        turns += 1;
    }
}

pub(crate) fn session() -> impl FnMut() {
    let (mut house, wires) = (House::of(0), Wires::default());
    move || house.session(&wires)
}

pub(crate) fn many() -> impl FnMut() {
    let mut house = House::of(AT_ONCE);
    move || house.messages(0, AT_ONCE)
}

/// A reactor, its kernel, and the sessions that are open.
struct House {
    kernel: Rc<Kernel>,
    reactor: Reactor<FakeNet>,
    sessions: Vec<Wires>,
}

/// The wires of a session: the client's, the upstream's.
type Wires = [Rc<Wire>; 2];

impl House {
    fn of(sessions: usize) -> Self {
        let kernel = Rc::<Kernel>::default();
        let config = Config::new(address(1), [address(2)]);
        let limits = Limits { sessions: sessions + 1, room: sessions + 1, pipes: 1 };
        let reactor = Reactor::bind(FakeNet(Rc::clone(&kernel)), config, limits, Rng::with_seed(1));
        let Ok(reactor) = reactor else { unreachable!("it listens everywhere") };
        let mut house = Self { kernel, reactor, sessions: Vec::new() };
        for _ in 0..sessions {
            let wires = Wires::default();
            house.let_in(&wires);
            house.sessions.push(wires);
        }
        assert_eq!(house.reactor.gauges().sessions, sessions);
        house
    }

    fn turn(&mut self) {
        let went_on: Result<bool, Error> = self.reactor.turn();
        assert!(matches!(went_on, Ok(true)), "{went_on:?}");
    }

    /// A client comes, and the upstream answers at once: one turn to accept and to dial, one to learn that it is there.
    fn let_in(&mut self, wires: &Wires) {
        for peer in Peer::BOTH {
            self.kernel.newcomers[peer as usize].borrow_mut().push_back(Rc::clone(&wires[peer as usize]));
        }
        self.kernel.events.borrow_mut().push(Ready { token: Token::listener(0), hints: Hints::READABLE });
        self.turn();
        self.turn();
    }

    /// So many sessions, from this one on, have a message of their client's; one turn passes all of them on.
    fn messages(&mut self, first: usize, count: usize) {
        for [client, _] in &self.sessions[first..first + count] {
            client.say(MESSAGE);
            self.kernel.raise(client);
        }
        self.turn();
        for [_, upstream] in &self.sessions[first..first + count] {
            assert_eq!(upstream.heard(), (MESSAGE, 0));
        }
    }

    /// A request that comes with its client, an answer and a FIN behind it, the client's FIN: four turns.
    fn session(&mut self, wires: &Wires) {
        let [client, upstream] = wires;
        client.say(MESSAGE);
        self.let_in(wires);
        upstream.say(MESSAGE);
        upstream.end();
        self.kernel.raise(upstream);
        self.turn();
        client.end();
        self.kernel.raise(client);
        self.turn();
        for wire in wires {
            assert_eq!((wire.heard(), wire.is_closed()), ((MESSAGE, 0), true));
        }
    }
}

fn address(host: u8) -> SocketAddr {
    ([127, 0, 0, host], 1).into()
}

/// What a bench does to the kernel.
#[derive(Debug, Default)]
struct Kernel {
    /// Clients that wait to be accepted, upstreams that wait to be dialled.
    newcomers: [RefCell<VecDeque<Rc<Wire>>>; 2],
    events: RefCell<Vec<Ready>>,
    now: Cell<u64>,
}

impl Kernel {
    /// The wire has news.
    fn raise(&self, wire: &Wire) {
        if let Some(token) = wire.token() {
            self.events.borrow_mut().push(Ready { token, hints: wire.edge() });
        }
    }

    fn next(&self, peer: Peer) -> io::Result<Socket> {
        let wire = self.newcomers[peer as usize].borrow_mut().pop_front();
        wire.map(Socket).ok_or_else(|| ErrorKind::WouldBlock.into())
    }
}

/// The kernel as the reactor sees it. It never sleeps.
#[derive(Debug)]
struct FakeNet(Rc<Kernel>);

impl Net for FakeNet {
    type Stream = Socket;
    type Listener = ();

    fn wait(&mut self, _: Sleep, ready: &mut Vec<Ready>, _: &mut Vec<Message>) -> io::Result<Time> {
        ready.append(&mut self.0.events.borrow_mut());
        self.0.now.set(self.0.now.get() + TICK);
        Ok(Time::from_nanos(self.0.now.get()))
    }

    fn listen(&mut self, at: &Address, _: &ListenOptions, _: Token) -> io::Result<((), Address)> {
        Ok(((), at.clone()))
    }

    fn change_listener(&mut self, (): &mut (), _: &ListenOptions) -> io::Result<()> {
        Ok(())
    }

    fn unlisten(&mut self, (): (), _: Closing) {}

    fn turn_times(&self) -> Histogram {
        Histogram::default()
    }

    fn hand_over(&mut self, _: &mut dyn Iterator<Item = &()>) -> Vec<Handed> {
        Vec::new()
    }

    fn resolve(&mut self, _: NameId, host: &str) {
        unreachable!("{host} is no name of this plan");
    }

    fn key(&mut self, of: &Address) -> AddressKey {
        AddressKey::Port(of.inet().map_or(0, |of| of.port()))
    }

    fn leads_back(&mut self, _: SocketAddr, _: SocketAddr) -> bool {
        false
    }

    fn accept(&mut self, (): &mut ()) -> io::Result<(Socket, Client)> {
        Ok((self.0.next(Peer::Client)?, address(3).into()))
    }

    fn may_connect_from(&mut self, _: IpAddr) -> io::Result<()> {
        Ok(())
    }

    fn connect(&mut self, _: &Address, _: Option<IpAddr>, token: Token) -> io::Result<Socket> {
        let mut stream = self.0.next(Peer::Upstream)?;
        self.register(&mut stream, token)?;
        Ok(stream)
    }

    fn connected(&mut self, _: &mut Socket) -> io::Result<bool> {
        Ok(true)
    }

    fn register(&mut self, stream: &mut Socket, token: Token) -> io::Result<()> {
        stream.0.register(token);
        self.0.raise(&stream.0);
        Ok(())
    }

    fn pipe(&mut self) -> io::Result<Pipe> {
        Ok(Pipe)
    }
}
