//! A stream and what we remember of it: readiness, bytes read, how its input ended, its first error.

use std::io;
use std::time::Duration;

use super::input::{AtZero, End, Fault, Input};
use crate::net::errno::{SpliceError, StreamError, on_splice, on_stream};
use crate::net::{Hints, Stream};

/// One stream of a pair.
///
/// Readiness arrives once, as an edge, and is remembered until the kernel says WouldBlock. The kernel tells each error
/// once, to whichever call comes first; the side remembers the first for good.
#[derive(Debug)]
pub struct Side<S> {
    stream: S,
    /// Bytes read, modulo 2³². The kernel's count is compared with it (K19).
    bytes_read: u32,
    /// What events hinted at, until a call proved otherwise. READ_TO_EAGAIN stays for good: its edge is spent, so a
    /// short count proves nothing any more (K6, K15). ERROR stays until SO_ERROR was asked for. FIN becomes `input`.
    hints: Hints,
    input: Input,
    first_error: Option<Fault>,
    /// The first error was found, and [`check_error`](Self::check_error) has not told it yet.
    error_is_new: bool,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadResult {
    /// This many bytes, at least one.
    Bytes(usize),
    /// Nothing yet; an event will come.
    Nothing,
    /// Nothing, ever: the stream ended like this.
    End(End),
}

impl<S: Stream> Side<S> {
    /// A stream that nothing is known of. A write may be tried at once. An event will say when it can be read.
    pub const fn new(stream: S) -> Self {
        Self {
            stream,
            bytes_read: 0,
            hints: Hints::WRITABLE,
            input: Input::Open,
            first_error: None,
            error_is_new: false,
        }
    }

    /// The stream itself, for the calls that are not about bytes.
    pub const fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Remembers an event. A hang-up or an error says "try both now", never "close". Returns whether the peer's end was
    /// seen for the first time.
    pub fn mark(&mut self, mut hints: Hints) -> bool {
        if !hints.has(Hints::READ_TO_EAGAIN | Hints::FIN | Hints::ERROR | Hints::HANG_UP) {
            self.hints |= hints;
            return false;
        }
        let had_ended = self.is_end_seen();
        // A reset looks like the end of input too, so beside an error, or after one, this is no FIN. Nor beside a hang-up
        // where a reset may be half told: only reading decides then.
        let is_proof = self.stream.epipe_is_fin() || !hints.has(Hints::HANG_UP);
        let is_clean = is_proof && self.first_error.is_none() && !hints.has(Hints::ERROR) && !self.input.is_ended();
        if hints.has(Hints::FIN) && is_clean {
            self.input = Input::FinSeen;
        }
        hints.remove(Hints::FIN);
        self.hints |= hints | Hints::READ_TO_EAGAIN | Hints::READABLE | Hints::WRITABLE;
        self.is_end_seen() && !had_ended
    }

    /// Has the peer finished speaking, or hung up in a way that only reading explains?
    pub(super) fn is_end_seen(&self) -> bool {
        self.has_fin() || (self.hints.has(Hints::HANG_UP) && !self.stream.epipe_is_fin())
    }

    /// Forgets every WouldBlock: the next calls try.
    pub fn assume_ready(&mut self) {
        self.hints |= Hints::READABLE | Hints::WRITABLE;
    }

    /// If an event announced an error, asks SO_ERROR for it. Nothing else tells of a reset while the side can be
    /// neither read nor written (K8), or after the FIN (K12). Returns whether the side has failed since this was last
    /// called.
    pub fn check_error(&mut self) -> bool {
        if self.hints.has(Hints::ERROR) {
            self.hints.remove(Hints::ERROR);
            if let Err(error) = self.stream.take_error() {
                self.fail(&error);
            }
        }
        std::mem::take(&mut self.error_is_new)
    }

    /// The first error of this side.
    pub const fn first_error(&self) -> Option<Fault> {
        self.first_error
    }

    /// Is the socket of no use in either direction?
    pub(super) fn is_dead(&self) -> bool {
        self.input.is_dead(self.first_error)
    }

    /// Has the peer finished speaking, whether or not that was read?
    pub(super) fn has_fin(&self) -> bool {
        self.input.has_fin()
    }

    /// Did the peer finish speaking, and have we read that?
    pub(super) fn has_finished(&self) -> bool {
        self.input == Input::FinRead
    }

    /// Remembers an error of a call, if it is the first.
    pub fn fail(&mut self, error: &io::Error) {
        self.latch(Fault::of(error));
    }

    fn latch(&mut self, fault: Fault) {
        let fault = self.input.name(fault);
        let overrules = !self.stream.epipe_is_fin() && fault.overrules_epipe();
        if self.first_error.is_none_or(|first| first == Fault::Closed && overrules) {
            self.first_error = Some(fault);
            self.error_is_new = true;
            // What the peer sent before can still be read, and how it ends decides what the other side is told. No
            // event may announce it, and a short count proves nothing.
            self.hints |= Hints::READ_TO_EAGAIN;
            self.assume_ready();
        }
    }

    /// May a read give something?
    pub(super) const fn is_readable(&self) -> bool {
        self.hints.has(Hints::READABLE) && !self.input.is_ended()
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
                Ok(0) => return ReadResult::End(self.end_of_input()),
                Ok(count) => {
                    self.count(count);
                    // A short read means empty, unless the FIN came in the same edge (K6) or an urgent mark stopped
                    // the read (K15): then read on.
                    if count < room.len() && self.short_is_dry() {
                        self.hints.remove(Hints::READABLE);
                    }
                    return ReadResult::Bytes(count);
                }
                Err(error) => match on_stream(&error) {
                    StreamError::Interrupted => {}
                    StreamError::WouldBlock => {
                        self.hints.remove(Hints::READABLE);
                        return ReadResult::Nothing;
                    }
                    StreamError::Closed | StreamError::Timeout | StreamError::Shortage | StreamError::Reset => {
                        self.latch(Fault::of_read(&error));
                        self.input = Input::ResetRead;
                        return ReadResult::End(End::Reset);
                    }
                },
            }
        }
    }

    /// A read gave 0. What does that mean?
    fn end_of_input(&mut self) -> End {
        let end = match self.input.at_zero(self.first_error) {
            AtZero::Is(end) => end,
            AtZero::AskTheCount if self.kernel_counted_a_fin() => End::Fin,
            AtZero::AskTheCount => {
                // The EPIPE hid a reset.
                self.first_error = Some(Fault::Reset);
                End::Reset
            }
        };
        self.input = Input::ended(end);
        end
    }

    /// Has one byte more come than were read? Then it was the FIN (K19). If the kernel cannot say, it is no proof.
    fn kernel_counted_a_fin(&self) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "compared modulo 2³²")]
        self.stream.received().is_ok_and(|received| received as u32 == self.bytes_read.wrapping_add(1))
    }

    #[expect(clippy::cast_possible_truncation, reason = "counted modulo 2³²")]
    const fn count(&mut self, count: usize) {
        self.bytes_read = self.bytes_read.wrapping_add(count as u32);
    }

    /// Writes the front of `data`, which is not empty, and returns the count; 0 when blocked or when it failed.
    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        debug_assert!(!data.is_empty());
        loop {
            match self.stream.write(data) {
                // No kernel does this to a stream. If it were believed, the loop would spin.
                Ok(0) => self.latch(Fault::Reset),
                Ok(count) => {
                    self.trust();
                    if count < data.len() && self.short_is_dry() {
                        self.hints.remove(Hints::WRITABLE);
                    } else if count < data.len() && !self.stream.epipe_is_fin() {
                        // What stopped it may have been a reset, which is told to nobody then (K20).
                        self.doubt();
                    }
                    return count;
                }
                Err(error) => match on_stream(&error) {
                    StreamError::Interrupted => continue,
                    StreamError::WouldBlock => {
                        self.trust();
                        self.hints.remove(Hints::WRITABLE);
                    }
                    StreamError::Closed | StreamError::Timeout | StreamError::Shortage | StreamError::Reset => {
                        self.fail(&error);
                    }
                },
            }
            return 0;
        }
    }

    /// May bytes of this stream go through a pipe? Not once an urgent mark was seen: splice(2) stops there, and behind
    /// it says 0 although there is more (K15).
    pub(super) fn may_be_spliced(&self) -> bool {
        self.first_error.is_none() && !self.hints.has(Hints::READ_TO_EAGAIN)
    }

    /// Moves up to `most` bytes into an empty pipe and returns the count. 0 says nothing, neither that there is nothing
    /// nor that it is over: [`read`](Self::read) tells.
    ///
    /// # Errors
    /// When splice does not work here. It is not tried again on this stream.
    pub(super) fn splice_in(&mut self, pipe: &mut S::Pipe, most: usize) -> io::Result<usize> {
        loop {
            match self.stream.splice_in(pipe, most) {
                Ok(count) => {
                    self.count(count);
                    return Ok(count);
                }
                Err(error) => match on_splice(&error) {
                    SpliceError::Interrupted => continue,
                    // Nothing is there, or a mark stands in front of it, or a page was short.
                    SpliceError::WouldBlock => {}
                    // Told once. There may be bytes behind a mark, so reading goes on.
                    SpliceError::Stream => self.latch(Fault::of_read(&error)),
                    SpliceError::Unusable => {
                        self.stop_splicing();
                        return Err(error);
                    }
                },
            }
            return Ok(0);
        }
    }

    /// Writes the `count` bytes that are in the pipe and returns how many were taken; fewer when blocked or when it
    /// failed.
    ///
    /// # Errors
    /// When splice does not work here and nothing was taken. [`read_pipe`](Self::read_pipe) is the way out.
    pub(super) fn splice_out(&mut self, pipe: &mut S::Pipe, count: usize) -> io::Result<usize> {
        debug_assert!(count > 0);
        let mut done = 0;
        while done < count {
            match self.stream.splice_out(pipe, count - done) {
                // As with write.
                Ok(0) => self.latch(Fault::Reset),
                // The kernel sends a pipe piece by piece and does not tell what stopped it, even if that was an error
                // it tells only once. The next call tells what is left.
                Ok(more) => {
                    self.trust();
                    done += more;
                    continue;
                }
                Err(error) => match on_splice(&error) {
                    SpliceError::Interrupted => continue,
                    SpliceError::WouldBlock => {
                        self.trust();
                        self.hints.remove(Hints::WRITABLE);
                    }
                    SpliceError::Stream => {
                        if done > 0 && on_stream(&error) == StreamError::Closed {
                            self.doubt();
                        }
                        self.fail(&error);
                    }
                    SpliceError::Unusable if done == 0 => return Err(error),
                    // The next call says so again. An EPIPE that it gets instead could be what is left of a reset.
                    SpliceError::Unusable => self.doubt(),
                },
            }
            break;
        }
        Ok(done)
    }

    /// The socket takes bytes, or will: nothing was consumed.
    fn trust(&mut self) {
        if self.input == Input::Doubtful && self.first_error.is_none() {
            self.input = Input::Open;
        }
    }

    /// Something stopped in the middle may have consumed a reset, so an EPIPE proves no FIN from now on (K16, K20).
    fn doubt(&mut self) {
        if self.first_error.is_none() && self.input == Input::Open {
            self.input = Input::Doubtful;
        }
    }

    /// Fills `room` with what is in the pipe, which is as much, because nothing can be spliced into this stream. Did that
    /// work? Otherwise the bytes are lost, and the stream fails for want of them.
    pub(super) fn read_pipe(&mut self, pipe: &mut S::Pipe, room: &mut [u8]) -> bool {
        let mut done = 0;
        while done < room.len() {
            match self.stream.read_pipe(pipe, &mut room[done..]) {
                Ok(count @ 1..) => done += count,
                Err(error) if on_stream(&error) == StreamError::Interrupted => {}
                Ok(0) | Err(_) => {
                    self.latch(Fault::Resources);
                    return false;
                }
            }
        }
        true
    }

    /// Bytes of this stream do not go through a pipe any more.
    pub(super) fn stop_splicing(&mut self) {
        // Reading until WouldBlock is always right, and keeps splice from being tried again.
        self.hints |= Hints::READ_TO_EAGAIN;
    }

    /// Does a count shorter than asked for prove that an edge will come?
    fn short_is_dry(&self) -> bool {
        self.stream.short_is_dry() && !self.hints.has(Hints::READ_TO_EAGAIN)
    }

    /// Sends a FIN. If that fails, [`first_error`](Self::first_error) says so.
    pub(super) fn shutdown_write(&mut self) {
        if let Err(error) = self.stream.shutdown_write() {
            self.fail(&error);
        }
    }

    /// Bytes the peer has not acknowledged: none when the socket has failed, one when the kernel cannot say.
    pub(super) fn unacked(&self) -> usize {
        match self.first_error {
            None => self.stream.unacked().unwrap_or(1),
            Some(_) => 0,
        }
    }

    /// Bytes the peer has not acknowledged and never will, if the socket goes now: also when it has failed (K29). None if
    /// the kernel cannot say.
    pub(super) fn left_unacked(&self) -> usize {
        self.stream.unacked().unwrap_or(0)
    }

    /// How long the kernel waits for an acknowledgement now, if it can say.
    pub(super) fn retransmission_timeout(&self) -> Option<Duration> {
        self.stream.retransmission_timeout().ok()
    }

    /// Does the peer learn of a reset only by what it wrote and we have not read? So on AF_UNIX (K21).
    pub(super) fn is_reset_by_unread(&self) -> bool {
        !self.stream.epipe_is_fin()
    }

    /// Closes in order: what was written arrives, then a FIN. Dropping a side resets it instead.
    pub(super) fn close(self) {
        self.stream.close();
    }
}
