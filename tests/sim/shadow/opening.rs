//! What the relay was told while it accepted and connected.

use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::{Peer, Token};

use super::{PAUSE_JITTER, Session, Shadow};
use crate::kernel::ConnId;

/// Accepting pauses for so long at first, doubling each time up to so long.
const PAUSE_LEAST: Duration = Duration::from_millis(10);
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// So many clients lost in a row are a shortage.
const LOST_MAX: u32 = 16;

/// Calls of accept in one turn.
const ACCEPTS_PER_TURN: usize = 32;

impl Shadow {
    /// accept gave a client, perhaps one that had reset its connection already, or an error.
    pub(crate) fn accepted(&mut self, door: usize, result: Result<ConnId, Errno>, is_reset: bool) {
        self.doors[door].asked = true;
        self.doors[door].announced &= result != Err(Errno::AGAIN);
        if self.is_full(door) && !self.resets(door) {
            self.violation(format!("listener {door} is asked for clients, and its route has all its sessions"));
        }
        // At the drain deadline too, but I/O goes before timers.
        let no_time = self.stopped_at.is_some() && self.config.drain_timeout == Some(Duration::ZERO);
        if self.stop_now || self.impatient || no_time {
            self.violation("accept was called although everything is given up".to_owned());
        }
        let refusal = result.ok().and_then(|conn| self.refusal(door, conn));
        if result.is_ok() && self.live.len() >= self.limit && refusal.is_none() {
            self.violation(format!(
                "a client is let in beside {} others, the limit is {}",
                self.live.len(),
                self.limit
            ));
        }
        if let Some((at, pause)) = self.shortage
            && self.now < at + pause.mul_f64(1.0 - PAUSE_JITTER)
        {
            self.violation(format!("accept is asked again {:?} into a pause of {pause:?}", self.now.since(at)));
        }
        self.accepts += 1;
        if self.accepts > ACCEPTS_PER_TURN {
            self.violation(format!("accept is called {} times in one turn", self.accepts));
        }
        // Who waits for a descriptor goes first.
        if result.is_ok() {
            let waits = self.live.iter().copied().find(|live| {
                let it = &self.sessions[*live];
                it.starved
                    && it.connected.is_none()
                    && it.upstream.is_none()
                    && !it.unwatched
                    && it.told == [None; 2]
                    && self.now < it.opened + self.route(it).connect_timeout
            });
            if let Some(session) = waits {
                self.violation(format!("a client is let in while session {session} waits for a descriptor"));
            }
        }
        if self.doors[door].closing && result.is_ok() {
            if self.doors[door].is_used_up() {
                self.violation(format!("more than a whole backlog is let in at listener {door}, which is to close"));
            }
            self.doors[door].since_closing += 1;
        }
        match result {
            Ok(conn) if refusal.is_some() => {
                (self.progress, self.shortage, self.pauses, self.lost) = (true, None, 0, 0);
                self.refuse(door, conn, refusal.unwrap());
            }
            Ok(conn) => {
                (self.progress, self.shortage, self.pauses, self.lost) = (true, None, 0, 0);
                self.own(conn, self.sessions.len(), Peer::Client);
                self.live.push(self.sessions.len());
                self.note_process_full();
                let route = self.doors[door].route.unwrap();
                self.sessions.push(Session::new(conn, (door, route), self.now, self.turn, is_reset));
                self.doors[door].sessions += 1;
                let it = self.sessions.last_mut().unwrap();
                // A client that is to be announced counts when that is done.
                it.header.awaited = self.routes[route].accept_proxy.then_some(0);
                let is_limited = self.routes[route].max_sessions_per_ip.is_some() && !self.unix.contains(&conn);
                it.is_counted = is_limited && it.header.awaited.is_none();
                self.note_full(door);
            }
            // "In a row" is without an empty queue between.
            Err(Errno::AGAIN) => {
                self.lost = 0;
                // Now it is known that no client waits. If there is room too, the limit is over.
                if !self.is_full(door) {
                    self.note_empty(door);
                }
                let has_room = self.live.len() < self.limit;
                let waits = (0..self.doors.len()).any(|door| self.is_due(door));
                if has_room && !waits && std::mem::take(&mut self.full) {
                    self.full_until = Some(self.now);
                }
            }
            Err(Errno::INTR) => {}
            // A client of its own is lost, and the next may be there. Too many in a row mean something else.
            Err(Errno::CONNABORTED | Errno::PROTO | Errno::PERM | Errno::NETDOWN | Errno::TIMEDOUT)
                if self.lost + 1 < LOST_MAX =>
            {
                (self.shortage, self.lost) = (None, self.lost + 1);
            }
            Err(_) => {
                (self.hindered, self.short_now) = (true, true);
                let pause = PAUSE_LEAST * 2_u32.saturating_pow(self.pauses);
                self.shortage = Some((self.now, pause.min(PAUSE_MOST)));
                (self.pauses, self.lost) = (self.pauses.saturating_add(1), 0);
                self.counted.accept_pauses += 1;
            }
        }
    }

    /// A client is dialled for in a turn after the one that accepted it, unless an event has said by then that it is dead
    /// (K26). Why may this one not be dialled for now?
    pub(super) fn too_soon(&self, it: &Session) -> Option<&'static str> {
        if it.known_reset {
            return Some("its client was reset before it was accepted, and an event said so");
        }
        (it.accepted == self.turn).then_some("its client was accepted just now")
    }

    /// Does a session wait for a descriptor? Then no client is let in. Who waits for a source port keeps nobody out.
    pub(crate) fn waits_for_descriptor(&self) -> bool {
        let waits =
            |it: &Session| it.starved && it.connected.is_none() && it.upstream.is_none() && it.told == [None; 2];
        self.live.iter().any(|live| waits(&self.sessions[*live]))
    }

    /// May this session have waited for a source port? Where others wait for one to the only address, it does so without
    /// trying.
    pub(crate) fn may_lack_port(&self, it: &Session) -> bool {
        let lacked = |other: &Session| other.route == it.route && other.lacked_port;
        // There may have been fewer addresses then.
        let alone = self.candidates(it.route).len() == 1 || self.has_names(it.route);
        it.lacked_port || (alone && self.sessions.iter().any(lacked))
    }

    /// Sessions that wait for a source port: no other address is left to be tried.
    pub(crate) fn portless(&self) -> impl Iterator<Item = usize> {
        let waits = |session: &usize| {
            let it = &self.sessions[*session];
            let dials = it.connected.is_none() && it.upstream.is_none() && !it.unwatched && it.told == [None; 2];
            // Nor does one that has no address to come to any more.
            let waits_for_name =
                self.has_names(it.route) && (self.awaits_name(it).is_some() || self.candidates(it.route).is_empty());
            dials && !it.starved && self.too_soon(it).is_none() && it.attempt.lacks_port() && !waits_for_name
        };
        self.live.iter().copied().filter(waits)
    }

    /// A stream got its token. For an upstream, whose session is it?
    pub(crate) fn registered(&mut self, conn: ConnId, token: Token, result: Result<(), Errno>) -> Option<usize> {
        self.progress |= result.is_ok();
        if let Err(error) = result
            && token.peer() == Peer::Upstream
        {
            self.source_is_unseen();
            self.dial_failed(error);
        }
        match token.peer() {
            Peer::Client => {
                if self.slots.len() <= token.key() {
                    self.slots.resize(token.key() + 1, None);
                }
                if self.refused.iter().any(|it| it.conn == conn) {
                    self.violation(format!("client {conn} is watched, and it was not to be served"));
                }
                let (session, _) = self.owner(conn)?;
                if self.slots[token.key()].is_some_and(|old| self.sessions[old].ended.is_none()) {
                    self.violation(format!("slot {} was given away while its session lives", token.key()));
                }
                self.slots[token.key()] = Some(session);
                self.sessions[session].tokens[0] = Some(token);
                self.sessions[session].unwatched = result.is_err();
                None
            }
            Peer::Upstream => {
                let session = self.slots.get(token.key()).copied().flatten()?;
                if result.is_ok() {
                    // Ports are given in the order of coming, where no attempt has failed for another reason.
                    let route = self.sessions[session].route;
                    // Who waits for a name comes to the queue later.
                    let alone = self.candidates(route).len() == 1 && !self.has_names(route);
                    let first = self.portless().find(|first| {
                        let it = &self.sessions[*first];
                        it.route == route && alone && it.attempt.before == 0 && !it.was_starved
                    });
                    if let Some(first) = first.filter(|first| *first < session) {
                        self.violation(format!("session {session} gets a port, and session {first} waits for one"));
                    }
                    self.own(conn, session, Peer::Upstream);
                    self.dial_stands(session);
                    let it = &mut self.sessions[session];
                    it.upstream = Some(conn);
                    it.dials += 1;
                    (it.tokens[1], it.saw_fin[1]) = (Some(token), false);
                }
                Some(self.sessions[session].plan)
            }
        }
    }
}
