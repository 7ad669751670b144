//! Everything around the relay: the kernel, the peers, the schedule, and who watches over them.
//!
//! The relay's calls come in through `seam.rs`; each is counted, may fail by plan, and may see time pass. Time
//! otherwise passes only while the relay waits.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use rustix::io::Errno;
use tproxy::net::{Hints, Message, Ready, Sleep, Time, Token};

use crate::conn::{Life, Who};
use crate::faults::{Call, Faults, kills};
use crate::kernel::{ConnId, Due, Kernel};
use crate::keyed::mix;
use crate::peers::{News, Peer};
use crate::plan::{Dial, Plan};
use crate::shadow::Shadow;
use crate::trace::Trace;

/// Calls in one turn, at most: more is a loop that does not end.
const CALLS_PER_TURN: u64 = 1_000_000;

/// Waits that ended with nothing but an alarm and nothing else to come: after so many the run is taken to be at rest.
const ALARMS_AT_REST: u32 = 400;

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
    /// The outcome of the next connect, if a script says so.
    pub(crate) next_dial: Option<Dial>,
    pub(crate) stop_pending: bool,
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
            let conn = kernel.dial_relay(session.client.caps);
            peers.push(Peer::new(plan.seed, i, true, conn, session.client.clone()));
            owners.push(Some(i));
        }
        kernel.now = Time::START;
        if let Some(crash) = plan.crash {
            kernel.at(Time::START + crash, Due::Crash);
        }
        for stop in &plan.stops {
            kernel.at(Time::START + *stop, Due::Stop);
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
            next_dial: None,
            stop_pending: false,
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
            Due::Stop => {
                self.trace.note(self.kernel.now, || "a stop is asked for".to_owned());
                self.stop_pending = true;
            }
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

    /// The relay waits.
    pub(crate) fn wait(
        &mut self,
        sleep: Sleep,
        ready: &mut Vec<Ready>,
        messages: &mut Vec<Message>,
    ) -> io::Result<Time> {
        let until = match sleep {
            Sleep::Not => Some(Time::START),
            Sleep::Until(moment) => Some(moment),
            Sleep::Forever => None,
        };
        self.calls_this_turn = 0;
        self.kernel.turn = None;
        let fault = self.enter(Call::Wait);
        let asleep = sleep != Sleep::Not;
        if asleep && !self.kernel.has_events() && !self.stop_pending {
            self.check_sleep(until);
        }
        if let Some(error) = fault {
            self.note(Call::Wait, usize::MAX, || format!("wait: {error:?}"));
            let soon = self.kernel.now + Duration::from_nanos(self.rng.u64(0..1000));
            self.run_until(soon);
            self.begin_turn(asleep, 0);
            (self.shadow.called, self.shadow.alarm) = (None, true);
            self.shadow.sessions.iter_mut().for_each(|it| it.blocked = [false; 2]);
            return if error == Errno::INTR { Ok(self.kernel.now) } else { Err(error.into()) };
        }
        let noise = self.plan.noise;
        let early = asleep && self.chance(noise.spurious) && self.add_spurious(ready);
        if asleep && !early {
            self.sleep(until);
        } else {
            let soon = self.kernel.now + Duration::from_nanos(self.rng.u64(0..2000));
            self.run_until(soon);
        }
        if !noise.grain.is_zero() {
            let grain = u64::try_from(noise.grain.as_nanos()).unwrap();
            let next = Time::from_nanos(self.kernel.now.as_nanos().next_multiple_of(grain));
            self.run_until(next);
        }
        let delay = self.lateness();
        // What happens meanwhile is in this batch, or comes too late for it.
        let (before, after) = if self.rng.bool() { (delay, Duration::ZERO) } else { (Duration::ZERO, delay) };
        self.run_until(self.kernel.now + before);
        let most = if noise.batch >= 1024 { 1024 } else { self.rng.usize(1..=noise.batch) };
        self.kernel.collect(most, ready);
        self.run_until(self.kernel.now + after);
        let real = ready.len();
        if self.chance(noise.spurious) {
            self.add_spurious(ready);
        }
        if self.chance(noise.stale) && !self.stale.is_empty() {
            let token = self.stale[self.rng.usize(..self.stale.len())];
            // Were it believed of whoever has the slot now, it would be a lie.
            let hints = Hints::READABLE | Hints::WRITABLE | Hints::READ_TO_EAGAIN | Hints::FIN;
            ready.push(Ready { token, hints });
        }
        if self.chance(noise.shuffle) {
            self.rng.shuffle(ready);
        }
        let stop = std::mem::take(&mut self.stop_pending);
        self.begin_turn(asleep, real);
        let alarm = until.is_some_and(|until| self.kernel.now >= until);
        self.shadow.alarm = alarm;
        self.shadow.called = (asleep && !alarm && !stop).then(Vec::new);
        if alarm {
            self.shadow.sessions.iter_mut().for_each(|it| it.blocked = [false; 2]);
        }
        ready.iter().for_each(|one| self.shadow.saw(*one));
        let now = self.kernel.now;
        self.trace.mix(&[now.as_nanos(), ready.len() as u64, u64::from(stop)]);
        self.trace.note(now, || {
            let events: Vec<_> = ready.iter().map(|one| format!("{:?} {:?}", one.token, one.hints)).collect();
            format!("-- wait({}) -> {}{}", until_text(until), events.join(", "), if stop { " STOP" } else { "" })
        });
        if stop {
            self.shadow.stopped(now, &self.kernel.queue);
            messages.push(Message::Stop);
        }
        Ok(now)
    }

    /// How much too late a wait ends.
    fn lateness(&mut self) -> Duration {
        let noise = self.plan.noise;
        let mut delay = Duration::ZERO;
        if self.chance(noise.late) {
            delay += Duration::from_nanos(self.rng.u64(0..5_000_000));
        }
        if noise.stall > 0 && self.rng.u16(..) < u16::from(noise.stall) {
            delay += if self.rng.bool() { Duration::from_secs(30) } else { Duration::from_millis(u64::from(u32::MAX)) };
        }
        delay
    }

    /// Nothing is to be done until something happens, or until the alarm.
    fn sleep(&mut self, until: Option<Time>) {
        loop {
            if self.kernel.has_events() || self.stop_pending {
                self.quiet_alarms = 0;
                return;
            }
            match (self.kernel.next(), until) {
                (Some(next), until) if until.is_none_or(|until| next <= until) => {
                    if let Some(due) = self.kernel.pop(next) {
                        self.carry_out(due);
                    }
                }
                (next, Some(until)) => {
                    // A wait ends a little late, never early.
                    let late = Duration::from_nanos(self.rng.u64(0..1_000_000));
                    self.run_until(until + late);
                    self.quiet_alarms = if next.is_none() { self.quiet_alarms + 1 } else { 0 };
                    self.at_rest |= self.quiet_alarms > ALARMS_AT_REST;
                    return;
                }
                (_, None) => {
                    self.at_rest = true;
                    return;
                }
            }
        }
    }

    fn add_spurious(&mut self, ready: &mut Vec<Ready>) -> bool {
        if self.rng.u8(..8) == 0 {
            ready.push(Ready { token: Token::listener(0), hints: Hints::READABLE });
            return true;
        }
        let watched = self.kernel.conns.iter().filter_map(|conn| conn.watch.token);
        let Some(token) = self.rng.choice(watched.collect::<Vec<_>>()) else {
            return false;
        };
        let hints = match self.rng.u8(..8) {
            0 => Hints::READABLE | Hints::WRITABLE | Hints::READ_TO_EAGAIN | Hints::ERROR,
            1 => Hints::ERROR,
            2 => Hints::READ_TO_EAGAIN,
            3 | 4 => Hints::READABLE,
            5 | 6 => Hints::WRITABLE,
            _ => Hints::READABLE | Hints::WRITABLE,
        };
        ready.push(Ready { token, hints });
        true
    }

    fn chance(&mut self, of_256: u8) -> bool {
        of_256 > 0 && self.rng.u8(..) < of_256
    }

    // ---- calls ----

    /// A call begins. Does it fail, and how?
    pub(crate) fn enter(&mut self, call: Call) -> Option<Errno> {
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

    /// The outcome of the next connect, and a connection for it.
    pub(crate) fn dial(&mut self) -> Result<ConnId, Errno> {
        if self.kernel.open >= self.kernel.laws.descriptors {
            return Err(Errno::MFILE);
        }
        let planned = self.plan.dials.get(self.dials).copied().unwrap_or(Dial::Accept);
        let dial = self.next_dial.take().unwrap_or(planned);
        self.dials += 1;
        // The caps are the session's, which registration will tell.
        let conn = self.kernel.dial_upstream([1; 4]);
        self.owners.push(None);
        self.kernel.open += 1;
        let delay = Duration::from_nanos(self.rng.u64(self.plan.laws.delay.0..=self.plan.laws.delay.1));
        let (wait, error) = match dial {
            Dial::Accept | Dial::Itself => (delay, None),
            Dial::AcceptAfter(wait) => (wait, None),
            Dial::Fail(error) => (delay, Some(error)),
            Dial::FailAfter(error, wait) => (wait, Some(error)),
            Dial::Silence => return Ok(conn),
        };
        self.kernel.conns[conn].to_itself = dial == Dial::Itself;
        self.kernel.after(wait, Due::Dialled { conn, error });
        Ok(conn)
    }

    /// The upstream of a session: now it is known which, so the peer can be put at the other end.
    pub(crate) fn pair(&mut self, conn: ConnId, session: usize) {
        let plan = &self.plan.sessions[session].upstream;
        let [peer_send, relay_receive, relay_send, peer_receive] = plan.caps.map(|cap| cap as u64);
        let it = &mut self.kernel.conns[conn];
        (it.from_peer.send_cap, it.from_peer.receive_cap) = (peer_send, relay_receive);
        (it.from_relay.send_cap, it.from_relay.receive_cap) = (relay_send, peer_receive);
        if it.to_itself {
            return;
        }
        self.owners[conn] = Some(self.peers.len());
        self.peers.push(Peer::new(self.plan.seed, session, false, conn, plan.clone()));
        self.kernel.stirred.push(conn);
        self.wake_peers();
    }

    /// How much of a pipe goes out in one piece. Time may pass before the next.
    pub(crate) fn piece(&mut self, held: usize) -> usize {
        if self.chance(self.plan.noise.tick) {
            let soon = self.kernel.now + Duration::from_nanos(self.rng.u64(0..=self.plan.laws.delay.1));
            self.run_until(soon);
        }
        self.settle();
        if held > 1 && self.rng.bool() { self.rng.usize(1..=held) } else { held }
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

fn until_text(until: Option<Time>) -> String {
    match until {
        None => "for ever".to_owned(),
        Some(Time::START) => "not at all".to_owned(),
        Some(until) => format!("until {:.6}", until.as_nanos() as f64 / 1e9),
    }
}
