//! Where connections come from, what a listener's sockets get, and which sessions are to be in the log.
//!
//! `--help`: "each connection comes from the next of those that are of its upstream's family, IPv4 or IPv6, and one without a
//! free port is passed over".

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use tproxy::Route;
use tproxy::net::{ListenOptions, Peer, Token};

use super::{Session, Shadow, connect_word};
use crate::kernel::ConnId;
use crate::sources::NO_SOURCE;

/// Upstreams that are older are looked after by the kernel. With a shorter idle time they are at once.
pub(crate) const YOUNG: Duration = Duration::from_secs(5);

/// What is known of source addresses.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Connections that each route has begun, to IPv4 or not.
    begun: BTreeMap<(usize, bool), usize>,
    /// A connection that may come from another address yet.
    passing: Option<Passing>,
    /// Those of a route that were missing when something was to come from there.
    missing: BTreeSet<(usize, IpAddr)>,
    /// The one that the last connection came from, if it was missing before.
    found: Option<(usize, IpAddr)>,
    /// What a line of this turn is to say: an address is missing, or there again.
    news: Vec<(IpAddr, bool)>,
}

#[derive(Debug, Clone, Copy)]
struct Passing {
    token: Token,
    to: SocketAddr,
    source: Option<IpAddr>,
    left: usize,
    /// One of them was there, and had no port.
    portless: bool,
    /// Why the first of those that were passed over for a lack was.
    lack: Option<Errno>,
}

impl Shadow {
    /// The addresses of a route that can connect there.
    fn fitting(&self, route: usize, to: SocketAddr) -> Vec<IpAddr> {
        self.routes[route].source.iter().copied().filter(|source| source.is_ipv4() == to.is_ipv4()).collect()
    }

    /// Upstream addresses of a family that is not among the sources are not connected to.
    pub(super) fn can_reach(&self, route: usize, to: SocketAddr) -> bool {
        self.routes[route].source.is_empty() || !self.fitting(route, to).is_empty()
    }

    /// The session of this token dials this address from there. Is it that one's turn?
    pub(crate) fn dials_from(&mut self, token: Token, to: SocketAddr, source: Option<IpAddr>) {
        let route = self.slots.get(token.key()).copied().flatten().map(|session| self.sessions[session].route);
        let Some(route) = route else { return self.dials(token, to) };
        let fitting = self.fitting(route, to);
        match self.sources.passing.take() {
            Some(passing) if (passing.token, passing.to) == (token, to) => self.sources.passing = Some(passing),
            passing => {
                self.all_were_tried(passing);
                self.dials(token, to);
                let left = fitting.len();
                self.sources.passing = Some(Passing { token, to, source, left, portless: false, lack: None });
            }
        }
        if let Some(passing) = &mut self.sources.passing {
            passing.source = source;
        }
        let begun = self.sources.begun.entry((route, to.is_ipv4())).or_default();
        let turn = *begun % fitting.len().max(1);
        *begun += 1;
        if source != fitting.get(turn).copied() {
            self.violation(format!("{to} is dialled from {source:?}, it is number {turn}'s turn of {fitting:?}"));
        }
    }

    fn all_were_tried(&mut self, passing: Option<Passing>) {
        if let Some(Passing { to, left, .. }) = passing {
            self.violation(format!("{to} could be dialled from {left} more addresses, and is not"));
        }
    }

    /// What came of a connect. If that may be the source's fault, the next source is to be tried, and there is no result yet.
    pub(super) fn sources_are_tried(&mut self, result: Result<ConnId, Errno>) -> Option<Result<ConnId, Errno>> {
        let Some(passing) = self.sources.passing.take() else { return Some(result) };
        let session = self.slots.get(passing.token.key()).copied().flatten();
        let route = session.map(|session| self.sessions[session].route).unwrap_or_default();
        if let Some(source) = passing.source {
            let known = (route, source);
            if result == Err(NO_SOURCE) && self.sources.missing.insert(known) {
                self.sources.news.push((source, true));
            }
            let found = result.is_ok() && self.sources.missing.remove(&known);
            self.sources.found = found.then_some(known);
            if found {
                self.sources.news.push((source, false));
            }
        }
        let lacks = result.is_err_and(|error| connect_word(error) == "no-ports");
        let no_way = passing.source.is_some() && result.is_err_and(|error| connect_word(error) == "unreachable");
        let portless = passing.portless || (lacks && result != Err(NO_SOURCE));
        let lack = passing.lack.or_else(|| result.err().filter(|_| lacks));
        if (lacks || no_way) && passing.left > 1 {
            self.sources.passing = Some(Passing { left: passing.left - 1, portless, lack, ..passing });
            return None;
        }
        // That one had no port counts for more than that there is no way from another.
        let result = lack.filter(|_| no_way).map_or(result, Err);
        let lacks = lacks || (no_way && lack.is_some());
        let fitting = self.fitting(route, passing.to);
        let gone = fitting.iter().all(|source| self.sources.missing.contains(&(route, *source)));
        if let Some(session) = session.filter(|_| lacks) {
            self.sessions[session].sourceless |= gone && !fitting.is_empty();
        }
        if portless || (lacks && !gone) {
            self.portless_addresses.push(passing.to);
        }
        Some(result)
    }

    /// The new connection cannot be watched: the relay hears of that, and not that its source was there.
    pub(super) fn source_is_unseen(&mut self) {
        if let Some(known) = self.sources.found.take() {
            self.sources.missing.insert(known);
            self.sources.news.retain(|news| *news != (known.1, false));
        }
    }

    /// A line of the log says that a source address is missing, or there again.
    pub(crate) fn check_source_line(&mut self, line: &str) -> bool {
        let missing =
            line.strip_prefix("cannot connect from ").and_then(|line| line.split_once(": ")).map(|(ip, _)| ip);
        let back = line.strip_suffix(" can be connected from again");
        let Some(source) = missing.or(back).and_then(|source| source.parse::<IpAddr>().ok()) else { return false };
        let news = (source, missing.is_some());
        match self.sources.news.iter().position(|one| *one == news) {
            Some(index) => drop(self.sources.news.remove(index)),
            None => self.violation(format!("said twice, or not true: {line}")),
        }
        true
    }

    /// A turn is over.
    pub(crate) fn check_sources(&mut self) {
        let passing = self.sources.passing.take();
        self.all_were_tried(passing);
        if let Some(news) = self.sources.news.pop() {
            self.violation(format!("no line says it of a source: {news:?}"));
        }
    }

    /// A reload gives a listener this route, which is new or has changed.
    pub(super) fn check_sources_asked(&mut self, route: &Route, asked: &[IpAddr]) {
        if let Some(source) = route.source.iter().find(|source| !asked.contains(source)) {
            self.violation(format!("nobody asked whether {source} is there"));
        }
    }

    // ---- listeners ----

    /// A listener was told to listen another way.
    pub(crate) fn changed_listener(&mut self, door: usize, how: ListenOptions, result: Result<(), Errno>) {
        let it = &mut self.doors[door];
        let in_vain = it.how == how && !it.excused;
        it.excused = result.is_err();
        if result.is_ok() {
            it.how = how;
        }
        if in_vain {
            self.violation(format!("listener {door} is changed to what it is"));
        }
    }

    /// Each listener gives its sockets what its route wants, and has the queue that it wants.
    pub(crate) fn check_listeners(&mut self) {
        for door in 0..self.doors.len() {
            let it = &self.doors[door];
            let Some(route) = it.route.filter(|_| it.open && !it.excused) else { continue };
            let Route { backlog, keepalive, tcp_user_timeout, unix_mode, .. } = &self.routes[route];
            let (backlog, keepalive, user_timeout) = (*backlog, *keepalive, *tcp_user_timeout);
            let unix_mode = *unix_mode;
            if it.how != (ListenOptions { backlog, keepalive, user_timeout, unix_mode }) {
                self.violation(format!("listener {door} is {:?}, unlike its route", it.how));
            }
        }
    }

    // ---- the log ----

    /// May this session that has ended be missing in the log, and must it be? It reached its upstream, no byte was moved, and
    /// it was not cut short.
    pub(crate) fn is_silent(&self, it: &Session) -> (bool, bool) {
        let nothing = |count: fn(&super::Flow) -> u64| it.flows.iter().all(|flow| count(flow) == 0);
        let may = !self.route(it).log_empty && it.connected.is_some() && nothing(|flow| flow.written) && !it.cut;
        (may, may && nothing(|flow| flow.read) && !it.ended_late)
    }

    /// A session begins to relay, or has begun to: its upstream's socket has what its route wants.
    pub(crate) fn check_sockets(&mut self) {
        for index in 0..self.live.len() {
            let session = self.live[index];
            let it = &self.sessions[session];
            let Some(at) = it.connected else { continue };
            let route = self.route(it);
            let soon = route.keepalive.is_some_and(|idle| idle < YOUNG);
            let missing = [
                (soon && !it.kept_alive, "keepalive, and its idle time is short"),
                (route.tcp_user_timeout.is_some() != it.user_timeout, "tcp-user-timeout"),
                (route.log_open != it.said_open, "its line"),
            ];
            for (_, what) in missing.iter().filter(|(missing, _)| *missing) {
                self.violation(format!(
                    "session {session} was connected at {at:?}, and has no {what}, or should not have"
                ));
            }
        }
    }

    /// Whose upstream connection this is.
    pub(crate) fn owner_of_upstream(&self, conn: ConnId) -> Option<usize> {
        self.owner(conn).filter(|(_, peer)| *peer == Peer::Upstream).map(|(session, _)| session)
    }
}
