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
/// Accepting that stopped for any reason but WouldBlock has spent the backlog's edge: `waiting` remembers it.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Clients may be waiting in the kernel's queue.
    waiting: bool,
    paused: Option<Time>,
    /// Pauses since the last client; one shortage, however long.
    pauses: u32,
    skips: u32,
}

/// What to make of an error of accept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The queue is empty.
    Empty,
    /// That client is lost, try the next.
    Skip,
    /// Accepting pauses for this long; `news` if it did not before.
    Pause { pause: Duration, news: bool },
    /// The listener is dead.
    Dead,
}

impl Gate {
    /// The listener has an event.
    pub(super) const fn knock(&mut self) {
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

    /// A client came through. Was that the end of a shortage, and of how many pauses?
    pub(super) const fn passed(&mut self) -> Option<u32> {
        let pauses = self.pauses;
        (self.pauses, self.skips) = (0, 0);
        if pauses > 0 { Some(pauses) } else { None }
    }

    /// accept(2) gave an error.
    pub(super) fn failed(&mut self, error: &io::Error, now: Time, rng: &mut Rng) -> Verdict {
        match error.kind() {
            ErrorKind::WouldBlock => {
                self.waiting = false;
                return Verdict::Empty;
            }
            ErrorKind::Interrupted => return Verdict::Skip,
            _ => {}
        }
        match Errno::from_io_error(error) {
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK) => return Verdict::Dead,
            Some(errno) if is_one_clients(errno) => {
                self.skips += 1;
                if self.skips < SKIPS_MAX {
                    return Verdict::Skip;
                }
            }
            Some(_) | None => {}
        }
        self.skips = 0;
        self.pause(now, rng)
    }

    /// Closes the gate for a while.
    fn pause(&mut self, now: Time, rng: &mut Rng) -> Verdict {
        // Clients stay in the kernel's queue and raise no further edge: the alarm brings us back.
        let pause = BACKOFF.pause(self.pauses, rng);
        let news = self.pauses == 0;
        self.pauses = self.pauses.saturating_add(1);
        self.paused = Some(now + pause);
        Verdict::Pause { pause, news }
    }
}

/// Does this error concern only the client that was about to be accepted (`accept(2)`, "Error handling")? EPERM is a
/// firewall's.
const fn is_one_clients(errno: Errno) -> bool {
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

/// What an operator can do about it.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => "too many open files (raise `ulimit -n`)",
        Some(Errno::NFILE) => "too many open files on this machine (raise `sysctl fs.file-max`)",
        Some(_) | None if is_shortage(error) => "out of memory (free some, or lower `--max-sessions`)",
        Some(_) | None => "unexpected error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        gate: Gate,
        rng: Rng,
    }

    fn bench() -> Bench {
        let mut gate = Gate::default();
        gate.knock();
        Bench { gate, rng: Rng::with_seed(1) }
    }

    impl Bench {
        fn failed(&mut self, errno: Errno) -> Verdict {
            self.gate.failed(&errno.into(), Time::START, &mut self.rng)
        }

        /// The pause in milliseconds, and whether it was news.
        fn paused(&mut self, errno: Errno) -> (u128, bool) {
            let Verdict::Pause { pause, news } = self.failed(errno) else { panic!("{errno:?} should be a pause") };
            assert_eq!(self.gate.paused(), Some(Time::START + pause));
            assert!(!self.gate.is_open());
            (pause.as_millis(), news)
        }
    }

    #[test]
    fn it_is_open_from_an_event_until_the_queue_is_empty() {
        assert!(!Gate::default().is_open());
        let mut bench = bench();
        assert!(bench.gate.is_open());
        assert_eq!(bench.gate.passed(), None);
        assert!(bench.gate.is_open());
        assert_eq!(bench.failed(Errno::AGAIN), Verdict::Empty);
        assert!(!bench.gate.is_open());
    }

    #[test]
    fn a_shortage_pauses_longer_and_longer_and_is_news_once() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::IO] {
            let mut bench = bench();
            for (failures, expected) in [10, 20, 40, 80, 160, 320, 640, 1000, 1000].into_iter().enumerate() {
                let (millis, news) = bench.paused(errno);
                assert!((expected * 3 / 4 - 1..=expected * 5 / 4).contains(&millis), "{errno:?} {failures}: {millis}");
                assert_eq!(news, failures == 0);
                bench.gate.reopen();
                assert!(bench.gate.is_open(), "the backlog's edge is spent, nobody will knock again");
            }
            assert_eq!(bench.gate.passed(), Some(9));
            assert_eq!(bench.gate.passed(), None);
            let (millis, news) = bench.paused(errno);
            assert!(news && millis <= 12);
        }
    }

    #[test]
    fn a_lost_client_is_skipped_and_many_in_a_row_are_a_shortage() {
        for errno in [Errno::CONNABORTED, Errno::PROTO, Errno::PERM, Errno::NETDOWN, Errno::TIMEDOUT] {
            let mut bench = bench();
            for _ in 0..3 {
                for _ in 0..SKIPS_MAX - 1 {
                    assert_eq!(bench.failed(errno), Verdict::Skip);
                }
                assert_eq!(bench.gate.passed(), None);
            }
            for _ in 0..SKIPS_MAX - 1 {
                assert_eq!(bench.failed(errno), Verdict::Skip);
            }
            bench.paused(errno);
        }
    }

    #[test]
    fn an_interrupted_call_costs_nothing() {
        let mut bench = bench();
        for _ in 0..100 {
            assert_eq!(bench.failed(Errno::INTR), Verdict::Skip);
        }
        assert!(bench.gate.is_open());
    }

    #[test]
    fn a_listener_that_is_none_is_dead() {
        for errno in [Errno::BADF, Errno::INVAL, Errno::NOTSOCK] {
            assert_eq!(bench().failed(errno), Verdict::Dead);
        }
    }

    #[test]
    fn the_remedy_names_what_to_raise() {
        for (errno, word) in
            [(Errno::MFILE, "ulimit -n"), (Errno::NFILE, "fs.file-max"), (Errno::NOMEM, "memory"), (Errno::IO, "error")]
        {
            assert!(remedy(&errno.into()).contains(word));
        }
    }
}
