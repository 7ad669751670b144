//! Connections of the relay: their outcome, the peer at the other end, and writes that go in pieces.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{Address, AddressKey};

use super::World;
use crate::conn::{Life, Who};
use crate::kernel::{ConnId, Due};
use crate::peers::Peer;
use crate::plan::Dial;
use crate::sources::NO_SOURCE;

impl World {
    /// The outcome of the next connect, and a connection for it.
    pub(crate) fn dial(&mut self, to: SocketAddr, source: Option<IpAddr>) -> Result<ConnId, Errno> {
        if self.kernel.open >= self.kernel.laws.descriptors {
            return Err(Errno::MFILE);
        }
        if source.is_some_and(|source| self.is_missing(source)) {
            return Err(NO_SOURCE);
        }
        if self.dialled.values().filter(|one| **one == (to, source)).count() >= self.kernel.laws.ports {
            return Err(Errno::ADDRNOTAVAIL);
        }
        let planned = self.plan.dials.get(self.dials).copied().unwrap_or(Dial::Accept);
        let planned = self.plan.mood(to, self.kernel.now).unwrap_or(planned);
        let dial = self.next_dial.take().unwrap_or(planned);
        self.dials += 1;
        // The caps are the session's, which registration will tell.
        let conn = self.kernel.dial_upstream([1; 4]);
        self.owners.push(None);
        self.dialled.insert(conn, (to, source));
        self.kernel.open += 1;
        let delay = Duration::from_nanos(self.rng.u64(self.plan.laws.delay.0..=self.plan.laws.delay.1));
        let (wait, error) = match dial {
            Dial::Accept | Dial::Itself => (delay, None),
            Dial::AcceptAfter(wait) => (wait, None),
            Dial::Fail(error) => (delay, Some(error)),
            Dial::FailAfter(error, wait) => (wait, Some(error)),
            Dial::Silence => return Ok(conn),
        };
        self.kernel.conns[conn].to_itself = dial == Dial::Itself;
        self.kernel.after(wait, Due::Dialled { conn, error });
        Ok(conn)
    }

    /// The same for a Unix socket: it is connected at once or not at all. One that would not answer has a full backlog (K22).
    pub(crate) fn dial_unix(&mut self, to: SocketAddr) -> Result<ConnId, Errno> {
        if self.kernel.open >= self.kernel.laws.descriptors {
            return Err(Errno::MFILE);
        }
        let planned = self.plan.dials.get(self.dials).copied().unwrap_or(Dial::Accept);
        let planned = self.plan.mood(to, self.kernel.now).unwrap_or(planned);
        let dial = self.next_dial.take().unwrap_or(planned);
        self.dials += 1;
        match dial {
            Dial::Accept | Dial::AcceptAfter(_) | Dial::Itself => {}
            Dial::Fail(Errno::CONNREFUSED) | Dial::FailAfter(Errno::CONNREFUSED, _) => return Err(Errno::CONNREFUSED),
            Dial::Fail(_) | Dial::FailAfter(..) => return Err(Errno::NOENT),
            Dial::Silence => return Err(Errno::AGAIN),
        }
        let conn = self.kernel.dial_upstream([1; 4]);
        self.owners.push(None);
        self.kernel.open += 1;
        let it = &mut self.kernel.conns[conn];
        it.make_unix();
        (it.relay.life, it.peer.life) = (Life::Open, Life::Open);
        self.shadow.unix.insert(conn);
        Ok(conn)
    }

    /// The key of an address. That of a Unix socket is a look at its file: only a reload needs them, each once.
    pub(crate) fn key_of(&mut self, address: &Address) -> AddressKey {
        let name = match address {
            Address::Inet(address) => return AddressKey::Port(address.port()),
            Address::Unix(name) => name,
            _ => unreachable!("{address} is of no kind that is known"),
        };
        match self.unix_keys.checked_sub(1) {
            Some(left) => self.unix_keys = left,
            None => self.violation(format!("a look at the file of {address} that nobody needs")),
        }
        AddressKey::Name(Arc::clone(name))
    }

    /// A write of the relay. To a Unix socket it may go in two pieces, between which the world goes on.
    pub(crate) fn send(&mut self, conn: ConnId, data: &[u8]) -> Result<usize, Errno> {
        if !self.kernel.conns[conn].unix {
            return self.kernel.send(conn, Who::Relay, data, false);
        }
        let piece = self.piece(data.len());
        let sent = self.kernel.send(conn, Who::Relay, &data[..piece], false)?;
        if sent < piece || piece == data.len() {
            return Ok(sent);
        }
        self.piece(1);
        match self.kernel.send(conn, Who::Relay, &data[piece..], false) {
            Ok(more) => Ok(sent + more),
            Err(_) => {
                self.kernel.swallow(conn);
                Ok(sent)
            }
        }
    }

    /// The upstream of a session: now it is known which, so the peer can be put at the other end.
    pub(crate) fn pair(&mut self, conn: ConnId, session: usize) {
        let of = &self.plan.sessions[session];
        let plan = &of.upstream;
        let [peer_send, relay_receive, relay_send, peer_receive] = plan.caps.map(|cap| cap as u64);
        let it = &mut self.kernel.conns[conn];
        (it.from_peer.send_cap, it.from_peer.receive_cap) = (peer_send, relay_receive);
        (it.from_relay.send_cap, it.from_relay.receive_cap) = (relay_send, peer_receive);
        if it.to_itself {
            return;
        }
        self.owners[conn] = Some(self.peers.len());
        self.peers.push(Peer::new(self.plan.seed, session, false, conn, of));
        self.kernel.stirred.push(conn);
        self.wake_peers();
    }

    /// How much of a pipe goes out in one piece. Time may pass before the next.
    pub(crate) fn piece(&mut self, held: usize) -> usize {
        if self.chance(self.plan.noise.tick) {
            let soon = self.kernel.now + Duration::from_nanos(self.rng.u64(0..=self.plan.laws.delay.1));
            self.run_until(soon);
        }
        self.settle();
        if held > 1 && self.rng.bool() { self.rng.usize(1..=held) } else { held }
    }
}
