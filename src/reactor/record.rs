//! The one log line of a session. Its fields are the record's key-values too, for a log that is no text.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use log::kv::{self, Source, Value, VisitSource};
use log::{Level, log_enabled};

use super::cause::Cause;
use crate::net::{Address, Client, Row};

/// A session that has ended. Its `Display` is the log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name of the route that it came in by, if log lines name routes.
    pub route: Option<Arc<str>>,
    /// The address the client connected from.
    pub client: Client,
    /// The upstream address it was connected to, or the last one tried. None if none was tried.
    pub upstream: Option<Address>,
    /// Bytes that the upstream's connection took.
    pub up: u64,
    /// Bytes that the client's connection took.
    pub down: u64,
    /// Bytes that came for the upstream and that it had not acknowledged when its connection was reset. 0 after an orderly
    /// end. What was thrown away after the upstream had hung up is not among them.
    pub undelivered_up: u64,
    /// The same for the client.
    pub undelivered_down: u64,
    /// From accept to the end.
    pub time: Duration,
    /// From accept until the upstream was connected, or until that failed.
    pub connect: Duration,
    /// Why it ended.
    pub end: Cause,
    /// It was reset by the drain deadline or a stop request that does not wait.
    pub cut_short: bool,
    /// Its upstream was connected.
    pub reached: bool,
}

impl Record {
    /// Did it reach its upstream, and then nothing was said, as by a probe? A session that had to be cut short is none.
    pub fn is_empty(&self) -> bool {
        let moved = [self.up, self.down, self.undelivered_up, self.undelivered_down];
        self.reached && !self.cut_short && moved == [0; 4]
    }

    /// A client that is not served.
    pub(super) fn refused(route: Option<Arc<str>>, client: Client, end: Cause) -> Self {
        Self {
            route,
            client,
            upstream: None,
            up: 0,
            down: 0,
            undelivered_up: 0,
            undelivered_down: 0,
            time: Duration::ZERO,
            connect: Duration::ZERO,
            end,
            cut_short: false,
            reached: false,
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, client, upstream, up, down, undelivered_up, undelivered_down, .. } = self;
        let Self { time, connect, end, .. } = self;
        let (time, connect, end) = (time.as_secs_f64(), connect.as_secs_f64(), end.word());
        begin_line(f, "session", route.as_deref(), *client, upstream.as_ref())?;
        write!(f, " up={up} down={down} time={time:.3}s connect={connect:.3}s end={end}")?;
        match (undelivered_up, undelivered_down) {
            (0, 0) => Ok(()),
            (up, down) => write!(f, " undelivered={up}/{down}"),
        }
    }
}

/// A session that begins to relay. Its `Display` is a log line.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    /// As in [`Record`].
    pub(super) route: Option<&'a str>,
    pub(super) client: Client,
    pub(super) upstream: Option<&'a Address>,
    pub(super) connect: Duration,
}

impl fmt::Display for Opened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, client, upstream, connect } = self;
        begin_line(f, "open", *route, *client, *upstream)?;
        write!(f, " connect={:.3}s", connect.as_secs_f64())
    }
}

impl Source for Record {
    fn visit<'kvs>(&'kvs self, to: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        let Self { route, client, upstream, up, down, undelivered_up, undelivered_down, .. } = self;
        visit_begin(to, "session", route.as_deref(), client, upstream.as_ref())?;
        let bytes =
            [("up", up), ("down", down), ("undelivered_up", undelivered_up), ("undelivered_down", undelivered_down)];
        bytes.into_iter().try_for_each(|(key, bytes)| to.visit_pair(key.into(), (*bytes).into()))?;
        to.visit_pair("time".into(), seconds(self.time))?;
        to.visit_pair("connect".into(), seconds(self.connect))?;
        to.visit_pair("end".into(), self.end.word().into())
    }
}

impl Source for Opened<'_> {
    fn visit<'kvs>(&'kvs self, to: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        visit_begin(to, "open", self.route, &self.client, self.upstream)?;
        to.visit_pair("connect".into(), seconds(self.connect))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, client, upstream, stage, age, idle, up, down } = self;
        begin_line(f, "live", Some(route), *client, upstream.as_ref())?;
        let (stage, age, idle) = (stage.word(), age.as_secs_f64(), idle.as_secs_f64());
        write!(f, " up={up} down={down} stage={stage} age={age:.3}s idle={idle:.3}s")
    }
}

impl Source for Row {
    fn visit<'kvs>(&'kvs self, to: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        visit_begin(to, "live", Some(&self.route), &self.client, self.upstream.as_ref())?;
        to.visit_pair("up".into(), self.up.into())?;
        to.visit_pair("down".into(), self.down.into())?;
        to.visit_pair("stage".into(), self.stage.word().into())?;
        to.visit_pair("age".into(), seconds(self.age))?;
        to.visit_pair("idle".into(), seconds(self.idle))
    }
}

impl Row {
    /// Writes its line to the log, with its fields.
    pub fn log(&self) {
        write(Level::Info, self);
    }
}

/// What the fields of a line about a session begin with.
fn visit_begin<'kvs>(
    to: &mut dyn VisitSource<'kvs>,
    event: &'static str,
    route: Option<&'kvs str>,
    client: &'kvs Client,
    upstream: Option<&'kvs Address>,
) -> Result<(), kv::Error> {
    to.visit_pair("event".into(), event.into())?;
    if let Some(route) = route {
        to.visit_pair("route".into(), route.into())?;
    }
    to.visit_pair("client".into(), Value::from_display(client))?;
    to.visit_pair("upstream".into(), upstream.map_or_else(Value::null, Value::from_display))
}

/// Seconds to the millisecond, as in the text.
fn seconds(time: Duration) -> Value<'static> {
    ((time.as_secs_f64() * 1000.0).round() / 1000.0).into()
}

/// Logs a line about a session.
pub(super) fn write(level: Level, line: &(impl fmt::Display + Source)) {
    if log_enabled!(level) {
        let mut record = log::Record::builder();
        let record = record.level(level).target(module_path!()).key_values(line);
        log::logger().log(&record.args(format_args!("{line}")).build());
    }
}

/// What a line about a session begins with: between whom it relays.
fn begin_line(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    route: Option<&str>,
    client: Client,
    upstream: Option<&Address>,
) -> fmt::Result {
    f.write_str(what)?;
    if let Some(route) = route {
        write!(f, " route={route}")?;
    }
    write!(f, " client={client}")?;
    match upstream {
        Some(upstream) => write!(f, " upstream={upstream}"),
        None => f.write_str(" upstream=-"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn the_log_line_reads_as_documented() {
        let record = Record {
            route: None,
            client: SocketAddr::from(([127, 0, 0, 1], 53110)).into(),
            upstream: Some("[::1]:8888".parse().unwrap()),
            up: 1204,
            down: 88121,
            undelivered_up: 0,
            undelivered_down: 0,
            time: Duration::from_micros(3_214_499),
            connect: Duration::from_micros(1500),
            end: Cause::ClientEof,
            cut_short: false,
            reached: true,
        };
        let rest = "up=1204 down=88121 time=3.214s connect=0.002s end=client-eof";
        let line = format!("session client=127.0.0.1:53110 upstream=[::1]:8888 {rest}");
        assert_eq!(record.to_string(), line);
        let torn = Record { undelivered_down: 155_200, end: Cause::ClientReset, ..record.clone() };
        assert_eq!(torn.to_string(), line.replace("client-eof", "client-reset undelivered=0/155200"));
        let named = Record { route: Some("db".into()), ..record.clone() };
        assert_eq!(named.to_string(), line.replace("session ", "session route=db "));
        let untried = Record { upstream: None, ..record };
        assert_eq!(untried.to_string(), format!("session client=127.0.0.1:53110 upstream=- {rest}"));
    }

    #[test]
    fn the_line_of_a_session_that_begins_to_relay_reads_as_documented() {
        let client = SocketAddr::from(([127, 0, 0, 1], 53110)).into();
        let upstream = "[::1]:8888".parse().unwrap();
        let opened = Opened { route: None, client, upstream: Some(&upstream), connect: Duration::from_micros(1500) };
        let line = "open client=127.0.0.1:53110 upstream=[::1]:8888 connect=0.002s";
        assert_eq!(opened.to_string(), line);
        let named = Opened { route: Some("db"), ..opened };
        assert_eq!(named.to_string(), line.replace("open ", "open route=db "));
    }

    #[test]
    fn a_session_is_empty_if_its_upstream_was_reached_and_nothing_was_said() {
        let client = SocketAddr::from(([127, 0, 0, 1], 1)).into();
        let empty = Record { reached: true, ..Record::refused(None, client, Cause::ClientReset) };
        assert!(empty.is_empty());
        let others: [fn(&mut Record); 6] = [
            |it| it.up = 1,
            |it| it.down = 1,
            |it| it.undelivered_up = 1,
            |it| it.undelivered_down = 1,
            |it| it.cut_short = true,
            |it| it.reached = false,
        ];
        for change in others {
            let mut record = empty.clone();
            change(&mut record);
            assert!(!record.is_empty(), "{record}");
        }
    }
}
