//! Listening sockets, and the clients that wait at them.

use std::collections::VecDeque;
use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::Token;

use super::{ConnId, Due, Kernel};
use crate::conn::{Life, Who};

/// A listening socket. Its index is never used again.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) open: bool,
    /// Where clients find it.
    pub(crate) place: usize,
    pub(crate) token: Token,
    /// The most clients that it asked the kernel to queue. The laws may allow fewer.
    pub(crate) backlog: usize,
    pub(crate) queue: VecDeque<ConnId>,
    /// It is a Unix socket.
    pub(crate) unix: bool,
    /// A client came, and no event has said so.
    pub(super) edge: bool,
    /// The relay was told that the queue is empty, and is owed an event for the next client.
    pub(super) owed: bool,
}

impl Listener {
    /// Would an event come now?
    pub(crate) fn is_ready(&self, linux: bool) -> bool {
        self.open && !self.queue.is_empty() && if linux { self.edge } else { self.owed }
    }

    /// Its event is delivered.
    pub(crate) fn announce(&mut self) {
        (self.edge, self.owed) = (false, false);
    }
}

impl Kernel {
    /// Another listener. Returns its index.
    pub(crate) fn listen(&mut self, place: usize, token: Token, backlog: usize) -> usize {
        let queue = VecDeque::new();
        self.listeners.push(Listener {
            open: true,
            place,
            token,
            backlog,
            queue,
            edge: false,
            owed: true,
            unix: false,
        });
        self.listeners.len() - 1
    }

    /// The index of the listener at this place.
    pub(crate) fn listener_at(&self, place: usize) -> Option<usize> {
        self.listeners.iter().position(|listener| listener.open && listener.place == place)
    }

    /// The clients that wait at each listener.
    pub(crate) fn queues(&self) -> Vec<Vec<ConnId>> {
        self.listeners.iter().map(|listener| listener.queue.iter().copied().collect()).collect()
    }

    /// Does any of them listen?
    pub(crate) fn is_listening(&self) -> bool {
        self.listeners.iter().any(|listener| listener.open)
    }

    pub(super) fn syn(&mut self, conn: ConnId, place: usize, tries: u32) {
        if self.conns[conn].peer.life != Life::Connecting {
            return;
        }
        let Some(to) = self.listener_at(place) else {
            return self.fail(conn, Who::Peer, Errno::CONNREFUSED);
        };
        if self.listeners[to].queue.len() > self.laws.backlog.min(self.listeners[to].backlog) {
            // A full queue drops SYNs (K7), and the client tries again.
            return match tries {
                5 => self.fail(conn, Who::Peer, Errno::TIMEDOUT),
                _ => self.after(Duration::from_secs(1 << tries), Due::Syn { conn, place, tries: tries + 1 }),
            };
        }
        self.conns[conn].peer.life = Life::Open;
        self.conns[conn].relay.life = Life::Open;
        if self.listeners[to].unix {
            self.conns[conn].make_unix();
        }
        self.listeners[to].queue.push_back(conn);
        self.listeners[to].edge = true;
        self.stirred.push(conn);
    }

    /// Takes a client off the queue. The descriptor comes first, as in Linux' `do_accept`.
    pub(crate) fn accept(&mut self, from: usize) -> Result<ConnId, Errno> {
        if self.open >= self.laws.descriptors {
            return Err(Errno::MFILE);
        }
        let Some(conn) = self.listeners[from].queue.pop_front() else {
            self.listeners[from].owed = true;
            return Err(Errno::AGAIN);
        };
        self.open += 1;
        Ok(conn)
    }

    /// The listener goes, and with it the clients that wait in its queue.
    pub(crate) fn stop_listening(&mut self, index: usize) {
        self.listeners[index].open = false;
        while let Some(conn) = self.listeners[index].queue.pop_front() {
            self.close(conn, Who::Relay, true);
            if self.conns[conn].unix {
                // A client that nobody accepted is told, whatever it has said.
                self.conns[conn].peer.error = Some(Errno::CONNRESET);
                self.conns[conn].untold = false;
            }
        }
    }
}
