//! The listeners, and which of them may have clients in its queue.

use crate::net::Address;

/// The listeners of the relay, one for each route, asked in rotation.
#[derive(Debug)]
pub(super) struct Listeners<L> {
    entries: Vec<Entry<L>>,
    /// The listener that is asked next.
    next: usize,
}

#[derive(Debug)]
struct Entry<L> {
    /// None once it is closed.
    listener: Option<L>,
    address: Address,
    /// Clients may wait in the kernel's queue. Accepting that stopped for any reason but an empty queue has spent the
    /// queue's edge, and no other will come.
    waiting: bool,
    /// Clients that may still be accepted here; None while there is no end to them.
    left: Option<u16>,
}

impl<L> Listeners<L> {
    /// Listeners with the addresses that they are bound to, in the order of their routes.
    pub(super) fn new(listeners: Vec<(L, Address)>) -> Self {
        let entry = |(listener, address)| Entry { listener: Some(listener), address, waiting: false, left: None };
        Self { entries: listeners.into_iter().map(entry).collect(), next: 0 }
    }

    /// The addresses of those that are open.
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.entries.iter().filter(|entry| entry.listener.is_some()).map(|entry| entry.address.clone()).collect()
    }

    /// An event says that clients wait here.
    pub(super) fn set_waiting(&mut self, index: u16) {
        if let Some(entry) = self.entries.get_mut(usize::from(index)) {
            entry.waiting = entry.listener.is_some();
        }
    }

    /// Clients may wait everywhere. This many more are accepted at each listener, or fewer if its queue is empty before.
    pub(super) fn accept_the_rest(&mut self, most: u16) {
        for entry in &mut self.entries {
            (entry.waiting, entry.left) = (entry.listener.is_some(), Some(most));
        }
    }

    /// A client was accepted at this listener.
    pub(super) fn note_accepted(&mut self, index: u16) {
        if let Some(entry) = self.entries.get_mut(usize::from(index))
            && let Some(left) = &mut entry.left
        {
            *left = left.saturating_sub(1);
            entry.waiting &= *left > 0;
        }
    }

    /// Is a listener open?
    pub(super) fn is_open(&self) -> bool {
        self.entries.iter().any(|entry| entry.listener.is_some())
    }

    /// The queue of this listener is empty.
    pub(super) fn set_empty(&mut self, index: u16) {
        if let Some(entry) = self.entries.get_mut(usize::from(index)) {
            entry.waiting = false;
        }
    }

    /// May a client wait somewhere?
    pub(super) fn is_waiting(&self) -> bool {
        self.entries.iter().any(|entry| entry.waiting)
    }

    /// The next listener, in rotation, at which a client may wait.
    pub(super) fn next_waiting(&mut self) -> Option<(u16, &mut L)> {
        let mut rotation = (self.next..self.entries.len()).chain(0..self.next);
        let index = rotation.find(|index| self.entries[*index].waiting)?;
        self.next = index + 1;
        Some((u16::try_from(index).ok()?, self.entries[index].listener.as_mut()?))
    }

    /// Takes those at which no more clients are to be accepted, to close them.
    pub(super) fn take_finished(&mut self) -> impl Iterator<Item = L> {
        let finished = self.entries.iter_mut().filter(|entry| entry.left.is_some() && !entry.waiting);
        finished.filter_map(|entry| entry.listener.take())
    }

    /// Takes all of them, to close them.
    pub(super) fn take(&mut self) -> impl Iterator<Item = L> {
        self.entries.iter_mut().filter_map(|entry| {
            entry.waiting = false;
            entry.listener.take()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_with_waiting_clients_take_turns() {
        let address = Address::Inet(([127, 0, 0, 1], 80).into());
        let mut listeners = Listeners::new(['a', 'b', 'c'].map(|name| (name, address.clone())).to_vec());
        assert!(!listeners.is_waiting() && listeners.next_waiting().is_none());
        listeners.set_waiting(0);
        listeners.set_waiting(2);
        let order: Vec<_> = (0..4).map(|_| *listeners.next_waiting().unwrap().1).collect();
        assert_eq!(order, ['a', 'c', 'a', 'c']);
        listeners.set_empty(0);
        assert_eq!(listeners.next_waiting(), Some((2, &mut 'c')));
        listeners.set_empty(2);
        assert!(!listeners.is_waiting() && listeners.next_waiting().is_none());
        listeners.accept_the_rest(2);
        listeners.set_waiting(7);
        assert_eq!(listeners.next_waiting(), Some((0, &mut 'a')));
        assert_eq!(listeners.take().collect::<Vec<_>>(), ['a', 'b', 'c']);
        listeners.set_waiting(0);
        assert!(!listeners.is_waiting() && listeners.next_waiting().is_none());
    }

    #[test]
    fn a_listener_is_finished_when_its_queue_is_empty_or_a_backlog_was_accepted() {
        let address = Address::Inet(([127, 0, 0, 1], 80).into());
        let mut listeners = Listeners::new(['a', 'b', 'c'].map(|name| (name, address.clone())).to_vec());
        listeners.note_accepted(0);
        assert_eq!(listeners.take_finished().count(), 0, "nothing is finished while it serves");
        listeners.accept_the_rest(2);
        listeners.set_empty(2);
        listeners.note_accepted(0);
        listeners.note_accepted(1);
        assert_eq!(listeners.take_finished().collect::<Vec<_>>(), ['c']);
        listeners.note_accepted(0);
        assert_eq!(listeners.take_finished().collect::<Vec<_>>(), ['a']);
        assert_eq!((listeners.addresses().len(), listeners.is_open(), listeners.is_waiting()), (1, true, true));
        listeners.set_waiting(0);
        assert_eq!(listeners.next_waiting(), Some((1, &mut 'b')));
        assert_eq!(listeners.take().collect::<Vec<_>>(), ['b']);
        assert!(!listeners.is_open() && !listeners.is_waiting());
    }
}
