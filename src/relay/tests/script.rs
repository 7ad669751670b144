//! A stream that does as it is told, for the tests of this folder.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use crate::net::{Address, Stream};

/// A scripted stream. Clones are the same stream: one goes into the side, the other stays with the test.
///
/// A read with no script left blocks, a write with none takes everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Script<const DRY: bool = true> {
    state: Rc<RefCell<ScriptState>>,
}

#[derive(Debug, Default)]
struct ScriptState {
    reads: VecDeque<Read>,
    writes: VecDeque<Write>,
    fault: Option<ErrorKind>,
    finish: Option<ErrorKind>,
    pipe_fails: Option<ErrorKind>,
    unacked: usize,
    received: u64,
    written: Vec<u8>,
    read_calls: usize,
    splice_calls: usize,
    write_calls: usize,
    finished: bool,
    closed: bool,
    is_unix: bool,
}

#[derive(Debug)]
enum Read {
    Bytes(Vec<u8>),
    /// A pull says 0; a read does not stop here.
    Mark,
    End,
    Fails(ErrorKind),
}

#[derive(Debug)]
enum Write {
    Takes(usize),
    Fails(ErrorKind),
}

impl Script {
    pub(super) fn new() -> Self {
        Self::default()
    }
}

impl<const DRY: bool> Script<DRY> {
    fn with(&self, act: impl FnOnce(&mut ScriptState)) -> &Self {
        act(&mut self.state.borrow_mut());
        self
    }

    /// One read gives these bytes, or as many as there is room for, and the next the rest.
    pub(super) fn reads(&self, bytes: &[u8]) -> &Self {
        self.with(|state| state.reads.push_back(Read::Bytes(bytes.to_vec())))
    }

    /// From there on, reads give 0.
    pub(super) fn ends(&self) -> &Self {
        self.with(|state| state.reads.push_back(Read::End))
    }

    /// A pull says 0 once, though there is more.
    pub(super) fn splice_says_nothing(&self) -> &Self {
        self.with(|state| state.reads.push_back(Read::Mark))
    }

    /// One read fails.
    pub(super) fn fails(&self, kind: ErrorKind) -> &Self {
        self.with(|state| state.reads.push_back(Read::Fails(kind)))
    }

    /// One write takes no more than so many bytes.
    pub(super) fn takes(&self, count: usize) -> &Self {
        self.with(|state| state.writes.push_back(Write::Takes(count)))
    }

    /// One write fails.
    pub(super) fn refuses(&self, kind: ErrorKind) -> &Self {
        self.with(|state| state.writes.push_back(Write::Fails(kind)))
    }

    /// One write finds no room.
    pub(super) fn blocks(&self) -> &Self {
        self.refuses(ErrorKind::WouldBlock)
    }

    /// SO_ERROR holds this, once.
    pub(super) fn fault(&self, kind: ErrorKind) -> &Self {
        self.with(|state| state.fault = Some(kind))
    }

    /// The FIN cannot be sent.
    pub(super) fn cannot_finish(&self, kind: ErrorKind) -> &Self {
        self.with(|state| state.finish = Some(kind))
    }

    /// No pipe can be read.
    pub(super) fn cannot_read_pipes(&self, kind: ErrorKind) -> &Self {
        self.with(|state| state.pipe_fails = Some(kind))
    }

    /// The peer has still to acknowledge so much.
    pub(super) fn unacked(&self, count: usize) -> &Self {
        self.with(|state| state.unacked = count)
    }

    /// So many bytes have come from the peer, its FIN counted.
    pub(super) fn received(&self, count: u64) -> &Self {
        self.with(|state| state.received = count)
    }

    /// It is a Unix socket.
    pub(super) fn is_unix(&self) -> &Self {
        self.with(|state| state.is_unix = true)
    }

    pub(super) fn written(&self) -> Vec<u8> {
        self.state.borrow().written.clone()
    }

    pub(super) fn read_calls(&self) -> usize {
        self.state.borrow().read_calls
    }

    pub(super) fn splice_calls(&self) -> usize {
        self.state.borrow().splice_calls
    }

    pub(super) fn write_calls(&self) -> usize {
        self.state.borrow().write_calls
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state.borrow().finished
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }
}

impl<const DRY: bool> Stream for Script<DRY> {
    type Pipe = Vec<u8>;

    fn short_is_dry(&self) -> bool {
        DRY
    }

    fn epipe_is_fin(&self) -> bool {
        !self.state.borrow().is_unix
    }

    /// Follows the script of the reads, but knows no end: there it says 0, like a pipe at a mark.
    fn splice_in(&mut self, pipe: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        assert!(pipe.is_empty(), "a pipe is empty when it is filled");
        let state = &mut *self.state.borrow_mut();
        state.splice_calls += 1;
        match state.reads.pop_front() {
            None => Err(ErrorKind::WouldBlock.into()),
            Some(Read::Fails(kind)) => Err(kind.into()),
            Some(Read::End) => {
                state.reads.push_front(Read::End);
                Ok(0)
            }
            Some(Read::Mark) => Ok(0),
            Some(Read::Bytes(mut bytes)) => {
                let rest = bytes.split_off(most.min(bytes.len()));
                if !rest.is_empty() {
                    state.reads.push_front(Read::Bytes(rest));
                }
                *pipe = bytes;
                Ok(pipe.len())
            }
        }
    }

    fn splice_out(&mut self, pipe: &mut Vec<u8>, count: usize) -> io::Result<usize> {
        assert_eq!(pipe.len(), count, "exactly what is in it is asked for");
        let done = self.write(pipe)?;
        pipe.drain(..done);
        Ok(done)
    }

    /// Gives no more than half of what there is room for.
    fn read_pipe(&mut self, pipe: &mut Vec<u8>, room: &mut [u8]) -> io::Result<usize> {
        if let Some(kind) = self.state.borrow_mut().pipe_fails {
            return Err(kind.into());
        }
        let count = room.len().div_ceil(2);
        room[..count].copy_from_slice(&pipe[..count]);
        pipe.drain(..count);
        Ok(count)
    }

    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        state.read_calls += 1;
        match state.reads.pop_front() {
            None => Err(ErrorKind::WouldBlock.into()),
            Some(Read::Fails(kind)) => Err(kind.into()),
            Some(Read::End) => {
                state.reads.push_front(Read::End);
                Ok(0)
            }
            Some(Read::Mark) => Err(ErrorKind::Interrupted.into()),
            Some(Read::Bytes(mut bytes)) => {
                let count = room.len().min(bytes.len());
                room[..count].copy_from_slice(&bytes[..count]);
                bytes.drain(..count);
                if !bytes.is_empty() {
                    state.reads.push_front(Read::Bytes(bytes));
                }
                Ok(count)
            }
        }
    }

    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut state = self.state.borrow_mut();
        assert!(!state.finished, "nothing is written after the FIN");
        state.write_calls += 1;
        match state.writes.pop_front() {
            Some(Write::Fails(kind)) => Err(kind.into()),
            step => {
                let count = if let Some(Write::Takes(most)) = step { most.min(data.len()) } else { data.len() };
                state.written.extend_from_slice(&data[..count]);
                Ok(count)
            }
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        assert!(!state.finished, "a FIN is sent once");
        state.finished = true;
        state.finish.take().map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn take_error(&mut self) -> io::Result<()> {
        self.state.borrow_mut().fault.take().map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn unacked(&self) -> io::Result<usize> {
        Ok(self.state.borrow().unacked)
    }

    fn received(&self) -> io::Result<u64> {
        Ok(self.state.borrow().received)
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
        self.state.borrow_mut().closed = true;
    }
}
