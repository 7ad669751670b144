//! tproxy beside other relays: the same work, in turns, in the same minutes, and who costs what.
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
//! A round plays every scenario with every relay, one after the other, forwards in one round and backwards in the next,
//! so that whatever else the machine does meets all of them. The main figure is the CPU time of the relay for a unit of
//! work ([`account`]): rates on a machine that others use mean little. tproxy runs twice, the second time as a
//! stranger, and what it differs from itself by is what no ratio can be trusted with. A relay that loses or adds a
//! byte, closes a connection or stalls has failed, in that scenario, and the table says how.
//!
//! A full run writes `latest.json`, `latest.md` and `latest.svg` to `benches/results/`. No service of the machine is touched: every
//! relay is a process of our own with a configuration of our own ([`relays`]), and ends with us ([`process`]).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks to a person")]
#![allow(clippy::cast_precision_loss, reason = "nothing here is measured to 52 bits")]

mod account;
mod bulk;
mod clock;
mod connections;
mod failure;
mod json;
mod machine;
mod markdown;
mod messages;
mod options;
mod picture;
mod process;
mod progress;
mod relays;
mod results;
mod scenarios;
mod sessions;
mod stage;
mod strace;
mod table;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use failure::{During as _, Failure, Outcome, failed};
use machine::{Cores, Machine};
use options::Options;
use progress::Progress;
use relays::Contender;
use results::{Board, Cell, Results};
use scenarios::Scenario;
use stage::House;

/// Descriptors of this process for a session, client and upstream, as of a relay; some are for other things.
const DESCRIPTORS: u64 = 2;
const OTHERS: u64 = 200;

/// The part of its time that the load may have to wait for its core.
const WAITED_MAX: f64 = 0.02;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let ended = match words.next() {
        // `cargo test --benches` comes without a word; `cargo bench` says --bench.
        None => {
            println!("cargo bench --bench versus runs this");
            Ok(())
        }
        Some(word) if word == process::BECOME => process::become_relay(words),
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
    clock::listen_for_a_stop()?;
    let descriptors = machine::raise_descriptor_limit();
    // What is built is built on all cores.
    let (contenders, mut warnings) = relays::find(|name| options.wants_relay(name));
    if contenders.is_empty() {
        return failed("none of these relays is here");
    }
    let (machine, cores) = (Machine::look(), Cores::choose()?);
    machine::pin(cores.load).during("moving to a core")?;
    warnings.extend(machine.warnings(cores));
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));

    let sessions_max = usize::try_from(descriptors.saturating_sub(OTHERS) / DESCRIPTORS).unwrap_or(usize::MAX);
    let house = House { cores, is_quick: options.quick, strace: relays::strace(), sessions_max };
    let (begin, waited) = (clock::now(), account::waited());
    let boards = play(&house, &scenarios, &contenders, options.rounds())?;
    let waited = (account::waited() - waited).div_duration_f64(clock::now() - begin);
    if waited > WAITED_MAX {
        let percent = waited * 100.0;
        warnings
            .push(format!("the load waited {percent:.0} % of the time for its core: rates and latencies are others'"));
    }
    let mut results = Results { machine, contenders, rounds: options.rounds(), boards, warnings };
    results.warn_of_noise();
    println!("{}", table::write(&results));
    if options.is_full() || options.save {
        save(&results, &options.name)?;
    }
    Ok(())
}

/// All rounds.
fn play(house: &House, scenarios: &[&'static Scenario], contenders: &[Contender], rounds: u32) -> Outcome<Vec<Board>> {
    let mut boards: Vec<_> =
        scenarios.iter().map(|scenario| Board { scenario, cells: vec![Cell::default(); contenders.len()] }).collect();
    let plays = |scenario: &Scenario, round| round == 0 || !scenario.is_once();
    let runs = (0..rounds).flat_map(|round| scenarios.iter().filter(move |scenario| plays(scenario, round)));
    let runs = runs.map(|scenario| contenders.iter().filter(|contender| scenario.fits(contender)).count());
    let mut progress = Progress::of(runs.sum());
    for round in 0..rounds {
        for board in boards.iter_mut().filter(|board| plays(board.scenario, round)) {
            let part = format!("round {} of {rounds} · {}", round + 1, board.scenario.name);
            let mut order: Vec<_> = contenders.iter().zip(&mut board.cells).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for (contender, cell) in order.into_iter().filter(|(contender, _)| board.scenario.fits(contender)) {
                progress.begin(&part, contender.name);
                // Who has failed would again, and take its time.
                if cell.failure.is_none() {
                    cell.add(house.run(board.scenario, contender));
                }
                if clock::is_stopped() {
                    progress.say("interrupted");
                    return failed("nothing was written");
                }
                if let Some(why) = cell.failure.as_ref().filter(|_| cell.rounds.len() == round as usize + 1) {
                    progress.say(&format!("{}, {}: {why}", board.scenario.name, contender.name));
                }
            }
        }
    }
    progress.end();
    Ok(boards)
}

fn save(results: &Results, name: &str) -> Outcome<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    std::fs::create_dir_all(&folder)?;
    for (ending, text) in
        [("json", json::write(results)), ("md", markdown::write(results)), ("svg", picture::write(results))]
    {
        std::fs::write(folder.join(format!("{name}.{ending}")), text).during("writing the results")?;
    }
    println!("written: benches/results/{name}.json, {name}.md and {name}.svg");
    Ok(())
}
