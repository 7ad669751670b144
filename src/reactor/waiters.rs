//! Sessions that wait before they can connect, in the order they came.
//!
//! connect(2) had no descriptor, or no source port to this destination. That is nobody's failure: the session keeps its
//! client and tries again, within its connect timeout. Only the first of a queue tries: when a session has ended, or
//! after a while. If it gets what it waits for, it wakes the next.
//!
//! Descriptors are the process's: there is one queue, and while it is not empty no new client is accepted, because
//! accept would take the descriptor. Source ports are short for one destination and plenty for the next: each route has
//! a queue, and accepting goes on. `--max-sessions` bounds how many wait.
//!
//! Where a Unix socket is the only address and its backlog is full, its sessions wait in a queue too: no event announces room
//! (K22). The first has a pause of its own (`session/attempts.rs`).
//!
//! Each route has a queue for names that are looked up too. It has no retry: an answer wakes all who wait, some at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::alarms::{Alarm, Alarms};
use crate::net::Time;

/// How long the first of a queue waits before it tries again, if no session's end wakes it.
const RETRY: Duration = Duration::from_millis(100);

/// What a session waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    /// A place in the backlog of the Unix socket that is this route's only address.
    Backlog {
        /// The number of the route.
        route: u16,
    },
    /// The addresses of this route's upstream. In the order of queues, this comes before those with a retry.
    Name {
        /// The number of the route.
        route: u16,
    },
    /// A descriptor, memory or a watch.
    Descriptor,
    /// A source port to an endpoint of this route.
    Port {
        /// The number of the route.
        route: u16,
    },
}

impl Want {
    /// Is it an answer of the resolver?
    pub(super) const fn is_name(self) -> bool {
        matches!(self, Self::Name { .. })
    }
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

const FIRST_NAMED: Place = Place { want: Want::Name { route: 0 }, number: 0 };

/// What comes before is waited for without [`Alarm::Retry`].
const FIRST_RETRIED: Place = Place { want: Want::Descriptor, number: 0 };

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

    /// The session at this place does not wait any more. Was it the first of its queue?
    pub(super) fn leave(&mut self, place: Place) -> bool {
        let was_first = self.first_place(place.want).is_some_and(|(first, _)| first == place);
        let known = self.places.remove(&place);
        debug_assert!(known.is_some(), "{place:?} is left twice");
        was_first
    }

    /// The session that waits for this the longest.
    pub(super) fn first(&self, want: Want) -> Option<u32> {
        self.first_place(want).map(|(_, key)| key)
    }

    /// The first sessions that wait for this, at most this many.
    pub(super) fn first_of(&self, want: Want, most: usize) -> impl Iterator<Item = u32> {
        self.queue(want).map(|(_, key)| key).take(most)
    }

    /// All that wait for a name.
    pub(super) fn named(&self) -> impl Iterator<Item = u32> {
        self.places.range(FIRST_NAMED..FIRST_RETRIED).map(|(_, key)| *key)
    }

    /// Does no session wait for a descriptor or a source port?
    pub(super) fn lack_nothing(&self) -> bool {
        self.places.last_key_value().is_none_or(|(place, _)| *place < FIRST_RETRIED)
    }

    /// Does a session wait for a source port?
    pub(super) fn lack_ports(&self) -> bool {
        self.places.last_key_value().is_some_and(|(place, _)| matches!(place.want, Want::Port { .. }))
    }

    /// The first of each queue with a retry: one for each route at most, and one for descriptors.
    pub(super) fn heads(&self) -> impl Iterator<Item = u32> {
        let mut next = self.places.range(FIRST_RETRIED..).next();
        std::iter::from_fn(move || {
            let (place, key) = next?;
            let last = Place { want: place.want, number: u32::MAX };
            next = self.places.range(last..).next();
            Some(*key)
        })
    }

    /// A session waits for something with a retry: there is an alarm.
    pub(super) fn arm(&mut self, now: Time, alarms: &mut Alarms) {
        if self.retry_at.is_none() {
            self.retry_at = Some(now + RETRY);
            alarms.set(now + RETRY, Alarm::Retry);
        }
    }

    /// No session waits for it any more, or the alarm went off.
    pub(super) fn disarm(&mut self, alarms: &mut Alarms) {
        if let Some(at) = self.retry_at.take() {
            alarms.cancel(at, Alarm::Retry);
        }
    }

    fn first_place(&self, want: Want) -> Option<(Place, u32)> {
        self.queue(want).next()
    }

    fn queue(&self, want: Want) -> impl Iterator<Item = (Place, u32)> {
        let (first, last) = (Place { want, number: 0 }, Place { want, number: u32::MAX });
        self.places.range(first..=last).map(|(place, key)| (*place, *key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Want = Want::Port { route: 3 };
    const NAME: Want = Want::Name { route: 3 };

    #[test]
    fn each_queue_is_served_in_the_order_they_came() {
        let mut waiters = Waiters::default();
        let [one, ..] =
            [(Want::Descriptor, 7), (PORT, 8), (Want::Descriptor, 9)].map(|(want, key)| waiters.join(want, key));
        assert_eq!((waiters.first(Want::Descriptor), waiters.first(PORT)), (Some(7), Some(8)));
        assert_eq!(waiters.first(Want::Port { route: 4 }), None);
        let last = waiters.join(PORT, 6);
        assert!(waiters.leave(one) && !waiters.leave(last));
        assert_eq!((waiters.first(Want::Descriptor), waiters.first(PORT)), (Some(9), Some(8)));
    }

    #[test]
    fn a_session_that_waits_again_is_the_last() {
        let mut waiters = Waiters::default();
        let (first, _) = (waiters.join(PORT, 1), waiters.join(PORT, 2));
        waiters.leave(first);
        waiters.join(PORT, 1);
        assert_eq!(waiters.first_of(PORT, 9).collect::<Vec<_>>(), [2, 1]);
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
        assert!(waiters.lack_nothing() && !waiters.lack_ports());
        waiters.join(NAME, 1);
        assert!(waiters.lack_nothing() && !waiters.lack_ports());
        waiters.join(Want::Descriptor, 2);
        assert!(!waiters.lack_nothing() && !waiters.lack_ports());
        waiters.join(PORT, 3);
        assert!(waiters.lack_ports());
    }

    #[test]
    fn who_waits_for_a_name_or_a_backlog_has_no_retry() {
        let mut waiters = Waiters::default();
        let other = Want::Name { route: 4 };
        let full = Want::Backlog { route: 3 };
        for (want, key) in [(NAME, 1), (full, 6), (NAME, 2), (other, 3), (PORT, 4), (NAME, 5)] {
            waiters.join(want, key);
        }
        assert_eq!((waiters.first(full), waiters.first(Want::Backlog { route: 4 })), (Some(6), None));
        assert_eq!(waiters.heads().collect::<Vec<_>>(), [4]);
        assert_eq!(waiters.first_of(NAME, 2).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(waiters.first_of(NAME, 9).collect::<Vec<_>>(), [1, 2, 5]);
        assert_eq!(waiters.named().collect::<Vec<_>>(), [1, 2, 5, 3]);
    }
}
