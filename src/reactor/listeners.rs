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
    listener: L,
    address: Address,
    /// Clients may wait in the kernel's queue. Accepting that stopped for any reason but an empty queue has spent the
    /// queue's edge, and no other will come.
    waiting: bool,
}

impl<L> Listeners<L> {
    /// Listeners with the addresses that they are bound to, in the order of their routes.
    pub(super) fn new(listeners: Vec<(L, Address)>) -> Self {
        let entry = |(listener, address)| Entry { listener, address, waiting: false };
        Self { entries: listeners.into_iter().map(entry).collect(), next: 0 }
    }

    /// The addresses they are bound to.
    pub(super) fn addresses(&self) -> Vec<Address> {
        self.entries.iter().map(|entry| entry.address.clone()).collect()
    }

    /// An event says that clients wait here.
    pub(super) fn set_waiting(&mut self, index: u16) {
        if let Some(entry) = self.entries.get_mut(usize::from(index)) {
            entry.waiting = true;
        }
    }

    /// Clients may wait everywhere.
    pub(super) fn assume_waiting(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.waiting = true);
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
        Some((u16::try_from(index).ok()?, &mut self.entries[index].listener))
    }

    /// Takes all of them, to close them.
    pub(super) fn take(&mut self) -> impl Iterator<Item = L> + use<L> {
        self.next = 0;
        std::mem::take(&mut self.entries).into_iter().map(|entry| entry.listener)
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
        listeners.assume_waiting();
        listeners.set_waiting(7);
        assert_eq!(listeners.next_waiting(), Some((0, &mut 'a')));
        assert_eq!(listeners.take().collect::<Vec<_>>(), ['a', 'b', 'c']);
        assert!(!listeners.is_waiting() && listeners.next_waiting().is_none());
    }
}
