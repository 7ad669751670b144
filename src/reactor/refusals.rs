//! Clients that are reset when they come: those that the route denies, and those over a limit.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use log::{Level, info, warn};

use super::cause::Cause;
use super::record::{self, Record};
use super::{Net, Reactor};
use crate::config::Route;
use crate::net::{Client, Time};

/// Why a client is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It may not come: see [`Route::deny`].
    Denied,
    /// Its address has as many sessions as it may have.
    PerIp,
    /// A proxy is to announce clients here, and it is none that is believed: see [`Route::proxy_from`].
    NoProxy,
    /// There is no room, and such clients do not wait: see [`Route::at_limit`].
    NoRoom,
}

impl Refusal {
    /// The word in the log.
    pub(super) fn cause(self) -> Cause {
        match self {
            Self::Denied | Self::NoProxy => Cause::Denied,
            Self::PerIp | Self::NoRoom => Cause::Limit,
        }
    }
}

/// May this client come by this route?
fn is_allowed(route: &Route, client: IpAddr) -> bool {
    match (route.allow.longest_prefix(client), route.deny.longest_prefix(client)) {
        (Some(allowed), Some(denied)) => allowed > denied,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => route.allow.is_empty(),
    }
}

/// How often it is said that clients of a route are refused for the same reason.
const PAUSE: Duration = Duration::from_secs(60);

/// When each kind of refusal was last told, and how many there were since.
#[derive(Debug, Default)]
pub(super) struct Told([(Option<Time>, u64); 4]);

impl Told {
    /// One more client is refused. If that is to be told now: how many were since it was last told, without this one.
    fn note(&mut self, why: Refusal, now: Time) -> Option<u64> {
        let (told, since) = &mut self.0[why as usize];
        if told.is_some_and(|told| now < told + PAUSE) {
            *since += 1;
            return None;
        }
        *told = Some(now);
        Some(std::mem::take(since))
    }
}

impl<N: Net> Reactor<N> {
    /// Why this client of this route is not served, if it is not.
    pub(super) fn refusal(&self, route: u16, client: &Client) -> Option<Refusal> {
        let settings = &self.routes.get(route).settings;
        // The permissions of a Unix socket's file say who may come there.
        let ip = client.ip()?;
        let listener = self.routes.listener(route);
        if !is_allowed(settings, ip) {
            Some(Refusal::Denied)
        } else if let (Some(most), Some(listener)) = (settings.max_sessions_per_ip, listener)
            && self.listeners.sessions_of(listener, ip) >= most
        {
            Some(Refusal::PerIp)
        } else {
            None
        }
    }

    /// Counts and logs a client that is not served. The caller has closed its socket, or will.
    pub(super) fn note_refused(&mut self, route: u16, client: Client, why: Refusal) {
        let name = self.names_routes.then(|| Arc::clone(&self.routes.get(route).name));
        let record = Record::refused(name, client, why.cause());
        self.totals.add(&record);
        self.routes.get_mut(route).totals.add(&record);
        record::write(Level::Debug, &record);
        self.tell_refused(route, &client, why);
    }

    /// Says that a client is not served, once a minute.
    pub(super) fn tell_refused(&mut self, route: u16, client: &Client, why: Refusal) {
        let Some(more) = self.routes.get_mut(route).refused.note(why, self.now) else {
            return;
        };
        let (about, most) = (self.about(route), self.routes.get(route).settings.max_sessions_per_ip);
        let more = match more {
            0 => String::new(),
            more => format!(", and {more} more were since this was last said"),
        };
        match why {
            Refusal::Denied => info!("{about}client {client} is denied{more}"),
            Refusal::PerIp => {
                let most = most.unwrap_or_default();
                warn!("{about}client {client} is reset: its address has {most} sessions, which is the most{more}");
            }
            Refusal::NoProxy => info!("{about}client {client} is denied: it is none of --proxy-from{more}"),
            Refusal::NoRoom => warn!("{about}client {client} is reset: there is no room for another session{more}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn route(allow: &str, deny: &str) -> Route {
        let networks = |text: &str| if text.is_empty() { Default::default() } else { text.parse().unwrap() };
        let mut route = Route::new(SocketAddr::from(([127, 0, 0, 1], 1)), [SocketAddr::from(([127, 0, 0, 1], 2))]);
        (route.allow, route.deny) = (networks(allow), networks(deny));
        route
    }

    #[test]
    fn the_longest_prefix_decides_and_of_equal_ones_deny() {
        for (allow, deny, allowed, denied) in [
            ("", "", "10.0.0.1 ::1", ""),
            ("10.0.0.0/8", "", "10.0.0.1 ::ffff:10.0.0.1", "11.0.0.1 ::1"),
            ("", "10.0.0.0/8", "11.0.0.1 ::1", "10.0.0.1 ::ffff:10.9.9.9"),
            ("10.1.0.0/16", "10.0.0.0/8", "10.1.0.1", "10.0.0.1 11.0.0.1"),
            ("10.0.0.0/8", "10.1.0.0/16", "10.0.0.1", "10.1.0.1 11.0.0.1"),
            ("10.0.0.0/8", "10.0.0.0/8", "", "10.0.0.1 11.0.0.1"),
            ("10.0.0.0/8,10.1.1.0/24", "10.1.0.0/16", "10.0.0.1 10.1.1.1", "10.1.2.1"),
            ("0.0.0.0/0", "10.0.0.1", "10.0.0.2", "10.0.0.1 ::1"),
        ] {
            let route = route(allow, deny);
            for (clients, expected) in [(allowed, true), (denied, false)] {
                for client in clients.split_whitespace() {
                    assert_eq!(is_allowed(&route, client.parse().unwrap()), expected, "{allow} {deny} {client}");
                }
            }
        }
    }

    #[test]
    fn each_kind_of_refusal_is_told_once_a_minute_with_the_count_of_those_between() {
        let (mut told, at) = (Told::default(), |seconds| Time::START + Duration::from_secs(seconds));
        for (second, why, expected) in [
            (0, Refusal::Denied, Some(0)),
            (1, Refusal::Denied, None),
            (59, Refusal::Denied, None),
            (59, Refusal::PerIp, Some(0)),
            (60, Refusal::Denied, Some(2)),
            (61, Refusal::NoRoom, Some(0)),
            (200, Refusal::Denied, Some(0)),
        ] {
            assert_eq!(told.note(why, at(second)), expected, "{second} {why:?}");
        }
    }
}
