//! What a relay did in its life, in numbers.

use super::cause::Cause;
use super::record::Record;

/// What a relay did in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Totals {
    /// Sessions that have ended, without those of clients that were denied or over a limit.
    pub sessions: u64,
    /// Clients that were denied.
    pub denied: u64,
    /// Clients that were over a limit.
    pub limited: u64,
    /// Bytes relayed from clients to the upstream.
    pub up: u64,
    /// Bytes relayed from the upstream to clients.
    pub down: u64,
    /// Bytes that came for the upstream and that it had not acknowledged when its connection was reset.
    pub undelivered_up: u64,
    /// The same for clients.
    pub undelivered_down: u64,
    /// Sessions that were reset by the drain deadline or a stop request that does not wait.
    pub cut_short: u64,
    /// Bytes read from either side that went through a pipe instead of a buffer.
    pub spliced: u64,
    /// Sessions that are not in the log because they moved no byte ([`Route::log_empty`](crate::Route::log_empty)).
    pub empty: u64,
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
}
