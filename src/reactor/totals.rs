//! What the end of a session adds to the totals.

use super::cause::Cause;
use super::record::Record;
use crate::net::Totals;

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
}
