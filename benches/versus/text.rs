//! The results as tables of plain text, for a terminal.

use std::fmt::Write as _;

use crate::relays::{BASELINE, Contender};
use crate::results::{Results, Row, Table};
use crate::scenarios::Scenario;

/// What the columns mean, printed once.
const LEGEND: &str = "\
Medians. ± is (max − min) ÷ median of the rounds. × is tproxy ÷ this relay, the median of the rounds' ratios: below 1 in
a cost means that tproxy needs less; above 1 in a rate (/s) means that tproxy is faster. CPU is that of all processes of
the relay. A/A: tproxy is measured twice, as if it were two relays. This is how much the two differ in the worst round; a
ratio closer to 1 than that means nothing. A column is left out if A/A is larger than what the other relays differ from
tproxy, the median of them. direct: no relay, the cost of the load itself.
";

pub(crate) fn write(results: &Results) -> String {
    let mut text = heading(results);
    text.push('\n');
    text.push_str(LEGEND);
    for table in &results.tables {
        text.push('\n');
        text.push_str(&scenario(results, table));
    }
    for warning in &results.warnings {
        let _ = writeln!(text, "\nwarning: {warning}");
    }
    text
}

/// Date, machine and versions.
pub(crate) fn heading(results: &Results) -> String {
    let (machine, versions) = (results.machine.line(), versions(&results.contenders));
    format!("{machine} · rounds: {}\n{versions}\n", results.rounds)
}

/// The version of each program.
pub(crate) fn versions(contenders: &[Contender]) -> String {
    let mut versions: Vec<String> = Vec::new();
    for contender in contenders.iter().filter(|contender| !contender.version.is_empty()) {
        let program = contender.name.split(' ').next().unwrap_or_default();
        let version = format!("{program} {}", contender.version);
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions.join(", ")
}

fn scenario(results: &Results, table: &Table) -> String {
    let scenario = table.scenario;
    let (noise, columns): (Vec<_>, Vec<_>) =
        (0..scenario.figures.len()).partition(|&column| results.is_noise(table, column));
    let mut text = format!("{}: {}\n", scenario.name, scenario.title);
    if !columns.is_empty() {
        text.push_str(&headings(scenario, &columns));
    }
    for (index, (contender, row)) in results.contenders.iter().zip(&table.rows).enumerate() {
        let is_empty = columns.is_empty() && row.failure.is_none();
        if is_empty || !scenario.fits(contender) {
            continue;
        }
        let _ = write!(text, "{:<27}", contender.name);
        if let Some(why) = &row.failure {
            let _ = write!(text, "  failed: {why}");
            if row.rounds.iter().all(Option::is_none) {
                text.push('\n');
                continue;
            }
            let _ = write!(text, "\n{:<27}", "");
        }
        for &column in &columns {
            let ratio = table.ratio(&results.contenders, index, column).filter(|_| contender.name != BASELINE);
            text.push_str(&readings(row, column, ratio));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let noises = results.noises(table);
    let with_noise = |columns: &[usize]| {
        let names = noises.iter().enumerate().filter(|(column, _)| columns.contains(column));
        let names: Vec<_> = names.map(|(_, (name, noise))| format!("{name} {:.0} %", noise * 100.0)).collect();
        names.join(", ")
    };
    if !noises.is_empty() && !columns.is_empty() {
        let _ = writeln!(text, "A/A: {}", with_noise(&columns));
    }
    if !noise.is_empty() {
        let _ = writeln!(text, "left out: {}", with_noise(&noise));
    }
    if let Some((contender, row)) = results.contenders.iter().zip(&table.rows).find(|(_, row)| !row.calls.is_empty()) {
        let calls: Vec<_> = row.calls.iter().map(|(name, count)| format!("  {name} {}\n", number(*count))).collect();
        let _ = write!(text, "the calls of {}, for each\n{}", contender.name, calls.concat());
    }
    text
}

/// Two lines: names and units.
fn headings(scenario: &Scenario, columns: &[usize]) -> String {
    let figures: Vec<_> = columns.iter().filter_map(|&column| scenario.figures.get(column)).collect();
    let names: String = figures.iter().map(|figure| format!("{:>15}{:13}", figure.name, "")).collect();
    let units: String = figures.iter().map(|figure| format!("{:>15}     ±      ×", figure.unit)).collect();
    format!("{:20}{}\n{:20}{units}\n", "", names.trim_end(), "")
}

/// Median, spread and ratio of one relay.
fn readings(row: &Row, column: usize, ratio: Option<f64>) -> String {
    let value = row.median(column).map_or_else(|| "–".to_owned(), number);
    let spread = row.spread(column).map_or(String::new(), percent);
    let ratio = ratio.map_or(String::new(), self::ratio);
    format!("{value:>15}{spread:>6}{ratio:>7}")
}

/// Three digits, or all those before the point.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => thousands(value),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.01 || size == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A spread, in at most five characters.
fn percent(value: f64) -> String {
    if value < 10.0 { format!("{:.0}%", value * 100.0) } else { ">999%".to_owned() }
}

fn ratio(value: f64) -> String {
    match value {
        value if value >= 10.0 => format!("{value:.0}"),
        value if value >= 0.1 => format!("{value:.2}"),
        value if value >= 0.001 => format!("{value:.3}"),
        value => format!("{value:.0e}"),
    }
}
