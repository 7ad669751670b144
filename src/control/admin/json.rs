//! `/sessions` and `/routes`: objects with the log's field names, times in seconds.

use serde_json::{Map, Value, json};
use tproxy::Report;
use tproxy::net::{Address, RouteRow, Row};

/// A page of sessions, and where the next begins.
pub(super) fn sessions(report: &Report) -> String {
    let rows: Vec<_> = report.rows.iter().map(session).collect();
    json!({ "live": report.sessions, "sessions": rows, "next": report.next }).to_string()
}

fn session(row: &Row) -> Value {
    json!({
        "route": *row.route,
        "client": row.client.to_string(),
        "upstream": row.upstream.as_ref().map(Address::to_string),
        "stage": row.stage.word(),
        "age": row.age.as_secs_f64(),
        "idle": row.idle.as_secs_f64(),
        "up": row.up,
        "down": row.down,
    })
}

/// All routes, and the numbers of the process.
pub(super) fn routes(report: &Report, rows: &[RouteRow]) -> String {
    let routes: Vec<_> = rows.iter().map(route).collect();
    let totals = &report.totals;
    json!({
        "live": report.sessions,
        "stopping": report.is_stopping,
        "sessions": totals.sessions,
        "up": totals.up,
        "down": totals.down,
        "denied": totals.denied,
        "limited": totals.limited,
        "routes": routes,
    })
    .to_string()
}

fn route(row: &RouteRow) -> Value {
    let endpoint = |endpoint: &tproxy::net::EndpointRow| {
        json!({
            "host": endpoint.host,
            "address": endpoint.address.to_string(),
            "down": endpoint.is_down,
            "live": endpoint.sessions,
        })
    };
    let ends: Map<String, Value> = row.ends.iter().map(|(word, count)| ((*word).to_owned(), (*count).into())).collect();
    json!({
        "route": *row.name,
        "listening": row.listening.as_ref().map(Address::to_string),
        "listed": row.is_listed,
        "live": row.sessions,
        "sessions": row.totals.sessions,
        "up": row.totals.up,
        "down": row.totals.down,
        "undelivered_up": row.totals.undelivered_up,
        "undelivered_down": row.totals.undelivered_down,
        "ends": ends,
        "endpoints": row.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}
