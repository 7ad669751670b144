//! Which addresses a name has, when it may be looked up, and who waits for that: written from the contract.

use std::net::SocketAddr;
use std::time::Duration;

use tproxy::Host;
use tproxy::net::{Answer, NameId, Time};

use super::{Session, Shadow};
use crate::plan::{inet, place};

/// Until so long after a question, sessions wait for its answer although they know an older one.
const PATIENCE: Duration = Duration::from_millis(250);

/// Between two questions for a name whose addresses failed, at least; and after a failed lookup, at first.
const PAUSE: Duration = Duration::from_secs(1);

/// Addresses of an upstream, at most.
const ADDRESSES: usize = 256;

/// What is known of one name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Name {
    id: Option<NameId>,
    good: Vec<SocketAddr>,
    asked: Option<Time>,
    last_asked: Time,
    last_answered: Time,
    /// It is asked for again at this time, if anybody wants it.
    expires: Time,
    failures: u32,
    /// It is not known whether all its addresses failed, and so whether it may be asked for at once.
    vague: bool,
    /// The last line about it said that it cannot be looked up.
    told: bool,
}

impl Shadow {
    /// The names of a route.
    fn hosts(&self, route: usize) -> Vec<String> {
        let name = |host: &Host| match host {
            Host::Name { name, .. } => Some(name.to_string()),
            _ => None,
        };
        self.routes[route].to.iter().filter_map(name).collect()
    }

    /// Is a host of this route a name?
    pub(crate) fn has_names(&self, route: usize) -> bool {
        !self.hosts(route).is_empty()
    }

    /// The addresses behind the hosts of a route, in their order, each once.
    pub(crate) fn candidates(&self, route: usize) -> Vec<SocketAddr> {
        let mut all = Vec::new();
        for host in &self.routes[route].to {
            let found = match host {
                Host::Address(address) => vec![inet(address)],
                Host::Name { name, port } => {
                    let good = self.names.get(&**name).map_or(&[][..], |name| &name.good);
                    good.iter().map(|address| SocketAddr::new(address.ip(), *port)).collect()
                }
                other => panic!("{other} is neither"),
            };
            for address in found {
                // One that leads back to the relay is left out.
                let named = matches!(host, Host::Name { .. });
                let own = named && self.doors.iter().any(|door| door.open && place(door.place) == address);
                // Nor is one connected to whose family is not among the source addresses.
                let own = own || !self.can_reach(route, address);
                if !own && !all.contains(&address) && all.len() < ADDRESSES {
                    all.push(address);
                }
            }
        }
        all
    }

    /// The relay looks a name up.
    pub(crate) fn asks(&mut self, id: NameId, host: &str) {
        let now = self.now;
        let wants = |session: &usize| {
            let it = &self.sessions[*session];
            it.connected.is_none() && it.upstream.is_none() && self.hosts(it.route).iter().any(|one| one == host)
        };
        let is_new = !self.names.contains_key(host) && self.is_reloading();
        let wanted = self.turn == 0 || is_new || self.live.iter().any(wants);
        let known = self.names.entry(host.to_owned()).or_default();
        let (early, twice) = (now < known.expires && !known.vague, known.asked.is_some());
        (known.id, known.asked, known.last_asked) = (Some(id), Some(now), now);
        for (wrong, what) in
            [(!wanted, "for nobody"), (early, "before its time"), (twice, "although it is being looked up")]
        {
            if wrong {
                self.violation(format!("{host} is looked up {what}"));
            }
        }
    }

    /// An answer is delivered. Does it end the relay? It does if it is the relay itself, and nobody was served yet.
    pub(crate) fn answered(&mut self, id: NameId, answer: &Answer) -> bool {
        let (now, ttl) = (self.now, self.config.resolve_ttl);
        let Some((host, known)) = self.names.iter_mut().find(|(_, name)| name.id == Some(id)) else { return false };
        (known.asked, known.last_answered) = (None, now);
        known.vague = false;
        let host = host.clone();
        match answer {
            Ok(addresses) => {
                known.good.clone_from(addresses);
                (known.expires, known.failures) = (now + ttl, 0);
            }
            Err(_) => {
                let pause = PAUSE * 2_u32.saturating_pow(known.failures.min(20));
                (known.expires, known.failures) = (now + pause.min(ttl.max(PAUSE)), known.failures + 1);
                self.counted.failed_lookups += 1;
            }
        }
        self.forget_endpoints();
        let found = answer.as_deref().unwrap_or_default().iter().map(SocketAddr::ip);
        let own = |address: SocketAddr| self.doors.iter().any(|door| door.open && place(door.place) == address);
        // An address that is not connected to leads nowhere.
        let leads_back = |route: usize, address: SocketAddr| own(address) && self.can_reach(route, address);
        let alive = self.routes_alive();
        let to = alive.iter().flat_map(|route| self.routes[*route].to.iter().map(|to| (*route, to)));
        let mut to = to.filter_map(|(route, to)| match to {
            Host::Name { name, port } if **name == *host => Some((route, *port)),
            _ => None,
        });
        let is_ours = |route, port| found.clone().any(|ip| leads_back(route, SocketAddr::new(ip, port)));
        self.is_starting() && to.any(|(route, port)| is_ours(route, port))
    }

    /// Was nobody served yet, under the routes that it began with?
    fn is_starting(&self) -> bool {
        self.sessions.is_empty() && self.listed_before.is_empty() && self.stop_turn.is_none() && self.asked_at.is_none()
    }

    /// All addresses of this route failed: its names count as old. Or perhaps they did.
    pub(super) fn doubt_names(&mut self, route: usize, vague: bool) {
        for host in self.hosts(route) {
            let now = self.now;
            if let Some(known) = self.names.get_mut(&host).filter(|known| known.failures == 0) {
                known.vague |= vague;
                if !vague {
                    known.expires = known.expires.min(now.max(known.last_asked + PAUSE));
                }
            }
        }
    }

    /// Until when does this session wait for a name? None if it need not. If there is an address to connect to, half of its
    /// time is for that.
    pub(crate) fn awaits_name(&self, it: &Session) -> Option<Time> {
        let (route, half) = (it.route, it.opened + self.route(it).connect_timeout / 2);
        let known = !self.candidates(route).is_empty();
        let asked = self.hosts(route).into_iter().filter_map(|host| self.names.get(&host)?.asked);
        let until = asked.map(|asked| if known { half.min(asked + PATIENCE) } else { Time::NEVER });
        let until = until.filter(|until| self.now < *until).min();
        until.filter(|_| self.stop_turn.is_none())
    }

    /// A name that a route lists and that was never looked up. Each is, once, when the relay begins or a reload brings it.
    pub(crate) fn unasked(&self) -> Option<String> {
        self.routes_alive().into_iter().flat_map(|route| self.hosts(route)).find(|host| !self.names.contains_key(host))
    }

    /// A session begins to dial. Are the addresses as new as they should be?
    pub(super) fn check_names(&mut self, session: usize) {
        let route = self.sessions[session].route;
        for host in self.hosts(route) {
            let known = self.names.get(&host).cloned().unwrap_or_default();
            // Once an attempt.
            let it = &self.sessions[session];
            let attempt = it.opened.max(it.failed_at.unwrap_or_default());
            let before = known.last_asked < attempt && known.last_answered < attempt;
            if known.asked.is_none() && known.expires <= attempt && before && !known.vague {
                self.violation(format!("session {session} dials, and {host} was to be looked up"));
            }
        }
        // A drain that is due begins in this turn, before or behind this, and then nobody waits for a name.
        if let Some(until) = self.awaits_name(&self.sessions[session])
            && !self.may_drain()
        {
            self.violation(format!("session {session} dials, and waits for a name until {until:?}"));
        }
    }

    /// Is nothing known of the upstream of this session, and nothing to be expected?
    pub(crate) fn is_unresolved(&self, it: &Session) -> bool {
        self.candidates(it.route).is_empty() && self.awaits_name(it).is_none()
    }

    /// Was an address of its upstream known before this session's time was up?
    pub(crate) fn was_known_in_time(&self, it: &Session) -> bool {
        let until = it.opened + self.route(it).connect_timeout;
        !self.candidates(it.route).is_empty() && self.known_since.get(&it.route).is_none_or(|since| *since < until)
    }

    /// How often the addresses of this route have changed: a list that was as it is now may have been another meanwhile.
    pub(super) fn version(&self, route: usize) -> u32 {
        self.lists.get(&route).map_or(0, |(_, version)| *version)
    }

    /// What no route lists and no session names is forgotten, and it is noted which routes have other addresses now.
    pub(crate) fn forget_endpoints(&mut self) {
        if self.names.is_empty() && self.listed.len() == self.routes.len() {
            return;
        }
        for route in self.routes_alive() {
            let now = self.candidates(route);
            let (known, version) = self.lists.entry(route).or_insert_with(|| (now.clone(), 0));
            *version += u32::from(*known != now);
            if known.is_empty() && !now.is_empty() {
                self.known_since.insert(route, self.now);
            }
            *known = now;
        }
        let mut kept: Vec<_> = self.routes_alive().into_iter().flat_map(|route| self.candidates(route)).collect();
        kept.extend(self.live.iter().filter_map(|live| self.sessions[*live].tried));
        self.upstreams.retain(|address, _| kept.contains(address));
        let hosts: Vec<_> = self.routes_alive().into_iter().flat_map(|route| self.hosts(route)).collect();
        self.names.retain(|host, _| hosts.contains(host));
    }

    /// Endpoints that a route lists or a session names, and names that are listed.
    pub(crate) fn listed(&self) -> (usize, usize) {
        let routes = self.routes_alive();
        let mut addresses: Vec<_> = routes.iter().copied().flat_map(|route| self.candidates(route)).collect();
        addresses.extend(self.live.iter().filter_map(|live| self.sessions[*live].tried));
        let mut hosts: Vec<_> = routes.into_iter().flat_map(|route| self.hosts(route)).collect();
        addresses.sort_unstable();
        addresses.dedup();
        hosts.sort_unstable();
        hosts.dedup();
        (addresses.len(), hosts.len())
    }

    /// A line says that a name cannot be looked up, or can be again: once each, and what becomes of its sessions. Or that an
    /// address of it is left out: when its answer has changed, a reload was carried out or a listener has closed.
    pub(crate) fn check_name_line(&mut self, line: &str) -> bool {
        if let Some((host, _)) = line.split_once(" leads to ").filter(|_| line.ends_with("that address is left out")) {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            let is_news = self.names.get(name).is_some_and(|known| known.last_answered == self.now);
            if !is_news && self.listed_before.is_empty() && self.stop_turn.is_none() {
                self.violation(format!("that is no news: {line}"));
            }
            return true;
        }
        let fails = line.strip_prefix("cannot look up ").and_then(|rest| rest.split_once(':')).map(|(host, _)| host);
        let again = line.strip_suffix(" can be looked up again");
        let Some(host) = fails.or(again) else { return false };
        let Some(known) = self.names.get_mut(host) else {
            self.violation(format!("nobody looks that up: {line}"));
            return true;
        };
        let expected = if known.good.is_empty() { "are reset (end=unresolved)" } else { "its last addresses are used" };
        if fails.is_some() && !line.ends_with(expected) {
            let wrong = format!("{} addresses of it are known: {line}", known.good.len());
            self.violation(wrong);
            return true;
        }
        if std::mem::replace(&mut known.told, fails.is_some()) == fails.is_some() {
            self.violation(format!("said twice: {line}"));
        }
        true
    }
}
