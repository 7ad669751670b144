//! Two kernels under one script.

mod real;
mod simulated;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use real::Real;
pub(crate) use simulated::Sim;
use tproxy::net::{Address, Hints, Net, Peer, Sleep, Stream, Time, Token};

/// How long nothing must happen before it counts as nothing.
pub(crate) const QUIET: Duration = Duration::from_millis(20);

/// A kernel, and the peers at its other end.
pub(crate) trait Rig: Sized {
    type Net: Net;

    fn new() -> Self;
    /// The same, and clients come by a Unix socket.
    fn unix() -> Self;
    fn net(&mut self) -> &mut Self::Net;
    fn listener(&mut self) -> (&mut Self::Net, &mut <Self::Net as Net>::Listener);
    fn stop_listening(&mut self);

    /// A client connects to the listener. Peers have numbers.
    fn client(&mut self) -> usize;
    /// Somebody listens here, or nobody does.
    fn upstream(&mut self, there: bool) -> SocketAddr;
    /// Somebody listens here, and his queue is full.
    fn full_upstream(&mut self) -> SocketAddr;
    /// Somebody listens at this Unix socket, and his queue is full.
    fn full_unix(&mut self) -> Address;
    /// The client of the Unix socket says this with a descriptor.
    fn pass(&mut self, peer: usize, what: &[u8]);
    /// A connection of the relay that met itself.
    fn met_itself(&mut self, token: Token) -> <Self::Net as Net>::Stream;
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
