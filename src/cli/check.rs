//! `--check`: do the names resolve?

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::address::{Listen, Target};
use super::complaint::Complaint;
use super::routes::Draft;
use crate::control::Interrupt;

/// How long all lookups may take together.
const LIMIT: Duration = Duration::from_secs(5);

/// The most names that are looked up at a time.
const THREADS_MAX: usize = 64;

/// For each of these names, what is wrong with it, if anything is.
pub(super) type LookUp = fn(&[String]) -> Vec<Option<String>>;

/// The names that do not resolve, each once for each place where it was written.
pub(super) fn unresolved(drafts: &[Draft], look_up: LookUp) -> Vec<Complaint> {
    let (mut names, mut known, mut written) = (Vec::new(), HashMap::new(), Vec::new());
    for draft in drafts {
        let from = match &draft.from {
            Listen::Name(name, _) => Some(("from", draft.place, name)),
            Listen::Address(_) | Listen::Unix(_) | Listen::Inherited(_) => None,
        };
        let to = draft.to.iter().filter_map(|(target, place)| match target {
            Target::Name(name, _) => Some(("to", *place, name)),
            Target::Address(_) | Target::Echo | Target::Unix(_) => None,
        });
        for (key, place, name) in from.into_iter().chain(to) {
            let index = *known.entry(name).or_insert_with(|| {
                names.push(name.clone());
                names.len() - 1
            });
            written.push((key, place, index));
        }
    }
    // The listeners of a range have their names in common.
    let mut seen = HashSet::new();
    written.retain(|one| seen.insert(*one));
    let answers = if names.is_empty() { Vec::new() } else { look_up(&names) };
    let complaint = |(key, place, index): (_, _, usize)| {
        let why = answers[index].as_ref()?;
        Some(Complaint { key, place, text: format!("{}: {why}", names[index]) })
    };
    written.into_iter().filter_map(complaint).collect()
}

/// Asks the system's resolver, for at most 5 s. A signal ends the process, as it does before a relay has begun.
pub(super) fn look_up(names: &[String]) -> Vec<Option<String>> {
    bounded(names, LIMIT, resolve)
}

fn resolve(name: &str) -> Option<String> {
    tproxy::net::mio::look_up(name).err().map(|why| format!("the name does not resolve: {why}"))
}

/// Several at a time. A thread that hangs is left behind.
fn bounded(names: &[String], limit: Duration, resolve: fn(&str) -> Option<String>) -> Vec<Option<String>> {
    let silence = format!("no answer within {limit:?} (do the name servers answer?)");
    let answers = Arc::new(Mutex::new(vec![Some(silence); names.len()]));
    let (names, shared) = (names.to_vec(), Arc::clone(&answers));
    let work = move || {
        let next = AtomicUsize::new(0);
        let some = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(name) = names.get(index) else { break };
                let answer = resolve(name);
                locked(&shared)[index] = answer;
            }
        };
        thread::scope(|scope| {
            for _ in 1..names.len().min(THREADS_MAX) {
                // With fewer threads it takes longer.
                let _ = thread::Builder::new().name("lookup".into()).spawn_scoped(scope, some);
            }
            some();
        });
    };
    // No signal has a handler yet, so a stop signal ends the process.
    if let Err(error) = Interrupt::by(&[]).and_then(|interrupt| interrupt.wait_for(limit, work)) {
        locked(&answers).fill(Some(format!("cannot be looked up: {error}")));
    }
    locked(&answers).clone()
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str], limit: Duration) -> Vec<Option<String>> {
        let names: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        bounded(&names, limit, |name| match name {
            "silent" => loop {
                thread::park();
            },
            name => name.strip_prefix("bad").map(|rest| format!("no {rest}")),
        })
    }

    #[test]
    fn each_name_has_its_answer() {
        let (words, limit) = (["good", "bad1", "good", "bad2"], Duration::from_secs(20));
        assert_eq!(of(&words, limit), [None, Some("no 1".to_owned()), None, Some("no 2".to_owned())]);
        let many = ["bad7"; 3 * THREADS_MAX];
        assert!(of(&many, limit).iter().all(|answer| answer.as_deref() == Some("no 7")));
    }

    #[test]
    fn a_name_without_an_answer_holds_up_no_other() {
        // The others have answered long before, or the machine is very slow: then a longer limit shows it.
        let answers = [50, 500, 5000, 20_000].map(Duration::from_millis).into_iter().find_map(|limit| {
            let answers = of(&["silent", "good", "bad1"], limit);
            assert!(answers[0].as_ref().unwrap().starts_with(&format!("no answer within {limit:?} ")), "{answers:?}");
            (answers[1..] == [None, Some("no 1".to_owned())]).then_some(answers)
        });
        assert!(answers.is_some());
    }

    /// As `--help` says.
    #[test]
    fn a_check_takes_five_seconds_at_most() {
        let help = <crate::cli::Args as clap::CommandFactory>::command().render_long_help().to_string();
        assert!(help.contains(&format!("for at most {} s", LIMIT.as_secs())), "{help}");
    }

    #[test]
    fn localhost_resolves_and_a_name_that_nobody_may_own_does_not() {
        // RFC 6761.
        let names = ["localhost", "no-such-host.invalid", "127.0.0.1"].map(str::to_owned);
        let [localhost, invalid, address] = &look_up(&names)[..] else { panic!("an answer for each") };
        assert_eq!((localhost, address), (&None, &None));
        let why = invalid.as_ref().unwrap();
        assert!(why.starts_with("the name does not resolve: ") || why.starts_with("no answer within 5s"), "{why}");
    }
}
