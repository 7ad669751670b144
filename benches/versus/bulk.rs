//! Bulk: as many bytes as the relay takes, over some flows, one way or both, and every one of them counted at both
//! ends.
//!
//! The load copies nothing: `sendfile(2)` from a memfd lends its pages to the socket, and `recv(2)` with MSG_TRUNC
//! drops what has arrived without looking at it. What is left is the kernel's TCP, which the relay pays for too.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::clock::{Patience, now};
use crate::failure::{During as _, Failure, Outcome, failed};
use crate::sessions::Session;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Upstream to client.
    Down,
    /// Client to upstream.
    Up,
    Both,
}

/// The most one call sends or receives: alone, and where small messages wait for the end of the call.
const PIECE: usize = 1 << 20;
const SMALL_PIECE: usize = 128 << 10;

/// How long nothing may arrive.
const STALL: Duration = Duration::from_secs(5);

/// All flows of a run, in one loop.
pub(crate) struct Bulk {
    poll: Poll,
    events: Events,
    /// Client and upstream of the first session, of the second, and so on.
    ends: Vec<End>,
    /// Ends that may have something to do, each at most once.
    ready: VecDeque<usize>,
    source: OwnedFd,
    sink: Vec<u8>,
    /// Whoever sends goes on doing it.
    goes_on: bool,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

struct End {
    stream: TcpStream,
    sends: bool,
    readable: bool,
    writable: bool,
    queued: bool,
    sent: u64,
    received: u64,
}

/// What a run of it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
}

impl Bulk {
    /// Beside messages, no call may take long.
    pub(crate) fn new(sessions: Vec<Session>, direction: Direction, beside_messages: bool) -> Outcome<Self> {
        let poll = Poll::new()?;
        let piece = if beside_messages { SMALL_PIECE } else { PIECE };
        let sink = vec![0; piece];
        let source = memfd_create("bulk", MemfdFlags::CLOEXEC)?;
        write_all(&source, &sink)?;
        let mut ends = Vec::new();
        for Session { client, upstream } in sessions {
            for (stream, sends) in [(client, direction != Direction::Down), (upstream, direction != Direction::Up)] {
                let mut stream = TcpStream::from_std(stream);
                poll.registry().register(&mut stream, Token(ends.len()), Interest::READABLE | Interest::WRITABLE)?;
                ends.push(End { stream, sends, readable: false, writable: false, queued: false, sent: 0, received: 0 });
            }
        }
        let (events, ready) = (Events::with_capacity(ends.len().max(1)), VecDeque::with_capacity(ends.len()));
        Ok(Self { poll, events, ends, ready, source, sink, goes_on: true, sent: 0, received: 0 })
    }

    /// From the first byte to the last: for so long, or so many bytes, whatever comes first.
    pub(crate) fn run(&mut self, time: Duration, bytes: u64) -> Outcome<Moved> {
        let begin = now();
        let patience = Patience::of(time + STALL);
        while self.sent < bytes && now() < begin + time {
            self.turn()?;
            patience.check("the transfer")?;
        }
        self.finish(begin)
    }

    /// Lets everything arrive that was sent, and holds the one against the other. The connections stay open: some
    /// relays close both ways when one of them has ended, with what is under way.
    pub(crate) fn finish(&mut self, begin: Instant) -> Outcome<Moved> {
        self.goes_on = false;
        let mut patience = Patience::of(STALL);
        while self.received < self.sent {
            let before = self.received;
            self.turn()?;
            if self.received > before {
                patience = Patience::of(STALL);
            }
            if let Err(Failure(why)) = patience.check("the transfer") {
                return failed(format!("{why}: {} of {} bytes arrived", self.received, self.sent));
            }
        }
        let time = now() - begin;
        for pair in self.ends.chunks_exact(2) {
            let [client, upstream] = pair else { continue };
            for (from, to, way) in [(client, upstream, "up"), (upstream, client, "down")] {
                if from.sent != to.received {
                    return failed(format!("{} bytes were sent {way}, {} arrived", from.sent, to.received));
                }
            }
        }
        if self.received == 0 { failed("nothing moved") } else { Ok(Moved { bytes: self.received, time }) }
    }

    /// Waits, and gives everyone who is ready one piece.
    fn turn(&mut self) -> Outcome<()> {
        self.mark(if self.ready.is_empty() { Duration::from_millis(100) } else { Duration::ZERO })?;
        for _ in 0..self.ready.len() {
            self.step()?;
        }
        Ok(())
    }

    /// Takes note of who is ready.
    pub(crate) fn mark(&mut self, limit: Duration) -> Outcome<()> {
        wait(&mut self.poll, &mut self.events, limit)?;
        for event in &self.events {
            let Token(key) = event.token();
            let Some(end) = self.ends.get_mut(key) else { continue };
            end.readable |= event.is_readable();
            end.writable |= event.is_writable();
            if !end.queued {
                end.queued = true;
                self.ready.push_back(key);
            }
        }
        Ok(())
    }

    /// One piece for the one who has waited longest.
    pub(crate) fn step(&mut self) -> Outcome<()> {
        let Some(key) = self.ready.pop_front() else { return Ok(()) };
        let Some(end) = self.ends.get_mut(key) else { return Ok(()) };
        if end.readable {
            self.received += end.receive(&mut self.sink)?;
        }
        let may_send = end.sends && self.goes_on;
        if may_send && end.writable {
            self.sent += end.send(&self.source, self.sink.len())?;
        }
        end.queued = end.readable || (may_send && end.writable);
        if end.queued {
            self.ready.push_back(key);
        }
        Ok(())
    }
}

impl End {
    fn send(&mut self, source: &OwnedFd, piece: usize) -> Outcome<u64> {
        match sendfile(&self.stream, source, Some(&mut 0), piece) {
            Ok(count) => {
                self.sent += count as u64;
                Ok(count as u64)
            }
            Err(Errno::AGAIN) => {
                self.writable = false;
                Ok(0)
            }
            Err(error) => Err(error).during("sending bulk"),
        }
    }

    fn receive(&mut self, sink: &mut [u8]) -> Outcome<u64> {
        match recv(&self.stream, sink, RecvFlags::TRUNC) {
            Ok((_, 0)) => failed("it closed a connection in mid-stream"),
            Ok((_, count)) => {
                self.received += count as u64;
                Ok(count as u64)
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(0)
            }
            Err(error) => Err(error).during("receiving bulk"),
        }
    }
}

/// An interrupted wait is an empty turn: whoever waits looks whether the bench is to end.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events, limit: Duration) -> Outcome<()> {
    match poll.poll(events, Some(limit)) {
        Err(error) if error.kind() != std::io::ErrorKind::Interrupted => Err(error).during("waiting for events"),
        _ => Ok(()),
    }
}

fn write_all(file: &OwnedFd, mut data: &[u8]) -> Outcome<()> {
    while !data.is_empty() {
        let count = rustix::io::write(file, data).during("filling the source of bulk")?;
        data = data.get(count..).unwrap_or_default();
    }
    Ok(())
}
