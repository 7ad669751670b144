//! A client that waits for its upstream.

use std::io::{self, ErrorKind};

use log::{debug, info, warn};

use super::attempts::{Attempts, Bounds, Step};
use super::{Session, Stage};
use crate::net::errno::{ConnectError, on_connect, shortage_message};
use crate::net::{Hints, Net, Peer, Stream, Time};
use crate::reactor::Reactor;
use crate::reactor::cause::Cause;
use crate::reactor::waiters::{Place, Want};
use crate::relay::side::Side;

/// What a session is before its upstream is connected.
#[derive(Debug)]
pub(super) struct Opening<S> {
    pub(super) client: Side<S>,
    /// The connection under way; none before the first, during a pause, or while the session waits.
    pub(super) upstream: Option<Side<S>>,
    attempts: Attempts,
    /// When the address in use, the pause, or the wait for a descriptor or a port has had its time.
    until: Time,
    /// Why the last address failed.
    pub(super) last: Cause,
    /// Its place among those that wait for a descriptor or a port, if it does.
    place: Option<Place>,
}

impl<S: Stream> Opening<S> {
    pub(super) fn new(client: S, now: Time) -> Self {
        Self {
            client: Side::new(client),
            upstream: None,
            attempts: Attempts::default(),
            until: now,
            last: Cause::ConnectTimeout,
            place: None,
        }
    }

    pub(super) fn mark(&mut self, peer: Peer, hints: Hints) {
        match peer {
            Peer::Client => {
                self.client.mark(hints);
            }
            Peer::Upstream => {
                if let Some(upstream) = &mut self.upstream {
                    upstream.mark(hints);
                }
            }
        }
    }
}

impl<S: Stream> Session<S> {
    /// Asks for the events of the client's socket.
    pub(in crate::reactor) fn register_client(&mut self, key: u32, net: &mut impl Net<Stream = S>) -> io::Result<()> {
        let token = self.token(key, Peer::Client);
        match &mut self.stage {
            Stage::Opening(opening) => net.register(opening.client.stream_mut(), token),
            Stage::Relaying(..) | Stage::Moving => {
                self.stage.unexpected("registered");
                Ok(())
            }
        }
    }
}

impl<N: Net> Reactor<N> {
    /// Something happened to a session that opens: its upstream is connected, or failed, or has had its time; or the
    /// client went away. Does it relay now?
    pub(in crate::reactor) fn open(&mut self, key: u32) -> bool {
        let session = &mut self.table[key];
        let Stage::Opening(opening) = &mut session.stage else {
            session.stage.unexpected("opened");
            return false;
        };
        // A client that only finished speaking is kept. A reset of its connection ends the session.
        opening.client.check_error();
        if opening.client.first_error().is_some() {
            self.end(key, Some(Cause::ClientGone));
            return false;
        }
        let (due, until) = (self.now >= opening.until, opening.until);
        let Some(upstream) = &mut opening.upstream else {
            // An event of its own lets no session try out of turn.
            if due || opening.place.is_some_and(|place| self.waiters.is_first(place)) {
                self.dial(key);
            } else {
                self.arm(key, until);
            }
            return false;
        };
        let error: io::Error = match self.net.connected(upstream.stream_mut()) {
            Ok(true) => return self.established(key),
            Ok(false) if !due => {
                self.arm(key, until);
                return false;
            }
            Ok(false) => ErrorKind::TimedOut.into(),
            Err(error) if on_connect(&error) == ConnectError::WasEstablished => {
                upstream.fail(&error);
                return self.established(key);
            }
            Err(error) => error,
        };
        if let Some(endpoint) = session.endpoint {
            debug!("cannot connect to {}: {error}", self.endpoints.address(endpoint));
        }
        opening.last = Cause::of_connect(&error);
        opening.upstream = None;
        self.dial(key);
        false
    }

    /// The upstream is connected. Does it relay now?
    fn established(&mut self, key: u32) -> bool {
        if !self.table[key].established(self.now) {
            self.end(key, None);
            return false;
        }
        self.disarm(key);
        let upstream = self.table[key].token(key, Peer::Upstream);
        self.keepalive.add(upstream, self.now, &mut self.alarms);
        true
    }

    /// Begins a connection to the next address that takes one.
    pub(in crate::reactor) fn dial(&mut self, key: u32) {
        let route = self.routes.get(self.table[key].route);
        let bounds = Bounds {
            places: route.endpoints.len(),
            attempts: route.settings.connect_attempts,
            deadline: self.table[key].began + route.settings.connect_timeout,
        };
        let queue = Want::Port { route: self.table[key].route };
        loop {
            let Stage::Opening(opening) = &mut self.table[key].stage else {
                self.table[key].stage.unexpected("dialled");
                return;
            };
            let (place, until) = match opening.attempts.next(bounds, self.now, &mut self.rng) {
                Step::Dial { place, until } => (place, until),
                Step::Pause { until } => {
                    opening.until = until;
                    self.stop_waiting(key);
                    return self.arm(key, until);
                }
                Step::AwaitPort { place } => return self.wait_for_port(key, place, bounds.deadline),
                Step::GiveUp => {
                    self.stop_waiting(key);
                    return self.end(key, None);
                }
            };
            // Others wait for a port to the only address: they go first. To find out again that none is left would take
            // the kernel a search of all ports.
            if bounds.places == 1 && opening.place.is_none() && self.waiters.first(queue).is_some() {
                return self.wait_for(key, queue, bounds.deadline);
            }
            let token = self.table.renumber_upstream(key);
            let endpoint = self.routes.get(self.table[key].route).endpoints[place];
            self.endpoints.switch(&mut self.table[key].endpoint, endpoint);
            let begun = self.net.connect(self.endpoints.address(endpoint)).and_then(|mut stream| {
                self.net.register(&mut stream, token)?;
                Ok(stream)
            });
            let Stage::Opening(opening) = &mut self.table[key].stage else {
                self.table[key].stage.unexpected("dialling");
                return;
            };
            match begun {
                Ok(stream) => {
                    opening.upstream = Some(Side::new(stream));
                    opening.attempts.tried(place);
                    opening.until = until;
                    self.stop_waiting(key);
                    return self.arm(key, until);
                }
                Err(error) if on_connect(&error) == ConnectError::Shortage => {
                    return self.wait_for_descriptor(key, &error, bounds.deadline);
                }
                Err(error) => {
                    debug!("cannot connect to {}: {error}", self.endpoints.address(endpoint));
                    opening.last = Cause::of_connect(&error);
                    match on_connect(&error) {
                        ConnectError::NoPorts => opening.attempts.lacks_port(place),
                        ConnectError::Refused
                        | ConnectError::Timeout
                        | ConnectError::Unreachable
                        | ConnectError::WasEstablished
                        | ConnectError::Shortage => opening.attempts.tried(place),
                    }
                }
            }
        }
    }

    /// connect(2) found no descriptor, memory or watch.
    fn wait_for_descriptor(&mut self, key: u32, error: &io::Error, deadline: Time) {
        if self.descriptors.note_shortage() {
            warn!("connect: {}", shortage_message(error, "new clients wait"));
        }
        self.wait_for(key, Want::Descriptor, deadline);
    }

    /// All addresses were tried, and there was no source port to the one at `place`.
    fn wait_for_port(&mut self, key: u32, place: usize, deadline: Time) {
        if self.ports.note_shortage(self.now, &mut self.alarms) {
            let endpoint = self.routes.get(self.table[key].route).endpoints[place];
            let about = self.about(self.table[key].route);
            warn!(
                "{about}connect: no source port is left to {}; its sessions wait (widen `sysctl net.ipv4.ip_local_port_range`, \
                 set `net.ipv4.tcp_tw_reuse=1`, or add a second upstream address)",
                self.endpoints.address(endpoint)
            );
        }
        let route = self.table[key].route;
        self.wait_for(key, Want::Port { route }, deadline);
    }

    /// The session waits. That costs no attempt, and ends the session only with the connect timeout. If it was waiting
    /// for the same before, it keeps its place.
    fn wait_for(&mut self, key: u32, want: Want, deadline: Time) {
        let Stage::Opening(opening) = &mut self.table[key].stage else {
            self.table[key].stage.unexpected("waiting");
            return;
        };
        opening.last = match want {
            Want::Descriptor => Cause::NoResources,
            Want::Port { .. } => Cause::NoPorts,
        };
        opening.until = deadline;
        if opening.place.is_none_or(|place| place.want() != want) {
            let before = opening.place.replace(self.waiters.join(want, key));
            if let Some(place) = before {
                self.leave_place(place);
            }
        }
        self.waiters.arm(self.now, &mut self.alarms);
        self.arm(key, deadline);
    }

    /// If the session waited, it does not any more.
    pub(in crate::reactor) fn stop_waiting(&mut self, key: u32) {
        if let Stage::Opening(opening) = &mut self.table[key].stage
            && let Some(place) = opening.place.take()
        {
            self.leave_place(place);
        }
    }

    /// A session has what it waited for, or has ended. The next tries.
    fn leave_place(&mut self, place: Place) {
        self.waiters.leave(place);
        self.wake_waiter(place.want());
        if self.waiters.is_empty() {
            self.waiters.disarm(&mut self.alarms);
        }
    }

    /// What is waited for may have come free: the first that waits for it tries.
    pub(in crate::reactor) fn wake_waiter(&mut self, want: Want) {
        if let Some(key) = self.waiters.first(want) {
            self.table.wake(key);
        }
    }

    /// [`Alarm::Retry`](crate::reactor::alarms::Alarm::Retry) went off: the first of each queue tries.
    pub(in crate::reactor) fn retry_waiters(&mut self) {
        self.waiters.disarm(&mut self.alarms);
        self.waiters.heads().for_each(|key| self.table.wake(key));
    }

    /// [`Alarm::Ports`](crate::reactor::alarms::Alarm::Ports) went off.
    pub(in crate::reactor) fn reconsider_ports(&mut self) {
        if self.ports.is_over(self.now, self.waiters.lack_ports(), &mut self.alarms) {
            info!("connect: source ports are free again");
        }
    }
}
