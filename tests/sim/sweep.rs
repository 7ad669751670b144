//! The single-fault sweep: in every scenario, every call fails once with everything it may fail with. What SQLite does
//! to its file system and curl to its allocator.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::drive::{run, run_counted};
use crate::faults::Faults;
use crate::plan::Plan;
use crate::scenarios;
use crate::seeds::explain;

#[test]
fn every_scenario_holds_without_faults() {
    for (name, plan) in scenarios::all() {
        if let Some(failure) = run(&plan).failure {
            explain(&plan, &failure);
            panic!("{name}: {failure}");
        }
    }
}

#[test]
fn every_call_may_fail_once_with_every_error() {
    let all = scenarios::all();
    let next = AtomicUsize::new(0);
    let (runs, struck, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, plan)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(failure) = sweep(plan, &runs, &struck) {
                        failed.lock().unwrap().get_or_insert((*name, failure));
                    }
                }
            });
        }
    });
    let (runs, struck) = (runs.into_inner(), struck.into_inner());
    eprintln!("{} scenarios, {runs} runs with one fault each, of which {struck} changed something", all.len());
    if let Some((name, (plan, failure))) = failed.into_inner().unwrap() {
        explain(&plan, &failure);
        panic!("{name}, {:?}: {failure}", plan.faults);
    }
    // A connection that is dead already cannot be ended once more; nearly all others were.
    assert!(struck * 10 > runs * 8, "{struck} of {runs} faults changed anything");
}

/// One run for each call and each of its errors.
fn sweep(plan: &Plan, runs: &AtomicUsize, struck: &AtomicUsize) -> Option<(Plan, String)> {
    for (call, kind) in (0_u64..).zip(run_counted(plan).calls) {
        for error in kind.errors().iter().chain(kind.fatal()) {
            let faulty = Plan { faults: Faults::Single { call, error: *error }, ..plan.clone() };
            runs.fetch_add(1, Ordering::Relaxed);
            let outcome = run(&faulty);
            struck.fetch_add(usize::from(outcome.faults > 0), Ordering::Relaxed);
            if let Some(failure) = outcome.failure {
                return Some((faulty, failure));
            }
        }
    }
    None
}
