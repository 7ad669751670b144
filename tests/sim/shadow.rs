//! What the relay should know, from its own calls and their results: the model it is held against.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use tproxy::Config;
use tproxy::net::{Hints, Peer, Ready, Time, Token};

use crate::kernel::ConnId;
use crate::plan::Plan;
use crate::seam::inet;

/// Accepting pauses for so long at first, doubling each time up to so long, give or take this share.
const PAUSE_LEAST: Duration = Duration::from_millis(10);
const PAUSE_MOST: Duration = Duration::from_secs(1);
pub(crate) const PAUSE_JITTER: f64 = 0.25;

/// So many clients lost in a row are a shortage.
const LOST_MAX: u32 = 16;

/// Calls of accept in one turn.
const ACCEPTS_PER_TURN: usize = 32;

/// How one direction ended, as the relay was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A read of 0 that is true.
    Eof,
    /// An error, or a read of 0 behind one.
    Cut,
}

/// One direction of a session, named by the peer it reads from.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flow {
    pub(crate) read: u64,
    pub(crate) written: u64,
    pub(crate) end: Option<End>,
    /// The FIN was passed on.
    pub(crate) finished: bool,
    /// Turns in which it could have moved and did not.
    pub(crate) hungry: usize,
    /// And how many it may take, for there were so many others.
    pub(crate) patience: usize,
    pub(crate) moved: bool,
    /// Bytes read in this turn.
    pub(crate) gulp: u64,
    /// Reads in a row that filled a buffer or brought as much as a large one holds, and went through no pipe.
    pub(crate) large_copies: usize,
    /// Something was said of the source after which its bytes need not go through a pipe: an end, an error, a mark.
    pub(crate) unspliced: bool,
}

/// How far a session is that has nothing more to relay, as the kernel knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    /// When a byte last moved, an end was told, or one was acknowledged.
    pub(crate) done: Time,
    /// Streams that are known to have ended.
    pub(crate) ends: usize,
    /// When that was seen to have changed, until the relay must have noticed.
    pub(crate) moved: Option<Time>,
    /// When it must have noticed.
    pub(crate) noticed: Time,
    /// Since when nothing is owed.
    pub(crate) paid: Option<Time>,
}

/// One accepted client.
#[derive(Debug)]
pub(crate) struct Session {
    /// Its place in the plan.
    pub(crate) plan: usize,
    pub(crate) client: ConnId,
    /// The connection under way, or the one that stands.
    pub(crate) upstream: Option<ConnId>,
    pub(crate) began: Time,
    pub(crate) connected: Option<Time>,
    pub(crate) flows: [Flow; 2],
    pub(crate) tokens: [Option<Token>; 2],
    /// It is known that this peer has finished speaking.
    pub(crate) saw_fin: [bool; 2],
    /// EPIPE was told, and it may have been a reset.
    pub(crate) in_doubt: [bool; 2],
    /// The last write found no room, and nothing has said since that there is some.
    pub(crate) blocked: [bool; 2],
    /// The first error that a call on this side told.
    pub(crate) told: [Option<Errno>; 2],
    pub(crate) first_told: Option<(Peer, Errno)>,
    /// What the first error was taken for when a timeout may have struck; since then a doubt about it was settled.
    pub(crate) taken_for: Option<(Peer, Errno)>,
    pub(crate) told_at: Option<Time>,
    /// The turn in which one was told last.
    pub(crate) told_turn: u64,
    pub(crate) first_fin: Option<Peer>,
    /// When bytes were last read for the other side or written, a FIN heard or passed on, an error told.
    pub(crate) last_moved: Time,
    /// When bytes or a FIN were last passed on.
    pub(crate) passed_on: Time,
    /// When bytes were last read or written.
    pub(crate) last_io: Time,
    /// When an error after which nothing can be relayed was first told.
    pub(crate) trouble: Option<Time>,
    /// What came of it since.
    pub(crate) ending: Option<Ending>,
    /// A timeout of inactivity may have struck.
    pub(crate) overdue: bool,
    /// Nothing had moved for that long when this turn began, and nothing could.
    pub(crate) due: bool,
    /// It could move at the beginning of this turn.
    pub(crate) could_move: bool,
    /// Why attempts to connect failed.
    pub(crate) failures: Vec<&'static str>,
    /// The address it was last connected to or tried. There are several if connect failed at once and several sessions
    /// may have called it: it does not say for whom.
    pub(crate) tried: Vec<SocketAddr>,
    /// Connect may have failed at once for it, and for another reason than a shortage.
    pub(crate) failed_at_once: bool,
    pub(crate) refused_at_once: bool,
    /// Why its last attempt failed, in the same way.
    pub(crate) last_failure: Vec<&'static str>,
    /// When the first connection to its upstream was begun, if it is still the first.
    pub(crate) first_dial: Option<Time>,
    pub(crate) dials: usize,
    /// Until when it may stay without an answer.
    pub(crate) share: Time,
    /// When the last attempt failed.
    pub(crate) failed_at: Option<Time>,
    pub(crate) failed: Option<ConnId>,
    /// Was it half closed when a timeout may have struck?
    pub(crate) struck_half_closed: bool,
    /// Had an error been told by then?
    pub(crate) struck_told: bool,
    /// Its upstream is kept alive.
    pub(crate) kept_alive: bool,
    /// Its client could not be watched.
    pub(crate) unwatched: bool,
    /// Both streams are gone since then.
    pub(crate) ended: Option<Time>,
    /// It was reset when the relay had been asked to stop, and would wait no longer.
    pub(crate) ended_late: bool,
    pub(crate) said_goodbye: [bool; 2],
    pub(crate) records: usize,
    pub(crate) cause: Option<String>,
}

impl Session {
    pub(crate) fn flow(&mut self, source: Peer) -> &mut Flow {
        &mut self.flows[source as usize]
    }

    /// Has one of the two finished speaking? EPIPE says so before the FIN is read.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.first_fin.is_some() || self.first_told.is_some()
    }

    /// This connection did not come about.
    pub(crate) fn attempt_failed(&mut self, conn: ConnId, why: &'static str, now: Time) {
        (self.failed_at, self.failed) = (Some(now), Some(conn));
        self.failures.push(why);
        self.last_failure = vec![why];
    }

    pub(crate) fn conn(&self, peer: Peer) -> Option<ConnId> {
        match peer {
            Peer::Client => Some(self.client),
            Peer::Upstream => self.upstream,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shadow {
    pub(crate) violations: Vec<String>,
    pub(crate) sessions: Vec<Session>,
    /// Those that have not ended.
    pub(crate) live: Vec<usize>,
    owners: Vec<Option<(usize, Peer)>>,
    slots: Vec<Option<usize>>,
    pub(crate) config: Config,
    /// The most sessions at a time.
    limit: usize,
    pub(crate) now: Time,
    pub(crate) asleep: bool,
    /// When requests to stop were delivered.
    pub(crate) stops: Vec<Time>,
    /// Clients that waited in the queue when the first was delivered.
    pub(crate) came_before: Vec<ConnId>,
    /// Turn in which the first came.
    pub(crate) stop_turn: Option<u64>,
    pub(crate) turn: u64,
    pub(crate) progress: bool,
    /// Turns in a row that did nothing and did not sleep.
    pub(crate) idle_turns: usize,
    /// Accept was told to leave it: from when on, and how long the pause is without its jitter.
    pub(crate) shortage: Option<(Time, Duration)>,
    /// Pauses since the last client, and clients lost since then.
    pauses: u32,
    lost: u32,
    /// The address of the last connect, and that of the next, if the last failed at once.
    pub(crate) dialling: Option<SocketAddr>,
    dial_due: Option<SocketAddr>,
    /// Connections that the network ended, at the relay's end or at both.
    pub(crate) cut_off: Vec<ConnId>,
    /// The loop ended with an error, as it should.
    pub(crate) fatal: bool,
    pub(crate) ended_this_turn: usize,
    /// Whose events this turn brought; none when something else may make a session run too.
    pub(crate) called: Option<Vec<usize>>,
    /// An alarm may go off in this turn.
    pub(crate) alarm: bool,
    /// Flows on the backlog after the last turn, and how many of them may be of sessions that have ended.
    pub(crate) backlog: usize,
    pub(crate) stale_backlog: usize,
    /// The last line about a shortage said that it began.
    pub(crate) short: bool,
    /// There were once as many sessions as there may be, and a line said so.
    pub(crate) full: bool,
    pub(crate) full_told: bool,
    /// Upstreams that the kernel was told to look after in this turn.
    pub(crate) kept_alive: usize,
    /// The last push sent less than there was, to this connection.
    pub(crate) short_splice_out: Option<ConnId>,
    /// A pipe was asked for in this turn.
    pub(crate) pipe_asked: bool,
    /// There was none, and no session has ended since.
    pub(crate) pipe_failed: bool,
    /// Turns in which a flow could have used a pipe, since one was last asked for.
    pub(crate) pipe_missed: usize,
    /// A descriptor came free, and nobody has dialled since.
    pub(crate) freed: bool,
    /// Reads and writes of this turn that brought nothing.
    pub(crate) vain_calls: usize,
    /// Calls of accept in this turn.
    pub(crate) accepts: usize,
}

impl Shadow {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            violations: Vec::new(),
            sessions: Vec::new(),
            live: Vec::new(),
            owners: Vec::new(),
            slots: Vec::new(),
            config: plan.config.clone(),
            limit: plan.limit,
            now: Time::START,
            asleep: false,
            stops: Vec::new(),
            came_before: Vec::new(),
            stop_turn: None,
            turn: 0,
            progress: false,
            idle_turns: 0,
            shortage: None,
            pauses: 0,
            lost: 0,
            dialling: None,
            dial_due: None,
            cut_off: Vec::new(),
            fatal: false,
            ended_this_turn: 0,
            called: None,
            alarm: false,
            backlog: 0,
            stale_backlog: 0,
            short: false,
            full: false,
            full_told: false,
            kept_alive: 0,
            short_splice_out: None,
            pipe_asked: false,
            pipe_failed: false,
            pipe_missed: 0,
            freed: false,
            vain_calls: 0,
            accepts: 0,
        }
    }

    pub(crate) fn violation(&mut self, what: String) {
        if self.violations.len() < 8 {
            self.violations.push(what);
        }
    }

    /// Whose stream this is.
    pub(crate) fn owner(&self, conn: ConnId) -> Option<(usize, Peer)> {
        self.owners.get(conn).copied().flatten()
    }

    fn own(&mut self, conn: ConnId, session: usize, peer: Peer) {
        if self.owners.len() <= conn {
            self.owners.resize(conn + 1, None);
        }
        self.owners[conn] = Some((session, peer));
    }

    /// A request to stop is delivered, while these clients wait to be accepted.
    pub(crate) fn stopped(&mut self, now: Time, queue: &VecDeque<ConnId>) {
        if self.stops.is_empty() {
            self.came_before.extend(queue);
        }
        self.stops.push(now);
        self.stop_turn.get_or_insert(self.turn);
    }

    /// May sessions be reset now because the relay is to stop?
    pub(crate) fn is_given_up(&self, now: Time) -> bool {
        let deadline = self.stops.first().zip(self.config.drain_timeout).map(|(at, wait)| *at + wait);
        self.fatal || self.stops.len() > 1 || deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Has nothing been passed on for so long that a timeout may strike?
    pub(crate) fn is_inactive(&self, it: &Session) -> bool {
        let half_close = self.config.routes[0].half_close_timeout.filter(|_| it.is_half_closed());
        let wait = self.config.routes[0].idle_timeout.into_iter().chain(half_close).min();
        it.connected.is_some() && wait.is_some_and(|wait| self.now >= it.last_moved + wait)
    }

    // ---- events ----

    /// An event is delivered. If it tells of a FIN, what comes before that is whole, whatever the connection dies of.
    pub(crate) fn saw(&mut self, event: Ready) {
        let (token, hints, peer) = (event.token, event.hints, event.token.peer() as usize);
        let slot = self.slots.get(token.key()).copied().flatten();
        let Some(session) = slot.filter(|session| self.sessions[*session].tokens[peer] == Some(token)) else {
            return;
        };
        if let Some(called) = &mut self.called {
            called.push(session);
        }
        let it = &mut self.sessions[session];
        it.flows[peer].unspliced |= hints.has(Hints::READ_TO_EAGAIN | Hints::FIN | Hints::ERROR);
        it.saw_fin[peer] |= hints.has(Hints::FIN) && !hints.has(Hints::ERROR) && it.told[peer].is_none();
        it.blocked[peer] &= !hints.has(Hints::WRITABLE | Hints::READ_TO_EAGAIN | Hints::FIN | Hints::ERROR);
    }

    // ---- calls ----

    pub(crate) fn accepted(&mut self, result: Result<ConnId, Errno>) {
        if self.stop_turn.is_some_and(|turn| self.turn > turn) {
            self.violation("accept was called after the drain had begun".to_owned());
        }
        if let Some((at, pause)) = self.shortage
            && self.now < at + pause.mul_f64(1.0 - PAUSE_JITTER)
        {
            self.violation(format!("accept is asked again {:?} into a pause of {pause:?}", self.now.since(at)));
        }
        self.accepts += 1;
        if self.accepts > ACCEPTS_PER_TURN && self.stop_turn.is_none() {
            self.violation(format!("accept is called {} times in one turn", self.accepts));
        }
        // Who waits for a descriptor goes first.
        if result.is_ok() && self.config.routes[0].to.len() == 1 && self.config.routes[0].connect_attempts == 1 {
            let timeout = self.config.routes[0].connect_timeout;
            let waits = self.live.iter().copied().find(|live| {
                let it = &self.sessions[*live];
                it.connected.is_none()
                    && it.upstream.is_none()
                    && it.failures.is_empty()
                    && !it.refused_at_once
                    && !it.unwatched
                    && it.told == [None; 2]
                    && self.now < it.began + timeout
            });
            if let Some(session) = waits {
                self.violation(format!("a client is let in while session {session} waits for a descriptor"));
            }
        }
        match result {
            Ok(conn) => {
                (self.progress, self.shortage, self.pauses, self.lost) = (true, None, 0, 0);
                self.own(conn, self.sessions.len(), Peer::Client);
                self.live.push(self.sessions.len());
                self.full |= self.live.len() >= self.limit;
                self.sessions.push(Session {
                    plan: conn,
                    client: conn,
                    upstream: None,
                    began: self.now,
                    connected: None,
                    flows: [Flow::default(); 2],
                    tokens: [None; 2],
                    saw_fin: [false; 2],
                    in_doubt: [false; 2],
                    blocked: [false; 2],
                    told: [None; 2],
                    first_told: None,
                    taken_for: None,
                    told_at: None,
                    told_turn: 0,
                    first_fin: None,
                    last_moved: self.now,
                    last_io: self.now,
                    passed_on: self.now,
                    trouble: None,
                    ending: None,
                    overdue: false,
                    due: false,
                    could_move: false,
                    failures: Vec::new(),
                    tried: Vec::new(),
                    failed_at_once: false,
                    refused_at_once: false,
                    last_failure: Vec::new(),
                    first_dial: None,
                    dials: 0,
                    share: self.now,
                    failed_at: None,
                    failed: None,
                    struck_half_closed: false,
                    struck_told: false,
                    kept_alive: false,
                    unwatched: false,
                    ended: None,
                    ended_late: false,
                    said_goodbye: [false; 2],
                    records: 0,
                    cause: None,
                });
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A client of its own is lost, and the next may be there. Too many in a row mean something else.
            Err(Errno::CONNABORTED | Errno::PROTO | Errno::PERM | Errno::NETDOWN | Errno::TIMEDOUT)
                if self.lost + 1 < LOST_MAX =>
            {
                (self.shortage, self.lost) = (None, self.lost + 1);
            }
            Err(_) => {
                let pause = PAUSE_LEAST * 2_u32.saturating_pow(self.pauses);
                self.shortage = Some((self.now, pause.min(PAUSE_MOST)));
                (self.pauses, self.lost) = (self.pauses.saturating_add(1), 0);
            }
        }
    }

    pub(crate) fn cut_off(&mut self, conn: ConnId) {
        self.cut_off.push(conn);
    }

    /// The next address is tried, for one of these sessions. Of one alone it is known what it tried last.
    fn diallers(&self) -> Vec<usize> {
        let may_dial = |live: &usize| {
            let it = &self.sessions[*live];
            it.connected.is_none() && it.upstream.is_none() && !it.unwatched && it.told == [None; 2]
        };
        self.live.iter().copied().filter(may_dial).collect()
    }

    /// May a session wait for a descriptor?
    pub(crate) fn waits_for_descriptor(&self) -> bool {
        self.diallers().iter().any(|session| self.sessions[*session].failed_at_once)
    }

    /// Connect failed at once, or the new connection could not be watched.
    fn dial_failed(&mut self, error: Errno) {
        let word = connect_word(error);
        let refused = !tproxy::net::errno::is_shortage(&error.into());
        let diallers = self.diallers();
        for session in &diallers {
            let it = &mut self.sessions[*session];
            if diallers.len() == 1 {
                it.tried.clear();
                it.last_failure.clear();
            }
            it.tried.extend(self.dialling);
            it.last_failure.push(word);
            it.failed_at_once = true;
            it.refused_at_once |= refused;
        }
    }

    pub(crate) fn dialled(&mut self, result: Result<ConnId, Errno>) {
        self.freed = false;
        self.progress |= result.is_ok();
        if let Some(due) = self.dial_due.take()
            && self.dialling != Some(due)
        {
            self.violation(format!("{:?} is dialled, and {due} is next", self.dialling));
        }
        if let Err(error) = result {
            self.dial_failed(error);
            if !tproxy::net::errno::is_shortage(&error.into()) {
                let addresses = self.config.routes[0].to.iter().map(inet);
                self.dial_due = addresses.skip_while(|one| Some(*one) != self.dialling).nth(1);
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
                if result.is_ok() {
                    let now = self.now;
                    self.own(conn, session, Peer::Upstream);
                    // Each address in its turn, as long as none failed at once.
                    let due =
                        inet(&self.config.routes[0].to[self.sessions[session].dials % self.config.routes[0].to.len()]);
                    if !self.sessions[session].failed_at_once && self.dialling != Some(due) {
                        self.violation(format!("session {session} dials {:?}, and {due} is next", self.dialling));
                    }
                    let it = &mut self.sessions[session];
                    let (addresses, place) =
                        (self.config.routes[0].to.len(), it.dials % self.config.routes[0].to.len());
                    let early = it.failed_at.filter(|_| place == 0 && !it.failed_at_once).filter(|at| {
                        let round = u32::try_from(it.dials / addresses).unwrap() - 1;
                        now < *at + Duration::from_millis(50) * 2_u32.pow(round)
                    });
                    let deadline = it.began + self.config.routes[0].connect_timeout;
                    let left = u32::try_from(addresses - place).unwrap();
                    it.share = now + deadline.since(now) / left;
                    it.tried = self.dialling.into_iter().collect();
                    it.upstream = Some(conn);
                    it.dials += 1;
                    let (dials, attempts) = (it.dials, self.config.routes[0].connect_attempts as usize);
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

    pub(crate) fn piped(&mut self, result: Result<(), Errno>) {
        (self.pipe_asked, self.pipe_failed, self.pipe_missed) = (true, result.is_err(), 0);
    }

    /// Everything that came from this peer was read. If it was in doubt how that ended, it is known now: also when
    /// nobody is left to hear what it said, as after an error of the other side or a timeout.
    pub(crate) fn settle_doubt(&mut self, session: usize, peer: Peer, heard: bool) {
        let now = self.now;
        let it = &mut self.sessions[session];
        if !std::mem::take(&mut it.in_doubt[peer as usize]) || heard {
            return;
        }
        it.told[peer as usize] = Some(Errno::CONNRESET);
        if let Some((_, error)) = it.first_told.as_mut().filter(|(first, _)| *first == peer) {
            it.taken_for = it.overdue.then_some((peer, *error));
            *error = Errno::CONNRESET;
        }
        it.trouble.get_or_insert(now);
    }

    /// A call told an error of this connection.
    pub(crate) fn told(&mut self, conn: ConnId, error: Errno) {
        let now = self.now;
        let Some((session, peer)) = self.owner(conn) else {
            return self.violation(format!("an error of connection {conn} was told to nobody"));
        };
        self.progress = true;
        let turn = self.turn;
        let it = &mut self.sessions[session];
        let saw_fin = it.saw_fin[peer as usize];
        // Behind a FIN, a reset is what EPIPE says: the peer has hung up, and its stream is whole.
        let error = if saw_fin && fault_word(peer, error).ends_with("reset") { Errno::PIPE } else { error };
        it.told_turn = turn;
        // It is news only to a flow that still had something for this side, and only once.
        if it.told[peer as usize].is_none() && !it.flow(peer.other()).finished {
            it.last_moved = now;
        }
        it.told[peer as usize].get_or_insert(error);
        it.first_told.get_or_insert((peer, error));
        it.told_at.get_or_insert(now);
        if error != Errno::PIPE && !saw_fin {
            it.trouble.get_or_insert(now);
        }
    }
}

/// What the record says of an error of connect.
pub(crate) fn connect_word(error: Errno) -> &'static str {
    match error {
        Errno::CONNREFUSED => "refused",
        Errno::TIMEDOUT => "connect-timeout",
        Errno::ADDRNOTAVAIL
        | Errno::AGAIN
        | Errno::MFILE
        | Errno::NFILE
        | Errno::NOBUFS
        | Errno::NOMEM
        | Errno::NOSPC => "no-resources",
        _ => "unreachable",
    }
}

/// What the record says of an error of a connection that stood.
pub(crate) fn fault_word(peer: Peer, error: Errno) -> String {
    let word = match error {
        Errno::PIPE => "closed",
        Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH => "timeout",
        Errno::NOMEM | Errno::NOBUFS => return "no-resources".to_owned(),
        _ => "reset",
    };
    format!("{}-{word}", if peer == Peer::Client { "client" } else { "upstream" })
}
