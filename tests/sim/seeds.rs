//! Random schedules, by the thousand.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tproxy::Splice;

use crate::draw::draw;
use crate::drive::{run, run_traced};
use crate::plan::Plan;
use crate::shrink::shrink;

/// Seeds of a run that names no number.
const SEEDS: u64 = 20_000;

/// One in so many seeds is run twice, to see that it does the same.
const AGAIN: u64 = 32;

/// A progress line comes after so many seeds.
const NEWS: u64 = 250_000;

/// So many seeds show a bit of everything.
const ENOUGH: u64 = 1000;

/// What the seeds did together.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    sessions: u64,
    turns: u64,
    bytes: u64,
    spliced: u64,
    faults: u64,
}

/// `TPROXY_SIM_SEEDS=n` runs more of them, `TPROXY_SIM_SEED=0x…` one, with its trace. `TPROXY_SIM_SPLICE=on`, `auto` or
/// `off` runs all in that mode instead of each in its own.
#[test]
fn random_seeds_hold() {
    if let Some(seed) = number("TPROXY_SIM_SEED") {
        return replay(seed);
    }
    let count = number("TPROXY_SIM_SEEDS").unwrap_or(SEEDS);
    assert!(count > 0, "no seeds prove nothing");
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None::<u64>);
    let sum = Mutex::new(Sum::default());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(count, &next, &failed, &sum));
        }
    });
    let Sum { sessions, turns, bytes, spliced, faults } = sum.into_inner().unwrap();
    eprintln!("{count} seeds: {sessions} sessions, {turns} turns, {faults} faults injected");
    eprintln!("{bytes} bytes checked, {spliced} of them went through a pipe");
    if let Some(seed) = failed.into_inner().unwrap() {
        replay(seed);
        panic!("seed {seed:#x} failed, and does not when it is run again");
    }
    // Whatever holds, holds of nothing if nothing of it happens.
    let spliceless = std::env::var("TPROXY_SIM_SPLICE").is_ok_and(|mode| mode == "off");
    if count >= ENOUGH {
        assert!(faults > 0, "no fault took effect");
        assert_eq!(spliced > bytes / 100, !spliceless, "{spliced} of {bytes} bytes went through a pipe");
    }
}

fn work(count: u64, next: &AtomicU64, failed: &Mutex<Option<u64>>, sum: &Mutex<Sum>) {
    while failed.lock().unwrap().is_none() {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= count {
            return;
        }
        let plan = schedule(seed);
        let outcome = run(&plan);
        let again = if seed.is_multiple_of(AGAIN) { run(&plan).hash } else { outcome.hash };
        let mut sum = sum.lock().unwrap();
        sum.sessions += outcome.sessions as u64;
        sum.turns += outcome.turns;
        sum.bytes += outcome.bytes;
        sum.spliced += outcome.spliced;
        sum.faults += outcome.faults;
        if seed % NEWS == NEWS - 1 {
            eprintln!("{} of {count} seeds, {} sessions", seed + 1, sum.sessions);
        }
        drop(sum);
        if outcome.failure.is_some() || again != outcome.hash {
            // Of several threads' failures, the smallest seed is told.
            let mut failed = failed.lock().unwrap();
            *failed = Some(failed.map_or(seed, |other| other.min(seed)));
        }
    }
}

/// Runs one seed again and shows what happens; if it fails, in its smallest form.
fn replay(seed: u64) {
    let plan = schedule(seed);
    let (first, second) = (run_traced(&plan), run(&plan));
    assert_eq!(first.hash, second.hash, "seed {seed:#x} does not do the same twice");
    let Some(failure) = first.failure else {
        first.lines.iter().for_each(|line| eprintln!("{line}"));
        return eprintln!("seed {seed:#x} holds");
    };
    explain(&plan, &failure);
    panic!("seed {seed:#x}: {failure}\n\n    TPROXY_SIM_SEED={seed:#x} cargo test --test sim random\n");
}

/// Shows a failing schedule in its smallest form, with its trace.
pub(crate) fn explain(plan: &Plan, failure: &str) {
    let small = shrink(plan, failure);
    let outcome = run_traced(&small);
    eprintln!("{small:#?}");
    outcome.lines.iter().for_each(|line| eprintln!("{line}"));
    eprintln!("shrunk: {}", outcome.failure.as_deref().unwrap_or("it holds when it is traced"));
}

/// The schedule of this seed, in the mode that was asked for.
fn schedule(seed: u64) -> Plan {
    let mut plan = draw(seed);
    match std::env::var("TPROXY_SIM_SPLICE").as_deref() {
        Ok("on") => plan.config.splice = Splice::On,
        Ok("auto") => plan.config.splice = Splice::Auto,
        Ok("off") => plan.config.splice = Splice::Off,
        Ok(word) => panic!("TPROXY_SIM_SPLICE={word} is none of on, auto, off"),
        Err(_) => {}
    }
    plan
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}
