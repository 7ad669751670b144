//! What a look inside is to see, written from the contract: the sessions that live, in the order of their slots.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tproxy::net::{Histogram, Report, Row, Stage, Time};

use super::{Session, Shadow};
use crate::plan::inet;

/// What is to be answered to a query that is told in this turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inside {
    sessions: usize,
    doors: usize,
    stopping: bool,
    ended: u64,
    accept_pauses: u64,
    failed_lookups: u64,
    pipes: usize,
    /// From accept until the upstream was connected, and until the end.
    connecting: Times,
    living: Times,
    rows: Vec<Seen>,
    next: Option<u32>,
}

/// What happened since the start, whichever route it was for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counted {
    /// Clients that were denied, and clients over a limit.
    pub(crate) refusals: [u64; 2],
    /// How often accept was left alone for a while.
    pub(super) accept_pauses: u64,
    pub(super) failed_lookups: u64,
}

/// How many times there were, and their sum.
#[derive(Debug, PartialEq, Eq)]
struct Times(u64, Duration);

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    route: String,
    client: SocketAddr,
    upstream: Option<SocketAddr>,
    stage: &'static str,
    age: Duration,
    bytes: [u64; 2],
}

/// Stands for the end of a session without a line.
const SILENT: &str = "silent";

/// What a route has and had, by its name: sessions that live, how those ended that are over, and bytes of both ways. Those
/// that were refused are not in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RouteSeen {
    name: String,
    sessions: usize,
    ends: BTreeMap<String, u64>,
    bytes: [u64; 2],
    /// It has been in the configuration from the start on. Another one may have begun again.
    is_lasting: bool,
}

impl RouteSeen {
    /// What was answered.
    pub(crate) fn of(report: &Report) -> Vec<Self> {
        let mut seen: BTreeMap<String, Self> = BTreeMap::new();
        for row in &report.route_rows {
            let it = seen.entry(row.name.to_string()).or_insert_with(|| Self::named(&row.name));
            it.sessions += row.sessions as usize;
            it.bytes[0] += row.totals.up;
            it.bytes[1] += row.totals.down;
            for (word, count) in row.ends.iter().filter(|(word, _)| !["denied", "limit"].contains(word)) {
                *it.ends.entry((*word).to_owned()).or_default() += count;
            }
        }
        seen.into_values().collect()
    }

    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), sessions: 0, ends: BTreeMap::new(), bytes: [0; 2], is_lasting: false }
    }

    /// Is it this? A session without a line moved no byte; how it ended, only the relay knows.
    pub(crate) fn is(&self, expected: &Self) -> bool {
        if !expected.is_lasting {
            return self.is_part_of(expected);
        }
        let count = |it: &Self| it.ends.values().sum::<u64>();
        let ends = match expected.ends.contains_key(SILENT) {
            true => count(self) == count(expected),
            false => self.ends == expected.ends,
        };
        (&self.name, self.sessions, self.bytes) == (&expected.name, expected.sessions, expected.bytes) && ends
    }

    /// The same sessions, and no more that have ended.
    fn is_part_of(&self, all: &Self) -> bool {
        let silent = all.ends.contains_key(SILENT);
        let known =
            self.ends.iter().all(|(word, count)| silent || all.ends.get(word).is_some_and(|most| count <= most));
        let bytes = self.bytes.iter().zip(all.bytes).all(|(part, all)| *part <= all);
        self.name == all.name && self.sessions == all.sessions && known && bytes
    }
}

impl Shadow {
    /// The routes that are configured, lead from a listener or have sessions, by their names.
    pub(crate) fn routes_seen(&self) -> Vec<RouteSeen> {
        let names = self.routes_alive().into_iter().map(|route| self.routes[route].name.clone());
        let mut seen: BTreeMap<_, _> = names.map(|name| (name.clone(), RouteSeen::named(&name))).collect();
        for (name, it) in &mut seen {
            let mut configurations = self.listed_before.iter().chain([&self.listed]);
            it.is_lasting = configurations.all(|listed| listed.iter().any(|route| self.routes[*route].name == *name));
        }
        for it in &self.sessions {
            let Some(seen) = seen.get_mut(&self.route(it).name) else { continue };
            match &it.cause {
                _ if it.ended.is_none() => seen.sessions += 1,
                Some(word) if !["denied", "limit"].contains(&word.as_str()) => {
                    *seen.ends.entry(word.clone()).or_default() += 1;
                    seen.bytes[0] += it.flows[0].written;
                    seen.bytes[1] += it.flows[1].written;
                }
                // Without a record: it moved no byte, and ended as it was told.
                Some(_) => {}
                None => drop(seen.ends.entry(SILENT.to_owned()).and_modify(|count| *count += 1).or_insert(1)),
            }
        }
        seen.into_values().collect()
    }

    /// A page of at most so many sessions, from this slot on, while the kernel has so many pipes.
    pub(crate) fn inside(&self, from: u32, most: usize, stopping: bool, pipes: usize) -> Inside {
        let (mut rows, mut next) = (Vec::new(), None);
        for key in from as usize..self.slots.len() {
            if most == 0 {
                break;
            }
            if rows.len() == most {
                next = Some(u32::try_from(key).unwrap());
                break;
            }
            let session = self.slots[key].map(|session| &self.sessions[session]);
            rows.extend(session.filter(|it| it.ended.is_none()).map(|it| self.seen(it)));
        }
        let doors = self.doors.iter().filter(|door| door.open).count();
        // Those that were denied when their header was read are counted apart.
        let is_refused = |it: &Session| ["denied", "limit"].map(Some).contains(&it.cause.as_deref());
        let ended = self.sessions.iter().filter(|it| it.ended.is_some() && !is_refused(it)).count() as u64;
        let times = |until: fn(&Session) -> Option<Time>| {
            let times = self.sessions.iter().filter_map(|it| Some(until(it)?.since(it.began)));
            times.fold(Times(0, Duration::ZERO), |Times(count, sum), time| Times(count + 1, sum + time))
        };
        let (connecting, living) = (times(|it| it.connected), times(|it| it.ended));
        let (sessions, Counted { accept_pauses, failed_lookups, .. }) = (self.live.len(), self.counted);
        Inside {
            sessions,
            doors,
            stopping,
            ended,
            accept_pauses,
            failed_lookups,
            pipes,
            connecting,
            living,
            rows,
            next,
        }
    }

    fn seen(&self, it: &Session) -> Seen {
        Seen {
            route: self.route(it).name.clone(),
            client: self.client_of(it),
            upstream: it.tried,
            stage: match it.connected {
                Some(_) => "relays",
                None if it.header.awaited.is_some() => "header",
                None if it.upstream.is_some() => "connecting",
                None => "waits",
            },
            age: self.now.since(it.began),
            bytes: it.flows.map(|flow| flow.written),
        }
    }

    /// Does this line of a session that lives tell the truth? It may have been announced since, moved bytes, or ended.
    pub(crate) fn is_true_of_a_session(&self, line: &str) -> bool {
        let word = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let number = |key: &str| word(key).and_then(|word| word.parse::<u64>().ok());
        let Some(client) = word("client").and_then(crate::plan::read_client) else { return false };
        let was_awaiting = |it: &Session| word("stage") == Some("header") && it.opened == self.now;
        let named = |it: &&Session| {
            let is_client = client == self.client_of(it) || (was_awaiting(it) && client == self.client(it.client));
            is_client && word("route") == Some(&*self.route(it).name)
        };
        self.sessions.iter().filter(named).any(|it| {
            let [up, down] = it.flows.map(|flow| flow.written);
            number("up").is_some_and(|said| said <= up) && number("down").is_some_and(|said| said <= down)
        })
    }

    /// When the drain has lasted for a second.
    pub(crate) fn left_due(&self) -> Option<Time> {
        self.stopped_at.map(|at| at + Duration::from_secs(1))
    }
}

impl Inside {
    /// What was answered, in the same form. Some of the stages are one here.
    pub(crate) fn of(report: &Report, is_of_routes: bool) -> Self {
        let seen = |row: &Row| Seen {
            route: row.route.to_string(),
            client: row.client.address().unwrap_or_else(|| {
                let (process, _) = row.client.credentials().unwrap();
                crate::plan::unix_client(process as usize)
            }),
            upstream: row.upstream.as_ref().map(inet),
            stage: match row.stage {
                Stage::Relaying | Stage::Ending => "relays",
                Stage::Header => "header",
                Stage::Connecting => "connecting",
                _ => "waits",
            },
            age: row.age,
            bytes: [row.up, row.down],
        };
        let times = |all: &Histogram| Times(all.up_to().last().unwrap().1, all.sum());
        Self {
            sessions: report.sessions,
            doors: report.listeners,
            stopping: report.is_stopping,
            ended: report.totals.sessions,
            accept_pauses: report.accept_pauses,
            failed_lookups: report.lookups_failed,
            pipes: report.pipes,
            connecting: times(&report.connect_times),
            living: times(&report.session_times),
            rows: report.rows.iter().map(seen).collect(),
            next: report.next.filter(|_| !is_of_routes),
        }
    }
}
