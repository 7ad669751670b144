//! Looking inside: the answer to a query, and who is left when a drain lasts.
//!
//! An answer is made from plain counters and at most a page of sessions, so a turn with a query is bounded.

use std::sync::Arc;
use std::time::Duration;

use log::{Level, info};

use super::alarms::Alarm;
use super::session::Session;
use super::{Net, Reactor, record};
use crate::net::{Query, ROWS_MAX, Report, Row};

/// Slots that one answer looks into, at most: most of them may be free.
const SLOTS_MAX: usize = 4096;

/// A drain that lasts so long says who is left.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many of them.
const LEFT_MAX: usize = 10;

impl<N: Net> Reactor<N> {
    /// Answers from what is so at the beginning of the turn.
    pub(super) fn answer(&self, Query { from, rows, reply }: Query) {
        let (rows, next) = self.page(from, rows.min(ROWS_MAX));
        reply.send(Ok(Report {
            totals: self.totals,
            sessions: self.table.live(),
            routes: self.routes.len(),
            listeners: self.listeners.len(),
            is_stopping: self.is_stopping(),
            rows,
            next,
        }));
    }

    /// At most this many sessions from this slot on, and the slot of the next, if there may be more.
    fn page(&self, from: u32, most: usize) -> (Vec<Row>, Option<u32>) {
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
