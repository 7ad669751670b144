//! The results as two tables in Markdown, for benches/README.md.

use std::fmt::Write as _;

use crate::results::{Results, Table};
use crate::text::number;

/// A scenario's figure, and its heading here.
type Column = (&'static str, usize, &'static str);

const BULK: &[Column] = &[
    ("bulk-1-down", 0, "1 flow down"),
    ("bulk-1-up", 0, "1 flow up"),
    ("bulk-64-down", 0, "64 down"),
    ("bulk-64-up", 0, "64 up"),
    ("mixed", 0, "64 B beside 8 bulk flows: p50, µs"),
    ("mixed", 1, "64 B beside 8 bulk flows: p99, µs"),
    ("mixed", 2, "bulk meanwhile, GiB/s"),
];

const SMALL: &[Column] = &[
    ("message-16k", 0, "16 KiB there and back, p50, µs"),
    ("message-64k", 0, "64 KiB there and back, p50, µs"),
    ("round-trips", 0, "64 B there and back, CPU µs"),
    ("connections", 0, "a connection, CPU µs"),
    ("memory", 0, "an idle session, bytes"),
    ("calls", 0, "calls per 64 B there and back"),
    ("calls", 1, "calls per connection"),
    ("calls", 2, "calls per GiB"),
];

pub(crate) fn write(results: &Results) -> String {
    let tables = [("bulk: CPU s/GiB", BULK), ("messages, connections, idle sessions", SMALL)];
    let tables: Vec<_> = tables.into_iter().filter_map(|(title, columns)| table(results, title, columns)).collect();
    tables.join("\n")
}

/// Medians. The last row is the noise. A sentence names the columns that are left out: see [`Results::is_noise`].
fn table(results: &Results, title: &str, columns: &[Column]) -> Option<String> {
    let measured = columns.iter().filter_map(|&(name, column, title)| {
        let table = results.tables.iter().find(|table| table.scenario.name == name)?;
        Some((table, column, title))
    });
    let (noise, columns): (Vec<_>, Vec<_>) = measured.partition(|&(table, column, _)| results.is_noise(table, column));
    if columns.is_empty() {
        return None;
    }
    let mut text = format!("| {title} |");
    columns.iter().for_each(|(_, _, title)| text.push_str(&format!(" {title} |")));
    let _ = write!(text, "\n|---|{}\n", "--:|".repeat(columns.len()));
    for (index, contender) in results.contenders.iter().enumerate() {
        let median = |&(table, column, _): &(&Table, usize, _)| Some(number(table.rows.get(index)?.median(column)?));
        row(&mut text, contender.name, columns.iter().map(median));
    }
    let percent = |&(table, column, _): &(&Table, usize, _)| percent(results, table, column);
    row(&mut text, "tproxy and tproxy (again) differ by up to", columns.iter().map(percent));
    if !noise.is_empty() {
        let names = noise.iter().map(|entry @ (_, _, title)| match percent(entry) {
            Some(noise) => format!("{title} ({noise})"),
            None => (*title).to_owned(),
        });
        let names: Vec<_> = names.collect();
        let _ = writeln!(text, "\nLeft out, because the noise is larger than the message: {}.", names.join("; "));
    }
    Some(text)
}

fn percent(results: &Results, table: &Table, column: usize) -> Option<String> {
    Some(format!("{:.0} %", results.noise(table, column)? * 100.0))
}

fn row(text: &mut String, name: &str, values: impl Iterator<Item = Option<String>>) {
    let values: Vec<_> = values.map(|value| value.unwrap_or_else(|| "–".to_owned())).collect();
    let _ = writeln!(text, "| {name} | {} |", values.join(" | "));
}
