//! What the relay should know, from its own calls and their results: the model it is held against.

mod attempt;
mod backlog;
mod clients;
mod dialling;
mod doors;
mod headers;
mod names;
mod opening;
mod pipes;
mod report;
mod session;
mod sources;
mod stopping;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

pub(crate) use clients::Refused;
use dialling::Endpoint;
pub(crate) use doors::{Door, Reloading, literal};
pub(crate) use headers::HEADER_TIMEOUT;
use names::Name;
pub(crate) use report::{Counted, Inside, RouteSeen};
use rustix::io::Errno;
pub(crate) use session::{End, Ending, Flow, Questions, Session, Undelivered};
pub(crate) use sources::{Sources, YOUNG};
use tproxy::net::{Hints, Owner, Peer, Ready, Time, Token};
use tproxy::{Config, Route};
pub(crate) use words::{connect_word, fault_word};

use crate::kernel::ConnId;
use crate::plan::Plan;

/// The share by which a pause of accepting may be longer or shorter.
pub(crate) const PAUSE_JITTER: f64 = 0.25;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shadow {
    pub(crate) violations: Vec<String>,
    pub(crate) sessions: Vec<Session>,
    /// Those that have not ended.
    pub(crate) live: Vec<usize>,
    owners: Vec<Option<(usize, Peer)>>,
    slots: Vec<Option<usize>>,
    plan: Rc<Plan>,
    pub(crate) config: Config,
    /// The most sessions at a time.
    pub(crate) limit: usize,
    limit_at_start: usize,
    pub(crate) now: Time,
    pub(crate) asleep: bool,
    /// When the first request to stop was delivered.
    pub(crate) asked_at: Option<Time>,
    /// When the drain began: then, or after the delay.
    pub(crate) stopped_at: Option<Time>,
    /// A signal came 300 ms after it, or later: it does not wait.
    pub(crate) impatient: bool,
    /// A request to stop without a drain was delivered: everything is given up.
    pub(crate) stop_now: bool,
    /// Another process has the listeners.
    pub(crate) handed: bool,
    /// Turn in which that was, or in which it was to stop without one.
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
    /// The last connect: for whom, and where to.
    pub(crate) dialling: Option<(Token, SocketAddr)>,
    /// What is known of each address that was dialled.
    upstreams: BTreeMap<SocketAddr, Endpoint>,
    /// The place behind the one that was chosen last, for each route.
    cursors: Vec<usize>,
    /// Where `Balance::Source` led a client while all addresses were up.
    by_source: BTreeMap<(IpAddr, Vec<SocketAddr>), SocketAddr>,
    names: BTreeMap<String, Name>,
    /// The routes that were configured before each reload that was carried out.
    listed_before: Vec<Vec<usize>>,
    /// The addresses of each route, and how often they have changed.
    lists: BTreeMap<usize, (Vec<SocketAddr>, u32)>,
    /// When the first address of each route was known, if none was before.
    known_since: BTreeMap<usize, Time>,
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
    /// Accept met a shortage in this turn.
    pub(crate) short_now: bool,
    /// The last line about a shortage said that it began.
    pub(crate) short: bool,
    /// There are as many sessions as there may be, or were, and no queue has been seen empty since.
    full: bool,
    /// When that was last over.
    full_until: Option<Time>,
    /// It began in this turn, and a line is to say so.
    pub(crate) full_news: bool,
    /// Upstreams that the kernel was told to look after in this turn.
    pub(crate) kept_alive: usize,
    /// The last push sent less than there was, to this connection.
    pub(crate) short_splice_out: Option<ConnId>,
    /// A pipe was asked for in this turn.
    pub(crate) pipe_asked: bool,
    /// There was none. Unless a session ends, it is not asked for again before then.
    pub(crate) pipe_wait: Option<Time>,
    /// How often there was none, since there was one.
    pipe_failures: u32,
    /// Turns in which a flow could have used a pipe, since one was last asked for.
    pub(crate) pipe_missed: usize,
    /// Splice gave an error that is not its connection's own.
    pub(crate) splice_failed: bool,
    /// And nothing came of it, so a line is to say so. Out of a pipe, a part may have been sent before.
    pub(crate) splice_news: bool,
    /// A line has said so.
    pub(crate) splice_told: bool,
    /// Routes of sessions that ended, and nobody has dialled since.
    pub(crate) freed: Vec<usize>,
    backlog_places: u64,
    /// The last line about source ports said that they are short.
    pub(crate) ports_short: bool,
    /// Addresses to which there was no source port once.
    pub(crate) portless_addresses: Vec<SocketAddr>,
    /// When a session may last have lacked one.
    pub(crate) port_lacked: Time,
    /// Reads and writes of this turn that brought nothing.
    pub(crate) vain_calls: usize,
    /// Sessions that made a call on a stream in this turn, and how many may have done so without an alarm.
    pub(crate) served: usize,
    pub(crate) announced: usize,
    /// Sessions on the ready queue after the last turn.
    pub(crate) ready: usize,
    /// Calls of accept in this turn.
    pub(crate) accepts: usize,
    /// Something kept, or may have kept, the relay from accepting in this turn.
    pub(crate) hindered: bool,
    /// What is known of each listener, closed ones included.
    pub(crate) doors: Vec<Door>,
    /// All routes that there ever were, and the numbers of those that are configured.
    pub(crate) routes: Vec<Route>,
    pub(crate) listed: Vec<usize>,
    /// The last reload that was delivered.
    pub(crate) reloading: Option<Reloading>,
    /// Connections between Unix sockets.
    pub(crate) unix: BTreeSet<ConnId>,
    /// The last write sent less than there was, to this Unix socket.
    pub(crate) short_write: Option<ConnId>,
    /// Clients that were not to be served.
    pub(crate) refused: Vec<Refused>,
    /// When that was last told and how many were since, and what is to be told in this turn, for each route.
    refusals_told: BTreeMap<(usize, String), (Time, u64)>,
    pub(crate) refusals_to_tell: Vec<(usize, String)>,
    /// What is counted for all routes together.
    pub(crate) counted: Counted,
    pub(crate) sources: Sources,
}

impl Shadow {
    pub(crate) fn new(plan: &Rc<Plan>) -> Self {
        Self {
            plan: Rc::clone(plan),
            unix: BTreeSet::new(),
            short_write: None,
            refused: Vec::new(),
            refusals_told: BTreeMap::new(),
            refusals_to_tell: Vec::new(),
            counted: Counted::default(),
            asked_at: None,
            violations: Vec::new(),
            sessions: Vec::new(),
            live: Vec::new(),
            owners: Vec::new(),
            slots: Vec::new(),
            config: plan.config.clone(),
            limit: plan.limit,
            limit_at_start: plan.limit,
            now: Time::START,
            asleep: false,
            stopped_at: None,
            impatient: false,
            stop_now: false,
            handed: false,
            stop_turn: None,
            turn: 0,
            progress: false,
            idle_turns: 0,
            shortage: None,
            pauses: 0,
            lost: 0,
            dialling: None,
            upstreams: BTreeMap::new(),
            cursors: vec![0; plan.config.routes.len()],
            by_source: BTreeMap::new(),
            names: BTreeMap::new(),
            listed_before: Vec::new(),
            lists: BTreeMap::new(),
            known_since: BTreeMap::new(),
            cut_off: Vec::new(),
            fatal: false,
            ended_this_turn: 0,
            called: None,
            alarm: false,
            backlog: 0,
            stale_backlog: 0,
            short_now: false,
            short: false,
            full: false,
            full_until: None,
            full_news: false,
            kept_alive: 0,
            short_splice_out: None,
            pipe_asked: false,
            pipe_wait: None,
            pipe_failures: 0,
            pipe_missed: 0,
            freed: Vec::new(),
            backlog_places: 0,
            splice_failed: false,
            splice_news: false,
            splice_told: false,
            ports_short: false,
            portless_addresses: Vec::new(),
            port_lacked: Time::START,
            vain_calls: 0,
            served: 0,
            announced: 0,
            ready: 0,
            accepts: 0,
            hindered: false,
            doors: Vec::new(),
            routes: plan.config.routes.clone(),
            listed: (0..plan.config.routes.len()).collect(),
            reloading: None,
            sources: Sources::default(),
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

    /// The settings of this session.
    pub(crate) fn route(&self, it: &Session) -> &Route {
        &self.routes[it.route]
    }

    /// Has nothing been passed on for so long that a timeout may strike?
    pub(crate) fn is_inactive(&self, it: &Session) -> bool {
        it.connected.is_some() && self.patience(it).is_some_and(|wait| self.now >= it.last_moved + wait)
    }

    /// What could move is not inactive: an alarm lets it move, or it waits for a slice. So a timeout may strike only a session
    /// with nothing to do.
    pub(crate) fn note_due(&mut self, session: usize) {
        let it = &self.sessions[session];
        let due = self.is_inactive(it) && !(it.could_move && it.told == [None; 2]);
        self.sessions[session].due = due;
    }

    /// How long nothing may be passed on.
    pub(crate) fn patience(&self, it: &Session) -> Option<Duration> {
        let half_close = self.route(it).half_close_timeout.filter(|_| it.is_half_closed());
        let drain = self.config.drain_idle_timeout.filter(|_| self.may_drain());
        self.route(it).idle_timeout.into_iter().chain(half_close).chain(drain).min()
    }

    /// Throwing away goes on for at most the half-close time in all. May that be over?
    pub(crate) fn may_have_thrown_enough(&self, it: &Session) -> bool {
        let limit = it.told_at.zip(self.route(it).half_close_timeout).map(|(at, most)| at + most);
        let throws = Peer::BOTH.iter().any(|peer| it.told[peer.other() as usize].is_some());
        throws && limit.is_some_and(|limit| self.now >= limit)
    }

    // ---- events ----

    /// An event is delivered. If it tells of a FIN, what comes before that is whole, whatever the connection dies of.
    pub(crate) fn saw(&mut self, event: Ready) {
        if let Owner::Listener(_) = event.token.owner() {
            let door = self.doors.iter_mut().find(|door| door.open && door.token == event.token);
            return door.into_iter().for_each(|door| door.announced = true);
        }
        let (token, hints, peer) = (event.token, event.hints, event.token.peer() as usize);
        let slot = self.slots.get(token.key()).copied().flatten();
        let Some(session) = slot.filter(|session| self.sessions[*session].tokens[peer] == Some(token)) else {
            return;
        };
        if let Some(called) = &mut self.called {
            called.push(session);
        }
        let it = &mut self.sessions[session];
        it.called_at = self.now;
        if let Some(questions) = &mut it.questions {
            questions.disturbed(self.now);
        }
        it.flows[peer].unspliced |= hints.has(Hints::READ_TO_EAGAIN | Hints::FIN | Hints::ERROR);
        let conn = it.conn(event.token.peer());
        if hints.has(Hints::HANG_UP) && conn.is_some_and(|conn| self.unix.contains(&conn)) {
            // A close shuts both directions down before it sets the error: this proves nothing, but time runs.
            if !std::mem::replace(&mut it.hung_up[peer], true) && !it.saw_fin[peer] {
                it.last_moved = self.now;
            }
        } else if hints.has(Hints::FIN) && !hints.has(Hints::ERROR) && it.told[peer].is_none() && !it.saw_fin[peer] {
            // The half-close time starts now.
            (it.saw_fin[peer], it.last_moved) = (true, self.now);
        }
        it.known_reset |= it.came_reset && peer == Peer::Client as usize && hints.has(Hints::ERROR) && it.dials == 0;
        it.blocked[peer] &= !hints.has(Hints::WRITABLE | Hints::READ_TO_EAGAIN | Hints::FIN | Hints::ERROR);
    }

    // ---- calls ----

    pub(crate) fn cut_off(&mut self, conn: ConnId) {
        self.cut_off.push(conn);
    }

    /// Everything that came from this peer was read. If it was in doubt how that ended, it is known now: also when
    /// nobody is left to hear what it said, as after an error of the other side or a timeout.
    pub(crate) fn settle_doubt(&mut self, session: usize, peer: Peer, heard: bool) {
        let now = self.now;
        let may_be_cut = self.may_have_thrown_enough(&self.sessions[session]);
        let it = &mut self.sessions[session];
        // Any other error than EPIPE says itself that the stream was cut.
        let doubt = std::mem::take(&mut it.in_doubt[peer as usize]) && it.told[peer as usize] == Some(Errno::PIPE);
        if !doubt || heard {
            return;
        }
        it.told[peer as usize] = Some(Errno::CONNRESET);
        if let Some((_, error)) = it.first_told.as_mut().filter(|(first, _)| *first == peer) {
            it.taken_for = (it.overdue || it.aged || may_be_cut).then_some((peer, *error));
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
        let is_unix = self.unix.contains(&conn);
        let may_be_cut = self.may_have_thrown_enough(&self.sessions[session]) || self.is_given_up(now);
        let it = &mut self.sessions[session];
        let saw_fin = it.saw_fin[peer as usize];
        // Behind a FIN, a reset is what EPIPE says: the peer has hung up, and its stream is whole.
        let error = if saw_fin && fault_word(peer, error).ends_with("reset") { Errno::PIPE } else { error };
        it.told_turn = turn;
        // It is news only to a flow that still had something for this side, and only once.
        if it.told[peer as usize].is_none() && !it.flow(peer.other()).finished {
            it.last_moved = now;
        }
        // On AF_UNIX an EPIPE is only a doubt (K20).
        if is_unix && it.told[peer as usize] == Some(Errno::PIPE) && error != Errno::PIPE {
            it.told[peer as usize] = Some(error);
            if let Some((_, first)) = it.first_told.as_mut().filter(|(first, _)| *first == peer) {
                it.taken_for = (it.overdue || it.due || it.aged || may_be_cut).then_some((peer, *first));
                *first = error;
            }
        }
        it.told[peer as usize].get_or_insert(error);
        it.first_told.get_or_insert((peer, error));
        it.told_at.get_or_insert(now);
        if error != Errno::PIPE && !saw_fin {
            it.trouble.get_or_insert(now);
        }
    }
}
