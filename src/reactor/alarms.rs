//! The table of deadlines.

use std::collections::BTreeSet;

use crate::net::Time;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// The pause of accepting is over.
    Accept,
    /// The drain deadline.
    Drain,
    /// The session in this slot has waited long enough for something.
    Session(u32),
    /// A session is old enough for SO_KEEPALIVE on its upstream socket.
    Keepalive,
    /// The first session of each queue of waiters tries again.
    Retry,
    /// A shortage of source ports may be over.
    Ports,
    /// The drain has lasted for a while.
    Left,
}

/// Deadlines in order. A session has at most one entry, and so has each of the others: that is its cap.
///
/// A session remembers when its alarm is, which makes taking it out again cheap. Activity does not touch the table: an
/// alarm that finds its session busy re-arms itself.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    table: BTreeSet<(Time, Alarm)>,
}

impl Alarms {
    /// The nearest deadline.
    pub(super) fn next(&self) -> Option<Time> {
        self.table.first().map(|(at, _)| *at)
    }

    /// Takes out one alarm that is due.
    pub(super) fn due(&mut self, now: Time) -> Option<Alarm> {
        self.next().filter(|at| *at <= now)?;
        self.table.pop_first().map(|(_, alarm)| alarm)
    }

    /// Puts an alarm in.
    pub(super) fn set(&mut self, at: Time, alarm: Alarm) {
        self.table.insert((at, alarm));
    }

    /// Takes an alarm out before it is due.
    pub(super) fn cancel(&mut self, at: Time, alarm: Alarm) {
        self.table.remove(&(at, alarm));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_go_off_in_order_and_never_early() {
        let [early, late] = [10, 20].map(Time::from_nanos);
        let mut alarms = Alarms::default();
        alarms.set(late, Alarm::Session(1));
        alarms.set(early, Alarm::Session(2));
        alarms.set(early, Alarm::Drain);
        assert_eq!((alarms.next(), alarms.len()), (Some(early), 3));
        assert_eq!(alarms.due(Time::from_nanos(9)), None);
        assert_eq!(alarms.due(early), Some(Alarm::Drain));
        assert_eq!(alarms.due(early), Some(Alarm::Session(2)));
        assert_eq!(alarms.due(early), None);
        alarms.cancel(late, Alarm::Session(1));
        assert_eq!((alarms.next(), alarms.len()), (None, 0));
    }
}
