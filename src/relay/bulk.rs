//! Is a flow bulk? Its reads tell.

/// A read of this many bytes, or a full buffer, counts as large.
const LARGE_READ: usize = 64 << 10;

/// A read below this share of a large one ends bulk: two calls and a page for each piece would cost more than copying.
const SMALL_READ_DIVISOR: usize = 4;

/// Counts large reads in a row. A read that is neither large nor small says nothing: the sender's window decides.
#[derive(Debug, Clone, Copy)]
pub struct Bulk {
    large_reads: u8,
}

impl Bulk {
    /// A flow is bulk after this many large reads without a small one.
    pub const AFTER: u8 = 2;

    /// Nothing was read yet.
    pub(super) const fn new() -> Self {
        Self { large_reads: 0 }
    }

    /// Large reads since the last small one.
    pub(super) const fn large_reads(self) -> u8 {
        self.large_reads
    }

    /// Did the last reads bring much?
    pub(super) const fn is_proven(self) -> bool {
        self.large_reads >= Self::AFTER
    }

    /// Learns from a read of `count` bytes into a buffer of `size`.
    pub(super) fn observe(&mut self, count: usize, size: usize) {
        let large = size.min(LARGE_READ);
        if count >= large {
            self.large_reads = self.large_reads.saturating_add(1);
        } else if count < large / SMALL_READ_DIVISOR {
            self.large_reads = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_large_reads_are_bulk_until_a_small_one() {
        let mut bulk = Bulk::new();
        for (count, proven) in [
            (64 << 10, false),
            (64 << 10, true),
            (16 << 10, true),
            ((16 << 10) - 1, false),
            (64 << 10, false),
            (17 << 10, false),
            (64 << 10, true),
            (1, false),
        ] {
            bulk.observe(count, 64 << 10);
            assert_eq!(bulk.is_proven(), proven, "{count}");
        }
    }

    #[test]
    fn a_full_small_buffer_is_large_and_a_large_buffer_need_not_be_full() {
        for (size, count, large) in [(8, 8, 1), (8, 7, 0), (1 << 20, 64 << 10, 1), (1 << 20, (64 << 10) - 1, 0)] {
            let mut bulk = Bulk::new();
            bulk.observe(count, size);
            assert_eq!(bulk.large_reads(), large, "{count} of {size}");
        }
    }

    #[test]
    fn the_count_does_not_wrap() {
        let mut bulk = Bulk::new();
        (0..300).for_each(|_| bulk.observe(8, 8));
        assert_eq!((bulk.large_reads(), bulk.is_proven()), (u8::MAX, true));
    }
}
