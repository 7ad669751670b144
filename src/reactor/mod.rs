//! The loop: one thread, one event queue, one table of sessions.
//!
//! ```text
//!   ┌─► wait     sleep until an event or the nearest alarm; not at all while there is work
//!   │   mark     an event only sets the readiness of its session and puts it on `ready`
//!   │   work     a first slice for every session on `ready`; accept; one slice for one flow of `backlog`
//!   │   expire   an alarm is a hint like any event; only if nothing moved is the deadline taken
//!   └── reap     the only place that ends a session and frees its slot
//! ```
//! New small work never waits behind a round of bulk, and bulk always moves: `ready` is served whole, then exactly one
//! flow that had more to do than its first slice.
//!
//! | what happens | file |
//! |---|---|
//! | a client is accepted, or accept fails | `accept.rs`, `gate.rs`, `listeners.rs` |
//! | the limit of sessions is met | `admission.rs` |
//! | a client is denied, or its address has too many sessions | `refusals.rs`, `per_ip.rs` |
//! | descriptors or source ports run out, a backlog is full | `gate.rs` for accept, `waiters.rs` and `session/waiting.rs` for connect; told by `descriptors.rs`, `ports.rs` |
//! | a proxy announces its client, and the upstream is told | `session/header.rs` |
//! | the upstream is dialled, answers, or does not | `session/opening.rs`, `session/attempts.rs` |
//! | which address is next, and which is down | `upstreams/choose.rs`, `upstreams/health.rs` |
//! | a name is looked up | `lookups.rs`, `upstreams/names.rs` |
//! | bytes move, a session is idle for too long | `session/relaying.rs` |
//! | what was written is acknowledged before a reset | `session/ending.rs` |
//! | a stop request, the drain deadline | `lifecycle.rs` |
//! | the control thread or the resolver says something | `messages.rs` |
//! | routes are added, changed, removed | `reload.rs`, `routes.rs` |
//! | the address that a connection comes from | `sources.rs` |
//! | pipes and keepalive | `pipes.rs`, `keepalive.rs` |
//! | somebody looks inside, a drain lasts | `report.rs` |
//! | an upstream may be a listener of ours | `own.rs` |
//! | the log line of a session, its cause, the totals | `record.rs`, `cause.rs`, `totals.rs` |
//!
//! This is the only caller of the seam ([`crate::net`]). What bytes do is decided below, in [`crate::relay`].

mod accept;
mod admission;
mod alarms;
mod backoff;
mod cause;
mod descriptors;
mod gate;
mod gauges;
mod keepalive;
mod lifecycle;
mod listeners;
mod lookups;
mod messages;
mod own;
mod per_ip;
mod pipes;
mod ports;
mod record;
mod refusals;
mod reload;
mod report;
mod routes;
mod session;
mod sources;
mod table;
mod totals;
mod upstreams;
mod waiters;

use std::sync::Arc;

use fastrand::Rng;
use log::{Level, trace};

pub use crate::config::limits::Limits;
use crate::config::limits::reserved;
use crate::config::{Config, Splice};
use crate::error::Error;
use crate::net::{Address, Message, Net, Owner, Peer, Ready, Sleep, Stream, Time, Token, Totals};
use crate::relay::bulk::Bulk;
use crate::relay::pool::{Pool, Splicing};
use admission::Admission;
use alarms::{Alarm, Alarms};
pub use cause::Cause;
use descriptors::Descriptors;
use gate::Gate;
pub use gauges::Gauges;
use keepalive::Pending;
use lifecycle::Lifecycle;
use listeners::Listeners;
use pipes::PipeRetry;
use ports::Ports;
pub use record::Record;
use routes::Routes;
use session::{Conclusion, Trigger};
use table::Table;
use totals::Times;
use upstreams::Upstreams;
use waiters::{Waiters, Want};

/// The most a flow of the backlog may read before new work is looked for: this, or one buffer if that is more, or one
/// pipe of a few times as much.
const SLICE: usize = 256 << 10;

/// The same when another flow waits: shorter turns keep more peers busy.
const SHARED_SLICE: usize = 128 << 10;

/// Alarms of one turn, so that thousands that are due at one moment do not hold up the sessions with something to do.
const ALARMS_PER_TURN: usize = 1024;

/// A relay on any kernel.
#[derive(Debug)]
pub struct Reactor<N: Net> {
    net: N,
    routes: Routes,
    upstreams: Upstreams,
    lifecycle: Lifecycle,
    /// What all routes share, as it was at start. Its list of routes is empty.
    shared: Config,
    /// What there are descriptors for, as it was at start.
    limits: Limits,
    /// Descriptors that no session got then.
    reserved: usize,
    /// Log lines name the route they are about.
    names_routes: bool,
    listeners: Listeners<N::Listener>,
    gate: Gate,
    admission: Admission,
    table: Table<N::Stream>,
    waiters: Waiters,
    descriptors: Descriptors,
    ports: Ports,
    keepalive: Pending,
    pool: Pool<<N::Stream as Stream>::Pipe>,
    pipe_retry: PipeRetry,
    alarms: Alarms,
    events: Vec<Ready>,
    messages: Vec<Message>,
    rng: Rng,
    now: Time,
    totals: Totals,
    times: Times,
}

impl<N: Net> Reactor<N> {
    /// A reactor that listens at all routes of `config`, which has been checked, within these limits.
    ///
    /// # Errors
    /// [`Error::Listen`] when an address cannot be listened on, [`Error::Loop`] when an upstream is the relay itself.
    pub fn bind(net: N, mut config: Config, limits: Limits, rng: Rng) -> Result<Self, Error> {
        let routes = std::mem::take(&mut config.routes);
        let limits = Limits { sessions: limits.sessions.min(Token::KEY_MAX as usize), ..limits };
        let splicing = match config.splice {
            Splice::Auto => Splicing { after: Bulk::AFTER, pipes_max: limits.pipes },
            Splice::On => Splicing { after: 0, pipes_max: limits.pipes },
            Splice::Off => Splicing::OFF,
        };
        let mut reactor = Self {
            net,
            routes: Routes::default(),
            upstreams: Upstreams::default(),
            lifecycle: Lifecycle::Starting,
            limits,
            reserved: reserved(&routes),
            names_routes: config.name_routes || routes.len() > 1,
            listeners: Listeners::default(),
            gate: Gate::default(),
            admission: Admission::new(limits.sessions),
            table: Table::new(limits.sessions),
            waiters: Waiters::default(),
            descriptors: Descriptors::default(),
            ports: Ports::default(),
            keepalive: Pending::default(),
            pool: Pool::new(config.buffer_size, splicing),
            pipe_retry: PipeRetry::default(),
            alarms: Alarms::default(),
            events: Vec::new(),
            messages: Vec::new(),
            rng,
            now: Time::START,
            totals: Totals::default(),
            times: Times::default(),
            shared: config,
        };
        // Names are asked for at once: one that does not exist is told at start, and the first session does not wait.
        let plan = reactor.prepare(routes)?;
        reactor.commit(plan);
        Ok(reactor)
    }

    /// The addresses it listens on, in the order of the routes until the first reload. A drain closes one after the other.
    pub fn local_addrs(&self) -> Vec<Address> {
        self.listeners.iter().map(|listening| listening.bound.clone()).collect()
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
    /// What few turns need is kept out of it by `#[inline(never)]`: the code that every turn runs then lies close together.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self) -> Result<bool, Error> {
        self.wait()?;
        self.mark()?;
        self.work()?;
        self.expire();
        if self.table.has_ended() {
            self.reap();
        }
        Ok(!self.is_draining() || self.listeners.len() > 0 || self.table.len() > 0)
    }

    /// What was done so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Sleeps unless there is work.
    fn wait(&mut self) -> Result<(), Error> {
        let (ready, backlog) = (self.table.ready(), self.table.backlog());
        let idle = ready == 0 && backlog == 0 && !self.may_accept();
        let sleep = match self.alarms.next() {
            _ if !idle => Sleep::Not,
            // The last turn's budget of alarms was used up.
            Some(at) if at <= self.now => Sleep::Not,
            Some(at) => Sleep::Until(at),
            None => Sleep::Forever,
        };
        self.events.clear();
        self.now = self.net.wait(sleep, &mut self.events, &mut self.messages).map_err(Error::Wait)?;
        trace!("turn: {} events, {ready} ready, {backlog} on the backlog", self.events.len());
        Ok(())
    }

    /// Sets the remembered readiness of the sessions that the events are for, and obeys the messages.
    fn mark(&mut self) -> Result<(), Error> {
        for index in 0..self.events.len() {
            let Ready { token, hints } = self.events[index];
            match token.owner() {
                Owner::Listener(index) => self.listeners.set_waiting(index),
                Owner::Session(..) => {
                    if let Some(key) = self.table.find(token) {
                        self.table[key].mark(token.peer(), hints, self.now);
                        self.table.wake(key);
                    }
                }
            }
        }
        if self.messages.is_empty() { Ok(()) } else { self.obey() }
    }

    fn work(&mut self) -> Result<(), Error> {
        // The sessions first: one that waits for a descriptor has been waiting longer than any new client.
        for _ in 0..self.table.ready() {
            if let Some(key) = self.table.pop_ready() {
                self.run_session(key, Trigger::Event);
            }
        }
        if self.may_accept() {
            self.accept()?;
        }
        self.close_listeners();
        if let Some((key, source)) = self.table.pop_backlog() {
            let slice = if self.table.backlog() == 0 { SLICE } else { SHARED_SLICE };
            self.run_session(key, Trigger::Backlog { source, slice: slice.max(self.pool.size()) });
        }
        self.open_pipe();
        Ok(())
    }

    /// I/O comes before timers, however many sockets are ready: an alarm only makes its session try everything. What is
    /// left over the budget stays due, so the next wait does not sleep.
    fn expire(&mut self) {
        for _ in 0..ALARMS_PER_TURN {
            let Some(alarm) = self.alarms.due(self.now) else {
                break;
            };
            self.fire(alarm);
        }
    }

    /// Does what this alarm was set for.
    #[inline(never)]
    fn fire(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Accept => self.gate.resume(),
            Alarm::Drain => self.go_on_stopping(),
            Alarm::Retry => self.retry_waiters(),
            Alarm::Ports => self.reconsider_ports(),
            Alarm::Left => self.say_who_is_left(),
            Alarm::Keepalive => self.keepalive.run(&mut self.table, &self.routes, self.now, &mut self.alarms),
            Alarm::Session(key) => {
                self.table[key].alarm = Time::NEVER;
                self.table[key].assume_ready();
                self.run_session(key, Trigger::Alarm);
            }
        }
    }

    /// Ends the sessions that are over and frees their slots. Nothing else does, so no key is used again within a turn
    /// that may still name it.
    #[inline(never)]
    fn reap(&mut self) {
        while let Some(key) = self.table.next_ended() {
            self.stop_waiting(key);
            self.disarm(key);
            let session = self.table.remove_ended(key);
            let route = session.route();
            let endpoint = session.endpoint();
            let upstream = endpoint.map(|id| self.upstreams.address(id).clone());
            let name = self.names_routes.then(|| Arc::clone(&self.routes.get(route).name));
            let client = session.counted_client();
            let record = session.close(name, upstream, self.now, &mut self.pool);
            if let Some(id) = endpoint {
                self.upstreams.endpoints.release(id);
            }
            self.totals.add(&record);
            self.routes.get_mut(route).totals.add(&record);
            self.times.session.add(record.time);
            if record.end.is_refusal() {
                record::write(Level::Debug, &record);
            } else if record.is_empty() && !self.routes.get(route).settings.log_empty {
                self.totals.empty += 1;
            } else {
                record::write(Level::Info, &record);
            }
            self.end_of_session(route, client);
            self.wake_waiter(Want::Port { route });
        }
        // Descriptors came free: first for the sessions that wait for one, then for new clients.
        self.wake_waiter(Want::Descriptor);
        self.resume_accept();
        self.reconsider_pipes();
    }

    /// An event, an alarm or its turn on the backlog makes a session run.
    fn run_session(&mut self, key: u32, trigger: Trigger) {
        let session = &self.table[key];
        if session.queued.is_ended() || (session.is_opening() && !self.open(key)) {
            return;
        }
        let drain = self.drain();
        let session = &mut self.table[key];
        let served = session.serve(trigger, &mut self.pool);
        let settings = &self.routes.get(session.route()).settings;
        let conclusion = session.conclude(trigger, served, settings, drain, &mut self.pool, self.now);
        self.totals.spliced += served.spliced as u64;
        if let Some(errno) = served.splice_error {
            self.note_splice_error(errno);
        }
        for source in Peer::BOTH {
            if served.queue[source as usize] {
                self.table.queue(key, source);
            }
        }
        if served.failed {
            // The flow that ran first may have something to find out, and no event may announce it.
            self.table.wake(key);
        }
        match conclusion {
            Conclusion::Event => {}
            Conclusion::Until(at) => self.arm(key, at),
            Conclusion::Over => self.end(key, None),
        }
    }

    /// Sets the session's alarm, unless it has an earlier one: that will come back here.
    fn arm(&mut self, key: u32, at: Time) {
        let session = &mut self.table[key];
        if at < session.alarm {
            self.alarms.cancel(session.alarm, Alarm::Session(key));
            self.alarms.set(at, Alarm::Session(key));
            session.alarm = at;
        }
    }

    /// Takes the session's alarm out.
    fn disarm(&mut self, key: u32) {
        let session = &mut self.table[key];
        self.alarms.cancel(session.alarm, Alarm::Session(key));
        session.alarm = Time::NEVER;
    }

    /// The session ends with this turn: with this cause, or with what its streams say.
    fn end(&mut self, key: u32, cause: Option<Cause>) {
        if let Some(cause) = cause {
            self.table[key].set_cause(cause);
        }
        self.table.end(key);
    }
}
