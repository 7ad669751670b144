//! Which address of the upstream to try next, and for how long. Knows no socket and no log.
//!
//! ```text
//!   attempt 1                 attempt 2
//!   ├ addr 1 ┼ addr 2 ┤ pause ├ addr 1 ┼ addr 2 ┤ ...     until all attempts are made, or the deadline
//! ```
//! The time that is left is divided equally among the addresses still to be tried, so one dead address cannot use it
//! all up. An address to which no source port is left has not failed: once the others are tried, the session waits, and
//! then only such addresses are tried again.

use std::time::Duration;

use fastrand::Rng;

use super::super::backoff::Backoff;
use crate::net::Time;

/// Between attempts: with its jitter, a pause is at most a second.
const BACKOFF: Backoff =
    Backoff { floor: Duration::from_millis(100), ceiling: Duration::from_millis(666), spread: 0.5 };

/// How far the attempts to connect are.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Place of the address to be tried next.
    next: u16,
    /// Attempts that failed.
    failures: u32,
    /// Places that this pass leaves out: they failed before the session waited for a port.
    failed: Places,
    /// Places to which there was no source port in this pass.
    portless: Places,
}

/// Some of the first 16 places of an upstream's list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Places(u16);

impl Places {
    const COUNT: usize = 16;

    /// Is this place among them? A later place is, unless there are none.
    fn has(self, place: usize) -> bool {
        if place < Self::COUNT { self.0 >> place & 1 == 1 } else { self.0 != 0 }
    }

    /// Adds a place. A later one is forgotten: then the address counts as failed.
    fn add(&mut self, place: usize) {
        if place < Self::COUNT {
            self.0 |= 1 << place;
        }
    }
}

/// What the attempts must stay within.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Addresses of the upstream.
    pub(super) places: usize,
    /// Attempts, each of which tries all addresses.
    pub(super) attempts: u32,
    /// When connecting must be over.
    pub(super) deadline: Time,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Connect to the address at this place. It has its time until then.
    Dial {
        /// The place in the upstream's list.
        place: usize,
        /// The end of the address's share of the time.
        until: Time,
    },
    /// Wait until then, and ask again.
    Pause {
        /// The end of the pause.
        until: Time,
    },
    /// All addresses are tried, and to some there was no source port, this being the first. Ask again when there may be.
    AwaitPort {
        /// The place in the upstream's list.
        place: usize,
    },
    /// All attempts are made, or the deadline has come.
    GiveUp,
}

impl Attempts {
    /// What to do now. A `Dial` is the same again until [`tried`](Self::tried).
    pub(super) fn next(&mut self, bounds: Bounds, now: Time, rng: &mut Rng) -> Step {
        let Bounds { places, attempts, deadline } = bounds;
        if now >= deadline {
            return Step::GiveUp;
        }
        let mut left = (usize::from(self.next)..places).filter(|place| !self.failed.has(*place));
        if let Some(place) = left.next() {
            let share = u32::try_from(1 + left.count()).unwrap_or(u32::MAX);
            return Step::Dial { place, until: now + deadline.since(now) / share };
        }
        self.next = 0;
        let portless = std::mem::take(&mut self.portless);
        if portless != Places::default() {
            self.failed = Places(!portless.0);
            return Step::AwaitPort { place: portless.0.trailing_zeros() as usize };
        }
        self.failed = Places::default();
        let until = now + BACKOFF.pause(self.failures, rng);
        self.failures += 1;
        // If the pause would outlast the deadline, fail now.
        if self.failures >= attempts || until >= deadline {
            return Step::GiveUp;
        }
        Step::Pause { until }
    }

    /// The address at this place was dialled: it is tried, or has failed at once. A shortage of ours is no try.
    pub(super) fn tried(&mut self, place: usize) {
        self.next = u16::try_from(place + 1).unwrap_or(u16::MAX);
    }

    /// There is no source port to the address at this place. The next may be reached.
    pub(super) fn lacks_port(&mut self, place: usize) {
        self.portless.add(place);
        self.tried(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::START + Duration::from_millis(millis)
    }

    fn bounds(places: usize, attempts: u32, deadline: u64) -> Bounds {
        Bounds { places, attempts, deadline: at(deadline) }
    }

    #[test]
    fn each_address_gets_an_equal_share_of_what_is_left() {
        let (mut attempts, mut rng) = (Attempts::default(), Rng::with_seed(1));
        let bounds = bounds(3, 1, 900);
        assert_eq!(attempts.next(bounds, at(0), &mut rng), Step::Dial { place: 0, until: at(300) });
        attempts.tried(0);
        // The first failed early.
        assert_eq!(attempts.next(bounds, at(100), &mut rng), Step::Dial { place: 1, until: at(500) });
        attempts.tried(1);
        assert_eq!(attempts.next(bounds, at(500), &mut rng), Step::Dial { place: 2, until: at(900) });
        attempts.tried(2);
        assert_eq!(attempts.next(bounds, at(600), &mut rng), Step::GiveUp);
    }

    #[test]
    fn an_address_that_was_not_tried_is_next_again() {
        let (mut attempts, mut rng) = (Attempts::default(), Rng::with_seed(1));
        for now in [0, 100] {
            let step = attempts.next(bounds(1, 1, 900), at(now), &mut rng);
            assert_eq!(step, Step::Dial { place: 0, until: at(900) });
        }
    }

    #[test]
    fn a_pause_stands_between_attempts_and_doubles() {
        let (mut attempts, mut rng) = (Attempts::default(), Rng::with_seed(1));
        let bounds = bounds(1, 3, 100_000);
        let mut now = at(0);
        for (least, most) in [(50, 150), (100, 300)] {
            assert!(matches!(attempts.next(bounds, now, &mut rng), Step::Dial { place: 0, .. }));
            attempts.tried(0);
            let Step::Pause { until } = attempts.next(bounds, now, &mut rng) else { panic!("there is to be a pause") };
            let pause = until.since(now).as_millis();
            assert!((least..=most).contains(&pause), "{pause}");
            now = until;
        }
        attempts.next(bounds, now, &mut rng);
        attempts.tried(0);
        assert_eq!(attempts.next(bounds, now, &mut rng), Step::GiveUp);
    }

    #[test]
    fn an_address_without_a_port_is_tried_again_once_the_others_are_and_they_are_not() {
        let (mut attempts, mut rng) = (Attempts::default(), Rng::with_seed(1));
        let bounds = bounds(3, 1, 900);
        let mut next = |attempts: &mut Attempts| attempts.next(bounds, at(0), &mut rng);
        assert!(matches!(next(&mut attempts), Step::Dial { place: 0, .. }));
        attempts.tried(0);
        assert!(matches!(next(&mut attempts), Step::Dial { place: 1, .. }));
        attempts.lacks_port(1);
        assert_eq!(next(&mut attempts), Step::Dial { place: 2, until: at(900) });
        attempts.lacks_port(2);
        assert_eq!(next(&mut attempts), Step::AwaitPort { place: 1 });
        assert_eq!(next(&mut attempts), Step::Dial { place: 1, until: at(450) });
        attempts.tried(1);
        assert!(matches!(next(&mut attempts), Step::Dial { place: 2, .. }));
        attempts.lacks_port(2);
        assert_eq!(next(&mut attempts), Step::AwaitPort { place: 2 });
        assert!(matches!(next(&mut attempts), Step::Dial { place: 2, .. }));
        attempts.tried(2);
        assert_eq!(next(&mut attempts), Step::GiveUp);
    }

    #[test]
    fn a_pause_is_at_most_a_second() {
        let (mut attempts, mut rng) = (Attempts { next: 1, failures: 20, ..Attempts::default() }, Rng::with_seed(1));
        let Step::Pause { until } = attempts.next(bounds(1, 100, 100_000), at(0), &mut rng) else {
            panic!("there is to be a pause")
        };
        assert!((at(333)..=at(1000)).contains(&until), "{until:?}");
    }

    #[test]
    fn nothing_begins_at_the_deadline_and_no_pause_outlasts_it() {
        let (mut attempts, mut rng) = (Attempts::default(), Rng::with_seed(1));
        assert_eq!(attempts.next(bounds(1, 3, 900), at(900), &mut rng), Step::GiveUp);
        attempts.tried(0);
        assert_eq!(attempts.next(bounds(1, 3, 900), at(880), &mut rng), Step::GiveUp);
    }
}
