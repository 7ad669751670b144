//! A moment in four bytes.

use std::num::NonZeroU32;

use crate::net::Time;

/// A tick is 2²⁸ nanoseconds, which are 268 ms.
const TICK_BITS: u32 = 28;

/// A moment, rounded up to 268 ms, in four bytes. They last for 36 years after the reactor began; every later moment is
/// taken for the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(NonZeroU32);

impl Moment {
    /// This moment, or up to 268 ms later.
    pub(super) fn after(time: Time) -> Self {
        let ticks = u32::try_from(time.as_nanos() >> TICK_BITS).unwrap_or(u32::MAX);
        Self(NonZeroU32::MIN.saturating_add(ticks))
    }

    /// As a time.
    pub(super) fn time(self) -> Time {
        Time::from_nanos(u64::from(self.0.get()) << TICK_BITS)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_is_at_most_268_ms_late_and_never_early() {
        for nanos in [0, 1, (1 << 28) - 1, 1 << 28, 123_456_789_012, 36 * 365 * 24 * 3600 * 1_000_000_000] {
            let time = Time::from_nanos(nanos);
            let moment = Moment::after(time).time();
            assert!(moment > time && moment.since(time) <= Duration::from_nanos(1 << 28), "{time:?} {moment:?}");
        }
    }

    #[test]
    fn later_moments_than_fit_are_the_last() {
        let last = Moment::after(Time::from_nanos(u64::MAX));
        assert_eq!(last, Moment::after(Time::from_nanos(u64::from(u32::MAX) << 28)));
        assert_eq!(size_of::<Option<Moment>>(), 4);
    }
}
