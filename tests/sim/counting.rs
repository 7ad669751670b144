//! A kernel that does next to nothing and counts: for crowds that the simulated one would take minutes for.
//!
//! Sockets hold no bytes. A test says what every call of a kind gives from now on, which events the next waits bring,
//! and what time it is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{
    Address, AddressKey, Client, Closing, Handed, Hints, Histogram, ListenOptions, Message, NameId, Net, Peer, Ready,
    Sleep, Stream, Time, Token,
};

/// Events that one wait brings at most, as with the real kernel.
const EVENTS_PER_TURN: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) now: Time,
    /// Calls since this was last set to 0, the waits not counted, and connects among them.
    pub(crate) calls: usize,
    pub(crate) connects: usize,
    /// How the last wait was to sleep.
    pub(crate) sleep: Option<Sleep>,
    /// Clients that wait to be accepted.
    pub(crate) clients: usize,
    /// Descriptors that may still be opened.
    pub(crate) descriptors: usize,
    /// Do connections stand? Otherwise they are refused when that is asked.
    pub(crate) stands: bool,
    /// Bytes that every socket still waits to have acknowledged.
    pub(crate) unacked: usize,
    /// Every read of an upstream gives this error instead of WouldBlock.
    pub(crate) upstream_error: Option<Errno>,
    /// What the loop is told by its next wait.
    pub(crate) messages: Vec<Message>,
    events: VecDeque<Ready>,
    /// Tokens of sockets, clients and upstreams.
    tokens: [Vec<Token>; 2],
}

impl State {
    /// An event of every socket of this kind that was ever registered. Those that are gone come too late.
    pub(crate) fn announce(&mut self, peer: Peer, hints: Hints) {
        self.events.extend(self.tokens[peer as usize].iter().map(|token| Ready { token: *token, hints }));
    }

    /// Are there events that no wait has brought yet?
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    fn open(&mut self) -> io::Result<()> {
        self.calls += 1;
        self.descriptors = self.descriptors.checked_sub(1).ok_or(Errno::MFILE)?;
        Ok(())
    }
}

/// The kernel, shared with the test.
#[derive(Debug, Clone)]
pub(crate) struct Counting(pub(crate) Rc<RefCell<State>>);

/// A socket without bytes.
#[derive(Debug)]
pub(crate) struct Socket {
    state: Rc<RefCell<State>>,
    peer: Peer,
}

impl Socket {
    fn call(&self) -> std::cell::RefMut<'_, State> {
        let mut state = self.state.borrow_mut();
        state.calls += 1;
        state
    }
}

impl Net for Counting {
    type Stream = Socket;
    type Listener = ();

    fn wait(&mut self, sleep: Sleep, ready: &mut Vec<Ready>, messages: &mut Vec<Message>) -> io::Result<Time> {
        let mut state = self.0.borrow_mut();
        messages.append(&mut state.messages);
        state.sleep = Some(sleep);
        let count = state.events.len().min(EVENTS_PER_TURN);
        ready.extend(state.events.drain(..count));
        if state.clients > 0 {
            ready.push(Ready { token: Token::listener(0), hints: Hints::READABLE });
        }
        if let (Sleep::Until(at), 0) = (sleep, ready.len()) {
            state.now = state.now.max(at);
        }
        Ok(state.now)
    }

    fn listen(&mut self, at: &Address, _: &ListenOptions, _: Token) -> io::Result<((), Address)> {
        Ok(((), at.clone()))
    }

    fn change_listener(&mut self, (): &mut (), _: &ListenOptions) -> io::Result<()> {
        unreachable!("nothing is reloaded");
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
        AddressKey::Port(of.inet().unwrap().port())
    }

    fn leads_back(&mut self, _: SocketAddr, _: SocketAddr) -> bool {
        false
    }

    fn accept(&mut self, (): &mut ()) -> io::Result<(Socket, Client)> {
        let mut state = self.0.borrow_mut();
        state.open()?;
        let Some(clients) = state.clients.checked_sub(1) else {
            state.descriptors += 1;
            return Err(Errno::AGAIN.into());
        };
        state.clients = clients;
        let client = SocketAddr::from(([10, 0, 0, 1], 1)).into();
        Ok((Socket { state: Rc::clone(&self.0), peer: Peer::Client }, client))
    }

    fn may_connect_from(&mut self, source: IpAddr) -> io::Result<()> {
        unreachable!("{source} is no source of this plan");
    }

    fn connect(&mut self, _: &Address, _: Option<IpAddr>, token: Token) -> io::Result<Socket> {
        let mut state = self.0.borrow_mut();
        state.connects += 1;
        state.open()?;
        drop(state);
        let mut stream = Socket { state: Rc::clone(&self.0), peer: Peer::Upstream };
        self.register(&mut stream, token)?;
        Ok(stream)
    }

    fn connected(&mut self, stream: &mut Socket) -> io::Result<bool> {
        if stream.call().stands { Ok(true) } else { Err(Errno::CONNREFUSED.into()) }
    }

    fn register(&mut self, stream: &mut Socket, token: Token) -> io::Result<()> {
        stream.call().tokens[stream.peer as usize].push(token);
        Ok(())
    }

    fn pipe(&mut self) -> io::Result<()> {
        self.0.borrow_mut().calls += 1;
        Err(Errno::NFILE.into())
    }
}

impl Stream for Socket {
    type Pipe = ();

    fn short_is_dry(&self) -> bool {
        true
    }

    fn epipe_is_fin(&self) -> bool {
        true
    }

    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let error = self.call().upstream_error.filter(|_| self.peer == Peer::Upstream);
        Err(error.unwrap_or(Errno::AGAIN).into())
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        drop(self.call());
        Ok(data.len())
    }

    fn splice_in(&mut self, (): &mut (), _: usize) -> io::Result<usize> {
        drop(self.call());
        Err(Errno::AGAIN.into())
    }

    fn splice_out(&mut self, (): &mut (), count: usize) -> io::Result<usize> {
        drop(self.call());
        Ok(count)
    }

    fn read_pipe(&mut self, (): &mut (), _: &mut [u8]) -> io::Result<usize> {
        Err(Errno::OPNOTSUPP.into())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        drop(self.call());
        Ok(())
    }

    fn take_error(&mut self) -> io::Result<()> {
        drop(self.call());
        Ok(())
    }

    fn unacked(&self) -> io::Result<usize> {
        Ok(self.call().unacked)
    }

    fn received(&self) -> io::Result<u64> {
        drop(self.call());
        Ok(0)
    }

    fn retransmission_timeout(&self) -> io::Result<Duration> {
        drop(self.call());
        Ok(Duration::from_millis(200))
    }

    fn local(&self) -> io::Result<Address> {
        drop(self.call());
        Ok(SocketAddr::from(([127, 0, 0, 1], 80)).into())
    }

    fn keep_alive(&mut self, _: Duration) {
        drop(self.call());
    }

    fn set_user_timeout(&mut self, _: Duration) {
        drop(self.call());
    }

    fn close(self) {}
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        state.calls += 1;
        state.descriptors += 1;
    }
}
