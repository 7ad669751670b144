//! Time as the reactor sees it.

use std::ops::Add;
use std::time::Duration;

/// A moment, in nanoseconds since the reactor began. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(u64);

impl Time {
    /// The moment the reactor began; as a deadline, one that has always passed.
    pub const START: Self = Self(0);

    /// A moment that does not come.
    pub const NEVER: Self = Self(u64::MAX);

    /// `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// How long a wait may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    /// Not at all: take what is there.
    Not,
    /// Until this moment, or an event before it.
    Until(Time),
    /// Until an event.
    Forever,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_nor_over_the_edge() {
        let second = Duration::from_secs(1);
        assert_eq!((Time::START + second).since(Time::START), second);
        assert_eq!(Time::START.since(Time::START + second), Duration::ZERO);
        assert_eq!(Time::from_nanos(u64::MAX) + second, Time::from_nanos(u64::MAX));
        assert_eq!(Time::START + Duration::MAX, Time::from_nanos(u64::MAX));
    }
}
