//! What the loop answers to a query: plain numbers, and its sessions page by page.

use std::sync::Arc;
use std::time::Duration;

use super::address::{Address, Client};
use super::histogram::Histogram;
use super::reply::{Pending, Reply};

/// Sessions on one page, at most.
pub const ROWS_MAX: usize = 512;

/// What a relay did in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Totals {
    /// Sessions that have ended, without those of clients that were denied or over a limit.
    pub sessions: u64,
    /// Clients that were denied.
    pub denied: u64,
    /// Clients that were over a limit.
    pub limited: u64,
    /// Bytes relayed from clients to the upstream.
    pub up: u64,
    /// Bytes relayed from the upstream to clients.
    pub down: u64,
    /// Bytes that came for the upstream and that it had not acknowledged when its connection was reset.
    pub undelivered_up: u64,
    /// The same for clients.
    pub undelivered_down: u64,
    /// Sessions that were reset by the drain deadline or a stop request that does not wait.
    pub cut_short: u64,
    /// Bytes read from either side that went through a pipe instead of a buffer.
    pub spliced: u64,
    /// Sessions that are not in the log because they moved no byte ([`Route::log_empty`](crate::Route::log_empty)).
    pub empty: u64,
}

/// How a relay is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// What it did, without the sessions that live.
    pub totals: Totals,
    /// Sessions that live.
    pub sessions: usize,
    /// Routes that are configured or have sessions.
    pub routes: usize,
    /// Open listeners, those that close after a reload included.
    pub listeners: usize,
    /// It was asked to stop.
    pub is_stopping: bool,
    /// Buffers and pipes that hold bytes now.
    pub leases: usize,
    /// Open pipes.
    pub pipes: usize,
    /// How often accept has paused because something was short.
    pub accept_pauses: u64,
    /// Lookups of names that failed.
    pub lookups_failed: u64,
    /// From accept until the upstream was connected.
    pub connect_times: Histogram,
    /// From accept to the end.
    pub session_times: Histogram,
    /// How long the loop worked between two waits. One turn in eight is measured.
    pub turn_times: Histogram,
    /// A page of the sessions that live.
    pub rows: Vec<Row>,
    /// A page of the routes.
    pub route_rows: Vec<RouteRow>,
    /// Where the next page begins. None if this is the last.
    pub next: Option<u32>,
}

/// A route. One that a reload has changed or removed is another as long as it has sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteRow {
    /// Its name. Several listeners may share it.
    pub name: Arc<str>,
    /// Where it listens, if it does.
    pub listening: Option<Address>,
    /// It is configured.
    pub is_listed: bool,
    /// Sessions that live.
    pub sessions: u32,
    /// What its sessions did that have ended. What is spliced and what is empty is counted for the process only, and 0 here.
    pub totals: Totals,
    /// How often a session ended in which way, by the word in the log. Those that never happened are left out.
    pub ends: Vec<(&'static str, u64)>,
    /// The addresses behind its upstream, as far as they are known.
    pub endpoints: Vec<EndpointRow>,
}

/// An address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointRow {
    /// The host as written.
    pub host: String,
    /// The address.
    pub address: Address,
    /// It could not be connected to lately, and others come first.
    pub is_down: bool,
    /// Sessions of all routes that are connected to it, or tried it last.
    pub sessions: u32,
}

/// A session that lives. Its `Display` is a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The name of its route.
    pub route: Arc<str>,
    /// The client, as it was announced.
    pub client: Client,
    /// The upstream address in use, or tried last.
    pub upstream: Option<Address>,
    /// What it is doing.
    pub stage: Stage,
    /// Since its client was accepted.
    pub age: Duration,
    /// Since a byte moved last, or something else went on.
    pub idle: Duration,
    /// Bytes that the upstream's connection took, without headers.
    pub up: u64,
    /// Bytes that the client's connection took.
    pub down: u64,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Its client is to be announced by a proxy.
    Header,
    /// It waits for the addresses behind a name.
    Name,
    /// It waits for a descriptor.
    Descriptor,
    /// It waits for a source port.
    Port,
    /// It waits for a place in the backlog of a Unix socket.
    Backlog,
    /// It waits before the next attempt to connect, or for its first turn.
    Pause,
    /// A connection to its upstream is under way.
    Connecting,
    /// It relays.
    Relaying,
    /// Nothing more is relayed. What was written is being acknowledged.
    Ending,
}

impl Stage {
    /// Its word in the log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Name => "name",
            Self::Descriptor => "descriptor",
            Self::Port => "port",
            Self::Backlog => "backlog",
            Self::Pause => "pause",
            Self::Connecting => "connecting",
            Self::Relaying => "relaying",
            Self::Ending => "ending",
        }
    }
}

/// What a query asks for beside the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Nothing.
    Numbers,
    /// Sessions.
    Sessions {
        /// Where the page begins: 0, or the [`Report::next`] of the page before.
        from: u32,
        /// Sessions on the page, at most; no more than [`ROWS_MAX`]. With 0 there is no page after it.
        most: usize,
    },
    /// Routes, each with its addresses; at most [`ROWS_MAX`] of both together, and one route at least.
    Routes {
        /// As above.
        from: u32,
    },
}

/// A question about the relay, and where its answer goes.
#[derive(Debug)]
pub struct Query {
    /// What it asks for beside the numbers.
    pub page: Page,
    /// Carries the answer back.
    pub reply: Reply<Report>,
}

impl Query {
    /// A query, and where its answer arrives.
    pub fn new(page: Page) -> (Self, Pending<Report>) {
        let (reply, pending) = Reply::new();
        (Self { page, reply }, pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are in the log and in the JSON of `--admin`.
    #[test]
    fn each_stage_has_its_word() {
        use Stage::{Backlog, Connecting, Descriptor, Ending, Header, Name, Pause, Port, Relaying};
        let all = [Header, Name, Descriptor, Port, Backlog, Pause, Connecting, Relaying, Ending].map(Stage::word);
        let words = "header name descriptor port backlog pause connecting relaying ending";
        assert_eq!(all.join(" "), words);
    }
}
