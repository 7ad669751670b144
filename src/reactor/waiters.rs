//! Sessions that wait for what the machine is short of, in the order they came.
//!
//! connect(2) had no descriptor, or no source port to this destination. That is nobody's failure: the session keeps its
//! client and tries again, within its connect timeout. Only the first of a queue tries: when a session has ended, or
//! after a while. If it gets what it waits for, it wakes the next.
//!
//! Descriptors are the process's: there is one queue, and while it is not empty no new client is accepted, because
//! accept would take the descriptor. Source ports are short for one destination and plenty for the next: each route has
//! a queue, and accepting goes on. `--max-sessions` bounds how many wait.

use std::collections::BTreeMap;
use std::time::Duration;

use super::alarms::{Alarm, Alarms};
use crate::net::Time;

/// How long the first of a queue waits before it tries again, if no session's end wakes it.
const RETRY: Duration = Duration::from_millis(100);

/// What a session waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    /// A descriptor, memory or a watch.
    Descriptor,
    /// A source port to an endpoint of this route.
    Port {
        /// The number of the route.
        route: u16,
    },
}

/// A place in a queue. A session that leaves and waits again gets a new one, at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    want: Want,
    number: u32,
}

impl Place {
    /// What is waited for.
    pub(super) fn want(self) -> Want {
        self.want
    }
}

/// The queues. Every session is in at most one of them, once.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    places: BTreeMap<Place, u32>,
    /// The number of the newest place. It begins anew whenever nobody waits, so it does not wrap.
    number: u32,
    /// When [`Alarm::Retry`] is due.
    retry_at: Option<Time>,
}

impl Waiters {
    /// The session in this slot waits from now on.
    pub(super) fn join(&mut self, want: Want, key: u32) -> Place {
        self.number = if self.places.is_empty() { 0 } else { self.number.wrapping_add(1) };
        let place = Place { want, number: self.number };
        self.places.insert(place, key);
        place
    }

    /// The session at this place does not wait any more.
    pub(super) fn leave(&mut self, place: Place) {
        let known = self.places.remove(&place);
        debug_assert!(known.is_some(), "{place:?} is left twice");
    }

    /// The session that waits for this the longest.
    pub(super) fn first(&self, want: Want) -> Option<u32> {
        self.first_place(want).map(|(_, key)| key)
    }

    /// Is it this session's turn to try?
    pub(super) fn is_first(&self, place: Place) -> bool {
        self.first_place(place.want).is_some_and(|(first, _)| first == place)
    }

    /// Does any session wait, for whatever?
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Does a session wait for a source port?
    pub(super) fn lack_ports(&self) -> bool {
        self.places.last_key_value().is_some_and(|(place, _)| place.want != Want::Descriptor)
    }

    /// The first of each queue: one for each route at most, and one for descriptors.
    pub(super) fn heads(&self) -> impl Iterator<Item = u32> {
        let mut next = self.places.iter().next();
        std::iter::from_fn(move || {
            let (place, key) = next?;
            let last = Place { want: place.want, number: u32::MAX };
            next = self.places.range(last..).next();
            Some(*key)
        })
    }

    /// Somebody waits: there is an alarm.
    pub(super) fn arm(&mut self, now: Time, alarms: &mut Alarms) {
        if self.retry_at.is_none() {
            self.retry_at = Some(now + RETRY);
            alarms.set(now + RETRY, Alarm::Retry);
        }
    }

    /// Nobody waits, or the alarm went off.
    pub(super) fn disarm(&mut self, alarms: &mut Alarms) {
        if let Some(at) = self.retry_at.take() {
            alarms.cancel(at, Alarm::Retry);
        }
    }

    fn first_place(&self, want: Want) -> Option<(Place, u32)> {
        let (first, last) = (Place { want, number: 0 }, Place { want, number: u32::MAX });
        self.places.range(first..=last).next().map(|(place, key)| (*place, *key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Want = Want::Port { route: 3 };

    #[test]
    fn each_queue_is_served_in_the_order_they_came() {
        let mut waiters = Waiters::default();
        let [one, two, three] =
            [(Want::Descriptor, 7), (PORT, 8), (Want::Descriptor, 9)].map(|(want, key)| waiters.join(want, key));
        assert_eq!((waiters.first(Want::Descriptor), waiters.first(PORT)), (Some(7), Some(8)));
        assert_eq!(waiters.first(Want::Port { route: 4 }), None);
        assert_eq!([one, two, three].map(|place| waiters.is_first(place)), [true, true, false]);
        waiters.leave(one);
        assert_eq!((waiters.first(Want::Descriptor), waiters.is_first(three)), (Some(9), true));
    }

    #[test]
    fn a_session_that_waits_again_is_the_last() {
        let mut waiters = Waiters::default();
        let (first, _) = (waiters.join(PORT, 1), waiters.join(PORT, 2));
        waiters.leave(first);
        let again = waiters.join(PORT, 1);
        assert_eq!((waiters.first(PORT), waiters.is_first(again)), (Some(2), false));
    }

    #[test]
    fn the_alarm_is_for_the_first_of_each_queue() {
        let (mut waiters, mut alarms) = (Waiters::default(), Alarms::default());
        for (want, key) in [(PORT, 1), (PORT, 2), (Want::Descriptor, 3), (Want::Port { route: 1 }, 4), (PORT, 5)] {
            waiters.join(want, key);
            waiters.arm(Time::START, &mut alarms);
        }
        assert_eq!(waiters.heads().collect::<Vec<_>>(), [3, 4, 1]);
        assert_eq!((alarms.len(), alarms.next(), waiters.lack_ports()), (1, Some(Time::START + RETRY), true));
        waiters.disarm(&mut alarms);
        assert_eq!(alarms.len(), 0);
    }

    #[test]
    fn only_those_who_lack_a_port_lack_a_port() {
        let mut waiters = Waiters::default();
        assert!(waiters.is_empty() && !waiters.lack_ports());
        waiters.join(Want::Descriptor, 1);
        assert!(!waiters.is_empty() && !waiters.lack_ports());
    }
}
