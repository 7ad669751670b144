//! The single-fault sweep: in every scenario, every call fails once with everything it may fail with. What SQLite does to
//! its file system and curl to its allocator.

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
    let (runs, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, plan)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(failure) = sweep(plan, &runs) {
                        failed.lock().unwrap().get_or_insert((*name, failure));
                    }
                }
            });
        }
    });
    eprintln!("{} scenarios, {} runs with one fault each", all.len(), runs.into_inner());
    if let Some((name, (plan, failure))) = failed.into_inner().unwrap() {
        explain(&plan, &failure);
        panic!("{name}, {:?}: {failure}", plan.faults);
    }
}

/// One run for each call and each of its errors.
fn sweep(plan: &Plan, runs: &AtomicUsize) -> Option<(Plan, String)> {
    for (call, kind) in (0_u64..).zip(run_counted(plan).calls) {
        for error in kind.errors().iter().chain(kind.fatal()) {
            let faulty = Plan { faults: Faults::Single { call, error: *error }, ..plan.clone() };
            runs.fetch_add(1, Ordering::Relaxed);
            if let Some(failure) = run(&faulty).failure {
                return Some((faulty, failure));
            }
        }
    }
    None
}
