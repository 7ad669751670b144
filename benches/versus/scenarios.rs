//! What is measured: the scenarios and their figures. [`crate::harness`] says how.

use crate::bulk::Direction;
use crate::relays::Contender;

/// A kind of work, and the figures it gives.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) figures: &'static [Figure],
    pub(crate) work: Work,
}

/// A column of the scenario's table.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) more_is_better: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Bulk { flows: usize, direction: Direction },
    Closed { connections: usize, size: usize },
    Connections,
    Mixed,
    Memory,
    Calls,
    Start,
}

/// One reading for each figure; None where a figure has no meaning.
pub(crate) type Readings = Vec<Option<f64>>;

const fn cost(name: &'static str, unit: &'static str) -> Figure {
    Figure { name, unit, more_is_better: false }
}

const fn rate(unit: &'static str) -> Figure {
    Figure { name: "rate", unit, more_is_better: true }
}

const BULK: &[Figure] = &[cost("CPU", "s/GiB"), rate("GiB/s")];
const ROUND_TRIPS: &[Figure] = &[cost("CPU", "µs/round trip"), rate("round trips/s"), cost("p99", "µs")];
const LATENCY: &[Figure] = &[cost("p50", "µs"), cost("p99", "µs"), cost("CPU", "µs/message")];
const CONNECTIONS: &[Figure] = &[cost("CPU", "µs/connection"), rate("connections/s")];
const MIXED: &[Figure] = &[cost("p50", "µs"), cost("p99", "µs"), rate("GiB/s"), cost("CPU", "s/GiB")];
const MEMORY: &[Figure] = &[cost("memory", "bytes/session")];
const CALLS: &[Figure] = &[cost("calls", "per round trip"), cost("calls", "per connection"), cost("calls", "per GiB")];
const START: &[Figure] = &[cost("listening", "ms"), cost("resident", "KiB"), cost("executable", "KiB")];

const fn bulk(name: &'static str, title: &'static str, flows: usize, direction: Direction) -> Scenario {
    Scenario { name, title, figures: BULK, work: Work::Bulk { flows, direction } }
}

const fn closed(
    name: &'static str,
    title: &'static str,
    figures: &'static [Figure],
    connections: usize,
    size: usize,
) -> Scenario {
    Scenario { name, title, figures, work: Work::Closed { connections, size } }
}

const fn other(name: &'static str, title: &'static str, figures: &'static [Figure], work: Work) -> Scenario {
    Scenario { name, title, figures, work }
}

/// In the order of the report.
pub(crate) const SCENARIOS: &[Scenario] = &[
    bulk("bulk-1-down", "bulk, 1 flow, upstream to client", 1, Direction::Down),
    bulk("bulk-1-up", "bulk, 1 flow, client to upstream", 1, Direction::Up),
    bulk("bulk-1-both", "bulk, 1 flow each way", 1, Direction::Both),
    bulk("bulk-64-down", "bulk, 64 flows, upstream to client", 64, Direction::Down),
    bulk("bulk-64-up", "bulk, 64 flows, client to upstream", 64, Direction::Up),
    bulk("bulk-64-both", "bulk, 64 flows each way", 64, Direction::Both),
    other("mixed", "64 B, 2,000 a second on 16 connections, beside 8 bulk flows", MIXED, Work::Mixed),
    closed("round-trips", "64 B there and back, on 64 connections", ROUND_TRIPS, 64, 64),
    closed("message-16k", "16 KiB there and back, on one connection", LATENCY, 1, 16 << 10),
    closed("message-64k", "64 KiB there and back, on one connection", LATENCY, 1, 64 << 10),
    other("connections", "connect, 64 B there and back, close, 32 at a time", CONNECTIONS, Work::Connections),
    other("memory", "memory of the relay for an idle session", MEMORY, Work::Memory),
    other("calls", "system calls", CALLS, Work::Calls),
    other("start", "from exec to listening; memory then; size of the executable", START, Work::Start),
];

impl Scenario {
    /// Counts of memory and calls do not vary between rounds, so one round is enough.
    pub(crate) fn runs_once(&self) -> bool {
        matches!(self.work, Work::Memory | Work::Calls)
    }

    /// Without a relay, there is no memory, no call and no start to measure.
    pub(crate) fn fits(&self, contender: &Contender) -> bool {
        contender.program.is_some() || !matches!(self.work, Work::Memory | Work::Calls | Work::Start)
    }
}
