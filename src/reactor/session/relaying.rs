//! Running the flows of a session, and the conclusions from what they did.

use std::num::NonZeroI32;
use std::time::Duration;

use super::ending::{Ending, Next, auto_grace};
use super::moment::Moment;
use super::{Session, Stage};
use crate::config::{ResetGrace, Route};
use crate::net::{Peer, Stream, Time};
use crate::reactor::cause::Cause;
use crate::reactor::lifecycle::Drain;
use crate::relay::flow::State;
use crate::relay::input::End;
use crate::relay::pair::Fate;
use crate::relay::pool::Pool;

/// What makes a session run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::reactor) enum Trigger {
    /// An event of one of its sides, or what was left of one. Each flow gets a first slice.
    Event,
    /// Its alarm. Both sides try everything. If nothing comes of it, its time is up.
    Alarm,
    /// Its turn on the backlog: the flow from `source` gets a slice.
    Backlog {
        /// The peer the flow reads from.
        source: Peer,
        /// Bytes.
        slice: usize,
    },
}

/// What a run leaves to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::reactor) struct Served {
    /// The flows from these peers have used up their slice.
    pub(in crate::reactor) queue: [bool; 2],
    /// A side was found to have failed: run the session again.
    pub(in crate::reactor) failed: bool,
    /// A byte or a state moved, or a flow waits for its turn to move some.
    progress: bool,
    /// The same of a flow that throws away what comes, if that counts.
    discarded: bool,
    /// Bytes that went into pipes.
    pub(in crate::reactor) spliced: usize,
    /// Splice does not work here, with this error number.
    pub(in crate::reactor) splice_error: Option<NonZeroI32>,
}

/// What a session waits for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::reactor) enum Conclusion {
    /// An event.
    Event,
    /// An event, or this moment.
    Until(Time),
    /// Nothing: it has ended.
    Over,
}

impl<S: Stream> Session<S> {
    /// Runs the flows that this trigger is about, unless they wait on the backlog.
    pub(in crate::reactor) fn serve(&mut self, trigger: Trigger, pool: &mut Pool<S::Pipe>) -> Served {
        let Stage::Relaying(pair, _) = &mut self.stage else {
            self.stage.unexpected("served");
            return Served::default();
        };
        let (mut queue, mut progress, mut discarded) = ([false; 2], false, false);
        let (mut failed, mut spliced, mut splice_error) = (false, 0, None);
        for source in Peer::BOTH {
            if self.queued.is_on_backlog(source) {
                // It is not idle: it waits for its turn.
                let discards = pair.flow(source).state() == State::Cut;
                progress |= !discards;
                discarded |= discards && pair.is_progress(source);
                continue;
            }
            let slice = match trigger {
                Trigger::Backlog { source: turn, slice } if turn == source => slice,
                Trigger::Backlog { .. } => continue,
                // Bulk goes straight to the backlog: one buffer would not be enough.
                Trigger::Event if pair.flow(source).is_bulk() => 0,
                Trigger::Event | Trigger::Alarm => pool.size(),
            };
            let pass = pair.relay(source, slice, pool);
            progress |= pass.progress && !pass.discarded;
            discarded |= pass.progress && pass.discarded;
            failed |= pass.failed;
            spliced += pass.spliced;
            splice_error = splice_error.or(pass.splice_error);
            queue[source as usize] = pass.slice_used_up;
        }
        Served { queue, failed, progress, discarded, spliced, splice_error }
    }

    /// Draws the conclusions from what the flows did.
    ///
    /// Only an alarm takes a deadline: it has made both sides try first. An event speaks for one side, and that of the
    /// other may be in the next batch. In a drain, an orderly close waits until all is acknowledged too.
    pub(in crate::reactor) fn conclude(
        &mut self,
        trigger: Trigger,
        served: Served,
        settings: &Route,
        drain: Option<Drain>,
        pool: &mut Pool<S::Pipe>,
        now: Time,
    ) -> Conclusion {
        let discards_too_long = served.discarded && self.discards_too_long(settings, now);
        if served.progress || (served.discarded && !discards_too_long) {
            self.last_progress = now;
        }
        let due = self.due_at(settings, drain);
        let Stage::Relaying(pair, ending) = &mut self.stage else {
            self.stage.unexpected("concluded");
            return Conclusion::Event;
        };
        if ending.is_none() {
            match (pair.fate(), due) {
                (Fate::Relaying, _) if discards_too_long => {
                    pair.cut(pool);
                    self.set_cause(Cause::HalfCloseTimeout);
                }
                (Fate::Relaying, Some((at, cause))) if now >= at && trigger == Trigger::Alarm => {
                    pair.cut(pool);
                    self.set_cause(cause);
                }
                (Fate::Relaying, Some((at, _))) => return Conclusion::Until(at),
                (Fate::Relaying, None) => return Conclusion::Event,
                // Outside the drain an orderly close does not wait: the kernel delivers the rest.
                (Fate::Done(End::Fin), _) if drain.is_none() => return Conclusion::Over,
                (Fate::Done(_) | Fate::OneSideDead, _) => {}
            }
            self.last_progress = now;
        }
        self.conclude_ending(trigger, settings.reset_grace, now)
    }

    /// Asks what is still to be acknowledged, and whether it is worth waiting for. Begins the ending if there is none.
    fn conclude_ending(&mut self, trigger: Trigger, grace: ResetGrace, now: Time) -> Conclusion {
        let Stage::Relaying(pair, ending) = &mut self.stage else {
            self.stage.unexpected("ending");
            return Conclusion::Event;
        };
        let ending = ending.get_or_insert_with(|| Ending::new(now));
        let unacked = Peer::BOTH.map(|peer| pair.unacked(peer));
        if ending.acknowledged(unacked.iter().sum()) {
            self.last_progress = now;
        }
        let grace = match grace {
            ResetGrace::Fixed(grace) => grace,
            // Asked each time: the time-out doubles with each loss.
            ResetGrace::Auto => {
                let pending = Peer::BOTH.into_iter().filter(|peer| unacked[*peer as usize] > 0);
                auto_grace(pending.filter_map(|peer| pair.retransmission_timeout(peer)).max())
            }
        };
        let flushed = matches!(pair.fate(), Fate::Done(_));
        match ending.next(flushed, self.last_progress, grace, now) {
            Next::Over => Conclusion::Over,
            Next::Wait(at) if now >= at && trigger == Trigger::Alarm => Conclusion::Over,
            Next::Wait(at) => Conclusion::Until(at),
        }
    }

    /// Bytes were thrown away. Has that gone on for the half-close time? Throwing away is progress, so that a long upload
    /// gets the answer that came before its end, but a client that never reads that answer must not go on for ever.
    fn discards_too_long(&mut self, settings: &Route, now: Time) -> bool {
        let since = self.discards_since.get_or_insert_with(|| Moment::after(now)).time();
        settings.half_close_timeout.is_some_and(|most| now >= since + most)
    }

    /// When the session has lasted long enough, or has been inactive for too long, and what that is called.
    fn due_at(&self, settings: &Route, drain: Option<Drain>) -> Option<(Time, Cause)> {
        let Stage::Relaying(pair, None) = &self.stage else {
            return None;
        };
        let mut due = None;
        let mut consider = |since: Time, wait: Option<Duration>, cause| {
            let at = wait.map(|wait| since + wait);
            if let Some(at) = at.filter(|at| due.is_none_or(|(earliest, _)| *at < earliest)) {
                due = Some((at, cause));
            }
        };
        consider(self.last_progress, settings.idle_timeout, Cause::IdleTimeout);
        let half_close = settings.half_close_timeout.filter(|_| pair.is_half_closed());
        consider(self.last_progress, half_close, Cause::HalfCloseTimeout);
        consider(self.last_progress, drain.and_then(|drain| drain.idle_timeout), Cause::DrainIdle);
        let lifetime = settings.max_lifetime.map(|most| lifetime(self.serial(Peer::Client), most));
        consider(self.began, lifetime, Cause::Lifetime);
        due
    }

    /// When it will have been inactive for so long, if it relays.
    pub(in crate::reactor) fn inactive_at(&self, wait: Duration) -> Option<Time> {
        matches!(self.stage, Stage::Relaying(_, None)).then(|| self.last_progress + wait)
    }
}

/// How long the session whose client has this serial may last: 90 to 100 % of the most. Serials are spread evenly over that.
fn lifetime(serial: u32, most: Duration) -> Duration {
    // Multiplicative hashing, with 2³² divided by the golden ratio (Knuth, TAOCP vol. 3, 6.4).
    let spread = serial.wrapping_mul(0x9e37_79b9);
    let tenth = (most / 10).as_nanos();
    most - Duration::from_nanos(u64::try_from((tenth * u128::from(spread)) >> 32).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_began_together_do_not_end_together() {
        let most = Duration::from_secs(1000);
        let mut ends = [0; 10];
        for serial in (1..).step_by(2).take(100) {
            let early = (most - lifetime(serial, most)).as_secs();
            ends[usize::try_from(early / 10).unwrap()] += 1;
        }
        assert!(ends.iter().all(|count| (5..=15).contains(count)), "{ends:?}");
        assert!(lifetime(u32::MAX, Duration::MAX) >= Duration::MAX / 10 * 9);
    }
}
