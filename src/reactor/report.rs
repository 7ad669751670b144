//! Looking inside: the answer to a query, and who is left when a drain lasts.
//!
//! An answer is made from plain counters and at most a page of sessions, so a turn with a query is bounded.

use std::sync::Arc;
use std::time::Duration;

use log::{Level, info};

use super::alarms::Alarm;
use super::session::Session;
use super::{Net, Reactor, record};
use crate::net::{Page, Query, ROWS_MAX, Report, RouteRow, Row};

/// Slots that one answer looks into, at most: most of them may be free.
const SLOTS_MAX: usize = 4096;

/// A drain that lasts so long says who is left.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many of them.
const LEFT_MAX: usize = 10;

impl<N: Net> Reactor<N> {
    /// Answers from what is so at the beginning of the turn.
    pub(super) fn answer(&self, Query { page, reply }: Query) {
        let report = Report {
            totals: self.totals,
            sessions: self.table.live(),
            routes: self.routes.len(),
            listeners: self.listeners.len(),
            is_stopping: self.is_stopping(),
            leases: self.pool.lent(),
            pipes: self.pool.pipes(),
            accept_pauses: self.times.accept_pauses,
            lookups_failed: self.times.lookups_failed,
            connect_times: self.times.connect,
            session_times: self.times.session,
            turn_times: self.net.turn_times(),
            rows: Vec::new(),
            route_rows: Vec::new(),
            next: None,
        };
        reply.send(Ok(match page {
            Page::Numbers => report,
            Page::Sessions { from, most } => {
                let (rows, next) = self.session_rows(from, most.min(ROWS_MAX));
                Report { rows, next, ..report }
            }
            Page::Routes { from } => {
                let (route_rows, next) = self.route_rows(from);
                Report { route_rows, next, ..report }
            }
        }));
    }

    /// At most this many sessions from this slot on, and the slot of the next, if there may be more.
    fn session_rows(&self, from: u32, most: usize) -> (Vec<Row>, Option<u32>) {
        let mut rows = Vec::new();
        if most == 0 {
            return (rows, None);
        }
        for (looked, key) in (from..self.table.slots()).enumerate() {
            if rows.len() == most || looked == SLOTS_MAX {
                return (rows, Some(key));
            }
            let session = self.table.get(key).filter(|session| !session.queued.is_ended());
            rows.extend(session.map(|session| self.row(session)));
        }
        (rows, None)
    }

    /// The routes from this number on, as many as fit on a page.
    fn route_rows(&self, from: u32) -> (Vec<RouteRow>, Option<u32>) {
        let (mut rows, mut room) = (Vec::new(), ROWS_MAX);
        for (number, route) in self.routes.from(from) {
            let endpoints = route.upstream.endpoints(&self.upstreams, self.now);
            let taken = 1 + endpoints.len();
            if taken > room && !rows.is_empty() {
                return (rows, Some(number.into()));
            }
            room = room.saturating_sub(taken);
            // It may lead to another route by now.
            let listening = route.listener().and_then(|listener| self.listeners.get(listener));
            let listening = listening.filter(|listening| listening.route == number);
            rows.push(route.row(listening.map(|listening| listening.bound.clone()), endpoints));
        }
        (rows, None)
    }

    fn row(&self, session: &Session<N::Stream>) -> Row {
        let upstream = session.endpoint().map(|id| self.upstreams.address(id).clone());
        session.row(Arc::clone(&self.routes.get(session.route()).name), upstream, self.now)
    }

    /// The drain begins. It may last.
    pub(super) fn say_later_who_is_left(&mut self) {
        self.alarms.set(self.now + PATIENCE, Alarm::Left);
    }

    /// [`Alarm::Left`] went off.
    pub(super) fn say_who_is_left(&self) {
        let left = self.table.iter().filter(|session| !session.queued.is_ended());
        let left: Vec<_> = left.take(LEFT_MAX).map(|session| self.row(session)).collect();
        if !left.is_empty() {
            info!("still draining: {} sessions are left, and {} of them follow", self.table.live(), left.len());
            left.iter().for_each(|row| record::write(Level::Info, row));
        }
    }
}
