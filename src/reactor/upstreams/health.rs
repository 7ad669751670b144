//! Whether an endpoint is worth trying. Knows no socket and no log.
//!
//! ```text
//!   up ── a connect fails ──► down, 1 s doubling to 60 s ──► its time is up: one session tries it
//!    ▲                          ▲                                │
//!    └──────────────────────────┴──── it fails ◄─────────────────┤
//!                      it answers ◄──────────────────────────────┘
//! ```
//! Being down only moves an endpoint behind those that are not. So there is no special case for "all are down".

use std::time::Duration;

use fastrand::Rng;

use super::super::backoff::Backoff;
use crate::net::Time;

/// How long an endpoint is down.
const DOWN: Backoff = Backoff { floor: Duration::from_secs(1), ceiling: Duration::from_secs(60), spread: 0.5 };

/// How long an endpoint that has not answered may take while another is untried: time for a SYN to be answered. It
/// doubles with each failure, so that a retransmitted SYN is answered in time too.
const QUICK: Duration = Duration::from_millis(250);

/// The most that becomes of [`QUICK`].
const QUICK_MOST: Duration = Duration::from_secs(1);

/// What the last connections to an endpoint have shown.
#[derive(Debug, Default)]
pub(in crate::reactor) struct Health {
    /// It is down until then.
    down_until: Time,
    /// Failures since it last answered.
    failures: u8,
    /// The last connection was established.
    answered: bool,
    /// The serial of the connection that tries it again while it counts as down for all others; 0 if there is none.
    probe: u32,
}

impl Health {
    /// Do others come first?
    pub(in crate::reactor) fn is_down(&self, now: Time) -> bool {
        now < self.down_until
    }

    /// The most a connection may take while another address is untried; None where that is not limited.
    pub(in crate::reactor) fn quick(&self) -> Option<Duration> {
        let doubled = QUICK * 2_u32.pow(u32::from(self.failures.min(2)));
        (!self.answered).then_some(doubled.min(QUICK_MOST))
    }

    /// The connection with this serial begins, and has its time until then. If the endpoint's time is up, it is down for
    /// everybody else until then: one session tries it.
    pub(in crate::reactor) fn begins(&mut self, serial: u32, until: Time, now: Time) {
        if self.failures > 0 && !self.is_down(now) {
            (self.down_until, self.probe) = (until, serial);
        }
    }

    /// The connection with this serial was established. Was the endpoint down before?
    pub(in crate::reactor) fn succeeds(&mut self) -> bool {
        let before = std::mem::replace(self, Self { answered: true, ..Self::default() });
        before.failures > 0
    }

    /// The connection with this serial failed. If that puts an endpoint down that was up: for how long?
    ///
    /// Many connections that began before it was down fail one after the other. They count as one.
    pub(in crate::reactor) fn fails(&mut self, serial: u32, now: Time, rng: &mut Rng) -> Option<Duration> {
        self.answered = false;
        if self.is_down(now) && serial != self.probe {
            return None;
        }
        let pause = DOWN.pause(self.failures.into(), rng);
        (self.down_until, self.probe) = (now + pause, 0);
        self.failures = self.failures.saturating_add(1);
        (self.failures == 1).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::START + Duration::from_millis(millis)
    }

    #[test]
    fn each_failed_probe_doubles_the_time_it_is_down() {
        let (mut health, mut rng) = (Health::default(), Rng::with_seed(1));
        let (mut now, mut serial) = (at(0), 1);
        for (least, most) in [(500, 1500), (1000, 3000), (2000, 6000)] {
            health.begins(serial, now + QUICK_MOST, now);
            let told = health.fails(serial, now, &mut rng);
            assert_eq!(told.is_some(), serial == 1, "only the first is news");
            let down = health.down_until.since(now).as_millis();
            assert!((least..=most).contains(&down), "{down}");
            assert!(health.is_down(now));
            (now, serial) = (health.down_until, serial + 1);
            assert!(!health.is_down(now));
        }
        for _ in 0..300 {
            now = health.down_until;
            health.fails(serial, now, &mut rng);
        }
        assert!(health.down_until.since(now) <= Duration::from_secs(90));
    }

    #[test]
    fn failures_of_connections_that_began_together_count_once() {
        let (mut health, mut rng) = (Health::default(), Rng::with_seed(1));
        (1..=100).for_each(|serial| health.begins(serial, at(250), at(0)));
        let told: Vec<_> = (1..=100).filter_map(|serial| health.fails(serial, at(5), &mut rng)).collect();
        assert_eq!((told.len(), health.failures), (1, 1));
    }

    #[test]
    fn one_session_tries_it_again_and_the_others_do_not_count() {
        let (mut health, mut rng) = (Health::default(), Rng::with_seed(1));
        health.fails(1, at(0), &mut rng);
        let again = health.down_until;
        health.begins(2, again + QUICK_MOST, again);
        assert!(health.is_down(again), "the others go elsewhere meanwhile");
        health.begins(3, again + QUICK_MOST, again);
        assert_eq!((health.fails(3, again, &mut rng), health.failures), (None, 1));
        health.fails(2, again, &mut rng);
        assert_eq!(health.failures, 2);
    }

    #[test]
    fn an_answer_clears_everything_and_is_news_if_it_was_down() {
        let (mut health, mut rng) = (Health::default(), Rng::with_seed(1));
        assert!(!health.succeeds());
        health.fails(1, at(0), &mut rng);
        assert!(health.is_down(at(1)) && health.succeeds() && !health.is_down(at(1)));
        assert_eq!((health.quick(), health.fails(2, at(2), &mut rng).is_some()), (None, true));
    }

    #[test]
    fn time_is_short_only_for_those_that_have_not_answered() {
        let (mut health, mut rng) = (Health::default(), Rng::with_seed(1));
        let mut millis = vec![health.quick().unwrap().as_millis()];
        for serial in 1..=4 {
            health.fails(serial, health.down_until, &mut rng);
            millis.push(health.quick().unwrap().as_millis());
        }
        assert_eq!(millis, [250, 500, 1000, 1000, 1000]);
        health.succeeds();
        assert_eq!(health.quick(), None);
    }
}
