//! How long to wait before trying again: doubling, bounded, with jitter so that processes do not retry in step.

use std::time::Duration;

use fastrand::Rng;

/// Pauses that double from `floor` to `ceiling`, each moved by at most `spread` of itself either way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    pub(super) floor: Duration,
    pub(super) ceiling: Duration,
    /// Between 0 and 1.
    pub(super) spread: f64,
}

impl Backoff {
    /// The pause after `failures` failures before this one.
    pub(super) fn pause(&self, failures: u32, rng: &mut Rng) -> Duration {
        let doubled = self.floor.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        let jitter = (rng.f64() * 2.0 - 1.0) * self.spread;
        doubled.min(self.ceiling).mul_f64(1.0 + jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { floor: Duration::from_millis(10), ceiling: Duration::from_secs(1), spread: 0.25 };

    #[test]
    fn pauses_double_up_to_the_ceiling() {
        let steady = Backoff { spread: 0.0, ..BACKOFF };
        let millis: Vec<_> =
            (0..9).map(|failures| steady.pause(failures, &mut Rng::with_seed(1)).as_millis()).collect();
        assert_eq!(millis, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        for failures in [31, 32, 33, u32::MAX] {
            assert_eq!(steady.pause(failures, &mut Rng::with_seed(1)), Duration::from_secs(1));
        }
    }

    #[test]
    fn pauses_spread_both_ways_and_no_further() {
        let mut rng = Rng::with_seed(7);
        let pauses: Vec<_> = (0..1000).map(|_| BACKOFF.pause(0, &mut rng)).collect();
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!((Duration::from_micros(7500)..Duration::from_micros(7600)).contains(least), "{least:?}");
        assert!((Duration::from_micros(12400)..=Duration::from_micros(12500)).contains(most), "{most:?}");
    }
}
