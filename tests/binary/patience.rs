//! The clock of the tests: every wait has a limit, and no wait is a sleep.

use std::time::{Duration, Instant};

/// The longest a test waits for anything before it fails. Nothing takes this long but on a machine that is very busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Long enough for a loop that spins, or a client that is let in by mistake, to show.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);

/// Looks until there is something to see.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        let waited = began.elapsed();
        assert!(waited < LIMIT, "waited in vain for {what}");
        // Most of what is waited for is there at once.
        if waited < Duration::from_millis(2) { std::thread::yield_now() } else { pause(Duration::from_millis(1)) }
    }
}

/// Lets a while pass in which something is *not* to happen. There is no event to wait for then.
pub(crate) fn a_while() {
    pause(A_WHILE);
}

/// How long something took.
pub(crate) fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let began = now();
    (act(), began.elapsed())
}

/// Says that a test checks nothing here, for this reason. `cargo test -- --nocapture` shows it.
#[expect(clippy::print_stderr, reason = "the test harness is who reads this")]
pub(crate) fn skipped(reason: &str) {
    eprintln!("skipped: {reason}");
}

#[expect(clippy::disallowed_methods, reason = "a test has no turn to take the time from")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the one place where a test sleeps: between two looks, or to observe")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
