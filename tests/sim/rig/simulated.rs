//! The simulated kernel, as Linux.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{Address, ListenOptions, Net, Token};

use super::{QUIET, Rig};
use crate::conn::{Life, Who};
use crate::listening::SimListener;
use crate::plan::{Dial, Plan, place, unix};
use crate::seam::{SimNet, SimStream};
use crate::trace::Trace;
use crate::world::World;

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
        Self::of(Plan::empty())
    }

    fn unix() -> Self {
        let mut plan = Plan::empty();
        plan.config.routes[0].from = unix(place(0));
        Self::of(plan)
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

    fn full_unix(&mut self) -> Address {
        self.world(|world| world.next_dial = Some(Dial::Silence));
        unix(UPSTREAM.into())
    }

    fn pass(&mut self, peer: usize, what: &[u8]) {
        self.world(|world| world.kernel.laws.passes = u8::MAX);
        self.say(peer, what);
        self.world(|world| {
            let half = &mut world.kernel.conns[peer].from_peer;
            half.stops = [half.written].into();
            world.kernel.laws.passes = 0;
        });
    }

    fn met_itself(&mut self, token: Token) -> SimStream<true> {
        self.world(|world| world.next_dial = Some(Dial::Itself));
        self.net.connect(&SocketAddr::from(UPSTREAM).into(), None, token).unwrap()
    }

    fn narrow(&mut self) {
        self.world(|world| world.kernel.laws.backlog = 0);
    }

    fn knock(&mut self) -> usize {
        self.world(|world| {
            world.owners.push(None);
            world.kernel.dial_relay([CAP; 4], 0)
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
    fn of(plan: Plan) -> Self {
        let world = Rc::new(RefCell::new(World::new(Rc::new(plan), Trace::hash_only())));
        let at = world.borrow().plan.config.routes[0].from.clone();
        let mut net = SimNet(world);
        let (listener, _) = net.listen(&at, &ListenOptions::default(), Token::listener(0)).unwrap();
        Self { net, listener: Some(listener) }
    }

    fn world<T>(&mut self, ask: impl FnOnce(&mut World) -> T) -> T {
        ask(&mut self.net.0.borrow_mut())
    }
}
