//! The bench's clock, its deadlines, and the request to stop.

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

#[expect(clippy::disallowed_methods, reason = "another process is polled, and it cannot wake this one")]
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}

/// Nanoseconds on a clock that two processes share.
pub(crate) fn shared_nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The first signal ends the run in order and kills its relays. A second one ends this process at once.
pub(crate) fn install_stop_handler() -> std::io::Result<()> {
    let stop = STOP.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(stop))?;
        signal_hook::flag::register(signal, Arc::clone(stop))?;
    }
    Ok(())
}

pub(crate) fn stop_requested() -> bool {
    STOP.get().is_some_and(|stop| stop.load(Ordering::Relaxed))
}

/// A point in time by which something must have happened.
pub(crate) struct Deadline {
    until: Instant,
}

impl Deadline {
    pub(crate) fn after(time: Duration) -> Self {
        Self { until: now() + time }
    }

    /// Fails when the time is over or a stop was requested. `what` is the thing waited for.
    pub(crate) fn check(&self, what: impl Display) -> Outcome<()> {
        match () {
            () if stop_requested() => failed("interrupted"),
            () if now() >= self.until => failed(format!("timed out: {what}")),
            () => Ok(()),
        }
    }
}
