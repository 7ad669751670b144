//! The routes in use: their settings and their upstreams.
//!
//! A session keeps the number of the route that it came in by, and so its settings, also when a reload has changed or
//! removed that route. An entry goes when the configuration does not list it any more, no listener leads to it and no
//! session names it.

use std::fmt;
use std::sync::Arc;

use log::{info, warn};
use slab::Slab;

use super::listeners::Listening;
use super::refusals::Told;
use super::sources::Sources;
use super::totals::RouteTotals;
use super::upstreams::{Upstream, Upstreams};
use super::{Net, Reactor};
use crate::config::Route;
use crate::net::address::Visible;
use crate::net::{Address, EndpointRow, NameId, RouteRow};

/// Routes at a time: those of the configuration and those that sessions began with.
const ROUTES_MAX: usize = u16::MAX as usize;

/// The routes, by the number that their sessions remember.
#[derive(Debug, Default)]
pub(super) struct Routes(Slab<ActiveRoute>);

/// A route in use.
#[derive(Debug)]
pub(super) struct ActiveRoute {
    pub(super) settings: Route,
    /// What the log calls it.
    pub(super) name: Arc<str>,
    pub(super) upstream: Upstream,
    /// What was said of clients that were not served.
    pub(super) refused: Told,
    pub(super) sources: Sources,
    /// What its sessions did that have ended.
    pub(super) totals: RouteTotals,
    /// Sessions that came in by it.
    sessions: u32,
    /// It is in the configuration.
    is_listed: bool,
    /// The listener that they came from, if it is open. It may lead to another route by now.
    listener: Option<u16>,
}

impl Routes {
    /// Is there room for this many more routes?
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.0.len() + more <= ROUTES_MAX
    }

    /// A route of the configuration, whose clients come from this listener. Names that are new are added to `names`.
    pub(super) fn insert(
        &mut self,
        settings: Route,
        listener: u16,
        upstreams: &mut Upstreams,
        names: &mut Vec<NameId>,
    ) -> u16 {
        let upstream = upstreams.list(&settings.to, names);
        let name = Visible(settings.name.as_bytes()).to_string().into();
        let sources = Sources::new(&settings.source);
        number(self.0.insert(ActiveRoute {
            settings,
            name,
            upstream,
            refused: Told::default(),
            sources,
            totals: RouteTotals::default(),
            sessions: 0,
            is_listed: true,
            listener: Some(listener),
        }))
    }

    /// The route with this number.
    pub(super) fn get(&self, route: u16) -> &ActiveRoute {
        &self.0[usize::from(route)]
    }

    /// The route with this number.
    pub(super) fn get_mut(&mut self, route: u16) -> &mut ActiveRoute {
        &mut self.0[usize::from(route)]
    }

    /// The numbers of those whose upstream is like this.
    pub(super) fn leading_to(&self, is_meant: impl Fn(&Upstream) -> bool) -> Vec<u16> {
        self.0.iter().filter(|(_, route)| is_meant(&route.upstream)).map(|(route, _)| number(route)).collect()
    }

    /// The listener that its sessions came from, if it is open.
    pub(super) fn listener(&self, route: u16) -> Option<u16> {
        self.get(route).listener
    }

    /// Is it in the configuration?
    pub(super) fn is_listed(&self, route: u16) -> bool {
        self.get(route).is_listed
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The configuration lists the route, or not any more.
    pub(super) fn set_listed(&mut self, route: u16, is_listed: bool) {
        self.0[usize::from(route)].is_listed = is_listed;
    }

    /// A client was accepted for this route.
    pub(super) fn begin_session(&mut self, route: u16) {
        self.0[usize::from(route)].sessions += 1;
    }

    /// A session of this route is over. Returns the listener that it came from, if that is still open.
    pub(super) fn end_session(&mut self, route: u16) -> Option<u16> {
        let route = &mut self.0[usize::from(route)];
        route.sessions -= 1;
        route.listener
    }

    /// Sessions of routes that are not in the configuration any more.
    pub(super) fn sessions_unlisted(&self) -> usize {
        let unlisted = self.0.iter().filter(|(_, route)| !route.is_listed);
        unlisted.map(|(_, route)| route.sessions as usize).sum()
    }

    /// Some listeners have closed. Their numbers will be used again.
    pub(super) fn forget_listeners(&mut self, has_closed: impl Fn(u16) -> bool) {
        for (_, route) in &mut self.0 {
            route.listener = route.listener.filter(|listener| !has_closed(*listener));
        }
    }

    /// Frees the entry, unless it is in the configuration or a session names it. No listener leads to it.
    pub(super) fn free_unused(&mut self, route: u16, upstreams: &mut Upstreams) {
        let entry = self.get(route);
        if !entry.is_listed && entry.sessions == 0 {
            let gone = self.0.remove(usize::from(route));
            upstreams.unlist(gone.upstream);
            // Its numbers go on where there is another of its name, as after a reload.
            let other = self.0.iter_mut().find(|(_, route)| route.is_listed && route.name == gone.name);
            if let Some((_, other)) = other {
                other.totals.take_over(gone.totals);
            }
        }
    }

    /// The routes from this number on.
    pub(super) fn from(&self, first: u32) -> impl Iterator<Item = (u16, &ActiveRoute)> {
        let numbers = first as usize..self.0.iter().next_back().map_or(0, |(last, _)| last + 1);
        numbers.filter_map(|route| Some((number(route), self.0.get(route)?)))
    }
}

impl ActiveRoute {
    /// The listener that its sessions came from, if it is open.
    pub(super) fn listener(&self) -> Option<u16> {
        self.listener
    }

    /// What a look inside sees of it.
    pub(super) fn row(&self, listening: Option<Address>, endpoints: Vec<EndpointRow>) -> RouteRow {
        RouteRow {
            name: Arc::clone(&self.name),
            listening,
            is_listed: self.is_listed,
            sessions: self.sessions,
            totals: self.totals.totals,
            ends: self.totals.ends(),
            endpoints,
        }
    }
}

/// Which route a log line is about. Its `Display` is the line's beginning.
#[derive(Debug)]
pub(super) struct About(Option<Arc<str>>);

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "route={name}: "),
            None => Ok(()),
        }
    }
}

impl<N: Net> Reactor<N> {
    /// The beginning of a log line about this route.
    pub(super) fn about(&self, route: u16) -> About {
        About(self.names_routes.then(|| Arc::clone(&self.routes.get(route).name)))
    }

    /// Says where all listeners listen and lead to.
    pub fn say_all_listening(&self) {
        self.listeners.iter().for_each(|listening| self.say_listening(listening.index));
    }

    /// Says where a listener listens and leads to.
    pub(super) fn say_listening(&self, listener: u16) {
        let Some(Listening { from, bound, route, index: _, key: _ }) = self.listeners.get(listener) else {
            return;
        };
        let about = self.about(route);
        if let (Address::Inet(wanted), Address::Inet(at)) = (from, bound)
            && wanted.is_ipv6() != at.is_ipv6()
        {
            warn!("{about}this machine has no IPv6: {at} is used instead of {wanted}");
        }
        let settings = &self.routes.get(route).settings;
        let most = self.admission.limit().min(settings.max_sessions.unwrap_or(usize::MAX));
        if settings.proxy_from.contains_a_whole_family() {
            warn!("{about}--proxy-from {}: every client may say that it is another", settings.proxy_from);
        }
        let upstream: Vec<_> = settings.to.iter().map(ToString::to_string).collect();
        info!("{about}listening on {bound}, relaying to {}, up to {most} sessions", upstream.join(", "));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "there are at most ROUTES_MAX")]
fn number(key: usize) -> u16 {
    key as u16
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn route(port: u16) -> Route {
        Route::new(SocketAddr::from(([127, 0, 0, 1], port)), [SocketAddr::from(([127, 0, 0, 2], port))])
    }

    #[test]
    fn an_entry_goes_when_it_is_not_listed_and_no_session_names_it() {
        let (mut routes, mut upstreams) = (Routes::default(), Upstreams::default());
        let first = routes.insert(route(1), 0, &mut upstreams, &mut Vec::new());
        let second = routes.insert(route(2), 1, &mut upstreams, &mut Vec::new());
        routes.begin_session(first);
        for (listed, sessions) in [(true, 1), (false, 1), (true, 0)] {
            routes.set_listed(first, listed);
            if sessions == 0 {
                assert_eq!(routes.end_session(first), Some(0));
            }
            routes.free_unused(first, &mut upstreams);
            assert_eq!((routes.len(), upstreams.endpoints.len()), (2, 2));
        }
        routes.set_listed(first, false);
        routes.free_unused(first, &mut upstreams);
        assert_eq!((routes.leading_to(|_| true), upstreams.endpoints.len()), (vec![second], 1));
        assert_eq!(routes.insert(route(3), 0, &mut upstreams, &mut Vec::new()), first);
    }

    #[test]
    fn sessions_of_routes_that_are_not_listed_are_counted() {
        let (mut routes, mut upstreams) = (Routes::default(), Upstreams::default());
        let [one, two] = [1, 2].map(|port| routes.insert(route(port), port, &mut upstreams, &mut Vec::new()));
        for route in [one, two, two] {
            routes.begin_session(route);
        }
        assert_eq!(routes.sessions_unlisted(), 0);
        routes.set_listed(two, false);
        assert_eq!(routes.sessions_unlisted(), 2);
        routes.forget_listeners(|listener| listener == 2);
        assert_eq!((routes.end_session(two), routes.end_session(one)), (None, Some(1)));
    }

    /// The next page of a look inside begins at a number, whichever routes are gone by then.
    #[test]
    fn routes_from_a_number_on_are_those_with_it_or_a_higher_one() {
        let (mut routes, mut upstreams) = (Routes::default(), Upstreams::default());
        let all: Vec<_> =
            (0..4).map(|port| routes.insert(route(port + 1), port, &mut upstreams, &mut Vec::new())).collect();
        for gone in [all[0], all[2]] {
            routes.set_listed(gone, false);
            routes.free_unused(gone, &mut upstreams);
        }
        let numbers = |first| routes.from(first).map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!((numbers(0), numbers(2), numbers(4)), (vec![all[1], all[3]], vec![all[3]], Vec::new()));
    }

    #[test]
    fn a_name_is_one_word_of_the_log() {
        let visible = |name: &str| Visible(name.as_bytes()).to_string();
        assert_eq!(visible("db-1.eu"), "db-1.eu");
        assert_eq!(visible("a b\\\u{e4}"), "a\\x20b\\x5c\\xc3\\xa4");
    }

    #[test]
    fn there_is_room_for_65535() {
        let routes = Routes::default();
        assert!(routes.has_room(65_535) && !routes.has_room(65_536));
    }
}
