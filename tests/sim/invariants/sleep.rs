//! What must hold at each sleep: whatever sleeps has nothing to do, and wakes for the next thing there is.

use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{Peer, Time};

use super::asks::longest_pause;
use super::sockets::KEPT_PER_TURN;
use crate::shadow::{End, Flow, HEADER_TIMEOUT, PAUSE_JITTER, Session, YOUNG};
use crate::world::World;

/// When the next are kept alive, if they are too many for one turn.
const SOON: Duration = Duration::from_millis(10);

/// Who waits for a descriptor or a port tries again after so long at most, whether or not a session has ended.
const RETRY: Duration = Duration::from_secs(1);

/// A shortage of source ports is over when no session has lacked one for half as long.
const PORTS_CALM: Duration = Duration::from_secs(20);

impl World {
    /// No lost wake-up: who sleeps has nothing to do, and wakes for the next thing there is.
    pub(crate) fn check_sleep(&mut self, until: Option<Time>) {
        for index in 0..self.shadow.live.len() {
            let session = self.shadow.live[index];
            if let Some(what) = self.missed(session) {
                self.violation(format!("session {session} sleeps, but {what}"));
            }
            self.check_deadline(session, until);
        }
        let drained = self.shadow.stopped_at.zip(self.plan.config.drain_timeout).map(|(at, wait)| at + wait);
        if let Some(deadline) = drained.filter(|_| !self.shadow.live.is_empty() || self.kernel.is_listening())
            && until.is_none_or(|until| until > deadline.max(self.shadow.now))
        {
            self.violation(format!("the drain ends at {deadline:?}, the relay sleeps until {until:?}"));
        }
        let now = self.shadow.now;
        let is_early = |due: &Time| now < *due && until.is_none_or(|until| until > *due);
        if let Some(due) = self.shadow.left_due().filter(is_early).filter(|_| !self.shadow.live.is_empty()) {
            self.violation(format!("who is left is to be said at {due:?}, the relay sleeps until {until:?}"));
        }
        if let Some(due) = self.shadow.drain_due().filter(|due| until.is_none_or(|until| until > *due)) {
            self.violation(format!("the drain begins at {due:?}, the relay sleeps until {until:?}"));
        }
        let sessions = self.shadow.live.iter().map(|live| &self.shadow.sessions[*live]);
        let dialling: Vec<_> = sessions.filter(|it| it.connected.is_none() && it.upstream.is_none()).collect();
        let portless: Vec<_> = self.shadow.portless().map(|session| self.shadow.sessions[session].route).collect();
        // A port is one of its route; a descriptor is anybody's.
        let freed = &self.shadow.freed;
        // Who has no address to come to any more pauses, or ends.
        let starved = dialling.iter().any(|it| it.starved && !self.shadow.candidates(it.route).is_empty());
        let waits = portless.iter().any(|route| freed.contains(route)) || (starved && !freed.is_empty());
        let retry = (starved || !portless.is_empty()).then(|| self.shadow.now + RETRY);
        if waits {
            self.violation("a session waits for a descriptor or a port, one came free, and nobody dials");
        }
        if let Some(retry) = retry.filter(|retry| until.is_none_or(|until| until > *retry)) {
            self.violation(format!("a session was to dial again by {retry:?}, the relay sleeps until {until:?}"));
        }
        // That there is no address to come from is said by itself.
        let lacks_port = self.shadow.portless().any(|session| !self.shadow.sessions[session].sourceless);
        if lacks_port && !self.shadow.ports_short {
            self.violation("a session waits for a source port, and no line says so");
        }
        if self.shadow.ports_short && (until.is_none() || self.shadow.now >= self.shadow.port_lacked + PORTS_CALM) {
            self.violation("nobody lacks a source port any more, and no line says so");
        }
        let stops = self.shadow.asked_at.is_some() || self.shadow.stop_turn.is_some();
        let idle = self.shadow.live.is_empty() && !stops && self.shadow.shortage.is_none();
        // A session that has ended may have left the alarm that was to keep its upstream's connection alive.
        let now = self.shadow.now;
        let lately = |it: &Session| it.connected.is_some_and(|at| now <= at + YOUNG + SOON);
        let idle = idle && !self.shadow.sessions.iter().any(lately);
        if let Some(until) = until.filter(|_| idle && !self.shadow.ports_short) {
            self.violation(format!("there is nothing to wait for, and the relay sleeps until {until:?}"));
        }
        let full = self.shadow.live.len() >= self.shadow.limit;
        // Someone waits for a descriptor: then nobody else is let in.
        let starved = self.shadow.waits_for_descriptor();
        let pause = self.shadow.shortage.map(|(at, pause)| at + pause.mul_f64(1.0 + PAUSE_JITTER));
        let patient = until.is_some_and(|until| starved || pause.is_some_and(|end| until <= end.max(self.shadow.now)));
        let resets = |door: &usize| self.shadow.doors[*door].open && self.shadow.resets(*door);
        let refusing = (0..self.shadow.doors.len()).filter(resets);
        let to_reset: usize = refusing.map(|door| self.kernel.listeners[door].queue.len()).sum();
        if to_reset > 0 && !patient {
            self.violation(format!("{to_reset} clients wait to be reset or served, and nobody will"));
        }
        let due = |door: &usize| self.shadow.doors[*door].open && !self.shadow.is_full(*door);
        let doors = (0..self.shadow.doors.len()).filter(due);
        let waiting: usize = doors.clone().map(|door| self.kernel.listeners[door].queue.len()).sum();
        // A listener that is to close is asked until its queue is empty, and closes.
        let closing = doors.filter(|door| self.shadow.doors[*door].closing).count();
        if closing > 0 && !full && !patient {
            self.violation("a listener is to close, and is neither asked nor closed");
        }
        if waiting > 0 && !full && !patient {
            self.violation(format!("{waiting} clients wait to be accepted, and nobody will"));
        }
    }

    /// What could be done for this session, although no event is to come that would say so.
    fn missed(&self, session: usize) -> Option<String> {
        let it = &self.shadow.sessions[session];
        let (Some(_), Some(upstream)) = (it.connected, it.upstream) else {
            if self.kernel.is_pending(it.client) {
                return None;
            }
            if it.header.awaited.is_some() && self.kernel.conns[it.client].is_readable() {
                return Some("its header could be read".to_owned());
            }
            let error = self.kernel.conns[it.client].relay.error?;
            return Some(format!("nobody asked its client for {error:?}"));
        };
        if self.kernel.is_pending(it.client) || self.kernel.is_pending(upstream) {
            return None;
        }
        for peer in Peer::BOTH {
            let conn = it.conn(peer)?;
            if let Some(error) = self.kernel.conns[conn].relay.error {
                return Some(format!("nobody asked connection {conn} for {error:?}"));
            }
            if let Some(what) = self.movable(it, peer) {
                return Some(format!("the flow from its {peer:?} {what}"));
            }
        }
        None
    }

    /// Could the flow from this peer move now?
    pub(crate) fn movable(&self, it: &Session, source: Peer) -> Option<&'static str> {
        let flow = it.flows[source as usize];
        let from = &self.kernel.conns[it.conn(source)?];
        let to = &self.kernel.conns[it.conn(source.other())?];
        let readable = flow.end.is_none() && from.is_readable();
        let told = it.told[source.other() as usize];
        let both_told = it.told.iter().all(Option::is_some);
        if from.unix && (both_told || told.is_some_and(|error| error != Errno::PIPE)) {
            // It stays unread.
            return None;
        }
        if told.is_some() {
            return readable.then_some("could be read and thrown away");
        }
        if it.overdue || it.aged || flow.finished || !to.is_writable() {
            return None;
        }
        if source == Peer::Client && it.header.unsent > 0 {
            return Some("has a header to send");
        }
        match flow {
            Flow { read, written, .. } if read > written => Some("holds bytes that could be written"),
            Flow { end: Some(End::Eof), .. } => Some("owes a FIN"),
            Flow { end: Some(End::Cut), .. } => None,
            Flow { end: None, .. } => readable.then_some("could be read"),
        }
    }

    /// Every wait has a deadline, and the relay wakes for it.
    fn check_deadline(&mut self, session: usize, until: Option<Time>) {
        let now = self.shadow.now;
        let it = &self.shadow.sessions[session];
        let route = self.shadow.route(it);
        let inactive = self.shadow.patience(it);
        // However busy it is.
        let oldest = route.max_lifetime.filter(|_| it.connected.is_some() && it.trouble.is_none());
        let oldest = oldest.map(|most| it.began + most);
        // It may be over already, and ending.
        let oldest = oldest.map(|at| at.max(now + longest_pause(it.questions, now)));
        let deadline = match it.connected {
            None if it.header.awaited.is_some() && !it.unwatched => Some(it.began + HEADER_TIMEOUT),
            None => {
                let last = it.opened + route.connect_timeout;
                // An address that does not answer uses its own share of the time, and no other's.
                let share = it.upstream.filter(|_| !it.attempt.is_vague()).map(|_| it.share);
                // Before the first dial it waits for nothing but a name, or in a queue.
                let queued = it.starved || self.shadow.may_lack_port(it) || self.shadow.waits_behind_others(it);
                let fresh = it.upstream.is_none() && it.attempt.is_fresh() && it.attempt.before == 0 && !queued;
                let name = fresh.then(|| self.shadow.awaits_name(it).unwrap_or(Time::START));
                let client = it.told[Peer::Client as usize].is_some() || it.unwatched;
                let is_first = self.shadow.first_at_backlog(it.route) == Some(session);
                let alone = it.attempt.full_until.filter(|_| it.backlog_place.is_none() && it.upstream.is_none());
                let first = is_first.then(|| it.attempt.full_until.unwrap_or(Time::START));
                let full = first.or(alone).filter(|_| !it.attempt.full_vague);
                share.into_iter().chain(full).chain(name.filter(|_| !client)).chain([last]).min()
            }
            Some(_) if it.trouble.is_some() => Some(now + longest_pause(it.questions, now)),
            // It may be ending too.
            Some(_) if it.first_told.is_some() || it.overdue || it.aged || self.shadow.stop_turn.is_some() => {
                let ending = longest_pause(it.questions, now);
                // What it relays yet is idle at the latest since its last call, also if that was before the drain.
                let relays =
                    it.first_told.is_none() && !it.overdue && !it.aged && !it.flows.iter().all(|it| it.finished);
                let idle = if relays { now.since(it.called_at) } else { Duration::ZERO };
                inactive.map(|wait| now + wait.saturating_sub(idle).max(ending))
            }
            Some(_) => inactive.map(|wait| now + wait),
        };
        // An old session is looked after by the kernel; a young one will be, unless it is ending.
        let draining = self.shadow.stop_turn.is_some();
        let young = |_: &Time| !it.kept_alive && it.first_told.is_none() && !it.overdue && !it.aged && !draining;
        let looked_after = it.connected.filter(young).filter(|_| route.keepalive.is_some());
        // Not all in one turn.
        let portion = if self.shadow.kept_alive < KEPT_PER_TURN { Time::START } else { now + SOON };
        let looked_after = looked_after.map(|at| portion.max(at + YOUNG));
        let deadline = deadline.into_iter().chain(looked_after).chain(oldest).min();
        if let Some(deadline) = deadline
            && until.is_none_or(|until| until > deadline.max(now))
        {
            self.violation(format!(
                "session {session} has a deadline at {deadline:?}, the relay sleeps until {until:?}"
            ));
        }
    }
}
