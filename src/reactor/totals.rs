//! What a relay did in its life, in numbers.

use super::record::Record;

/// What a relay did in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Totals {
    /// Sessions that have ended.
    pub sessions: u64,
    /// Bytes relayed from clients to the upstream.
    pub up: u64,
    /// Bytes relayed from the upstream to clients.
    pub down: u64,
    /// Sessions that were reset by the drain deadline or a second stop request.
    pub cut_short: u64,
    /// Bytes read from either side that went through a pipe instead of a buffer.
    pub spliced: u64,
}

impl Totals {
    pub(super) fn add(&mut self, record: &Record) {
        self.sessions += 1;
        self.up += record.up;
        self.down += record.down;
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
    fn totals_count_what_was_reset_by_the_drain_apart() {
        let mut totals = Totals::default();
        let client = SocketAddr::from(([127, 0, 0, 1], 1)).into();
        let (time, connect) = (Duration::ZERO, Duration::ZERO);
        for (end, cut_short) in [(Cause::Drain, true), (Cause::ClientReset, true), (Cause::ClientEof, false)] {
            totals.add(&Record { client, upstream: None, up: 3, down: 4, time, connect, end, cut_short });
        }
        assert_eq!(totals, Totals { sessions: 3, up: 9, down: 12, cut_short: 2, spliced: 0 });
    }
}
