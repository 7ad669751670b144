//! May we accept now, and when to ask again?

use std::io::{self, ErrorKind};
use std::time::Duration;

use fastrand::Rng;
use rustix::io::Errno;

use super::backoff::Backoff;
use crate::net::{Time, is_shortage};

/// How long to leave accept alone when it gives nothing but errors.
const BACKOFF: Backoff = Backoff { floor: Duration::from_millis(10), ceiling: Duration::from_secs(1), spread: 0.25 };

/// So many clients lost in a row, without one that could be accepted, are a shortage of something.
const SKIPS_MAX: u32 = 16;

/// What stands between the listener and the sessions.
///
/// ```text
///             an error of no single client's              the alarm, or a session ended
///   Open ──────────────────────────────────► Paused ────────────────────────────────────► Open
/// ```
/// Accepting that stopped for any reason but WouldBlock has slice_used_up the backlog's edge: `waiting` remembers it.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Clients may be waiting in the kernel's queue.
    waiting: bool,
    paused: Option<Time>,
    /// Pauses since the last client.
    pauses: u32,
    /// A shortage was told of, and is not over until the queue was found empty: while it lasts, every client that comes
    /// through is followed by the next pause.
    short: bool,
    skips: u32,
}

/// What to make of an error of accept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AcceptError {
    /// The queue is empty; `is_first` if that ends a shortage.
    Empty { is_first: bool },
    /// That client is lost, try the next.
    Skip,
    /// Accepting pauses for this long; `is_first` if it did not before.
    Pause { pause: Duration, is_first: bool },
    /// The listener is dead.
    Dead,
}

impl Gate {
    /// The listener has an event.
    pub(super) const fn set_waiting(&mut self) {
        self.waiting = true;
    }

    /// Is there a reason to accept, and none against it?
    pub(super) const fn is_open(&self) -> bool {
        self.waiting && self.paused.is_none()
    }

    /// When the pause is over.
    pub(super) const fn paused(&self) -> Option<Time> {
        self.paused
    }

    /// Whatever was short may be there again.
    pub(super) const fn reopen(&mut self) {
        self.paused = None;
    }

    /// A client came through.
    pub(super) const fn accepted(&mut self) {
        (self.pauses, self.skips) = (0, 0);
    }

    /// Something is short. Is that is_first?
    pub(super) const fn note_shortage(&mut self) -> bool {
        !std::mem::replace(&mut self.short, true)
    }

    /// accept(2) gave an error.
    pub(super) fn failed(&mut self, error: &io::Error, now: Time, rng: &mut Rng) -> AcceptError {
        match error.kind() {
            ErrorKind::WouldBlock => {
                self.waiting = false;
                return AcceptError::Empty { is_first: std::mem::take(&mut self.short) };
            }
            ErrorKind::Interrupted => return AcceptError::Skip,
            _ => {}
        }
        match Errno::from_io_error(error) {
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK) => return AcceptError::Dead,
            Some(errno) if is_per_connection(errno) => {
                self.skips += 1;
                if self.skips < SKIPS_MAX {
                    return AcceptError::Skip;
                }
            }
            Some(_) | None => {}
        }
        self.skips = 0;
        self.pause(now, rng)
    }

    /// Closes the gate for a while.
    fn pause(&mut self, now: Time, rng: &mut Rng) -> AcceptError {
        // Clients stay in the kernel's queue and raise no further edge: the alarm brings us back.
        let pause = BACKOFF.pause(self.pauses, rng);
        let is_first = self.note_shortage();
        self.pauses = self.pauses.saturating_add(1);
        self.paused = Some(now + pause);
        AcceptError::Pause { pause, is_first }
    }
}

/// Does this error concern only the client that was about to be accepted (`accept(2)`, "Error handling")? EPERM is a
/// firewall's.
const fn is_per_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNABORTED
            | Errno::PROTO
            | Errno::PERM
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::TIMEDOUT
            | Errno::CONNRESET
    )
}

/// A shortage in words: what is short, what is done about it, and what an operator can do.
pub(super) fn shortage_message(error: &io::Error, measure: &str) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => format!("too many open files; {measure} (raise `ulimit -n`)"),
        Some(Errno::NFILE) => format!("too many open files on this machine; {measure} (raise `sysctl fs.file-max`)"),
        Some(_) | None if is_shortage(error) => format!("{error}; {measure} (free memory, or lower `--max-sessions`)"),
        Some(_) | None => format!("{error}; {measure}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        gate: Gate,
        rng: Rng,
    }

    fn rig() -> Rig {
        let mut gate = Gate::default();
        gate.set_waiting();
        Rig { gate, rng: Rng::with_seed(1) }
    }

    impl Rig {
        fn failed(&mut self, errno: Errno) -> AcceptError {
            self.gate.failed(&errno.into(), Time::START, &mut self.rng)
        }

        /// The pause in milliseconds, and whether it was is_first.
        fn paused(&mut self, errno: Errno) -> (u128, bool) {
            let AcceptError::Pause { pause, is_first } = self.failed(errno) else {
                panic!("{errno:?} should be a pause")
            };
            assert_eq!(self.gate.paused(), Some(Time::START + pause));
            assert!(!self.gate.is_open());
            (pause.as_millis(), is_first)
        }
    }

    #[test]
    fn it_is_open_from_an_event_until_the_queue_is_empty() {
        assert!(!Gate::default().is_open());
        let mut rig = rig();
        assert!(rig.gate.is_open());
        rig.gate.accepted();
        assert!(rig.gate.is_open());
        assert_eq!(rig.failed(Errno::AGAIN), AcceptError::Empty { is_first: false });
        assert!(!rig.gate.is_open());
    }

    #[test]
    fn a_shortage_pauses_longer_and_longer_and_is_news_once() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::IO] {
            let mut rig = rig();
            for (failures, expected) in [10, 20, 40, 80, 160, 320, 640, 1000, 1000].into_iter().enumerate() {
                let (millis, is_first) = rig.paused(errno);
                assert!((expected * 3 / 4 - 1..=expected * 5 / 4).contains(&millis), "{errno:?} {failures}: {millis}");
                assert_eq!(is_first, failures == 0);
                rig.gate.reopen();
                assert!(rig.gate.is_open(), "the backlog's edge is spent, nobody will set_waiting again");
            }
            // One client comes through and the next does not: that is still the same shortage.
            rig.gate.accepted();
            let (millis, is_first) = rig.paused(errno);
            assert!(!is_first && millis <= 12);
            rig.gate.reopen();
            assert_eq!(rig.failed(Errno::AGAIN), AcceptError::Empty { is_first: true });
            assert_eq!(rig.failed(Errno::AGAIN), AcceptError::Empty { is_first: false });
            assert!(rig.paused(errno).1);
        }
    }

    #[test]
    fn a_lost_client_is_skipped_and_many_in_a_row_are_a_shortage() {
        for errno in [
            Errno::CONNABORTED,
            Errno::PROTO,
            Errno::PERM,
            Errno::NETDOWN,
            Errno::NOPROTOOPT,
            Errno::HOSTDOWN,
            Errno::HOSTUNREACH,
            Errno::OPNOTSUPP,
            Errno::NETUNREACH,
            Errno::TIMEDOUT,
            Errno::CONNRESET,
        ] {
            let mut rig = rig();
            for _ in 0..3 {
                for _ in 0..SKIPS_MAX - 1 {
                    assert_eq!(rig.failed(errno), AcceptError::Skip);
                }
                rig.gate.accepted();
            }
            for _ in 0..SKIPS_MAX - 1 {
                assert_eq!(rig.failed(errno), AcceptError::Skip);
            }
            rig.paused(errno);
        }
    }

    #[test]
    fn an_interrupted_call_costs_nothing() {
        let mut rig = rig();
        for _ in 0..100 {
            assert_eq!(rig.failed(Errno::INTR), AcceptError::Skip);
        }
        assert!(rig.gate.is_open());
    }

    #[test]
    fn a_listener_that_is_none_is_dead() {
        for errno in [Errno::BADF, Errno::INVAL, Errno::NOTSOCK] {
            assert_eq!(rig().failed(errno), AcceptError::Dead);
        }
    }

    #[test]
    fn the_complaint_names_what_to_raise() {
        for (errno, words) in [
            (Errno::MFILE, "too many open files; pausing 9ms (raise `ulimit -n`)"),
            (Errno::NFILE, "too many open files on this machine; pausing 9ms (raise `sysctl fs.file-max`)"),
            (Errno::NOMEM, "; pausing 9ms (free memory, or lower `--max-sessions`)"),
            (Errno::IO, "; pausing 9ms"),
        ] {
            assert!(shortage_message(&errno.into(), "pausing 9ms").ends_with(words));
        }
    }
}
