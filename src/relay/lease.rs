//! A borrowed buffer or pipe: filled by one read, emptied by the writes that follow.

use std::fmt;

/// A borrowed buffer or pipe.
///
/// ```text
///   0       start        end      size
///   ├─ gone ──┼── held ────┼─ room ─┤
/// ```
///
/// It is a box, although a buffer has one already: an idle flow holds no lease and should be small.
pub struct Lease<P>(Box<Storage<P>>);

/// What holds the bytes.
pub(super) enum Storage<P> {
    /// Memory of ours.
    Buffer {
        bytes: Box<[u8]>,
        /// Bytes before this are written.
        start: usize,
        /// Bytes before this are read.
        end: usize,
    },
    /// Memory of the kernel's: the bytes never come to us.
    Pipe {
        pipe: P,
        /// Bytes in it.
        held: usize,
    },
}

impl<P> Lease<P> {
    /// An empty buffer of `size` bytes.
    pub(super) fn buffer(size: usize) -> Self {
        Self(Box::new(Storage::Buffer { bytes: vec![0; size].into_boxed_slice(), start: 0, end: 0 }))
    }

    /// A pipe, which is empty.
    pub(super) fn of_pipe(pipe: P) -> Self {
        Self(Box::new(Storage::Pipe { pipe, held: 0 }))
    }

    /// What holds the bytes.
    pub(super) fn storage(&mut self) -> &mut Storage<P> {
        &mut self.0
    }

    /// Where a read may put bytes, if it is a buffer.
    pub(super) fn room(&mut self) -> &mut [u8] {
        match &mut *self.0 {
            Storage::Buffer { bytes, end, .. } => &mut bytes[*end..],
            Storage::Pipe { .. } => &mut [],
        }
    }

    /// What bytes may be spliced into, if it is a pipe.
    pub(super) fn pipe(&mut self) -> Option<&mut P> {
        match &mut *self.0 {
            Storage::Pipe { pipe, .. } => Some(pipe),
            Storage::Buffer { .. } => None,
        }
    }

    /// Is it a pipe?
    pub(super) fn is_pipe(&self) -> bool {
        matches!(*self.0, Storage::Pipe { .. })
    }

    /// What is held, if it is a buffer.
    pub(super) fn bytes(&self) -> &[u8] {
        match &*self.0 {
            Storage::Buffer { bytes, start, end } => &bytes[*start..*end],
            Storage::Pipe { .. } => &[],
        }
    }

    /// What was held and is written, if it is a buffer.
    pub(super) fn gone(&self) -> &[u8] {
        match &*self.0 {
            Storage::Buffer { bytes, start, .. } => &bytes[..*start],
            Storage::Pipe { .. } => &[],
        }
    }

    /// `count` more bytes are held now.
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

    #[test]
    fn a_buffer_gives_out_what_was_put_in() {
        let mut lease = Lease::<()>::buffer(8);
        assert_eq!(lease.room().len(), 8);
        lease.room()[..5].copy_from_slice(b"hello");
        lease.filled(5);
        assert_eq!(lease.room().len(), 3);
        lease.taken(2);
        assert_eq!(bytes(&mut lease), b"llo");
        assert_eq!(format!("{lease:?}"), "3 of 8 bytes");
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        /// Bytes come out in the order they went in, however the reads and the writes fall.
        #[test]
        fn a_lease_is_a_queue(size in 1_usize..64, steps in proptest::collection::vec((0_usize..24, 0_usize..24), 0..24)) {
            let (mut lease, mut model) = (Lease::<()>::buffer(size), std::collections::VecDeque::new());
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
                assert!(bytes(&mut lease).iter().eq(model.iter()));
                lease.taken(written);
                model.drain(..written);
            }
        }
    }

    fn bytes(lease: &mut Lease<()>) -> &[u8] {
        match lease.storage() {
            Storage::Buffer { bytes, start, end } => &bytes[*start..*end],
            Storage::Pipe { .. } => panic!("a pipe is no buffer"),
        }
    }
}
