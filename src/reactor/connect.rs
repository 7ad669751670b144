//! Connecting to the upstream: every address in turn, a pause, and again.
//!
//! ```text
//!   attempt 1                 attempt 2
//!   ├ addr 1 ┼ addr 2 ┤ pause ├ addr 1 ┼ addr 2 ┤ ...                  whatever comes first: all attempts, or the timeout
//! ```
//! Each address gets an equal share of the time that is left, so one that never answers does not eat the turn of the
//! next. A shortage of descriptors is nobody's failure: it costs no attempt, and ends the session only with the
//! timeout.

use std::io::{self, ErrorKind};
use std::time::Duration;

use log::{debug, warn};

use super::alarms::Alarm;
use super::backoff::Backoff;
use super::session::Phase;
use super::{Cause, LOG, Net, Peer, Reactor, Time, gate};
use crate::net::is_shortage;
use crate::relay::side::Side;

/// Between attempts.
const BACKOFF: Backoff = Backoff { floor: Duration::from_millis(100), ceiling: Duration::from_secs(60), spread: 0.5 };

/// A session that is there when so much time has passed is worth the calls that keep its upstream's connection alive;
/// the first probe is due much later. One alarm for all of them: one for each would be a quarter of what a session
/// takes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);

/// So many in one turn, four calls each, and the next a moment later.
const KEEPALIVE_PER_TURN: usize = 256;
const KEEPALIVE_RETRY: Duration = Duration::from_millis(10);

/// How long to wait for a descriptor before asking again, if no session's end brings one.
const DESCRIPTOR_RETRY: Duration = Duration::from_millis(100);

impl<N: Net> Reactor<N> {
    /// Something happened to a session that connects: its upstream is there, or failed, or has had its time; or the
    /// client went away.
    pub(super) fn connecting(&mut self, key: u32) {
        let session = &mut self.sessions[key as usize];
        let Phase::Connecting(connecting) = &mut session.phase else {
            return;
        };
        // A client that only finished speaking is kept. One that reset its connection is beyond help.
        connecting.client.check_error();
        if connecting.client.fault().is_some() {
            return self.end(key, Some(Cause::ClientGone));
        }
        let due = self.now >= connecting.until;
        let until = connecting.until;
        let Some(upstream) = &mut connecting.upstream else {
            return if due || connecting.waits_for_descriptor { self.dial(key) } else { self.arm(key, until) };
        };
        let error = match self.net.connected(upstream.stream_mut()) {
            Ok(true) => return self.connected(key),
            Ok(false) if !due => return self.arm(key, until),
            Ok(false) => ErrorKind::TimedOut.into(),
            Err(error) if was_established(&error) => {
                upstream.fail(&error);
                return self.connected(key);
            }
            Err(error) => error,
        };
        debug!(target: LOG, "cannot connect to {}: {error}", self.config.to[usize::from(session.upstream)]);
        connecting.last = Cause::of_connect(&error);
        connecting.upstream = None;
        self.dial(key);
    }

    /// The upstream is there.
    fn connected(&mut self, key: u32) {
        self.sessions[key as usize].connected(self.now);
        self.disarm(key);
        if !std::mem::replace(&mut self.keepalive_pending, true) {
            self.alarms.set(self.now + KEEPALIVE_AFTER, Alarm::Keepalive);
        }
    }

    /// Has the kernel look after the connections to upstreams whose sessions have lasted: not all in one turn.
    pub(super) fn keep_alive(&mut self) {
        let mut some = KEEPALIVE_PER_TURN;
        for (_, session) in &mut self.sessions {
            if session.lacks_keepalive() {
                if some == 0 {
                    return self.alarms.set(self.now + KEEPALIVE_RETRY, Alarm::Keepalive);
                }
                some -= 1;
                session.keep_alive();
            }
        }
        self.keepalive_pending = false;
    }

    /// Begins a connection to the next address that takes one.
    pub(super) fn dial(&mut self, key: u32) {
        loop {
            let serial = self.next_serial();
            let session = &mut self.sessions[key as usize];
            let deadline = session.connect_deadline(self.config.connect_timeout);
            let client = session.token(key, Peer::Client);
            self.waits_for_descriptor.retain(|token| *token != client);
            let Phase::Connecting(connecting) = &mut session.phase else {
                return;
            };
            connecting.waits_for_descriptor = false;
            if self.now >= deadline {
                return self.end(key, None);
            }
            let next = usize::from(connecting.next);
            let left = self.config.to.len() - next;
            if left == 0 {
                return self.pause(key, deadline);
            }
            // There are 256 addresses at most.
            session.upstream = u8::try_from(connecting.next).unwrap_or(u8::MAX);
            session.renumber_upstream(serial);
            let token = session.token(key, Peer::Upstream);
            let begun = self.net.connect(self.config.to[next]).and_then(|mut stream| {
                self.net.register(&mut stream, token)?;
                Ok(stream)
            });
            let Phase::Connecting(connecting) = &mut session.phase else {
                return;
            };
            let until = match begun {
                Ok(stream) => {
                    connecting.upstream = Some(Side::new(stream));
                    connecting.next += 1;
                    self.now + deadline.since(self.now) / u32::try_from(left).unwrap_or(u32::MAX)
                }
                Err(error) if is_shortage(&error) => {
                    if self.gate.note_shortage() {
                        let message = gate::shortage_message(&error, "new clients wait");
                        warn!(target: LOG, "connect: {message}");
                    }
                    connecting.last = Cause::NoResources;
                    connecting.waits_for_descriptor = true;
                    self.waits_for_descriptor.push(client);
                    deadline.min(self.now + DESCRIPTOR_RETRY)
                }
                Err(error) => {
                    debug!(target: LOG, "cannot connect to {}: {error}", self.config.to[next]);
                    connecting.last = Cause::of_connect(&error);
                    connecting.next += 1;
                    continue;
                }
            };
            connecting.until = until;
            return self.arm(key, until);
        }
    }

    /// An attempt is over: another one after a pause, if there is to be one.
    fn pause(&mut self, key: u32, deadline: Time) {
        let Phase::Connecting(connecting) = &mut self.sessions[key as usize].phase else {
            return;
        };
        let until = self.now + BACKOFF.pause(connecting.failures, &mut self.rng);
        connecting.failures += 1;
        // A pause that outlasts the timeout would only put the bad news off.
        if connecting.failures >= self.config.connect_attempts || until >= deadline {
            return self.end(key, None);
        }
        connecting.next = 0;
        connecting.until = until;
        self.arm(key, until);
    }
}

/// Did the connection fail only after it had come about? A refusal is ECONNREFUSED; only a peer that answered can reset
/// (`tcp(7)`). What it said before that is still to be delivered.
fn was_established(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
