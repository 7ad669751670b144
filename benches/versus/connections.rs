//! Connections: each connects, exchanges one small message and closes. Several run at a time.
//!
//! The client closes first, as most clients do. So each connection leaves a TIME_WAIT at the client and one at the
//! relay. Relay and upstream listen on new ports in each run, so each run has all 28,000 ephemeral ports to itself.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::bulk::wait;
use crate::clock::{Deadline, now};
use crate::failure::{During as _, Outcome, failed};
use crate::sessions::Upstream;

const MESSAGE: usize = 64;

/// Bytes of a header that a relay adds, at most.
const HEADER_MAX: usize = 107;
const LISTENER: Token = Token(usize::MAX >> 1);

struct Connections {
    poll: Poll,
    address: SocketAddr,
    listener: TcpListener,
    clients: Slab<Client>,
    upstreams: Slab<Exchange>,
    /// Bytes that come before the client's at the upstream.
    header: usize,
    started: u64,
    /// Clients that got their answer and closed.
    answered: u64,
    /// Upstream connections that have seen the client's FIN.
    ended: u64,
}

struct Client {
    exchange: Exchange,
    number: u64,
    has_sent: bool,
}

struct Exchange {
    stream: TcpStream,
    message: [u8; MESSAGE],
    /// Bytes that come before it and are not looked at.
    skips: usize,
    received: usize,
}

/// Runs `count` connections, `at_a_time` of them in parallel. Returns how long they took.
pub(crate) fn run(address: SocketAddr, upstream: &Upstream, count: u64, at_a_time: u64) -> Outcome<Duration> {
    let listener = upstream.listener.try_clone()?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let (poll, clients, upstreams) = (Poll::new()?, Slab::new(), Slab::new());
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let header = upstream.header;
    let mut all =
        Connections { poll, address, listener, clients, upstreams, header, started: 0, answered: 0, ended: 0 };
    let mut events = Events::with_capacity(1024);

    let begin = now();
    let deadline = Deadline::after(Duration::from_secs(20));
    while all.ended < count {
        while all.started < count && all.started - all.answered < at_a_time {
            all.connect()?;
        }
        wait(&mut all.poll, &mut events, Duration::from_millis(100))?;
        for event in &events {
            match event.token() {
                LISTENER => all.accept()?,
                Token(token) if token % 2 == 0 => all.client(token / 2)?,
                Token(token) => all.upstream(token / 2)?,
            }
        }
        deadline.check(format_args!("the connections, {} of {count} finished", all.ended))?;
    }
    match all.answered {
        answered if answered == count => Ok(now() - begin),
        answered => failed(format!("{answered} of {count} connections had an answer")),
    }
}

impl Connections {
    fn connect(&mut self) -> Outcome<()> {
        let mut stream = TcpStream::connect(self.address).during("connecting")?;
        let entry = self.clients.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(2 * entry.key()), interest)?;
        let mut message = [b'c'; MESSAGE];
        if let Some(head) = message.first_chunk_mut() {
            *head = self.started.to_ne_bytes();
        }
        let exchange = Exchange { stream, message, skips: 0, received: 0 };
        entry.insert(Client { exchange, number: self.started, has_sent: false });
        self.started += 1;
        Ok(())
    }

    fn accept(&mut self) -> Outcome<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).during("accepting"),
            };
            let entry = self.upstreams.vacant_entry();
            self.poll.registry().register(&mut stream, Token(2 * entry.key() + 1), Interest::READABLE)?;
            entry.insert(Exchange { stream, message: [0; MESSAGE], skips: self.header, received: 0 });
        }
    }

    fn client(&mut self, key: usize) -> Outcome<()> {
        let Some(client) = self.clients.get_mut(key) else { return Ok(()) };
        let Client { exchange, number, has_sent } = client;
        if !*has_sent {
            match exchange.stream.write(&exchange.message) {
                Ok(MESSAGE) => *has_sent = true,
                Ok(_) => return failed("64 bytes do not fit into a new connection"),
                // Not connected yet.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(error) => return Err(error).during("connecting"),
            }
        }
        if exchange.receive().during("reading an answer")? == Some(0) && exchange.received < MESSAGE {
            return failed("it closed a connection without an answer");
        }
        if exchange.received == MESSAGE {
            if exchange.message.first_chunk() != Some(&number.to_ne_bytes()) {
                return failed("a client got the answer of another");
            }
            self.clients.remove(key);
            self.answered += 1;
        }
        Ok(())
    }

    fn upstream(&mut self, key: usize) -> Outcome<()> {
        let Some(exchange) = self.upstreams.get_mut(key) else { return Ok(()) };
        let was_complete = exchange.received == MESSAGE;
        let last = exchange.receive().during("reading a request")?;
        match (exchange.received == MESSAGE, last) {
            (true, Some(0)) => {
                self.upstreams.remove(key);
                self.ended += 1;
            }
            (false, Some(0)) => return failed("it closed a connection without a request"),
            (true, _) if !was_complete => exchange.stream.write_all(&exchange.message).during("answering")?,
            _ => {}
        }
        Ok(())
    }
}

impl Exchange {
    /// Returns the count of the last read, 0 at the end of the stream, None if nothing is left to read now.
    fn receive(&mut self) -> std::io::Result<Option<usize>> {
        loop {
            // One byte more than a message: so a read that returns a whole message is short, and the end is seen too.
            let mut room = [0; HEADER_MAX + MESSAGE + 1];
            match self.stream.read(&mut room[..self.skips + MESSAGE + 1]) {
                Ok(0) => return Ok(Some(0)),
                Ok(count) => {
                    let skipped = self.skips.min(count);
                    self.skips -= skipped;
                    let data = &room[skipped..count];
                    self.message.iter_mut().skip(self.received).zip(data).for_each(|(to, from)| *to = *from);
                    self.received += data.len();
                    if self.received == MESSAGE {
                        return Ok(Some(count));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}
