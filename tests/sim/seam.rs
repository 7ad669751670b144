//! The seam's two traits on the simulated kernel.
//!
//! What a stream gives and takes comes from [`Kernel`](crate::kernel::Kernel); the shadow model hears of every call and
//! says at once what it thinks of it.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{
    Address, AddressKey, Client, Closing, Handed, Histogram, ListenOptions, Message, NameId, Net, Ready, Sleep, Stream,
    Time, Token,
};

use crate::conn::{Life, Who};
use crate::faults::Call;
use crate::kernel::ConnId;
use crate::listening::{self, SimListener};
use crate::pipe::SimPipe;
use crate::plan::{inet, place};
use crate::sources::connect_error;
use crate::world::World;

/// The kernel as the relay sees it. `LINUX` says whether a short count proves a socket dry.
#[derive(Debug)]
pub(crate) struct SimNet<const LINUX: bool>(pub(crate) Rc<RefCell<World>>);

/// A connected socket. Dropping it resets.
#[derive(Debug)]
pub(crate) struct SimStream<const LINUX: bool> {
    world: Rc<RefCell<World>>,
    pub(crate) conn: ConnId,
    open: bool,
}

impl<const LINUX: bool> SimNet<LINUX> {
    fn stream(&self, conn: ConnId) -> SimStream<LINUX> {
        SimStream { world: Rc::clone(&self.0), conn, open: true }
    }
}

impl<const LINUX: bool> Net for SimNet<LINUX> {
    type Stream = SimStream<LINUX>;
    type Listener = SimListener;

    fn wait(&mut self, sleep: Sleep, ready: &mut Vec<Ready>, messages: &mut Vec<Message>) -> io::Result<Time> {
        self.0.borrow_mut().wait(sleep, ready, messages)
    }

    fn listen(&mut self, at: &Address, how: &ListenOptions, token: Token) -> io::Result<(SimListener, Address)> {
        Ok((SimListener::bind(&self.0, at, how, token)?, at.clone()))
    }

    fn change_listener(&mut self, listener: &mut SimListener, how: &ListenOptions) -> io::Result<()> {
        Ok(listener.change(how)?)
    }

    fn unlisten(&mut self, listener: SimListener, why: Closing) {
        listener.close(why);
    }

    fn hand_over(&mut self, listeners: &mut dyn Iterator<Item = &SimListener>) -> Vec<Handed> {
        listening::hand_over(&self.0, listeners)
    }

    fn turn_times(&self) -> Histogram {
        Histogram::default()
    }

    fn resolve(&mut self, name: NameId, host: &str) {
        self.0.borrow_mut().resolve(name, host);
    }

    fn key(&mut self, of: &Address) -> AddressKey {
        self.0.borrow_mut().key_of(of)
    }

    fn leads_back(&mut self, listening: SocketAddr, upstream: SocketAddr) -> bool {
        listening == upstream
    }

    fn accept(&mut self, from: &mut SimListener) -> io::Result<(SimStream<LINUX>, Client)> {
        let mut world = self.0.borrow_mut();
        let result = listening::accept(&mut world, from.index);
        world.note(Call::Accept, *result.as_ref().unwrap_or(&usize::MAX), || format!("accept -> {result:?}"));
        if let Ok(conn) = result
            && world.kernel.conns[conn].unix
        {
            world.shadow.unix.insert(conn);
        }
        let is_reset = result.is_ok_and(|conn| world.kernel.conns[conn].relay.life == Life::Dead);
        world.shadow.accepted(from.index, result, is_reset);
        let conn = result?;
        let client = if world.kernel.conns[conn].unix {
            Client::unix(u32::try_from(conn).unwrap(), 1000)
        } else {
            world.plan.client(conn).into()
        };
        drop(world);
        Ok((self.stream(conn), client))
    }

    fn may_connect_from(&mut self, source: IpAddr) -> io::Result<()> {
        self.0.borrow_mut().check_source(source)
    }

    fn connect(&mut self, to: &Address, source: Option<IpAddr>, token: Token) -> io::Result<SimStream<LINUX>> {
        let mut world = self.0.borrow_mut();
        world.shadow.dials_from(token, inet(to), source);
        let result = match world.enter(Call::Connect) {
            // It needs no port.
            Some(Errno::ADDRNOTAVAIL) if to.is_unix() => Err(Errno::AGAIN),
            Some(error) => Err(error),
            None if to.is_unix() => world.dial_unix(inet(to)),
            None => world.dial(inet(to), source),
        };
        let conn = *result.as_ref().unwrap_or(&usize::MAX);
        world.note(Call::Connect, conn, || format!("connect {to} from {source:?} -> {result:?}"));
        world.shadow.dialled(result);
        let conn = result.map_err(connect_error)?;
        drop(world);
        let mut stream = self.stream(conn);
        self.register(&mut stream, token)?;
        Ok(stream)
    }

    fn connected(&mut self, stream: &mut SimStream<LINUX>) -> io::Result<bool> {
        let conn = stream.conn;
        let mut world = self.0.borrow_mut();
        if let Some(error) = world.enter(Call::Connected).filter(|_| !world.kernel.conns[conn].unix) {
            let connecting = world.kernel.conns[conn].relay.life == Life::Connecting;
            // What stands can only be reset; what does not can only fail.
            let error = match (connecting, error) {
                (true, Errno::CONNRESET) => Errno::CONNREFUSED,
                (true, error) => error,
                (false, _) => Errno::CONNRESET,
            };
            world.kernel.fail(conn, Who::Relay, error);
            world.shadow.cut_off(conn);
        }
        let result = match world.kernel.conns[conn].relay.life {
            // getpeername answers only for a connection that stands.
            Life::Open if world.kernel.conns[conn].to_itself => Err(ErrorKind::ConnectionRefused.into()),
            Life::Open => Ok(true),
            Life::Connecting | Life::Dead | Life::Orphan | Life::Gone => {
                world.kernel.take_error(conn, Who::Relay).map(|()| false).map_err(io::Error::from)
            }
        };
        world.note(Call::Connected, conn, || format!("connected {conn} -> {result:?}"));
        world.shadow.connected(conn, &result);
        world.did_connect(conn);
        result
    }

    fn register(&mut self, stream: &mut SimStream<LINUX>, token: Token) -> io::Result<()> {
        let conn = stream.conn;
        let mut world = self.0.borrow_mut();
        let result = match world.enter(Call::Register) {
            Some(error) => Err(error),
            None => Ok(()),
        };
        let paired = world.shadow.registered(conn, token, result);
        world.note(Call::Register, conn, || format!("register {conn} as {token:?} -> {result:?}"));
        if result.is_ok() {
            if let Some(session) = paired {
                world.pair(conn, session);
            }
            world.kernel.register(conn, token);
        }
        Ok(result?)
    }

    fn pipe(&mut self) -> io::Result<SimPipe> {
        let mut world = self.0.borrow_mut();
        let result = match world.enter(Call::Pipe) {
            Some(error) => Err(error),
            None => world.kernel.pipe(),
        };
        world.note(Call::Pipe, usize::MAX, || format!("pipe -> {result:?}"));
        world.shadow.piped(result);
        result?;
        drop(world);
        Ok(SimPipe { world: Rc::clone(&self.0), bytes: Vec::new() })
    }
}

impl<const LINUX: bool> Stream for SimStream<LINUX> {
    type Pipe = SimPipe;

    fn short_is_dry(&self) -> bool {
        LINUX && !self.is_unix()
    }

    fn epipe_is_fin(&self) -> bool {
        !self.is_unix()
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let result = match world.enter_on(Call::Read, self.conn) {
            Some(error) => Err(error),
            None => world.kernel.recv(self.conn, Who::Relay, room),
        };
        world.note(Call::Read, self.conn, || format!("read {} ({}) -> {result:?}", self.conn, room.len()));
        world.trace.result(result);
        world.did_read(self.conn, result);
        Ok(result?)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let result = match world.enter_on(Call::Write, self.conn) {
            Some(error) => Err(error),
            None => world.send(self.conn, data),
        };
        world.note(Call::Write, self.conn, || format!("write {} ({}) -> {result:?}", self.conn, data.len()));
        world.trace.result(result);
        world.did_write(self.conn, result);
        world.did_write_some(self.conn, result, data.len());
        world.settle();
        Ok(result?)
    }

    fn splice_in(&mut self, pipe: &mut SimPipe, most: usize) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let result = match world.enter_on(Call::SpliceIn, self.conn) {
            Some(error) => Err(error),
            None => world.kernel.splice_in(self.conn, most),
        };
        let count = result.as_ref().map(Vec::len).map_err(|error| *error);
        world.note(Call::SpliceIn, self.conn, || format!("splice_in {} ({most}) -> {count:?}", self.conn));
        world.trace.result(count);
        // Whatever a pipe held before stays in front.
        pipe.bytes.extend(result.unwrap_or_default());
        world.did_splice_in(self.conn, count);
        Ok(count?)
    }

    /// Piece by piece, as `splice_to_socket` does; in between, the world goes on. What stops it is not told if
    /// something was sent, and if that was an error it is forgotten.
    fn splice_out(&mut self, pipe: &mut SimPipe, count: usize) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        if count != pipe.bytes.len() {
            let held = pipe.bytes.len();
            world.violation(format!("{count} bytes of a pipe are sent on, and it holds {held}"));
        }
        let mut done = 0;
        let result = loop {
            let piece = world.piece(pipe.bytes.len());
            let sent = match world.enter_on(Call::SpliceOut, self.conn) {
                Some(error) => Err(error),
                None => world.kernel.send(self.conn, Who::Relay, &pipe.bytes[..piece], false),
            };
            match sent {
                Ok(sent) => {
                    pipe.bytes.drain(..sent);
                    done += sent;
                    if pipe.bytes.is_empty() {
                        break Ok(done);
                    }
                }
                Err(_) if done > 0 => {
                    world.kernel.swallow(self.conn);
                    break Ok(done);
                }
                Err(error) => break Err(error),
            }
        };
        world.note(Call::SpliceOut, self.conn, || format!("splice_out {} ({count}) -> {result:?}", self.conn));
        world.trace.result(result);
        world.did_splice_out(self.conn, result, count);
        world.settle();
        Ok(result?)
    }

    fn read_pipe(&mut self, pipe: &mut SimPipe, room: &mut [u8]) -> io::Result<usize> {
        let count = room.len().min(pipe.bytes.len());
        pipe.bytes.drain(..count).zip(room).for_each(|(byte, place)| *place = byte);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let result = match world.enter_on(Call::ShutdownWrite, self.conn) {
            Some(error) => Err(error),
            None => world.kernel.finish(self.conn, Who::Relay),
        };
        world.note(Call::ShutdownWrite, self.conn, || format!("shutdown_write {} -> {result:?}", self.conn));
        world.trace.result(result.map(|()| 0));
        world.did_shutdown_write(self.conn, result);
        world.settle();
        Ok(result?)
    }

    fn take_error(&mut self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        world.enter_on(Call::TakeError, self.conn);
        let result = world.kernel.take_error(self.conn, Who::Relay);
        world.trace.result(result.map(|()| 0));
        world.note(Call::TakeError, self.conn, || format!("take_error {} -> {result:?}", self.conn));
        if let Err(error) = result {
            world.shadow.told(self.conn, error);
        }
        Ok(result?)
    }

    fn unacked(&self) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        world.enter(Call::Unacked);
        let count = world.kernel.conns[self.conn].from_relay.unacked();
        let unix = world.kernel.conns[self.conn].unix;
        let result = if world.kernel.laws.counts_unacked || unix { Ok(count) } else { Err(Errno::OPNOTSUPP) };
        world.trace.result(result);
        world.note(Call::Unacked, self.conn, || format!("unacked {} -> {result:?}", self.conn));
        world.did_ask(self.conn, result);
        Ok(result?)
    }

    fn received(&self) -> io::Result<u64> {
        let world = self.world.borrow();
        let half = &world.kernel.conns[self.conn].from_peer;
        if !world.kernel.laws.counts_unacked || half.unix {
            return Err(Errno::OPNOTSUPP.into());
        }
        Ok(half.arrived + u64::from(half.fin_arrived))
    }

    fn retransmission_timeout(&self) -> io::Result<Duration> {
        let mut world = self.world.borrow_mut();
        let result = match world.enter(Call::RetransmissionTimeout) {
            Some(error) => Err(error),
            None if !world.kernel.laws.counts_unacked || world.kernel.conns[self.conn].unix => Err(Errno::OPNOTSUPP),
            None => Ok(world.kernel.retransmission_timeout(self.conn)),
        };
        world.trace.result(result.map(|timeout| timeout.as_nanos() as usize));
        let conn = self.conn;
        world.note(Call::RetransmissionTimeout, conn, || format!("retransmission_timeout {conn} -> {result:?}"));
        world.did_ask_timeout(conn, result);
        Ok(result?)
    }

    fn local(&self) -> io::Result<Address> {
        let mut world = self.world.borrow_mut();
        let door = world.shadow.owner(self.conn).map(|(session, _)| world.shadow.sessions[session].door);
        let result = match world.enter(Call::Local) {
            Some(error) => Err(error),
            None => Ok(place(world.kernel.listeners[door.unwrap_or_default()].place)),
        };
        world.note(Call::Local, self.conn, || format!("local {} -> {result:?}", self.conn));
        world.did_ask_local(self.conn, result);
        Ok(result?.into())
    }

    fn keep_alive(&mut self, idle: Duration) {
        self.world.borrow_mut().did_keep_alive(self.conn, idle);
    }

    fn set_user_timeout(&mut self, timeout: Duration) {
        self.world.borrow_mut().did_set_user_timeout(self.conn, timeout);
    }

    fn close(mut self) {
        self.go(false);
    }
}

impl<const LINUX: bool> SimStream<LINUX> {
    fn is_unix(&self) -> bool {
        self.world.borrow().kernel.conns[self.conn].unix
    }

    fn go(&mut self, armed: bool) {
        assert!(std::mem::take(&mut self.open), "connection {} is closed twice", self.conn);
        let mut world = self.world.borrow_mut();
        let word = if armed { "drop" } else { "close" };
        world.note(Call::Wait, self.conn, || format!("{word} {}", self.conn));
        world.will_go(self.conn, armed);
        let token = world.kernel.conns[self.conn].watch.token;
        world.stale.extend(token);
        world.kernel.open -= 1;
        world.dialled.remove(&self.conn);
        world.kernel.close(self.conn, Who::Relay, armed);
        world.settle();
    }
}

impl<const LINUX: bool> Drop for SimStream<LINUX> {
    fn drop(&mut self) {
        // A panic is on its way: it has enough to say.
        if self.open && !std::thread::panicking() {
            self.go(true);
        }
    }
}
