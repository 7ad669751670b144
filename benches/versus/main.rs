//! tproxy beside other relays: the same work, in turns, in the same minutes, and what it costs each of them.
//!
//! ```console
//! $ cargo bench --bench versus                       # everything: about nine minutes
//! $ cargo bench --bench versus -- --quick            # one short round
//! $ cargo bench --bench versus -- --only mixed --relay tproxy,nginx --rounds 9
//! $ cargo bench --bench versus -- --help             # all scenarios, all options
//! ```
//! ```text
//!    core A                          core B: this process, one thread
//!  ┌───────────┐                   ┌──────────────────────────────────┐
//!  │ the relay │ ◄── 127.0.0.2 ─── │ clients                          │   a new relay, a new upstream and new
//!  │           │ ─── 127.0.0.3 ──► │ upstream     bulk, messages, …   │   ports for each run
//!  └───────────┘                   └──────────────────────────────────┘
//! ```
//! A round runs every scenario with every relay, one after the other. The order is reversed in every second round, so
//! that other load on the machine affects all relays alike. The main figure is the relay's CPU time for a unit of work
//! ([`account`]); on a shared machine, rates mean little.
//!
//! tproxy is measured twice, as if it were two relays. How much the two differ is the noise (A/A). A column whose noise
//! exceeds the difference between the relays is left out ([`results`]). A relay fails a scenario if it loses or adds a
//! byte, closes a connection or stalls, and the table says which.
//!
//! A full run writes `latest.json`, `latest.md` and `latest.svg` to `benches/results/`. The bench touches no service of
//! the machine: every relay is a new process with a configuration of its own ([`relays`]) and ends with the bench
//! ([`process`]). `benches/README.md` has the results and how to read them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks to a person")]
#![allow(clippy::cast_precision_loss, reason = "no figure here needs more than 52 bits")]

mod account;
mod bulk;
mod chart;
mod clock;
mod connections;
mod failure;
mod harness;
mod json;
mod machine;
mod markdown;
mod messages;
mod options;
mod process;
mod progress;
mod relays;
mod results;
mod scenarios;
mod scrape;
mod sessions;
mod strace;
mod text;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use failure::{During as _, Failure, Outcome, failed};
use harness::Harness;
use machine::{Cores, Machine};
use options::Options;
use progress::Progress;
use relays::Contender;
use results::{Results, Row, Table};
use scenarios::Scenario;

/// Descriptors of a session: a client and an upstream, in this process as in a relay.
const DESCRIPTORS_PER_SESSION: u64 = 2;

/// Descriptors kept for everything else.
const DESCRIPTORS_SPARE: u64 = 200;

/// The load may wait for its core for this fraction of the time. Beyond it, a warning says so.
const LOAD_WAIT_MAX: f64 = 0.02;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let ended = match words.next() {
        // `cargo test --benches` passes no argument; `cargo bench` passes --bench.
        None => {
            println!("run it with `cargo bench --bench versus`");
            Ok(())
        }
        Some(word) if word == process::LAUNCH => process::launch_relay(words),
        Some(_) => bench(&Options::parse()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Outcome<()> {
    let scenarios = options.scenarios()?;
    clock::install_stop_handler()?;
    let descriptors = machine::raise_descriptor_limit();
    // Before this thread is pinned to a core, so that cargo builds on all of them.
    let (contenders, mut warnings) = relays::find(|name| options.wants_relay(name));
    if contenders.is_empty() {
        return failed("none of these relays is installed");
    }
    let (machine, cores) = (Machine::detect(), Cores::choose()?);
    machine::pin(cores.load).during("moving to a core")?;
    warnings.extend(machine.warnings(cores));
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));

    let sessions_max =
        usize::try_from(descriptors.saturating_sub(DESCRIPTORS_SPARE) / DESCRIPTORS_PER_SESSION).unwrap_or(usize::MAX);
    let harness = Harness { cores, is_quick: options.quick, strace: relays::strace(), sessions_max };
    let (begin, waited) = (clock::now(), account::run_queue_wait());
    let tables = run_rounds(&harness, &scenarios, &contenders, options.rounds())?;
    let waited = (account::run_queue_wait() - waited).div_duration_f64(clock::now() - begin);
    if waited > LOAD_WAIT_MAX {
        let percent = waited * 100.0;
        warnings.push(format!("the load waited {percent:.0} % of the time for its core: rates and latencies suffer"));
    }
    let mut results = Results { machine, contenders, rounds: options.rounds(), tables, warnings };
    results.warn_of_noise();
    println!("{}", text::write(&results));
    if options.is_full() || options.save {
        save(&results, &options.name)?;
    }
    Ok(())
}

/// Runs all rounds.
fn run_rounds(
    harness: &Harness,
    scenarios: &[&'static Scenario],
    contenders: &[Contender],
    rounds: u32,
) -> Outcome<Vec<Table>> {
    let mut tables: Vec<_> =
        scenarios.iter().map(|scenario| Table { scenario, rows: vec![Row::default(); contenders.len()] }).collect();
    let runs_in = |scenario: &Scenario, round| round == 0 || !scenario.runs_once();
    let runs = (0..rounds).flat_map(|round| scenarios.iter().filter(move |scenario| runs_in(scenario, round)));
    let runs = runs.map(|scenario| contenders.iter().filter(|contender| scenario.fits(contender)).count());
    let mut progress = Progress::of(runs.sum());
    for round in 0..rounds {
        for table in tables.iter_mut().filter(|table| runs_in(table.scenario, round)) {
            let part = format!("round {} of {rounds} · {}", round + 1, table.scenario.name);
            let mut order: Vec<_> = contenders.iter().zip(&mut table.rows).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for (contender, row) in order.into_iter().filter(|(contender, _)| table.scenario.fits(contender)) {
                progress.begin(&part, contender.name);
                // A relay that failed is not measured again: it would fail again, after a time-out.
                if row.failure.is_none() {
                    row.add(harness.run(table.scenario, contender));
                }
                if clock::stop_requested() {
                    progress.say("interrupted");
                    return failed("nothing was written");
                }
                if let Some(why) = row.failure.as_ref().filter(|_| row.rounds.len() == round as usize + 1) {
                    progress.say(&format!("{}, {}: {why}", table.scenario.name, contender.name));
                }
            }
        }
    }
    progress.end();
    Ok(tables)
}

fn save(results: &Results, name: &str) -> Outcome<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    std::fs::create_dir_all(&folder)?;
    for (ending, text) in
        [("json", json::write(results)), ("md", markdown::write(results)), ("svg", chart::write(results))]
    {
        std::fs::write(folder.join(format!("{name}.{ending}")), text).during("writing the results")?;
    }
    println!("written: benches/results/{name}.json, {name}.md and {name}.svg");
    Ok(())
}
