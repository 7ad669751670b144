//! Which address of an upstream is next, how long it may take, and what its failure means: written from the contract.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use tproxy::Balance;
use tproxy::net::{Peer, Time, Token};

use super::attempt::{Attempt, Mark};
use super::{Shadow, connect_word};
use crate::kernel::ConnId;
use crate::plan::read_address;

/// An address that has not answered lately may take so long while another is untried, doubling with each failure.
const QUICK: Duration = Duration::from_millis(250);
const QUICK_MOST: Duration = Duration::from_secs(1);

/// A failed address is down for so long at first, doubling each time, half as long or half as much again.
const DOWN_LEAST: Duration = Duration::from_secs(1);
const DOWN_MOST: Duration = Duration::from_secs(60);
const DOWN_JITTER: f64 = 0.5;

/// What is known of one address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endpoint {
    /// It is down until the first moment, and not any more after the second.
    down: (Time, Time),
    failures: u32,
    answered: bool,
    /// The one connection that tries it again.
    probe: Option<Token>,
    /// Something happened while it was not known if it was down. It is not known again until it answers.
    vague: bool,
    /// The last line about it said that it is down.
    pub(crate) told: bool,
}

impl Endpoint {
    fn may_be_down(&self, now: Time) -> bool {
        self.vague || now < self.down.1
    }

    fn must_be_down(&self, now: Time) -> bool {
        !self.vague && now < self.down.0
    }

    fn quick(&self) -> Option<Duration> {
        (!self.answered).then(|| (QUICK * 2_u32.saturating_pow(self.failures)).min(QUICK_MOST))
    }

    /// A connection begins, and may take until then.
    fn begins(&mut self, token: Token, until: Time, now: Time) {
        if self.failures == 0 || self.must_be_down(now) {
            return;
        }
        self.vague |= self.may_be_down(now);
        (self.down, self.probe) = ((until, until), Some(token));
    }

    /// It failed. A failure counts for an address that is up, and for the one connection that tries it again.
    fn fails(&mut self, token: Token, now: Time) {
        self.answered = false;
        if self.probe != Some(token) {
            if self.must_be_down(now) {
                return;
            }
            self.vague |= self.may_be_down(now);
        }
        let pause = (DOWN_LEAST * 2_u32.saturating_pow(self.failures)).min(DOWN_MOST);
        self.down = (now + pause.mul_f64(1.0 - DOWN_JITTER), now + pause.mul_f64(1.0 + DOWN_JITTER));
        (self.failures, self.probe) = (self.failures + 1, None);
    }

    fn answers(&mut self) {
        *self = Self { answered: true, told: self.told, ..Self::default() };
    }
}

impl Shadow {
    /// The session of this token dials this address. Is that the next?
    pub(crate) fn dials(&mut self, token: Token, to: SocketAddr) {
        self.dialling = Some((token, to));
        let Some(session) = self.slots.get(token.key()).copied().flatten() else {
            return self.violation(format!("{to} is dialled for nobody"));
        };
        let it = &self.sessions[session];
        let may = it.may_dial();
        let late = self.now >= it.opened + self.route(it).connect_timeout;
        if let Some(why) = self.too_soon(it) {
            self.violation(format!("session {session} dials, and {why}"));
        }
        let it = &self.sessions[session];
        if !may || it.told != [None; 2] || late {
            self.violation(format!("session {session} dials {to}, and may not"));
        }
        if let Some(why) = self.is_out_of_turn(session) {
            self.violation(format!("session {session} dials {to}, and {why}"));
        }
        self.begin_attempt(session);
        self.check_choice(session, to);
        let (endpoint, now) = (self.upstreams.get(&to).cloned().unwrap_or_default(), self.now);
        let it = &self.sessions[session];
        let left = (it.opened + self.route(it).connect_timeout).since(now);
        let untried = it.attempt.untried().count();
        let slow = it.attempt.marks.iter().filter(|(_, mark)| *mark == Mark::Slow).count();
        let share = now + left / u32::try_from((untried + slow).max(1)).unwrap();
        let short = endpoint.quick().filter(|_| untried > 1 && !it.attempt.again).map(|quick| now + quick);
        let until = short.map_or(share, |short| short.min(share));
        let place = it.attempt.candidates.iter().position(|one| *one == to);
        let route = it.route;
        let it = &mut self.sessions[session];
        it.attempt.quick = until < share;
        it.attempt.vague |= endpoint.vague;
        (it.share, it.tried) = (until, Some(to));
        self.cursors[route] = place.map_or(0, |place| place + 1);
    }

    /// Goes on with the attempt of this session, or begins the next. Is it time for that?
    fn begin_attempt(&mut self, session: usize) {
        let route = self.sessions[session].route;
        let (now, candidates, version) = (self.now, self.candidates(route), self.version(route));
        let attempts = self.route(&self.sessions[session]).connect_attempts;
        let it = &mut self.sessions[session];
        // A new answer begins a new attempt.
        if it.attempt.version != version || it.attempt.candidates != candidates {
            // Who waits for a descriptor or a port goes on waiting for that.
            let begun = it.starved || it.attempt.lacks_port();
            let before = it.attempt.before + u32::from(it.attempt.is_over() && !it.attempt.outdated);
            let (vague, pauses) = (it.attempt.vague, it.attempt.pauses);
            it.attempt = Attempt { candidates, version, begun, before, vague, pauses, ..Attempt::default() };
        }
        let attempt = &mut it.attempt;
        if attempt.untried().next().is_some() {
        } else if attempt.has(Mark::Slow) {
            attempt.marks.retain(|(_, mark)| *mark != Mark::Slow);
            attempt.again = true;
        } else if attempt.has(Mark::Full) {
            attempt.marks.retain(|(_, mark)| ![Mark::Full, Mark::Portless].contains(mark));
            attempt.full_until = None;
        } else if attempt.has(Mark::Portless) {
            attempt.marks.retain(|(_, mark)| *mark != Mark::Portless);
        } else {
            (attempt.marks, attempt.again, attempt.begun) = (Vec::new(), false, false);
            attempt.before += 1;
            let (before, vague) = (attempt.before, attempt.vague);
            let pause = Duration::from_millis(50) * 2_u32.saturating_pow(before.min(8) - 1);
            let pause = pause.min(Duration::from_millis(333));
            let early = it.failed_at.is_none_or(|at| now < at + pause);
            if before >= attempts && !vague {
                self.violation(format!("session {session} begins attempt {} of {attempts}", before + 1));
            }
            if early && !vague {
                self.violation(format!("session {session} begins an attempt at once after one that failed"));
            }
        }
        let begun = std::mem::replace(&mut self.sessions[session].attempt.begun, true);
        if !begun && !self.may_lack_port(&self.sessions[session]) {
            self.check_names(session);
        }
    }

    /// Of the addresses that are untried, those that are down come last, and the policy decides between the others.
    fn check_choice(&mut self, session: usize, to: SocketAddr) {
        let it = &self.sessions[session];
        let route = self.route(it);
        let candidates = &it.attempt.candidates;
        let Some(place) = candidates.iter().position(|one| *one == to) else {
            return self.violation(format!("session {session} dials {to}, which is none of {candidates:?}"));
        };
        if it.attempt.vague {
            return;
        }
        if !it.attempt.untried().any(|one| one == to) {
            return self.violation(format!("session {session} dials {to} twice ({:?})", it.attempt));
        }
        let (count, cursor) = (candidates.len(), self.cursors[it.route]);
        let client = self.client_of(it);
        let busy = |address: SocketAddr| {
            let named = |live: &&usize| **live != session && self.sessions[**live].tried == Some(address);
            let own = usize::from(it.tried == Some(address));
            own + self.live.iter().filter(named).count()
        };
        let rank = |place: usize, down: bool| {
            let key = match route.balance {
                Balance::First => 0,
                Balance::RoundRobin => (place + count - cursor % count) % count,
                Balance::LeastSessions => busy(candidates[place]),
                // By hashing, which the unit tests hold: here only that it is the same for the same client.
                Balance::Source => self
                    .by_source
                    .get(&(client.ip(), candidates.clone()))
                    .map_or(0, |first| usize::from(*first != candidates[place])),
            };
            (down, key, if route.balance == Balance::Source { 0 } else { place })
        };
        let now = self.now;
        let state = |address: &SocketAddr| self.upstreams.get(address).cloned().unwrap_or_default();
        // What is not known is taken in its favour.
        let its = rank(place, state(&to).must_be_down(now));
        let before = it.attempt.untried().find(|other| {
            let place = candidates.iter().position(|one| one == other).unwrap_or_default();
            *other != to && rank(place, state(other).may_be_down(now)) < its
        });
        let all_up = candidates.iter().all(|one| !state(one).may_be_down(now)) && it.attempt.is_fresh();
        if route.balance == Balance::Source && all_up {
            self.by_source.insert((client.ip(), candidates.clone()), to);
        }
        if let Some(other) = before {
            self.violation(format!("session {session} dials {to}, and {other} comes first"));
        }
    }

    /// What came of that.
    pub(crate) fn dialled(&mut self, result: Result<ConnId, Errno>) {
        self.freed.clear();
        self.progress |= result.is_ok();
        if let Some(Err(error)) = self.sources_are_tried(result) {
            self.dial_failed(error);
        }
    }

    /// Connect failed at once, or the new connection could not be watched.
    pub(super) fn dial_failed(&mut self, error: Errno) {
        self.hindered = true;
        let Some((token, to)) = self.dialling else { return };
        let Some(session) = self.slots.get(token.key()).copied().flatten() else { return };
        let is_full = error == Errno::AGAIN && self.plan.is_unix(to);
        let word = if is_full { "connect-timeout" } else { connect_word(error) };
        let it = &mut self.sessions[session];
        it.last_failure = Some(word);
        it.starved = word == "no-resources";
        it.was_starved |= it.starved;
        match word {
            "no-resources" => {}
            // Nobody's failure.
            _ if is_full => it.attempt.mark(to, Mark::Full),
            "no-ports" => {
                (it.lacked_port, self.port_lacked) = (true, self.now);
                it.attempt.mark(to, Mark::Portless);
            }
            _ => self.address_failed(session, token, to, Mark::Failed),
        }
        self.settle_backlog(session);
    }

    /// The connection under way is watched.
    pub(super) fn dial_stands(&mut self, session: usize) {
        if let Some((token, to)) = self.dialling {
            let (until, now) = (self.sessions[session].share, self.now);
            self.upstreams.entry(to).or_default().begins(token, until, now);
            let it = &mut self.sessions[session];
            (it.starved, it.backlog_place) = (false, None);
        }
    }

    /// This address cannot be connected to.
    fn address_failed(&mut self, session: usize, token: Token, to: SocketAddr, mark: Mark) {
        let now = self.now;
        self.upstreams.entry(to).or_default().fails(token, now);
        let outdated = self.sessions[session].attempt.version != self.version(self.sessions[session].route);
        let it = &mut self.sessions[session];
        it.failed_at = Some(now);
        it.attempt.outdated = outdated;
        it.attempt.mark(to, mark);
        let route = it.route;
        if it.attempt.lacks_port() {
            // It waits from now on: what came free before does not wake it.
            self.freed.retain(|freed| *freed != route);
        }
        let attempt = &self.sessions[session].attempt;
        if attempt.is_over() && attempt.version == self.version(route) {
            let (route, vague) = (self.sessions[session].route, attempt.vague);
            self.doubt_names(route, vague);
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
                Some(errno) => self.attempt_failed(conn, connect_word(errno), false),
                None => self.attempt_failed(conn, "refused", false),
            },
        }
        let it = &mut self.sessions[session];
        (it.last_moved, it.last_io) = (now, now);
        if let Some(to) = it.tried.filter(|_| it.connected.is_some()) {
            self.upstreams.entry(to).or_default().answers();
        }
        self.progress = true;
    }

    /// This connection did not come about: it failed, or the relay waits for it no longer.
    pub(crate) fn attempt_failed(&mut self, conn: ConnId, why: &'static str, gave_up: bool) {
        let Some((session, _)) = self.owner(conn) else { return };
        let it = &mut self.sessions[session];
        (it.failed, it.last_failure) = (Some(conn), Some(why));
        if let (Some(to), Some(token)) = (it.tried, it.tokens[Peer::Upstream as usize]) {
            // Only its own time can have been short: an error is an error.
            let slow = it.attempt.quick && gave_up;
            self.address_failed(session, token, to, if slow { Mark::Slow } else { Mark::Failed });
            self.settle_backlog(session);
        }
    }

    /// It may have been given up for this reason: everything was tried, as often as it is to be.
    pub(crate) fn is_tried_out(&self, session: usize) -> bool {
        let it = &self.sessions[session];
        let route = self.route(it);
        // A pause that would outlast the timeout is not begun.
        let pause = Duration::from_millis(150) * 2_u32.saturating_pow(it.attempt.before.min(8));
        let patient = self.now + pause.min(Duration::from_secs(1)) < it.opened + route.connect_timeout;
        it.attempt.vague || (it.attempt.is_over() && (it.attempt.before + 1 >= route.connect_attempts || !patient))
    }

    /// A line of the log says that an address is down, or up again: once each.
    pub(crate) fn check_health_line(&mut self, line: &str) -> bool {
        let (down, up) = (line.contains(" is down: "), line.ends_with(" is up again"));
        if !down && !up {
            return false;
        }
        let word = |word: &&str| read_address(word.trim_matches(['(', ')']));
        let address = line.split(' ').take(2).collect::<Vec<_>>().iter().filter_map(word).next_back();
        let Some(endpoint) = address.and_then(|address| self.upstreams.get_mut(&address)) else {
            self.violation(format!("an address that nobody dialled: {line}"));
            return true;
        };
        let before = std::mem::replace(&mut endpoint.told, down);
        let wrong = before == down || (down && endpoint.failures == 0 && !endpoint.answered);
        if wrong {
            self.violation(format!("said twice, or not true: {line}"));
        }
        true
    }
}
