//! What the end of a session adds to the numbers: of the process, and of its route.

use super::cause::Cause;
use super::record::Record;
use crate::net::{Histogram, Totals};

/// What a route's sessions did.
#[derive(Debug, Clone, Default)]
pub(super) struct RouteTotals {
    pub(super) totals: Totals,
    /// How often a session ended in which way. Those that never happened are not in it.
    ends: Vec<(Cause, u64)>,
}

/// How long things took, and how often they failed.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) connect: Histogram,
    pub(super) session: Histogram,
    pub(super) accept_pauses: u64,
    pub(super) lookups_failed: u64,
}

impl RouteTotals {
    pub(super) fn add(&mut self, record: &Record) {
        self.totals.add(record);
        self.count(record.end, 1);
    }

    fn count(&mut self, end: Cause, times: u64) {
        match self.ends.iter_mut().find(|(known, _)| *known == end) {
            Some((_, count)) => *count += times,
            None => self.ends.push((end, times)),
        }
    }

    /// What another entry of the same route has counted.
    pub(super) fn take_over(&mut self, other: Self) {
        let Totals {
            sessions,
            denied,
            limited,
            up,
            down,
            undelivered_up,
            undelivered_down,
            cut_short,
            // Of the process only.
            spliced: _,
            empty: _,
        } = other.totals;
        let mine = &mut self.totals;
        mine.sessions += sessions;
        mine.denied += denied;
        mine.limited += limited;
        mine.up += up;
        mine.down += down;
        mine.undelivered_up += undelivered_up;
        mine.undelivered_down += undelivered_down;
        mine.cut_short += cut_short;
        other.ends.into_iter().for_each(|(end, times)| self.count(end, times));
    }

    /// By the word in the log.
    pub(super) fn ends(&self) -> Vec<(&'static str, u64)> {
        self.ends.iter().map(|(end, count)| (end.word(), *count)).collect()
    }
}

impl Totals {
    pub(super) fn add(&mut self, record: &Record) {
        match record.end {
            Cause::Denied => self.denied += 1,
            Cause::Limit => self.limited += 1,
            _ => self.sessions += 1,
        }
        self.up += record.up;
        self.down += record.down;
        self.undelivered_up += record.undelivered_up;
        self.undelivered_down += record.undelivered_down;
        if record.cut_short {
            self.cut_short += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::super::cause::Cause;
    use super::*;

    #[test]
    fn totals_count_apart_what_was_reset_by_the_drain_and_what_was_not_served() {
        let mut totals = Totals::default();
        let client = SocketAddr::from(([127, 0, 0, 1], 1)).into();
        let (time, connect) = (Duration::ZERO, Duration::ZERO);
        for (end, cut_short) in [(Cause::Drain, true), (Cause::ClientReset, true), (Cause::ClientEof, false)] {
            let (undelivered_up, undelivered_down) = (5, 6);
            let undelivered = Record {
                route: None,
                client,
                upstream: None,
                up: 3,
                down: 4,
                undelivered_up,
                undelivered_down,
                time,
                connect,
                end,
                cut_short,
                reached: true,
            };
            totals.add(&undelivered);
        }
        for end in [Cause::Denied, Cause::Limit, Cause::Denied] {
            totals.add(&Record::refused(None, client, end));
        }
        let (undelivered_up, undelivered_down) = (15, 18);
        let expected = Totals {
            sessions: 3,
            denied: 2,
            limited: 1,
            up: 9,
            down: 12,
            undelivered_up,
            undelivered_down,
            cut_short: 2,
            ..Totals::default()
        };
        assert_eq!(totals, expected);
    }

    #[test]
    fn a_route_that_was_changed_keeps_what_its_old_entry_counts_later() {
        let numbers = |first: u64| Totals {
            sessions: first,
            denied: first + 1,
            limited: first + 2,
            up: first + 3,
            down: first + 4,
            undelivered_up: first + 5,
            undelivered_down: first + 6,
            cut_short: first + 7,
            // Of the process only.
            spliced: 0,
            empty: 0,
        };
        let old = RouteTotals { totals: numbers(1000), ends: vec![(Cause::Drain, 3), (Cause::Limit, 4)] };
        let mut new = RouteTotals { totals: numbers(10), ends: vec![(Cause::Refused, 1), (Cause::Drain, 2)] };
        new.take_over(old);
        let sum = Totals {
            sessions: 1010,
            denied: 1012,
            limited: 1014,
            up: 1016,
            down: 1018,
            undelivered_up: 1020,
            undelivered_down: 1022,
            cut_short: 1024,
            spliced: 0,
            empty: 0,
        };
        assert_eq!(new.totals, sum);
        assert_eq!(new.ends(), [("refused", 1), ("drain", 5), ("limit", 4)]);
    }
}
