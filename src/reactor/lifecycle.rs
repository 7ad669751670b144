//! Serving, then draining: what a stop request does.

use log::info;

use super::alarms::Alarm;
use super::{Net, Reactor, accept};
use crate::error::Error;

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// It accepts clients.
    Serving,
    /// It was asked to stop: no new clients, the sessions finish.
    Draining,
}

impl<N: Net> Reactor<N> {
    /// A stop request. The first begins the drain, a later one does not wait.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        match self.lifecycle {
            Lifecycle::Serving => self.begin_drain(),
            Lifecycle::Draining => {
                self.reset_all();
                Ok(())
            }
        }
    }

    /// Clients that had connected before the request are served. Later ones are refused at once.
    fn begin_drain(&mut self) -> Result<(), Error> {
        self.lifecycle = Lifecycle::Draining;
        self.listeners.assume_waiting();
        self.accept(accept::DRAIN_ACCEPTS_MAX)?;
        self.stop_listening();
        let left = self.table.live();
        match self.drain_timeout {
            Some(timeout) => {
                info!("draining {left} sessions, up to {timeout:?}");
                self.alarms.set(self.now + timeout, Alarm::Drain);
            }
            None => info!("draining {left} sessions, as long as it takes"),
        }
        Ok(())
    }

    /// A request to stop without a drain.
    pub(super) fn stop_now(&mut self) {
        self.stop_listening();
        self.reset_all();
    }

    /// No client is accepted from now on. Those that wait in a queue are reset.
    fn stop_listening(&mut self) {
        self.lifecycle = Lifecycle::Draining;
        for listener in self.listeners.take() {
            self.net.unlisten(listener);
        }
        self.resume_accept();
    }

    /// Resets all sessions that are left. Nothing is flushed.
    pub(super) fn reset_all(&mut self) {
        for key in self.table.keys() {
            if !self.table[key].queued.is_ended() {
                self.table[key].cut_short();
                self.table.end(key);
            }
        }
    }
}
