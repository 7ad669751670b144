//! What came out: readings, and what is made of them.

use crate::failure::{Failure, Outcome};
use crate::machine::Machine;
use crate::relays::{AGAIN, BASELINE, Contender};
use crate::scenarios::{Readings, Scenario};
use crate::strace::Calls;

/// Beyond this, two measurements of the same program differ more than is good for any ratio.
const NOISE_MAX: f64 = 0.10;

/// Everything that is known when the run is over.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) rounds: u32,
    pub(crate) boards: Vec<Board>,
    pub(crate) warnings: Vec<String>,
}

/// A scenario's.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) scenario: &'static Scenario,
    /// For each contender.
    pub(crate) cells: Vec<Cell>,
}

/// A contender's in a scenario. A round that was not played has no readings.
#[derive(Debug, Default, Clone)]
pub(crate) struct Cell {
    pub(crate) rounds: Vec<Option<Readings>>,
    pub(crate) failure: Option<String>,
    pub(crate) calls: Calls,
}

impl Cell {
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

    /// From the smallest to the largest, in parts of the median.
    pub(crate) fn spread(&self, column: usize) -> Option<f64> {
        let values = self.values(column);
        let (least, most) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
        (values.len() > 1).then_some(())?;
        Some((most - least) / median(values)?)
    }
}

impl Board {
    /// tproxy to this one: the median of the rounds' ratios, for what disturbs a round disturbs both of them.
    pub(crate) fn ratio(&self, contenders: &[Contender], of: usize, column: usize) -> Option<f64> {
        median(self.ratios(contenders, of, column)?)
    }

    fn ratios(&self, contenders: &[Contender], of: usize, column: usize) -> Option<Vec<f64>> {
        let baseline = contenders.iter().position(|contender| contender.name == BASELINE)?;
        let (baseline, cell) = (self.cells.get(baseline)?, self.cells.get(of)?);
        let ratio = |round| Some((baseline.reading(round, column)?, cell.reading(round, column)?));
        let pairs = (0..baseline.rounds.len()).filter_map(ratio).filter(|&(one, other)| one > 0.0 && other > 0.0);
        Some(pairs.map(|(one, other)| one / other).collect())
    }
}

impl Results {
    /// What the same program differs from itself in the worst round, in parts of the smaller.
    pub(crate) fn noise(&self, board: &Board, column: usize) -> Option<f64> {
        let again = self.contenders.iter().position(|contender| contender.name == AGAIN)?;
        let ratios = board.ratios(&self.contenders, again, column)?;
        ratios.into_iter().map(|ratio| ratio.max(1.0 / ratio) - 1.0).reduce(f64::max)
    }

    /// That of every figure of the board.
    pub(crate) fn noises(&self, board: &Board) -> Vec<(String, f64)> {
        let figures = board.scenario.figures.iter().enumerate();
        let noises = figures.filter_map(|(column, figure)| {
            Some((format!("{} {}", figure.name, figure.unit), self.noise(board, column)?))
        });
        noises.collect()
    }

    /// Says where the ratios are worth little.
    pub(crate) fn warn_of_noise(&mut self) {
        let mut noisy = Vec::new();
        for board in &self.boards {
            let figures = self.noises(board).into_iter().filter(|&(_, noise)| noise > NOISE_MAX);
            noisy.extend(
                figures.map(|(figure, noise)| format!("{} {figure} {:.0} %", board.scenario.name, noise * 100.0)),
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
