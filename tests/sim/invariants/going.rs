//! What must hold when a stream goes: with a goodbye, or dropped.

use std::time::Duration;

use tproxy::net::{Peer, Time};

use crate::conn::Life;
use crate::kernel::ConnId;
use crate::shadow::End;
use crate::world::World;

impl World {
    /// A stream goes: with a goodbye, or dropped.
    pub(crate) fn will_go(&mut self, conn: ConnId, armed: bool) {
        self.shadow.settle_reload();
        if self.shadow.stop_now && !armed {
            self.violation(format!("a goodbye to connection {conn}, although everything is given up"));
        }
        self.shadow.progress = true;
        if let Some(refused) = self.shadow.refused.iter_mut().find(|it| it.conn == conn) {
            refused.is_gone = armed;
            return;
        }
        let Some((session, peer)) = self.shadow.owner(conn) else {
            return;
        };
        let now = self.shadow.now;
        let given_up = self.shadow.is_given_up(now);
        // All that were there when that was said are cut short.
        let at_once = self.shadow.stop_now || self.shadow.impatient;
        let connected = self.shadow.sessions[session].connected.is_some();
        if connected && armed {
            self.check_reset(session, peer, conn);
        } else if connected {
            self.check_goodbye(session, peer, conn);
        } else if !armed {
            self.violation(format!("session {session}: a goodbye to connection {conn} before anything was said"));
        }
        let undelivered = self.undelivered(session, peer, conn);
        let it = &mut self.shadow.sessions[session];
        it.said_goodbye[peer as usize] = !armed;
        it.undelivered[peer as usize] = undelivered;
        match peer {
            Peer::Client => {
                it.ended = Some(now);
                it.ended_late = armed && given_up;
                it.cut = it.ended_late && at_once;
                self.shadow.live.retain(|live| *live != session);
                let (route, door) = (it.route, it.door);
                self.shadow.doors[door].sessions -= 1;
                // Whoever waits for a descriptor, in the queue or to connect, is asked again; or for a port of this route.
                self.shadow.shortage = None;
                self.shadow.freed.push(route);
                self.shadow.ended_this_turn += 1;
            }
            Peer::Upstream if !connected => {
                it.upstream = None;
                // One whose session ends is no failure. Then the client's stream goes first.
                if it.failed != Some(conn) && it.ended.is_none() {
                    let early = now < it.share && !it.attempt.is_vague();
                    self.shadow.attempt_failed(conn, "connect-timeout", true);
                    if early {
                        self.violation(format!("session {session}: an address had not had its time"));
                    }
                }
            }
            Peer::Upstream => {}
        }
    }

    fn check_goodbye(&mut self, session: usize, peer: Peer, conn: ConnId) {
        let unread = self.kernel.conns[conn].from_peer.unread();
        let it = &self.shadow.sessions[session];
        let said = it.flows.iter().all(|flow| flow.end == Some(End::Eof) && flow.read == flow.written);
        let untold = self.kernel.conns[conn].relay.error.filter(|_| !it.flows[peer.other() as usize].finished);
        // A container's network goes with its last process: while draining, who owes bytes stays for a while.
        let owed = self.kernel.conns[conn].from_relay.unacked();
        let patient = self.shadow.now >= it.last_moved + self.grace(it) || it.told != [None; 2];
        let hasty = owed > 0 && self.shadow.stop_turn.is_some() && !patient;
        if hasty {
            self.violation(format!("session {session}: connection {conn} closed in the drain, and owes {owed} bytes"));
        }
        if !said {
            self.violation(format!("session {session}: a goodbye to connection {conn}, but not all was said"));
        }
        // A FIN of its own would have told: close(2) sends one too, and tells nothing.
        if let Some(error) = untold {
            self.violation(format!(
                "session {session}: connection {conn} closed over {error:?}, which nobody asked for"
            ));
        }
        if unread > 0 {
            self.violation(format!("session {session}: connection {conn} closed over {unread} unread bytes"));
        }
    }

    /// Flush, then reset: what is thrown away was given its time, and there is a reason to reset at all.
    fn check_reset(&mut self, session: usize, peer: Peer, conn: ConnId) {
        let now = self.shadow.now;
        if self.shadow.is_given_up(now) || self.kernel.conns[conn].relay.life == Life::Dead {
            return;
        }
        let it = &self.shadow.sessions[session];
        let enough = self.shadow.may_have_thrown_enough(it);
        let overdue = it.overdue || it.due || it.aged || enough;
        if it.first_told.is_none() && !overdue {
            return self.violation(format!("session {session}: connection {conn} is reset without a reason"));
        }
        let half = &self.kernel.conns[conn].from_relay;
        let flow = it.flows[peer.other() as usize];
        let source = it.conn(peer.other()).map(|conn| &self.kernel.conns[conn]);
        let source = source.filter(|it| it.relay.life == Life::Dead && flow.end.is_none());
        let unread = source.map_or(0, |it| it.from_peer.unread());
        let (unacked, held) = (half.unacked(), flow.read - flow.written);
        let acked_at = if self.plan.laws.counts_unacked { half.acked_at } else { Time::START };
        let quiet = now >= it.last_io.max(acked_at) + self.grace(it);
        let tired = it.told_at.is_some_and(|told| now >= told + Duration::from_secs(30));
        // An acknowledgement may come between the last question and the end.
        let surprised = half.acked_at == now;
        let owed = it.told[peer as usize].is_none();
        let moved = it.flows.iter().any(|flow| flow.moved) || it.told_turn == self.shadow.turn;
        // When all its time is up, what waits for a slice is not waited for.
        let untried = owed
            && it.could_move
            && !(enough || it.aged)
            && (self.shadow.asleep || !tired)
            && !moved
            && (unacked > 0 || held + unread > 0);
        let impatient = owed && !quiet && !tired && !overdue && !surprised;
        for (wrong, what) in [
            (untried, "is reset before what could be moved was tried".to_owned()),
            // An acknowledgement may come between the last question and the end.
            // What was written before a timeout strikes is acknowledged, or had its time.
            (
                owed && !quiet && !tired && !surprised && unacked > 0,
                format!("is reset with {unacked} bytes not acknowledged"),
            ),
            (impatient && held + unread > 0, format!("is reset, {held} bytes held, {unread} unread")),
        ] {
            if wrong {
                self.violation(format!("session {session}: connection {conn} {what}"));
            }
        }
    }
}
