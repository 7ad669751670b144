//! Messages: a client sends one, the upstream returns it once it is complete, and the bench notes how long that took.
//!
//! **Closed loop**: each connection sends the next message when the last one has returned. **At a rate**: messages are
//! sent at fixed times, whether or not the earlier ones have returned. Latency counts from the time a message was *due*.
//! So a relay that stalls, or a load that is late, makes the latencies worse instead of making messages fewer.
//!
//! Each message begins with its number, which identifies it when it returns.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::bulk::wait;
use crate::clock::{Deadline, now};
use crate::failure::{During as _, Outcome, failed};
use crate::sessions::Session;

/// Bytes of the number that a message begins with.
const NUMBER: usize = 8;

/// Larger than any message, so that a read that does not fill it has emptied the socket.
const SCRATCH: usize = 256 << 10;

/// All conversations of a run, in one loop. The loop never sleeps: the time to wake it would be in the figures.
pub(crate) struct Messages {
    poll: Poll,
    events: Events,
    conversations: Vec<Conversation>,
    /// The conversation that sends the next message at a rate.
    next_conversation: usize,
    next_number: u64,
    /// A message. Its number is written before it is sent.
    message: Vec<u8>,
    scratch: Vec<u8>,
    /// In nanoseconds.
    latencies: Vec<u64>,
    awaited: usize,
    /// Closed loop: an answer is followed by the next message.
    is_closed: bool,
}

struct Conversation {
    client: Side,
    upstream: Side,
    /// Numbers and due times of the messages that have not returned.
    awaited: VecDeque<(u64, Instant)>,
}

/// One end of a conversation.
struct Side {
    stream: TcpStream,
    /// Numbers of the messages to be sent.
    out: VecDeque<u64>,
    /// Bytes of the first one that were sent.
    out_at: usize,
    /// Bytes of the arriving message that have arrived.
    in_at: usize,
    /// The arriving message's number.
    number: [u8; NUMBER],
}

/// The result of a run.
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
        let mut conversations = Vec::new();
        for Session { client, upstream } in sessions {
            let key = 2 * conversations.len();
            let client = Side::new(client, &poll, Token(key))?;
            let upstream = Side::new(upstream, &poll, Token(key + 1))?;
            conversations.push(Conversation { client, upstream, awaited: VecDeque::new() });
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(2 * conversations.len().max(1)),
            conversations,
            next_conversation: 0,
            next_number: 0,
            message: vec![b'm'; size.max(NUMBER)],
            scratch: vec![0; SCRATCH],
            latencies: Vec::with_capacity(1 << 17),
            awaited: 0,
            is_closed: false,
        })
    }

    /// Closed loop, for this time or this many messages, whichever comes first.
    pub(crate) fn run(&mut self, time: Duration, count: u64) -> Outcome<Exchanged> {
        self.is_closed = true;
        let begin = now();
        for key in 0..self.conversations.len() {
            self.send(key, begin)?;
        }
        let deadline = Deadline::after(time + Duration::from_secs(15));
        while now() < begin + time && self.next_number < count {
            self.turn()?;
            deadline.check("the messages")?;
        }
        self.finish(begin)
    }

    /// Sends the next message, which was due then, on the next connection.
    pub(crate) fn send_next(&mut self, due: Instant) -> Outcome<()> {
        self.next_conversation = (self.next_conversation + 1) % self.conversations.len().max(1);
        self.send(self.next_conversation, due)
    }

    /// Has some message not returned yet?
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited > 0
    }

    /// Sends no more messages and waits until those under way have returned.
    pub(crate) fn finish(&mut self, begin: Instant) -> Outcome<Exchanged> {
        self.is_closed = false;
        let deadline = Deadline::after(Duration::from_secs(15));
        while self.awaited > 0 {
            self.turn()?;
            deadline.check("the messages")?;
        }
        let time = now() - begin;
        self.latencies.sort_unstable();
        let at = |percent: usize| {
            let rank = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
            self.latencies.get(rank).map_or(Duration::ZERO, |&latency| Duration::from_nanos(latency))
        };
        match self.latencies.len() as u64 {
            0 => failed("no message returned"),
            count => Ok(Exchanged { count, time, p50: at(50), p99: at(99) }),
        }
    }

    /// Sends and receives what is possible without waiting.
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

    fn send(&mut self, key: usize, due: Instant) -> Outcome<()> {
        let Some(conversation) = self.conversations.get_mut(key) else { return Ok(()) };
        conversation.awaited.push_back((self.next_number, due));
        conversation.client.out.push_back(self.next_number);
        self.awaited += 1;
        self.next_number += 1;
        conversation.client.flush(&mut self.message)
    }

    fn client(&mut self, key: usize) -> Outcome<()> {
        let Some(conversation) = self.conversations.get_mut(key) else { return Ok(()) };
        conversation.client.flush(&mut self.message)?;
        let (awaited, latencies) = (&mut conversation.awaited, &mut self.latencies);
        let before = latencies.len();
        let time = now();
        conversation.client.receive(&mut self.scratch, self.message.len(), |_, number| match awaited.pop_front() {
            Some((expected, due)) if expected == number => {
                latencies.push(u64::try_from((time - due).as_nanos()).unwrap_or(u64::MAX));
                Ok(())
            }
            _ => failed("a message returned out of order"),
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
        let Some(conversation) = self.conversations.get_mut(key) else { return Ok(()) };
        let side = &mut conversation.upstream;
        side.receive(&mut self.scratch, self.message.len(), |out, number| {
            out.push_back(number);
            Ok(())
        })?;
        side.flush(&mut self.message)
    }
}

impl Side {
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

    /// Reads until the socket is empty. Calls `complete` for each message that is complete.
    fn receive(
        &mut self,
        scratch: &mut [u8],
        size: usize,
        mut complete: impl FnMut(&mut VecDeque<u64>, u64) -> Outcome<()>,
    ) -> Outcome<()> {
        loop {
            let count = match self.stream.read(scratch) {
                Ok(0) => return failed("it closed a connection between messages"),
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
