//! Starting, serving, draining: what a stop request does.
//!
//! ```text
//!   first request        each listener: 32 clients a turn, as room comes free     sessions finish      the deadline
//!   ├── delay ──► drain ─────────────── until its queue is empty ──────► closed ──────────────────► reset what is left
//! ```
//! During the delay nothing changes: clients are accepted and no session is reset. Without one, the first request begins the
//! drain. When another process has the listeners, they close at once, and the drain begins without a delay.

use std::time::Duration;

use log::info;

use super::alarms::Alarm;
use super::{Net, Reactor};
use crate::error::Error;
use crate::net::{Closing, Handed, Reply, Time};

/// A signal that comes so soon after the first request is the same request.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    /// It listens, and has served no client yet.
    Starting,
    /// It accepts clients.
    Serving,
    /// It was asked to stop, and goes on for a while: load balancers may send clients yet.
    Delaying {
        /// When it was asked first.
        since: Time,
    },
    /// It was asked to stop: clients that had connected are served, and the sessions finish.
    Draining {
        /// When it was asked first. Not yet, if another process took its place.
        since: Option<Time>,
    },
}

/// What a drain means for a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    /// See [`Config::drain_idle_timeout`](crate::Config::drain_idle_timeout).
    pub(super) idle_timeout: Option<Duration>,
}

impl<N: Net> Reactor<N> {
    /// Has the drain begun?
    pub(super) fn is_draining(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Draining { .. })
    }

    /// Was it asked to stop?
    pub(super) fn is_stopping(&self) -> bool {
        self.is_draining() || matches!(self.lifecycle, Lifecycle::Delaying { .. })
    }

    /// What the drain means for sessions, if it has begun.
    pub(super) fn drain(&self) -> Option<Drain> {
        self.is_draining().then_some(Drain { idle_timeout: self.shared.drain_idle_timeout })
    }

    /// A client was accepted, or the routes were replaced: it has started.
    pub(super) fn has_started(&mut self) {
        if self.lifecycle == Lifecycle::Starting {
            self.lifecycle = Lifecycle::Serving;
        }
    }

    /// A stop request. The first begins the delay or the drain, if there is none after a hand-over. A later one changes
    /// nothing.
    pub(super) fn stop(&mut self) {
        if let Lifecycle::Draining { since: since @ None } = &mut self.lifecycle {
            *since = Some(self.now);
        }
        match self.shared.drain_delay {
            _ if self.is_stopping() => {}
            Duration::ZERO => self.begin_drain(Some(self.now), Closing::Stopped),
            delay => {
                self.lifecycle = Lifecycle::Delaying { since: self.now };
                self.alarms.set(self.now + delay, Alarm::Drain);
                let (left, delay) = (self.table.live(), humantime::format_duration(delay));
                info!("asked to stop with {left} sessions; clients are accepted for {delay}, then it drains");
            }
        }
    }

    /// The end of the delay, or of the drain.
    pub(super) fn go_on_stopping(&mut self) {
        match self.lifecycle {
            Lifecycle::Delaying { since } => self.begin_drain(Some(since), Closing::Stopped),
            Lifecycle::Draining { .. } => self.stop_now(),
            Lifecycle::Starting | Lifecycle::Serving => debug_assert!(false, "nobody asked it to stop"),
        }
    }

    /// The drain begins. It was asked for at `since`.
    ///
    /// Clients that had connected before are served: those in a listener's queue are accepted as always, 32 a turn and as
    /// room comes free, at most one backlog's length of them. Then the listener closes, and later clients are refused.
    /// Those of a listener that was handed over are the other process's.
    fn begin_drain(&mut self, since: Option<Time>, why: Closing) {
        self.lifecycle = Lifecycle::Draining { since };
        let left = self.table.live();
        match self.shared.drain_timeout {
            Some(timeout) => {
                info!("draining {left} sessions, up to {}", humantime::format_duration(timeout));
                self.alarms.set(self.now + timeout, Alarm::Drain);
            }
            None => info!("draining {left} sessions, as long as it takes"),
        }
        if why == Closing::HandedOver || self.shared.drain_timeout == Some(Duration::ZERO) {
            self.stop_listening(why);
        } else {
            self.listeners.accept_the_rest_of_all();
        }
        self.wake_all_named();
        self.say_later_who_is_left();
        if let Some(wait) = self.shared.drain_idle_timeout {
            for key in self.table.keys() {
                if let Some(at) = self.table[key].inactive_at(wait) {
                    self.arm(key, at);
                }
            }
        }
    }

    /// A stop signal: terminals and supervisors often send two.
    pub(super) fn signal(&mut self) {
        match self.lifecycle {
            Lifecycle::Delaying { since } | Lifecycle::Draining { since: Some(since) }
                if self.now >= since + SAME_REQUEST =>
            {
                self.stop_now();
            }
            Lifecycle::Starting | Lifecycle::Serving | Lifecycle::Delaying { .. } | Lifecycle::Draining { .. } => {
                self.stop();
            }
        }
    }

    /// Another process is to have the listeners. Nothing changes until it has them and serves.
    pub(super) fn hand_over(&mut self, reply: Reply<Vec<Handed>>) {
        reply.send(match self.is_stopping() {
            true => Err(Error::Draining),
            false => Ok(self.net.hand_over(&mut self.listeners.sockets())),
        });
    }

    /// Another process has them and serves.
    pub(super) fn handed_over(&mut self, reply: Reply<()>) {
        if self.is_stopping() {
            return reply.send(Err(Error::Draining));
        }
        self.begin_drain(None, Closing::HandedOver);
        reply.send(Ok(()));
    }

    /// A request to stop without a drain, or the drain deadline: nothing is flushed.
    pub(super) fn stop_now(&mut self) {
        if !self.is_draining() {
            self.lifecycle = Lifecycle::Draining { since: Some(self.now) };
        }
        self.stop_listening(Closing::Stopped);
        for key in self.table.keys() {
            if !self.table[key].queued.is_ended() {
                self.table[key].cut_short();
                self.table.end(key);
            }
        }
    }

    /// Closes the listeners that have no more clients to give, while draining or after a reload.
    pub(super) fn close_listeners(&mut self) {
        if self.listeners.next_finished().is_some() {
            self.close_finished();
        }
    }

    /// There are such listeners: closes them.
    #[inline(never)]
    fn close_finished(&mut self) {
        let why = if self.is_draining() { Closing::Stopped } else { Closing::Removed };
        while let Some(index) = self.listeners.next_finished() {
            let route = self.listeners.route(index);
            let listener = self.listeners.take(index);
            self.net.unlisten(listener, why);
            self.routes.forget_listeners(|closed| closed == index);
            if let Some(route) = route {
                self.free_route(route);
            }
        }
        self.refresh_left_out();
    }

    /// No client is accepted from now on. Those that wait in a queue are reset, unless another process has it.
    fn stop_listening(&mut self, why: Closing) {
        for listener in self.listeners.take_all() {
            self.net.unlisten(listener, why);
        }
        self.routes.forget_listeners(|_| true);
        for route in self.routes.leading_to(|_| true) {
            self.free_route(route);
        }
        self.refresh_left_out();
        self.resume_accept();
    }
}
