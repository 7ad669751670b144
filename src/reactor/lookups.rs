//! Names: when the resolver is asked, who waits for its answer, and what an answer changes.
//!
//! Only a session asks, at the beginning of an attempt, and each name once at start. So an idle relay asks nothing.

use log::{debug, info, warn};

use super::lifecycle::Lifecycle;
use super::upstreams::Upstream;
use super::waiters::Want;
use super::{Net, Reactor};
use crate::error::Error;
use crate::net::{Address, Answer, NameId, Time};
use crate::reactor::cause::Cause;

/// Sessions that wait for a name and are woken at a time, so that thousands do not connect in one turn.
const WOKEN: usize = 32;

impl<N: Net> Reactor<N> {
    /// Asks for a name if it is wanted and not asked for yet.
    pub(super) fn ask(&mut self, name: NameId) {
        if self.upstreams.names.want(name, self.now)
            && let Some(host) = self.upstreams.names.host(name)
        {
            self.net.resolve(name, host);
        }
    }

    /// Are the addresses of the session's upstream known as well as they can be now? If not, the session waits for an
    /// answer, or has ended.
    pub(super) fn upstream_is_known(&mut self, key: u32, deadline: Time) -> bool {
        let route = self.table[key].route();
        // Half of the time is for connecting, if there is an address to connect to.
        let patient = self.table[key].opened() + self.routes.get(route).settings.connect_timeout / 2;
        // Once an attempt: of two names, one may be old again when the other's answer comes.
        if !self.table[key].awaits_name() {
            for index in 0..self.routes.get(route).upstream.names().len() {
                let name = self.routes.get(route).upstream.names()[index];
                self.ask(name);
            }
        }
        let upstream = &self.routes.get(route).upstream;
        let known = upstream.len() > 0;
        let awaited = upstream.names().iter().filter_map(|name| self.upstreams.names.awaited(*name, known));
        let awaited = awaited.map(|until| if known { until.min(patient) } else { until });
        match awaited.filter(|until| self.now < *until).min() {
            // A stop request waits for no name.
            Some(_) if self.is_draining() && known => true,
            Some(_) if self.is_draining() => {
                self.table[key].cut_short();
                self.end(key, None);
                false
            }
            Some(until) => {
                self.wait_for(key, Want::Name { route }, until.min(deadline));
                false
            }
            None if known => true,
            None => {
                self.end(key, Some(Cause::Unresolved));
                false
            }
        }
    }

    /// The resolver has answered. An answer to a name that no route lists any more changes nothing.
    ///
    /// # Errors
    /// [`Error::Loop`] when an address of the name is the relay itself, and no client was served yet.
    pub(super) fn resolved(&mut self, name: NameId, answer: Answer) -> Result<(), Error> {
        let Some(host) = self.upstreams.names.host(name).cloned() else {
            return Ok(());
        };
        let error = answer.as_ref().err().cloned().unwrap_or_default();
        self.times.lookups_failed += u64::from(answer.is_err());
        let Some(news) = self.upstreams.names.answered(name, answer, self.shared.resolve_ttl, self.now) else {
            return Ok(());
        };
        if news.fails && self.upstreams.names.is_known(name) {
            warn!("cannot look up {host}: {error}; its last addresses are used");
        } else if news.fails {
            warn!("cannot look up {host}: {error}; sessions that need it are reset (end=unresolved)");
        }
        if news.succeeds {
            info!("{host} can be looked up again");
        }
        let routes = self.routes.leading_to(|upstream| upstream.names().contains(&name));
        if news.changed {
            self.refresh(&routes, self.lifecycle == Lifecycle::Starting)?;
        }
        for route in routes {
            self.wake_named(route);
        }
        Ok(())
    }

    /// The names of these routes may have other addresses than before, or the listeners are others.
    ///
    /// # Errors
    /// [`Error::Loop`] when an address of a name is the relay itself, at start.
    fn refresh(&mut self, routes: &[u16], at_start: bool) -> Result<(), Error> {
        let own = self.listeners.own();
        for route in routes {
            let about = self.about(*route);
            let entry = self.routes.get_mut(*route);
            let is_fit = |address: &Address| entry.sources.is_fit(address);
            let refreshed =
                self.upstreams.refresh(&mut entry.upstream, is_fit, |it| own.find(it, &mut self.net).is_some());
            debug!("{} leads to {}", entry.settings.name, self.upstreams.show(&entry.upstream));
            if refreshed.too_many {
                warn!("{about}there are more than 256 upstream addresses; the first 256 are used");
            }
            if let Some(host) = refreshed.unfit {
                warn!(
                    "{about}{host} has no address of a family that `--source` has; add one of the other family to it"
                );
            }
            for (host, address) in refreshed.left_out {
                if at_start {
                    let listening = own.find(&address, &mut self.net).unwrap_or(&address).clone();
                    return Err(Error::Loop { listening, upstream: address });
                }
                warn!("{about}{host} leads to {address}, where this relay listens itself; that address is left out");
            }
        }
        Ok(())
    }

    /// There may be listeners or routes that were not there before: an address behind a name may be one of ours now.
    pub(super) fn refresh_all(&mut self) {
        self.refresh_running(|upstream| !upstream.names().is_empty());
    }

    /// A listener has closed: an address that was left out may be another's now.
    pub(super) fn refresh_left_out(&mut self) {
        self.refresh_running(Upstream::leaves_out);
    }

    fn refresh_running(&mut self, is_meant: impl Fn(&Upstream) -> bool) {
        let refreshed = self.refresh(&self.routes.leading_to(is_meant), false);
        debug_assert!(refreshed.is_ok(), "only a name at start may end the relay: {refreshed:?}");
    }

    /// The first of those that wait for the addresses of this route's upstream try. Each that leaves wakes the next.
    pub(super) fn wake_named(&mut self, route: u16) {
        let woken: Vec<_> = self.waiters.first_of(Want::Name { route }, WOKEN).collect();
        woken.into_iter().for_each(|key| self.let_try(key));
    }

    /// A stop request: who waits for a name does not wait any more.
    pub(super) fn wake_all_named(&mut self) {
        let named: Vec<_> = self.waiters.named().collect();
        named.into_iter().for_each(|key| self.let_try(key));
    }
}
