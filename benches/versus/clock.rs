//! The bench's time, its patience, and whether somebody lost theirs.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::{Outcome, failed};

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "between two looks at another process, which has no way to wake us")]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

/// Nanoseconds on a clock that two processes share.
pub(crate) fn shared_nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The first request to stop ends the run in order, with every relay ended; a second one does not wait.
pub(crate) fn listen_for_a_stop() -> std::io::Result<()> {
    let stop = STOP.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(stop))?;
        signal_hook::flag::register(signal, Arc::clone(stop))?;
    }
    Ok(())
}

pub(crate) fn is_stopped() -> bool {
    STOP.get().is_some_and(|stop| stop.load(Ordering::Relaxed))
}

/// How long something may take, with a word for what it is.
pub(crate) struct Patience {
    until: Instant,
}

impl Patience {
    pub(crate) fn of(time: Duration) -> Self {
        Self { until: now() + time }
    }

    /// Fails when the time is over or somebody wants the bench to end.
    pub(crate) fn check(&self, what: impl Display) -> Outcome<()> {
        match () {
            () if is_stopped() => failed("interrupted"),
            () if now() >= self.until => failed(format!("no end of {what}")),
            () => Ok(()),
        }
    }
}
