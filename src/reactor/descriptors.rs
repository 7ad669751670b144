//! Sessions that wait for a descriptor, and shortages, each told once.
//!
//! EMFILE at `accept` is the gate's: it pauses. EMFILE at `connect` is a waiter here: the session keeps its client and
//! tries again when a session has ended, or after a while. As long as one waits, no new client is accepted.

use std::collections::VecDeque;
use std::time::Duration;

use super::alarms::{Alarm, Alarms};
use super::table::Table;
use crate::net::{Stream, Time, Token};

/// How long the first waiter waits before it tries again, if no session's end gives it a descriptor.
const RETRY: Duration = Duration::from_millis(100);

/// Sessions that wait for a descriptor, in the order they came. When one may be free, the first is woken; if it gets a
/// descriptor, it wakes the next. An event of its own makes a waiter try out of turn.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// By their client's token. Entries of sessions that have ended, or that no longer wait, are skipped.
    queue: VecDeque<Token>,
    /// Sessions that wait.
    waiters: usize,
    /// When [`Alarm::Descriptors`] is due.
    retry_at: Option<Time>,
    /// A shortage was told and is not over.
    is_short: bool,
    /// The most sessions that had all their descriptors at a time, since something was last short.
    proven: usize,
}

impl Descriptors {
    /// Does a session wait?
    pub(super) fn has_waiters(&self) -> bool {
        self.waiters > 0
    }

    /// How many clients may be accepted in one turn beside these sessions, which have been dialled for: as many as there
    /// have been descriptors for before, or a few more than one.
    pub(super) fn batch(&mut self, sessions: usize) -> usize {
        self.proven = self.proven.max(sessions);
        (self.proven - sessions).max(1 + sessions / 8)
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

    /// This session found no descriptor. `waited` if it was waiting before; then it keeps its place.
    pub(super) fn wait(&mut self, client: Token, waited: bool, now: Time, alarms: &mut Alarms) {
        if !waited {
            self.waiters += 1;
            self.queue.push_back(client);
        }
        if self.retry_at.is_none() {
            self.retry_at = Some(now + RETRY);
            alarms.set(now + RETRY, Alarm::Descriptors);
        }
    }

    /// A session that waited does not any more: it has its descriptor, or has ended.
    pub(super) fn leave<S: Stream>(&mut self, table: &mut Table<S>, alarms: &mut Alarms) {
        self.waiters -= 1;
        self.wake_first(table, alarms);
    }

    /// [`Alarm::Descriptors`] went off.
    pub(super) fn retry<S: Stream>(&mut self, table: &mut Table<S>, alarms: &mut Alarms) {
        self.retry_at = None;
        self.wake_first(table, alarms);
    }

    /// Descriptors may have come free: the first waiter tries.
    pub(super) fn wake_first<S: Stream>(&mut self, table: &mut Table<S>, alarms: &mut Alarms) {
        while let Some(token) = self.queue.front() {
            if let Some(key) = table.find(*token).filter(|key| table[*key].waits_for_descriptor()) {
                return table.wake(key);
            }
            self.queue.pop_front();
        }
        if let Some(at) = self.retry_at.take() {
            alarms.cancel(at, Alarm::Descriptors);
        }
    }
}
