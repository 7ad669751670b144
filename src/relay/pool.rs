//! Buffers and pipes that flows borrow while they hold bytes.

use super::bulk::Bulk;
use super::lease::{Lease, Storage};

/// Free buffers kept for the next flow, in bytes. What exceeds this goes back to the allocator.
const KEPT_BYTES: usize = 16 << 20;

/// A last-in-first-out pool: what was used a moment ago is still in the cache.
///
/// Nothing ever waits for a lease. A flow holds at most one, so there are at most two for each session. Pipes are few,
/// and the pool does not open them: a flow that gets none copies and leaves a request, which the reactor collects with
/// [`take_pipe_request`](Self::take_pipe_request).
#[derive(Debug)]
pub struct Pool<P> {
    size: usize,
    free: Vec<Lease<P>>,
    free_pipes: Vec<Lease<P>>,
    lent: usize,
    splicing: Splicing,
    /// Open pipes, free or lent.
    pipes: usize,
    /// A flow asked for a pipe, and none was free.
    pipe_requested: bool,
}

/// When flows may use pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splicing {
    /// After this many large reads. With 0, one free pipe is kept in hand.
    pub after: u8,
    /// Open pipes at a time, at most; 0 is never.
    pub pipes_max: usize,
}

impl Splicing {
    /// All bytes are copied.
    pub const OFF: Self = Self { after: u8::MAX, pipes_max: 0 };
}

impl<P> Pool<P> {
    /// An empty pool of buffers of `size` bytes, which is not 0.
    pub fn new(size: usize, splicing: Splicing) -> Self {
        assert!(size > 0, "a read into no room gives 0, which looks like the end");
        let (free, free_pipes) = (Vec::new(), Vec::new());
        Self { size, free, free_pipes, lent: 0, splicing, pipes: 0, pipe_requested: false }
    }

    /// Bytes in each buffer.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Leases that flows hold.
    pub fn lent(&self) -> usize {
        self.lent
    }

    /// Free buffers.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Open pipes, free or lent.
    pub fn pipes(&self) -> usize {
        self.pipes
    }

    /// Takes the request for another pipe, if a flow made one and the limit allows it.
    pub fn take_pipe_request(&mut self) -> bool {
        let in_hand = self.splicing.after == 0 && self.free_pipes.is_empty();
        (std::mem::take(&mut self.pipe_requested) || in_hand) && self.pipes < self.splicing.pipes_max
    }

    /// Adds an empty pipe.
    pub fn add_pipe(&mut self, pipe: P) {
        self.pipes += 1;
        self.free_pipes.push(Lease::of_pipe(pipe));
    }

    /// Closes the free pipes and forgets requests: while nothing happens, they would only take up descriptors.
    pub fn close_spare_pipes(&mut self) {
        self.pipe_requested = false;
        self.pipes -= self.free_pipes.len();
        self.free_pipes.clear();
    }

    /// An empty buffer.
    pub(super) fn lend(&mut self) -> Lease<P> {
        self.lent += 1;
        self.free.pop().unwrap_or_else(|| Lease::buffer(self.size))
    }

    /// An empty buffer of another size, which is not kept when it comes back.
    pub(super) fn lend_sized(&mut self, size: usize) -> Lease<P> {
        self.lent += 1;
        Lease::buffer(size)
    }

    /// An empty pipe for a flow that has read this much, if it may have one and one is free.
    pub(super) fn lend_pipe(&mut self, bulk: Bulk) -> Option<Lease<P>> {
        if bulk.large_reads() < self.splicing.after {
            return None;
        }
        let pipe = self.free_pipes.pop();
        self.pipe_requested |= pipe.is_none();
        self.lent += usize::from(pipe.is_some());
        pipe
    }

    /// Takes a lease back. What it still holds is lost. A pipe that is not empty is closed: the next flow would send
    /// those bytes to a stranger.
    pub(super) fn take_back(&mut self, mut lease: Lease<P>) {
        self.lent -= 1;
        match lease.storage() {
            Storage::Pipe { held: 0, .. } => self.free_pipes.push(lease),
            Storage::Pipe { .. } => self.pipes -= 1,
            Storage::Buffer { bytes, start, end } => {
                (*start, *end) = (0, 0);
                if bytes.len() == self.size && (self.free.len() + 1) * self.size <= KEPT_BYTES {
                    self.free.push(lease);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe of these tests: one can tell them apart.
    type Pipe = char;

    fn pool(size: usize) -> Pool<Pipe> {
        Pool::new(size, Splicing { after: 2, pipes_max: 2 })
    }

    /// A flow after this many large reads.
    fn after(large_reads: u8) -> Bulk {
        let mut bulk = Bulk::new();
        (0..large_reads).for_each(|_| bulk.observe(8, 8));
        bulk
    }

    #[test]
    fn a_buffer_comes_back_empty() {
        let mut pool = pool(8);
        let mut lease = pool.lend();
        lease.filled(5);
        lease.taken(2);
        pool.take_back(lease);
        let mut again = pool.lend();
        assert_eq!((again.held(), again.room().len(), pool.lent(), pool.free()), (0, 8, 1, 0));
        pool.take_back(again);
        assert_eq!((pool.lent(), pool.free()), (0, 1));
    }

    #[test]
    fn the_buffer_used_last_is_lent_first() {
        let mut pool = pool(4);
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
        let mut pool = pool(1 << 20);
        let leases: Vec<_> = (0..20).map(|_| pool.lend()).collect();
        leases.into_iter().for_each(|lease| pool.take_back(lease));
        assert_eq!((pool.lent(), pool.free()), (0, 16));
    }

    #[test]
    fn pipes_are_asked_for_and_few() {
        let mut pool = pool(4);
        assert!(!pool.take_pipe_request());
        assert!(pool.lend_pipe(after(1)).is_none());
        assert!(!pool.take_pipe_request(), "a flow gets no pipe before two large reads");
        for (pipe, count) in [('a', 1), ('b', 2)] {
            assert!(pool.lend_pipe(after(2)).is_none());
            assert!(pool.take_pipe_request() && !pool.take_pipe_request(), "a wish is told once");
            pool.add_pipe(pipe);
            let lease = pool.lend_pipe(after(2)).unwrap();
            assert_eq!((pool.lent(), pool.pipes()), (count, count));
            std::mem::forget(lease);
        }
        assert!(pool.lend_pipe(after(2)).is_none());
        assert!(!pool.take_pipe_request(), "there are as many as there may be");
    }

    #[test]
    fn a_pipe_that_is_not_empty_is_closed_and_not_lent_again() {
        let mut pool = pool(4);
        pool.add_pipe('a');
        let mut lease = pool.lend_pipe(after(2)).unwrap();
        lease.filled(5);
        assert_eq!(format!("{lease:?}"), "5 bytes in a pipe");
        lease.taken(5);
        pool.take_back(lease);
        assert_eq!((pool.lent(), pool.pipes()), (0, 1));
        let mut lease = pool.lend_pipe(after(2)).unwrap();
        lease.filled(5);
        lease.taken(4);
        pool.take_back(lease);
        assert_eq!((pool.lent(), pool.pipes()), (0, 0));
        assert!(pool.lend_pipe(after(2)).is_none());
    }

    #[test]
    fn spare_pipes_are_closed_and_lent_ones_are_not() {
        let mut pool = pool(4);
        pool.add_pipe('a');
        pool.add_pipe('b');
        let lease = pool.lend_pipe(after(2)).unwrap();
        pool.close_spare_pipes();
        assert_eq!(pool.pipes(), 1);
        pool.take_back(lease);
        assert!(pool.lend_pipe(after(2)).is_some());
    }

    #[test]
    fn a_wish_for_a_pipe_does_not_outlive_the_last_session() {
        let mut pool = pool(4);
        assert!(pool.lend_pipe(after(2)).is_none());
        pool.close_spare_pipes();
        assert!(!pool.take_pipe_request());
    }

    #[test]
    fn without_pipes_nobody_wants_one() {
        let mut pool = Pool::<Pipe>::new(4, Splicing::OFF);
        assert!(pool.lend_pipe(after(u8::MAX)).is_none());
        assert!(!pool.take_pipe_request());
    }
}
