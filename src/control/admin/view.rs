//! What is shown where: asks the loop, and makes an answer of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tproxy::net::{Page, Pending, ROWS_MAX, RouteRow};
use tproxy::{Control, Report};

use super::http::{Answer, Request};
use super::role::Role;
use super::{json, metrics};
use crate::logging::LogQueue;

/// How long the loop may take to answer. One that stands still is waited for once.
const PATIENCE: Duration = Duration::from_secs(1);
const IMPATIENCE: Duration = Duration::from_millis(10);

/// The page for people, and what it may do: run its own script and style, and ask for the numbers.
const PAGE: &str = include_str!("page.html");
const PAGE_POLICY: &str = include_str!("page.policy");

/// Bytes up and down of each route, those of sessions that live included.
pub(super) type Bytes = BTreeMap<Arc<str>, [u64; 2]>;

/// What the thread sees of the relay.
pub(super) struct View {
    control: Control,
    log: LogQueue,
    /// A question that the loop has not answered in time. There is never another beside it.
    open: Option<Pending<Report>>,
    /// The bytes that were said last.
    pub(super) bytes: Bytes,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

impl View {
    pub(super) fn new(control: Control, log: LogQueue) -> Self {
        Self { control, log, open: None, bytes: Bytes::new() }
    }

    /// The answer to a request that came in there.
    pub(super) fn answer(&mut self, role: Role, request: &Request) -> Answer {
        let stuck = || Answer::text("503 Service Unavailable", "the loop does not answer\n");
        match (request.path.as_str(), role) {
            ("/healthz", _) => self.ask(Page::Numbers).map_or_else(stuck, |_| Answer::text("200 OK", "ok\n")),
            ("/readyz", _) => match self.ask(Page::Numbers) {
                None => stuck(),
                Some(report) if report.is_stopping => Answer::text("503 Service Unavailable", "stopping\n"),
                Some(_) => Answer::text("200 OK", "ready\n"),
            },
            ("/metrics", _) => self.metrics().map_or_else(stuck, |text| Answer {
                kind: "text/plain; version=0.0.4; charset=utf-8",
                ..Answer::text("200 OK", text)
            }),
            ("/routes", Role::Admin) => {
                self.routes().map_or_else(stuck, |(report, routes)| Answer::json(json::routes(&report, &routes)))
            }
            ("/sessions", Role::Admin) => match first(&request.query) {
                None => Answer::text("400 Bad Request", "write /sessions?from=N, with the N of the page before\n"),
                Some(from) => {
                    let report = self.ask(Page::Sessions { from, most: ROWS_MAX });
                    report.map_or_else(stuck, |report| Answer::json(json::sessions(&report)))
                }
            },
            ("/", Role::Admin) => Answer {
                kind: "text/html; charset=utf-8",
                policy: PAGE_POLICY.trim_ascii(),
                ..Answer::text("200 OK", PAGE)
            },
            (_, Role::Admin) => Answer::text("404 Not Found", "/ /sessions /routes /metrics /healthz /readyz\n"),
            (_, Role::Metrics) => Answer::text("404 Not Found", "/metrics /healthz /readyz\n"),
        }
    }

    /// The text for Prometheus.
    fn metrics(&mut self) -> Option<String> {
        let (report, routes) = self.routes()?;
        let mut bytes: Bytes = BTreeMap::new();
        for route in &routes {
            let sum = bytes.entry(Arc::clone(&route.name)).or_default();
            *sum = [sum[0] + route.totals.up, sum[1] + route.totals.down];
        }
        let mut next = Some(0);
        while let Some(from) = next {
            let page = self.ask(Page::Sessions { from, most: ROWS_MAX })?;
            for row in &page.rows {
                let sum = bytes.entry(Arc::clone(&row.route)).or_default();
                *sum = [sum[0] + row.up, sum[1] + row.down];
            }
            next = page.next;
        }
        // A session that ended between the two is in neither: what was said before is nearer the truth then. So a counter never
        // goes back, and never says too much.
        for (route, sum) in &mut bytes {
            let before = self.bytes.get(route).copied().unwrap_or_default();
            *sum = [sum[0].max(before[0]), sum[1].max(before[1])];
        }
        self.bytes.clone_from(&bytes);
        Some(metrics::text(&report, &routes, &bytes, self.log.lines_dropped()))
    }

    /// All routes, page by page, with the numbers of the first page.
    fn routes(&mut self) -> Option<(Report, Vec<RouteRow>)> {
        let mut report = self.ask(Page::Routes { from: 0 })?;
        let mut rows = std::mem::take(&mut report.route_rows);
        let mut next = report.next;
        while let Some(from) = next {
            let page = self.ask(Page::Routes { from })?;
            rows.extend(page.route_rows);
            next = page.next;
        }
        Some((report, rows))
    }

    /// What the loop says, if it says it in time.
    fn ask(&mut self, page: Page) -> Option<Report> {
        if let Some(open) = &self.open {
            open.wait_for(IMPATIENCE)?.ok()?;
            self.open = None;
        }
        let pending = self.control.query(page);
        let Some(answer) = pending.wait_for(PATIENCE) else {
            self.open = Some(pending);
            return None;
        };
        answer.ok()
    }
}

/// Where the page of sessions begins: `from=N`, or 0 where there is nothing.
fn first(query: &str) -> Option<u32> {
    match query {
        "" => Some(0),
        query => query.strip_prefix("from=")?.parse().ok(),
    }
}
