//! The results as JSON: every reading of every round, also those that the tables leave out.

use serde_json::{Value, json};

use crate::results::{Results, Table};

pub(crate) fn write(results: &Results) -> String {
    let machine = &results.machine;
    let relays: Vec<_> =
        results.contenders.iter().map(|one| json!({ "name": one.name, "version": one.version })).collect();
    let scenarios: Vec<_> = results.tables.iter().map(|table| scenario(results, table)).collect();
    let all = json!({
        "date": machine.date,
        "commit": machine.commit,
        "machine": {
            "cpu": machine.cpu,
            "cores": machine.cores,
            "kernel": machine.kernel,
            "congestion_control": machine.congestion_control,
        },
        "rounds": results.rounds,
        "relays": relays,
        "scenarios": scenarios,
        "warnings": results.warnings,
    });
    format!("{all:#}\n")
}

fn scenario(results: &Results, table: &Table) -> Value {
    let figures = table.scenario.figures.iter().enumerate().map(|(column, figure)| {
        let relays = results.contenders.iter().zip(&table.rows).enumerate();
        let relays = relays.filter(|(_, (contender, _))| table.scenario.fits(contender));
        let relays: Vec<_> = relays
            .map(|(index, (contender, row))| {
                json!({
                    "name": contender.name,
                    "median": rounded(row.median(column)),
                    "spread": rounded(row.spread(column)),
                    "tproxy_to_this": rounded(table.ratio(&results.contenders, index, column)),
                    "rounds": row.values(column).into_iter().map(|value| rounded(Some(value))).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({
            "name": figure.name,
            "unit": figure.unit,
            "more_is_better": figure.more_is_better,
            "worst_difference_from_itself": rounded(results.noise(table, column)),
            "relays": relays,
        })
    });
    let cells = || results.contenders.iter().zip(&table.rows);
    let failures: serde_json::Map<_, _> =
        cells().filter_map(|(one, row)| Some((one.name.to_owned(), row.failure.clone()?.into()))).collect();
    let calls: serde_json::Map<_, _> = cells()
        .filter(|(_, row)| !row.calls.is_empty())
        .map(|(one, row)| {
            let calls = row.calls.iter().map(|(name, &count)| (name.clone(), rounded(Some(count))));
            (one.name.to_owned(), Value::Object(calls.collect()))
        })
        .collect();
    json!({
        "name": table.scenario.name,
        "title": table.scenario.title,
        "figures": figures.collect::<Vec<_>>(),
        "failures": failures,
        "calls": calls,
    })
}

/// Five digits: more than can be measured.
fn rounded(value: Option<f64>) -> Value {
    let Some(value) = value.filter(|value| value.is_finite()) else { return Value::Null };
    let short: f64 = format!("{value:.4e}").parse().unwrap_or(value);
    json!(short)
}
