//! What must hold when the relay asks how far an ending is: no edge tells, so an alarm asks after 20 ms, and ever less
//! often while nothing is acknowledged.

use std::time::Duration;

use rustix::io::Errno;
use tproxy::ResetGrace;
use tproxy::net::{Peer, Time};

use crate::kernel::ConnId;
use crate::shadow::{Questions, Session, Undelivered};
use crate::world::World;

/// The pause before the first question, and the longest.
const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(160);

/// One alarm that was set for something else may make it ask once more, so may one that was set before the last event, and
/// so may the end of the grace.
const SPARE: u32 = 3;

/// The longest that the relay may sleep at `now` without asking: each pause is twice the one before it.
pub(crate) fn longest_pause(questions: Option<Questions>, now: Time) -> Duration {
    questions.map_or(FIRST, |questions| (FIRST + now.since(questions.since)).min(LONGEST))
}

/// Questions within that time: after 20 ms, then after pauses that double.
fn questions_within(mut time: Duration) -> u32 {
    let (mut count, mut pause) = (0, FIRST);
    while time >= pause {
        (count, time, pause) = (count + 1, time - pause, (2 * pause).min(LONGEST));
    }
    count
}

impl World {
    /// The relay asks how much is not acknowledged.
    pub(crate) fn did_ask(&mut self, conn: ConnId, result: Result<usize, Errno>) {
        let Some((session, peer)) = self.caller(conn, "unacked") else {
            return;
        };
        let (now, turn) = (self.shadow.now, self.shadow.turn);
        let half = &self.kernel.conns[conn].from_relay;
        // What the kernel cannot say is not known to the relay.
        let acked = if half.unix { 0 } else { result.map_or(0, |_| half.acked + u64::from(half.fin_acked)) };
        let left = result.map_or(0, |count| count as u64 - u64::from(half.owes_fin()));
        let asleep = self.shadow.asleep;
        let it = &mut self.shadow.sessions[session];
        let questions = it.questions.get_or_insert_with(|| Questions::new(now));
        let noticed = std::mem::replace(&mut questions.acked[peer as usize], acked) < acked;
        if noticed || (it.passed_on == now && it.told_turn != turn) {
            questions.since = now;
        }
        let moved = it.flows.iter().any(|flow| flow.moved) || it.told_turn == turn;
        if noticed || moved || !asleep {
            questions.disturbed(now);
        } else if questions.turn != turn && questions.quiet != now {
            questions.alone += 1;
        }
        (questions.turn, questions.left[peer as usize]) = (turn, Some((turn, left)));
        let (alone, time) = (questions.alone, now.since(questions.quiet));
        if alone > questions_within(time) + SPARE {
            self.violation(format!("session {session}: asked {alone} times in {time:?}, and nothing had happened"));
        }
        let said = it_is_said(&self.shadow.sessions[session]);
        if said && !self.shadow.may_drain() {
            self.violation(format!("session {session}: connection {conn} is asked, although all was said"));
        }
    }
}

impl World {
    /// The relay asks how long the kernel waits for an acknowledgement.
    pub(crate) fn did_ask_timeout(&mut self, conn: ConnId, result: Result<Duration, Errno>) {
        let Some((session, peer)) = self.caller(conn, "retransmission_timeout") else {
            return;
        };
        let (now, turn) = (self.shadow.now, self.shadow.turn);
        let auto = self.shadow.route(&self.shadow.sessions[session]).reset_grace == ResetGrace::Auto;
        let it = &mut self.shadow.sessions[session];
        let questions = it.questions.get_or_insert_with(|| Questions::new(now));
        questions.timeouts[peer as usize] = Some((turn, result.ok()));
        if !auto {
            self.violation(format!("session {session}: connection {conn} is asked, and the grace is a fixed time"));
        }
    }

    /// What is not delivered to this side when its stream goes: bytes that are held for it, and those its kernel has not
    /// had acknowledged, without our FIN: as it said in this turn, for the rest may be acknowledged since.
    pub(super) fn undelivered(&self, session: usize, peer: Peer, conn: ConnId) -> Undelivered {
        let it = &self.shadow.sessions[session];
        // What was read behind a header, and no upstream was there to take it, is no more undelivered than what was not read.
        if it.connected.is_none() {
            return Undelivered::default();
        }
        let said = it.questions.and_then(|questions| questions.left[peer as usize]);
        let said = said.filter(|(turn, _)| *turn == self.shadow.turn).map(|(_, left)| left);
        let half = &self.kernel.conns[conn].from_relay;
        let truth = half.unacked() as u64 - u64::from(half.owes_fin());
        let truth = if self.kernel.laws.counts_unacked { truth } else { 0 };
        let unacked = said.unwrap_or(truth);
        // A header was written before all payload, and is none.
        let header = it.header.sent.as_ref().map_or(0, Vec::len) as u64 - it.header.unsent;
        let header = if peer == Peer::Upstream { header } else { 0 };
        let acked = (header + it.flows[peer.other() as usize].written).saturating_sub(unacked);
        let unacked = unacked - header.saturating_sub(acked).min(unacked);
        Undelivered { held: it.flows[peer.other() as usize].held(), unacked }
    }

    /// The shortest grace that the relay may give now. By default it is three times the connection's own retransmission
    /// time-out, 300 ms to 5 s, asked for anew each time, because it doubles with each loss; of two sides, the larger of
    /// those that have bytes not acknowledged.
    pub(crate) fn grace(&self, it: &Session) -> Duration {
        let asked_now = |peer: Peer, conn: ConnId| {
            let said = it.questions.and_then(|questions| questions.timeouts[peer as usize]);
            let now = said.filter(|(turn, _)| *turn == self.shadow.turn).map(|(_, timeout)| timeout);
            now.unwrap_or_else(|| self.timeout(conn))
        };
        self.grace_of(it, asked_now)
    }

    /// The longest that it may give: as the kernel was last asked, or would be.
    pub(crate) fn longest_grace(&self, it: &Session) -> Duration {
        let asked_last = |peer: Peer, conn: ConnId| {
            let said = it.questions.and_then(|questions| questions.timeouts[peer as usize]);
            said.map_or_else(|| self.timeout(conn), |(_, timeout)| timeout)
        };
        self.grace_of(it, asked_last)
    }

    fn timeout(&self, conn: ConnId) -> Option<Duration> {
        self.kernel.laws.counts_unacked.then(|| self.kernel.retransmission_timeout(conn))
    }

    fn grace_of(&self, it: &Session, timeout: impl Fn(Peer, ConnId) -> Option<Duration>) -> Duration {
        let (least, most) = (Duration::from_millis(300), Duration::from_secs(5));
        match self.shadow.route(it).reset_grace {
            ResetGrace::Fixed(grace) => grace,
            ResetGrace::Auto => {
                let alive = Peer::BOTH.into_iter().filter(|peer| it.told[*peer as usize].is_none());
                let conns = alive.filter_map(|peer| Some((peer, it.conn(peer)?)));
                let pending = conns.filter(|(_, conn)| self.kernel.conns[*conn].from_relay.unacked() > 0);
                let longest = pending.filter_map(|(peer, conn)| timeout(peer, conn)).max();
                longest.map_or(least, |timeout| (3 * timeout).clamp(least, most))
            }
        }
    }
}

/// Is everything said and passed on, and nothing forces the end?
fn it_is_said(it: &Session) -> bool {
    let finished = Peer::BOTH.into_iter().all(|peer| it.flows[peer as usize].finished);
    finished && it.first_told.is_none() && !it.overdue && !it.due && !it.aged
}
