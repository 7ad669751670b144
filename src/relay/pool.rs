//! Buffers and pipes that flows borrow while they hold bytes.

use std::fmt;

/// Free buffers kept for the next flow; what exceeds this goes back to the allocator.
const KEPT_BYTES: usize = 16 << 20;

/// A last-in-first-out pool: what was used a moment ago is still in the cache.
///
/// It never makes anyone wait. A flow holds at most one lease, so there are at most two for each session. Pipes are
/// few, and not opened here: a flow that gets none copies, and whoever runs the flows asks
/// [`take_pipe_request`](Self::take_pipe_request) once in a while.
#[derive(Debug)]
pub struct Pool<P> {
    size: usize,
    free: Vec<Lease<P>>,
    free_pipes: Vec<Lease<P>>,
    lent: usize,
    splicing: Splicing,
    /// Pipes that are open, free or lent.
    pipes: usize,
    /// A flow asked for a pipe, and there was none.
    wanted: bool,
    /// Bytes that went into pipes.
    spliced: u64,
}

/// When flows may use pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splicing {
    /// After so many reads that brought much. With 0, a free pipe is always wanted.
    pub after: u8,
    /// Pipes that may be open at a time; 0 is never.
    pub pipes_max: usize,
}

impl Splicing {
    /// Bytes are copied.
    pub const OFF: Self = Self { after: u8::MAX, pipes_max: 0 };
}

impl<P> Pool<P> {
    /// An empty pool of buffers of `size` bytes, which is not 0.
    pub fn new(size: usize, splicing: Splicing) -> Self {
        assert!(size > 0, "a buffer without room would read 0 and take it for the end");
        Self { size, free: Vec::new(), free_pipes: Vec::new(), lent: 0, splicing, pipes: 0, wanted: false, spliced: 0 }
    }

    /// Bytes in each buffer.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Leases that are out.
    pub const fn lent(&self) -> usize {
        self.lent
    }

    /// Buffers that wait for a flow.
    pub const fn free(&self) -> usize {
        self.free.len()
    }

    /// Pipes that are open, free or lent.
    pub const fn pipes(&self) -> usize {
        self.pipes
    }

    /// Bytes that went into pipes.
    pub const fn spliced(&self) -> u64 {
        self.spliced
    }

    /// So many more did.
    pub(super) const fn count_spliced(&mut self, bytes: usize) {
        self.spliced += bytes as u64;
    }

    /// Has a flow asked for a pipe since this was last asked, or will the first that asks, and is there to be another?
    pub const fn take_pipe_request(&mut self) -> bool {
        let soon = self.splicing.after == 0 && self.free_pipes.is_empty();
        (std::mem::replace(&mut self.wanted, false) || soon) && self.pipes < self.splicing.pipes_max
    }

    /// Another pipe for the flows, which is empty.
    pub fn add_pipe(&mut self, pipe: P) {
        self.pipes += 1;
        self.free_pipes.push(Lease(Box::new(Storage::Pipe { pipe, held: 0 })));
    }

    /// Closes the pipes that nobody uses, and forgets who wanted one: while nothing happens, they would only take up
    /// descriptors.
    pub fn close_spare_pipes(&mut self) {
        self.wanted = false;
        self.pipes -= self.free_pipes.len();
        self.free_pipes.clear();
    }

    /// An empty buffer.
    pub(super) fn lend(&mut self) -> Lease<P> {
        self.lent += 1;
        self.free.pop().unwrap_or_else(|| Lease::new(self.size))
    }

    /// An empty pipe for a flow of which `large_reads` reads have brought much, if it may have one and there is one.
    pub(super) fn lend_pipe(&mut self, large_reads: u8) -> Option<Lease<P>> {
        if large_reads < self.splicing.after {
            return None;
        }
        let pipe = self.free_pipes.pop();
        self.wanted |= pipe.is_none();
        self.lent += usize::from(pipe.is_some());
        pipe
    }

    /// Takes a lease back. What it still holds is lost: a pipe that is not empty is closed, for whoever had it next
    /// would send those bytes to a stranger.
    pub(super) fn take_back(&mut self, mut lease: Lease<P>) {
        self.lent -= 1;
        match &mut *lease.0 {
            Storage::Pipe { held: 0, .. } => self.free_pipes.push(lease),
            Storage::Pipe { .. } => self.pipes -= 1,
            Storage::Buffer { start, end, .. } => {
                (*start, *end) = (0, 0);
                if (self.free.len() + 1) * self.size <= KEPT_BYTES {
                    self.free.push(lease);
                }
            }
        }
    }
}

/// A borrowed buffer or pipe: filled by one read, emptied by the writes that follow.
///
/// ```text
///   0       start        end      size
///   ├─ gone ──┼── held ────┼─ room ─┤
/// ```
///
/// A box, though a buffer has one already: a flow holds one or none, and is to be small when it holds none.
pub struct Lease<P>(Box<Storage<P>>);

/// What holds the bytes.
pub(super) enum Storage<P> {
    /// Memory of ours.
    Buffer {
        /// All of it.
        bytes: Box<[u8]>,
        /// Before this, they are written.
        start: usize,
        /// Before this, they are read.
        end: usize,
    },
    /// The kernel's: they never come up to us.
    Pipe {
        /// Which.
        pipe: P,
        /// How many are in it.
        held: usize,
    },
}

impl<P> Lease<P> {
    fn new(size: usize) -> Self {
        Self(Box::new(Storage::Buffer { bytes: vec![0; size].into_boxed_slice(), start: 0, end: 0 }))
    }

    /// What holds the bytes, for whoever empties it.
    pub(super) const fn storage(&mut self) -> &mut Storage<P> {
        &mut self.0
    }

    /// Where a read may put bytes, if it is a buffer.
    pub(super) fn room(&mut self) -> &mut [u8] {
        match &mut *self.0 {
            Storage::Buffer { bytes, end, .. } => &mut bytes[*end..],
            Storage::Pipe { .. } => &mut [],
        }
    }

    /// What bytes may be pulled into, if it is a pipe.
    pub(super) const fn pipe(&mut self) -> Option<&mut P> {
        match &mut *self.0 {
            Storage::Pipe { pipe, .. } => Some(pipe),
            Storage::Buffer { .. } => None,
        }
    }

    /// Is it a pipe?
    pub(super) const fn is_pipe(&self) -> bool {
        matches!(*self.0, Storage::Pipe { .. })
    }

    /// So many more bytes are held now.
    pub(super) fn filled(&mut self, count: usize) {
        match &mut *self.0 {
            Storage::Buffer { bytes, end, .. } => {
                *end += count;
                assert!(*end <= bytes.len(), "a read gave more than there was room for");
            }
            Storage::Pipe { held, .. } => *held += count,
        }
    }

    /// Bytes that were read and not yet written.
    pub(super) fn held(&self) -> usize {
        match &*self.0 {
            Storage::Buffer { start, end, .. } => end - start,
            Storage::Pipe { held, .. } => *held,
        }
    }

    /// The front `count` of the held bytes are written.
    pub(super) fn taken(&mut self, count: usize) {
        assert!(count <= self.held(), "a write took more than was held");
        match &mut *self.0 {
            Storage::Buffer { start, .. } => *start += count,
            Storage::Pipe { held, .. } => *held -= count,
        }
    }
}

impl<P> fmt::Debug for Lease<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Storage::Buffer { bytes, .. } => write!(f, "{} of {} bytes", self.held(), bytes.len()),
            Storage::Pipe { held, .. } => write!(f, "{held} bytes in a pipe"),
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

    /// What a buffer holds.
    fn held(lease: &mut Lease<Pipe>) -> &[u8] {
        match lease.storage() {
            Storage::Buffer { bytes, start, end } => &bytes[*start..*end],
            Storage::Pipe { .. } => panic!("a pipe is no buffer"),
        }
    }

    #[test]
    fn a_lease_gives_out_what_was_put_in_and_comes_back_empty() {
        let mut pool = pool(8);
        let mut lease = pool.lend();
        assert_eq!(lease.room().len(), 8);
        lease.room()[..5].copy_from_slice(b"hello");
        lease.filled(5);
        assert_eq!(lease.room().len(), 3);
        lease.taken(2);
        assert_eq!(held(&mut lease), b"llo");
        assert_eq!(format!("{lease:?}"), "3 of 8 bytes");
        pool.take_back(lease);

        let mut again = pool.lend();
        assert_eq!((again.held(), again.room().len()), (0, 8));
        pool.take_back(again);
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        /// Bytes come out in the order they went in, however the reads and the writes fall.
        #[test]
        fn a_lease_is_a_queue(size in 1_usize..64, steps in proptest::collection::vec((0_usize..24, 0_usize..24), 0..24)) {
            let (mut pool, mut model) = (pool(size), std::collections::VecDeque::new());
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
                let written = written.min(lease.held());
                assert!(held(&mut lease).iter().eq(model.iter()));
                lease.taken(written);
                model.drain(..written);
            }
            pool.take_back(lease);
            assert_eq!((pool.lent(), pool.free(), pool.lend().held()), (0, 1, 0));
        }
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
        assert!(pool.lend_pipe(1).is_none());
        assert!(!pool.take_pipe_request(), "who has not read two full buffers gets no pipe");
        for (pipe, count) in [('a', 1), ('b', 2)] {
            assert!(pool.lend_pipe(2).is_none());
            assert!(pool.take_pipe_request() && !pool.take_pipe_request(), "a wish is told once");
            pool.add_pipe(pipe);
            let lease = pool.lend_pipe(2).unwrap();
            assert_eq!((pool.lent(), pool.pipes()), (count, count));
            std::mem::forget(lease);
        }
        assert!(pool.lend_pipe(2).is_none());
        assert!(!pool.take_pipe_request(), "there are as many as there may be");
    }

    #[test]
    fn a_pipe_that_is_not_empty_is_closed_and_not_lent_again() {
        let mut pool = pool(4);
        pool.add_pipe('a');
        let mut lease = pool.lend_pipe(2).unwrap();
        lease.filled(5);
        assert_eq!(format!("{lease:?}"), "5 bytes in a pipe");
        lease.taken(5);
        pool.take_back(lease);
        assert_eq!((pool.lent(), pool.pipes()), (0, 1));
        let mut lease = pool.lend_pipe(2).unwrap();
        lease.filled(5);
        lease.taken(4);
        pool.take_back(lease);
        assert_eq!((pool.lent(), pool.pipes()), (0, 0));
        assert!(pool.lend_pipe(2).is_none());
    }

    #[test]
    fn spare_pipes_are_closed_and_lent_ones_are_not() {
        let mut pool = pool(4);
        pool.add_pipe('a');
        pool.add_pipe('b');
        let lease = pool.lend_pipe(2).unwrap();
        pool.close_spare_pipes();
        assert_eq!(pool.pipes(), 1);
        pool.take_back(lease);
        assert!(pool.lend_pipe(2).is_some());
    }

    #[test]
    fn without_pipes_nobody_wants_one() {
        let mut pool = Pool::<Pipe>::new(4, Splicing::OFF);
        assert!(pool.lend_pipe(u8::MAX).is_none());
        assert!(!pool.take_pipe_request());
    }
}
