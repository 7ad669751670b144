//! Accepting clients: what the gate decides is carried out here, and logged.

use std::net::IpAddr;

use log::{info, warn};

use super::alarms::Alarm;
use super::cause::Cause;
use super::gate::Decision;
use super::refusals::Refusal;
use super::session::Session;
use super::waiters::Want;
use super::{Net, Reactor};
use crate::config::AtLimit;
use crate::error::Error;
use crate::net::Client;
use crate::net::errno::shortage_message;

/// What becomes of clients for which there is no room, and what keeps one client from taking it all.
const WAIT: &str = "new clients wait in the kernel's queue";
const RESET: &str = "new clients are reset";
const REMEDY: &str = "--max-sessions-per-ip keeps one client from taking them all";

/// Clients accepted in one turn, so that a storm of them does not hold up the sessions.
const PER_TURN: usize = 32;

impl<N: Net> Reactor<N> {
    /// May a client wait, and is there room?
    pub(super) fn may_accept(&self) -> bool {
        let waits = if self.has_room() { self.listeners.is_waiting() } else { self.listeners.is_waiting_to_reset() };
        waits && self.gate.is_open() && self.waiters.first(Want::Descriptor).is_none()
    }

    fn has_room(&self) -> bool {
        self.admission.has_room(self.table.len())
    }

    /// Accepts clients.
    ///
    /// A client takes one descriptor now and one when it is dialled for. A turn that took the last ones for clients would
    /// leave nothing to dial with, and no session whose end frees any.
    #[inline(never)]
    pub(super) fn accept(&mut self) -> Result<(), Error> {
        let room = self.table.len() + self.descriptors.batch(self.table.len());
        for _ in 0..PER_TURN {
            if !self.may_accept() || self.table.len() >= room {
                break;
            }
            let Some((index, listener)) = self.listeners.next_waiting(self.has_room()) else {
                break;
            };
            match self.net.accept(listener) {
                Ok((stream, client)) => {
                    self.gate.accepted();
                    self.take(stream, client, index);
                }
                Err(error) => match self.gate.failed(&error, self.now, &mut self.rng) {
                    Decision::Skip => {}
                    Decision::Empty => {
                        self.listeners.set_empty(index, self.now);
                        if !self.listeners.is_waiting() {
                            if self.has_room() {
                                self.admission.note_empty(self.now);
                            }
                            if self.descriptors.note_enough() {
                                info!("accept: resumed, no client waits");
                            }
                        }
                    }
                    Decision::Pause(pause) => {
                        self.times.accept_pauses += 1;
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
            let fate = match self.listeners.with_reset() {
                0 => WAIT,
                all if all == self.listeners.len() => RESET,
                _ => "new clients wait in the kernel's queue or are reset, as --at-limit says",
            };
            warn!("at the limit of {limit} sessions; {fate} ({REMEDY})");
        }
    }

    /// A client was accepted at this listener: it is served, or reset.
    fn take(&mut self, stream: N::Stream, client: Client, listener: u16) {
        let Some(route) = self.listeners.route(listener) else {
            return debug_assert!(false, "a client of a closed listener");
        };
        let no_room = || !self.has_room() || !self.listeners.has_room(listener);
        if let Some(why) = self.refusal_at_accept(route, &client).or_else(|| no_room().then_some(Refusal::NoRoom)) {
            drop(stream);
            self.listeners.note_refused(listener);
            return self.note_refused(route, client, why);
        }
        self.listeners.note_accepted(listener);
        self.routes.begin_session(route);
        let key = self.admit(stream, client, route);
        if !self.table[key].awaits_header() {
            self.count_client(key, listener);
        }
        self.note_route_limit(listener);
    }

    /// Why a client of this route is not served, as far as its own address tells. Where a proxy is to announce clients, the
    /// others are judged when that is done.
    fn refusal_at_accept(&self, route: u16, client: &Client) -> Option<Refusal> {
        let settings = &self.routes.get(route).settings;
        match settings.accept_proxy {
            true => (!settings.proxy_from.contains(client.ip())).then_some(Refusal::NoProxy),
            false => self.refusal(route, client),
        }
    }

    /// The session's client counts among those of its address, if the route limits them.
    pub(super) fn count_client(&mut self, key: u32, listener: u16) {
        let session = &mut self.table[key];
        if self.routes.get(session.route()).settings.max_sessions_per_ip.is_some()
            && let Some(client) = session.count_client()
        {
            self.listeners.count_client(listener, client);
        }
    }

    /// A new session. Its client is watched at once, and dialled for in the next turn: by then an event has told if the
    /// client was reset while it waited in the queue (K26).
    fn admit(&mut self, stream: N::Stream, client: Client, route: u16) -> u32 {
        self.has_started();
        let (now, accept_proxy) = (self.now, self.routes.get(route).settings.accept_proxy);
        let key = self.table.insert(|serial| Session::new(stream, client, (route, accept_proxy), serial, now));
        match self.table[key].register_client(key, &mut self.net) {
            Ok(()) => self.table.wake(key),
            Err(_) => self.end(key, Some(Cause::NoResources)),
        }
        key
    }

    /// Says it if the route of this listener has come to its own limit of sessions.
    pub(super) fn note_route_limit(&mut self, listener: u16) {
        if let (Some(route), Some(limit)) =
            (self.listeners.route(listener), self.listeners.note_limit(listener, self.now))
        {
            let about = self.about(route);
            let fate = match self.routes.get(route).settings.at_limit {
                AtLimit::Wait => WAIT,
                AtLimit::Reset => RESET,
            };
            warn!("{about}at the limit of {limit} sessions; {fate} ({REMEDY})");
        }
    }

    /// A session of this route is over: its listener may have room again, and an old route may not be needed any more. Its
    /// client may have counted among those of its address.
    pub(super) fn end_of_session(&mut self, route: u16, counted: Option<IpAddr>) {
        if let Some(listener) = self.routes.end_session(route) {
            self.listeners.note_ended(listener, counted);
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
