//! A socket that is a few counters, and a pipe that is less.

use std::cell::Cell;
use std::hint::black_box;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use tproxy::net::{Address, Hints, Stream, Token};

/// What a pipe of net/mio holds.
const PIPE: usize = 1 << 20;

/// What a bench does to a peer's socket, and what it sees of it. It takes whatever is written.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// Bytes that came and were not read yet.
    unread: Cell<usize>,
    /// Behind them the FIN has come.
    ended: Cell<bool>,
    copied: Cell<usize>,
    spliced: Cell<usize>,
    closed: Cell<bool>,
    /// Where events go, once the relay has asked for them.
    token: Cell<Option<Token>>,
}

impl Wire {
    /// The peer sends so many bytes.
    pub(crate) fn say(&self, count: usize) {
        self.unread.set(self.unread.get() + count);
    }

    /// The peer sends its FIN.
    pub(crate) fn end(&self) {
        self.ended.set(true);
    }

    /// Bytes written to the peer since this was last asked: those copied, and those that came through a pipe.
    pub(crate) fn heard(&self) -> (usize, usize) {
        (self.copied.take(), self.spliced.take())
    }

    /// Was the peer told goodbye? Then this is a new wire.
    pub(crate) fn is_closed(&self) -> bool {
        self.ended.set(false);
        self.closed.take()
    }

    /// Events go to this token.
    pub(crate) fn register(&self, token: Token) {
        self.token.set(Some(token));
    }

    pub(crate) fn token(&self) -> Option<Token> {
        self.token.get()
    }

    /// What an edge says now. Linux tells both directions' state whichever of them changed.
    pub(crate) fn edge(&self) -> Hints {
        let mut hints = Hints::WRITABLE;
        if self.unread.get() > 0 || self.ended.get() {
            hints |= Hints::READABLE;
        }
        if self.ended.get() {
            hints |= Hints::READ_TO_EAGAIN | Hints::FIN;
        }
        hints
    }

    /// Takes so many bytes of those that came, if there are any.
    fn take(&self, most: usize) -> io::Result<usize> {
        let unread = self.unread.get();
        let count = unread.min(most);
        self.unread.set(unread - count);
        match count {
            0 if self.ended.get() => Ok(0),
            0 => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(count),
        }
    }
}

/// The relay's end of a wire.
#[derive(Debug)]
pub(crate) struct Socket(pub(crate) Rc<Wire>);

/// What is in it, its lease knows.
#[derive(Debug)]
pub(crate) struct Pipe;

impl Stream for Socket {
    type Pipe = Pipe;

    fn short_is_dry(&self) -> bool {
        true
    }
    fn epipe_is_fin(&self) -> bool {
        true
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        // The bytes could be anything from now on, so nothing is left out because nobody looks at them.
        self.0.take(black_box(room).len())
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.copied.set(self.0.copied.get() + black_box(data).len());
        Ok(data.len())
    }

    fn splice_in(&mut self, _: &mut Pipe, most: usize) -> io::Result<usize> {
        self.0.take(most.min(PIPE))
    }

    fn splice_out(&mut self, _: &mut Pipe, count: usize) -> io::Result<usize> {
        self.0.spliced.set(self.0.spliced.get() + count);
        Ok(count)
    }

    fn read_pipe(&mut self, _: &mut Pipe, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn take_error(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn unacked(&self) -> io::Result<usize> {
        Ok(0)
    }

    fn received(&self) -> io::Result<u64> {
        Err(ErrorKind::Unsupported.into())
    }

    fn retransmission_timeout(&self) -> io::Result<Duration> {
        Err(ErrorKind::Unsupported.into())
    }

    fn local(&self) -> io::Result<Address> {
        Err(ErrorKind::Unsupported.into())
    }

    fn keep_alive(&mut self, _: Duration) {}

    fn set_user_timeout(&mut self, _: Duration) {}

    fn close(self) {
        self.0.closed.set(true);
    }
}
