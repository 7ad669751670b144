//! Other routes from now on: prepare, then commit.
//!
//! ```text
//!   prepare   match the listeners by their address as written; bind the new ones     an error: close those, nothing changed
//!   commit    a listener leads to another route; a removed one serves the clients that had connected, then closes
//! ```
//! A listener whose address stays keeps its socket and its queue. A session keeps the route that it came in by, and so
//! its settings. A route whose settings are equal keeps its entry. Start-up is a reload of a relay without routes.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};

use log::{info, warn};

use super::listeners::Listening;
use super::{Net, Reactor};
use crate::config::limits::reserved;
use crate::config::{Config, Host, Route};
use crate::error::Error;
use crate::net::{Address, Closing, Reloaded, Reply, Token};

/// What is to become of the routes and listeners.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The routes that are wanted, each with its listener.
    routes: Vec<Wanted>,
    /// Open listeners that none of them has.
    removed: Vec<u16>,
}

#[derive(Debug)]
struct Wanted {
    settings: Route,
    listener: u16,
    /// The listener was bound for this plan.
    is_new: bool,
}

impl<N: Net> Reactor<N> {
    /// A reload was asked for.
    pub(super) fn obey_reload(&mut self, config: Config, reply: Reply) {
        let answer = self.reload(config);
        match &answer {
            Ok(reloaded) => {
                self.has_started();
                info!("{reloaded}");
            }
            Err(error) => warn!("not reloaded, nothing has changed: {error}"),
        }
        reply.send(answer);
    }

    fn reload(&mut self, mut config: Config) -> Result<Reloaded, Error> {
        if self.is_stopping() {
            return Err(Error::Draining);
        }
        let taken = reserved(&config.routes).saturating_sub(self.reserved);
        config.check()?;
        let plan = self.prepare(std::mem::take(&mut config.routes))?;
        let (reloaded, told) = self.commit(plan);
        // What new listeners and lookups take, sessions cannot have.
        self.admission.set_limit(self.limits.sessions_without(taken));
        self.note_limit();
        self.refresh_all();
        told.into_iter().for_each(|listener| self.say_listening(listener));
        Ok(Reloaded { needs_restart: differences(&self.shared, &config), ..reloaded })
    }

    /// Finds or binds a listener for each of these routes. After an error everything is as before.
    pub(super) fn prepare(&mut self, routes: Vec<Route>) -> Result<Plan, Error> {
        let mut open: HashMap<_, VecDeque<u16>> = HashMap::new();
        for listening in self.listeners.iter() {
            open.entry(listening.from.clone()).or_default().push_back(listening.index);
        }
        // Several listeners may have been written the same if their port is 0. They are matched in order.
        let matched: Vec<_> = routes.iter().map(|route| open.get_mut(&route.from)?.pop_front()).collect();
        let mut removed: Vec<_> = open.into_values().flatten().collect();
        removed.sort_unstable();
        let is_equal = |(route, index): (&Route, &Option<u16>)| {
            index.is_some_and(|index| self.route_of(index).is_some_and(|known| known == route))
        };
        let fresh: Vec<_> =
            routes.iter().zip(&matched).filter(|pair| !is_equal(*pair)).map(|(route, _)| route).collect();
        for source in fresh.iter().flat_map(|route| &route.source) {
            let checked = self.net.may_connect_from(*source);
            checked.map_err(|error| Error::Source { address: *source, error })?;
        }
        let fresh = fresh.len();
        if !self.routes.has_room(fresh) {
            let alive = self.routes.len();
            return Err(Error::Config(format!(
                "{alive} routes are in use and {fresh} would join them, and 65535 are possible (wait until sessions under \
                 old settings have ended, or restart)"
            )));
        }
        let mut plan = Plan { routes: Vec::with_capacity(routes.len()), removed };
        for (settings, known) in routes.into_iter().zip(matched) {
            let bound = known.map_or_else(|| self.listen(&settings, &plan.removed), Ok);
            match bound {
                Ok(listener) => plan.routes.push(Wanted { settings, listener, is_new: known.is_none() }),
                Err(error) => {
                    self.abandon(&plan);
                    return Err(error);
                }
            }
        }
        match self.leads_back(&plan) {
            Some(error) => {
                self.abandon(&plan);
                Err(error)
            }
            None => Ok(plan),
        }
    }

    /// Carries the plan out. Nothing can fail any more. Returns the listeners of routes that are new or have changed, too.
    pub(super) fn commit(&mut self, plan: Plan) -> (Reloaded, Vec<u16>) {
        let listening = plan.routes.iter().filter_map(|wanted| self.listeners.get(wanted.listener));
        let local_addrs = listening.map(|Listening { bound, .. }| bound.clone()).collect();
        let (mut done, mut told) = (Reloaded { local_addrs, ..Reloaded::default() }, Vec::new());
        let (mut replaced, mut names) = (Vec::new(), Vec::new());
        for Wanted { settings, listener, is_new } in plan.routes {
            let before = if is_new { None } else { self.listeners.route(listener) };
            if let Some(before) = before {
                self.change_listener(listener, before, &settings);
            }
            // An earlier reload may have removed a listener that has clients to serve yet.
            let was_listed = before.is_some_and(|route| self.routes.is_listed(route));
            let kept = before.filter(|route| self.routes.get(*route).settings == settings);
            match kept {
                _ if !was_listed => done.added += 1,
                Some(_) => done.kept += 1,
                None => done.changed += 1,
            }
            let route = kept.unwrap_or_else(|| self.routes.insert(settings, listener, &mut self.upstreams, &mut names));
            self.routes.set_listed(route, true);
            self.listeners.lead(listener, route, &self.routes.get(route).settings);
            self.note_route_limit(listener);
            told.extend((kept.is_none() || !was_listed).then_some(listener));
            replaced.extend(before.filter(|before| *before != route));
        }
        for listener in plan.removed {
            if let Some(route) = self.listeners.route(listener) {
                done.removed += usize::from(self.routes.is_listed(route));
                self.routes.set_listed(route, false);
                self.listeners.accept_the_rest(listener);
            }
        }
        // Last: an upstream that both have keeps what is known of it.
        for route in replaced {
            self.routes.set_listed(route, false);
            self.free_route(route);
        }
        names.into_iter().for_each(|name| self.ask(name));
        done.sessions = self.routes.sessions_unlisted();
        (done, told)
    }

    /// Frees the entry of a route that nothing needs any more.
    pub(super) fn free_route(&mut self, route: u16) {
        let listener = self.routes.listener(route);
        if listener.and_then(|listener| self.listeners.route(listener)) != Some(route) {
            self.routes.free_unused(route, &mut self.upstreams);
        }
    }

    /// Binds a new listener.
    fn listen(&mut self, route: &Route, removed: &[u16]) -> Result<u16, Error> {
        let token = Token::listener(self.listeners.next_index());
        match self.net.listen(&route.from, &route.listen_options(), token) {
            Ok((listener, bound)) => {
                let key = self.net.key(&bound);
                Ok(self.listeners.insert(listener, route.from.clone(), bound, key))
            }
            Err(error) => Err(self.cannot_listen(&route.from, removed, error)),
        }
    }

    /// A listener that stays gets a route with these settings.
    fn change_listener(&mut self, listener: u16, before: u16, settings: &Route) {
        let how = settings.listen_options();
        if how != self.routes.get(before).settings.listen_options()
            && let Err(error) = self.net.change_listener(self.listeners.socket(listener), &how)
        {
            warn!("cannot change the listener on {}: {error}; its new clients get the options it had", settings.from);
        }
    }

    /// An address may be taken by a listener of our own.
    fn cannot_listen(&mut self, from: &Address, removed: &[u16], error: io::Error) -> Error {
        // A path may have been written in two ways.
        let file = from.path().map(|_| self.net.key(from));
        let is_ours = |own: &Listening<'_>| from.overlaps(own.bound) || file.as_ref() == Some(own.key);
        match self.listeners.iter().find(is_ours) {
            Some(own) if error.kind() == ErrorKind::AddrInUse => {
                let is_removed = removed.contains(&own.index);
                Error::Overlap { address: from.clone(), open: own.bound.clone(), is_removed }
            }
            Some(_) | None => Error::Listen { address: from.clone(), error },
        }
    }

    /// Closes the listeners that were bound for a plan which is not carried out.
    fn abandon(&mut self, plan: &Plan) {
        for wanted in plan.routes.iter().filter(|wanted| wanted.is_new) {
            let listener = self.listeners.take(wanted.listener);
            self.net.unlisten(listener, Closing::Abandoned);
        }
    }

    /// Does an upstream of the plan lead back to an open listener?
    fn leads_back(&mut self, plan: &Plan) -> Option<Error> {
        let own = self.listeners.own();
        for host in plan.routes.iter().flat_map(|wanted| &wanted.settings.to) {
            let Host::Address(upstream) = host else { continue };
            if let Some(listening) = own.find(upstream, &mut self.net) {
                return Some(Error::Loop { listening: listening.clone(), upstream: upstream.clone() });
            }
        }
        None
    }

    /// The settings of the route that this listener leads to.
    fn route_of(&self, listener: u16) -> Option<&Route> {
        self.listeners.route(listener).map(|route| &self.routes.get(route).settings)
    }
}

/// What all routes share and a reload does not change, by the names of the options.
fn differences(now: &Config, wanted: &Config) -> Vec<&'static str> {
    // `name_routes` and what else the process opens follow from how it was started: a reload says nothing about them.
    let Config {
        routes: _,
        name_routes: _,
        descriptors_reserved: _,
        resolve_ttl,
        drain_timeout,
        drain_delay,
        drain_idle_timeout,
        buffer_size,
        splice,
        max_sessions,
    } = wanted;
    [
        ("max-sessions", *max_sessions == now.max_sessions),
        ("buffer-size", *buffer_size == now.buffer_size),
        ("splice", *splice == now.splice),
        ("drain-timeout", *drain_timeout == now.drain_timeout),
        ("drain-delay", *drain_delay == now.drain_delay),
        ("drain-idle-timeout", *drain_idle_timeout == now.drain_idle_timeout),
        ("resolve-ttl", *resolve_ttl == now.resolve_ttl),
    ]
    .into_iter()
    .filter_map(|(name, is_equal)| (!is_equal).then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_routes_share_needs_a_restart() {
        let now = Config::of([]);
        let mut wanted = Config { name_routes: true, ..now.clone() };
        assert!(differences(&now, &wanted).is_empty());
        wanted.max_sessions = Some(3);
        wanted.drain_timeout = None;
        assert_eq!(differences(&now, &wanted), ["max-sessions", "drain-timeout"]);
        let all = Config { buffer_size: 1, splice: crate::config::Splice::On, ..wanted };
        let second = std::time::Duration::from_secs(1);
        let all = Config { resolve_ttl: second, drain_delay: second, drain_idle_timeout: Some(second), ..all };
        let names = "max-sessions buffer-size splice drain-timeout drain-delay drain-idle-timeout resolve-ttl";
        assert_eq!(differences(&now, &all).join(" "), names);
    }
}
