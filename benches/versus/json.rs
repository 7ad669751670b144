//! The results as JSON: every reading of every round, so that others can make of them what they like.

use serde_json::{Value, json};

use crate::results::{Board, Results};

pub(crate) fn write(results: &Results) -> String {
    let machine = &results.machine;
    let relays: Vec<_> =
        results.contenders.iter().map(|one| json!({ "name": one.name, "version": one.version })).collect();
    let scenarios: Vec<_> = results.boards.iter().map(|board| scenario(results, board)).collect();
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

fn scenario(results: &Results, board: &Board) -> Value {
    let figures = board.scenario.figures.iter().enumerate().map(|(column, figure)| {
        let relays = results.contenders.iter().zip(&board.cells).enumerate();
        let relays = relays.filter(|(_, (contender, _))| board.scenario.fits(contender));
        let relays: Vec<_> = relays
            .map(|(index, (contender, cell))| {
                json!({
                    "name": contender.name,
                    "median": rounded(cell.median(column)),
                    "spread": rounded(cell.spread(column)),
                    "tproxy_to_this": rounded(board.ratio(&results.contenders, index, column)),
                    "rounds": cell.values(column).into_iter().map(|value| rounded(Some(value))).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({
            "name": figure.name,
            "unit": figure.unit,
            "more_is_better": figure.more_is_better,
            "worst_difference_from_itself": rounded(results.noise(board, column)),
            "relays": relays,
        })
    });
    let cells = || results.contenders.iter().zip(&board.cells);
    let failures: serde_json::Map<_, _> =
        cells().filter_map(|(one, cell)| Some((one.name.to_owned(), cell.failure.clone()?.into()))).collect();
    let calls: serde_json::Map<_, _> = cells()
        .filter(|(_, cell)| !cell.calls.is_empty())
        .map(|(one, cell)| {
            let calls = cell.calls.iter().map(|(name, &count)| (name.clone(), rounded(Some(count))));
            (one.name.to_owned(), Value::Object(calls.collect()))
        })
        .collect();
    json!({
        "name": board.scenario.name,
        "title": board.scenario.title,
        "figures": figures.collect::<Vec<_>>(),
        "failures": failures,
        "calls": calls,
    })
}

/// Five digits are more than anyone can measure.
fn rounded(value: Option<f64>) -> Value {
    let Some(value) = value.filter(|value| value.is_finite()) else { return Value::Null };
    let short: f64 = format!("{value:.4e}").parse().unwrap_or(value);
    json!(short)
}
