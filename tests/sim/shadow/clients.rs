//! Which clients are not served, and what is said of them: a model of the limits.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tproxy::net::Time;
use tproxy::{AtLimit, Route};

use super::{Session, Shadow};
use crate::kernel::ConnId;
use crate::plan::{shown_client, unix_client};

/// Clients of a route that are refused for one reason are told of so often at most.
const PAUSE: Duration = Duration::from_secs(60);

/// A client that was accepted and is to be reset.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) conn: ConnId,
    pub(crate) client: SocketAddr,
    pub(crate) route: usize,
    pub(crate) why: Why,
    /// Its stream is gone.
    pub(crate) is_gone: bool,
}

/// Why it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Denied,
    /// A proxy that is not believed.
    NoProxy,
    /// Too many of its address.
    Neighbours,
    NoRoom,
}

impl Why {
    /// The word of its record.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Denied | Self::NoProxy => "denied",
            Self::Neighbours | Self::NoRoom => "limit",
        }
    }

    /// What a line says of it.
    fn line(self, route: &Route) -> String {
        match self {
            Self::Denied => "is denied".to_owned(),
            Self::NoProxy => "is denied: it is none of --proxy-from".to_owned(),
            Self::Neighbours => {
                let most = route.max_sessions_per_ip.unwrap();
                format!("is reset: its address has {most} sessions, which is the most")
            }
            Self::NoRoom => "is reset: there is no room for another session".to_owned(),
        }
    }
}

/// The length of the prefix, if this network, as it is printed, has the address in it.
fn prefix(network: &str, client: IpAddr) -> Option<u32> {
    let (address, length) = network.split_once('/')?;
    let (address, length): (IpAddr, u32) = (address.parse().ok()?, length.parse().ok()?);
    let (one, other, bits) = match (address, client) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let differ: u128 = one ^ other;
    (length == 0 || differ >> (bits - length) == 0).then_some(length)
}

/// "The longest prefix that contains the client's address decides, in --allow and --deny together; of equal ones, --deny.
/// Without a match: if there is an --allow, the client is denied."
fn may_come(route: &Route, client: IpAddr) -> bool {
    let (allow, deny) = (route.allow.to_string(), route.deny.to_string());
    for length in (0..=128).rev() {
        let has = |list: &str| list.split(',').any(|network| prefix(network, client) == Some(length));
        if has(&deny) {
            return false;
        }
        if has(&allow) {
            return true;
        }
    }
    allow.is_empty()
}

/// Is a client with this address one of the proxies that are believed?
fn is_believed(route: &Route, client: IpAddr) -> bool {
    route.proxy_from.to_string().split(',').any(|network| prefix(network, client).is_some())
}

/// "Clients with one IP address, or IPv6 clients with the same 64 bits in front."
pub(crate) fn is_neighbour(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() >> 64 == other.to_bits() >> 64,
        (one, other) => one == other,
    }
}

impl Shadow {
    /// The address of the client of this connection.
    pub(crate) fn client(&self, conn: ConnId) -> SocketAddr {
        if self.unix.contains(&conn) { unix_client(conn) } else { self.plan.client(conn) }
    }

    /// The address of a session's client.
    pub(crate) fn client_of(&self, it: &Session) -> SocketAddr {
        it.announced.unwrap_or_else(|| self.client(it.client))
    }

    /// Why a client that comes to this listener now is not served, if it is not.
    pub(super) fn refusal(&self, door: usize, conn: ConnId) -> Option<Why> {
        let (client, route) = (self.client(conn).ip(), self.route_of(door)?);
        // "A header only from --proxy-from; anything else there is a reset." Its clients are judged when it has come.
        let why = match route.accept_proxy {
            true => (!is_believed(route, client)).then_some(Why::NoProxy),
            // "Unix clients are not subject to it."
            false if self.unix.contains(&conn) => None,
            false => self.limits(door, route, client),
        };
        if why.is_some() {
            return why;
        }
        let no_room = self.live.len() >= self.limit || self.is_full(door);
        (no_room && route.at_limit == AtLimit::Reset).then_some(Why::NoRoom)
    }

    /// Why a client with this address may not come by this route now, if it may not.
    pub(super) fn limits(&self, door: usize, route: &Route, client: IpAddr) -> Option<Why> {
        if !may_come(route, client) {
            return Some(Why::Denied);
        }
        // A listener that has closed counts nobody.
        let most = route.max_sessions_per_ip.filter(|_| self.doors[door].open)?;
        let counts = |live: &&usize| {
            let it = &self.sessions[**live];
            it.door == door && it.is_counted && is_neighbour(self.client_of(it).ip(), client)
        };
        (self.live.iter().filter(counts).count() >= most).then_some(Why::Neighbours)
    }

    /// A client is not to be served. Is that to be told?
    pub(super) fn refuse(&mut self, door: usize, conn: ConnId, why: Why) {
        let (client, route) = (self.client(conn), self.doors[door].route.unwrap());
        self.refused.push(Refused { conn, client, route, why, is_gone: false });
        self.tell_refused(route, client, why);
    }

    /// Once a minute, with the number of those between.
    pub(super) fn tell_refused(&mut self, route: usize, client: SocketAddr, why: Why) {
        let line = why.line(&self.routes[route]);
        let (told, since) = self.refusals_told.get(&(route, line.clone())).copied().unzip();
        if told.is_some_and(|told| self.now < told + PAUSE) {
            self.refusals_told.insert((route, line), (told.unwrap(), since.unwrap_or(0) + 1));
            return;
        }
        let more = match since.unwrap_or(0) {
            0 => String::new(),
            more => format!(", and {more} more were since this was last said"),
        };
        self.refusals_to_tell.push((route, format!("client {} {line}{more}", shown_client(client))));
        self.refusals_told.insert((route, line), (self.now, 0));
    }

    /// A line about a client that is not served: it was to be told.
    pub(crate) fn check_refusal_line(&mut self, about: Option<&str>, line: &str) -> bool {
        if !line.starts_with("client ") {
            return false;
        }
        let names_routes = self.plan.names_routes();
        let is_meant = |(route, expected): &(usize, String)| {
            let name = names_routes.then(|| self.routes[*route].name.as_str());
            line == expected && about == name
        };
        match self.refusals_to_tell.iter().position(is_meant) {
            Some(place) => drop(self.refusals_to_tell.remove(place)),
            None => self.violation(format!("that is no news: {line}")),
        }
        true
    }

    /// Client addresses whose sessions count, of the open listeners.
    pub(crate) fn counted_addresses(&self) -> usize {
        let counted = self.live.iter().map(|live| &self.sessions[*live]);
        let counted = counted.filter(|it| it.is_counted && self.doors[it.door].open);
        let mut known: Vec<(usize, IpAddr)> = Vec::new();
        for it in counted {
            let ip = self.client_of(it).ip();
            if !known.iter().any(|(door, other)| *door == it.door && is_neighbour(ip, *other)) {
                known.push((it.door, ip));
            }
        }
        known.len()
    }

    /// A session lasts for at most so long, and each a little less: 90 to 100 % of it. May its time be up?
    pub(crate) fn may_be_old(&self, began: Time, route: &Route) -> bool {
        route.max_lifetime.is_some_and(|most| self.now >= began + most.mul_f64(0.9))
    }
}
