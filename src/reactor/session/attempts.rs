//! How far a session is with the addresses of its upstream. Knows no socket, no address and no log.
//!
//! ```text
//!   attempt 1                                             attempt 2
//!   ├ first pass: each once ┼ again: those too slow ┤ pause ├ ...       until all attempts are made, or the deadline
//! ```
//! The time that is left is divided equally among the addresses still to be tried, so one dead address cannot use it all
//! up. In the first pass, an address that has not answered lately gets a short time while another is untried; if it was
//! too slow, it is tried again with its equal share. An address to which no source port is left has not failed: once the
//! others are tried, the session waits, and then only such addresses are tried again. The same is true of a Unix socket whose
//! backlog is full; only a retry can tell when it is not (K22).

use std::time::Duration;

use fastrand::Rng;

use super::super::backoff::Backoff;
use crate::net::Time;
use crate::reactor::cause::Cause;

/// Between attempts: with its jitter, a pause is at most a second.
const BACKOFF: Backoff =
    Backoff { floor: Duration::from_millis(100), ceiling: Duration::from_millis(666), spread: 0.5 };

/// Before a Unix socket whose backlog was full is tried again, as often as there is time.
const FULL: Backoff = Backoff { floor: Duration::from_millis(10), ceiling: Duration::from_millis(100), spread: 0.0 };

/// How far the attempts to connect are.
#[derive(Debug)]
pub(super) struct Attempts {
    /// What became of the address at each place. Empty until the first has failed, which is most often never.
    marks: Box<[Mark]>,
    /// The version of the upstream's addresses that the marks are for.
    version: u16,
    /// Attempts that failed.
    failures: u16,
    /// The place that was dialled last.
    place: u8,
    /// The connection under way is cut short because another address is untried.
    quick: bool,
    repeats: Repeats,
    /// Why the session is not connected yet: the last address failed, or it waits.
    pub(super) last: Cause,
}

/// What is tried again, in one byte: a session has no other to spare.
#[derive(Debug, Clone, Copy, Default)]
struct Repeats(u8);

impl Repeats {
    /// Are those too slow in the first pass being tried again?
    fn has_slow(self) -> bool {
        self.0 & 1 == 1
    }

    fn set_slow(&mut self, again: bool) {
        self.0 = self.0 & !1 | u8::from(again);
    }

    /// Pauses before a full backlog was tried again, up to the longest.
    fn pauses(self) -> u32 {
        u32::from(self.0 >> 1)
    }

    fn count_pause(&mut self) {
        if self.pauses() < 100 {
            self.0 += 2;
        }
    }
}

/// What became of an address in this attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Untried,
    /// It did not answer in a short time.
    Slow,
    /// There was no source port to it.
    Portless,
    /// Its backlog was full.
    Full,
    Failed,
}

/// Why a connection is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer came in the time it had.
    TooSlow,
    /// There is no source port to this address.
    NoPort,
    /// The backlog of this Unix socket is full.
    Full,
    /// Anything else.
    Other,
}

/// What the attempts must stay within.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Addresses of the upstream that are known.
    pub(super) places: usize,
    /// Attempts, each of which tries all addresses.
    pub(super) attempts: u32,
    /// When connecting must be over.
    pub(super) deadline: Time,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Connect to one of the addresses that are not [tried](Attempts::is_tried).
    Dial {
        /// The end of its equal share of the time.
        until: Time,
        /// Another address is untried, so one that has not answered lately may be given less.
        may_be_quick: bool,
    },
    /// Wait until then, and ask again.
    Pause {
        /// The end of the pause.
        until: Time,
    },
    /// All addresses are tried, and the backlog of some was full. Ask again then, or when another session got in.
    AwaitBacklog {
        /// The end of the pause before the next try.
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

impl Default for Attempts {
    fn default() -> Self {
        Self {
            marks: Box::default(),
            version: 0,
            failures: 0,
            place: 0,
            quick: false,
            repeats: Repeats::default(),
            last: Cause::ConnectTimeout,
        }
    }
}

impl Attempts {
    /// Is no address tried yet in this attempt?
    pub(super) fn is_fresh(&self) -> bool {
        self.marks.is_empty()
    }

    /// The upstream's addresses have this version now. If it is a new one, all are untried.
    pub(super) fn set_version(&mut self, version: u16) {
        if std::mem::replace(&mut self.version, version) != version {
            self.marks = Box::default();
            self.repeats.set_slow(false);
        }
    }

    /// Is the address at this place not to be tried now?
    pub(super) fn is_tried(&self, place: usize) -> bool {
        self.marks.get(place).is_some_and(|mark| *mark != Mark::Untried)
    }

    /// What to do now. A `Dial` is the same again until something [failed](Self::failed).
    pub(super) fn next(&mut self, bounds: Bounds, now: Time, rng: &mut Rng) -> Step {
        let Bounds { places, attempts, deadline } = bounds;
        if now >= deadline {
            return Step::GiveUp;
        }
        if self.count(Mark::Untried, places) == 0 && self.count(Mark::Slow, places) > 0 {
            self.reset(Mark::Slow);
            self.repeats.set_slow(true);
        }
        let untried = self.count(Mark::Untried, places);
        if untried > 0 {
            let shares = u32::try_from(untried + self.count(Mark::Slow, places)).unwrap_or(u32::MAX);
            let until = now + deadline.since(now) / shares;
            return Step::Dial { until, may_be_quick: untried > 1 && !self.repeats.has_slow() };
        }
        if self.count(Mark::Full, places) > 0 {
            self.reset(Mark::Full);
            self.reset(Mark::Portless);
            let until = deadline.min(now + FULL.pause(self.repeats.pauses(), rng));
            self.repeats.count_pause();
            return Step::AwaitBacklog { until };
        }
        if let Some(place) = self.marks.iter().position(|mark| *mark == Mark::Portless) {
            self.reset(Mark::Portless);
            return Step::AwaitPort { place };
        }
        self.marks = Box::default();
        self.repeats.set_slow(false);
        let until = now + BACKOFF.pause(self.failures.into(), rng);
        self.failures = self.failures.saturating_add(1);
        // If the pause would outlast the deadline, fail now.
        if u32::from(self.failures) >= attempts || until >= deadline {
            return Step::GiveUp;
        }
        Step::Pause { until }
    }

    /// The address at this place is dialled. Its time is cut short, or is its share.
    pub(super) fn dials(&mut self, place: usize, quick: bool) {
        (self.place, self.quick) = (u8::try_from(place).unwrap_or(u8::MAX), quick);
    }

    /// The connection to the place that was dialled last failed. A shortage of ours is no failure.
    pub(super) fn failed(&mut self, places: usize, failure: Failure) {
        if self.marks.is_empty() {
            self.marks = vec![Mark::Untried; places].into();
        }
        let mark = match failure {
            Failure::TooSlow if self.quick => Mark::Slow,
            Failure::NoPort => Mark::Portless,
            Failure::Full => Mark::Full,
            Failure::TooSlow | Failure::Other => Mark::Failed,
        };
        if let Some(place) = self.marks.get_mut(usize::from(self.place)) {
            *place = mark;
        }
    }

    /// Did all addresses of this version fail?
    pub(super) fn all_failed(&self, version: u16) -> bool {
        self.version == version && !self.is_fresh() && self.marks.iter().all(|mark| *mark == Mark::Failed)
    }

    /// Addresses with this mark, of this many places. No marks are all untried.
    fn count(&self, mark: Mark, places: usize) -> usize {
        match mark {
            Mark::Untried if self.marks.is_empty() => places,
            _ => self.marks.iter().filter(|one| **one == mark).count(),
        }
    }

    /// The addresses with this mark are untried again.
    fn reset(&mut self, mark: Mark) {
        self.marks.iter_mut().filter(|one| **one == mark).for_each(|one| *one = Mark::Untried);
    }
}

#[cfg(test)]
mod tests;
