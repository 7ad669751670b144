//! How long things took, in a few numbers.

use std::time::Duration;

/// How many times are counted: each bucket holds those up to four times the one before.
const BUCKETS: usize = 16;

/// Times, counted in buckets from 4 µs to 18 minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: Duration,
}

impl Histogram {
    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.counts[bucket(time)] += 1;
        self.sum = self.sum.saturating_add(time);
    }

    /// For each bucket its longest time, and how many there were up to that. The last has no longest time and counts all.
    pub fn up_to(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let mut all = 0;
        self.counts.iter().zip(0_u32..).map(move |(count, index)| {
            all += count;
            let longest = Duration::from_micros(4_u64.pow(index + 1));
            ((index as usize + 1 < BUCKETS).then_some(longest), all)
        })
    }

    /// All of them, added.
    pub const fn sum(&self) -> Duration {
        self.sum
    }
}

/// The first bucket whose longest time is not shorter.
fn bucket(time: Duration) -> usize {
    let micros = time.as_nanos().div_ceil(1000);
    let above = micros.saturating_sub(1).max(1).ilog2() / 2;
    (above as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_is_not_shorter() {
        let micros = Duration::from_micros;
        let bounds: Vec<_> = Histogram::default().up_to().filter_map(|(longest, _)| longest).collect();
        assert_eq!((bounds.len(), bounds[0], bounds[4]), (15, micros(4), micros(1024)));
        for (index, bound) in bounds.iter().enumerate() {
            assert_eq!((bucket(*bound), bucket(*bound + Duration::from_nanos(1))), (index, index + 1));
        }
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn counts_only_grow_from_bucket_to_bucket() {
        let mut times = Histogram::default();
        [3, 5, 5, 100].into_iter().for_each(|micros| times.add(Duration::from_micros(micros)));
        times.add(Duration::from_secs(10_000));
        let counts: Vec<_> = times.up_to().map(|(_, count)| count).collect();
        assert_eq!((&counts[..4], counts[15]), (&[1, 3, 3, 4][..], 5));
        assert_eq!(times.sum(), Duration::from_micros(113) + Duration::from_secs(10_000));
    }
}
