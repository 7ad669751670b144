//! What must hold when something has ended: the log tells each session's story as the shadow model knows it, and every
//! peer has seen the end that the other one meant.

use std::time::Duration;

use tproxy::Totals;
use tproxy::net::{Peer, Time};

use crate::conn::Life;
use crate::peers::How;
use crate::records::Record;
use crate::shadow::{HEADER_TIMEOUT, Session, Undelivered, fault_word};
use crate::world::World;

impl World {
    pub(crate) fn check_record(&mut self, record: &Record) {
        if self.check_refused(record) {
            return;
        }
        let place = self.shadow.sessions.iter().position(|it| self.shadow.client_of(it) == record.client);
        let Some(session) = place else {
            return self.violation(format!("a record of a client that never was: {record:?}"));
        };
        self.trace.note(self.kernel.now, || format!("record of session {session}: {record:?}"));
        let now = self.shadow.now;
        let it = &mut self.shadow.sessions[session];
        it.records += 1;
        it.cause = Some(record.end.clone());
        let (up, down) = record.undelivered.unwrap_or_default();
        it.said_undelivered = [up, down];
        let it = &self.shadow.sessions[session];
        let seconds = |from: Time, to: Time| format!("{:.3}s", to.since(from).as_secs_f64());
        // The relay keeps the moment of connecting in whole milliseconds, 49 days of them at most.
        let connect = it.connected.map_or_else(
            || seconds(it.began, now),
            |at| {
                let millis = u32::try_from(at.since(it.began).as_millis()).unwrap_or(u32::MAX);
                format!("{:.3}s", Duration::from_millis(millis.into()).as_secs_f64())
            },
        );
        let name = self.plan.names_routes().then(|| self.shadow.route(it).name.clone());
        let mut wrong = Vec::new();
        for (wrongly, what) in [
            (it.records > 1, "a second record".to_owned()),
            (record.route != name, format!("route should be {name:?}")),
            (it.ended != Some(now), "a record, but its streams are not gone".to_owned()),
            (
                match record.upstream {
                    Some(upstream) => it.tried != Some(upstream),
                    None => it.tried.is_some(),
                },
                format!("upstream should be {:?}", it.tried),
            ),
            (record.up != it.flows[0].written, format!("up should be {}", it.flows[0].written)),
            (record.down != it.flows[1].written, format!("down should be {}", it.flows[1].written)),
            (record.time != seconds(it.began, now), format!("time should be {}", seconds(it.began, now))),
            (record.connect != connect, format!("connect should be {connect}")),
        ] {
            if wrongly {
                wrong.push(what);
            }
        }
        wrong.extend(self.check_undelivered(it, record));
        if let Err(why) = self.explain(it, &record.end) {
            wrong.push(why);
        }
        self.check_connecting(session, &record.end);
        for what in wrong {
            self.violation(format!("session {session}: {what}: {record:?}"));
        }
    }

    /// Is it the record of a client that was not to be served? Then nothing was relayed for it, and it is reset.
    fn check_refused(&mut self, record: &Record) -> bool {
        let Some(place) = self.shadow.refused.iter().position(|it| it.client == record.client) else {
            return false;
        };
        let refused = self.shadow.refused.remove(place);
        let name = self.plan.names_routes().then(|| self.shadow.routes[refused.route].name.clone());
        let said = (record.route.clone(), record.upstream, record.up, record.down, record.undelivered);
        let times = (record.time.as_str(), record.connect.as_str(), record.end.as_str());
        if said != (name, None, 0, 0, None) || times != ("0.000s", "0.000s", refused.why.word()) || !refused.is_gone {
            self.violation(format!("{refused:?}: {record:?}"));
        }
        self.shadow.counted.refusals[usize::from(refused.why.word() == "limit")] += 1;
        true
    }

    /// After an end that was not orderly, the line says what came for each side and was not acknowledged, if there was any.
    /// When a whole drain is reset, that is only what is held.
    fn check_undelivered(&self, it: &Session, record: &Record) -> Option<String> {
        let orderly = it.said_goodbye == [true; 2];
        let (up, down) = record.undelivered.unwrap_or_default();
        if record.undelivered == Some((0, 0)) || (orderly && record.undelivered.is_some()) {
            return Some("undelivered is said, and nothing was".to_owned());
        }
        for (given, peer) in [(up, Peer::Upstream), (down, Peer::Client)] {
            let Undelivered { held: (least, most), unacked } = it.undelivered[peer as usize];
            let full = !orderly && record.end != "drain" && (least + unacked..=most + unacked).contains(&given);
            // Another cause stays when the drain ends, and then it cannot be told which of the two it was.
            let drained = (record.end == "drain" || it.ended_late) && (least..=most).contains(&given);
            if !(full || drained || orderly) {
                return Some(format!("undelivered to the {peer:?} should be {least} to {most} and {unacked}"));
            }
        }
        None
    }

    /// Did a session that never got its upstream get all it was promised?
    fn check_connecting(&mut self, session: usize, cause: &str) {
        let shadow = &self.shadow;
        let it = &shadow.sessions[session];
        let route = shadow.route(it);
        let is_early = it.header.awaited.is_some() || it.header.refused.is_some();
        if it.connected.is_some() || is_early || shadow.is_given_up(shadow.now) {
            return;
        }
        let timed_out = shadow.now >= it.opened + route.connect_timeout;
        let given_up = match cause {
            "client-gone" | "drain" => true,
            "no-resources" if it.unwatched => true,
            // Nothing is known of the upstream.
            "unresolved" => shadow.is_unresolved(it),
            // A shortage is nobody's failure: it costs no attempt, and lasts as long as the client may wait.
            "no-resources" | "no-ports" => false,
            _ => shadow.is_tried_out(session),
        };
        if !given_up && !timed_out {
            let attempt = &it.attempt;
            let what = format!("session {session}: given up ({cause}) before its time: {attempt:?}");
            self.violation(what);
        }
    }

    /// Does history explain this cause?
    fn explain(&self, it: &Session, cause: &str) -> Result<(), String> {
        let shadow = &self.shadow;
        let route = shadow.route(it);
        let now = shadow.now;
        // What comes after the timeout struck is thrown away, and counts no more.
        let quiet = |wait: Option<Duration>| wait.is_some() && (it.overdue || it.due);
        let goodbye = it.said_goodbye == [true; 2];
        let begins = it.attempt.is_fresh() || it.last_failure == Some("no-ports");
        // The side whose error was told first. A read of 0 settles a doubt about it, whatever else has happened.
        let told = it.first_told.map(|(peer, error)| fault_word(peer, error));
        // A timeout that strikes names what was known then.
        let early = it.taken_for.map(|(peer, error)| fault_word(peer, error));
        let told = [told, early];
        let struck =
            if it.overdue { (it.struck_half_closed, it.struck_told) } else { (it.is_half_closed(), told[0].is_some()) };
        let (half_closed, failed) = struck;
        let (idle, half) = (route.idle_timeout, route.half_close_timeout);
        let half_first = half.is_some_and(|half| idle.is_none_or(|idle| half < idle));
        let explained = match cause {
            // Every end has a cause.
            "unknown" => false,
            "bad-header" => it.header.bad && it.told[Peer::Client as usize].is_none(),
            "header-timeout" => it.header.awaited.is_some() && !it.header.bad && now >= it.began + HEADER_TIMEOUT,
            cause @ ("denied" | "limit") => it.header.refused.is_some_and(|why| why.word() == cause),
            "client-eof" => goodbye && it.first_fin == Some(Peer::Client),
            "upstream-eof" => goodbye && it.first_fin == Some(Peer::Upstream),
            // Never early.
            "lifetime" => it.connected.is_some() && shadow.may_be_old(it.began, route),
            // Only in the drain, and only if no other wait is shorter.
            "drain-idle" => {
                let wait = shadow.config.drain_idle_timeout;
                let shorter = |other: Option<Duration>| other.zip(wait).is_some_and(|(other, wait)| other < wait);
                let drains = shadow.stopped_at.is_some() && it.connected.is_some();
                drains && quiet(wait) && !shorter(idle) && !(half_closed && shorter(half)) && !failed
            }
            "idle-timeout" => {
                it.connected.is_some() && quiet(route.idle_timeout) && !(half_closed && half_first) && !failed
            }
            // The timeout that may have struck may also have found a byte to read, and a FIN was seen after it.
            "half-close-timeout" => {
                (half_closed || it.is_half_closed())
                    && quiet(route.half_close_timeout)
                    && (route.idle_timeout.is_none() || half_first)
                    && !failed
            }
            // A stop request waits for no name. Nor does a session that waited for a port, if its address is gone meanwhile.
            "drain" if shadow.stop_turn.is_some() && it.connected.is_none() && begins => {
                shadow.is_given_up(now) || shadow.candidates(it.route).is_empty()
            }
            "drain" => shadow.is_given_up(now) && (it.connected.is_none() || it.first_told.is_none()),
            "client-gone" => it.connected.is_none() && it.told[Peer::Client as usize].is_some(),
            // Nothing else can have happened to it yet.
            cause if it.header.awaited.is_some() => it.unwatched && cause == "no-resources",
            // It waited for a newer answer although an address is known.
            "connect-timeout" if shadow.has_names(it.route) && now >= it.opened + route.connect_timeout => true,
            "connect-timeout" if it.last_failure.is_none() => now >= it.opened + route.connect_timeout,
            // The turn that was to dial came too late.
            "connect-timeout" if it.dials == 0 && it.accepted + 1 == shadow.turn => {
                now >= it.opened + route.connect_timeout
            }
            // It waited behind others that had found the backlog full, whatever its attempt before came to.
            "connect-timeout" if shadow.may_have_waited_behind_others(it) => {
                it.connected.is_none() && now >= it.opened + route.connect_timeout
            }
            // It waited in vain, whatever became of other addresses meanwhile.
            "no-ports" if shadow.may_lack_port(it) => {
                it.connected.is_none() && now >= it.opened + route.connect_timeout
            }
            "unresolved" => {
                // The answer may have come when it was too late.
                let late = now >= it.opened + route.connect_timeout && shadow.has_names(it.route);
                it.connected.is_none()
                    && (late && !shadow.was_known_in_time(it) || shadow.candidates(it.route).is_empty())
            }
            // Connecting ends for the reason that the last attempt failed for.
            cause if it.connected.is_none() => {
                it.last_failure == Some(cause) || it.unwatched && cause == "no-resources"
            }
            cause => !goodbye && told.iter().flatten().any(|told| told == cause),
        };
        if explained { Ok(()) } else { Err(format!("history does not explain the end (told {told:?})")) }
    }

    /// The relay is gone, and everything on the wire has arrived.
    pub(crate) fn check_end(&mut self, totals: Totals) {
        if self.kernel.open != 0 {
            self.violation(format!("{} descriptors leaked", self.kernel.open));
        }
        if !self.shadow.fatal {
            self.check_records(totals);
            let sum = |peer: usize| self.shadow.sessions.iter().map(|it| it.flows[peer].written).sum::<u64>();
            let drained = |it: &&Session| it.cause.as_deref() == Some("drain");
            // Who was idle counts as finished.
            let was_idle = |it: &Session| it.cause.as_deref() == Some("drain-idle");
            let reset = |it: &&Session| (it.ended_late && !was_idle(it)) || drained(it);
            let least = self.shadow.sessions.iter().filter(drained).count() as u64;
            let most = self.shadow.sessions.iter().filter(reset).count() as u64;
            let refused = |word: &str| {
                let is_refused = |it: &&Session| it.cause.as_deref() == Some(word);
                self.shadow.sessions.iter().filter(is_refused).count() as u64
            };
            let [denied, limited] = ["denied", "limit"].map(refused);
            let expected = (self.shadow.sessions.len() as u64 - denied - limited, sum(0), sum(1));
            let undelivered =
                |which: usize| self.shadow.sessions.iter().map(|it| it.said_undelivered[which]).sum::<u64>();
            let expected = (
                expected,
                undelivered(0),
                undelivered(1),
                [self.shadow.counted.refusals[0] + denied, self.shadow.counted.refusals[1] + limited],
            );
            let given = (totals.sessions, totals.up, totals.down);
            let refused = [totals.denied, totals.limited];
            let given = (given, totals.undelivered_up, totals.undelivered_down, refused);
            if given != expected || !(least..=most).contains(&totals.cut_short) {
                self.violation(format!("{totals:?} should be {expected:?} and {least} to {most} drained"));
            }
            if totals.spliced != self.kernel.spliced {
                self.violation(format!("{totals:?}, and {} bytes went into pipes", self.kernel.spliced));
            }
        }
        for index in 0..self.peers.len() {
            if let Some(what) = self.judge(index) {
                let name = if self.peers[index].is_client { "client" } else { "upstream" };
                self.violation(format!("{name} {}: {what}", self.peers[index].session));
            }
        }
    }

    /// Each session has its line, but for those that are left out, which are counted.
    fn check_records(&mut self, totals: Totals) {
        let silent = |it: &Session| {
            let (may, must) = self.shadow.is_silent(it);
            if it.records == 0 { may } else { !must }
        };
        let said = |it: &Session| it.said_open == (it.connected.is_some() && self.shadow.route(it).log_open);
        let sessions = &self.shadow.sessions;
        let lost = sessions.iter().position(|it| it.records > 1 || !silent(it) || !said(it));
        let empty = sessions.iter().filter(|it| it.records == 0).count() as u64;
        if let Some(session) = lost {
            self.violation(format!("session {session} has no record, or should have none"));
        }
        if totals.empty != empty {
            self.violation(format!("{totals:?}, and {empty} sessions have no record"));
        }
    }

    /// What is wrong with what this peer saw?
    fn judge(&self, index: usize) -> Option<String> {
        let peer = &self.peers[index];
        let session = self.shadow.sessions.iter().find(|it| it.plan == peer.session);
        let other = self.peers.iter().rev().find(|it| it.session == peer.session && it.is_client != peer.is_client);
        let sent = other.map_or(0, |other| (other.sent + peer.added).saturating_sub(peer.removed));
        if peer.received > sent {
            return Some(format!("got {} bytes of {sent}", peer.received));
        }
        // Of several attempts, only the last became the session's.
        let session = session.filter(|it| peer.is_client || it.upstream == Some(peer.conn));
        let cut_off = self.shadow.cut_off.contains(&peer.conn);
        let orderly = session.and_then(|it| it.cause.as_deref()).is_some_and(|cause| cause.ends_with("-eof"));
        let conn = &self.kernel.conns[peer.conn];
        match peer.ended {
            // Nothing could have told it (K21).
            Some(How::Eof) if conn.untold => None,
            Some(How::Eof) if !other.is_some_and(|other| other.said_fin) => {
                Some("a clean end that nobody meant".to_owned())
            }
            Some(How::Eof) if peer.received != sent => {
                Some(format!("a clean end after {} bytes of {sent}", peer.received))
            }
            Some(How::Reset(error)) if orderly && !cut_off => Some(format!("{error:?}, though all was said")),
            Some(_) => None,
            None => {
                let life = self.kernel.conns[peer.conn].peer.life;
                let waits = !peer.closed && peer.reads_all() && matches!(life, Life::Open | Life::Dead);
                (waits && !cut_off && !self.kernel.waits_elsewhere(peer.conn))
                    .then(|| format!("left without an end ({life:?})"))
            }
        }
    }
}
