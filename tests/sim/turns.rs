//! What must hold around each turn: the tables are as small as they should be, nobody starves, nothing spins, and I/O
//! goes before timers.

use std::time::Duration;

use tproxy::Splice;
use tproxy::net::Peer;
use tproxy::reactor::Gauges;

use crate::conn::Life;
use crate::faults::Faults;
use crate::invariants::longest_pause;
use crate::records;
use crate::shadow::{Ending, Flow, Session};
use crate::world::World;

/// The longest an ending may take, and the second its beginning is rounded by.
const ENDING: Duration = Duration::from_secs(31);

/// What a flow of the backlog may read in one turn, or one buffer, or four times as much through a pipe.
const SLICE: usize = 256 << 10;

/// After so many large reads in a row a flow is bulk.
const FEW_LARGE: usize = 4;

/// Calls that bring nothing, for each session, in one turn.
const VAIN_CALLS: usize = 24;

/// Alarms that go off in one turn.
const ALARMS_PER_TURN: usize = 1024;

impl World {
    /// A wait is over.
    pub(crate) fn begin_turn(&mut self, asleep: bool, events: usize) {
        self.kernel.turn = Some(self.kernel.now);
        let shadow = &mut self.shadow;
        shadow.turn += 1;
        shadow.now = self.kernel.now;
        shadow.asleep = asleep;
        shadow.progress = asleep || events > 0;
        shadow.vain_calls = 0;
        shadow.kept_alive = 0;
        (shadow.accepts, shadow.short_now) = (0, false);
        // An event each, what was left to be done, and one flow of the backlog.
        (shadow.served, shadow.announced) = (0, events + shadow.ready + 1);
        shadow.hindered = shadow.limit <= shadow.live.len() || shadow.waits_for_descriptor();
        shadow.doors.iter_mut().for_each(|door| door.asked = false);
        let live = shadow.live.iter().map(|live| &shadow.sessions[*live]);
        if live.clone().any(|it| it.connected.is_none() && shadow.may_lack_port(it)) {
            shadow.port_lacked = shadow.now;
        }
        shadow.pipe_asked = false;
        shadow.ended_this_turn = 0;
        for index in 0..self.shadow.live.len() {
            let session = self.shadow.live[index];
            let it = &self.shadow.sessions[session];
            // After an error, what is only thrown away is no progress: if it waits for a slice, no peer waits for that.
            let backlog = self.shadow.backlog > 0;
            let in_vain = it.trouble.is_some() || self.shadow.may_have_thrown_enough(it);
            let wasted = |peer: Peer| backlog && in_vain && it.told[peer.other() as usize].is_some();
            let could_move = it.upstream.is_some()
                && it.connected.is_some()
                && Peer::BOTH.iter().any(|peer| !wasted(*peer) && self.movable(it, *peer).is_some());
            let route = self.shadow.route(it);
            let aged = self.shadow.may_be_old(it.began, route);
            let too_old = route.max_lifetime.is_some_and(|most| self.shadow.now >= it.began + most);
            let now = self.shadow.now;
            let it = &mut self.shadow.sessions[session];
            it.aged |= aged;
            it.too_old = it.too_old.or_else(|| (too_old && it.connected.is_some()).then_some(now));
            it.could_move = could_move;
            it.flows.iter_mut().for_each(|flow| (flow.moved, flow.gulp) = (false, 0));
            self.shadow.note_due(session);
        }
    }

    /// A turn is over: the tables are as small as they should be, nobody starves, nothing spins, and what was logged
    /// is true.
    pub(crate) fn end_turn(&mut self, gauges: Gauges, lines: &[String]) {
        self.shadow.settle_reload();
        if self.shadow.drain_due().is_some_and(|due| self.shadow.now >= due) {
            let said = lines.iter().any(|line| line.starts_with("draining "));
            if !said {
                self.violation("the delay is over, and it does not drain");
            }
            self.shadow.drains(self.shadow.now, &self.kernel.queues());
        }
        for line in lines {
            match records::parse(line) {
                Some(record) => self.check_record(&record),
                None => self.check_line(line),
            }
        }
        self.check_silence();
        self.shadow.check_sources();
        self.shadow.check_listeners();
        self.shadow.check_sockets();
        let served = self.shadow.served;
        if served > self.shadow.announced + ALARMS_PER_TURN {
            self.violation(format!(
                "{served} sessions run in one turn, {} of them for a reason",
                self.shadow.announced
            ));
        }
        self.shadow.ready = gauges.ready;
        self.shadow.forget_endpoints();
        self.check_tables(gauges);
        self.check_descriptors();
        self.check_doors();
        self.check_closing();
        self.check_reload(lines);
        self.check_routes(gauges);
        self.check_pipes();
        // A first slice is one buffer, or a pipe of four; an event and an alarm may each bring one. One flow gets more.
        let first = 2 * (4 * self.plan.config.buffer_size as u64 + self.plan.config.buffer_size as u64);
        let flows = self.shadow.live.iter().flat_map(|live| &self.shadow.sessions[*live].flows);
        let greedy = flows.filter(|flow| flow.gulp > first).count();
        if greedy > 1 {
            self.violation(format!("{greedy} flows read more than their first slice in one turn"));
        }
        let slice = (SLICE as u64).max(self.plan.config.buffer_size as u64);
        let flows = self.shadow.live.iter().flat_map(|live| &self.shadow.sessions[*live].flows);
        if let Some(most) = flows.map(|flow| flow.gulp).max().filter(|most| *most > first + 4 * slice) {
            self.violation(format!("a flow read {most} bytes in one turn"));
        }
        for index in 0..self.shadow.live.len() {
            let session = self.shadow.live[index];
            self.check_service(session);
            self.note_overdue(session);
        }
        let shadow = &mut self.shadow;
        shadow.idle_turns = if shadow.progress { 0 } else { shadow.idle_turns + 1 };
        if shadow.idle_turns > 3 + 2 * self.plan.sessions.len() {
            self.violation("turn after turn, and nothing is done");
        }
        let most = VAIN_CALLS * (2 + self.shadow.live.len() + self.shadow.ended_this_turn);
        if self.shadow.vain_calls > most {
            self.violation(format!("{} calls in vain in one turn", self.shadow.vain_calls));
        }
        // After a delay, the drain begins behind the work of a turn.
        let behind = !self.plan.config.drain_delay.is_zero();
        let stopped = self.shadow.stop_turn.is_some_and(|turn| turn < self.shadow.turn || !behind);
        // A connection under way goes on, also to an address that the last answer does not have.
        let early = |it: &Session| it.connected.is_none() && it.upstream.is_none() && it.accepted < self.shadow.turn;
        // Who waits for a port or a descriptor learns at its next try that the address is gone.
        let waits = |it: &Session| it.header.awaited.is_some() || it.starved || it.last_failure == Some("no-ports");
        let nameless = |it: &Session| early(it) && !waits(it) && self.shadow.candidates(it.route).is_empty();
        if stopped && self.shadow.live.iter().any(|live| nameless(&self.shadow.sessions[*live])) {
            self.violation("it is to stop, and a session waits for a name");
        }
        let over = |it: &Session| it.header.bad || it.header.refused.is_some();
        if let Some(session) = self.shadow.live.iter().find(|live| over(&self.shadow.sessions[**live])) {
            self.violation(format!("session {session} has no header, or its client may not come, and it goes on"));
        }
        let untold = |it: &Session| {
            let sends = self.shadow.route(it).send_proxy.is_some();
            sends && it.connected.is_some() && it.header.sent.is_none()
        };
        if let Some(session) = self.shadow.live.iter().find(|live| untold(&self.shadow.sessions[**live])) {
            self.violation(format!("session {session} relays, and its upstream is told nothing of its client"));
        }
        if self.shadow.is_given_up(self.shadow.now) && !self.shadow.live.is_empty() {
            self.violation(format!("{} sessions are left after the drain's deadline", self.shadow.live.len()));
        }
    }

    fn check_tables(&mut self, gauges: Gauges) {
        let Gauges { sessions, leases, pipes, spare_leases, alarms, ready, backlog, with_endpoint, .. } = gauges;
        let Gauges { endpoints, names, client_addresses, .. } = gauges;
        let counted = self.shadow.counted_addresses();
        let live = self.shadow.live.len();
        let ended = self.shadow.ended_this_turn;
        let turn = self.shadow.turn;
        let holding = |it: &Session, peer: Peer| {
            let flow = it.flows[peer as usize];
            // A flow that learns of its target's end from the other flow lets go in the next turn.
            let unsent = peer == Peer::Client && it.header.unsent > 0;
            (flow.read > flow.written || unsent) && (it.told[peer.other() as usize].is_none() || it.told_turn == turn)
        };
        let held = self.shadow.live.iter().map(|live| &self.shadow.sessions[*live]);
        // A header stays in its lease until it is passed on.
        let header = |it: &Session| {
            let kept = it.connected.is_none() && it.header.length > 0 && self.shadow.route(it).send_proxy.is_some();
            it.header.awaited.is_some_and(|read| read > 0) || kept && it.flows[0].read == 0
        };
        let held: usize =
            held.map(|it| Peer::BOTH.iter().filter(|peer| holding(it, **peer)).count() + usize::from(header(it))).sum();
        // A descriptor for each client, and one for each connection to an upstream.
        let open = self.kernel.open;
        let upstreams = |live: &&usize| self.shadow.sessions[**live].upstream.is_some();
        let tried = self.shadow.live.iter().filter(|live| self.shadow.sessions[**live].tried.is_some()).count();
        let (known, hosts) = self.shadow.listed();
        let descriptors = live + self.shadow.live.iter().filter(upstreams).count() + 2 * pipes;
        // One flow gets a slice in each turn. What sessions that have ended leave behind is taken out on the way to it.
        let before = self.shadow.backlog;
        let stale = self.shadow.stale_backlog;
        for (wrong, what) in [
            (sessions != live, format!("{sessions} sessions in the table, {live} alive")),
            (sessions > self.plan.limit, format!("{sessions} sessions, the limit is {}", self.plan.limit)),
            (leases > held, format!("{leases} leases are out, {held} flows hold bytes")),
            (spare_leases * self.plan.config.buffer_size > 16 << 20, format!("{spare_leases} spare leases")),
            (pipes != self.kernel.pipes, format!("{pipes} pipes, of which the kernel knows {}", self.kernel.pipes)),
            (pipes > self.plan.pipes, format!("{pipes} pipes, and there may be {}", self.plan.pipes)),
            (pipes > 0 && sessions == 0, format!("{pipes} pipes for nobody")),
            (alarms > sessions + 6, format!("{alarms} alarms for {sessions} sessions")),
            (ready > sessions + ended, format!("{ready} on the ready queue of {sessions} sessions")),
            (open != descriptors, format!("{open} descriptors, and {descriptors} ends of connections and pipes")),
            (backlog > 2 * (live + ended) + stale, format!("{backlog} on the backlog of {sessions} sessions")),
            (with_endpoint != tried, format!("{with_endpoint} sessions have an endpoint, {tried} should")),
            (endpoints != known, format!("{endpoints} endpoints are kept, and {known} are in use")),
            (client_addresses != counted, format!("{client_addresses} client addresses, {counted} have sessions")),
            (names != hosts, format!("{names} names are kept, and {hosts} are listed")),
            (backlog + 1 + stale < before, format!("{before} on the backlog, and a turn later {backlog}")),
        ] {
            if wrong {
                self.violation(what);
            }
        }
        let shadow = &mut self.shadow;
        shadow.backlog = backlog;
        shadow.stale_backlog = if backlog == 0 { 0 } else { stale + 2 * ended };
    }

    /// Rule 11: who is admitted can be served. Clients alone never take all descriptors: a session would have to give up
    /// before another could go on.
    fn check_descriptors(&mut self) {
        let live = self.shadow.live.iter().map(|live| &self.shadow.sessions[*live]);
        let stuck = live.len() > 1
            && self.kernel.open >= self.plan.laws.descriptors
            && self.kernel.pipes == 0
            && self.plan.faults == Faults::NONE
            // A client that waits for a name, or for a Unix socket whose backlog is full, holds no descriptor to dial with, and
            // must not hold up the clients of other routes.
            && self.plan.names.is_empty()
            // Nor one whose header is still to come.
            && live.clone().all(|it| it.header.length == 0)
            && self.shadow.stop_turn.is_none()
            && live.clone().all(|it| it.attempt.pauses == 0)
            && live.clone().all(|it| {
                it.upstream.is_none() && it.told == [None; 2] && it.starved && !it.lacked_port && it.failed_at.is_none()
            });
        if stuck {
            self.violation("clients hold all descriptors, and none is left for an upstream");
        }
    }

    /// Bulk goes through pipes. If a pipe could not be opened, one is asked for again after a pause, or when a session
    /// has ended.
    fn check_pipes(&mut self) {
        let shadow = &self.shadow;
        let wants = |it: &Session| {
            // What is thrown away needs none.
            let bulk = |flow: &Flow| flow.gulp > 0 && flow.large_copies >= FEW_LARGE && !flow.unspliced;
            it.told == [None; 2] && !it.overdue && !it.aged && it.flows.iter().any(bulk)
        };
        let mut live = shadow.live.iter().map(|live| &shadow.sessions[*live]);
        let wanted = match self.plan.config.splice {
            Splice::On => live.len() > 0,
            Splice::Auto => live.any(wants),
            Splice::Off => false,
        };
        let free = self.kernel.open + 2 <= self.plan.laws.descriptors && self.plan.pipes > 0;
        let waits = shadow.pipe_wait.is_some_and(|at| shadow.now < at);
        let missed = wanted && free && self.kernel.pipes == 0 && !shadow.pipe_asked && !waits;
        let shadow = &mut self.shadow;
        shadow.pipe_missed += usize::from(missed);
        shadow.pipe_wait = shadow.pipe_wait.filter(|_| shadow.ended_this_turn == 0);
        if missed && shadow.pipe_missed > 1 {
            self.violation("there could be a pipe, a flow wants one, and nobody asks");
        }
    }

    /// Who could move is served in time.
    fn check_service(&mut self, session: usize) {
        let it = &self.shadow.sessions[session];
        let Some(upstream) = it.upstream.filter(|_| it.connected.is_some()) else {
            return;
        };
        let draining = self.shadow.stop_turn.is_some();
        if it.flows.iter().all(|flow| flow.finished) && !draining {
            return self.violation(format!("session {session} has said all, and is still there"));
        }
        if it.trouble.is_some_and(|trouble| self.shadow.now >= trouble + ENDING) {
            return self.violation(format!("session {session} does not end"));
        }
        if it.too_old.is_some_and(|since| self.shadow.now >= since + ENDING) {
            return self.violation(format!("session {session} outlives its time"));
        }
        self.check_ending(session);
        self.check_throwing_away(session);
        let it = &self.shadow.sessions[session];
        let pending = self.kernel.is_pending(it.client) || self.kernel.is_pending(upstream);
        // Every flow of every session may be ahead of it, and each gets one slice in a turn.
        let ahead = 3 + 2 * self.shadow.live.len();
        for peer in Peer::BOTH {
            let it = &self.shadow.sessions[session];
            let hungry = !pending && self.movable(it, peer).is_some();
            let flow = self.shadow.sessions[session].flow(peer);
            (flow.hungry, flow.patience) = match hungry && !flow.moved {
                true => (flow.hungry + 1, flow.patience.max(ahead)),
                false => (0, 0),
            };
            if flow.hungry > flow.patience {
                self.violation(format!("session {session}: the flow from its {peer:?} starves"));
            }
        }
    }

    /// A reset is passed on within a bound: at the next question when the survivor is owed nothing, after the grace
    /// when it takes nothing of what it is owed. What it writes meanwhile does not count.
    fn check_ending(&mut self, session: usize) {
        let now = self.shadow.now;
        let it = &self.shadow.sessions[session];
        // When a timeout may have struck too, it cannot be told which of the two it ends for, and since when.
        let said = it.flows.iter().all(|flow| flow.finished)
            && self.shadow.stop_turn.is_some_and(|turn| turn < self.shadow.turn);
        if (it.trouble.is_none() && !said) || it.overdue || it.aged {
            return;
        }
        let asks = self.plan.laws.counts_unacked;
        let (mut owed, mut done, mut ends) = (!asks, it.last_moved.max(it.last_io), 0);
        for peer in Peer::BOTH.into_iter().filter(|peer| it.told[*peer as usize].is_none()) {
            let (Some(conn), Some(source)) = (it.conn(peer), it.conn(peer.other())) else {
                continue;
            };
            let (half, flow) = (&self.kernel.conns[conn].from_relay, it.flows[peer.other() as usize]);
            // A shortage of ours may have been what failed, and the source still speaks.
            let source = &self.kernel.conns[source];
            let unread = flow.end.is_none() && (source.is_readable() || source.relay.life != Life::Dead);
            owed |= half.unacked() > 0 || flow.read > flow.written || unread;
            done = if asks { done.max(half.acked_at) } else { done };
            ends += usize::from(flow.end.is_some());
        }
        // Who waits for a slice, or may do so, is not stuck; `check_service` sees that it gets one.
        if self.shadow.backlog > 0 || Peer::BOTH.iter().any(|peer| self.movable(it, *peer).is_some()) {
            (owed, done) = (true, now);
        }
        let grace = self.longest_grace(it);
        let questions = it.questions;
        let it = &mut self.shadow.sessions[session];
        let ending = it.ending.get_or_insert(Ending { done, ends, moved: Some(now), noticed: now, paid: None });
        if (ending.done, ending.ends) != (done, ends) {
            (ending.done, ending.ends, ending.moved) = (done, ends, Some(now));
        }
        if ending.moved.is_some_and(|moved| now >= moved + longest_pause(questions, moved)) {
            // By now it has asked, and knows.
            (ending.moved, ending.noticed) = (None, now);
        }
        ending.paid = if owed { None } else { ending.paid.or(Some(now)) };
        let late = ending.paid.is_some_and(|paid| now >= paid + longest_pause(questions, paid));
        let stuck = ending.moved.is_none() && now > ending.noticed && now >= ending.noticed + grace;
        if late {
            self.violation(format!("session {session} owes nothing any more, and does not pass the reset on"));
        } else if stuck {
            self.violation(format!("session {session}: nothing it owes was taken for {grace:?}, and nobody is reset"));
        }
    }

    /// Throwing away goes on for the half-close time in all since the target hung up, then both ends are reset: when the
    /// survivor has what is on its way to it, or takes nothing of that for the grace.
    fn check_throwing_away(&mut self, session: usize) {
        let it = &self.shadow.sessions[session];
        let Some(since) = it.thrown_too_long else { return };
        let acked = [Some(it.client), it.upstream].into_iter().flatten();
        let acked = acked.map(|conn| self.kernel.conns[conn].from_relay.acked_at).max();
        let last = acked.map_or(since, |at| at.max(since)).max(it.last_io);
        // Turns may take long, and the second is far from for ever.
        if self.shadow.now >= last + self.longest_grace(it) + Duration::from_secs(1) {
            self.violation(format!(
                "session {session}: bytes are thrown away for ever (client {}, since {since:?}, last {last:?})",
                it.client
            ));
        }
    }

    /// May a timeout have struck in this turn? I/O comes before timers, so not if something was passed on.
    pub(crate) fn note_overdue(&mut self, session: usize) {
        let it = &self.shadow.sessions[session];
        if it.overdue {
            return;
        }
        let moved = it.passed_on == self.shadow.now;
        let it = &mut self.shadow.sessions[session];
        it.overdue = it.due && !moved;
        it.struck_half_closed = it.is_half_closed();
        it.struck_told = it.first_told.is_some();
    }
}
