//! When the relay may ask for a pipe.

use std::time::Duration;

use rustix::io::Errno;

use super::Shadow;

/// A pipe that there was not is asked for again after so long at first, doubling each time up to so long.
const PIPE_PAUSE_LEAST: Duration = Duration::from_secs(1);
const PIPE_PAUSE_MOST: Duration = Duration::from_secs(60);

impl Shadow {
    pub(crate) fn piped(&mut self, result: Result<(), Errno>) {
        if let Some(at) = self.pipe_wait.filter(|at| self.now < *at) {
            self.violation(format!("a pipe is asked for {:?} before its time", at.since(self.now)));
        }
        (self.pipe_asked, self.pipe_missed, self.pipe_wait) = (true, 0, None);
        self.pipe_failures = if result.is_ok() { 0 } else { self.pipe_failures + 1 };
        if result.is_err() {
            let pause = PIPE_PAUSE_LEAST * 2_u32.saturating_pow(self.pipe_failures - 1);
            self.pipe_wait = Some(self.now + pause.min(PIPE_PAUSE_MOST));
        }
    }
}
