//! The results as bar charts, one for each figure, in a single SVG. It has a background of its own, so that it looks the
//! same on a light page and on a dark one.
//!
//! Bars begin at zero and are drawn to scale. A bar that would make the others too short to compare is cut, with a mark.
//! The value is printed beside every bar. A figure that is noise has no chart: see [`Results::is_noise`].

use std::fmt::Write as _;

use crate::relays::{BASELINE, Contender};
use crate::results::{Results, Table};
use crate::text::{number, versions};

/// Three panels side by side.
const PANELS: usize = 3;
const MARGIN: f64 = 24.0;
const PANEL_WIDTH: f64 = 374.0;
const WIDTH: f64 = 2.0 * MARGIN + PANELS as f64 * PANEL_WIDTH;
const ROW: f64 = 17.0;
/// Widths within a panel: the names, and the longest bar.
const NAMES: f64 = 160.0;
const BAR: f64 = 144.0;

/// A bar is cut beyond this many times the median of its panel.
const BAR_MAX_MEDIANS: f64 = 3.0;

struct Group {
    heading: &'static str,
    panels: &'static [Panel],
}

/// A scenario's figure, and its heading here.
struct Panel {
    scenario: &'static str,
    column: usize,
    title: &'static str,
}

const fn panel(scenario: &'static str, column: usize, title: &'static str) -> Panel {
    Panel { scenario, column, title }
}

const GROUPS: &[Group] = &[
    Group {
        heading: "Bulk: CPU seconds of the relay per GiB",
        panels: &[
            panel("bulk-1-down", 0, "1 flow, down"),
            panel("bulk-1-up", 0, "1 flow, up"),
            panel("bulk-1-both", 0, "1 flow each way"),
            panel("bulk-64-down", 0, "64 flows, down"),
            panel("bulk-64-up", 0, "64 flows, up"),
            panel("bulk-64-both", 0, "64 flows each way"),
        ],
    },
    Group {
        heading: "64 B messages at a fixed rate, beside 8 bulk flows",
        panels: &[
            panel("mixed", 0, "p50, µs"),
            panel("mixed", 1, "p99, µs"),
            panel("mixed", 2, "bulk meanwhile, GiB/s (more is better)"),
        ],
    },
    Group {
        heading: "Messages there and back on one connection",
        panels: &[
            panel("message-16k", 0, "16 KiB, p50, µs"),
            panel("message-64k", 0, "64 KiB, p50, µs"),
            panel("message-64k", 1, "64 KiB, p99, µs"),
        ],
    },
    Group {
        heading: "The cost of a message, a connection and a session",
        panels: &[
            panel("round-trips", 0, "CPU µs per 64 B round trip"),
            panel("connections", 0, "CPU µs per connection"),
            panel("memory", 0, "bytes of memory per idle session"),
        ],
    },
    Group {
        heading: "System calls",
        panels: &[
            panel("calls", 0, "per 64 B round trip"),
            panel("calls", 1, "per connection"),
            panel("calls", 2, "per GiB"),
        ],
    },
    Group {
        heading: "Start",
        panels: &[
            panel("start", 0, "exec to listening, ms"),
            panel("start", 1, "resident then, KiB"),
            panel("start", 2, "executable, KiB"),
        ],
    },
];

pub(crate) fn write(results: &Results) -> String {
    let mut body = String::new();
    let mut y = heading(results, &mut body);
    for group in GROUPS {
        let panels: Vec<_> = group
            .panels
            .iter()
            .filter_map(|panel| {
                Some((panel, results.tables.iter().find(|table| table.scenario.name == panel.scenario)?))
            })
            .filter(|(panel, table)| !results.is_noise(table, panel.column))
            .collect();
        if panels.is_empty() {
            continue;
        }
        text(&mut body, MARGIN, y, "h", group.heading);
        y += 22.0;
        for line in panels.chunks(PANELS) {
            let rows = line.iter().enumerate().map(|(place, (panel, table))| {
                draw(&mut body, results, table, panel, MARGIN + place as f64 * PANEL_WIDTH, y)
            });
            y += 20.0 + ROW * rows.max().unwrap_or(0) as f64 + 14.0;
        }
        y += 8.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" role=\"img\" \
         aria-label=\"tproxy beside other relays\">\n{STYLE}\
         <rect width=\"{WIDTH}\" height=\"{y}\" rx=\"10\" fill=\"#f6f7f8\" stroke=\"#d5d9de\"/>\n{body}</svg>\n"
    )
}

const STYLE: &str = "<style>\
    text{font:12px -apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#24292f}\
    .t{font-size:19px;font-weight:600}.h{font-size:15px;font-weight:600}.p{font-weight:600}.m{fill:#59636e}\
    .e{text-anchor:end}.b{font-weight:600;text-anchor:end}\
    </style>\n";

/// Title, machine, versions. Returns the y of the first group.
fn heading(results: &Results, body: &mut String) -> f64 {
    text(body, MARGIN, 36.0, "t", "tproxy beside other relays");
    let (machine, rounds) = (results.machine.line(), results.rounds);
    let setting = format!("{machine} · {rounds} rounds in turns, medians · relay and load on a core each");
    text(body, MARGIN, 58.0, "m", &setting);
    text(body, MARGIN, 75.0, "m", &versions(&results.contenders));
    text(
        body,
        MARGIN,
        92.0,
        "m",
        "Less is better, unless the heading says otherwise. The line spans all rounds. A bar with a slash is cut. \
         tproxy is measured twice.",
    );
    124.0
}

/// Draws one panel. Returns the number of its rows.
fn draw(body: &mut String, results: &Results, table: &Table, panel: &Panel, x: f64, y: f64) -> usize {
    text(body, x, y, "p", panel.title);
    let contenders = results.contenders.iter().zip(&table.rows);
    let rows: Vec<_> = contenders
        .filter(|(contender, _)| table.scenario.fits(contender))
        .map(|(contender, row)| (contender, row, row.median(panel.column)))
        .filter(|(_, row, value)| value.is_some() || row.failure.is_some())
        .collect();
    let mut values: Vec<f64> = rows.iter().filter_map(|(_, _, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    let most = values.last().copied().unwrap_or(1.0);
    let middle = values.get(values.len() / 2).copied().unwrap_or(1.0);
    let full = most.min(middle * BAR_MAX_MEDIANS).max(f64::MIN_POSITIVE);
    for (index, (contender, row, value)) in rows.iter().enumerate() {
        let base = y + 18.0 + ROW * index as f64;
        let style = if contender.name == BASELINE { "b" } else { "e" };
        text(body, x + NAMES - 8.0, base, style, contender.name);
        let Some(value) = value else {
            text(body, x + NAMES, base, "m", "failed");
            continue;
        };
        let (length, top) = ((value / full).min(1.0) * BAR, base - 10.5);
        let color = color(contender);
        let start = x + NAMES;
        let _ = writeln!(
            body,
            "<rect x=\"{start:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"13\" rx=\"1.5\" fill=\"{color}\"/>",
            length.max(1.0)
        );
        // A line from the smallest round to the largest.
        let rounds = row.values(panel.column);
        let end = |value: f64| start + (value / full).min(1.0) * BAR;
        if let (Some(least), Some(most)) =
            (rounds.iter().copied().reduce(f64::min), rounds.into_iter().reduce(f64::max))
            && most > least
        {
            let (from, to, middle) = (end(least), end(most), base - 4.0);
            let _ = writeln!(body, "<path d=\"M{from:.1} {middle:.1}H{to:.1}\" stroke=\"#24292f\" opacity=\".5\"/>");
        }
        if *value > full {
            let cut = start + BAR - 16.0;
            let _ = writeln!(body, "<path d=\"M{cut:.1} {:.1}l5 -17h4l-5 17z\" fill=\"#f6f7f8\"/>", base + 4.5);
        }
        let style = if contender.name == BASELINE { "p" } else { "" };
        let behind = start + length.max(1.0).max(end(row.values(panel.column).into_iter().fold(0.0, f64::max)) - start);
        text(body, behind + 5.0, base, style, &number(*value));
    }
    rows.len()
}

fn color(contender: &Contender) -> &'static str {
    match contender.name.split(' ').next() {
        _ if contender.name == BASELINE => "#d9480f",
        Some("tproxy") => "#f0a27a",
        Some("tokio") => "#4878a8",
        Some("direct") => "#cfd5db",
        _ => "#93a1ae",
    }
}

fn text(body: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{words}</text>");
}
