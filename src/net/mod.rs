//! The seam: every kernel call the relay makes, as two traits.
//!
//! [`Net`] is the event queue and what creates sockets, [`Stream`] is one connected socket. [`mio`] implements them on
//! the real kernel; a simulated kernel can implement them from one seed and drive the whole reactor, clock included.
//!
//! Nothing below promises more than a kernel does: readiness is edge-triggered and a hint, errors are one-shot, and
//! only the result of a call changes what the relay believes.

mod control;
pub mod errno;
pub mod mio;
mod pipe;
mod raw;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::{Add, BitOr, BitOrAssign};
use std::time::Duration;

pub use control::Control;

/// A moment, in nanoseconds since the reactor began. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(u64);

impl Time {
    /// The moment the reactor began; as a deadline, one that has always passed.
    pub const START: Self = Self(0);

    /// A moment that does not come.
    pub const NEVER: Self = Self(u64::MAX);

    /// `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// One of the two ends of a session. A flow is named by the peer it reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Who connected to us.
    Client,
    /// Whom we connected to.
    Upstream,
}

impl Peer {
    /// Both, the client first.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Upstream];

    /// The one at the other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// Whose event it is: `serial << 32 | key << 1 | peer`.
///
/// A key is a place in a table and is used again; a serial is given once (the counter wraps after 4 billion sockets).
/// The slot remembers its serials, so an event that comes late finds nobody instead of a stranger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// The listener's. No socket has serial 0.
    pub const LISTENER: Self = Self(0);

    /// The largest key a token can carry.
    pub const KEY_MAX: u32 = (1 << 31) - 1;

    /// The token of the socket with this serial, in slot `key`, at `peer`'s end. `key` is at most [`Token::KEY_MAX`].
    pub const fn new(serial: u32, key: u32, peer: Peer) -> Self {
        debug_assert!(key <= Self::KEY_MAX);
        Self((serial as u64) << 32 | (key as u64) << 1 | peer as u64)
    }

    /// The token as the kernel carries it.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The token that the kernel carried.
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw)
    }

    /// The socket's serial.
    pub const fn serial(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The slot.
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is the serial and is meant to go")]
    pub const fn key(self) -> usize {
        (self.0 as u32 >> 1) as usize
    }

    /// Which end of the session.
    pub const fn peer(self) -> Peer {
        if self.0 & 1 == 0 { Peer::Client } else { Peer::Upstream }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LISTENER => f.write_str("listener"),
            token => write!(f, "{:?}#{}@{}", token.peer(), token.serial(), token.key()),
        }
    }
}

/// What an event hints at.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Hints(u8);

impl Hints {
    /// A read may give something; for a listener, an accept.
    pub const READABLE: Self = Self(1);
    /// A write may take something; while connecting, it may be over.
    pub const WRITABLE: Self = Self(2);
    /// A FIN, a hang-up or an urgent mark was seen: from now on only WouldBlock proves this socket dry (K6, K15).
    pub const READ_TO_EAGAIN: Self = Self(4);
    /// The peer's FIN has come: everything it sent before can be read, and the end of that will be true, whatever the
    /// socket dies of afterwards. Never together with ERROR, for a reset hangs up both directions as well.
    pub const FIN: Self = Self(16);
    /// An error waits in SO_ERROR. It is one-shot: whoever asks must remember the answer.
    pub const ERROR: Self = Self(8);

    /// Is any bit of `other` among these?
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Without the hints of `other`.
    pub const fn remove(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

impl BitOr for Hints {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Hints {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::READABLE, 'r'),
            (Self::WRITABLE, 'w'),
            (Self::READ_TO_EAGAIN, 'e'),
            (Self::FIN, 'f'),
            (Self::ERROR, '!'),
        ];
        names.into_iter().filter(|(bit, _)| self.has(*bit)).try_for_each(|(_, name)| write!(f, "{name}"))
    }
}

/// One event: all of it is a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Whose.
    pub token: Token,
    /// What it hints at.
    pub hints: Hints,
}

/// What a wait brought beside the events. It is the only source of time: within a turn, it stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// When the wait ended.
    pub now: Time,
    /// Was a stop asked for since the last wait? However many requests came, this is one.
    pub stop: bool,
}

/// One connected socket, all that the relay knows of the world.
///
/// SO_LINGER {1, 0} is armed for life: **dropping a stream resets it**, so a crash, a panic or a forgotten path is
/// truthful. Only [`close`](Stream::close) says goodbye.
pub trait Stream: Sized {
    /// Does a short count prove that the socket has nothing more to give (or to take), so that an edge will follow?
    /// True for epoll (`epoll(7)`, question 9); elsewhere only WouldBlock proves it.
    const SHORT_IS_DRY: bool;

    /// Something of the kernel's that holds bytes on their way from one stream to another: a pipe, on Linux. Dropping
    /// it throws away what is in it.
    type Pipe: fmt::Debug;

    /// Reads into `room`, which is not empty. 0 is the end of what will come, true or not (K1).
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize>;

    /// Writes the front of `data`, which is not empty, and says how much. Raises no SIGPIPE.
    fn write(&mut self, data: &[u8]) -> io::Result<usize>;

    /// Moves what has come into `pipe`, which is empty, and says how much: at most `most`, and what the pipe has room
    /// for. Whatever else it gives, 0 and WouldBlock included, proves nothing but that nothing was moved (K15); an
    /// error of the stream's is told once all the same.
    fn splice_in(&mut self, pipe: &mut Self::Pipe, most: usize) -> io::Result<usize>;

    /// Writes the front of what is in `pipe`, where there are `count` bytes and no more, and says how much. If that is
    /// less, an error that is told once may have been swallowed: the kernel calls the socket for every few pages, and
    /// tells of what was sent rather than of what went wrong then (`splice_to_socket` in `fs/splice.c`). So only the
    /// next call says why. Where SIGPIPE is not ignored, as Rust's `main` does, it is raised.
    fn splice_out(&mut self, pipe: &mut Self::Pipe, count: usize) -> io::Result<usize>;

    /// Sends a FIN behind what was written: `shutdown(Write)`. ENOTCONN says that nobody is left to hear it; then
    /// SO_ERROR decides, for it may hold the reset that answered the last write.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// SO_ERROR as a result. One-shot: the kernel forgets it.
    fn take_error(&mut self) -> io::Result<()>;

    /// Bytes written and not yet acknowledged, the FIN counting as one (K17). Unsupported where the kernel cannot say.
    fn unacked(&self) -> io::Result<usize>;

    /// Bytes that have come from the peer, read or not, its FIN counting as one, as long as the stream is open, and
    /// whatever it died of. Unsupported where the kernel cannot say.
    fn received(&self) -> io::Result<u64>;

    /// From now on a peer that is silent is asked whether it is still there. Accepted streams are so from the beginning
    /// (K13); for one that was connected it costs calls, which the many short ones need not pay.
    fn keep_alive(&mut self);

    /// Disarms the reset and closes: what was written is still delivered, then a FIN, by the kernel.
    fn close(self);
}

/// The kernel's side of the event loop.
pub trait Net {
    /// A connected socket.
    type Stream: Stream;
    /// A listening socket. Dropping it resets the clients that wait in its queue.
    type Listener;

    /// Waits for events until the moment given (for ever without one; not at all if it has passed), and appends them
    /// to `ready`. An interrupted wait is an empty turn. An error is the end of the process.
    fn wait(&mut self, until: Option<Time>, ready: &mut Vec<Ready>) -> io::Result<Turn>;

    /// Takes one client off the listener's queue, its options inherited from the listener (K13).
    fn accept(&mut self, from: &mut Self::Listener) -> io::Result<(Self::Stream, SocketAddr)>;

    /// Begins to connect, options set first; under way is Ok.
    fn connect(&mut self, to: SocketAddr) -> io::Result<Self::Stream>;

    /// Has the connection come about? Ok(false) means it is still under way. A socket connected to itself (K14) is
    /// ConnectionRefused. ConnectionReset and BrokenPipe mean that it had come about and is gone again: what the peer
    /// said can still be read.
    fn connected(&mut self, stream: &mut Self::Stream) -> io::Result<bool>;

    /// Asks for every event of this stream under this token: once, never changed, undone only by dropping the stream.
    /// What is ready already raises an event too.
    fn register(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;

    /// A new pipe, empty. Unsupported where there are none.
    fn pipe(&mut self) -> io::Result<<Self::Stream as Stream>::Pipe>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_what_was_put_in() {
        for serial in [1, 2, 0x8000_0000, u32::MAX] {
            for key in [0, 1, 4096, Token::KEY_MAX] {
                for peer in Peer::BOTH {
                    let token = Token::from_u64(Token::new(serial, key, peer).as_u64());
                    assert_eq!((token.serial(), token.key(), token.peer()), (serial, key as usize, peer));
                    assert_ne!(token, Token::LISTENER);
                }
            }
        }
    }

    #[test]
    fn bits_are_told_apart() {
        let all = [Hints::READABLE, Hints::WRITABLE, Hints::READ_TO_EAGAIN, Hints::FIN, Hints::ERROR];
        for (i, one) in all.into_iter().enumerate() {
            for (j, two) in all.into_iter().enumerate() {
                assert_eq!(one.has(two), i == j);
            }
        }
        let mut hints = Hints::READABLE | Hints::ERROR;
        assert_eq!(format!("{hints:?}"), "r!");
        hints |= Hints::READ_TO_EAGAIN;
        assert!(hints.has(Hints::READ_TO_EAGAIN) && !hints.has(Hints::WRITABLE));
        hints.remove(Hints::ERROR | Hints::WRITABLE);
        assert_eq!(hints, Hints::READABLE | Hints::READ_TO_EAGAIN);
    }

    #[test]
    fn time_never_goes_back_nor_over_the_edge() {
        let second = Duration::from_secs(1);
        assert_eq!((Time::START + second).since(Time::START), second);
        assert_eq!(Time::START.since(Time::START + second), Duration::ZERO);
        assert_eq!(Time::from_nanos(u64::MAX) + second, Time::from_nanos(u64::MAX));
        assert_eq!(Time::START + Duration::MAX, Time::from_nanos(u64::MAX));
    }
}
