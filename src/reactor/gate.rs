//! May accept be called now, and when to try again?

use std::io;
use std::time::Duration;

use fastrand::Rng;

use super::backoff::Backoff;
use crate::net::Time;
use crate::net::errno::{AcceptError, on_accept};

/// How long to leave accept alone when it gives nothing but errors.
const BACKOFF: Backoff = Backoff { floor: Duration::from_millis(10), ceiling: Duration::from_secs(1), spread: 0.25 };

/// This many clients lost in a row, with no client accepted and no empty queue between, are a shortage of something.
const SKIPS_MAX: u32 = 16;

/// The one pause of accepting.
///
/// ```text
///             a shortage, or 16 clients lost in a row     the alarm, or a session ended
///   Open ──────────────────────────────────► Paused ────────────────────────────────────► Open
/// ```
#[derive(Debug, Default)]
pub(super) struct Gate {
    paused: Option<Time>,
    /// Pauses since the last client.
    pauses: u32,
    /// Clients lost in a row.
    skips: u32,
}

/// What to do about an error of accept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The queue is empty: wait for an event.
    Empty,
    /// Try the next client.
    Skip,
    /// Leave accept alone for this long. Clients stay in the kernel's queue and raise no further edge.
    Pause(Duration),
    /// The listener is dead.
    Dead,
}

impl Gate {
    /// Is accepting not paused?
    pub(super) fn is_open(&self) -> bool {
        self.paused.is_none()
    }

    /// When the pause is over.
    pub(super) fn paused(&self) -> Option<Time> {
        self.paused
    }

    /// The pause is over, or what was short may be there again.
    pub(super) fn resume(&mut self) {
        self.paused = None;
    }

    /// A client was accepted.
    pub(super) fn accepted(&mut self) {
        (self.pauses, self.skips) = (0, 0);
    }

    /// accept(2) gave an error.
    pub(super) fn failed(&mut self, error: &io::Error, now: Time, rng: &mut Rng) -> Decision {
        match on_accept(error) {
            AcceptError::Empty => {
                // Clients that are lost one by one, hours apart, are no shortage.
                self.skips = 0;
                return Decision::Empty;
            }
            AcceptError::Interrupted => return Decision::Skip,
            AcceptError::Dead => return Decision::Dead,
            AcceptError::ClientGone => {
                self.skips += 1;
                if self.skips < SKIPS_MAX {
                    return Decision::Skip;
                }
            }
            AcceptError::Shortage => {}
        }
        self.skips = 0;
        let pause = BACKOFF.pause(self.pauses, rng);
        self.pauses = self.pauses.saturating_add(1);
        self.paused = Some(now + pause);
        Decision::Pause(pause)
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    struct Rig {
        gate: Gate,
        rng: Rng,
    }

    fn rig() -> Rig {
        Rig { gate: Gate::default(), rng: Rng::with_seed(1) }
    }

    impl Rig {
        fn failed(&mut self, errno: Errno) -> Decision {
            self.gate.failed(&errno.into(), Time::START, &mut self.rng)
        }

        /// The pause in milliseconds.
        fn paused(&mut self, errno: Errno) -> u128 {
            let Decision::Pause(pause) = self.failed(errno) else { panic!("{errno:?} should be a pause") };
            assert_eq!(self.gate.paused(), Some(Time::START + pause));
            assert!(!self.gate.is_open());
            pause.as_millis()
        }
    }

    #[test]
    fn an_empty_queue_is_no_pause() {
        let mut rig = rig();
        assert_eq!(rig.failed(Errno::AGAIN), Decision::Empty);
        assert!(rig.gate.is_open());
    }

    #[test]
    fn a_shortage_pauses_longer_and_longer_until_a_client_is_accepted() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::IO] {
            let mut rig = rig();
            for (failures, expected) in [10, 20, 40, 80, 160, 320, 640, 1000, 1000].into_iter().enumerate() {
                let millis = rig.paused(errno);
                assert!((expected * 3 / 4 - 1..=expected * 5 / 4).contains(&millis), "{errno:?} {failures}: {millis}");
                rig.gate.resume();
                assert!(rig.gate.is_open());
            }
            rig.gate.accepted();
            assert!(rig.paused(errno) <= 12);
        }
    }

    #[test]
    fn a_lost_client_is_skipped_and_many_in_a_row_are_a_shortage() {
        for errno in [Errno::CONNABORTED, Errno::PERM, Errno::CONNRESET] {
            let mut rig = rig();
            for _ in 0..3 {
                for _ in 0..SKIPS_MAX - 1 {
                    assert_eq!(rig.failed(errno), Decision::Skip);
                }
                rig.gate.accepted();
            }
            for _ in 0..SKIPS_MAX - 1 {
                assert_eq!(rig.failed(errno), Decision::Skip);
            }
            rig.paused(errno);
        }
    }

    #[test]
    fn lost_clients_with_an_empty_queue_between_them_are_no_shortage() {
        let mut rig = rig();
        for _ in 0..3 {
            for _ in 0..SKIPS_MAX - 1 {
                assert_eq!(rig.failed(Errno::CONNABORTED), Decision::Skip);
            }
            assert_eq!(rig.failed(Errno::AGAIN), Decision::Empty);
        }
        for _ in 0..SKIPS_MAX - 1 {
            assert_eq!(rig.failed(Errno::INTR), Decision::Skip);
            assert_eq!(rig.failed(Errno::CONNABORTED), Decision::Skip);
        }
        rig.paused(Errno::CONNABORTED);
    }

    #[test]
    fn an_interrupted_call_costs_nothing() {
        let mut rig = rig();
        for _ in 0..100 {
            assert_eq!(rig.failed(Errno::INTR), Decision::Skip);
        }
        assert!(rig.gate.is_open());
    }

    #[test]
    fn a_listener_that_is_none_is_dead() {
        for errno in [Errno::BADF, Errno::INVAL, Errno::NOTSOCK] {
            assert_eq!(rig().failed(errno), Decision::Dead);
        }
    }
}
