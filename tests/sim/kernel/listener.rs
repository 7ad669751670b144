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

/// A listening socket that another process has open: clients come to its queue whether or not the relay listens.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    queue: VecDeque<ConnId>,
    backlog: usize,
    unix: bool,
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
    /// Another process listens at this place.
    pub(crate) fn share(&mut self, place: usize, unix: bool) {
        self.shared.insert(place, Shared { queue: VecDeque::new(), backlog: 128, unix });
    }

    /// Does this client wait where another process listens?
    pub(crate) fn waits_elsewhere(&self, conn: ConnId) -> bool {
        self.shared.values().any(|shared| shared.queue.contains(&conn))
    }

    /// Another listener. Returns its index.
    pub(crate) fn listen(&mut self, place: usize, token: Token, backlog: usize) -> usize {
        // Who waits there already causes an event as soon as it is asked for.
        let queue = self.shared.remove(&place).unwrap_or_default().queue;
        let edge = !queue.is_empty();
        self.listeners.push(Listener { open: true, place, token, backlog, queue, edge, owed: true, unix: false });
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
        let to = self.listener_at(place);
        let (waiting, backlog, unix) = match (to, self.shared.get(&place)) {
            (Some(to), _) => (self.listeners[to].queue.len(), self.listeners[to].backlog, self.listeners[to].unix),
            (None, Some(shared)) => (shared.queue.len(), shared.backlog, shared.unix),
            (None, None) => return self.fail(conn, Who::Peer, Errno::CONNREFUSED),
        };
        if waiting > self.laws.backlog.min(backlog) {
            // A full queue drops SYNs (K7), and the client tries again.
            return match tries {
                5 => self.fail(conn, Who::Peer, Errno::TIMEDOUT),
                _ => self.after(Duration::from_secs(1 << tries), Due::Syn { conn, place, tries: tries + 1 }),
            };
        }
        self.conns[conn].peer.life = Life::Open;
        self.conns[conn].relay.life = Life::Open;
        if unix {
            self.conns[conn].make_unix();
        }
        match to {
            Some(to) => {
                self.listeners[to].queue.push_back(conn);
                self.listeners[to].edge = true;
            }
            None => self.shared.entry(place).or_default().queue.push_back(conn),
        }
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

    /// The listener goes, and with it the clients that wait in its queue, unless another process has it.
    pub(crate) fn stop_listening(&mut self, index: usize, is_shared: bool) {
        let it = &mut self.listeners[index];
        it.open = false;
        if is_shared {
            let queue = std::mem::take(&mut it.queue);
            self.shared.insert(it.place, Shared { queue, backlog: it.backlog, unix: it.unix });
        }
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
