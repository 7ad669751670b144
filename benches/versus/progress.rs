//! How far the run is and how long it will take. On a terminal one line is overwritten; elsewhere each scenario has a
//! line.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::Instant;

use crate::clock::now;

pub(crate) struct Progress {
    begin: Instant,
    done: usize,
    all: usize,
    last: String,
    is_terminal: bool,
}

impl Progress {
    pub(crate) fn of(all: usize) -> Self {
        Self { begin: now(), done: 0, all, last: String::new(), is_terminal: stderr().is_terminal() }
    }

    /// A step of a part begins.
    pub(crate) fn begin(&mut self, part: &str, step: &str) {
        let mut stderr = stderr().lock();
        if self.is_terminal {
            let left =
                self.left().map_or(String::new(), |seconds| format!(", {}:{:02} left", seconds / 60, seconds % 60));
            let _ = write!(stderr, "\r\x1b[K{part} · {step} ({} of {}{left})", self.done + 1, self.all);
        } else if self.last != part {
            let _ = writeln!(stderr, "{part} ({} of {})", self.done + 1, self.all);
            part.clone_into(&mut self.last);
        }
        let _ = stderr.flush();
        self.done += 1;
    }

    /// Prints a line that stays.
    pub(crate) fn say(&self, line: &str) {
        let wipe = if self.is_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(stderr(), "{wipe}{line}");
    }

    pub(crate) fn end(&self) {
        let seconds = (now() - self.begin).as_secs();
        self.say(&format!("{} runs in {}:{:02}", self.done, seconds / 60, seconds % 60));
    }

    fn left(&self) -> Option<u64> {
        let done = u32::try_from(self.done).ok().filter(|&done| done > 0)?;
        let all = u32::try_from(self.all.saturating_sub(self.done)).ok()?;
        Some(((now() - self.begin) / done * all).as_secs())
    }
}
