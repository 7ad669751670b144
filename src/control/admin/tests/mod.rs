//! What is shown, compared as a whole: each number of a report is another.

mod connection;
mod view;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use tproxy::net::{Page, RouteRow, Row, Totals};
use tproxy::{Config, Relay, Report};

use super::view::Bytes;
use super::{json, metrics};

/// A row of a session and one of its route, as a relay gives them. Their numbers are to be replaced.
fn rows() -> (Row, RouteRow) {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let relay = Relay::bind(Config::new(any, [upstream.local_addr().unwrap()])).unwrap();
    let (control, address) = (relay.control(), relay.local_addr());
    let running = std::thread::spawn(move || relay.run());
    let client = TcpStream::connect(address).unwrap();
    let ask = |page| control.query(page).wait().unwrap();
    let session = || ask(Page::Sessions { from: 0, most: 1 }).rows.pop();
    let row = (0..100_000).find_map(|_| session()).expect("the client is accepted");
    let route = ask(Page::Routes { from: 0 }).route_rows.remove(0);
    // Or the drain would wait for its session.
    drop((client, upstream));
    control.stop();
    running.join().unwrap().unwrap();
    (row, route)
}

fn totals(first: u64) -> Totals {
    let mut totals = Totals::default();
    let fields = [
        &mut totals.sessions,
        &mut totals.denied,
        &mut totals.limited,
        &mut totals.up,
        &mut totals.down,
        &mut totals.undelivered_up,
        &mut totals.undelivered_down,
        &mut totals.cut_short,
        &mut totals.spliced,
        &mut totals.empty,
    ];
    fields.into_iter().zip(first..).for_each(|(field, number)| *field = number);
    totals
}

/// Three entries: a route that a reload has changed, its old entry, and another.
fn routes() -> Vec<RouteRow> {
    let (_, row) = rows();
    let mut endpoint = row.endpoints[0].clone();
    (endpoint.host, endpoint.address) = ("db:1".to_owned(), "10.0.0.1:1".parse().unwrap());
    (endpoint.is_down, endpoint.sessions) = (true, 61);
    let mut other = endpoint.clone();
    (other.address, other.is_down, other.sessions) = ("10.0.0.2:1".parse().unwrap(), false, 62);
    let (mut changed, mut old, mut another) = (row.clone(), row.clone(), row);
    (changed.name, changed.listening, changed.is_listed) = ("a".into(), Some("[::1]:80".parse().unwrap()), true);
    (changed.sessions, changed.totals) = (3, totals(100));
    (changed.ends, changed.endpoints) = (vec![("client-eof", 4), ("refused", 5)], vec![endpoint.clone(), other]);
    (old.name, old.listening, old.is_listed) = ("a".into(), None, false);
    (old.sessions, old.totals, old.ends, old.endpoints) = (6, totals(1000), vec![("client-eof", 7)], vec![endpoint]);
    (another.name, another.listening, another.is_listed) = ("\"b\"".into(), None, true);
    (another.sessions, another.totals) = (8, totals(200));
    (another.ends, another.endpoints) = (vec![("drain", 9)], Vec::new());
    vec![changed, old, another]
}

fn report() -> Report {
    let mut report = Report::default();
    (report.totals, report.sessions, report.routes, report.listeners) = (totals(300), 17, 32, 33);
    (report.is_stopping, report.leases, report.pipes) = (true, 34, 35);
    (report.accept_pauses, report.lookups_failed) = (36, 37);
    let times = [&mut report.connect_times, &mut report.session_times, &mut report.turn_times];
    for (times, millis) in times.into_iter().zip([[1, 10_000], [20, 20], [0, 3_000_000]]) {
        millis.into_iter().for_each(|millis| times.add(Duration::from_millis(millis)));
    }
    report
}

#[test]
fn the_text_for_prometheus_is_this_from_the_first_line_to_the_last() {
    let bytes = Bytes::from([("a".into(), [51, 52]), ("\"b\"".into(), [53, 54])]);
    let text = metrics::text(&report(), &routes(), &bytes, 38);
    assert_eq!(text, include_str!("metrics.txt"), "{text}");
}

#[test]
fn the_routes_are_this_object() {
    let expected = concat!(
        r#"{"denied":301,"down":304,"limited":302,"live":17,"routes":["#,
        r#"{"down":104,"endpoints":[{"address":"10.0.0.1:1","down":true,"host":"db:1","live":61},"#,
        r#"{"address":"10.0.0.2:1","down":false,"host":"db:1","live":62}],"ends":{"client-eof":4,"refused":5},"#,
        r#""listed":true,"listening":"[::1]:80","live":3,"route":"a","sessions":100,"undelivered_down":106,"#,
        r#""undelivered_up":105,"up":103},"#,
        r#"{"down":1004,"endpoints":[{"address":"10.0.0.1:1","down":true,"host":"db:1","live":61}],"#,
        r#""ends":{"client-eof":7},"listed":false,"listening":null,"live":6,"route":"a","sessions":1000,"#,
        r#""undelivered_down":1006,"undelivered_up":1005,"up":1003},"#,
        r#"{"down":204,"endpoints":[],"ends":{"drain":9},"listed":true,"listening":null,"live":8,"route":"\"b\"","#,
        r#""sessions":200,"undelivered_down":206,"undelivered_up":205,"up":203}],"#,
        r#""sessions":300,"stopping":true,"up":303}"#,
    );
    assert_eq!(json::routes(&report(), &routes()), expected);
}

#[test]
fn the_sessions_are_this_object() {
    let (row, _) = rows();
    let mut one = row;
    (one.route, one.client) = ("a\"".into(), SocketAddr::from(([10, 0, 0, 9], 5)).into());
    (one.upstream, one.stage) = (Some("unix:/run/<b>".parse().unwrap()), tproxy::net::Stage::Ending);
    (one.age, one.idle, one.up, one.down) = (Duration::from_millis(2500), Duration::from_micros(1250), 8, 9);
    let mut other = one.clone();
    (other.upstream, other.stage) = (None, tproxy::net::Stage::Name);
    let mut report = report();
    (report.rows, report.next) = (vec![one, other], Some(700));
    let expected = concat!(
        r#"{"live":17,"next":700,"sessions":["#,
        r#"{"age":2.5,"client":"10.0.0.9:5","down":9,"idle":0.00125,"route":"a\"","stage":"ending","#,
        r#""up":8,"upstream":"unix:/run/<b>"},"#,
        r#"{"age":2.5,"client":"10.0.0.9:5","down":9,"idle":0.00125,"route":"a\"","stage":"name","up":8,"upstream":null}]}"#,
    );
    assert_eq!(json::sessions(&report), expected);
}
