//! Descriptors: how many clients may be accepted in a turn, and shortages, each told once.
//!
//! EMFILE at `accept` is the gate's: it pauses. A session that finds none for its upstream waits (`waiters.rs`).

/// What is known of how many descriptors there are.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// A shortage was told and is not over.
    is_short: bool,
    /// The most sessions that had all their descriptors at a time, since something was last short.
    proven: usize,
}

impl Descriptors {
    /// How many clients may be accepted in one turn beside these sessions, which have been dialled for: as many as there
    /// have been descriptors for before, or half as many as there are sessions.
    pub(super) fn batch(&mut self, sessions: usize) -> usize {
        self.proven = self.proven.max(sessions);
        (self.proven - sessions).max(sessions / 2).max(1)
    }

    /// Something is short. Is that the first time since the last shortage was over?
    pub(super) fn note_shortage(&mut self) -> bool {
        self.proven = 0;
        !std::mem::replace(&mut self.is_short, true)
    }

    /// Nothing waits any more. Does that end a shortage?
    pub(super) fn note_enough(&mut self) -> bool {
        std::mem::take(&mut self.is_short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_batch_may_be_was_proven_since_the_last_shortage() {
        let mut descriptors = Descriptors::default();
        assert_eq!((descriptors.batch(0), descriptors.batch(10)), (1, 5));
        assert_eq!((descriptors.batch(4), descriptors.batch(0)), (6, 10));
        assert!(descriptors.note_shortage());
        assert_eq!((descriptors.batch(0), descriptors.batch(4)), (1, 2));
        assert!(!descriptors.note_shortage() && descriptors.note_enough() && !descriptors.note_enough());
    }
}
