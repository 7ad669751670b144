//! Everything around the relay: the kernel, the peers, the schedule, and the model that watches over them.
//!
//! The relay's calls come in through `seam.rs`; each is counted, may fail by plan, and may see time pass. Time
//! otherwise passes only while the relay waits (`wait.rs`).

mod dial;
mod hand_over;
mod queries;
mod resolver;
mod wait;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use rustix::io::Errno;
use tproxy::net::{Answer, NameId, Pending, Time, Token};

use crate::conn::{Life, Who};
use crate::faults::{Call, Faults, kills};
use crate::kernel::{ConnId, Due, Kernel};
use crate::keyed::mix;
use crate::peers::{News, Peer};
use crate::plan::{Dial, Plan, addresses};
use crate::shadow::Shadow;
use crate::trace::Trace;

/// Calls in one turn, at most: more is a loop that does not end.
const CALLS_PER_TURN: u64 = 1_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) kernel: Kernel,
    pub(crate) plan: Rc<Plan>,
    pub(crate) peers: Vec<Peer>,
    /// The peer at the other end of a connection.
    pub(crate) owners: Vec<Option<usize>>,
    pub(crate) shadow: Shadow,
    pub(crate) trace: Trace,
    rng: Rng,
    /// Calls of the seam so far, and their kinds if somebody wants to know.
    calls: u64,
    pub(crate) kinds: Option<Vec<Call>>,
    calls_this_turn: u64,
    dials: usize,
    /// Where the relay's open connections to upstreams lead, and from where: each has a source port.
    pub(crate) dialled: BTreeMap<ConnId, (SocketAddr, Option<IpAddr>)>,
    /// The outcome of the next connect, if a script says so.
    pub(crate) next_dial: Option<Dial>,
    /// Questions to the resolver so far, and answers that are to be delivered.
    questions: BTreeMap<String, usize>,
    answers: Vec<(NameId, Answer)>,
    pub(crate) stop_pending: bool,
    pub(crate) stop_call_pending: bool,
    pub(crate) stop_now_pending: bool,
    /// Reloads that were asked for.
    pub(crate) reloads_pending: VecDeque<usize>,
    queries_pending: Vec<usize>,
    hand_overs: hand_over::HandOvers,
    told: Vec<queries::Told>,
    /// A line said how many are left in the drain; so many of them are to be named yet.
    pub(crate) left_said: Option<usize>,
    /// The moment at which that was to be said is over.
    pub(crate) left_passed: bool,
    /// Where the answer to the last one arrives.
    pub(crate) answer: Option<Pending>,
    /// Keys of Unix sockets that may be asked for yet in this turn.
    unix_keys: usize,
    /// Nothing will happen by itself any more.
    pub(crate) at_rest: bool,
    quiet_alarms: u32,
    /// Tokens of sockets that were closed, for events that come too late.
    pub(crate) stale: Vec<Token>,
    /// Faults that happened.
    pub(crate) faults: u64,
    /// One of them ends the process.
    pub(crate) doomed: bool,
}

impl World {
    pub(crate) fn new(plan: Rc<Plan>, trace: Trace) -> Self {
        let mut rng = Rng::with_seed(mix(plan.seed ^ 0x0077_6f72_6c64));
        let mut kernel = Kernel::new(plan.laws, rng.fork());
        let mut peers = Vec::new();
        let mut owners = Vec::new();
        for (i, session) in plan.sessions.iter().enumerate() {
            kernel.now = Time::START + session.start;
            let conn = kernel.dial_relay(session.client.caps, session.place);
            peers.push(Peer::new(plan.seed, i, true, conn, session));
            owners.push(Some(i));
        }
        kernel.now = Time::START;
        if let Some(crash) = plan.crash {
            kernel.at(Time::START + crash, Due::Crash);
        }
        for stop in &plan.stops {
            kernel.at(Time::START + *stop, Due::Stop);
        }
        for call in &plan.stop_calls {
            kernel.at(Time::START + *call, Due::StopCall);
        }
        if let Some(at) = plan.stop_now {
            kernel.at(Time::START + at, Due::StopNow);
        }
        for (number, reload) in plan.reloads.iter().enumerate() {
            kernel.at(Time::START + reload.at, Due::Reload(number));
        }
        for (number, ask) in plan.queries.iter().enumerate() {
            kernel.at(Time::START + ask.at, Due::Query(number));
        }
        for (number, hand_over) in plan.hand_overs.iter().enumerate() {
            kernel.at(Time::START + hand_over.at, Due::HandOver(number));
        }
        for place in &plan.lent {
            kernel.share(*place, plan.is_unix(crate::plan::place(*place)));
        }
        let shadow = Shadow::new(&plan);
        Self {
            kernel,
            peers,
            owners,
            shadow,
            trace,
            rng,
            calls: 0,
            kinds: None,
            calls_this_turn: 0,
            dials: 0,
            dialled: BTreeMap::new(),
            next_dial: None,
            questions: BTreeMap::new(),
            answers: Vec::new(),
            stop_pending: false,
            stop_call_pending: false,
            stop_now_pending: false,
            reloads_pending: VecDeque::new(),
            queries_pending: Vec::new(),
            hand_overs: hand_over::HandOvers::default(),
            told: Vec::new(),
            left_said: None,
            left_passed: false,
            answer: None,
            unix_keys: addresses(&plan.config),
            at_rest: false,
            quiet_alarms: 0,
            stale: Vec::new(),
            faults: 0,
            doomed: false,
            plan,
        }
    }

    // ---- time ----

    /// Lets happen what happens until then.
    pub(crate) fn run_until(&mut self, until: Time) {
        while let Some(due) = self.kernel.pop(until) {
            self.carry_out(due);
        }
        self.kernel.now = self.kernel.now.max(until);
    }

    /// Lets everything happen that still will.
    pub(crate) fn run_out(&mut self) {
        while let Some(due) = self.kernel.pop(Time::NEVER) {
            self.carry_out(due);
        }
    }

    fn carry_out(&mut self, due: Due) {
        match due {
            Due::Wake { peer } => {
                self.peers[peer].woken = false;
                self.step(peer);
            }
            Due::Crash => self.crash(),
            Due::Resolved { name, place, index } => self.answer(name, place, index),
            Due::Stop => {
                self.trace.note(self.kernel.now, || "a stop is asked for".to_owned());
                self.stop_pending = true;
            }
            Due::StopCall => {
                self.trace.note(self.kernel.now, || "a drain is asked for".to_owned());
                self.stop_call_pending = true;
            }
            Due::StopNow => {
                self.trace.note(self.kernel.now, || "a stop without a drain is asked for".to_owned());
                self.stop_now_pending = true;
            }
            Due::Reload(number) => {
                self.trace.note(self.kernel.now, || format!("reload {number} is asked for"));
                self.reloads_pending.push_back(number);
            }
            Due::Query(number) => self.queries_pending.push(number),
            Due::HandOver(_) | Due::HandedOver => self.note_hand_over(due),
            _ => {
                self.trace.note(self.kernel.now, || format!("  {due:?}"));
                self.kernel.carry_out(due);
            }
        }
        self.wake_peers();
    }

    /// The upstream's process dies; one in eight connections is another's.
    fn crash(&mut self) {
        self.trace.note(self.kernel.now, || "the upstream dies".to_owned());
        for peer in &mut self.peers {
            let open = !peer.closed && self.kernel.conns[peer.conn].peer.life == Life::Open;
            if open && !peer.is_client && peer.session % 8 != 7 {
                peer.closed = true;
                // A Unix peer that dies looks like one that has said all.
                let it = &self.kernel.conns[peer.conn];
                peer.said_fin |= it.unix && it.from_relay.unread() == 0;
                self.kernel.close(peer.conn, Who::Peer, true);
            }
        }
    }

    /// Peers to whom something happened react, sooner or later.
    fn wake_peers(&mut self) {
        while let Some(conn) = self.kernel.stirred.pop() {
            if let Some(Some(peer)) = self.owners.get(conn).copied()
                && !self.peers[peer].woken
            {
                self.peers[peer].woken = true;
                let think = self.kernel.rng.u64(0..=self.plan.laws.delay.1);
                self.kernel.after(Duration::from_nanos(think), Due::Wake { peer });
            }
        }
    }

    fn step(&mut self, index: usize) {
        let Self { peers, kernel, trace, shadow, .. } = self;
        let now = kernel.now;
        let peer = &mut peers[index];
        let (session, name) = (peer.session, if peer.is_client { "client" } else { "upstream" });
        peer.step(index, kernel, |news| {
            if let News::Mismatch(place) = news {
                shadow.violation(format!("{name} {session} got a byte at {place} that was never sent there"));
            }
            trace.mix(&[index as u64, news_code(&news)]);
            trace.note(now, || format!("  {name} {session}: {news:?}"));
        });
    }

    fn chance(&mut self, of_256: u8) -> bool {
        of_256 > 0 && self.rng.u8(..) < of_256
    }

    // ---- calls ----

    /// A call begins. Does it fail, and how?
    pub(crate) fn enter(&mut self, call: Call) -> Option<Errno> {
        if call != Call::Listen {
            self.shadow.settle_reload();
        }
        let number = self.calls;
        self.calls += 1;
        self.calls_this_turn += 1;
        if let Some(kinds) = &mut self.kinds {
            kinds.push(call);
        }
        assert!(self.calls_this_turn < CALLS_PER_TURN, "this turn does not end");
        if self.chance(self.plan.noise.tick) {
            let soon = self.kernel.now + Duration::from_nanos(self.rng.u64(0..=self.plan.laws.delay.1));
            self.run_until(soon);
        }
        let error = match self.plan.faults {
            Faults::Single { call: at, error } => (at == number).then_some(error),
            Faults::Drawn(odds) => {
                let odds = odds[call.index()];
                let errors = call.errors();
                (odds > 0 && !errors.is_empty() && self.rng.u16(..) < odds)
                    .then(|| errors[self.rng.usize(..errors.len())])
            }
        };
        self.faults += u64::from(error.is_some());
        self.doomed |= error.is_some_and(|error| call.fatal().contains(&error));
        error
    }

    /// A call on an open connection begins. An error that ends the connection has come from the network just now, and
    /// the call finds out; another is the call's own.
    pub(crate) fn enter_on(&mut self, call: Call, conn: ConnId) -> Option<Errno> {
        let error = self.enter(call)?;
        if !kills(error) {
            return Some(error);
        }
        if self.kernel.conns[conn].unix {
            // There is no network in between.
            self.faults -= 1;
            return None;
        }
        let it = &mut self.kernel.conns[conn];
        let (heard, said) = (it.from_peer.fin_arrived, it.from_relay.fin_written);
        let error = match error {
            // Only a peer that had finished speaking can leave EPIPE behind (K16), and then it leaves nothing else.
            Errno::PIPE if !heard || said => Errno::CONNRESET,
            Errno::CONNRESET if heard && !said => Errno::PIPE,
            error => error,
        };
        if it.relay.life == Life::Open && !(heard && said && it.from_relay.fin_acked) {
            self.note(call, conn, || format!("the network ends connection {conn}: {error:?}"));
            self.kernel.fail(conn, Who::Relay, error);
            // Sometimes the peer is told, sometimes it finds out when it speaks.
            if self.rng.bool() {
                self.kernel.fail(conn, Who::Peer, Errno::CONNRESET);
            }
            self.shadow.cut_off(conn);
            self.wake_peers();
        } else {
            // There was nothing left to fail.
            self.faults -= 1;
        }
        None
    }

    /// Does the next client of this listener go before it is accepted?
    pub(crate) fn client_aborts(&mut self, listener: usize) -> bool {
        if self.kernel.listeners[listener].queue.is_empty() || !self.chance(self.plan.noise.aborted) {
            return false;
        }
        if let Some(conn) = self.kernel.listeners[listener].queue.pop_front() {
            self.kernel.close(conn, Who::Relay, true);
        }
        true
    }

    /// It is known now what the upstream of this session hears first: the header that it is to be sent, and what the client
    /// said in front of its script and the relay did not take for a header.
    pub(crate) fn tell_upstream(&mut self, session: usize) {
        let it = &self.shadow.sessions[session];
        let Some(peer) = it.upstream.and_then(|conn| self.owners[conn]) else { return };
        let hello = &self.plan.sessions[it.plan].hello.bytes;
        let removed = usize::try_from(it.header.length).unwrap();
        let added = it.header.sent.clone().unwrap_or_default();
        let peer = &mut self.peers[peer];
        (peer.added, peer.removed) = (added.len() as u64, it.header.length);
        peer.hears_first = [added, hello[removed..].to_vec()].concat();
    }

    /// A call ends.
    pub(crate) fn note(&mut self, call: Call, conn: ConnId, text: impl FnOnce() -> String) {
        self.trace.mix(&[call as u64, conn as u64, self.kernel.now.as_nanos()]);
        self.trace.note(self.kernel.now, text);
    }

    /// The relay did something, and the world may have acted on it before the call returns.
    pub(crate) fn settle(&mut self) {
        self.wake_peers();
        if self.plan.laws.at_once {
            self.run_until(self.kernel.now);
        }
    }
}

fn news_code(news: &News) -> u64 {
    match news {
        News::Sent(count) => *count as u64,
        News::Heard(count) => 1 << 32 | *count as u64,
        News::Ended(_) => 2 << 32,
        News::Did(_) => 3 << 32,
        News::Mismatch(place) => 4 << 32 | *place,
    }
}
