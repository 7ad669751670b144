//! The listeners, and which of them may have clients in its queue.
//!
//! ```text
//!            open ◄───── its address is configured again ─────┐
//!              └──── removed, or the relay drains ───► accepting the rest ───► closed
//! ```
//! A turn costs the same with one listener and with a thousand: only those where a client may wait are looked at.

use std::collections::VecDeque;
use std::net::IpAddr;

use slab::Slab;

use super::admission::Admission;
use super::own::Own;
use super::per_ip::PerIp;
use crate::config::{AtLimit, Route};
use crate::net::{Address, AddressKey, Time};

/// The listeners of the relay. Those at which clients wait are asked in rotation.
#[derive(Debug)]
pub(super) struct Listeners<L> {
    entries: Slab<Entry<L>>,
    /// The entries at which a client may be accepted now, each once. The first is asked next.
    waiting: VecDeque<u16>,
    /// How many of those reset clients for which there is no room.
    waiting_to_reset: usize,
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
    /// Its key when it was bound: it stays this socket's, whatever becomes of the path.
    key: AddressKey,
    /// The route of the clients that are accepted here.
    route: u16,
    /// Clients may wait in the kernel's queue. Accepting that stopped for any reason but an empty queue has spent the
    /// queue's edge, and no other will come.
    waiting: bool,
    /// It is among those that are asked.
    is_asked: bool,
    /// Sessions that were accepted here.
    sessions: usize,
    /// The route's own limit of them. At the limit the listener is paused, or its clients are reset.
    admission: Admission,
    at_limit: AtLimit,
    /// Those sessions by client address, if the route limits that.
    per_ip: PerIp,
    /// The most clients that its queue may have held at a time.
    queue: u16,
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
    pub(super) key: &'a AddressKey,
    /// The route that it leads to.
    pub(super) route: u16,
}

impl<L> Entry<L> {
    fn listening(&self, index: usize) -> Listening<'_> {
        Listening { index: number(index), from: &self.from, bound: &self.address, key: &self.key, route: self.route }
    }

    /// May a client be accepted here?
    fn is_due(&self) -> bool {
        self.waiting && self.left != Some(0) && (self.resets() || self.admission.has_room(self.sessions))
    }

    /// Are clients reset for which there is no room?
    fn resets(&self) -> bool {
        self.at_limit == AtLimit::Reset
    }

    /// A client was taken off the queue. Is it the last that is accepted here?
    fn count_down(&mut self) -> bool {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        self.left == Some(0)
    }
}

impl<L> Default for Listeners<L> {
    fn default() -> Self {
        Self { entries: Slab::new(), waiting: VecDeque::new(), waiting_to_reset: 0, finished: Vec::new() }
    }
}

impl<L> Listeners<L> {
    /// The index that the next listener gets.
    pub(super) fn next_index(&self) -> u16 {
        number(self.entries.vacant_key())
    }

    /// A listener that was bound. It leads nowhere until [`lead`](Self::lead).
    pub(super) fn insert(&mut self, listener: L, from: Address, address: Address, key: AddressKey) -> u16 {
        number(self.entries.insert(Entry {
            listener,
            from,
            address,
            key,
            route: u16::MAX,
            waiting: false,
            is_asked: false,
            sessions: 0,
            admission: Admission::new(usize::MAX),
            at_limit: AtLimit::Wait,
            per_ip: PerIp::default(),
            queue: 0,
            left: None,
        }))
    }

    /// Clients that are accepted here belong to this route, with these settings, from now on. A listener that was about to
    /// close stays. Its queue holds the backlog and one more (K7); what came by a longer one is there yet.
    pub(super) fn lead(&mut self, index: u16, route: u16, settings: &Route) {
        let entry = &mut self.entries[usize::from(index)];
        // It keeps its place in the rotation.
        self.waiting_to_reset -= usize::from(entry.is_asked && entry.resets());
        (entry.route, entry.left, entry.at_limit) = (route, None, settings.at_limit);
        self.waiting_to_reset += usize::from(entry.is_asked && entry.resets());
        entry.queue = entry.queue.max(settings.backlog.saturating_add(1));
        entry.admission.set_limit(settings.max_sessions.unwrap_or(usize::MAX));
        self.update(index);
    }

    /// The open listeners.
    pub(super) fn iter(&self) -> impl Iterator<Item = Listening<'_>> {
        self.entries.iter().map(|(index, entry)| entry.listening(index))
    }

    /// Where they listen.
    pub(super) fn own(&self) -> Own {
        let mut own = Own::default();
        self.entries.iter().for_each(|(_, entry)| own.add(entry.key.clone(), entry.address.clone()));
        own
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
        if entry.admission.has_room(entry.sessions) {
            entry.admission.note_empty(now);
        }
        if entry.left.is_some() {
            self.finished.push(index);
        }
        self.update(index);
    }

    /// Clients may wait at this listener. As many as its queue can hold are accepted, or fewer if it is empty before; then
    /// it closes. If it is about to close already, nothing changes.
    pub(super) fn accept_the_rest(&mut self, index: u16) {
        let entry = &mut self.entries[usize::from(index)];
        if entry.left.is_none() {
            // No event may have told of them yet.
            (entry.waiting, entry.left) = (true, Some(entry.queue));
            self.update(index);
        }
    }

    /// The same for all of them.
    pub(super) fn accept_the_rest_of_all(&mut self) {
        let indexes: Vec<_> = self.entries.iter().map(|(index, _)| number(index)).collect();
        indexes.into_iter().for_each(|index| self.accept_the_rest(index));
    }

    /// A client was accepted at this listener, and a session begins.
    pub(super) fn note_accepted(&mut self, index: u16) {
        self.entries[usize::from(index)].sessions += 1;
        self.note_refused(index);
    }

    /// A client was accepted at this listener, and reset.
    pub(super) fn note_refused(&mut self, index: u16) {
        if self.entries[usize::from(index)].count_down() {
            self.finished.push(index);
        }
        self.update(index);
    }

    /// May the route of this listener have another session?
    pub(super) fn has_room(&self, index: u16) -> bool {
        self.entries.get(usize::from(index)).is_some_and(|entry| entry.admission.has_room(entry.sessions))
    }

    /// Sessions of this client address that were accepted here and counted.
    pub(super) fn sessions_of(&self, index: u16, client: IpAddr) -> usize {
        self.entries.get(usize::from(index)).map_or(0, |entry| entry.per_ip.count(client))
    }

    /// A session of this client address that was accepted here counts.
    pub(super) fn count_client(&mut self, index: u16, client: IpAddr) {
        self.entries[usize::from(index)].per_ip.add(client);
    }

    /// Client addresses that are counted.
    pub(super) fn client_addresses(&self) -> usize {
        self.entries.iter().map(|(_, entry)| entry.per_ip.len()).sum()
    }

    /// How many reset clients for which there is no room.
    pub(super) fn with_reset(&self) -> usize {
        self.entries.iter().filter(|(_, entry)| entry.resets()).count()
    }

    /// Is it to be said that the route of this listener has as many sessions as it may have? Returns how many.
    pub(super) fn note_limit(&mut self, index: u16, now: Time) -> Option<usize> {
        let entry = &mut self.entries[usize::from(index)];
        entry.admission.note_sessions(entry.sessions, now).then(|| entry.admission.limit())
    }

    /// A session that was accepted at this listener is over. Its client may have been counted.
    pub(super) fn note_ended(&mut self, index: u16, counted: Option<IpAddr>) {
        let entry = &mut self.entries[usize::from(index)];
        entry.sessions -= 1;
        counted.into_iter().for_each(|client| entry.per_ip.remove(client));
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

    /// May a client be accepted somewhere although there is no room for it, because it is reset?
    pub(super) fn is_waiting_to_reset(&self) -> bool {
        self.waiting_to_reset > 0
    }

    /// The next listener, in rotation, at which a client may be accepted. If the process has no room for it: at which it is
    /// reset then.
    pub(super) fn next_waiting(&mut self, has_room: bool) -> Option<(u16, &mut L)> {
        let is_meant = |index: &u16| has_room || self.entries[usize::from(*index)].resets();
        let place = self.waiting.iter().position(is_meant)?;
        let index = self.waiting.remove(place)?;
        self.waiting.push_back(index);
        Some((index, &mut self.entries[usize::from(index)].listener))
    }

    /// A listener at which no more clients are to be accepted.
    pub(super) fn next_finished(&self) -> Option<u16> {
        self.finished.last().copied()
    }

    /// Their sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &L> {
        self.entries.iter().map(|(_, entry)| &entry.listener)
    }

    /// The socket of this listener.
    pub(super) fn socket(&mut self, index: u16) -> &mut L {
        &mut self.entries[usize::from(index)].listener
    }

    /// The route that this listener leads to, if it is open.
    pub(super) fn route(&self, index: u16) -> Option<u16> {
        self.get(index).map(|listening| listening.route)
    }

    /// Takes this listener, to close it.
    pub(super) fn take(&mut self, index: u16) -> L {
        self.stop_asking(index);
        let entry = self.entries.remove(usize::from(index));
        self.finished.retain(|finished| *finished != index);
        entry.listener
    }

    /// Takes all of them, to close them.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = L> {
        self.waiting.clear();
        self.waiting_to_reset = 0;
        self.finished.clear();
        std::mem::take(&mut self.entries).into_iter().map(|(_, entry)| entry.listener)
    }

    /// Something about this listener has changed: asks it from now on, or no longer.
    fn update(&mut self, index: u16) {
        let entry = &mut self.entries[usize::from(index)];
        match (entry.is_asked, entry.is_due()) {
            (false, true) => {
                entry.is_asked = true;
                self.waiting_to_reset += usize::from(entry.resets());
                self.waiting.push_back(index);
            }
            (true, false) => self.stop_asking(index),
            (true, true) | (false, false) => {}
        }
    }

    /// This listener is not asked any more, if it was.
    fn stop_asking(&mut self, index: u16) {
        let entry = &mut self.entries[usize::from(index)];
        if !std::mem::take(&mut entry.is_asked) {
            return;
        }
        self.waiting_to_reset -= usize::from(entry.resets());
        // The one that was asked last is at the end.
        if self.waiting.back() == Some(&index) {
            self.waiting.pop_back();
        } else {
            self.waiting.retain(|waiting| *waiting != index);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each listener has a route of its own, of at most 65,535")]
fn number(key: usize) -> u16 {
    key as u16
}

#[cfg(test)]
mod tests;
