//! The command line: `cargo bench --bench versus -- OPTIONS`.

use clap::Parser;

use crate::failure::{Outcome, failed};
use crate::scenarios::{SCENARIOS, Scenario};

/// Measures tproxy and the other relays installed on this machine, in turns, on the same work.
///
/// A full run takes about nine minutes and writes benches/results/latest.json, latest.md and latest.svg.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench versus --", max_term_width = 100, after_help = after_help())]
pub(crate) struct Options {
    /// One short round, to see whether everything works
    #[arg(long)]
    pub(crate) quick: bool,

    /// Only these scenarios. The first words of a name select several: bulk, bulk-64
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Only these relays. The first word of a name selects several: tproxy, haproxy. Ratios need tproxy
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) relay: Vec<String>,

    /// How often each relay is measured in each scenario
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// Write the results of a run that is not a full one, too
    #[arg(long)]
    pub(crate) save: bool,

    /// The name of the result files. Git ignores all but `latest`
    #[arg(long, value_name = "NAME", default_value = "latest")]
    pub(crate) name: String,

    /// cargo passes this to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn after_help() -> String {
    let names: Vec<_> = SCENARIOS.iter().map(|scenario| format!("  {:<14}{}", scenario.name, scenario.title)).collect();
    format!("Scenarios:\n{}", names.join("\n"))
}

impl Options {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// All scenarios and relays, in at least five rounds of full length.
    pub(crate) fn is_full(&self) -> bool {
        !self.quick && self.only.is_empty() && self.relay.is_empty() && self.rounds() >= 5
    }

    pub(crate) fn wants_relay(&self, name: &str) -> bool {
        self.relay.is_empty() || self.relay.iter().any(|wanted| begins_with(name, wanted, ' '))
    }

    pub(crate) fn scenarios(&self) -> Outcome<Vec<&'static Scenario>> {
        let fits = |wanted: &String, scenario: &Scenario| begins_with(scenario.name, wanted, '-');
        if let Some(unknown) = self.only.iter().find(|wanted| !SCENARIOS.iter().any(|scenario| fits(wanted, scenario)))
        {
            return failed(format!("there is no scenario {unknown:?}; --help lists them"));
        }
        let all = SCENARIOS.iter();
        Ok(all
            .filter(|scenario| self.only.is_empty() || self.only.iter().any(|wanted| fits(wanted, scenario)))
            .collect())
    }
}

/// Is `words` the whole name, or its first words?
fn begins_with(name: &str, words: &str, space: char) -> bool {
    name.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with(space))
}
