//! How each figure is measured: every run has a fixture of its own, with a new relay and a new upstream.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::bulk::{Bulk, Direction, Moved};
use crate::clock::{Deadline, now, pause};
use crate::connections;
use crate::failure::{Outcome, failed};
use crate::machine::Cores;
use crate::messages::Messages;
use crate::process::Relay;
use crate::relays::Contender;
use crate::scenarios::{Readings, Scenario, Work};
use crate::scrape::Scraper;
use crate::sessions::{self, Session, Upstream};
use crate::strace::{self, Calls};

const GIB: f64 = (1u64 << 30) as f64;
const MS: Duration = Duration::from_millis(1);

/// The longest time that calls are counted. Some relays are very slow under strace.
const COUNT_TIME_MAX: Duration = Duration::from_secs(2);

/// tproxy looks after a session's upstream once it is older than 5 s, and until then has an entry for it in a list. An idle
/// session is older.
const YOUNG: Duration = Duration::from_secs(6);

/// In seconds. Less is not reported: for children that ended, the kernel counts in hundredths.
const CPU_MIN: f64 = 0.005;

/// What all runs share.
#[derive(Debug)]
pub(crate) struct Harness {
    pub(crate) cores: Cores,
    pub(crate) is_quick: bool,
    pub(crate) strace: Option<PathBuf>,
    /// The most sessions at a time that the limit of descriptors allows.
    pub(crate) sessions_max: usize,
}

/// The units of work for which calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    RoundTrip,
    Connection,
    Gib,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "round trip:",
            Self::Connection => "connection:",
            Self::Gib => "GiB:",
        }
    }
}

/// What one run needs. Without a relay, clients connect straight to the upstream.
struct Fixture<'a> {
    harness: &'a Harness,
    upstream: Upstream,
    relay: Option<Relay>,
    folder: TempDir,
}

impl Harness {
    pub(crate) fn run(&self, scenario: &Scenario, contender: &Contender) -> Outcome<(Readings, Calls)> {
        let mut calls = Calls::new();
        let readings = match scenario.work {
            Work::Calls => {
                let counts = [Unit::RoundTrip, Unit::Connection, Unit::Gib].map(|unit| self.calls(unit, contender));
                let counts = counts.into_iter().collect::<Outcome<Vec<_>>>()?;
                counts
                    .into_iter()
                    .map(|(count, by_name)| {
                        calls.extend(by_name);
                        Some(count)
                    })
                    .collect()
            }
            Work::Start => self.start(contender)?,
            work => self.with_fixture(contender, |fixture| fixture.run(work))?,
        };
        Ok((readings, calls))
    }

    /// Runs `work` with a new relay and upstream. A failure includes the last line of the relay's log.
    fn with_fixture<T>(&self, contender: &Contender, work: impl FnOnce(&Fixture<'_>) -> Outcome<T>) -> Outcome<T> {
        let (upstream, folder) = (
            Upstream::open(contender.upstream_host(), contender.header())?,
            tempfile::Builder::new().prefix("versus-").tempdir()?,
        );
        let relay = match contender.program {
            Some(_) => Some(Relay::start(contender, &upstream, folder.path(), self.cores.relay)?),
            None => None,
        };
        let scraper = contender.is_scraped().then(|| Scraper::start(folder.path()));
        let mut fixture = Fixture { harness: self, upstream, relay, folder };
        let done = work(&fixture);
        let looked = scraper.map_or(Ok(()), Scraper::finish);
        done.and_then(|done| looked.map(|()| done)).map_err(|why| match &mut fixture.relay {
            Some(relay) => relay.with_log(why),
            None => why,
        })
    }

    /// The median of several starts. A single one is too short to be exact.
    fn start(&self, contender: &Contender) -> Outcome<Readings> {
        let starts = if self.is_quick { 3 } else { 7 };
        let (mut times, mut resident) = (Vec::new(), 0);
        for _ in 0..starts {
            let (time, bytes) = self.with_fixture(contender, |fixture| match &fixture.relay {
                Some(relay) => Ok((relay.start, relay.group.resident()?)),
                None => failed("there is no relay"),
            })?;
            times.push(time.as_secs_f64() * 1e3);
            resident = bytes;
        }
        times.sort_by(f64::total_cmp);
        let executable = contender.program.as_ref().and_then(|path| fs::metadata(path).ok()).map(|file| file.len());
        Ok(vec![times.get(starts / 2).copied(), Some(kib(resident)), executable.map(kib)])
    }

    /// Calls for one unit, in all and by name. Opening and closing the sessions is not counted, except where connections
    /// are the work.
    fn calls(&self, unit: Unit, contender: &Contender) -> Outcome<(f64, Calls)> {
        let Some(strace) = &self.strace else { return failed("there is no strace") };
        self.with_fixture(contender, |fixture| {
            let Some(relay) = &fixture.relay else { return failed("there is no relay") };
            // These sessions are opened before counting starts and closed after it has ended.
            let sessions = |count| fixture.sessions(count);
            let mut messages = Messages::new(sessions(if unit == Unit::RoundTrip { 64 } else { 0 })?, 64)?;
            let mut bulk = Bulk::new(sessions(if unit == Unit::Gib { 1 } else { 0 })?, Direction::Down, false)?;
            let mut units = 0.0;
            let counted = strace::count(strace, relay.group, fixture.folder.path(), self.cores.load, || {
                units = match unit {
                    Unit::RoundTrip => messages.run(COUNT_TIME_MAX, self.scaled(6_400))?.count as f64,
                    Unit::Gib => bulk.run(COUNT_TIME_MAX, self.scaled(512) << 20)?.bytes as f64 / GIB,
                    Unit::Connection => {
                        let count = self.scaled(500);
                        connections::run(fixture.address(), &fixture.upstream, count, 32)?;
                        count as f64
                    }
                };
                Ok(())
            })?;
            let all = counted.values().sum::<f64>() / units;
            let by_name = counted.into_iter().map(|(name, count)| (format!("{} {name}", unit.name()), count / units));
            Ok((all, by_name.collect()))
        })
    }

    /// A quick run does a quarter of the work.
    fn scaled(&self, count: u64) -> u64 {
        if self.is_quick { count / 4 } else { count }
    }

    fn time(&self, milliseconds: u32) -> Duration {
        MS * if self.is_quick { milliseconds / 3 } else { milliseconds }
    }
}

impl Fixture<'_> {
    fn address(&self) -> SocketAddr {
        self.relay.as_ref().map_or(self.upstream.address, |relay| relay.address)
    }

    fn sessions(&self, count: usize) -> Outcome<Vec<Session>> {
        sessions::open(self.address(), &self.upstream, count)
    }

    /// The relay's CPU time so far, in seconds; None without a relay.
    fn cpu(&self) -> Outcome<Option<f64>> {
        self.relay.as_ref().map(|relay| Ok(relay.group.cpu_at_rest()? as f64 / 1e9)).transpose()
    }

    fn run(&self, work: Work) -> Outcome<Readings> {
        match work {
            Work::Bulk { flows, direction } => self.bulk(flows, direction),
            Work::Closed { connections, size } => self.closed(connections, size),
            Work::Connections => self.connections(),
            Work::Mixed => self.mixed(),
            Work::Memory => self.memory(),
            Work::Calls | Work::Start => failed("this scenario runs without a fixture of its own"),
        }
    }

    fn bulk(&self, flows: usize, direction: Direction) -> Outcome<Readings> {
        let mut bulk = Bulk::new(self.sessions(flows)?, direction, false)?;
        let before = self.cpu()?;
        let Moved { bytes, time } = bulk.run(self.harness.time(400), u64::MAX)?;
        let gib = bytes as f64 / GIB;
        Ok(vec![self.used_since(before, gib)?, Some(gib / time.as_secs_f64())])
    }

    fn closed(&self, connections: usize, size: usize) -> Outcome<Readings> {
        let mut messages = Messages::new(self.sessions(connections)?, size)?;
        let before = self.cpu()?;
        let exchanged = messages.run(self.harness.time(400), u64::MAX)?;
        let cpu = self.used_since(before, exchanged.count as f64)?.map(|seconds| seconds * 1e6);
        let (p50, p99) = (Some(micros(exchanged.p50)), Some(micros(exchanged.p99)));
        let rate = exchanged.count as f64 / exchanged.time.as_secs_f64();
        Ok(if connections > 1 { vec![cpu, Some(rate), p99] } else { vec![p50, p99, cpu] })
    }

    fn connections(&self) -> Outcome<Readings> {
        let count = self.harness.scaled(3_000);
        let before = self.cpu()?;
        let time = connections::run(self.address(), &self.upstream, count, 32)?;
        let cpu = self.used_since(before, count as f64)?.map(|seconds| seconds * 1e6);
        Ok(vec![cpu, Some(count as f64 / time.as_secs_f64())])
    }

    /// Bulk saturates the slowest part. The load serves its messages after every chunk of bulk, of 128 KiB at most. The
    /// latency that the load adds is that of the contender "direct".
    fn mixed(&self) -> Outcome<Readings> {
        const INTERVAL: Duration = Duration::from_micros(500);
        let mut messages = Messages::new(self.sessions(16)?, 64)?;
        let mut bulk = Bulk::new(self.sessions(8)?, Direction::Down, true)?;
        let before = self.cpu()?;
        let begin = now();
        // Bulk runs alone at first, so that queues and windows are full.
        let first = begin + self.harness.time(150);
        let last = first + self.harness.time(1_000);
        let deadline = Deadline::after(self.harness.time(1_150) + 15_000 * MS);
        let mut due = first;
        // Bulk goes on until the last message has returned.
        while due < last || messages.is_awaited() {
            let time = now();
            while due <= time && due < last {
                messages.send_next(due)?;
                due += INTERVAL;
            }
            messages.turn()?;
            bulk.mark(Duration::ZERO)?;
            bulk.step()?;
            deadline.check("the messages beside bulk")?;
        }
        let exchanged = messages.finish(first)?;
        let Moved { bytes, time } = bulk.finish(begin)?;
        let gib = bytes as f64 / GIB;
        let cpu = self.used_since(before, gib)?;
        Ok(vec![Some(micros(exchanged.p50)), Some(micros(exchanged.p99)), Some(gib / time.as_secs_f64()), cpu])
    }

    fn memory(&self) -> Outcome<Readings> {
        let Some(relay) = &self.relay else { return failed("there is no relay") };
        let count = self.harness.sessions_max.min(if self.harness.is_quick { 500 } else { 3_000 });
        let before = relay.group.memory()?;
        let sessions = self.sessions(count)?;
        pause(YOUNG);
        relay.group.cpu_at_rest()?;
        let after = relay.group.memory()?;
        drop(sessions);
        Ok(vec![Some(after.saturating_sub(before) as f64 / count as f64)])
    }

    /// CPU time for each unit; None without a relay, or if it is too little to be measured.
    fn used_since(&self, before: Option<f64>, units: f64) -> Outcome<Option<f64>> {
        let used = self.cpu()?.zip(before).map(|(after, before)| after - before);
        Ok(used.filter(|&seconds| seconds > CPU_MIN).map(|seconds| seconds / units))
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
