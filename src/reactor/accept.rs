//! Accepting clients: what the gate decides is carried out here, and logged.

use log::{info, warn};

use super::alarms::Alarm;
use super::cause::Cause;
use super::gate::Decision;
use super::session::Session;
use super::waiters::Want;
use super::{Net, Reactor};
use crate::error::Error;
use crate::net::Client;
use crate::net::errno::shortage_message;

/// Clients accepted in one turn, so that a storm of them does not hold up the sessions.
const PER_TURN: usize = 32;

impl<N: Net> Reactor<N> {
    /// May a client wait, and is there room?
    pub(super) fn may_accept(&self) -> bool {
        let room = self.admission.has_room(self.table.len()) && self.waiters.first(Want::Descriptor).is_none();
        room && self.gate.is_open() && self.listeners.is_waiting()
    }

    /// Accepts clients.
    ///
    /// A client takes one descriptor now and one when it is dialled for. A turn that took the last ones for clients would
    /// leave nothing to dial with, and no session whose end frees any.
    pub(super) fn accept(&mut self) -> Result<(), Error> {
        let room = self.table.len() + self.descriptors.batch(self.table.len());
        for _ in 0..PER_TURN {
            if !self.may_accept() || self.table.len() >= room {
                break;
            }
            let Some((index, listener)) = self.listeners.next_waiting() else {
                break;
            };
            match self.net.accept(listener) {
                Ok((stream, client)) => {
                    self.gate.accepted();
                    let route = self.listeners.note_accepted(index);
                    self.routes.begin_session(route);
                    self.admit(stream, client, route);
                    self.note_route_limit(index);
                }
                Err(error) => match self.gate.failed(&error, self.now, &mut self.rng) {
                    Decision::Skip => {}
                    Decision::Empty => {
                        self.listeners.set_empty(index, self.now);
                        if !self.listeners.is_waiting() {
                            self.admission.note_empty(self.now);
                            if self.descriptors.note_enough() {
                                info!("accept: resumed, no client waits");
                            }
                        }
                    }
                    Decision::Pause(pause) => {
                        self.alarms.set(self.now + pause, Alarm::Accept);
                        if self.descriptors.note_shortage() {
                            let action = format!("pausing {}ms", pause.as_millis());
                            warn!("accept: {}", shortage_message(&error, &action));
                        }
                    }
                    Decision::Dead => return Err(Error::Accept(error)),
                },
            }
        }
        self.note_limit();
        Ok(())
    }

    /// Says it if there are as many sessions as there may be.
    pub(super) fn note_limit(&mut self) {
        if self.admission.note_sessions(self.table.len(), self.now) {
            let limit = self.admission.limit();
            warn!("at the limit of {limit} sessions; new clients wait in the kernel's queue");
        }
    }

    /// A new session. Its client is watched at once, and dialled for in the next turn: by then an event has told if the
    /// client was reset while it waited in the queue (K26).
    fn admit(&mut self, stream: N::Stream, client: Client, route: u16) {
        self.has_started();
        let now = self.now;
        let key = self.table.insert(|serial| Session::new(stream, client, route, serial, now));
        match self.table[key].register_client(key, &mut self.net) {
            Ok(()) => self.table.wake(key),
            Err(_) => self.end(key, Some(Cause::NoResources)),
        }
    }

    /// Says it if the route of this listener has come to its own limit of sessions.
    pub(super) fn note_route_limit(&mut self, listener: u16) {
        if let (Some(route), Some(limit)) =
            (self.listeners.route(listener), self.listeners.note_limit(listener, self.now))
        {
            let about = self.about(route);
            warn!("{about}at the limit of {limit} sessions; new clients wait in the kernel's queue");
        }
    }

    /// A session of this route is over: its listener may have room again, and an old route may not be needed any more.
    pub(super) fn end_of_session(&mut self, route: u16) {
        if let Some(listener) = self.routes.end_session(route) {
            self.listeners.note_ended(listener);
        }
        self.free_route(route);
    }

    /// What accept was short of may be there again.
    pub(super) fn resume_accept(&mut self) {
        if let Some(at) = self.gate.paused() {
            self.alarms.cancel(at, Alarm::Accept);
            self.gate.resume();
        }
    }
}
