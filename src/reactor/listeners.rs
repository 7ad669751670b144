//! The listeners, and which of them may have clients in its queue.
//!
//! ```text
//!            open ◄───── its address is configured again ─────┐
//!              └──── removed, or the relay drains ───► accepting the rest ───► closed
//! ```
//! A turn costs the same with one listener and with a thousand: only those where a client may wait are looked at.

use std::collections::{HashMap, VecDeque};

use slab::Slab;

use super::admission::Admission;
use crate::net::{Address, Time};

/// The listeners of the relay. Those at which clients wait are asked in rotation.
#[derive(Debug)]
pub(super) struct Listeners<L> {
    entries: Slab<Entry<L>>,
    /// The entries at which a client may be accepted now, each once. The first is asked next.
    waiting: VecDeque<u16>,
    /// Those at which no more clients are to be accepted. They close with this turn.
    finished: Vec<u16>,
}

#[derive(Debug)]
struct Entry<L> {
    listener: L,
    /// As it was written.
    from: Address,
    /// As it is bound.
    address: Address,
    /// The route of the clients that are accepted here.
    route: u16,
    /// Clients may wait in the kernel's queue. Accepting that stopped for any reason but an empty queue has spent the
    /// queue's edge, and no other will come.
    waiting: bool,
    /// It is among those that are asked.
    is_asked: bool,
    /// Sessions that were accepted here.
    sessions: usize,
    /// The route's own limit of them. At the limit the listener is paused.
    admission: Admission,
    /// Clients that may still be accepted here; None while there is no end to them.
    left: Option<u16>,
}

/// Where a listener listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listening<'a> {
    pub(super) index: u16,
    /// As it was written.
    pub(super) from: &'a Address,
    /// As it is bound.
    pub(super) bound: &'a Address,
    /// The route that it leads to.
    pub(super) route: u16,
}

/// Where the relay listens, by port.
#[derive(Debug, Default)]
pub(super) struct ByPort(HashMap<u16, Vec<Address>>);

impl ByPort {
    /// Those with the port of this upstream. It leads to none of the others.
    pub(super) fn same_port(&self, upstream: &Address) -> impl Iterator<Item = &Address> {
        self.0.get(&port(upstream)).into_iter().flatten()
    }
}

fn port(address: &Address) -> u16 {
    let Address::Inet(address) = address;
    address.port()
}

impl<L> Entry<L> {
    fn listening(&self, index: usize) -> Listening<'_> {
        Listening { index: number(index), from: &self.from, bound: &self.address, route: self.route }
    }

    /// May a client be accepted here?
    fn is_due(&self) -> bool {
        self.waiting && self.left != Some(0) && self.admission.has_room(self.sessions)
    }
}

impl<L> Default for Listeners<L> {
    fn default() -> Self {
        Self { entries: Slab::new(), waiting: VecDeque::new(), finished: Vec::new() }
    }
}

impl<L> Listeners<L> {
    /// The index that the next listener gets.
    pub(super) fn next_index(&self) -> u16 {
        number(self.entries.vacant_key())
    }

    /// A listener that was bound. It leads nowhere until [`lead`](Self::lead).
    pub(super) fn insert(&mut self, listener: L, from: Address, address: Address) -> u16 {
        number(self.entries.insert(Entry {
            listener,
            from,
            address,
            route: u16::MAX,
            waiting: false,
            is_asked: false,
            sessions: 0,
            admission: Admission::new(usize::MAX),
            left: None,
        }))
    }

    /// Clients that are accepted here belong to this route from now on, and at most `limit` at a time are served. A
    /// listener that was about to close stays.
    pub(super) fn lead(&mut self, index: u16, route: u16, limit: Option<usize>) {
        let entry = &mut self.entries[usize::from(index)];
        (entry.route, entry.left) = (route, None);
        entry.admission.set_limit(limit.unwrap_or(usize::MAX));
        self.update(index);
    }

    /// The open listeners.
    pub(super) fn iter(&self) -> impl Iterator<Item = Listening<'_>> {
        self.entries.iter().map(|(index, entry)| entry.listening(index))
    }

    /// Where they listen. A turn cannot compare a thousand listeners with all addresses of a thousand routes.
    pub(super) fn by_port(&self) -> ByPort {
        let mut by_port = ByPort::default();
        for listening in self.iter() {
            by_port.0.entry(port(listening.bound)).or_default().push(listening.bound.clone());
        }
        by_port
    }

    /// This listener, if it is open.
    pub(super) fn get(&self, index: u16) -> Option<Listening<'_>> {
        let index = usize::from(index);
        self.entries.get(index).map(|entry| entry.listening(index))
    }

    /// An event says that clients wait here.
    pub(super) fn set_waiting(&mut self, index: u16) {
        if let Some(entry) = self.entries.get_mut(usize::from(index)) {
            entry.waiting = true;
            self.update(index);
        }
    }

    /// The queue of this listener is empty.
    pub(super) fn set_empty(&mut self, index: u16, now: Time) {
        let entry = &mut self.entries[usize::from(index)];
        entry.waiting = false;
        entry.admission.note_empty(now);
        if entry.left.is_some() {
            self.finished.push(index);
        }
        self.update(index);
    }

    /// Clients may wait at this listener. This many more are accepted, or fewer if its queue is empty before; then it
    /// closes. If it is about to close already, nothing changes.
    pub(super) fn accept_the_rest(&mut self, index: u16, most: u16) {
        let entry = &mut self.entries[usize::from(index)];
        if entry.left.is_none() {
            // No event may have told of them yet.
            (entry.waiting, entry.left) = (true, Some(most));
            self.update(index);
        }
    }

    /// The same for all of them.
    pub(super) fn accept_the_rest_of_all(&mut self, most: u16) {
        for index in self.indexes() {
            self.accept_the_rest(index, most);
        }
    }

    /// A client was accepted at this listener. Returns its route.
    pub(super) fn note_accepted(&mut self, index: u16) -> u16 {
        let entry = &mut self.entries[usize::from(index)];
        entry.sessions += 1;
        let route = entry.route;
        if let Some(left) = &mut entry.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.finished.push(index);
            }
        }
        self.update(index);
        route
    }

    /// Is it to be said that the route of this listener has as many sessions as it may have? Returns how many.
    pub(super) fn note_limit(&mut self, index: u16, now: Time) -> Option<usize> {
        let entry = &mut self.entries[usize::from(index)];
        entry.admission.note_sessions(entry.sessions, now).then(|| entry.admission.limit())
    }

    /// A session that was accepted at this listener is over.
    pub(super) fn note_ended(&mut self, index: u16) {
        self.entries[usize::from(index)].sessions -= 1;
        self.update(index);
    }

    /// How many listeners are open.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// May a client be accepted somewhere?
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next listener, in rotation, at which a client may be accepted.
    pub(super) fn next_waiting(&mut self) -> Option<(u16, &mut L)> {
        let index = self.waiting.pop_front()?;
        self.waiting.push_back(index);
        Some((index, &mut self.entries[usize::from(index)].listener))
    }

    /// A listener at which no more clients are to be accepted.
    pub(super) fn next_finished(&self) -> Option<u16> {
        self.finished.last().copied()
    }

    /// The route that this listener leads to, if it is open.
    pub(super) fn route(&self, index: u16) -> Option<u16> {
        self.get(index).map(|listening| listening.route)
    }

    /// Takes this listener, to close it.
    pub(super) fn take(&mut self, index: u16) -> L {
        let entry = self.entries.remove(usize::from(index));
        self.waiting.retain(|waiting| *waiting != index);
        self.finished.retain(|finished| *finished != index);
        entry.listener
    }

    /// Takes all of them, to close them.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = L> {
        self.waiting.clear();
        self.finished.clear();
        std::mem::take(&mut self.entries).into_iter().map(|(_, entry)| entry.listener)
    }

    /// Something about this listener has changed: asks it from now on, or no longer.
    fn update(&mut self, index: u16) {
        let entry = &mut self.entries[usize::from(index)];
        let is_due = entry.is_due();
        match (std::mem::replace(&mut entry.is_asked, is_due), is_due) {
            (false, true) => self.waiting.push_back(index),
            // The one that was asked last is at the end.
            (true, false) if self.waiting.back() == Some(&index) => drop(self.waiting.pop_back()),
            (true, false) => self.waiting.retain(|waiting| *waiting != index),
            (true, true) | (false, false) => {}
        }
    }

    fn indexes(&self) -> Vec<u16> {
        self.entries.iter().map(|(index, _)| number(index)).collect()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each listener has a route of its own, of at most 65,535")]
fn number(key: usize) -> u16 {
    key as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(limit: Option<usize>) -> Listeners<char> {
        let address = Address::Inet(([127, 0, 0, 1], 80).into());
        let mut listeners = Listeners::default();
        for (name, route) in ['a', 'b', 'c'].into_iter().zip(10..) {
            let index = listeners.next_index();
            assert_eq!(listeners.insert(name, address.clone(), address.clone()), index);
            listeners.lead(index, route, limit);
        }
        listeners
    }

    fn next(listeners: &mut Listeners<char>) -> Option<char> {
        listeners.next_waiting().map(|(_, name)| *name)
    }

    fn finished(listeners: &mut Listeners<char>) -> Vec<char> {
        let next = |listeners: &mut Listeners<char>| listeners.next_finished().map(|index| listeners.take(index));
        std::iter::from_fn(|| next(listeners)).collect()
    }

    #[test]
    fn listeners_with_waiting_clients_take_turns() {
        let mut listeners = listeners(None);
        assert!(!listeners.is_waiting() && next(&mut listeners).is_none());
        listeners.set_waiting(0);
        listeners.set_waiting(2);
        listeners.set_waiting(0);
        let order: Vec<_> = (0..4).map(|_| next(&mut listeners).unwrap()).collect();
        assert_eq!(order, ['a', 'c', 'a', 'c']);
        listeners.set_empty(0, Time::START);
        assert_eq!(listeners.next_waiting(), Some((2, &mut 'c')));
        listeners.set_empty(2, Time::START);
        assert!(!listeners.is_waiting() && next(&mut listeners).is_none());
        listeners.accept_the_rest_of_all(2);
        listeners.set_waiting(7);
        assert_eq!(listeners.next_waiting(), Some((0, &mut 'a')));
        assert_eq!(listeners.take_all().collect::<Vec<_>>(), ['a', 'b', 'c']);
        listeners.set_waiting(0);
        assert!(!listeners.is_waiting() && next(&mut listeners).is_none());
    }

    #[test]
    fn a_listener_is_finished_when_its_queue_is_empty_or_a_backlog_was_accepted() {
        let mut listeners = listeners(None);
        assert_eq!(listeners.note_accepted(0), 10);
        assert_eq!(finished(&mut listeners), [], "nothing is finished while it serves");
        listeners.accept_the_rest_of_all(2);
        listeners.set_empty(2, Time::START);
        listeners.note_accepted(0);
        listeners.note_accepted(1);
        // Asked again, it is no other backlog's length: a listener that is reloaded again and again closes too.
        listeners.accept_the_rest(0, 9);
        listeners.accept_the_rest_of_all(9);
        assert_eq!(finished(&mut listeners), ['c']);
        listeners.note_accepted(0);
        assert_eq!(finished(&mut listeners), ['a']);
        assert_eq!((listeners.len(), listeners.is_waiting()), (1, true));
        listeners.set_waiting(0);
        assert_eq!(listeners.next_waiting(), Some((1, &mut 'b')));
        assert_eq!(listeners.take_all().collect::<Vec<_>>(), ['b']);
        assert!(listeners.len() == 0 && !listeners.is_waiting());
    }

    #[test]
    fn a_listener_that_is_about_to_close_stays_when_it_leads_somewhere_again() {
        let mut listeners = listeners(None);
        listeners.accept_the_rest(1, 2);
        listeners.note_accepted(1);
        listeners.accept_the_rest_of_all(7);
        listeners.lead(1, 20, None);
        for _ in 0..9 {
            assert_eq!(listeners.note_accepted(1), 20);
        }
        listeners.set_empty(1, Time::START);
        assert_eq!(finished(&mut listeners), []);
    }

    #[test]
    fn a_listener_whose_route_has_all_its_sessions_is_not_asked_until_one_ends() {
        let mut listeners = listeners(Some(2));
        for index in 0..3 {
            listeners.set_waiting(index);
        }
        for said in [None, Some(2)] {
            listeners.note_accepted(1);
            assert_eq!(listeners.note_limit(1, Time::START), said);
        }
        let order: Vec<_> = (0..4).map(|_| next(&mut listeners).unwrap()).collect();
        assert_eq!(order, ['a', 'c', 'a', 'c']);
        listeners.note_ended(1);
        assert_eq!(
            (next(&mut listeners), next(&mut listeners), next(&mut listeners)),
            (Some('a'), Some('c'), Some('b'))
        );
        listeners.note_accepted(1);
        assert_eq!((listeners.note_limit(1, Time::START), listeners.waiting.len()), (None, 2), "it was said");
        listeners.accept_the_rest_of_all(9);
        assert_eq!((finished(&mut listeners), listeners.waiting.len()), (vec![], 2), "its clients wait for room");
        listeners.lead(1, 20, Some(3));
        assert_eq!(listeners.waiting.len(), 3);
        listeners.lead(1, 21, Some(1));
        assert_eq!((listeners.waiting.len(), listeners.note_limit(1, Time::START)), (2, Some(1)));
    }

    #[test]
    fn the_index_of_a_closed_listener_is_used_again() {
        let mut listeners = listeners(None);
        listeners.set_waiting(1);
        assert_eq!((listeners.take(1), listeners.is_waiting(), listeners.next_index()), ('b', false, 1));
        listeners.set_waiting(1);
        assert!(!listeners.is_waiting(), "a late event is for nobody");
        let address = Address::Inet(([127, 0, 0, 1], 81).into());
        assert_eq!(listeners.insert('d', address.clone(), address), 1);
        assert!(!listeners.is_waiting());
    }
}
