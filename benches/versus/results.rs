//! Readings of all rounds, and what follows from them: medians, ratios, noise.
//!
//! A column is left out of the tables and the chart if its noise is larger than its message. The **noise** is how much
//! tproxy differs from itself in the worst round. The **message** is how much the other relays differ from tproxy, the
//! median of them. Then half of the relays, or more, cannot be told from tproxy. The JSON has every column.

use crate::failure::{Failure, Outcome};
use crate::machine::Machine;
use crate::relays::{BASELINE, BASELINE_AGAIN, Contender};
use crate::scenarios::{Readings, Scenario};
use crate::strace::Calls;

/// With more noise than this, a warning says that ratios are worth little.
const NOISE_MAX: f64 = 0.10;

/// The results of a bench.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) rounds: u32,
    pub(crate) tables: Vec<Table>,
    pub(crate) warnings: Vec<String>,
}

/// The results of a scenario: a column for each figure.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) scenario: &'static Scenario,
    /// One for each contender, in their order.
    pub(crate) rows: Vec<Row>,
}

/// The results of a contender in a scenario. A round that failed has no readings.
#[derive(Debug, Default, Clone)]
pub(crate) struct Row {
    pub(crate) rounds: Vec<Option<Readings>>,
    pub(crate) failure: Option<String>,
    pub(crate) calls: Calls,
}

impl Row {
    pub(crate) fn add(&mut self, outcome: Outcome<(Readings, Calls)>) {
        match outcome {
            Ok((readings, calls)) => {
                self.rounds.push(Some(readings));
                self.calls = calls;
            }
            Err(Failure(why)) => {
                self.rounds.push(None);
                self.failure = Some(why);
            }
        }
    }

    fn reading(&self, round: usize, column: usize) -> Option<f64> {
        *self.rounds.get(round)?.as_ref()?.get(column)?
    }

    pub(crate) fn values(&self, column: usize) -> Vec<f64> {
        (0..self.rounds.len()).filter_map(|round| self.reading(round, column)).collect()
    }

    pub(crate) fn median(&self, column: usize) -> Option<f64> {
        median(self.values(column))
    }

    /// The largest value minus the smallest, as a fraction of the median.
    pub(crate) fn spread(&self, column: usize) -> Option<f64> {
        let values = self.values(column);
        let (least, most) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
        (values.len() > 1).then_some(())?;
        Some((most - least) / median(values)?)
    }
}

impl Table {
    /// tproxy ÷ this one, the median of the rounds' ratios. A disturbance of a round affects both alike.
    pub(crate) fn ratio(&self, contenders: &[Contender], of: usize, column: usize) -> Option<f64> {
        median(self.ratios(contenders, of, column)?)
    }

    fn ratios(&self, contenders: &[Contender], of: usize, column: usize) -> Option<Vec<f64>> {
        let baseline = contenders.iter().position(|contender| contender.name == BASELINE)?;
        let (baseline, row) = (self.rows.get(baseline)?, self.rows.get(of)?);
        let ratio = |round| Some((baseline.reading(round, column)?, row.reading(round, column)?));
        let pairs = (0..baseline.rounds.len()).filter_map(ratio).filter(|&(one, other)| one > 0.0 && other > 0.0);
        Some(pairs.map(|(one, other)| one / other).collect())
    }
}

impl Results {
    /// How much tproxy differs from itself in the worst round, as a fraction of the smaller value.
    pub(crate) fn noise(&self, table: &Table, column: usize) -> Option<f64> {
        let again = self.contenders.iter().position(|contender| contender.name == BASELINE_AGAIN)?;
        let ratios = table.ratios(&self.contenders, again, column)?;
        ratios.into_iter().map(|ratio| ratio.max(1.0 / ratio) - 1.0).reduce(f64::max)
    }

    /// How much the other relays differ from tproxy, the median of them, as a fraction of the smaller value.
    fn message(&self, table: &Table, column: usize) -> Option<f64> {
        let others = self.contenders.iter().enumerate().filter(|(_, contender)| contender.is_other_relay());
        let ratios = others.filter_map(|(index, _)| table.ratio(&self.contenders, index, column));
        median(ratios.map(|ratio| ratio.max(1.0 / ratio) - 1.0).collect())
    }

    /// Is the noise of this column larger than its message? Then tables and chart leave it out.
    pub(crate) fn is_noise(&self, table: &Table, column: usize) -> bool {
        match (self.noise(table, column), self.message(table, column)) {
            (Some(noise), Some(message)) => noise > message,
            // Without a second run of tproxy or without another relay, there is nothing to compare.
            (None, _) | (_, None) => false,
        }
    }

    /// The noise of every figure of the table.
    pub(crate) fn noises(&self, table: &Table) -> Vec<(String, f64)> {
        let figures = table.scenario.figures.iter().enumerate();
        let noises = figures.filter_map(|(column, figure)| {
            Some((format!("{} {}", figure.name, figure.unit), self.noise(table, column)?))
        });
        noises.collect()
    }

    /// Adds a warning for the figures whose ratios are worth little.
    pub(crate) fn warn_of_noise(&mut self) {
        let mut noisy = Vec::new();
        for table in &self.tables {
            let figures = self.noises(table).into_iter().filter(|&(_, noise)| noise > NOISE_MAX);
            noisy.extend(
                figures.map(|(figure, noise)| format!("{} {figure} {:.0} %", table.scenario.name, noise * 100.0)),
            );
        }
        if !noisy.is_empty() {
            let noisy = noisy.join(", ");
            self.warnings.push(format!("tproxy differs from itself by more than 10 % in some round (A/A): {noisy}"));
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}
