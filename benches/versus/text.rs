//! The results as tables, to be read in a terminal, or on a page as they are.

use std::fmt::Write as _;

use crate::relays::{BASELINE, Contender};
use crate::results::{Results, Table};

/// What the columns mean, once.
const LEGEND: &str = "\
Medians. ± is (max − min) ÷ median of the rounds. × is tproxy ÷ this one, the median of the rounds' ratios: of a cost,
below 1 says that tproxy needs less; of a rate (/s), above 1 says that it is faster. CPU is the relay's own, all of its
processes. A/A: tproxy is measured twice, as if it were two relays, and differs from itself by so much in the worst
round; a ratio within that says nothing. direct: no relay, what the load itself costs.
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

/// Each program once.
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
    let mut text = format!("{}: {}\n{:<20}", scenario.name, scenario.title, "");
    scenario.figures.iter().for_each(|figure| text.push_str(&format!("{:>15}{:13}", figure.name, "")));
    text.truncate(text.trim_end().len());
    let _ = write!(text, "\n{:<20}", "");
    scenario.figures.iter().for_each(|figure| text.push_str(&format!("{:>15}     ±      ×", figure.unit)));
    text.push('\n');
    for (index, (contender, row)) in results.contenders.iter().zip(&table.rows).enumerate() {
        if !scenario.fits(contender) {
            continue;
        }
        let _ = write!(text, "{:<20}", contender.name);
        if let Some(why) = &row.failure {
            let _ = write!(text, "  failed: {why}");
            if row.rounds.iter().all(Option::is_none) {
                text.push('\n');
                continue;
            }
            let _ = write!(text, "\n{:<20}", "");
        }
        for column in 0..scenario.figures.len() {
            let value = row.median(column).map_or_else(|| "–".to_owned(), number);
            let spread = row.spread(column).map_or(String::new(), percent);
            let ratio = match table.ratio(&results.contenders, index, column) {
                Some(ratio) if contender.name != BASELINE => self::ratio(ratio),
                _ => String::new(),
            };
            let _ = write!(text, "{value:>15}{spread:>6}{ratio:>7}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let noises = results.noises(table);
    if !noises.is_empty() {
        let noise: Vec<_> = noises.iter().map(|(name, noise)| format!("{name} {:.0} %", noise * 100.0)).collect();
        let _ = writeln!(text, "A/A: {}", noise.join(", "));
    }
    if let Some((contender, row)) = results.contenders.iter().zip(&table.rows).find(|(_, row)| !row.calls.is_empty()) {
        let calls: Vec<_> = row.calls.iter().map(|(name, count)| format!("  {name} {}\n", number(*count))).collect();
        let _ = write!(text, "the calls of {}, for each\n{}", contender.name, calls.concat());
    }
    text
}

/// Three digits, or all before the point.
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

/// A spread, which has five places.
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
