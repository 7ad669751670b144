//! A client that waits for its upstream.

use std::io::{self, ErrorKind};

use log::{Level, debug, info, warn};

use super::attempts::{Attempts, Bounds, Failure, Step};
use super::{Session, Stage};
use crate::net::errno::{ConnectError, on_connect};
use crate::net::{Hints, Net, Peer, Stream, Time};
use crate::reactor::Reactor;
use crate::reactor::cause::Cause;
use crate::reactor::keepalive::Pending;
use crate::reactor::record::{self, Opened};
use crate::reactor::waiters::{Place, Want};
use crate::relay::incoming::Accepted;
use crate::relay::side::Side;

/// What a session is before its upstream is connected.
#[derive(Debug)]
pub(super) struct Opening<S: Stream> {
    pub(super) client: Side<S>,
    /// What a proxy sent before the client's bytes, and the first of those, until the upstream is connected.
    pub(super) header: Option<Accepted<S::Pipe>>,
    /// The connection under way; none before the first, during a pause, or while the session waits.
    pub(super) upstream: Option<Side<S>>,
    pub(super) attempts: Attempts,
    /// When the address in use, the pause, or the wait in a queue has had its time.
    pub(super) until: Time,
    /// Its place in a queue, if it waits in one.
    pub(super) place: Option<Place>,
}

impl<S: Stream> Opening<S> {
    pub(super) fn new(client: Side<S>, header: Option<Accepted<S::Pipe>>, now: Time) -> Self {
        Self { client, header, upstream: None, attempts: Attempts::default(), until: now, place: None }
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
    /// Does it wait for an answer of the resolver?
    pub(in crate::reactor) fn awaits_name(&self) -> bool {
        match &self.stage {
            Stage::Opening(opening) => opening.place.is_some_and(|place| place.want().is_name()),
            Stage::Header(_) | Stage::Relaying(..) | Stage::Moving => false,
        }
    }

    /// Asks for the events of the client's socket.
    pub(in crate::reactor) fn register_client(&mut self, key: u32, net: &mut impl Net<Stream = S>) -> io::Result<()> {
        let token = self.token(key, Peer::Client);
        match &mut self.stage {
            Stage::Header(awaiting) => net.register(awaiting.client.stream_mut(), token),
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
        if self.table[key].awaits_header() && !self.read_header(key) {
            return false;
        }
        let session = &mut self.table[key];
        let endpoint = session.endpoint;
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
            if due {
                self.dial(key);
            } else {
                self.arm(key, until);
            }
            return false;
        };
        let (error, failure): (io::Error, _) = match self.net.connected(upstream.stream_mut()) {
            Ok(true) => return self.established(key),
            Ok(false) if !due => {
                self.arm(key, until);
                return false;
            }
            Ok(false) => (ErrorKind::TimedOut.into(), Failure::TooSlow),
            Err(error) if endpoint.is_some_and(|id| self.upstreams.was_established(id, &error)) => {
                upstream.fail(&error);
                return self.established(key);
            }
            Err(error) => (error, Failure::Other),
        };
        opening.upstream = None;
        self.connect_failed(key, failure, &error);
        self.dial(key);
        false
    }

    /// The upstream is connected. Does it relay now?
    fn established(&mut self, key: u32) -> bool {
        self.times.connect.add(self.now.since(self.table[key].began));
        if let Some(endpoint) = self.table[key].endpoint
            && self.upstreams.endpoints[endpoint].health.succeeds()
        {
            let route = self.routes.get(self.table[key].route);
            info!("{} is up again", self.upstreams.describe(&route.upstream, endpoint));
        }
        let settings = &self.routes.get(self.table[key].route).settings;
        let preface = self.table[key].preface(settings.send_proxy, &settings.from, &mut self.pool);
        if !self.table[key].established(preface, self.now) {
            self.end(key, None);
            return false;
        }
        self.disarm(key);
        self.set_up(key);
        true
    }

    /// A session begins to relay: what its route wants of it beyond that.
    fn set_up(&mut self, key: u32) {
        let session = &mut self.table[key];
        let settings = &self.routes.get(session.route).settings;
        if let Some(timeout) = settings.tcp_user_timeout {
            session.set_user_timeout(timeout);
        }
        match settings.keepalive {
            // Later it would be late.
            Some(idle) if idle < Pending::AFTER => session.keep_alive(idle),
            Some(_) => self.keepalive.add(session.token(key, Peer::Upstream), self.now, &mut self.alarms),
            None => {}
        }
        if settings.log_open {
            let route = self.names_routes.then(|| &*self.routes.get(session.route).name);
            let upstream = session.endpoint.map(|endpoint| self.upstreams.address(endpoint));
            let connect = self.now.since(session.began);
            record::write(Level::Info, &Opened { route, client: session.client, upstream, connect });
        }
    }

    /// Begins a connection to the next address that takes one.
    pub(in crate::reactor) fn dial(&mut self, key: u32) {
        let number = self.table[key].route;
        let deadline = self.table[key].opened() + self.routes.get(number).settings.connect_timeout;
        loop {
            let Stage::Opening(opening) = &mut self.table[key].stage else {
                self.table[key].stage.unexpected("dialled");
                return;
            };
            // A new answer begins a new attempt.
            opening.attempts.set_version(self.routes.get(number).upstream.version());
            // The names are asked for once an attempt. Who waits for a descriptor or a port has done so, and keeps its place.
            let begins = opening.attempts.is_fresh() && opening.place.is_none_or(|place| place.want().is_name());
            if begins && self.now < deadline && !self.upstream_is_known(key, deadline) {
                return;
            }
            let Stage::Opening(opening) = &mut self.table[key].stage else {
                return;
            };
            let route = self.routes.get(number);
            let bounds = Bounds { places: route.upstream.len(), attempts: route.settings.connect_attempts, deadline };
            let (share, may_be_quick) = match opening.attempts.next(bounds, self.now, &mut self.rng) {
                Step::Dial { until, may_be_quick } => (until, may_be_quick),
                Step::AwaitBacklog { until } if bounds.places == 1 => {
                    return self.wait_for_backlog(key, until, deadline);
                }
                // Of several addresses another may have room before that one: each session tries for itself.
                Step::Pause { until } | Step::AwaitBacklog { until } => {
                    opening.until = until;
                    self.stop_waiting(key);
                    return self.arm(key, until);
                }
                Step::AwaitPort { place } => {
                    let endpoint = route.upstream.endpoint(place);
                    return self.wait_for_port(key, endpoint, deadline);
                }
                Step::GiveUp => {
                    self.stop_waiting(key);
                    // It waited for a port to an address that is none of the upstream's any more.
                    let cause = (bounds.places == 0 && self.now < deadline).then_some(Cause::Unresolved);
                    return self.end(key, cause);
                }
            };
            // Others wait for a place at the only address: they go first. To find out again that no port is left would take
            // the kernel a search of all ports.
            if bounds.places == 1 && opening.place.is_none() {
                let is_unix = self.upstreams.address(route.upstream.endpoint(0)).is_unix();
                let queue = if is_unix { Want::Backlog { route: number } } else { Want::Port { route: number } };
                if self.waiters.first(queue).is_some() {
                    return self.wait_for(key, queue, deadline);
                }
            }
            match self.connect_next(key, share, may_be_quick) {
                Ok(until) => {
                    self.stop_waiting(key);
                    return self.arm(key, until);
                }
                Err(error) => match self.meaning(key, &error) {
                    ConnectError::Shortage => return self.wait_for_descriptor(key, &error, deadline),
                    ConnectError::NoPorts | ConnectError::NoSource => self.connect_failed(key, Failure::NoPort, &error),
                    ConnectError::Full => self.connect_failed(key, Failure::Full, &error),
                    ConnectError::Refused
                    | ConnectError::Timeout
                    | ConnectError::Unreachable
                    | ConnectError::WasEstablished => self.connect_failed(key, Failure::Other, &error),
                },
            }
        }
    }

    /// Begins a connection to the address whose turn it is, and returns until when that may take: its share of the time, or
    /// less.
    fn connect_next(&mut self, key: u32, share: Time, may_be_quick: bool) -> io::Result<Time> {
        let token = self.table.renumber_upstream(key);
        let session = &mut self.table[key];
        let Stage::Opening(opening) = &mut session.stage else {
            session.stage.unexpected("connected");
            return Err(ErrorKind::NotConnected.into());
        };
        let route = self.routes.get_mut(session.route);
        let (tried, client) = (|place| opening.attempts.is_tried(place), session.client);
        let place = self.upstreams.choose(&mut route.upstream, route.settings.balance, tried, client, self.now);
        let place = place.ok_or(ErrorKind::NotConnected)?;
        let endpoint = route.upstream.endpoint(place);
        let quick = self.upstreams.endpoints[endpoint].health.quick().filter(|_| may_be_quick);
        let until = quick.map_or(share, |quick| share.min(self.now + quick));
        opening.attempts.dials(place, until < share);
        self.upstreams.endpoints.switch(&mut session.endpoint, endpoint);
        let number = session.route;
        let stream = self.connect_from_sources(number, endpoint, token)?;
        let session = &mut self.table[key];
        let Stage::Opening(opening) = &mut session.stage else {
            session.stage.unexpected("connecting");
            return Err(ErrorKind::NotConnected.into());
        };
        self.upstreams.endpoints[endpoint].health.begins(token.serial(), until, self.now);
        (opening.upstream, opening.until) = (Some(Side::new(stream)), until);
        Ok(until)
    }

    /// What an error of connect to the address that was dialled last means.
    fn meaning(&self, key: u32, error: &io::Error) -> ConnectError {
        let address = self.table[key].endpoint.map(|endpoint| self.upstreams.address(endpoint));
        address.map_or(ConnectError::Unreachable, |address| on_connect(error, address))
    }

    /// The address that was dialled last cannot be connected to.
    fn connect_failed(&mut self, key: u32, failure: Failure, error: &io::Error) {
        let session = &mut self.table[key];
        let (Stage::Opening(opening), Some(endpoint)) = (&mut session.stage, session.endpoint) else {
            return session.stage.unexpected("refused");
        };
        let route = self.routes.get(session.route);
        opening.attempts.last = Cause::of_connect(error, self.upstreams.address(endpoint));
        opening.attempts.failed(route.upstream.len(), failure);
        if opening.attempts.all_failed(route.upstream.version()) {
            self.upstreams.doubt(&route.upstream, self.now);
        }
        debug!("cannot connect to {}: {error}", self.upstreams.address(endpoint));
        let serial = session.serials[Peer::Upstream as usize];
        let health = &mut self.upstreams.endpoints[endpoint].health;
        if !matches!(failure, Failure::NoPort | Failure::Full)
            && let Some(pause) = health.fails(serial, self.now, &mut self.rng)
        {
            let upstream = self.upstreams.describe(&route.upstream, endpoint);
            match route.upstream.len() {
                1 => warn!("{upstream} is down: {error}; there is no other address"),
                _ => warn!("{upstream} is down: {error}; others come first for {:.1}s", pause.as_secs_f64()),
            }
        }
    }
}
