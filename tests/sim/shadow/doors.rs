//! What the relay was told of its listeners, and which route leads from each: a model of reload.
//!
//! A listener is matched by its address, here its place. What a reload does is known only when it has bound what is new,
//! so it is carried out in the model at the first call behind that.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{ListenOptions, Time, Token};
use tproxy::{AtLimit, Host, Route};

use super::Shadow;
use crate::kernel::ConnId;
use crate::plan::{Reload, inet, place, place_of};

/// Being full is news again when it was over for so long.
pub(super) const FULL_QUIET: Duration = Duration::from_secs(60);

/// What the relay was told of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) open: bool,
    pub(crate) place: usize,
    pub(crate) token: Token,
    /// The number of the route that its clients belong to. None until the reload that it was bound for is carried out.
    pub(crate) route: Option<usize>,
    /// An event said that clients wait, and accept has not said since that there are none.
    pub(crate) announced: bool,
    /// Accept was called in this turn.
    pub(crate) asked: bool,
    /// Turns in a row in which it could have been called and was not.
    pub(crate) passed_over: usize,
    /// How it listens, as the kernel knows it. It could not be told what its route wants.
    pub(crate) how: ListenOptions,
    pub(crate) excused: bool,
    /// The longest backlog that a route of this listener has asked for.
    pub(crate) backlog: usize,
    /// It closes when the clients that had connected are served: it was removed, or the relay drains.
    pub(crate) closing: bool,
    /// Clients that waited in its queue when that began, and how many were accepted since.
    pub(crate) came_before: Vec<ConnId>,
    pub(crate) since_closing: usize,
    /// Sessions that came from here.
    pub(crate) sessions: usize,
    /// Its route has all the sessions it may have, or had, and the queue has not been seen empty since.
    full: bool,
    /// When that was last over.
    full_until: Option<Time>,
    /// It began in this turn, and a line is to say so.
    pub(crate) full_news: bool,
}

impl Door {
    /// When it closes, at most one backlog's length of clients is accepted: as many as can wait, which is one more than was
    /// asked for (K7).
    pub(crate) fn is_used_up(&self) -> bool {
        self.closing && self.since_closing > self.backlog
    }

    fn close(&mut self, queue: &[ConnId]) {
        if self.open && !self.closing {
            // Who had connected is served, whether or not an event told of them.
            (self.closing, self.announced, self.since_closing) = (true, true, 0);
            self.came_before = queue.to_vec();
        }
    }
}

/// The address of a host that is no name.
pub(crate) fn literal(host: &Host) -> Option<SocketAddr> {
    match host {
        Host::Address(address) => Some(inet(address)),
        _ => None,
    }
}

/// A reload that was delivered in this turn.
#[derive(Debug)]
pub(crate) struct Reloading {
    plan: Reload,
    /// Who waited at each listener then.
    queues: Vec<Vec<ConnId>>,
    /// It may bind listeners before it fails.
    binds: bool,
    /// Why it is to fail.
    pub(crate) refused: Option<&'static str>,
    settled: bool,
    /// Source addresses that it asked about.
    asked: Vec<IpAddr>,
    /// Listeners that it bound.
    new: Vec<usize>,
    /// Routes kept, changed, added, removed, and sessions under old settings.
    pub(crate) counts: [usize; 5],
    /// Settings that take a restart.
    pub(crate) restart: Vec<&'static str>,
    /// Places of the routes that are new or have changed.
    pub(crate) told: Vec<usize>,
}

impl Reloading {
    /// Where its routes listen.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.plan.config.routes.iter().map(|route| inet(&route.from)).collect()
    }
}

impl Shadow {
    /// listen(2) was called.
    pub(crate) fn listened(&mut self, at: usize, token: Token, how: ListenOptions, result: Result<(), Errno>) {
        self.progress = true;
        let mut route = None;
        if self.turn == 0 {
            route = self.routes.iter().position(|route| place_of(inet(&route.from)) == Some(at));
        } else if let Some(reload) = self.reloading.as_mut().filter(|reload| reload.binds && !reload.settled) {
            let wanted = reload.plan.config.routes.iter().any(|route| place_of(inet(&route.from)) == Some(at));
            match result {
                Ok(()) => reload.new.push(self.doors.len()),
                Err(_) => reload.refused = Some("an address cannot be listened on"),
            }
            if !wanted {
                self.violation(format!("it listens at place {at}, which no route wants"));
            }
        } else {
            self.violation(format!("it listens at place {at}, and nobody asked for that"));
        }
        if result.is_ok() {
            self.doors.push(Door {
                open: true,
                place: at,
                token,
                route,
                announced: false,
                asked: false,
                passed_over: 0,
                how,
                excused: false,
                backlog: how.backlog.into(),
                closing: false,
                came_before: Vec::new(),
                since_closing: 0,
                sessions: 0,
                full: false,
                full_until: None,
                full_news: false,
            });
        }
    }

    /// The relay asks whether it can connect from there.
    pub(crate) fn source_asked(&mut self, source: IpAddr, is_missing: bool) {
        let Some(reload) = self.reloading.as_mut().filter(|reload| reload.binds && !reload.settled) else {
            return if self.turn > 0 {
                self.violation(format!("{source} is asked about, and nobody wants to know"))
            };
        };
        reload.asked.push(source);
        if is_missing {
            (reload.refused, reload.binds) = (Some("a source address is missing"), false);
        }
    }

    /// A reload is delivered, while these clients wait.
    pub(crate) fn reload(&mut self, plan: Reload, queues: Vec<Vec<ConnId>>) {
        let open = self.doors.iter().filter(|door| door.open).map(|door| place(door.place));
        let listening: Vec<_> = open.chain(plan.config.routes.iter().map(|route| inet(&route.from))).collect();
        let mut upstreams = plan.config.routes.iter().flat_map(|route| &route.to).filter_map(literal);
        let stops = self.asked_at.is_some() || self.stop_turn.is_some();
        let refused = if stops {
            Some("draining")
        } else if plan.is_bad {
            Some("out of range")
        } else if upstreams.any(|to| listening.contains(&to)) {
            Some("an upstream is the relay")
        } else {
            None
        };
        let binds = !stops && !plan.is_bad;
        let (settled, asked, new, told) = (false, Vec::new(), Vec::new(), Vec::new());
        let restart = [
            ("buffer-size", self.config.buffer_size != 64 << 10),
            ("drain-timeout", self.config.drain_timeout != plan.config.drain_timeout),
            ("drain-delay", self.config.drain_delay != plan.config.drain_delay),
        ];
        let restart = restart.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect();
        self.reloading =
            Some(Reloading { plan, queues, binds, refused, settled, asked, new, counts: [0; 5], restart, told });
    }

    /// Is a reload being carried out?
    pub(crate) fn is_reloading(&self) -> bool {
        self.reloading.is_some()
    }

    /// What is new has been bound, or could not be.
    pub(crate) fn settle_reload(&mut self) {
        let Some(mut reload) = self.reloading.take() else { return };
        if !std::mem::replace(&mut reload.settled, true) {
            match reload.refused {
                Some(why) => {
                    if reload.new.iter().any(|door| self.doors[*door].open) {
                        self.violation(format!("a listener that was bound for a failed reload stays open ({why})"));
                    }
                }
                None => self.carry_out(&mut reload),
            }
        }
        self.reloading = Some(reload);
    }

    fn carry_out(&mut self, reload: &mut Reloading) {
        let [mut kept, mut changed, mut added, mut removed] = [0; 4];
        let mut matched = Vec::new();
        let mut listed = Vec::new();
        for route in &reload.plan.config.routes {
            let at = place_of(inet(&route.from)).unwrap();
            let Some(door) = self.doors.iter().position(|door| door.open && door.place == at) else {
                self.violation(format!("nobody listens at place {at}, which a route wants"));
                continue;
            };
            let before = self.doors[door].route;
            let was_listed = before.is_some_and(|before| self.listed.contains(&before));
            let same = before.filter(|before| self.routes[*before] == *route);
            match same {
                _ if !was_listed => added += 1,
                Some(_) => kept += 1,
                None => changed += 1,
            }
            if !was_listed || same.is_none() {
                reload.told.push(at);
            }
            let number = same.unwrap_or(self.routes.len());
            if same.is_none() {
                self.routes.push(route.clone());
                self.cursors.push(0);
            }
            let most = |route: Option<usize>| route.and_then(|route| self.routes[route].max_sessions);
            let is_other = most(before) != most(Some(number));
            if same.is_none() {
                self.check_sources_asked(route, &reload.asked);
            }
            let it = &mut self.doors[door];
            (it.route, it.closing) = (Some(number), false);
            it.backlog = it.backlog.max(route.backlog.into());
            if is_other {
                (it.full, it.full_until) = (false, None);
            }
            self.note_full(door);
            matched.push(door);
            listed.push(number);
        }
        for door in 0..self.doors.len() {
            if self.doors[door].open && !matched.contains(&door) {
                removed += usize::from(self.doors[door].route.is_some_and(|route| self.listed.contains(&route)));
                self.doors[door].close(reload.queues.get(door).map_or(&[], |queue| queue));
            }
        }
        self.listed_before.push(std::mem::replace(&mut self.listed, listed));
        self.limit_again(&reload.plan.config.routes);
        let old = self.live.iter().filter(|live| !self.listed.contains(&self.sessions[**live].route)).count();
        reload.counts = [kept, changed, added, removed, old];
    }

    /// Rule 11: who is admitted can be served. A session takes two descriptors; a listener more than at start takes one, and
    /// the first name takes those of eight lookups, three each.
    fn limit_again(&mut self, routes: &[Route]) {
        let taken = |routes: &[Route]| {
            let has_names = routes.iter().any(|route| route.to.iter().any(|host| literal(host).is_none()));
            routes.len() + if has_names { 8 * 3 } else { 0 }
        };
        let more = taken(routes).saturating_sub(taken(&self.config.routes));
        let limit = self.limit_at_start.saturating_sub(more.div_ceil(2)).max(1);
        if limit != self.limit {
            // It is another limit: that it is met is news.
            (self.limit, self.full, self.full_until) = (limit, false, None);
        }
        self.note_process_full();
    }

    /// There may be as many sessions as there may be.
    pub(super) fn note_process_full(&mut self) {
        if self.live.len() >= self.limit && !std::mem::replace(&mut self.full, true) {
            self.full_news = self.full_until.is_none_or(|until| self.now >= until + FULL_QUIET);
        }
    }

    /// A request to stop: all listeners close when those who had connected are served.
    pub(crate) fn close_doors(&mut self, queues: &[Vec<ConnId>]) {
        for (door, queue) in self.doors.iter_mut().zip(queues) {
            door.close(queue);
        }
    }

    /// The route of this listener.
    pub(super) fn route_of(&self, door: usize) -> Option<&Route> {
        self.doors[door].route.map(|route| &self.routes[route])
    }

    /// Has the route of this listener all the sessions it may have?
    pub(crate) fn is_full(&self, door: usize) -> bool {
        let most = self.route_of(door).and_then(|route| route.max_sessions);
        most.is_some_and(|most| self.doors[door].sessions >= most)
    }

    /// May a client be accepted at this listener?
    pub(crate) fn is_due(&self, door: usize) -> bool {
        let it = &self.doors[door];
        it.open && it.announced && !it.is_used_up() && (self.resets(door) || !self.is_full(door))
    }

    /// Are clients of this listener reset for which there is no room?
    pub(crate) fn resets(&self, door: usize) -> bool {
        self.route_of(door).is_some_and(|route| route.at_limit == AtLimit::Reset)
    }

    /// The route may have come to its limit.
    pub(super) fn note_full(&mut self, door: usize) {
        let now = self.now;
        if self.is_full(door) && !std::mem::replace(&mut self.doors[door].full, true) {
            let it = &mut self.doors[door];
            it.full_news = it.full_until.is_none_or(|until| now >= until + FULL_QUIET);
        }
    }

    /// Its queue was seen empty, with room.
    pub(super) fn note_empty(&mut self, door: usize) {
        let now = self.now;
        let it = &mut self.doors[door];
        if std::mem::take(&mut it.full) {
            it.full_until = Some(now);
        }
    }

    /// Numbers of the routes that are configured, lead from an open listener, or have sessions.
    pub(crate) fn routes_alive(&self) -> Vec<usize> {
        let doors = self.doors.iter().filter(|door| door.open).filter_map(|door| door.route);
        let sessions = self.live.iter().map(|live| self.sessions[*live].route);
        let mut alive: Vec<_> = self.listed.iter().copied().chain(doors).chain(sessions).collect();
        alive.sort_unstable();
        alive.dedup();
        alive
    }
}
