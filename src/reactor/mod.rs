//! The loop: one thread, one event queue, one table of sessions.
//!
//! ```text
//!   ┌─► wait     sleep until an event or the nearest alarm; not at all while there is work
//!   │   mark     an event only leaves a note with its session and puts it on `ready`
//!   │   work     accept; a first slice for every session on `ready`; one slice for one flow of `backlog`
//!   │   expire   an alarm is a hint like any event; only if nothing moved is the deadline taken
//!   └── reap     the only place that ends a session and frees its slot
//! ```
//! New small work never waits behind a round of bulk, and bulk always moves: `ready` is served whole, then exactly one
//! flow that had more to do than its first slice.
//!
//! This is the only caller of the seam ([`crate::net`]); what bytes do is decided below, in [`crate::relay`].

mod accept;
mod alarms;
mod backoff;
mod connect;
mod ending;
mod gate;
mod record;
mod session;

use std::collections::VecDeque;

use fastrand::Rng;
use log::{debug, info, trace};
use slab::Slab;

use crate::net::{Net, Peer, Ready, Stream, Time, Token};
use crate::relay::flow;
use crate::relay::pair::Fate;
use crate::relay::pool::{Pool, Splicing};
use crate::relay::side::End;
use crate::{Config, Error, Splice};
use alarms::{Alarm, Alarms};
use ending::Next;
use gate::Gate;
pub use record::{Cause, Record, Totals};
use session::{Phase, Session};

/// The most a flow of the backlog may read before new work is looked for: or one buffer, if that is more; or, if it
/// splices, one pipe of a few times as much.
const SLICE: usize = 256 << 10;

/// The same when another flow waits: shorter turns keep more peers busy.
const SHARED_SLICE: usize = 128 << 10;

/// Sessions that the table has room for at once, if so many may be: it need not be moved while it grows, and what
/// nobody has last_progress is no memory yet.
const SESSIONS_RESERVED: usize = 1 << 16;

/// The log's word for all of this.
const LOG: &str = "tproxy";

/// A relay on any kernel.
#[derive(Debug)]
pub struct Reactor<N: Net> {
    net: N,
    /// None once draining began.
    listener: Option<N::Listener>,
    config: Config,
    /// The most sessions at a time.
    limit: usize,
    /// There was none to be had, and nothing has happened since that would change that.
    no_pipes: bool,
    sessions: Slab<Session<N::Stream>>,
    pool: Pool<<N::Stream as Stream>::Pipe>,
    events: Vec<Ready>,
    /// Sessions that an event or an alarm pointed at, by their client's token. Each is in it at most once.
    ready: VecDeque<Token>,
    /// Flows that had more to do than their slice, by their source's token. Each is in it at most once.
    backlog: VecDeque<Token>,
    /// Sessions to be reaped at the end of this turn.
    ended: Vec<u32>,
    /// Sessions that wait for a descriptor. While there is one, nobody else is let in.
    waits_for_descriptor: Vec<Token>,
    alarms: Alarms,
    gate: Gate,
    warned_of_limit: bool,
    /// Some upstream's connection is not kept alive yet, and an alarm is set for that.
    keepalive_pending: bool,
    /// Given to the socket before this one.
    serial: u32,
    rng: Rng,
    now: Time,
    totals: Totals,
}

/// What made a session run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// An event of one of its sides, or what is left of one.
    Event,
    /// Its alarm: both sides try everything, and if nothing comes of it, its time is up.
    Alarm,
}

/// What a reactor may use of what the process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time, two descriptors each; no more than [`Token::KEY_MAX`].
    pub sessions: usize,
    /// Pipes at a time, two descriptors each.
    pub pipes: usize,
}

/// How much of everything there is, for tests and the curious.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Sessions in the table.
    pub sessions: usize,
    /// Buffers and pipes that flows hold.
    pub leases: usize,
    /// Pipes that are open.
    pub pipes: usize,
    /// Buffers that wait for a flow.
    pub spare_leases: usize,
    /// Entries in the table of alarms.
    pub alarms: usize,
    /// Sessions that will run in the next turn.
    pub ready: usize,
    /// Flows that wait for another slice.
    pub backlog: usize,
}

impl<N: Net> Reactor<N> {
    /// A reactor that will serve `listener` within these limits. `config` has been checked.
    pub fn new(net: N, listener: N::Listener, config: Config, limits: Limits, rng: Rng) -> Self {
        let splicing = match config.splice {
            Splice::Auto => Splicing { after: flow::LARGE_READS_FOR_BULK, pipes_max: limits.pipes },
            Splice::On => Splicing { after: 0, pipes_max: limits.pipes },
            Splice::Off => Splicing::OFF,
        };
        Self {
            net,
            listener: Some(listener),
            limit: limits.sessions.min(Token::KEY_MAX as usize),
            no_pipes: false,
            pool: Pool::new(config.buffer_size, splicing),
            config,
            sessions: Slab::with_capacity(limits.sessions.min(SESSIONS_RESERVED)),
            events: Vec::new(),
            ready: VecDeque::new(),
            backlog: VecDeque::new(),
            ended: Vec::new(),
            waits_for_descriptor: Vec::new(),
            alarms: Alarms::default(),
            gate: Gate::default(),
            warned_of_limit: false,
            keepalive_pending: false,
            serial: 0,
            rng,
            now: Time::START,
            totals: Totals::default(),
        }
    }

    /// Serves until a stop request has been carried out.
    ///
    /// # Errors
    /// When the event queue or the listener fails for good. Sessions are reset then.
    pub fn run(mut self) -> Result<Totals, Error> {
        while self.turn()? {}
        Ok(self.totals())
    }

    /// One pass of the loop. Is there to be another?
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self) -> Result<bool, Error> {
        let stop = self.wait()?;
        self.mark();
        if stop {
            self.stop()?;
        }
        self.work()?;
        self.expire();
        self.reap();
        Ok(self.listener.is_some() || !self.sessions.is_empty())
    }

    /// What was done so far.
    pub const fn totals(&self) -> Totals {
        Totals { spliced: self.pool.spliced(), ..self.totals }
    }

    /// How much of everything there is.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            sessions: self.sessions.len(),
            leases: self.pool.lent(),
            pipes: self.pool.pipes(),
            spare_leases: self.pool.free(),
            alarms: self.alarms.len(),
            ready: self.ready.len(),
            backlog: self.backlog.len(),
        }
    }

    /// Sleeps unless there is work. Was a stop asked for?
    fn wait(&mut self) -> Result<bool, Error> {
        let idle = self.ready.is_empty() && self.backlog.is_empty() && !self.may_accept();
        let until = if idle { self.alarms.next() } else { Some(Time::START) };
        self.events.clear();
        let turn = self.net.wait(until, &mut self.events).map_err(Error::Wait)?;
        self.now = turn.now;
        let (events, ready, backlog) = (self.events.len(), self.ready.len(), self.backlog.len());
        trace!(target: LOG, "turn: {events} events, {ready} ready, {backlog} on the backlog");
        Ok(turn.stop)
    }

    /// Leaves a note with whoever an event is for.
    fn mark(&mut self) {
        let events = std::mem::take(&mut self.events);
        for Ready { token, hints } in &events {
            if *token == Token::LISTENER {
                self.gate.set_waiting();
            } else if let Some(key) = self.owner(*token) {
                self.sessions[key as usize].mark(token.peer(), *hints);
                self.enqueue(key);
            }
        }
        self.events = events;
    }

    fn work(&mut self) -> Result<(), Error> {
        // The sessions first: one that waits for a descriptor has been waiting longer than any new client.
        for _ in 0..self.ready.len() {
            if let Some(token) = self.ready.pop_front()
                && let Some(key) = self.owner(token)
            {
                self.sessions[key as usize].ready = false;
                self.run_session(key, Why::Event);
            }
        }
        self.accept(accept::PER_TURN)?;
        while let Some(token) = self.backlog.pop_front() {
            // Whose session has ended does not use up the slice.
            if let Some(key) = self.owner(token) {
                self.sessions[key as usize].queued[token.peer() as usize] = false;
                let slice = if self.backlog.is_empty() { SLICE } else { SHARED_SLICE };
                self.run_flows(key, &[token.peer()], Some(slice.max(self.pool.size())), Why::Event);
                break;
            }
        }
        self.open_pipe();
        Ok(())
    }

    /// If a flow would have liked one, opens a pipe for the next that does. Without, bytes are copied: no reason to
    /// make a noise.
    fn open_pipe(&mut self) {
        if !self.sessions.is_empty() && self.pool.take_pipe_request() && !self.no_pipes {
            match self.net.pipe() {
                Ok(pipe) => self.pool.add_pipe(pipe),
                Err(error) => {
                    debug!(target: LOG, "no pipe to splice through: {error}");
                    self.no_pipes = true;
                }
            }
        }
    }

    /// I/O comes before timers, however many sockets are ready: an alarm only makes its session try everything.
    fn expire(&mut self) {
        while let Some(alarm) = self.alarms.due(self.now) {
            match alarm {
                Alarm::Gate => self.gate.reopen(),
                Alarm::Drain => self.reset_all(),
                Alarm::Keepalive => self.keep_alive(),
                Alarm::Session(key) => {
                    let session = &mut self.sessions[key as usize];
                    session.alarm = Time::NEVER;
                    session.assume_ready();
                    self.run_session(key, Why::Alarm);
                }
            }
        }
    }

    /// Ends what is ended and frees its slot; nobody else does, so no key is used again within a turn that may still
    /// name it.
    fn reap(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let mut ended = std::mem::take(&mut self.ended);
        for key in ended.drain(..) {
            let session = self.sessions.remove(key as usize);
            self.alarms.cancel(session.alarm, Alarm::Session(key));
            let record = session.end(&self.config.to, self.now, &mut self.pool);
            self.totals.add(&record);
            info!(target: LOG, "{record}");
        }
        self.ended = ended;
        // Descriptors came free. First for those who have been promised one.
        for token in std::mem::take(&mut self.waits_for_descriptor) {
            if let Some(key) = self.owner(token) {
                // Until it has asked, it holds the door: also for a drain that begins with the next turn.
                self.waits_for_descriptor.push(token);
                self.enqueue(key);
            }
        }
        self.reopen_gate();
        self.no_pipes = false;
        if self.sessions.is_empty() {
            self.pool.close_spare_pipes();
        }
    }

    /// A request to stop. The first begins the drain, a later one does not wait.
    fn stop(&mut self) -> Result<(), Error> {
        if self.listener.is_none() {
            self.reset_all();
            return Ok(());
        }
        // Who connected before the request is served; who comes after it is refused at once.
        self.gate.set_waiting();
        self.accept(accept::DRAIN_ACCEPTS_MAX)?;
        self.listener = None;
        self.reopen_gate();
        let left = self.sessions.len() - self.ended.len();
        match self.config.drain_timeout {
            Some(timeout) => {
                info!(target: LOG, "draining {left} sessions, up to {timeout:?}");
                self.alarms.set(self.now + timeout, Alarm::Drain);
            }
            None => info!(target: LOG, "draining {left} sessions, as long as it takes"),
        }
        Ok(())
    }

    /// Resets whoever is left; nothing is flushed.
    fn reset_all(&mut self) {
        for (key, session) in &mut self.sessions {
            if !session.ended {
                session.set_cause(Cause::Drain);
                session.cut_short = true;
                session.ended = true;
                self.ended.push(slot(key));
            }
        }
    }

    /// An event or an alarm pointed at this session: it does what it can.
    fn run_session(&mut self, key: u32, why: Why) {
        if self.sessions[key as usize].ended {
            return;
        }
        if matches!(self.sessions[key as usize].phase, Phase::Connecting(_)) {
            self.connecting(key);
        }
        self.run_flows(key, &Peer::BOTH, None, why);
    }

    /// Runs the flows from these peers that are not on the backlog, and sees what that leads to. Without a slice given,
    /// each gets its first: one buffer, or nothing if it is bulk and nobody's time is up, for it will need more anyway.
    fn run_flows(&mut self, key: u32, sources: &[Peer], slice: Option<usize>, why: Why) {
        let session = &mut self.sessions[key as usize];
        if session.ended {
            return;
        }
        let tokens = Peer::BOTH.map(|peer| session.token(key, peer));
        let (Phase::Relaying(pair) | Phase::Ending(pair, _)) = &mut session.phase else {
            return;
        };
        let faults = pair.faults();
        // What is on the backlog is not idle, it only waits for its turn.
        let queued = session.queued;
        let mut progress = Peer::BOTH.into_iter().any(|peer| queued[peer as usize] && pair.is_progress(peer));
        for &source in sources {
            if !queued[source as usize] {
                let waits = pair.flow(source).is_bulk() && why == Why::Event;
                let slice = slice.unwrap_or_else(|| if waits { 0 } else { self.pool.size() });
                let pass = pair.run(source, slice, &mut self.pool);
                progress |= pass.progress;
                if pass.slice_used_up {
                    session.queued[source as usize] = true;
                    self.backlog.push_back(tokens[source as usize]);
                }
            }
        }
        let news = pair.faults() > faults;
        if progress {
            session.last_progress = self.now;
        }
        if news {
            // Perhaps the flow that ran first has something to find out, and no event may come to say so.
            self.enqueue(key);
        }
        self.conclude(key, why);
    }

    /// Draws the conclusions from what the flows did, and sets the alarm for when nothing more happens.
    ///
    /// Only an alarm takes a deadline: it has made both sides try first. An event speaks for one side, and that of the
    /// other may be in the next batch.
    fn conclude(&mut self, key: u32, why: Why) {
        let Config { idle_timeout, half_close_timeout, reset_grace, .. } = self.config;
        let draining = self.listener.is_none();
        let session = &mut self.sessions[key as usize];
        let inactive = session.inactive_at(idle_timeout, half_close_timeout);
        if let Phase::Relaying(pair) = &mut session.phase {
            match (pair.fate(), inactive) {
                (Fate::Relaying, Some((at, cause))) if self.now >= at && why == Why::Alarm => {
                    pair.cut(&mut self.pool);
                    session.set_cause(cause);
                    session.begin_ending(self.now);
                }
                (Fate::Relaying, Some((at, _))) => return self.arm(key, at),
                (Fate::Relaying, None) => return,
                // Outside the drain an orderly close does not wait: the kernel finishes it.
                (Fate::Done(End::Fin), _) if !draining => return self.end(key, None),
                (Fate::Done(_) | Fate::OneSideDead, _) => session.begin_ending(self.now),
            }
        }
        let Phase::Ending(pair, ending) = &mut session.phase else {
            return;
        };
        if ending.acknowledged(pair.unacked()) {
            session.last_progress = self.now;
        }
        let flushed = matches!(pair.fate(), Fate::Done(_));
        match ending.next(flushed, session.last_progress, reset_grace, self.now) {
            Next::Over => self.end(key, None),
            Next::Wait(at) if self.now >= at && why == Why::Alarm => self.end(key, None),
            Next::Wait(at) => self.arm(key, at),
        }
    }

    /// Sets the session's alarm, unless it has an earlier one: that will come back here.
    fn arm(&mut self, key: u32, at: Time) {
        let session = &mut self.sessions[key as usize];
        if at < session.alarm {
            self.alarms.cancel(session.alarm, Alarm::Session(key));
            self.alarms.set(at, Alarm::Session(key));
            session.alarm = at;
        }
    }

    /// Takes the session's alarm out: what it was for has come.
    fn disarm(&mut self, key: u32) {
        let session = &mut self.sessions[key as usize];
        self.alarms.cancel(session.alarm, Alarm::Session(key));
        session.alarm = Time::NEVER;
    }

    /// The session ends with this turn; for this cause, or for what its streams say.
    fn end(&mut self, key: u32, cause: Option<Cause>) {
        let session = &mut self.sessions[key as usize];
        if let Some(cause) = cause {
            session.set_cause(cause);
        }
        if !session.ended {
            session.ended = true;
            self.ended.push(key);
        }
    }

    /// The slot of the session that this token belongs to, if it is still there.
    fn owner(&self, token: Token) -> Option<u32> {
        let session = self.sessions.get(token.key())?;
        (session.serial(token.peer()) == token.serial()).then_some(slot(token.key()))
    }

    /// Puts the session on the ready queue, at most once.
    fn enqueue(&mut self, key: u32) {
        let session = &mut self.sessions[key as usize];
        if !session.ready {
            session.ready = true;
            self.ready.push_back(session.token(key, Peer::Client));
        }
    }

    /// A number no socket had, or not for 4 billion sockets.
    const fn next_serial(&mut self) -> u32 {
        self.serial = match self.serial.wrapping_add(1) {
            0 => 1,
            serial => serial,
        };
        self.serial
    }
}

#[expect(clippy::cast_possible_truncation, reason = "there are at most Token::KEY_MAX sessions")]
const fn slot(key: usize) -> u32 {
    key as u32
}
