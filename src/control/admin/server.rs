//! The thread: it accepts, and lets each connection do what it can.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use tproxy::net::mio::Listener;
use tproxy::net::{Closing, Stream as _};

use super::connection::{Connection, Next};
use super::role::Role;
use super::view::View;
use super::{CONNECTIONS_MAX, Orders};

/// Connections have the tokens below.
const LISTENER: usize = CONNECTIONS_MAX;

/// What an order wakes.
pub(super) const WAKER: Token = Token(usize::MAX);

/// After an error of accept, which may be a shortage.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Server {
    poll: Poll,
    listeners: Vec<(Role, Listener)>,
    connections: [Option<Connection>; CONNECTIONS_MAX],
    orders: Arc<Orders>,
    view: View,
    /// Accept failed: it is tried again then.
    paused: Option<Instant>,
    /// More may wait than were let in in this turn.
    more: bool,
}

impl Server {
    /// One that listens nowhere yet.
    pub(super) fn new(poll: Poll, orders: Arc<Orders>, view: View) -> Self {
        let connections = Default::default();
        Self { poll, listeners: Vec::new(), connections, orders, view, paused: None, more: false }
    }

    /// Listens with this one, too.
    pub(super) fn listen(&mut self, role: Role, listener: Listener) -> io::Result<()> {
        let (descriptor, token) = (listener.as_fd().as_raw_fd(), Token(LISTENER + self.listeners.len()));
        self.listeners.push((role, listener));
        self.poll.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE)
    }

    /// Serves until it is to stop, or until another process does and the last connection is over.
    pub(super) fn run(&mut self) {
        let mut events = Events::with_capacity(2 * CONNECTIONS_MAX);
        loop {
            let handed_over = self.orders.handed_over.load(Ordering::Acquire);
            if handed_over {
                self.close_listeners(Closing::HandedOver);
                // Who was let in has an answer first.
                if self.connections.iter().all(Option::is_none) {
                    return;
                }
            } else if self.orders.stop.load(Ordering::Acquire) {
                return self.close_listeners(Closing::Stopped);
            }
            self.accept();
            let deadline = self.connections.iter().flatten().map(|one| one.until).chain(self.paused).min();
            let timeout = deadline.map(|at| at.saturating_duration_since(now()));
            let timeout = if self.more { Some(Duration::ZERO) } else { timeout };
            if self.poll.poll(&mut events, timeout).is_err() {
                continue;
            }
            for event in &events {
                if event.token().0 < CONNECTIONS_MAX {
                    self.run_one(event.token().0);
                }
            }
            let now = now();
            self.paused = self.paused.filter(|until| now < *until);
            for slot in &mut self.connections {
                // Dropped: a reset says that the answer is not whole.
                drop(slot.take_if(|one| now >= one.until));
            }
        }
    }

    /// Lets in who waits, as long as there is a place. The edge of those that stay in the queue is spent, so it is tried in
    /// each turn.
    fn accept(&mut self) {
        self.more = false;
        for index in 0..self.listeners.len() {
            let mut left = CONNECTIONS_MAX;
            while self.paused.is_none()
                && let Some(place) = self.connections.iter().position(Option::is_none)
            {
                if left == 0 {
                    self.more = true;
                    break;
                }
                left -= 1;
                let (role, listener) = &mut self.listeners[index];
                match listener.accept() {
                    Ok((socket, client)) => {
                        let mut source = SourceFd(&socket.as_fd().as_raw_fd());
                        let both = Interest::READABLE | Interest::WRITABLE;
                        if self.poll.registry().register(&mut source, Token(place), both).is_ok() {
                            let is_unix = client.address().is_none();
                            self.connections[place] = Some(Connection::new(socket, *role, is_unix, now()));
                            self.run_one(place);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(_) => self.paused = Some(now() + PAUSE),
                }
            }
        }
    }

    fn run_one(&mut self, place: usize) {
        let Some(connection) = &mut self.connections[place] else { return };
        let next = connection.run(&mut self.view);
        let done = self.connections[place].take_if(|_| next != Next::Wait);
        if let Some(connection) = done.filter(|_| next == Next::Close) {
            connection.socket.close();
        }
    }

    pub(super) fn close_listeners(&mut self, why: Closing) {
        for (_, listener) in self.listeners.drain(..) {
            let _ = self.poll.registry().deregister(&mut SourceFd(&listener.as_fd().as_raw_fd()));
            drop(listener.close(why));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
fn now() -> Instant {
    Instant::now()
}
