//! The kernel's side of the event loop.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::address::{Address, Client};
use super::handed::Handed;
use super::hints::Ready;
use super::histogram::Histogram;
use super::message::{Message, NameId};
use super::stream::Stream;
use super::time::{Sleep, Time};
use super::token::Token;

/// Clients that may wait in the kernel's queue before they are accepted. The kernel lowers it to
/// `net.core.somaxconn`, which is 4096 since Linux 5.4 (`listen(2)`).
pub const LISTEN_BACKLOG: u16 = 4096;

/// The idle time after which the kernel asks a peer whether it is still there.
pub const KEEPALIVE: Duration = Duration::from_secs(60);

/// The permissions of a Unix socket's file: its user and its group may connect.
pub const UNIX_MODE: u16 = 0o660;

/// How to listen. Accepted sockets inherit the times (K13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenOptions {
    /// Clients that may wait in the kernel's queue, which holds one more (K7).
    pub backlog: u16,
    /// The idle time of SO_KEEPALIVE, in whole seconds. None: it is off.
    pub keepalive: Option<Duration>,
    /// TCP_USER_TIMEOUT. None: it is off.
    pub user_timeout: Option<Duration>,
    /// The permissions of a Unix socket's file (`chmod(2)`).
    pub unix_mode: u16,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: LISTEN_BACKLOG, keepalive: Some(KEEPALIVE), user_timeout: None, unix_mode: UNIX_MODE }
    }
}

/// Why a listener is closed. What is inherited belongs to its owner too, such as systemd, and is not given up lightly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// The relay stops.
    Stopped,
    /// No route has it any more. An inherited one stays open, without events, until its address is listened on again.
    Removed,
    /// The routes that it was bound for are not served after all. An inherited one stays open, as above.
    Abandoned,
    /// Another process has it, with the clients in its queue and the file of a Unix socket.
    HandedOver,
}

/// What addresses that lead to one socket have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AddressKey {
    /// The port of an IP address. The addresses decide: see [`Net::leads_back`].
    Port(u16),
    /// The file at a Unix socket's path, under whatever alias: its device and its number there (`stat(2)`).
    File(u64, u64),
    /// The abstract name of a Unix socket behind a NUL, or a path where there is no file.
    Name(Arc<[u8]>),
}

/// The kernel's side of the event loop.
pub trait Net {
    /// A connected socket.
    type Stream: Stream;
    /// A listening socket. Dropping it resets the clients that wait in its queue.
    type Listener;

    /// Waits, appends the events to `ready` and what was said from outside to `messages`, and returns when the wait
    /// ended. This is the only source of time: within a turn it stands still. An interrupted wait brings nothing. An
    /// error ends the process.
    fn wait(&mut self, sleep: Sleep, ready: &mut Vec<Ready>, messages: &mut Vec<Message>) -> io::Result<Time>;

    /// Listens at this address and asks for the listener's events under this token. Returns the address with the port
    /// that the kernel chose if it was 0. The file of a Unix socket is replaced if nobody answers behind it, otherwise
    /// this is AddrInUse.
    ///
    /// A socket that was inherited and is known by this address is taken instead. Clients may wait in its queue already, and
    /// an event tells of them. They have none of the options (K23): accept sets them, until it has found the queue empty.
    fn listen(&mut self, at: &Address, how: &ListenOptions, token: Token) -> io::Result<(Self::Listener, Address)>;

    /// Changes how a listener listens. Clients that wait in its queue keep the times that they have (K23).
    fn change_listener(&mut self, listener: &mut Self::Listener, how: &ListenOptions) -> io::Result<()>;

    /// Ends the events of this listener, then closes it: its events would go on while another process has it (K25). Clients
    /// that wait in its queue are reset, unless another process has it. The file of a Unix socket goes too, if it is still
    /// its own.
    fn unlisten(&mut self, listener: Self::Listener, why: Closing);

    /// All listening sockets, to be handed over: these listeners, and inherited ones that no route has.
    fn hand_over(&mut self, listeners: &mut dyn Iterator<Item = &Self::Listener>) -> Vec<Handed>;

    /// Looks up a name and returns at once. Exactly one [`Message::Resolved`] with this number comes later, however long
    /// that takes, and whatever goes wrong. Its addresses have port 0, are there once each, and IPv6 and IPv4 take turns,
    /// in the resolver's order otherwise. There may be more than an upstream may have, but not many more.
    fn resolve(&mut self, name: NameId, host: &str);

    /// The key of an address. An address with another key leads to another socket.
    fn key(&mut self, of: &Address) -> AddressKey;

    /// Would a connection to `upstream` end at the listener that is bound to `listening`, under whatever alias? They have
    /// the same port.
    fn leads_back(&mut self, listening: SocketAddr, upstream: SocketAddr) -> bool;

    /// Takes one client off the listener's queue. It has the listener's options (K13). A client of a Unix
    /// socket is its process and its user.
    fn accept(&mut self, from: &mut Self::Listener) -> io::Result<(Self::Stream, Client)>;

    /// Can sockets be connected from this address? If not, says why.
    fn may_connect_from(&mut self, source: IpAddr) -> io::Result<()>;

    /// Begins to connect, options set first, and asks for every event of the stream under this token, as
    /// [`register`](Self::register) does. A connection under way is Ok. With a source, which is of the family of `to`, it
    /// comes from that address, and the port is chosen for this destination alone. An error with the kind AddrNotAvailable
    /// and no number means that nothing can come from there (see [`errno`](super::errno)). EAGAIN of a Unix socket: its
    /// backlog is full, and no event will tell when it is not (K22).
    fn connect(&mut self, to: &Address, source: Option<IpAddr>, token: Token) -> io::Result<Self::Stream>;

    /// Is the connection established? Ok(false) means that it is still under way. A socket connected to itself (K14) is
    /// ConnectionRefused. ConnectionReset and BrokenPipe mean that it was established and is gone again: what the peer
    /// said can still be read.
    fn connected(&mut self, stream: &mut Self::Stream) -> io::Result<bool>;

    /// Asks for every event of this stream under this token: once, never changed, undone only by dropping the stream.
    /// What is ready already raises an event too.
    fn register(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;

    /// How long the loop worked between two waits, as far as that was measured.
    fn turn_times(&self) -> Histogram;

    /// An empty pipe. Unsupported where there are none.
    fn pipe(&mut self) -> io::Result<<Self::Stream as Stream>::Pipe>;
}
