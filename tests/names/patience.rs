//! The clock of the tests: every wait has a limit, and no wait is a sleep.

use std::time::{Duration, Instant};

/// The longest a test waits for anything before it fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Looks until there is something to see.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
        pause(Duration::from_millis(1));
    }
}

/// Lets a while pass in which something is *not* to happen. There is no event to wait for then.
pub(crate) fn a_while() {
    pause(Duration::from_millis(300));
}

/// Lets `--resolve-ttl 1ms` pass, so that an answer is old.
pub(crate) fn age() {
    pause(Duration::from_millis(5));
}

/// How long something took.
pub(crate) fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let began = now();
    (act(), began.elapsed())
}

#[expect(clippy::disallowed_methods, reason = "a test has no turn to take the time from")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the one place where a test sleeps: between two looks, or to observe")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
