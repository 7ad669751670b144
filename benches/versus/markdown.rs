//! The results as two tables for a page: what the README shows is this file, as it is.

use std::fmt::Write as _;

use crate::results::{Results, Table};
use crate::text::number;

/// A scenario's column, and what it is called here.
type Column = (&'static str, usize, &'static str);

const BULK: &[Column] = &[
    ("bulk-1-down", 0, "1 flow down"),
    ("bulk-1-up", 0, "1 flow up"),
    ("bulk-64-down", 0, "64 down"),
    ("bulk-64-up", 0, "64 up"),
    ("mixed", 0, "64 B beside 8 bulk flows: p50, µs"),
    ("mixed", 1, "p99, µs"),
    ("mixed", 2, "bulk meanwhile, GiB/s"),
];

const SMALL: &[Column] = &[
    ("message-16k", 0, "16 KiB there and back, p50, µs"),
    ("message-64k", 0, "64 KiB, µs"),
    ("round-trips", 0, "64 B, CPU µs"),
    ("connections", 0, "a connection, CPU µs"),
    ("memory", 0, "an idle session, bytes"),
    ("calls", 0, "calls per 64 B there and back"),
    ("calls", 1, "per connection"),
    ("calls", 2, "per GiB"),
];

pub(crate) fn write(results: &Results) -> String {
    let tables = [("bulk: CPU s/GiB", BULK), ("messages, connections, idleness", SMALL)];
    let tables: Vec<_> = tables.into_iter().filter_map(|(title, columns)| table(results, title, columns)).collect();
    tables.join("\n")
}

/// Medians, and in the last row how far apart the two runs of tproxy are in the worst round.
fn table(results: &Results, title: &str, columns: &[Column]) -> Option<String> {
    let tables_found: Vec<_> = columns.iter().filter_map(|column| Some((column, find(results, column.0)?))).collect();
    if tables_found.is_empty() {
        return None;
    }
    let mut text = format!("| {title} |");
    tables_found.iter().for_each(|((_, _, title), _)| text.push_str(&format!(" {title} |")));
    let _ = write!(text, "\n|---|{}\n", "--:|".repeat(tables_found.len()));
    for (index, contender) in results.contenders.iter().enumerate() {
        let cells =
            tables_found.iter().map(|((_, column, _), table)| Some(number(table.rows.get(index)?.median(*column)?)));
        row(&mut text, contender.name, cells);
    }
    let noise = tables_found
        .iter()
        .map(|((_, column, _), table)| Some(format!("{:.0} %", results.noise(table, *column)? * 100.0)));
    row(&mut text, "the two of tproxy differ by up to", noise);
    Some(text)
}

fn row(text: &mut String, name: &str, cells: impl Iterator<Item = Option<String>>) {
    let cells: Vec<_> = cells.map(|cell| cell.unwrap_or_else(|| "–".to_owned())).collect();
    let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
}

fn find<'a>(results: &'a Results, name: &str) -> Option<&'a Table> {
    results.tables.iter().find(|table| table.scenario.name == name)
}
