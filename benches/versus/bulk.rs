//! Bulk: as many bytes as the relay takes, over several flows, one way or both. Both ends count every byte.
//!
//! The load copies nothing. `sendfile(2)` from a memfd lends its pages to the socket, and `recv(2)` with MSG_TRUNC
//! drops what has arrived without reading it. The kernel's TCP remains, and the relay pays for it too.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::clock::{Deadline, now};
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

/// The most that one call sends or receives.
const CHUNK: usize = 1 << 20;

/// The same, where small messages wait until the call returns.
const SMALL_CHUNK: usize = 128 << 10;

/// The transfer fails when nothing arrives for this long.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// All flows of a run, in one loop.
pub(crate) struct Bulk {
    poll: Poll,
    events: Events,
    /// Client and upstream of the first session, then those of the second, and so on.
    sides: Vec<Side>,
    /// Sides that may have something to do, each at most once.
    ready: VecDeque<usize>,
    source: OwnedFd,
    sink: Vec<u8>,
    /// The sending sides go on sending.
    is_sending: bool,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

struct Side {
    stream: TcpStream,
    sends: bool,
    readable: bool,
    writable: bool,
    queued: bool,
    sent: u64,
    received: u64,
}

/// The result of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
}

impl Bulk {
    /// Beside messages, calls are short.
    pub(crate) fn new(sessions: Vec<Session>, direction: Direction, beside_messages: bool) -> Outcome<Self> {
        let poll = Poll::new()?;
        let chunk = if beside_messages { SMALL_CHUNK } else { CHUNK };
        let sink = vec![0; chunk];
        let source = memfd_create("bulk", MemfdFlags::CLOEXEC)?;
        write_all(&source, &sink)?;
        let mut sides = Vec::new();
        for Session { client, upstream } in sessions {
            for (stream, sends) in [(client, direction != Direction::Down), (upstream, direction != Direction::Up)] {
                let mut stream = TcpStream::from_std(stream);
                poll.registry().register(&mut stream, Token(sides.len()), Interest::READABLE | Interest::WRITABLE)?;
                sides.push(Side {
                    stream,
                    sends,
                    readable: false,
                    writable: false,
                    queued: false,
                    sent: 0,
                    received: 0,
                });
            }
        }
        let (events, ready) = (Events::with_capacity(sides.len().max(1)), VecDeque::with_capacity(sides.len()));
        Ok(Self { poll, events, sides, ready, source, sink, is_sending: true, sent: 0, received: 0 })
    }

    /// Sends for this time or until this many bytes were sent, whichever comes first. Returns when all have arrived.
    pub(crate) fn run(&mut self, time: Duration, bytes: u64) -> Outcome<Moved> {
        let begin = now();
        let deadline = Deadline::after(time + STALL_TIMEOUT);
        while self.sent < bytes && now() < begin + time {
            self.turn()?;
            deadline.check("the transfer")?;
        }
        self.finish(begin)
    }

    /// Stops sending, waits until everything has arrived, and compares both counts. The connections stay open: some
    /// relays close both directions when one of them ends, and lose what is under way.
    pub(crate) fn finish(&mut self, begin: Instant) -> Outcome<Moved> {
        self.is_sending = false;
        let mut deadline = Deadline::after(STALL_TIMEOUT);
        while self.received < self.sent {
            let before = self.received;
            self.turn()?;
            if self.received > before {
                deadline = Deadline::after(STALL_TIMEOUT);
            }
            if let Err(Failure(why)) = deadline.check("the transfer") {
                return failed(format!("{why}: {} of {} bytes arrived", self.received, self.sent));
            }
        }
        let time = now() - begin;
        for pair in self.sides.chunks_exact(2) {
            let [client, upstream] = pair else { continue };
            for (from, to, way) in [(client, upstream, "up"), (upstream, client, "down")] {
                if from.sent != to.received {
                    return failed(format!("{} bytes were sent {way}, {} arrived", from.sent, to.received));
                }
            }
        }
        if self.received == 0 { failed("nothing moved") } else { Ok(Moved { bytes: self.received, time }) }
    }

    /// Waits, then moves one chunk for each side that is ready.
    fn turn(&mut self) -> Outcome<()> {
        self.mark(if self.ready.is_empty() { Duration::from_millis(100) } else { Duration::ZERO })?;
        for _ in 0..self.ready.len() {
            self.step()?;
        }
        Ok(())
    }

    /// Takes events, for at most `limit`, and puts the sides they name on the queue.
    pub(crate) fn mark(&mut self, limit: Duration) -> Outcome<()> {
        wait(&mut self.poll, &mut self.events, limit)?;
        for event in &self.events {
            let Token(key) = event.token();
            let Some(side) = self.sides.get_mut(key) else { continue };
            side.readable |= event.is_readable();
            side.writable |= event.is_writable();
            if !side.queued {
                side.queued = true;
                self.ready.push_back(key);
            }
        }
        Ok(())
    }

    /// Moves one chunk for the side at the front of the queue.
    pub(crate) fn step(&mut self) -> Outcome<()> {
        let Some(key) = self.ready.pop_front() else { return Ok(()) };
        let Some(side) = self.sides.get_mut(key) else { return Ok(()) };
        if side.readable {
            self.received += side.receive(&mut self.sink)?;
        }
        let may_send = side.sends && self.is_sending;
        if may_send && side.writable {
            self.sent += side.send(&self.source, self.sink.len())?;
        }
        side.queued = side.readable || (may_send && side.writable);
        if side.queued {
            self.ready.push_back(key);
        }
        Ok(())
    }
}

impl Side {
    fn send(&mut self, source: &OwnedFd, chunk: usize) -> Outcome<u64> {
        match sendfile(&self.stream, source, Some(&mut 0), chunk) {
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

/// A signal ends the wait with no events, so that the caller can check for a stop request.
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
