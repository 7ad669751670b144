//! Thousands of sessions at one moment: the work of one turn stays bounded, whatever is due.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use rustix::io::Errno;
use tproxy::net::{Hints, Message, Page, Peer, Query, Report, Sleep, Time};
use tproxy::reactor::{Limits, Reactor};
use tproxy::{ResetGrace, Splice};

use crate::counting::{Counting, State};
use crate::records;
use crate::scenarios;

/// What may cause work in one turn: as many events, as many alarms, and a few clients.
const RUNS_PER_TURN: usize = 1024;

/// Calls that one run of a session makes at most, its end included.
const CALLS_PER_RUN: usize = 8;

/// Everything else that a turn does: 32 clients with a handful of calls each, 256 sessions whose upstreams are kept
/// alive, a flow of the backlog.
const CALLS_BESIDE: usize = 32 * 6 + 256 + 8;

/// A relay on the kernel that counts.
struct Crowd {
    state: Rc<RefCell<State>>,
    reactor: Reactor<Counting>,
    turns: usize,
    /// Calls of the turn that made most.
    most: usize,
}

impl Crowd {
    /// This many clients wait to be accepted.
    fn of(count: usize, change: impl FnOnce(&mut tproxy::Config)) -> Self {
        records::install();
        let mut state = State::default();
        (state.clients, state.descriptors, state.stands) = (count, 2 * count + 1, true);
        let state = Rc::new(RefCell::new(state));
        let mut config = scenarios::quiet().config;
        config.splice = Splice::Off;
        change(&mut config);
        let (net, limits) = (Counting(Rc::clone(&state)), Limits { sessions: count, room: count, pipes: 0 });
        let reactor = Reactor::bind(net, config, limits, Rng::with_seed(1)).unwrap();
        Self { state, reactor, turns: 0, most: 0 }
    }

    /// One turn, and its calls.
    fn turn(&mut self) -> usize {
        self.state.borrow_mut().calls = 0;
        assert!(self.reactor.turn().unwrap(), "nobody asked it to stop");
        records::take();
        let calls = self.state.borrow().calls;
        (self.turns, self.most) = (self.turns + 1, self.most.max(calls));
        calls
    }

    /// Turns until this is so.
    fn until(&mut self, turns: usize, what: &str, so: impl Fn(&Self) -> bool) {
        for _ in 0..turns {
            if so(self) {
                return;
            }
            self.turn();
        }
        assert!(so(self), "{what}, not within {turns} turns: {:?}", self.reactor.gauges());
    }

    /// The answer to a query, from one turn.
    fn ask(&mut self, page: Page) -> Report {
        let (query, pending) = Query::new(page);
        self.state.borrow_mut().messages.push(Message::Query(query));
        self.turn();
        pending.wait_for(Duration::ZERO).unwrap().unwrap()
    }

    fn sessions(&self) -> usize {
        self.reactor.gauges().sessions
    }

    /// All clients are let in, and their upstreams have answered if they do.
    fn settle(&mut self, count: usize) {
        self.until(count, "all are let in", |crowd| crowd.state.borrow().clients == 0);
        self.until(count, "all are dialled for", |crowd| crowd.reactor.gauges().ready == 0);
        self.state.borrow_mut().announce(Peer::Upstream, Hints::WRITABLE);
        self.until(count, "all is said", |crowd| !crowd.has_events() && crowd.reactor.gauges().ready == 0);
    }

    fn has_events(&self) -> bool {
        self.state.borrow().has_events()
    }

    fn now(&self) -> Time {
        self.state.borrow().now
    }

    fn pass(&self, time: Duration) {
        let mut state = self.state.borrow_mut();
        state.now = state.now + time;
    }

    /// The turns so far were all within the bound.
    fn check(&self) {
        let bound = 2 * RUNS_PER_TURN * CALLS_PER_RUN + CALLS_BESIDE;
        assert!(self.most <= bound, "{} calls in one turn, {bound} are allowed", self.most);
    }
}

#[test]
fn ten_thousand_idle_timeouts_of_one_moment_are_taken_some_in_each_turn() {
    const CROWD: usize = 10_000;
    const IDLE: Duration = Duration::from_secs(3600);
    let mut crowd = Crowd::of(CROWD, |config| config.routes[0].idle_timeout = Some(IDLE));
    crowd.settle(CROWD);
    // Once all are kept alive, nothing is to be done for an hour.
    crowd.until(CROWD, "it is quiet", |crowd| crowd.reactor.gauges().alarms == CROWD);
    assert_eq!(crowd.sessions(), CROWD);
    crowd.pass(IDLE);
    crowd.most = 0;
    crowd.turn();
    let mut left = crowd.sessions();
    assert!((CROWD - RUNS_PER_TURN..CROWD).contains(&left), "{left} are left");
    let mut turns = 1;
    while left > 0 {
        crowd.turn();
        turns += 1;
        let state = crowd.state.borrow();
        let sleep = state.sleep.unwrap();
        assert!(sleep == Sleep::Not, "{left} alarms are due, and the relay waits {sleep:?}");
        drop(state);
        assert!(left - crowd.sessions() <= RUNS_PER_TURN);
        left = crowd.sessions();
    }
    assert_eq!(turns, CROWD.div_ceil(RUNS_PER_TURN));
    assert!(crowd.most <= RUNS_PER_TURN * CALLS_PER_RUN + CALLS_BESIDE, "{} calls in one turn", crowd.most);
    assert_eq!((crowd.reactor.gauges().alarms, crowd.reactor.totals().sessions), (0, CROWD as u64));
}

#[test]
fn new_work_is_served_while_thousands_of_alarms_are_due() {
    const CROWD: usize = 5_000;
    const IDLE: Duration = Duration::from_secs(3600);
    let mut crowd = Crowd::of(CROWD, |config| config.routes[0].idle_timeout = Some(IDLE));
    crowd.settle(CROWD - 1);
    crowd.pass(2 * IDLE);
    crowd.turn();
    assert!(crowd.sessions() > RUNS_PER_TURN, "many are still to be looked at");
    // A client comes now. It is let in at once and dialled at the latest in the turn after.
    (crowd.state.borrow_mut().clients, crowd.state.borrow_mut().connects) = (1, 0);
    crowd.turn();
    assert_eq!(crowd.state.borrow().clients, 0);
    crowd.turn();
    assert_eq!(crowd.state.borrow().connects, 1);
    assert!(crowd.sessions() > RUNS_PER_TURN, "many are still to be looked at");
    crowd.check();
}

#[test]
fn ten_thousand_endings_cost_a_bounded_turn_each_time_they_ask() {
    const CROWD: usize = 10_000;
    let mut crowd = Crowd::of(CROWD, |config| config.routes[0].reset_grace = ResetGrace::Fixed(Duration::from_secs(2)));
    crowd.settle(CROWD);
    // Every upstream resets, and no client acknowledges what it was sent.
    (crowd.state.borrow_mut().unacked, crowd.state.borrow_mut().upstream_error) = (1000, Some(Errno::CONNRESET));
    crowd.state.borrow_mut().announce(Peer::Upstream, Hints::READABLE | Hints::READ_TO_EAGAIN | Hints::ERROR);
    let begun = crowd.now();
    crowd.until(CROWD, "the events are read", |crowd| !crowd.has_events());
    assert_eq!(crowd.sessions(), CROWD);
    // They ask at one moment, again and again, and give up at one moment.
    crowd.until(10_000, "they give up", |crowd| crowd.sessions() == 0);
    let took = crowd.now().since(begun);
    assert!((Duration::from_secs(2)..Duration::from_secs(32)).contains(&took), "{took:?}");
    crowd.check();
}

/// `Page`: no more than `ROWS_MAX`, whatever is asked for.
#[test]
fn an_answer_has_512_rows_at_most() {
    const CROWD: usize = 1_500;
    let mut crowd = Crowd::of(CROWD, |config| {
        // Two addresses each, so a route is three rows.
        let mut route = config.routes[0].clone();
        route.to = [2, 3].map(|host| std::net::SocketAddr::from(([127, 0, 0, host], 1)).into()).to_vec();
        config.routes = vec![route; 700];
        for (port, route) in (1..).zip(&mut config.routes) {
            route.from = From::from(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        }
    });
    crowd.settle(CROWD);
    let sessions = crowd.ask(Page::Sessions { from: 0, most: usize::MAX });
    assert_eq!((sessions.rows.len(), sessions.next), (512, Some(512)));
    assert_eq!(crowd.ask(Page::Sessions { from: 5, most: 7 }).rows.len(), 7);
    let routes = crowd.ask(Page::Routes { from: 0 });
    assert_eq!((routes.route_rows.len(), routes.next), (512 / 3, Some(512 / 3)));
    crowd.check();
}

#[test]
fn five_thousand_sessions_that_wait_for_a_descriptor_cost_a_few_calls_a_turn() {
    const CROWD: usize = 5_000;
    let mut crowd = Crowd::of(CROWD, |config| {
        config.routes[0].connect_attempts = 2;
        config.routes[0].connect_timeout = Duration::from_secs(3600);
    });
    // All upstreams refuse. Before the second attempt, another process takes what descriptors there are.
    crowd.state.borrow_mut().stands = false;
    crowd.settle(CROWD);
    crowd.state.borrow_mut().descriptors = 0;
    crowd.pass(Duration::from_secs(1));
    crowd.state.borrow_mut().connects = 0;
    crowd.until(CROWD, "all have found none", |crowd| crowd.state.borrow().connects >= CROWD);
    crowd.check();
    // Now they wait. Only the first tries, a few times a second.
    (crowd.most, crowd.turns) = (0, 0);
    let begun = crowd.now();
    crowd.until(2_000, "ten seconds pass", |crowd| crowd.now() >= begun + Duration::from_secs(10));
    assert_eq!(crowd.sessions(), CROWD);
    assert!(crowd.most <= CALLS_PER_RUN && crowd.turns <= 400, "{} calls, {} turns", crowd.most, crowd.turns);
    // Descriptors come free: each gets its own, a few in each turn.
    (crowd.state.borrow_mut().descriptors, crowd.state.borrow_mut().connects) = (CROWD, 0);
    crowd.until(2 * CROWD, "all have one", |crowd| crowd.state.borrow().connects == CROWD);
    crowd.check();
    assert!(crowd.most <= 32 * CALLS_PER_RUN, "{} calls in one turn", crowd.most);
}
