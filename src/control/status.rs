//! SIGUSR1: the counters and the sessions that live are written to the log.

use std::time::Duration;

use log::{info, warn};
use tproxy::net::Page;
use tproxy::{Control, Report};

use crate::logging::LogQueue;

/// Sessions that are asked for at a time. The next are asked for when the log has room: no line of a session that has ended
/// is pushed out.
const PAGE: usize = 64;

/// How long the loop may take to answer, and the log to make room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the loop, and writes what it says.
pub(super) fn write(control: &Control, log: &LogQueue) {
    let mut from = 0;
    loop {
        if !log.wait_for_room(PATIENCE) {
            return warn!("the report ends here: stderr is slow");
        }
        let report = match control.query(Page::Sessions { from, most: PAGE }).wait_for(PATIENCE) {
            Some(Ok(report)) => report,
            Some(Err(error)) => return warn!("no report: {error}"),
            None => return warn!("no report: the loop has not answered within {} s", PATIENCE.as_secs()),
        };
        if from == 0 {
            write_counters(&report);
        }
        report.rows.iter().for_each(tproxy::Row::log);
        let Some(next) = report.next else { return };
        from = next;
    }
}

fn write_counters(report: &Report) {
    let Report { totals, sessions: live, listeners, is_stopping, .. } = report;
    let tproxy::Totals {
        sessions, up, down, undelivered_up, undelivered_down, spliced, denied, limited, empty, ..
    } = *totals;
    info!(
        event = "report", live = *live, listeners = *listeners, stopping = *is_stopping, sessions, up, down,
        undelivered_up, undelivered_down, spliced, denied, limited, empty;
        "report live={live} listeners={listeners} stopping={is_stopping} sessions={sessions} up={up} down={down} \
         undelivered={undelivered_up}/{undelivered_down} spliced={spliced} denied={denied} limited={limited} empty={empty}"
    );
}
