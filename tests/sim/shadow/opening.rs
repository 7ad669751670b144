//! What the relay was told while it accepted and connected.

use std::time::Duration;

use rustix::io::Errno;
use tproxy::Route;
use tproxy::net::{Peer, Token};

use super::{PAUSE_JITTER, Session, Shadow, connect_word};
use crate::kernel::ConnId;
use crate::seam::inet;

/// Accepting pauses for so long at first, doubling each time up to so long.
const PAUSE_LEAST: Duration = Duration::from_millis(10);
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// Between two attempts there is a pause, at least so long.
const ATTEMPTS_PAUSE: Duration = Duration::from_millis(50);

/// So many clients lost in a row are a shortage.
const LOST_MAX: u32 = 16;

/// Being full is news again when it was over for so long.
const FULL_QUIET: Duration = Duration::from_secs(60);

/// Calls of accept in one turn.
const ACCEPTS_PER_TURN: usize = 32;

impl Shadow {
    /// accept gave a client, perhaps one that had reset its connection already, or an error.
    pub(crate) fn accepted(&mut self, route: usize, result: Result<ConnId, Errno>, is_reset: bool) {
        self.doors[route].asked = true;
        self.doors[route].announced &= result != Err(Errno::AGAIN);
        // At the drain deadline too, but I/O goes before timers.
        let no_time = self.stopped_at.is_some() && self.config.drain_timeout == Some(Duration::ZERO);
        if self.stop_now || self.impatient || no_time {
            self.violation("accept was called although everything is given up".to_owned());
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
                let Route { to, connect_attempts, connect_timeout, .. } = self.route(it);
                (to.len(), *connect_attempts) == (1, 1)
                    && it.connected.is_none()
                    && it.upstream.is_none()
                    && it.was_starved
                    && !self.may_lack_port(it)
                    && it.failures.is_empty()
                    && !it.refused_at_once
                    && !it.unwatched
                    && it.told == [None; 2]
                    && self.now < it.began + *connect_timeout
            });
            if let Some(session) = waits {
                self.violation(format!("a client is let in while session {session} waits for a descriptor"));
            }
        }
        if self.stopped_at.is_some() && result.is_ok() {
            if self.doors[route].is_used_up() {
                self.violation(format!(
                    "more than a whole backlog is let in at listener {route} after the stop request"
                ));
            }
            self.doors[route].since_stop += 1;
        }
        match result {
            Ok(conn) => {
                (self.progress, self.shortage, self.pauses, self.lost) = (true, None, 0, 0);
                self.own(conn, self.sessions.len(), Peer::Client);
                self.live.push(self.sessions.len());
                if self.live.len() >= self.limit && !std::mem::replace(&mut self.full, true) {
                    self.full_news = self.full_until.is_none_or(|until| self.now >= until + FULL_QUIET);
                }
                self.sessions.push(Session::new(conn, route, self.now, self.turn, is_reset));
            }
            // "In a row" is without an empty queue between.
            Err(Errno::AGAIN) => {
                self.lost = 0;
                // There is room, or nobody would have asked; and now it is known that no client waits.
                if self.doors.iter().all(|door| !door.announced) && std::mem::take(&mut self.full) {
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
            }
        }
    }

    /// The next address is tried, for one of these sessions. Of one alone it is known what it tried last.
    fn diallers(&self) -> Vec<usize> {
        let may_dial = |live: &usize| {
            let it = &self.sessions[*live];
            let waits = it.connected.is_none() && it.upstream.is_none() && !it.unwatched && it.told == [None; 2];
            waits && self.too_soon(it).is_none()
        };
        self.live.iter().copied().filter(may_dial).collect()
    }

    /// A client is dialled for in a turn after the one that accepted it, unless an event has said by then that it is dead
    /// (K26). Why may this one not be dialled for now?
    fn too_soon(&self, it: &Session) -> Option<&'static str> {
        if it.known_reset {
            return Some("its client was reset before it was accepted, and an event said so");
        }
        (it.accepted == self.turn).then_some("its client was accepted just now")
    }

    /// May a session wait for a descriptor? Then no client is let in. Who waits for a source port keeps nobody out.
    pub(crate) fn waits_for_descriptor(&self) -> bool {
        self.diallers().iter().any(|session| self.sessions[*session].was_starved)
    }

    /// May this session have waited for a source port? Where others wait for one to the only address, it does so without
    /// trying.
    pub(crate) fn may_lack_port(&self, it: &Session) -> bool {
        let lacked = |other: &Session| other.route == it.route && other.lacked_port;
        it.lacked_port || (self.route(it).to.len() == 1 && it.dials == 0 && self.sessions.iter().any(lacked))
    }

    /// Sessions that wait for a source port: there is one address, which had none when it was last tried.
    pub(crate) fn portless(&self) -> impl Iterator<Item = usize> {
        let waits = |session: &usize| {
            let it = &self.sessions[*session];
            let lacks = !it.last_failure.is_empty() && it.last_failure.iter().all(|word| *word == "no-ports");
            lacks && self.route(it).to.len() == 1
        };
        self.diallers().into_iter().filter(waits)
    }

    /// Connect failed at once, or the new connection could not be watched.
    fn dial_failed(&mut self, error: Errno) {
        self.hindered = true;
        let word = connect_word(error);
        let starved = tproxy::net::errno::is_shortage(&error.into());
        if word == "no-ports" {
            self.port_lacked = self.now;
            self.portless_addresses.extend(self.dialling);
        }
        let mut diallers = self.diallers();
        diallers
            .retain(|session| self.route(&self.sessions[*session]).to.iter().any(|to| Some(inet(to)) == self.dialling));
        for session in &diallers {
            let addresses = self.route(&self.sessions[*session]).to.len();
            let now = self.now;
            let it = &mut self.sessions[*session];
            if diallers.len() == 1 {
                it.refused_alone = (addresses == 1 && !starved && word != "no-ports").then_some(now);
                it.tried.clear();
                it.last_failure.clear();
            }
            it.tried.extend(self.dialling.filter(|address| !it.tried.contains(address)));
            if !it.last_failure.contains(&word) {
                it.last_failure.push(word);
            }
            it.failed_at_once = true;
            it.was_starved |= starved;
            it.lacked_port |= word == "no-ports";
            it.refused_at_once |= !starved && word != "no-ports";
        }
    }

    pub(crate) fn dialled(&mut self, result: Result<ConnId, Errno>) {
        self.freed.clear();
        self.progress |= result.is_ok();
        match self.diallers()[..] {
            [] => self.violation(format!("{:?} is dialled, and no session may want it", self.dialling)),
            [session] => {
                let refused = self.sessions[session].refused_alone.take();
                if let Some(at) = refused.filter(|at| self.now < *at + ATTEMPTS_PAUSE) {
                    self.violation(format!("session {session} dials again {:?} after a failure", self.now.since(at)));
                }
            }
            [..] => {}
        }
        let due = std::mem::take(&mut self.dial_due);
        if !due.is_empty() && !due.iter().any(|one| Some(*one) == self.dialling) {
            self.violation(format!("{:?} is dialled, and {due:?} is next", self.dialling));
        }
        if let Err(error) = result {
            // Who waited for a port tries only those addresses again that had none.
            let again = self.diallers().iter().any(|session| self.sessions[*session].lacked_port);
            self.dial_failed(error);
            if !again && !tproxy::net::errno::is_shortage(&error.into()) {
                // Several sessions may have called it, each of its own route.
                let routes = self.diallers().into_iter().map(|session| self.route(&self.sessions[session]));
                let routes = routes
                    .map(|route| route.to.iter().map(inet))
                    .filter(|to| to.clone().any(|one| Some(one) == self.dialling));
                let next: Option<Vec<_>> =
                    routes.map(|mut to| to.by_ref().skip_while(|one| Some(*one) != self.dialling).nth(1)).collect();
                self.dial_due = next.unwrap_or_default();
            }
        }
    }

    /// A stream got its token. For an upstream, whose session is it?
    pub(crate) fn registered(&mut self, conn: ConnId, token: Token, result: Result<(), Errno>) -> Option<usize> {
        self.progress |= result.is_ok();
        if let Err(error) = result
            && token.peer() == Peer::Upstream
        {
            self.dial_failed(error);
        }
        match token.peer() {
            Peer::Client => {
                if self.slots.len() <= token.key() {
                    self.slots.resize(token.key() + 1, None);
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
                if let Some(why) = self.too_soon(&self.sessions[session]) {
                    self.violation(format!("session {session} dials, and {why}"));
                }
                if result.is_ok() {
                    let now = self.now;
                    // Ports are given in the order of coming, where no attempt has failed for another reason.
                    let route = self.sessions[session].route;
                    let first = self.portless().find(|first| {
                        let it = &self.sessions[*first];
                        it.route == route && it.failures.is_empty() && !it.was_starved && !it.refused_at_once
                    });
                    if let Some(first) = first.filter(|first| *first < session) {
                        self.violation(format!("session {session} gets a port, and session {first} waits for one"));
                    }
                    self.own(conn, session, Peer::Upstream);
                    let route = self.route(&self.sessions[session]).clone();
                    if !route.to.iter().any(|one| Some(inet(one)) == self.dialling) {
                        self.violation(format!(
                            "session {session} dials {:?}, which is none of its route",
                            self.dialling
                        ));
                    }
                    // Each address in its turn, as long as none failed at once.
                    let due = inet(&route.to[self.sessions[session].dials % route.to.len()]);
                    if !self.sessions[session].failed_at_once && self.dialling != Some(due) {
                        self.violation(format!("session {session} dials {:?}, and {due} is next", self.dialling));
                    }
                    let it = &mut self.sessions[session];
                    let (addresses, place) = (route.to.len(), it.dials % route.to.len());
                    let early = it.failed_at.filter(|_| place == 0 && !it.failed_at_once).filter(|at| {
                        let round = u32::try_from(it.dials / addresses).unwrap() - 1;
                        now < *at + ATTEMPTS_PAUSE * 2_u32.pow(round)
                    });
                    let deadline = it.began + route.connect_timeout;
                    let left = u32::try_from(addresses - place).unwrap();
                    it.share = now + deadline.since(now) / left;
                    it.tried = self.dialling.into_iter().collect();
                    it.upstream = Some(conn);
                    it.dials += 1;
                    let (dials, attempts) = (it.dials, route.connect_attempts as usize);
                    if let Some(at) = early {
                        self.violation(format!("session {session} dials {dials} times, the last at once after {at:?}"));
                    }
                    if dials > attempts * addresses {
                        self.violation(format!("session {session} dials {dials} times"));
                    }
                    let it = &mut self.sessions[session];
                    it.first_dial = (it.dials == 1).then_some(now);
                    (it.tokens[1], it.saw_fin[1]) = (Some(token), false);
                }
                Some(self.sessions[session].plan)
            }
        }
    }

    pub(crate) fn connected(&mut self, conn: ConnId, result: &std::io::Result<bool>) {
        let now = self.now;
        let Some((session, _)) = self.owner(conn) else {
            return self.violation(format!("connected was asked of connection {conn}, which nobody watches"));
        };
        let it = &mut self.sessions[session];
        match result {
            Ok(false) => return,
            Ok(true) => it.connected = Some(now),
            Err(error) => match Errno::from_io_error(error) {
                // It had come about, and was reset since: what it said is still owed.
                Some(errno @ (Errno::CONNRESET | Errno::PIPE)) => {
                    it.connected = Some(now);
                    self.told(conn, errno);
                }
                Some(errno) => {
                    it.attempt_failed(conn, connect_word(errno), now);
                }
                None => {
                    it.attempt_failed(conn, "refused", now);
                }
            },
        }
        (self.sessions[session].last_moved, self.sessions[session].last_io) = (now, now);
        self.progress = true;
    }
}
