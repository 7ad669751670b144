//! `/metrics`: the text format of Prometheus. Routes and upstream addresses are labels, clients are not.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use tproxy::Report;
use tproxy::net::{EndpointRow, Histogram, RouteRow};

use super::view::Bytes;

/// What the routes of one name have together.
#[derive(Debug, Default)]
struct Sum<'a> {
    sessions: u64,
    undelivered: [u64; 2],
    ends: BTreeMap<&'a str, u64>,
}

/// All of it.
pub(super) fn text(report: &Report, rows: &[RouteRow], bytes: &Bytes, dropped: u64) -> String {
    let mut routes: BTreeMap<&str, Sum<'_>> = BTreeMap::new();
    let mut endpoints: BTreeMap<String, &EndpointRow> = BTreeMap::new();
    for row in rows {
        let sum = routes.entry(&row.name).or_default();
        sum.sessions += u64::from(row.sessions);
        sum.undelivered[0] += row.totals.undelivered_up;
        sum.undelivered[1] += row.totals.undelivered_down;
        row.ends.iter().for_each(|(word, count)| *sum.ends.entry(word).or_default() += count);
        endpoints.extend(row.endpoints.iter().map(|endpoint| (endpoint.address.to_string(), endpoint)));
    }
    let mut page = Text(String::new());
    page.family("tproxy_sessions", "gauge", "Sessions that live.");
    routes.iter().for_each(|(name, sum)| page.sample("tproxy_sessions", &[("route", name)], sum.sessions));
    page.family(
        "tproxy_sessions_total",
        "counter",
        "Sessions that have ended, and clients that were refused, by cause.",
    );
    for (name, sum) in &routes {
        for (end, count) in &sum.ends {
            page.sample("tproxy_sessions_total", &[("route", name), ("end", end)], count);
        }
    }
    page.family("tproxy_bytes_total", "counter", "Bytes relayed, without headers.");
    bytes.iter().for_each(|(name, bytes)| page.directions("tproxy_bytes_total", name, *bytes));
    page.family(
        "tproxy_undelivered_bytes_total",
        "counter",
        "Bytes that were not acknowledged when a connection was reset.",
    );
    for (name, sum) in &routes {
        page.directions("tproxy_undelivered_bytes_total", name, sum.undelivered);
    }
    page.family("tproxy_endpoint_up", "gauge", "1: the upstream address is tried as usual. 0: others come first.");
    endpoints
        .iter()
        .for_each(|(address, it)| page.sample("tproxy_endpoint_up", &[("address", address)], u8::from(!it.is_down)));
    page.family(
        "tproxy_endpoint_sessions",
        "gauge",
        "Sessions connected to the upstream address, or that tried it last.",
    );
    endpoints
        .iter()
        .for_each(|(address, it)| page.sample("tproxy_endpoint_sessions", &[("address", address)], it.sessions));
    let totals = &report.totals;
    for (name, kind, help, value) in [
        ("tproxy_denied_total", "counter", "Clients that were denied.", totals.denied),
        ("tproxy_limited_total", "counter", "Clients that were over a limit.", totals.limited),
        ("tproxy_cut_short_total", "counter", "Sessions that were reset by the drain deadline.", totals.cut_short),
        ("tproxy_spliced_bytes_total", "counter", "Bytes that went through a pipe.", totals.spliced),
        (
            "tproxy_accept_pauses_total",
            "counter",
            "How often accept paused because something was short.",
            report.accept_pauses,
        ),
        ("tproxy_lookup_failures_total", "counter", "Lookups of names that failed.", report.lookups_failed),
        ("tproxy_log_lines_dropped_total", "counter", "Log lines that stderr did not take.", dropped),
        ("tproxy_listeners", "gauge", "Open listeners.", report.listeners as u64),
        ("tproxy_leases", "gauge", "Buffers and pipes that hold bytes.", report.leases as u64),
        ("tproxy_pipes", "gauge", "Open pipes.", report.pipes as u64),
        ("tproxy_stopping", "gauge", "1: it was asked to stop.", u64::from(report.is_stopping)),
    ] {
        page.family(name, kind, help);
        page.sample(name, &[], value);
    }
    page.histogram("tproxy_connect_seconds", "From accept until the upstream was connected.", &report.connect_times);
    page.histogram("tproxy_session_seconds", "From accept to the end.", &report.session_times);
    page.histogram("tproxy_turn_seconds", "Work of the loop between two waits, one turn in eight.", &report.turn_times);
    page.0
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn directions(&mut self, name: &str, route: &str, [up, down]: [u64; 2]) {
        self.sample(name, &[("route", route), ("direction", "up")], up);
        self.sample(name, &[("route", route), ("direction", "down")], down);
    }

    fn histogram(&mut self, name: &str, help: &str, times: &Histogram) {
        self.family(name, "histogram", help);
        let mut all = 0;
        for (longest, count) in times.up_to() {
            let longest = longest.map_or_else(|| "+Inf".to_owned(), |longest| longest.as_secs_f64().to_string());
            self.sample(&format!("{name}_bucket"), &[("le", &longest)], count);
            all = count;
        }
        self.sample(&format!("{name}_sum"), &[], times.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), &[], all);
    }
}

/// As a label's value is written.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_label_may_have_any_character() {
        let mut page = Text(String::new());
        page.sample("a", &[("b", "c\"d\\e\nf"), ("g", "h")], 1);
        assert_eq!(page.0, "a{b=\"c\\\"d\\\\e\\nf\",g=\"h\"} 1\n");
    }

    #[test]
    fn the_sum_of_a_histogram_has_fractions_of_a_second() {
        let (mut page, mut times) = (Text(String::new()), Histogram::default());
        [250, 1500].into_iter().for_each(|millis| times.add(Duration::from_millis(millis)));
        page.histogram("t", "Times.", &times);
        assert!(page.0.starts_with("# HELP t Times.\n# TYPE t histogram\nt_bucket{le=\"0.000004\"} 0\n"), "{}", page.0);
        assert!(page.0.ends_with("t_bucket{le=\"+Inf\"} 2\nt_sum 1.75\nt_count 2\n"), "{}", page.0);
    }
}
