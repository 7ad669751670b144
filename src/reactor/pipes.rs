//! Opening pipes to splice through, one at a time, when a flow has asked for one.

use std::io;
use std::num::NonZeroI32;
use std::time::Duration;

use fastrand::Rng;
use log::{debug, info};

use super::backoff::Backoff;
use super::{Net, Reactor};
use crate::net::Time;

/// After a failure. It stays within the process, so no two of them retry in step.
const BACKOFF: Backoff = Backoff { floor: Duration::from_secs(1), ceiling: Duration::from_secs(60), spread: 0.0 };

/// When a pipe may be asked for again.
///
/// That needs no alarm: a flow that wants a pipe copies, and asks each time. While no flow runs, none is missed.
#[derive(Debug, Default)]
pub(super) struct PipeRetry {
    /// Opening one failed. Not before then.
    at: Option<Time>,
    /// Failures since the last success.
    failures: u32,
    /// It was logged that splice does not work here.
    told_of_splice: bool,
}

impl PipeRetry {
    /// May one be asked for now?
    fn is_due(&self, now: Time) -> bool {
        self.at.is_none_or(|at| now >= at)
    }

    fn succeeded(&mut self) {
        (self.at, self.failures) = (None, 0);
    }

    fn failed(&mut self, now: Time, rng: &mut Rng) {
        self.at = Some(now + BACKOFF.pause(self.failures, rng));
        self.failures = self.failures.saturating_add(1);
    }

    /// A session has ended. What was short may be there again, so the next request is tried at once.
    fn session_ended(&mut self) {
        self.at = None;
    }
}

impl<N: Net> Reactor<N> {
    /// If a flow asked for a pipe, opens one for the next that asks. Failure only means copying, so it is logged at
    /// debug. The next request is tried after a second, doubling to a minute, or when a session has ended.
    pub(super) fn open_pipe(&mut self) {
        if self.table.len() > 0 && self.pool.take_pipe_request() && self.pipe_retry.is_due(self.now) {
            match self.net.pipe() {
                Ok(pipe) => {
                    self.pool.add_pipe(pipe);
                    self.pipe_retry.succeeded();
                }
                Err(error) => {
                    debug!("no pipe to splice through: {error}");
                    self.pipe_retry.failed(self.now, &mut self.rng);
                }
            }
        }
    }

    /// splice(2) gave an error that is not the stream's: a sandbox forbids it, or memory is short. Logged once.
    pub(super) fn note_splice_error(&mut self, errno: NonZeroI32) {
        if !std::mem::replace(&mut self.pipe_retry.told_of_splice, true) {
            let error = io::Error::from_raw_os_error(errno.get());
            info!("splice does not work here ({error}): bytes are copied");
        }
    }

    /// Sessions have ended: pipes may be had again, and without sessions none is needed.
    pub(super) fn reconsider_pipes(&mut self) {
        self.pipe_retry.session_ended();
        if self.table.len() == 0 {
            self.pool.close_spare_pipes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_asked_for_again_after_a_second_doubling_to_a_minute() {
        let (mut retry, mut rng) = (PipeRetry::default(), Rng::with_seed(1));
        let mut now = Time::START;
        for _ in 0..2 {
            for secs in [1, 2, 4, 8, 16, 32, 60, 60] {
                assert!(retry.is_due(now));
                retry.failed(now, &mut rng);
                let due = now + Duration::from_secs(secs);
                let just_before = Time::from_nanos(due.as_nanos() - 1);
                assert!(!retry.is_due(just_before) && retry.is_due(due), "{secs}");
                now = due;
            }
            retry.succeeded();
            assert!(retry.is_due(now));
        }
    }

    #[test]
    fn a_session_that_ends_lets_the_next_request_try_at_once_and_the_pauses_go_on_growing() {
        let (mut retry, mut rng) = (PipeRetry::default(), Rng::with_seed(1));
        retry.failed(Time::START, &mut rng);
        assert!(!retry.is_due(Time::START));
        retry.session_ended();
        assert!(retry.is_due(Time::START));
        retry.failed(Time::START, &mut rng);
        assert!(!retry.is_due(Time::START + Duration::from_secs(1)));
        assert!(retry.is_due(Time::START + Duration::from_secs(2)));
    }
}
