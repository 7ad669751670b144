//! Buffers that flows borrow while they hold bytes.

use std::fmt;

/// Free leases kept for the next flow; what exceeds this goes back to the allocator.
const KEPT_BYTES: usize = 16 << 20;

/// A last-in-first-out pool of buffers of one size: the one used a moment ago is still in the cache.
///
/// It never makes anyone wait. A flow holds at most one lease, so its cap is two for each session.
#[derive(Debug)]
pub struct Pool {
    size: usize,
    free: Vec<Lease>,
    lent: usize,
}

impl Pool {
    /// An empty pool of buffers of `size` bytes, which is not 0.
    pub const fn new(size: usize) -> Self {
        assert!(size > 0, "a buffer without room would read 0 and take it for the end");
        Self { size, free: Vec::new(), lent: 0 }
    }

    /// Bytes in each buffer.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Leases that are out.
    pub const fn lent(&self) -> usize {
        self.lent
    }

    /// Leases that wait for a flow.
    pub const fn free(&self) -> usize {
        self.free.len()
    }

    /// An empty buffer.
    pub(super) fn lend(&mut self) -> Lease {
        self.lent += 1;
        self.free.pop().unwrap_or_else(|| Lease::new(self.size))
    }

    /// Takes a lease back, with whatever it still holds.
    pub(super) fn take_back(&mut self, mut lease: Lease) {
        self.lent -= 1;
        if (self.free.len() + 1) * self.size <= KEPT_BYTES {
            lease.forget();
            self.free.push(lease);
        }
    }
}

/// A borrowed buffer: filled by one read, emptied by the writes that follow.
///
/// ```text
///   0       start        end      size
///   ├─ gone ──┼── held ────┼─ room ─┤
/// ```
///
/// A box around what has a box already: a flow holds one or none, and is to be small when it holds none.
pub struct Lease(Box<Buffer>);

struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Lease {
    fn new(size: usize) -> Self {
        Self(Box::new(Buffer { bytes: vec![0; size].into_boxed_slice(), start: 0, end: 0 }))
    }

    /// Where the next read may put bytes.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.0.bytes[self.0.end..]
    }

    /// The front `count` bytes of the room are held now.
    pub(super) fn filled(&mut self, count: usize) {
        self.0.end += count;
        assert!(self.0.end <= self.0.bytes.len(), "a read gave more than there was room for");
    }

    /// What was read and not yet written.
    pub(super) fn held(&self) -> &[u8] {
        &self.0.bytes[self.0.start..self.0.end]
    }

    /// The front `count` of the held bytes are written.
    pub(super) fn taken(&mut self, count: usize) {
        self.0.start += count;
        assert!(self.0.start <= self.0.end, "a write took more than was held");
    }

    fn forget(&mut self) {
        (self.0.start, self.0.end) = (0, 0);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.held().len(), self.0.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_gives_out_what_was_put_in_and_comes_back_empty() {
        let mut pool = Pool::new(8);
        let mut lease = pool.lend();
        assert_eq!(lease.room().len(), 8);
        lease.room()[..5].copy_from_slice(b"hello");
        lease.filled(5);
        assert_eq!(lease.room().len(), 3);
        lease.taken(2);
        assert_eq!(lease.held(), b"llo");
        assert_eq!(format!("{lease:?}"), "3 of 8 bytes");
        pool.take_back(lease);

        let mut again = pool.lend();
        assert_eq!((again.held().len(), again.room().len()), (0, 8));
        pool.take_back(again);
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        /// Bytes come out in the order they went in, however the reads and the writes fall.
        #[test]
        fn a_lease_is_a_queue(size in 1_usize..64, steps in proptest::collection::vec((0_usize..24, 0_usize..24), 0..24)) {
            let (mut pool, mut model) = (Pool::new(size), std::collections::VecDeque::new());
            let mut lease = pool.lend();
            let mut next = 0_u8;
            for (read, written) in steps {
                let room = lease.room();
                let read = read.min(room.len());
                for place in &mut room[..read] {
                    *place = next;
                    model.push_back(next);
                    next = next.wrapping_add(1);
                }
                lease.filled(read);
                let written = written.min(lease.held().len());
                assert!(lease.held().iter().eq(model.iter()));
                lease.taken(written);
                model.drain(..written);
            }
            pool.take_back(lease);
            assert_eq!((pool.lent(), pool.free(), pool.lend().held().len()), (0, 1, 0));
        }
    }

    #[test]
    fn the_buffer_used_last_is_lent_first() {
        let mut pool = Pool::new(4);
        let (mut first, second) = (pool.lend(), pool.lend());
        first.room()[0] = b'!';
        assert_eq!((pool.lent(), pool.free()), (2, 0));
        pool.take_back(second);
        pool.take_back(first);
        assert_eq!((pool.lent(), pool.free()), (0, 2));
        assert_eq!(pool.lend().room()[0], b'!');
    }

    #[test]
    fn free_leases_beyond_16_mib_go_back_to_the_allocator() {
        let mut pool = Pool::new(1 << 20);
        let leases: Vec<_> = (0..20).map(|_| pool.lend()).collect();
        leases.into_iter().for_each(|lease| pool.take_back(lease));
        assert_eq!((pool.lent(), pool.free()), (0, 16));
    }
}
