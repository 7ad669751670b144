//! Who waits for a place in the full backlog of a Unix socket, written from the contract.
//!
//! If it is the only address, those of one route are served in the order they came. Only the first tries again: 10 ms after it
//! found the backlog full, then after twice as long each time, up to 100 ms; and at once when the one before it got in or left.
//! Of several addresses, each session tries for itself.

use std::time::Duration;

use super::Shadow;
use super::attempt::Mark;
use super::session::Session;

const PAUSE_LEAST: Duration = Duration::from_millis(10);
const PAUSE_MOST: Duration = Duration::from_millis(100);

impl Shadow {
    /// Something was tried for this session, and failed. Does it wait for a backlog now?
    pub(super) fn settle_backlog(&mut self, session: usize) {
        let it = &self.sessions[session];
        let goes_on = it.attempt.untried().next().is_some() || it.attempt.has(Mark::Slow);
        if it.starved || (!goes_on && !it.attempt.has(Mark::Full)) {
            self.sessions[session].backlog_place = None;
        } else if !goes_on {
            let is_only = self.candidates(it.route).len() == 1;
            if is_only && it.backlog_place.is_none() {
                self.backlog_places += 1;
                let place = Some((self.backlog_places, self.now));
                let it = &mut self.sessions[session];
                (it.backlog_place, it.met_backlog) = (place, true);
            }
            let it = &self.sessions[session];
            let first = self.first_at_backlog(it.route).and_then(|first| self.sessions[first].backlog_place);
            // Its own connection may have failed just now. Those that have tried nothing have no place here, and may be before.
            let is_first = first.is_none_or(|first| Some(first) >= it.backlog_place);
            let is_vague = is_only && self.may_be_behind_silent_ones(session);
            let attempt = &mut self.sessions[session].attempt;
            let pause = (PAUSE_LEAST * 2_u32.saturating_pow(attempt.pauses)).min(PAUSE_MOST);
            attempt.full_until = (is_first || !is_only).then_some(self.now + pause);
            attempt.full_vague = is_vague;
            attempt.pauses += 1;
        }
    }

    fn may_be_behind_silent_ones(&self, session: usize) -> bool {
        let route = self.sessions[session].route;
        let others = self.live.iter().filter(|live| **live != session).map(|live| &self.sessions[*live]);
        let mut waiting = others.filter(|other| other.route == route && other.backlog_place.is_none());
        waiting.any(|other| other.opened < self.now && self.is_yet_to_connect(other))
    }

    /// The session of this route that waits for a backlog the longest.
    pub(crate) fn first_at_backlog(&self, route: usize) -> Option<usize> {
        let waits = |session: &usize| {
            let it = &self.sessions[*session];
            it.route == route && it.backlog_place.is_some() && self.is_yet_to_connect(it)
        };
        self.live.iter().copied().filter(waits).min_by_key(|session| self.sessions[*session].backlog_place)
    }

    fn is_yet_to_connect(&self, it: &Session) -> bool {
        let in_time = self.now < it.opened + self.route(it).connect_timeout;
        in_time && it.connected.is_none() && it.upstream.is_none() && it.told == [None; 2] && !it.unwatched
    }

    /// May this session wait behind others without having tried? Only if there is no other address.
    pub(crate) fn waits_behind_others(&self, it: &Session) -> bool {
        self.candidates(it.route).len() == 1 && self.first_at_backlog(it.route).is_some()
    }

    /// Was a full backlog of its only address met?
    pub(crate) fn may_have_waited_behind_others(&self, it: &Session) -> bool {
        self.candidates(it.route).len() == 1
            && self.sessions.iter().any(|other| other.route == it.route && other.met_backlog)
    }

    /// This session dials. Why is it not its turn? One that waited for a descriptor, and has one now, may try.
    pub(super) fn is_out_of_turn(&self, session: usize) -> Option<String> {
        let it = &self.sessions[session];
        let first = self.first_at_backlog(it.route);
        let waits = it.backlog_place.is_some();
        // One that has tried nothing may have come before it, and waits without a place that is known here.
        let since = first.and_then(|first| self.sessions[first].backlog_place).map_or(self.now, |(_, since)| since);
        let is_new = self.candidates(it.route).len() == 1 && !it.starved && it.opened >= since;
        if let Some(first) = first.filter(|first| *first != session)
            && ((waits && it.opened >= since) || is_new)
        {
            return Some(format!("session {first} waits longer for a full backlog"));
        }
        let until = it.attempt.full_until.filter(|until| !it.attempt.full_vague && self.now < *until);
        until.map(|until| format!("a full backlog is to be tried again at {until:?}"))
    }
}
