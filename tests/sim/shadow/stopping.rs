//! What the relay was told of stopping: a model of the delay and the drain.

use std::time::Duration;

use tproxy::net::{Closing, Time};

use super::Shadow;
use crate::kernel::ConnId;

impl Shadow {
    /// A request to stop is delivered, while these clients wait to be accepted.
    pub(crate) fn stopped(&mut self, now: Time, signal: bool, queues: &[Vec<ConnId>]) {
        match self.asked_at {
            None => {
                self.asked_at = Some(now);
                // After a hand-over it drains already.
                if self.config.drain_delay.is_zero() && self.stop_turn.is_none() {
                    self.drains(now, queues);
                }
            }
            // Signals within 300 ms of the first request are that request. Control::stop() is idempotent.
            Some(first) if signal && now >= first + Duration::from_millis(300) => {
                self.impatient = true;
                self.stop_turn.get_or_insert(self.turn);
            }
            Some(_) => {}
        }
    }

    /// The drain begins.
    pub(crate) fn drains(&mut self, now: Time, queues: &[Vec<ConnId>]) {
        (self.stopped_at, self.stop_turn) = (Some(now), Some(self.turn));
        self.close_doors(queues);
        for index in 0..self.live.len() {
            self.note_due(self.live[index]);
        }
    }

    /// Another process has the listeners and serves: the drain begins at once, and nobody is let in any more.
    pub(crate) fn handed_over(&mut self, now: Time) {
        self.handed = true;
        self.drains(now, &[]);
    }

    /// Why a listener is to close now, if it is.
    pub(crate) fn closing_reason(&self, door: usize) -> Closing {
        if self.handed {
            Closing::HandedOver
        } else if self.doors[door].route.is_none() {
            // It was bound for a reload.
            Closing::Abandoned
        } else if self.stop_turn.is_some() {
            Closing::Stopped
        } else {
            Closing::Removed
        }
    }

    /// When the drain is to begin, if it was asked for and has not begun.
    pub(crate) fn drain_due(&self) -> Option<Time> {
        let asked = self.asked_at.filter(|_| self.stop_turn.is_none());
        asked.map(|asked| asked + self.config.drain_delay)
    }

    /// Has the drain begun, or may it in this turn?
    pub(crate) fn may_drain(&self) -> bool {
        self.stop_turn.is_some() || self.drain_due().is_some_and(|due| self.now >= due)
    }

    /// A request to stop without a drain is delivered.
    pub(crate) fn stopped_now(&mut self) {
        self.stop_now = true;
        self.stop_turn.get_or_insert(self.turn);
    }

    /// May sessions be reset now because the relay is to stop?
    pub(crate) fn is_given_up(&self, now: Time) -> bool {
        // After the delay, the drain begins in this turn.
        let begins = self.stopped_at.or_else(|| self.drain_due().filter(|due| now >= *due).map(|_| now));
        let deadline = begins.zip(self.config.drain_timeout).map(|(at, wait)| at + wait);
        self.fatal || self.stop_now || self.impatient || deadline.is_some_and(|deadline| now >= deadline)
    }
}
