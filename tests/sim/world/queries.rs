//! Somebody looks inside, at any time: the answer is what the shadow model knows when the turn begins.

use tproxy::net::{Message, Page, Pending, Query, Report};

use super::World;
use crate::shadow::{Inside, RouteSeen};

/// A query that was told, and what is to be its answer.
#[derive(Debug)]
pub(crate) struct Told {
    pending: Pending<Report>,
    expected: Inside,
    /// If it is about the routes: what they have and had.
    routes: Option<Vec<RouteSeen>>,
}

impl World {
    /// Tells the queries that were asked. What is seen is so before anything else of this turn.
    pub(super) fn tell_queries(&mut self, messages: &mut Vec<Message>) {
        for number in std::mem::take(&mut self.queries_pending) {
            let ask = self.plan.queries[number];
            let page = match ask.routes {
                true => Page::Routes { from: ask.from },
                false => Page::Sessions { from: ask.from, most: ask.rows },
            };
            let (query, pending) = Query::new(page);
            messages.push(Message::Query(query));
            let stops = self.shadow.asked_at.is_some() || self.shadow.stop_turn.is_some();
            let most = if ask.routes { 0 } else { ask.rows };
            let expected = self.shadow.inside(ask.from, most, stops, self.kernel.pipes);
            let routes = ask.routes.then(|| self.shadow.routes_seen());
            self.told.push(Told { pending, expected, routes });
        }
    }

    /// The turn is over: each was answered.
    pub(super) fn check_answers(&mut self) {
        for Told { pending, expected, routes } in std::mem::take(&mut self.told) {
            match pending.answer() {
                Some(Ok(report)) => {
                    let seen = Inside::of(&report, routes.is_some());
                    if seen != expected {
                        self.violation(format!("a look inside sees {seen:?}, and it is {expected:?}"));
                    }
                    if let Some(expected) = routes.filter(|_| report.next.is_none()) {
                        let seen = RouteSeen::of(&report);
                        let is_right = seen.iter().zip(&expected).all(|(seen, expected)| seen.is(expected));
                        if seen.len() != expected.len() || !is_right {
                            self.violation(format!("a look at the routes sees {seen:?}, and they are {expected:?}"));
                        }
                    }
                    if let Some(row) = report.rows.iter().find(|row| row.idle > row.age) {
                        self.violation(format!("idle for longer than it lives: {row:?}"));
                    }
                }
                Some(Err(_)) if self.doomed => {}
                other => self.violation(format!("a query was not answered: {other:?}")),
            }
        }
    }
}
