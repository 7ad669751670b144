//! Waiting until what was written is acknowledged, before a socket goes.
//!
//! A reset throws away what our kernel still holds for the peer (K11), and a container's network vanishes with its last
//! process. So before every reset, and while draining before every close, we wait: no edge tells when the send queue
//! is empty (K17), so an alarm asks.
//!
//! ```text
//!   progress   20 ms    60 ms          140 ms                    300 ms                    460 ms
//!   ├──────────┼────────┼──────────────┼─────────────────────────┼─────────────────────────┼──  ...
//!              ask      ask            ask                       ask                       ask
//! ```
//! The pause doubles to 160 ms while nothing is acknowledged. Progress begins anew.

use std::time::Duration;

use super::moment::Moment;
use crate::net::Time;

/// The first pause before asking again, and the longest. The moments follow from the last progress alone, so an event
/// in between changes nothing and the ending need not remember its pause.
const POLL_FIRST: Duration = Duration::from_millis(20);
const POLL_MAX: Duration = Duration::from_millis(160);

/// The most time a peer gets to acknowledge what it is owed, however much progress there is.
const LIMIT: Duration = Duration::from_secs(30);

/// The grace that follows the path: so many retransmission time-outs, within these bounds. After one loss the kernel sends
/// again in the first of them, after two in the third; and by then the time-out has doubled.
const AUTO_TIMEOUTS: u32 = 3;
const AUTO_MIN: Duration = Duration::from_millis(300);
const AUTO_MAX: Duration = Duration::from_secs(5);

/// How far an ending is.
#[derive(Debug)]
pub(super) struct Ending {
    since: Moment,
    unacked: u32,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Everything arrived.
    Over,
    /// Ask again then. If that time has passed, stop waiting.
    Wait(Time),
}

impl Ending {
    /// An ending that begins now. [`acknowledged`](Self::acknowledged) tells it how much is pending.
    pub(super) fn new(now: Time) -> Self {
        Self { since: Moment::after(now), unacked: 0 }
    }

    /// Were bytes acknowledged since this was last asked? That is progress, like a byte read or discarded.
    pub(super) fn acknowledged(&mut self, unacked: usize) -> bool {
        let unacked = saturated(unacked);
        std::mem::replace(&mut self.unacked, unacked) > unacked
    }

    /// What to do next. `flushed`: nothing is left to write. `last_progress`: when there was some, or when it began.
    pub(super) fn next(&self, flushed: bool, last_progress: Time, grace: Duration, now: Time) -> Next {
        let patience = self.since.time() + LIMIT;
        let quiet = last_progress + grace;
        if flushed && self.unacked == 0 {
            return Next::Over;
        }
        Next::Wait(next_poll(last_progress, now).min(quiet).min(patience))
    }
}

/// The first moment after `now` at which to ask, if there has been no progress since `last_progress`.
fn next_poll(last_progress: Time, now: Time) -> Time {
    let (mut at, mut pause) = (last_progress + POLL_FIRST, POLL_FIRST);
    while at <= now && pause < POLL_MAX {
        pause *= 2;
        at = at + pause;
    }
    // A machine that was asleep may be late by any number of the longest pauses.
    if at <= now { now + POLL_MAX } else { at }
}

/// The grace for a path with this retransmission time-out, if the kernel could say.
pub(super) fn auto_grace(retransmission_timeout: Option<Duration>) -> Duration {
    retransmission_timeout.map_or(AUTO_MIN, |timeout| (timeout * AUTO_TIMEOUTS).clamp(AUTO_MIN, AUTO_MAX))
}

fn saturated(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_millis(300);

    fn at(millis: u64) -> Time {
        Time::START + Duration::from_millis(millis)
    }

    #[test]
    fn it_is_over_at_once_when_all_is_written_and_acknowledged() {
        let mut ending = Ending::new(at(0));
        assert!(!ending.acknowledged(0));
        assert_eq!(ending.next(true, at(0), GRACE, at(0)), Next::Over);
        assert_eq!(ending.next(false, at(0), GRACE, at(0)), Next::Wait(at(20)));
    }

    #[test]
    fn it_gives_up_after_the_grace_without_progress() {
        let mut ending = Ending::new(at(0));
        assert!(!ending.acknowledged(100), "the first answer is news, and no progress");
        assert_eq!(ending.next(true, at(0), GRACE, at(290)), Next::Wait(at(300)));
        assert_eq!(ending.next(true, at(0), GRACE, at(301)), Next::Wait(at(300)));
        assert!(ending.acknowledged(99));
        assert!(!ending.acknowledged(99));
        assert_eq!(ending.next(true, at(300), GRACE, at(300)), Next::Wait(at(320)));
    }

    #[test]
    fn the_pause_doubles_while_nothing_is_acknowledged() {
        let grace = Duration::from_secs(10);
        let mut ending = Ending::new(at(0));
        ending.acknowledged(100);
        let mut now = at(0);
        for next in [20, 60, 140, 300, 460, 620].map(at) {
            assert_eq!(ending.next(true, at(0), grace, now), Next::Wait(next));
            now = next;
        }
        // Between two of them, and late.
        assert_eq!(ending.next(true, at(0), grace, at(30)), Next::Wait(at(60)));
        assert_eq!(ending.next(true, at(0), grace, at(150)), Next::Wait(at(300)));
        assert!(ending.acknowledged(99));
        assert_eq!(ending.next(true, at(460), grace, at(460)), Next::Wait(at(480)));
    }

    #[test]
    fn the_grace_is_three_retransmission_timeouts_within_its_bounds() {
        for (timeout, grace) in [(1, 300), (100, 300), (208, 624), (1600, 4800), (1700, 5000), (120_000, 5000)] {
            let millis = Duration::from_millis;
            assert_eq!(auto_grace(Some(millis(timeout))), millis(grace), "{timeout}");
        }
        assert_eq!(auto_grace(None), Duration::from_millis(300));
    }

    #[test]
    fn it_gives_up_after_30_seconds_whatever_the_progress() {
        let mut ending = Ending::new(at(500));
        ending.acknowledged(100);
        let last = Moment::after(at(500)).time() + LIMIT;
        let before = Time::from_nanos(last.as_nanos() - 1_000_000);
        assert_eq!(ending.next(true, before, GRACE, before), Next::Wait(last));
        assert_eq!(ending.next(true, last, GRACE, last), Next::Wait(last));
    }
}
