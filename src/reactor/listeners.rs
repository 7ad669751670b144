//! The listeners, and which of them may have clients in its queue.

/// The listeners of the relay, asked in rotation.
#[derive(Debug)]
pub(super) struct Listeners<L> {
    entries: Vec<Entry<L>>,
    /// The listener that is asked next.
    next: usize,
}

#[derive(Debug)]
struct Entry<L> {
    listener: L,
    /// Clients may wait in the kernel's queue. Accepting that stopped for any reason but an empty queue has spent the
    /// queue's edge, and no other will come.
    waiting: bool,
}

impl<L> Listeners<L> {
    pub(super) fn new(listeners: impl IntoIterator<Item = L>) -> Self {
        let entries = listeners.into_iter().map(|listener| Entry { listener, waiting: false }).collect();
        Self { entries, next: 0 }
    }

    /// An event says that clients wait here.
    pub(super) fn set_waiting(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.waiting = true;
        }
    }

    /// Clients may wait everywhere.
    pub(super) fn assume_waiting(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.waiting = true);
    }

    /// The queue of this listener is empty.
    pub(super) fn set_empty(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.waiting = false;
        }
    }

    /// May a client wait somewhere?
    pub(super) fn is_waiting(&self) -> bool {
        self.entries.iter().any(|entry| entry.waiting)
    }

    /// The next listener, in rotation, at which a client may wait.
    pub(super) fn next_waiting(&mut self) -> Option<(usize, &mut L)> {
        let count = self.entries.len();
        let index = (0..count).map(|step| (self.next + step) % count).find(|index| self.entries[*index].waiting)?;
        self.next = index + 1;
        Some((index, &mut self.entries[index].listener))
    }

    /// Closes all: clients in their queues are reset.
    pub(super) fn close(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_with_waiting_clients_take_turns() {
        let mut listeners = Listeners::new(['a', 'b', 'c']);
        assert!(!listeners.is_waiting() && listeners.next_waiting().is_none());
        listeners.set_waiting(0);
        listeners.set_waiting(2);
        let order: Vec<_> = (0..4).map(|_| *listeners.next_waiting().unwrap().1).collect();
        assert_eq!(order, ['a', 'c', 'a', 'c']);
        listeners.set_empty(0);
        assert_eq!(listeners.next_waiting(), Some((2, &mut 'c')));
        listeners.set_empty(2);
        assert!(!listeners.is_waiting() && listeners.next_waiting().is_none());
        listeners.assume_waiting();
        listeners.set_waiting(7);
        assert_eq!(listeners.next_waiting(), Some((0, &mut 'a')));
        listeners.close();
        assert!(!listeners.is_waiting() && listeners.next_waiting().is_none());
    }
}
