//! What the loop answers to a reload, and how an answer gets back.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::address::Address;
use crate::error::Error;

/// What a reload did. Its `Display` is the log line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reloaded {
    /// Routes that are as they were.
    pub kept: usize,
    /// Routes with the listener they had and other settings.
    pub changed: usize,
    /// Routes with a new listener.
    pub added: usize,
    /// Routes whose listener closes.
    pub removed: usize,
    /// Sessions that go on under the settings of a route that has changed or is removed.
    pub sessions: usize,
    /// Settings that differ and stay as they are until a restart, by the names of their options.
    pub needs_restart: Vec<&'static str>,
    /// The addresses it listens on now, one for each route.
    pub local_addrs: Vec<Address>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kept, changed, added, removed, sessions, needs_restart, local_addrs: _ } = self;
        let routes = if *kept == 1 { "route" } else { "routes" };
        write!(f, "reloaded: {kept} {routes} kept, ")?;
        if *changed > 0 {
            write!(f, "{changed} changed, ")?;
        }
        write!(f, "{added} added, {removed} removed; ")?;
        match sessions {
            1 => write!(f, "1 session continues under old settings")?,
            _ => write!(f, "{sessions} sessions continue under old settings")?,
        }
        match &needs_restart[..] {
            [] => Ok(()),
            [one] => write!(f, "; {one} needs a restart"),
            several => write!(f, "; {} need a restart", several.join(", ")),
        }
    }
}

/// Carries the answer back. If it is dropped without one, [`Error::Ended`] is the answer.
#[derive(Debug)]
pub struct Reply<T = Reloaded>(SyncSender<Result<T, Error>>);

/// Where the answer arrives.
#[derive(Debug)]
pub struct Pending<T = Reloaded>(Receiver<Result<T, Error>>);

impl<T> Reply<T> {
    /// A reply, and where it arrives.
    pub fn new() -> (Self, Pending<T>) {
        let (tx, rx) = sync_channel(1);
        (Self(tx), Pending(rx))
    }

    /// Answers. Never blocks.
    pub fn send(self, answer: Result<T, Error>) {
        // Nobody waits for it any more, and there is room for one.
        let _ = self.0.try_send(answer);
    }
}

impl<T> Pending<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The answer's; [`Error::Ended`] if there will be none.
    pub fn wait(self) -> Result<T, Error> {
        self.0.recv().unwrap_or(Err(Error::Ended))
    }

    /// Waits for the answer for so long. None: it has not come.
    pub fn wait_for(&self, limit: Duration) -> Option<Result<T, Error>> {
        match self.0.recv_timeout(limit) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Disconnected) => Some(Err(Error::Ended)),
            Err(RecvTimeoutError::Timeout) => None,
        }
    }

    /// The answer, if it has come or will never come.
    pub fn answer(&self) -> Option<Result<T, Error>> {
        self.wait_for(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_line_reads_as_documented() {
        let reloaded = Reloaded { kept: 2, added: 1, removed: 1, sessions: 14, ..Reloaded::default() };
        let line = "reloaded: 2 routes kept, 1 added, 1 removed; 14 sessions continue under old settings";
        assert_eq!(reloaded.to_string(), line);
        let changed = Reloaded { changed: 3, kept: 1, sessions: 1, needs_restart: vec!["splice"], ..reloaded };
        let line = "reloaded: 1 route kept, 3 changed, 1 added, 1 removed; 1 session continues under old settings; \
                    splice needs a restart";
        assert_eq!(changed.to_string(), line);
        let restart = Reloaded { needs_restart: vec!["buffer-size", "splice"], ..changed };
        assert!(restart.to_string().ends_with("settings; buffer-size, splice need a restart"));
    }

    #[test]
    fn an_answer_arrives_and_a_reply_that_is_dropped_is_an_answer() {
        let (reply, pending) = Reply::new();
        assert!(pending.answer().is_none());
        reply.send(Ok(Reloaded::default()));
        assert!(matches!(pending.answer(), Some(Ok(_))));
        let (reply, pending) = Reply::<Reloaded>::new();
        drop(reply);
        assert!(matches!(pending.answer(), Some(Err(Error::Ended))));
        assert!(matches!(pending.wait(), Err(Error::Ended)));
    }
}
