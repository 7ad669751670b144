//! Letting clients in: what the gate decides is carried out here, and told.

use std::net::SocketAddr;

use log::{info, warn};

use super::alarms::Alarm;
use super::session::{Phase, Session};
use super::{Cause, LOG, Net, Peer, Reactor, gate, slot};
use crate::Error;
use crate::net::mio::LISTEN_BACKLOG;

/// Clients accepted in one turn, so that a storm of them does not hold up those that are here.
pub(super) const PER_TURN: usize = 32;

/// Clients accepted in the turn that begins the drain: one backlog's length.
pub(super) const DRAIN_ACCEPTS_MAX: usize = LISTEN_BACKLOG as usize;

impl<N: Net> Reactor<N> {
    /// Is there a reason to accept, and room?
    pub(super) fn may_accept(&self) -> bool {
        let room = self.sessions.len() < self.limit && self.waits_for_descriptor.is_empty();
        room && self.gate.is_open() && self.listener.is_some()
    }

    /// Lets in so many clients at most, as long as there is nothing against it.
    pub(super) fn accept(&mut self, clients: usize) -> Result<(), Error> {
        for _ in 0..clients {
            if !self.may_accept() {
                break;
            }
            let Some(listener) = &mut self.listener else {
                break;
            };
            match self.net.accept(listener) {
                Ok((stream, client)) => {
                    self.gate.accepted();
                    self.admit(stream, client);
                }
                Err(error) => match self.gate.failed(&error, self.now, &mut self.rng) {
                    gate::AcceptError::Skip => {}
                    gate::AcceptError::Empty { is_first } => {
                        if is_first {
                            info!(target: LOG, "accept: resumed, nobody waits any more");
                        }
                        break;
                    }
                    gate::AcceptError::Pause { pause, is_first } => {
                        self.alarms.set(self.now + pause, Alarm::Gate);
                        if is_first {
                            let measure = format!("pausing {}ms", pause.as_millis());
                            warn!(target: LOG, "accept: {}", gate::shortage_message(&error, &measure));
                        }
                        break;
                    }
                    gate::AcceptError::Dead => return Err(Error::Accept(error)),
                },
            }
        }
        if self.sessions.len() >= self.limit && !self.warned_of_limit {
            self.warned_of_limit = true;
            warn!(target: LOG, "at the limit of {} sessions; new clients wait in the kernel's queue", self.limit);
        }
        Ok(())
    }

    /// A new session: its client is watched at once, for it may go away while we connect.
    fn admit(&mut self, stream: N::Stream, client: SocketAddr) {
        let serial = self.next_serial();
        let key = slot(self.sessions.insert(Session::new(stream, client, serial, self.now)));
        let session = &mut self.sessions[key as usize];
        let token = session.token(key, Peer::Client);
        let Phase::Connecting(connecting) = &mut session.phase else {
            return;
        };
        match self.net.register(connecting.client.stream_mut(), token) {
            Ok(()) => self.dial(key),
            Err(_) => self.end(key, Some(Cause::NoResources)),
        }
    }

    /// Whatever accept was short of may be there again.
    pub(super) fn reopen_gate(&mut self) {
        if let Some(at) = self.gate.paused() {
            self.alarms.cancel(at, Alarm::Gate);
            self.gate.reopen();
        }
    }
}
