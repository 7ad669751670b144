//! The simulated event queue: which edges are owed, and what an event says when it is delivered.

use tproxy::net::{Hints, Ready, Token};

use crate::conn::{Life, Watch, Who};
use crate::kernel::{ConnId, Kernel};

impl Kernel {
    pub(crate) fn happened(&mut self, conn: ConnId, who: Who) {
        match who {
            Who::Peer => self.stirred.push(conn),
            Who::Relay => self.edge(conn),
        }
    }

    /// Something happened at the relay's end.
    pub(crate) fn edge(&mut self, conn: ConnId) {
        let watch = &mut self.conns[conn].watch;
        if watch.token.is_some() && !watch.listed {
            watch.listed = true;
            self.edges.push_back(conn);
        }
    }

    /// What is ready already raises an event too.
    pub(crate) fn register(&mut self, conn: ConnId, token: Token) {
        let watch = &mut self.conns[conn].watch;
        assert!(watch.token.is_none(), "connection {conn} is registered twice");
        *watch = Watch { token: Some(token), listed: false, owes_read: true, owes_write: true, owes_error: true };
        self.edge(conn);
    }

    /// Is there anything for the event queue to say?
    pub(crate) fn has_events(&mut self) -> bool {
        if self.listeners.iter().any(|one| one.is_ready(self.laws.linux)) {
            return true;
        }
        if self.laws.linux {
            while let Some(conn) = self.edges.front().copied() {
                if self.hints(conn) != Hints::default() {
                    return true;
                }
                self.edges.pop_front();
                self.conns[conn].watch.listed = false;
            }
            return false;
        }
        (0..self.conns.len()).any(|conn| self.hints(conn) != Hints::default())
    }

    /// Has this connection an event that was not delivered yet?
    pub(crate) fn is_pending(&self, conn: ConnId) -> bool {
        (!self.laws.linux || self.conns[conn].watch.listed) && self.hints(conn) != Hints::default()
    }

    /// Delivers at most `most` events. What an event says is what is true now, not what was true at its edge.
    pub(crate) fn collect(&mut self, most: usize, ready: &mut Vec<Ready>) {
        let before = ready.len();
        if !self.laws.linux {
            self.edges.clear();
            let first = if self.conns.is_empty() { 0 } else { self.rng.usize(..self.conns.len()) };
            self.edges.extend((first..self.conns.len()).chain(0..first));
        }
        let mut places = self.listener_places();
        while ready.len() - before < most {
            let due = |(place, _): &(usize, usize)| ready.len() - before >= *place || self.edges.is_empty();
            if let Some(next) = places.iter().position(due) {
                let (_, index) = places.remove(next);
                self.listeners[index].announce();
                ready.push(Ready { token: self.listeners[index].token, hints: Hints::READABLE });
                continue;
            }
            let Some(conn) = self.edges.pop_front() else {
                break;
            };
            let hints = self.hints(conn);
            let watch = &mut self.conns[conn].watch;
            watch.listed = false;
            let Some(token) = watch.token.filter(|_| hints != Hints::default()) else {
                continue;
            };
            watch.owes_read &= !hints.has(Hints::READABLE);
            watch.owes_write &= !hints.has(Hints::WRITABLE);
            watch.owes_error &= !hints.has(Hints::ERROR);
            ready.push(Ready { token, hints });
            if std::mem::take(&mut self.conns[conn].relay.half_told) {
                self.edge(conn);
            }
        }
    }

    /// Which places the listeners' events have among those that are due: any, so one may have to wait for another
    /// batch.
    fn listener_places(&mut self) -> Vec<(usize, usize)> {
        let linux = self.laws.linux;
        let ready: Vec<_> = (0..).zip(&self.listeners).filter(|(_, one)| one.is_ready(linux)).map(|it| it.0).collect();
        if ready.is_empty() {
            return Vec::new();
        }
        let others = self.edges.iter().filter(|conn| self.hints(**conn) != Hints::default()).count();
        ready.into_iter().map(|index| (self.rng.usize(..=others), index)).collect()
    }

    /// What the event of this connection would say now; nothing if none would come.
    fn hints(&self, conn: ConnId) -> Hints {
        let it = &self.conns[conn];
        if it.watch.token.is_none() || it.relay.life == Life::Connecting {
            return Hints::default();
        }
        let (readable, writable, error) = (it.is_readable(), it.is_writable(), it.relay.error.is_some());
        let error = error && !it.relay.half_told;
        let says = if self.laws.linux {
            let ended = it.from_peer.fin_arrived || it.relay.life == Life::Dead;
            [
                (readable, Hints::READABLE),
                (writable, Hints::WRITABLE),
                (ended || it.from_peer.mark.is_some(), Hints::READ_TO_EAGAIN),
                // A reset raises both flags at once, so an end without an error was a FIN, or is an error that was
                // told.
                (ended && !error, Hints::FIN),
                (error, Hints::ERROR),
                (!error && it.is_shut_down(), Hints::HANG_UP),
            ]
        } else {
            // That there was a FIN or a mark, this kernel does not say.
            [
                (readable && it.watch.owes_read, Hints::READABLE),
                (writable && it.watch.owes_write, Hints::WRITABLE),
                (false, Hints::READ_TO_EAGAIN),
                (false, Hints::FIN),
                (error && it.watch.owes_error, Hints::ERROR),
                (false, Hints::HANG_UP),
            ]
        };
        says.into_iter().filter(|(is, _)| *is).fold(Hints::default(), |hints, (_, bit)| hints | bit)
    }
}
