//! A session waits in a queue before it can connect (`waiters.rs`), and what lets it try.

use std::io;

use log::{info, warn};

use super::Stage;
use super::opening::Opening;
use crate::net::errno::shortage_message;
use crate::net::{Net, Stream, Time, report};
use crate::reactor::Reactor;
use crate::reactor::cause::Cause;
use crate::reactor::upstreams::EndpointId;
use crate::reactor::waiters::{Place, Want};

impl<S: Stream> Opening<S> {
    /// What it is doing, in words.
    pub(super) fn stage(&self) -> report::Stage {
        match (&self.upstream, self.place.map(Place::want)) {
            (Some(_), _) => report::Stage::Connecting,
            (None, Some(Want::Backlog { .. })) => report::Stage::Backlog,
            (None, Some(Want::Name { .. })) => report::Stage::Name,
            (None, Some(Want::Descriptor)) => report::Stage::Descriptor,
            (None, Some(Want::Port { .. })) => report::Stage::Port,
            (None, None) => report::Stage::Pause,
        }
    }
}

impl<N: Net> Reactor<N> {
    /// connect(2) found no descriptor, memory or watch.
    pub(super) fn wait_for_descriptor(&mut self, key: u32, error: &io::Error, deadline: Time) {
        if self.descriptors.note_shortage() {
            warn!("connect: {}", shortage_message(error, "new clients wait"));
        }
        self.wait_for(key, Want::Descriptor, deadline);
    }

    /// All addresses were tried, and there was no source port to this one.
    pub(super) fn wait_for_port(&mut self, key: u32, endpoint: EndpointId, deadline: Time) {
        let route = self.table[key].route;
        let to = self.upstreams.address(endpoint);
        // If there is not even an address to connect from, that was said.
        if !self.routes.get(route).sources.are_gone(to) && self.ports.note_shortage(self.now, &mut self.alarms) {
            let about = self.about(route);
            warn!(
                "{about}connect: no source port is left to {to}; its sessions wait (widen `sysctl \
                 net.ipv4.ip_local_port_range`, set `net.ipv4.tcp_tw_reuse=1`, give `--source` more addresses, or add a \
                 second upstream address)"
            );
        }
        self.wait_for(key, Want::Port { route }, deadline);
    }

    /// The backlog of the only address was full. Of those that wait for it, only the first tries again by itself.
    pub(super) fn wait_for_backlog(&mut self, key: u32, until: Time, deadline: Time) {
        let want = Want::Backlog { route: self.table[key].route };
        let is_first = self.waiters.first(want).is_none_or(|first| first == key);
        self.wait_for(key, want, if is_first { until } else { deadline });
    }

    /// The session waits, until then if nothing comes. That costs no attempt. If it was waiting for the same before, it
    /// keeps its place.
    pub(in crate::reactor) fn wait_for(&mut self, key: u32, want: Want, until: Time) {
        let Stage::Opening(opening) = &mut self.table[key].stage else {
            self.table[key].stage.unexpected("waiting");
            return;
        };
        opening.attempts.last = match want {
            // An address is known, and a newer answer was waited for.
            Want::Name { route } if self.routes.get(route).upstream.len() > 0 => Cause::ConnectTimeout,
            Want::Backlog { .. } => Cause::ConnectTimeout,
            Want::Name { .. } => Cause::Unresolved,
            Want::Descriptor => Cause::NoResources,
            Want::Port { .. } => Cause::NoPorts,
        };
        opening.until = until;
        if opening.place.is_none_or(|place| place.want() != want) {
            let before = opening.place.replace(self.waiters.join(want, key));
            if let Some(place) = before {
                self.leave_place(place);
            }
        }
        if !self.waiters.lack_nothing() {
            self.waiters.arm(self.now, &mut self.alarms);
        }
        self.arm(key, until);
    }

    /// If the session waited, it does not any more.
    pub(in crate::reactor) fn stop_waiting(&mut self, key: u32) {
        if let Stage::Opening(opening) = &mut self.table[key].stage
            && let Some(place) = opening.place.take()
        {
            self.leave_place(place);
        }
    }

    /// A session has what it waited for, or has ended. If it was the first, the next tries.
    fn leave_place(&mut self, place: Place) {
        let was_first = self.waiters.leave(place);
        if was_first || place.want().is_name() {
            self.wake_waiter(place.want());
        }
        if self.waiters.lack_nothing() {
            self.waiters.disarm(&mut self.alarms);
        }
    }

    /// What is waited for may be there: the first that waits for it tries.
    pub(in crate::reactor) fn wake_waiter(&mut self, want: Want) {
        match want {
            Want::Name { route } => self.wake_named(route),
            Want::Backlog { .. } | Want::Descriptor | Want::Port { .. } => {
                self.waiters.first(want).into_iter().for_each(|key| self.let_try(key));
            }
        }
    }

    /// A session that waits tries in this turn or the next.
    pub(in crate::reactor) fn let_try(&mut self, key: u32) {
        if let Stage::Opening(opening) = &mut self.table[key].stage {
            opening.until = self.now;
        }
        self.table.wake(key);
    }

    /// [`Alarm::Retry`](crate::reactor::alarms::Alarm::Retry) went off: the first of each queue tries.
    pub(in crate::reactor) fn retry_waiters(&mut self) {
        self.waiters.disarm(&mut self.alarms);
        let heads: Vec<_> = self.waiters.heads().collect();
        heads.into_iter().for_each(|key| self.let_try(key));
    }

    /// [`Alarm::Ports`](crate::reactor::alarms::Alarm::Ports) went off.
    pub(in crate::reactor) fn reconsider_ports(&mut self) {
        if self.ports.is_over(self.now, self.waiters.lack_ports(), &mut self.alarms) {
            info!("connect: source ports are free again");
        }
    }
}
