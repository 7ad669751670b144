//! Messages: a client sends one, the upstream returns it when all of it is there, and the time until the client has it
//! again is noted.
//!
//! Closed: each connection sends the next message when it has the last one, as fast as that goes. At a rate: a message
//! is sent when its time has come, whatever became of those before it, and its latency counts from the time it was
//! *meant* to be sent, so that a relay that stalls, or a load that comes late, makes the figures worse and not fewer.
//!
//! Each message begins with its number, by which it is known again.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::bulk::wait;
use crate::clock::{Patience, now};
use crate::failure::{During as _, Outcome, failed};
use crate::sessions::Session;

/// What a message begins with.
const NUMBER: usize = 8;

/// Room for the largest message and more, so that a read that does not fill it has taken all there was.
const SCRATCH: usize = 256 << 10;

/// All conversations of a run, in one loop, which never sleeps: waking it up would be in the figures.
pub(crate) struct Messages {
    poll: Poll,
    events: Events,
    talks: Vec<Talk>,
    /// Whose turn it is to send the next message at a rate.
    next_talk: usize,
    next_number: u64,
    /// A message, but for its number.
    message: Vec<u8>,
    scratch: Vec<u8>,
    /// Nanoseconds.
    latencies: Vec<u64>,
    awaited: usize,
    /// An answer is followed by the next message.
    is_closed: bool,
}

struct Talk {
    client: Wire,
    upstream: Wire,
    /// What the client has sent, or meant to, and has not got back.
    awaited: VecDeque<(u64, Instant)>,
}

/// One end of a connection.
struct Wire {
    stream: TcpStream,
    /// Messages to be sent, and how much of the first one was.
    out: VecDeque<u64>,
    out_at: usize,
    /// How much of the message that is arriving is there, and its number.
    in_at: usize,
    number: [u8; NUMBER],
}

/// What a run of it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchanged {
    pub(crate) count: u64,
    pub(crate) time: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Messages {
    pub(crate) fn new(sessions: Vec<Session>, size: usize) -> Outcome<Self> {
        let poll = Poll::new()?;
        let mut talks = Vec::new();
        for Session { client, upstream } in sessions {
            let key = 2 * talks.len();
            let client = Wire::new(client, &poll, Token(key))?;
            let upstream = Wire::new(upstream, &poll, Token(key + 1))?;
            talks.push(Talk { client, upstream, awaited: VecDeque::new() });
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(2 * talks.len().max(1)),
            talks,
            next_talk: 0,
            next_number: 0,
            message: vec![b'm'; size.max(NUMBER)],
            scratch: vec![0; SCRATCH],
            latencies: Vec::with_capacity(1 << 17),
            awaited: 0,
            is_closed: false,
        })
    }

    /// Closed, for so long, or so many messages, whatever comes first.
    pub(crate) fn run(&mut self, time: Duration, count: u64) -> Outcome<Exchanged> {
        self.is_closed = true;
        let begin = now();
        for key in 0..self.talks.len() {
            self.send(key, begin)?;
        }
        let patience = Patience::of(time + Duration::from_secs(15));
        while now() < begin + time && self.next_number < count {
            self.turn()?;
            patience.check("the messages")?;
        }
        self.finish(begin)
    }

    /// Sends the next message, which was meant to be sent then, on the next connection.
    pub(crate) fn send_next(&mut self, meant: Instant) -> Outcome<()> {
        self.next_talk = (self.next_talk + 1) % self.talks.len().max(1);
        self.send(self.next_talk, meant)
    }

    /// Is there a message that has not come back?
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited > 0
    }

    /// No more messages; those under way arrive.
    pub(crate) fn finish(&mut self, begin: Instant) -> Outcome<Exchanged> {
        self.is_closed = false;
        let patience = Patience::of(Duration::from_secs(15));
        while self.awaited > 0 {
            self.turn()?;
            patience.check("the messages")?;
        }
        let time = now() - begin;
        self.latencies.sort_unstable();
        let at = |percent: usize| {
            let rank = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
            self.latencies.get(rank).map_or(Duration::ZERO, |&latency| Duration::from_nanos(latency))
        };
        match self.latencies.len() as u64 {
            0 => failed("no message came back"),
            count => Ok(Exchanged { count, time, p50: at(50), p99: at(99) }),
        }
    }

    /// Whatever can be sent and received at this moment.
    pub(crate) fn turn(&mut self) -> Outcome<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(1));
        wait(&mut self.poll, &mut events, Duration::ZERO)?;
        for event in &events {
            let Token(token) = event.token();
            if token % 2 == 0 { self.client(token / 2)? } else { self.upstream(token / 2)? }
        }
        self.events = events;
        Ok(())
    }

    fn send(&mut self, key: usize, meant: Instant) -> Outcome<()> {
        let Some(talk) = self.talks.get_mut(key) else { return Ok(()) };
        talk.awaited.push_back((self.next_number, meant));
        talk.client.out.push_back(self.next_number);
        self.awaited += 1;
        self.next_number += 1;
        talk.client.flush(&mut self.message)
    }

    fn client(&mut self, key: usize) -> Outcome<()> {
        let Some(talk) = self.talks.get_mut(key) else { return Ok(()) };
        talk.client.flush(&mut self.message)?;
        let (awaited, latencies) = (&mut talk.awaited, &mut self.latencies);
        let before = latencies.len();
        let time = now();
        talk.client.receive(&mut self.scratch, self.message.len(), |_, number| match awaited.pop_front() {
            Some((expected, meant)) if expected == number => {
                latencies.push(u64::try_from((time - meant).as_nanos()).unwrap_or(u64::MAX));
                Ok(())
            }
            _ => failed("a message came back out of its order"),
        })?;
        let count = self.latencies.len() - before;
        self.awaited -= count;
        if self.is_closed {
            for _ in 0..count {
                self.send(key, now())?;
            }
        }
        Ok(())
    }

    fn upstream(&mut self, key: usize) -> Outcome<()> {
        let Some(talk) = self.talks.get_mut(key) else { return Ok(()) };
        let wire = &mut talk.upstream;
        wire.receive(&mut self.scratch, self.message.len(), |out, number| {
            out.push_back(number);
            Ok(())
        })?;
        wire.flush(&mut self.message)
    }
}

impl Wire {
    fn new(stream: std::net::TcpStream, poll: &Poll, token: Token) -> Outcome<Self> {
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, out: VecDeque::new(), out_at: 0, in_at: 0, number: [0; NUMBER] })
    }

    fn flush(&mut self, message: &mut [u8]) -> Outcome<()> {
        while let Some(number) = self.out.front() {
            if let Some(head) = message.first_chunk_mut() {
                *head = number.to_ne_bytes();
            }
            match self.stream.write(message.get(self.out_at..).unwrap_or_default()) {
                Ok(count) => self.out_at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).during("sending a message"),
            }
            if self.out_at == message.len() {
                self.out.pop_front();
                self.out_at = 0;
            }
        }
        Ok(())
    }

    /// Reads all there is, and tells of each message that is complete.
    fn receive(
        &mut self,
        scratch: &mut [u8],
        size: usize,
        mut complete: impl FnMut(&mut VecDeque<u64>, u64) -> Outcome<()>,
    ) -> Outcome<()> {
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return failed("it closed a connection among messages"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).during("receiving a message"),
            };
            let mut data = scratch.get(..count).unwrap_or_default();
            while !data.is_empty() {
                let (part, rest) = data.split_at(data.len().min(size - self.in_at));
                let head = self.number.iter_mut().skip(self.in_at);
                head.zip(part).for_each(|(to, from)| *to = *from);
                self.in_at += part.len();
                data = rest;
                if self.in_at == size {
                    self.in_at = 0;
                    complete(&mut self.out, u64::from_ne_bytes(self.number))?;
                }
            }
            if count < scratch.len() {
                return Ok(());
            }
        }
    }
}
