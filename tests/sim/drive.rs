//! Runs one schedule to its end, or to the first thing that must not happen.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use fastrand::Rng;
use tproxy::net::Time;
use tproxy::reactor::{Limits, Reactor};

use crate::faults::Call;
use crate::kernel::Due;
use crate::plan::Plan;
use crate::records;
use crate::seam::SimNet;
use crate::trace::Trace;
use crate::world::World;

/// A run that takes more turns does not come to rest.
const TURNS_MAX: u64 = 200_000;

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) failure: Option<String>,
    pub(crate) hash: u64,
    pub(crate) turns: u64,
    pub(crate) sessions: usize,
    pub(crate) bytes: u64,
    /// Bytes that went through a pipe.
    pub(crate) spliced: u64,
    pub(crate) faults: u64,
    /// The calls of the seam, in their order, if they were asked for.
    pub(crate) calls: Vec<Call>,
    pub(crate) lines: Vec<String>,
}

/// Runs a schedule and keeps its hash.
pub(crate) fn run(plan: &Plan) -> Outcome {
    run_with(plan, false, false)
}

/// Runs a schedule and writes down what happens.
pub(crate) fn run_traced(plan: &Plan) -> Outcome {
    run_with(plan, true, false)
}

/// Runs a schedule and counts its calls.
pub(crate) fn run_counted(plan: &Plan) -> Outcome {
    run_with(plan, false, true)
}

fn run_with(plan: &Plan, traced: bool, counted: bool) -> Outcome {
    records::install();
    records::take();
    quiet_panics();
    let trace = if traced { Trace::readable() } else { Trace::hash_only() };
    let mut world = World::new(Rc::new(plan.clone()), trace);
    if counted {
        world.kinds = Some(Vec::new());
    }
    let world = Rc::new(RefCell::new(world));
    let quiet = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(|| {
        if plan.laws.linux { drive::<true>(&world, plan) } else { drive::<false>(&world, plan) }
    }));
    QUIET.set(quiet);
    // After a panic the relay may still hold its handles; the world outlives them all the same.
    let mut world = world.borrow_mut();
    let panicked = result.err().map(|_| format!("panic: {}", PANIC.take()));
    let failure = panicked.or_else(|| world.shadow.violations.first().cloned());
    Outcome {
        failure,
        hash: world.trace.hash(),
        turns: world.shadow.turn,
        sessions: world.shadow.sessions.len(),
        bytes: world.shadow.sessions.iter().flat_map(|it| &it.flows).map(|flow| flow.written).sum(),
        spliced: world.kernel.spliced,
        faults: world.faults,
        calls: world.kinds.take().unwrap_or_default(),
        lines: world.trace.lines().to_vec(),
    }
}

fn drive<const LINUX: bool>(world: &Rc<RefCell<World>>, plan: &Plan) {
    let net = SimNet::<LINUX>(Rc::clone(world));
    let rng = Rng::with_seed(plan.seed);
    let limits = Limits { sessions: plan.limit, room: plan.limit, pipes: plan.pipes };
    if !plan.head_start.is_zero() {
        world.borrow_mut().run_until(Time::START + plan.head_start);
    }
    let mut reactor = Reactor::bind(net, plan.config.clone(), limits, rng).expect("the simulated address is free");
    let mut rests = 0;
    loop {
        let more = reactor.turn();
        let mut world = world.borrow_mut();
        match more {
            Ok(_) if world.doomed => {
                return world.shadow.violation("the loop goes on, and it should have ended".to_owned());
            }
            Ok(more) => {
                world.end_turn(reactor.gauges(), &records::take());
                if !world.shadow.violations.is_empty() {
                    // What follows from dropping everything now is not news.
                    world.shadow.fatal = true;
                    return;
                }
                if more && world.shadow.stop_now {
                    return world.shadow.violation("it was asked to stop at once, and goes on".to_owned());
                }
                if !more {
                    // Nobody asked it to, or it left somebody behind.
                    if world.shadow.stop_turn.is_none() || !world.shadow.live.is_empty() {
                        world.shadow.violation("the loop ended before its time".to_owned());
                    }
                    break;
                }
            }
            Err(error) => {
                if !world.doomed {
                    world.shadow.violation(format!("the loop ended: {error}"));
                }
                world.shadow.fatal = true;
                break;
            }
        }
        if world.shadow.turn > TURNS_MAX {
            return world.shadow.violation("it does not come to rest".to_owned());
        }
        if std::mem::take(&mut world.at_rest) {
            rests += 1;
            if rests > 3 {
                return world.shadow.violation("it was asked to stop, and does not".to_owned());
            }
            // So long after the signal before that it is another request.
            let later = world.kernel.now + Duration::from_millis(300);
            world.kernel.at(later, Due::Stop);
        }
    }
    let totals = reactor.totals();
    drop(reactor);
    records::take();
    let mut world = world.borrow_mut();
    world.run_out();
    world.check_end(totals);
}

thread_local! {
    /// Panics of this thread are the simulation's, and are kept instead of printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                PANIC.set(info.to_string());
            } else {
                loud(info);
            }
        }));
    });
}
