//! The sessions: their slots and serials, and the queues they are on.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use slab::Slab;

use super::session::Session;
use crate::net::{Peer, Stream, Token};

/// Slots reserved at start, unless the limit is lower, so that the table does not move while it grows. Untouched slots
/// take no memory.
const RESERVED: usize = 1 << 16;

/// The sessions and their queues. A session is on each queue at most once.
#[derive(Debug)]
pub(super) struct Table<S: Stream> {
    sessions: Slab<Session<S>>,
    /// Sessions that an event or an alarm pointed at, by their client's token.
    ready: VecDeque<Token>,
    /// Flows that had more to do than their slice, by their source's token.
    backlog: VecDeque<Token>,
    /// Sessions to be reaped at the end of this turn.
    ended: VecDeque<u32>,
    /// Slots that were ever used.
    slots: u32,
    /// The serial of the newest socket.
    serial: u32,
}

/// The queues a session is on. Only the table changes it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Queued(u8);

impl Queued {
    const READY: u8 = 1;
    const ENDED: u8 = 2;
    const BACKLOG: [u8; 2] = [4, 8];

    /// Does the session wait to be reaped?
    pub(super) fn is_ended(self) -> bool {
        self.0 & Self::ENDED != 0
    }

    /// Does the flow from this peer wait for a slice?
    pub(super) fn is_on_backlog(self, source: Peer) -> bool {
        self.0 & Self::BACKLOG[source as usize] != 0
    }

    /// Adds a queue. Was the session not on it yet?
    fn add(&mut self, queue: u8) -> bool {
        let is_new = self.0 & queue == 0;
        self.0 |= queue;
        is_new
    }

    fn remove(&mut self, queue: u8) {
        self.0 &= !queue;
    }
}

impl<S: Stream> Table<S> {
    /// An empty table for at most `limit` sessions.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            sessions: Slab::with_capacity(limit.min(RESERVED)),
            ready: VecDeque::new(),
            backlog: VecDeque::new(),
            ended: VecDeque::new(),
            slots: 0,
            serial: 0,
        }
    }

    /// Sessions in the table, those to be reaped included.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions that have not ended.
    pub(super) fn live(&self) -> usize {
        self.sessions.len() - self.ended.len()
    }

    /// Entries of the ready queue.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Entries of the backlog.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Puts in the session that is made with this serial of its client's socket.
    pub(super) fn insert(&mut self, make: impl FnOnce(u32) -> Session<S>) -> u32 {
        let serial = self.next_serial();
        let key = slot(self.sessions.insert(make(serial)));
        self.slots = self.slots.max(key + 1);
        key
    }

    /// Gives the session's next connection to its upstream a token. Events of the connection before no longer count.
    pub(super) fn renumber_upstream(&mut self, key: u32) -> Token {
        let serial = self.next_serial();
        self[key].renumber_upstream(serial);
        self[key].token(key, Peer::Upstream)
    }

    /// The slot of the session that this token belongs to, if the session is still there.
    pub(super) fn find(&self, token: Token) -> Option<u32> {
        let session = self.sessions.get(token.key())?;
        (session.serial(token.peer()) == token.serial()).then_some(slot(token.key()))
    }

    /// Slots that were ever used: a session is in one below this.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    /// The session in this slot, if there is one.
    pub(super) fn get(&self, key: u32) -> Option<&Session<S>> {
        self.sessions.get(key as usize)
    }

    /// The sessions, in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Session<S>> {
        self.sessions.iter().map(|(_, session)| session)
    }

    /// All slots in use.
    pub(super) fn keys(&self) -> Vec<u32> {
        self.sessions.iter().map(|(key, _)| slot(key)).collect()
    }

    /// Puts the session on the ready queue.
    pub(super) fn wake(&mut self, key: u32) {
        if self[key].queued.add(Queued::READY) {
            let token = self[key].token(key, Peer::Client);
            self.ready.push_back(token);
        }
    }

    /// Takes the front entry off the ready queue. None if its session is gone, or if there is no entry.
    pub(super) fn pop_ready(&mut self) -> Option<u32> {
        let token = self.ready.pop_front()?;
        let key = self.find(token)?;
        self[key].queued.remove(Queued::READY);
        Some(key)
    }

    /// Puts the flow from this peer on the backlog.
    pub(super) fn queue(&mut self, key: u32, source: Peer) {
        if self[key].queued.add(Queued::BACKLOG[source as usize]) {
            let token = self[key].token(key, source);
            self.backlog.push_back(token);
        }
    }

    /// Takes the front flow off the backlog. Entries of sessions that are gone are skipped.
    pub(super) fn pop_backlog(&mut self) -> Option<(u32, Peer)> {
        while let Some(token) = self.backlog.pop_front() {
            if let Some(key) = self.find(token) {
                self[key].queued.remove(Queued::BACKLOG[token.peer() as usize]);
                return Some((key, token.peer()));
            }
        }
        None
    }

    /// The session ends with this turn.
    pub(super) fn end(&mut self, key: u32) {
        if self[key].queued.add(Queued::ENDED) {
            self.ended.push_back(key);
        }
    }

    /// Does a session wait to be reaped?
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// A session that waits to be reaped.
    pub(super) fn next_ended(&self) -> Option<u32> {
        self.ended.front().copied()
    }

    /// Takes the session that [`next_ended`](Self::next_ended) named out of the table.
    pub(super) fn remove_ended(&mut self, key: u32) -> Session<S> {
        let front = self.ended.pop_front();
        debug_assert_eq!(front, Some(key), "sessions are reaped in order");
        self.sessions.remove(key as usize)
    }

    /// A serial no socket had, or not for 4 billion sockets. It is never 0.
    fn next_serial(&mut self) -> u32 {
        self.serial = match self.serial.wrapping_add(1) {
            0 => 1,
            serial => serial,
        };
        self.serial
    }
}

impl<S: Stream> Index<u32> for Table<S> {
    type Output = Session<S>;

    fn index(&self, key: u32) -> &Session<S> {
        &self.sessions[key as usize]
    }
}

impl<S: Stream> IndexMut<u32> for Table<S> {
    fn index_mut(&mut self, key: u32) -> &mut Session<S> {
        &mut self.sessions[key as usize]
    }
}

#[expect(clippy::cast_possible_truncation, reason = "there are at most Token::KEY_MAX sessions")]
fn slot(key: usize) -> u32 {
    key as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Owner;
    use crate::net::mio::Socket;

    #[test]
    fn after_four_billion_sockets_no_session_gets_the_serial_of_listeners() {
        let mut table = Table::<Socket> { serial: u32::MAX - 1, ..Table::new(1) };
        let serials = [(); 3].map(|()| table.next_serial());
        assert_eq!(serials, [u32::MAX, 1, 2]);
        let owners = serials.map(|serial| Token::new(serial, 7, Peer::Client).owner());
        assert_eq!(owners, [Owner::Session(7, Peer::Client); 3]);
    }
}
