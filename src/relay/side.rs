//! A stream and what we remember of it: the edge-trigger contract lives here, and the first error.

use std::io::{self, ErrorKind};

use crate::net::{Hints, Stream, is_shortage};

/// One stream of a pair.
///
/// Readiness arrives once, as an edge, and is remembered until the kernel says WouldBlock. Errors are told once, by
/// whichever call comes first, and are remembered for good.
#[derive(Debug)]
pub struct Side<S> {
    stream: S,
    /// What events hinted at, until a call proved otherwise. READ_TO_EAGAIN stays for good: its edge is spent, so a short count
    /// proves nothing any more (K6, K15). So does FIN, once it was seen or read. ERROR is there until SO_ERROR was
    /// asked for.
    hints: Hints,
    /// Reads are over: the end came, or an error.
    ended: bool,
    /// EPIPE came behind a part of a pipe, which may have swallowed a reset: whether a FIN had come before, the end of
    /// input and a count will tell.
    in_doubt: bool,
    fault: Option<Fault>,
}

/// What a socket died of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The peer reset the connection: whatever the kernel says next, its stream was cut (K1).
    Reset,
    /// EPIPE: the peer's FIN had come before its reset, so it finished speaking and no longer listens (K16).
    Closed,
    /// The peer stopped answering: retransmissions or keepalives ran out, or the network says it is unreachable.
    Timeout,
    /// The kernel ran out of memory or buffers.
    Resources,
}

impl Fault {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Closed,
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Self::Timeout,
            _ if is_shortage(error) => Self::Resources,
            _ => Self::Reset,
        }
    }

    /// Does it end both directions? After EPIPE what the peer said can still be read.
    const fn is_fatal(self) -> bool {
        match self {
            Self::Reset | Self::Timeout | Self::Resources => true,
            Self::Closed => false,
        }
    }
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadResult {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing yet; an event will come.
    Nothing,
    /// Nothing, ever: the stream ended like this.
    End(End),
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a FIN: everything was said.
    Fin,
    /// Without one.
    Reset,
}

impl<S: Stream> Side<S> {
    /// A stream that nothing is known of yet. It is taken for writable, since trying tells; that it can be read, an
    /// event will say.
    pub const fn new(stream: S) -> Self {
        Self { stream, hints: Hints::WRITABLE, ended: false, in_doubt: false, fault: None }
    }

    /// The stream itself, for the calls that are not about bytes.
    pub const fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Remembers an event. A hang-up or an error says "try both now", never "close".
    pub fn mark(&mut self, mut hints: Hints) {
        if self.fault.is_some() || hints.has(Hints::ERROR) {
            // A reset looks like the end of input too.
            hints.remove(Hints::FIN);
        }
        self.hints |= hints;
        if hints.has(Hints::READ_TO_EAGAIN | Hints::FIN | Hints::ERROR) {
            self.hints |= Hints::READ_TO_EAGAIN;
            self.assume_ready();
        }
    }

    /// Forgets what was held against this side: whatever its readiness, the next call tries.
    pub fn assume_ready(&mut self) {
        self.hints |= Hints::READABLE | Hints::WRITABLE;
    }

    /// If an error was announced, asks for it: SO_ERROR is the only way to see a reset while nothing can be read or
    /// written (K8), or after the FIN (K12).
    pub fn check_error(&mut self) {
        if self.hints.has(Hints::ERROR) {
            self.hints.remove(Hints::ERROR);
            if let Err(error) = self.stream.take_error() {
                self.fail(&error);
            }
        }
    }

    /// The first error of this side, if there was one.
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Is the socket of no use any more, in neither direction? Not if the peer had finished speaking before.
    pub(super) fn is_dead(&self) -> bool {
        self.fault.is_some_and(Fault::is_fatal) && !self.hints.has(Hints::FIN)
    }

    /// Did the peer finish speaking, and have we read that?
    pub(super) const fn has_finished(&self) -> bool {
        self.ended && self.hints.has(Hints::FIN)
    }

    /// Remembers what this side died of, if it is the first thing.
    fn latch(&mut self, fault: Fault) {
        if self.fault.is_none() {
            // Once we have sent a FIN too, the kernel says ECONNRESET where it would have said EPIPE.
            let hung_up = fault == Fault::Reset && self.hints.has(Hints::FIN);
            self.fault = Some(if hung_up { Fault::Closed } else { fault });
            // What the peer sent before is still there to be read, and how that ends decides what the other side is
            // told. Perhaps no event will say so, and a short count proves nothing.
            self.hints |= Hints::READ_TO_EAGAIN;
            self.assume_ready();
        }
    }

    /// Remembers an error of a call, if it is the first.
    pub fn fail(&mut self, error: &io::Error) {
        self.latch(Fault::of(error));
    }

    /// May a read give something?
    pub(super) const fn is_readable(&self) -> bool {
        self.hints.has(Hints::READABLE) && !self.ended
    }

    /// May a write take something?
    pub(super) const fn is_writable(&self) -> bool {
        self.hints.has(Hints::WRITABLE)
    }

    /// Reads into `room`, which is not empty.
    pub(super) fn read(&mut self, room: &mut [u8]) -> ReadResult {
        debug_assert!(!room.is_empty(), "0 bytes read without room would look like the end");
        loop {
            match self.stream.read(room) {
                Ok(0) => return ReadResult::End(self.end()),
                Ok(count) => {
                    // A short read means empty, unless the FIN came in the same edge (K6) or an urgent mark stopped us
                    // (K15): then read on.
                    if count < room.len() && self.short_is_dry() {
                        self.hints.remove(Hints::READABLE);
                    }
                    return ReadResult::Bytes(count);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => {
                        self.hints.remove(Hints::READABLE);
                        return ReadResult::Nothing;
                    }
                    _ => {
                        // EPIPE is an answer to writing. Should a read give it, no FIN was read before it.
                        let fault = Fault::of(&error);
                        self.latch(if fault == Fault::Closed { Fault::Reset } else { fault });
                        (self.ended, self.in_doubt) = (true, false);
                        return ReadResult::End(End::Reset);
                    }
                },
            }
        }
    }

    /// Reads are over; how?
    fn end(&mut self) -> End {
        self.ended = true;
        match self.fault {
            // K1: an error is told once, and what follows only looks like the end, unless the FIN was seen before.
            Some(Fault::Reset | Fault::Timeout | Fault::Resources) if !self.hints.has(Hints::FIN) => End::Reset,
            Some(_) | None if self.in_doubt && !self.hints.has(Hints::FIN) => End::Reset,
            // K16: after EPIPE the end is true, the FIN came first.
            Some(_) | None => {
                self.hints |= Hints::FIN;
                End::Fin
            }
        }
    }

    /// Reads are over, and `read` bytes have come in all: if there was a doubt how it ended, the kernel's count
    /// decides, for a FIN counts as one.
    pub(super) fn settle_doubt(&mut self, end: End, read: u64) -> End {
        if !std::mem::replace(&mut self.in_doubt, false) || self.hints.has(Hints::FIN) {
            return end;
        }
        if self.stream.received().is_ok_and(|received| received == read + 1) {
            self.hints |= Hints::FIN;
            return End::Fin;
        }
        self.fault = Some(Fault::Reset);
        End::Reset
    }

    /// Writes the front of `data`, which is not empty, and says how much; nothing when blocked or when it failed.
    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        debug_assert!(!data.is_empty());
        loop {
            match self.stream.write(data) {
                // No kernel does this to a stream; were it believed, the loop would spin.
                Ok(0) => self.latch(Fault::Reset),
                Ok(count) => {
                    if count < data.len() && self.short_is_dry() {
                        self.hints.remove(Hints::WRITABLE);
                    }
                    return count;
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock => self.hints.remove(Hints::WRITABLE),
                    _ => self.fail(&error),
                },
            }
            return 0;
        }
    }

    /// May bytes of this stream go through a pipe? Not once a mark was seen: splice(2) stops there, and behind it says
    /// 0 although there is more (K15).
    pub(super) fn may_be_spliced(&self) -> bool {
        self.fault.is_none() && !self.hints.has(Hints::READ_TO_EAGAIN)
    }

    /// Moves what there is into an empty pipe, but not more than `most`, and says how much. 0 says nothing: neither
    /// that there is nothing, nor that it is over. [`read`](Self::read) will tell.
    pub(super) fn splice_in(&mut self, pipe: &mut S::Pipe, most: usize) -> usize {
        loop {
            match self.stream.splice_in(pipe, most) {
                Ok(count) => return count,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    // Nothing is there, or a mark stands in front of it, or a page was not to be had.
                    ErrorKind::WouldBlock => {}
                    // This socket is not one for pipes, or the kernel has no pages. Reading until WouldBlock is always
                    // right, and keeps it from being tried again.
                    ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::OutOfMemory => {
                        self.hints |= Hints::READ_TO_EAGAIN;
                    }
                    // The socket's own, and told once. Behind a mark there may be bytes still, so reading goes on.
                    _ => {
                        let fault = Fault::of(&error);
                        self.latch(if fault == Fault::Closed { Fault::Reset } else { fault });
                    }
                },
            }
            return 0;
        }
    }

    /// Writes the `count` bytes that are in the pipe, and says how many were taken; fewer when blocked or when it
    /// failed.
    pub(super) fn splice_out(&mut self, pipe: &mut S::Pipe, count: usize) -> usize {
        debug_assert!(count > 0);
        let mut done = 0;
        while done < count {
            match self.stream.splice_out(pipe, count - done) {
                // As with write.
                Ok(0) => self.latch(Fault::Reset),
                // The kernel sends a pipe piece by piece, and what stopped it is not told, be it an error that is told
                // once. The next call says what is left to be said.
                Ok(more) => {
                    done += more;
                    continue;
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock => self.hints.remove(Hints::WRITABLE),
                    // So this may be all that is left of a reset, and proves no FIN (K16).
                    ErrorKind::BrokenPipe if done > 0 => {
                        self.in_doubt = self.fault.is_none();
                        self.latch(Fault::Closed);
                    }
                    _ => self.fail(&error),
                },
            }
            break;
        }
        done
    }

    /// Does a count shorter than asked for prove that an edge will come?
    const fn short_is_dry(&self) -> bool {
        S::SHORT_IS_DRY && !self.hints.has(Hints::READ_TO_EAGAIN)
    }

    /// Sends a FIN. If that fails, the fault says so.
    pub(super) fn shutdown_write(&mut self) {
        if let Err(error) = self.stream.shutdown_write() {
            self.fail(&error);
        }
    }

    /// What the peer has not acknowledged: nothing when it is dead, something when the kernel cannot say.
    pub(super) fn unacked(&self) -> usize {
        match self.fault {
            None => self.stream.unacked().unwrap_or(1),
            Some(_) => 0,
        }
    }

    /// Says goodbye: what was written arrives, then a FIN. Dropping a side resets it instead.
    pub(super) fn close(self) {
        self.stream.close();
    }
}
