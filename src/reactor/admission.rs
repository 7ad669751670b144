//! A limit of sessions, the process's or a route's, and when to say that it is met.

use std::time::Duration;

use crate::net::Time;

/// Once the limit has not been met for so long, meeting it is said again.
const QUIET: Duration = Duration::from_secs(60);

/// The most sessions at a time.
///
/// ```text
///             as many sessions as there may be            room, and every queue seen empty
///   Below ──────────────────────────────────────► Met ────────────────────────────────────► Below
///             said, unless it was met within the last minute
/// ```
/// A session that ends while clients wait makes room for the next of them, and changes nothing here. A relay that stays
/// around its limit for hours says so once.
#[derive(Debug)]
pub(super) struct Admission {
    limit: usize,
    is_met: bool,
    /// When the limit was no longer met, if it ever was.
    left_at: Option<Time>,
}

impl Admission {
    /// At most this many sessions.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, is_met: false, left_at: None }
    }

    /// The most sessions at a time.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// At most this many sessions from now on. Meeting another limit is said anew.
    pub(super) fn set_limit(&mut self, limit: usize) {
        if limit != self.limit {
            *self = Self::new(limit);
        }
    }

    /// Is there room for another session?
    pub(super) fn has_room(&self, sessions: usize) -> bool {
        sessions < self.limit
    }

    /// There are this many sessions now. Is it to be said that the limit is met?
    pub(super) fn note_sessions(&mut self, sessions: usize, now: Time) -> bool {
        if self.has_room(sessions) || std::mem::replace(&mut self.is_met, true) {
            return false;
        }
        self.left_at.is_none_or(|left| now >= left + QUIET)
    }

    /// There is room, and no client waits.
    pub(super) fn note_empty(&mut self, now: Time) {
        if std::mem::take(&mut self.is_met) {
            self.left_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Time {
        Time::START + Duration::from_secs(secs)
    }

    #[test]
    fn the_limit_is_said_once_while_clients_wait_for_room() {
        let mut admission = Admission::new(2);
        assert!(!admission.note_sessions(1, at(0)));
        assert!(admission.note_sessions(2, at(0)));
        // One ends, and the next comes at once.
        for hour in 0..10 {
            assert!(admission.has_room(1) && !admission.has_room(2));
            assert!(!admission.note_sessions(2, at(hour * 3600)));
        }
    }

    #[test]
    fn it_is_said_again_after_a_minute_with_room_and_no_client_waiting() {
        let mut admission = Admission::new(2);
        assert!(admission.note_sessions(2, at(0)));
        admission.note_empty(at(10));
        admission.note_empty(at(69));
        assert!(admission.note_sessions(2, at(70)));
        assert!(!admission.note_sessions(2, at(71)));
    }

    #[test]
    fn a_relay_that_stays_around_its_limit_says_so_once() {
        let mut admission = Admission::new(2);
        assert!(admission.note_sessions(2, at(0)));
        for minute in 1..600 {
            admission.note_empty(at(minute * 60));
            assert!(!admission.note_sessions(2, at(minute * 60 + 59)));
        }
    }
}
