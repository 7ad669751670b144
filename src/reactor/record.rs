//! The one log line of a session.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::cause::Cause;

/// A session that has ended. Its `Display` is the log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The address the client connected from.
    pub client: SocketAddr,
    /// The upstream address it was connected to, or the last one tried.
    pub upstream: SocketAddr,
    /// Bytes that the upstream's connection took.
    pub up: u64,
    /// Bytes that the client's connection took.
    pub down: u64,
    /// From accept to the end.
    pub time: Duration,
    /// From accept until the upstream was connected, or until that failed.
    pub connect: Duration,
    /// Why it ended.
    pub end: Cause,
    /// It was reset by the drain deadline or a second stop request.
    pub cut_short: bool,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, upstream, up, down, time, connect, end, cut_short: _ } = self;
        let (time, connect, end) = (time.as_secs_f64(), connect.as_secs_f64(), end.word());
        write!(f, "session client={client} upstream={upstream} up={up} down={down} ")?;
        write!(f, "time={time:.3}s connect={connect:.3}s end={end}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_line_reads_as_documented() {
        let record = Record {
            client: "127.0.0.1:53110".parse().unwrap(),
            upstream: "[::1]:8888".parse().unwrap(),
            up: 1204,
            down: 88121,
            time: Duration::from_micros(3_214_499),
            connect: Duration::from_micros(1500),
            end: Cause::ClientEof,
            cut_short: false,
        };
        assert_eq!(
            record.to_string(),
            "session client=127.0.0.1:53110 upstream=[::1]:8888 up=1204 down=88121 time=3.214s connect=0.002s \
             end=client-eof"
        );
    }
}
