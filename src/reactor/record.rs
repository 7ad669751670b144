//! How a session ended: the closed vocabulary of causes, the one log line, the totals.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;

use crate::net::{Peer, is_shortage};
use crate::relay::side::Fault;

/// The first cause of a session's end, one word of a closed vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Both sides finished, the client first.
    ClientEof,
    /// Both sides finished, the upstream first.
    UpstreamEof,
    /// The client reset its connection.
    ClientReset,
    /// The upstream reset its connection.
    UpstreamReset,
    /// The client stopped answering.
    ClientTimeout,
    /// The upstream stopped answering.
    UpstreamTimeout,
    /// The client hung up while there was more for it (EPIPE).
    ClientClosed,
    /// The upstream hung up while there was more for it (EPIPE).
    UpstreamClosed,
    /// No byte either way for the idle timeout.
    IdleTimeout,
    /// After the first FIN, no byte either way for the half-close timeout.
    HalfCloseTimeout,
    /// The upstream refused the connection.
    Refused,
    /// There is no way to the upstream.
    Unreachable,
    /// Connecting took too long.
    ConnectTimeout,
    /// The client reset its connection before the upstream's was there.
    ClientGone,
    /// The drain deadline, or a second stop request.
    Drain,
    /// No descriptor, memory or port was left.
    NoResources,
}

impl Cause {
    /// The word in the log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ClientEof => "client-eof",
            Self::UpstreamEof => "upstream-eof",
            Self::ClientReset => "client-reset",
            Self::UpstreamReset => "upstream-reset",
            Self::ClientTimeout => "client-timeout",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::ClientClosed => "client-closed",
            Self::UpstreamClosed => "upstream-closed",
            Self::IdleTimeout => "idle-timeout",
            Self::HalfCloseTimeout => "half-close-timeout",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect-timeout",
            Self::ClientGone => "client-gone",
            Self::Drain => "drain",
            Self::NoResources => "no-resources",
        }
    }

    /// This side failed first.
    pub(super) const fn of_fault(peer: Peer, fault: Fault) -> Self {
        match (peer, fault) {
            (Peer::Client, Fault::Reset) => Self::ClientReset,
            (Peer::Client, Fault::Closed) => Self::ClientClosed,
            (Peer::Client, Fault::Timeout) => Self::ClientTimeout,
            (Peer::Upstream, Fault::Reset) => Self::UpstreamReset,
            (Peer::Upstream, Fault::Closed) => Self::UpstreamClosed,
            (Peer::Upstream, Fault::Timeout) => Self::UpstreamTimeout,
            (_, Fault::Resources) => Self::NoResources,
        }
    }

    /// Nothing failed, and this side finished first.
    pub(super) const fn of_fin(first: Peer) -> Self {
        match first {
            Peer::Client => Self::ClientEof,
            Peer::Upstream => Self::UpstreamEof,
        }
    }

    /// connect(2) gave this error.
    pub(super) fn of_connect(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::CONNREFUSED) => Self::Refused,
            Some(Errno::TIMEDOUT) => Self::ConnectTimeout,
            // No port is left to connect from; some kernels say EAGAIN (`connect(2)`).
            Some(Errno::ADDRNOTAVAIL | Errno::AGAIN) => Self::NoResources,
            Some(_) | None if is_shortage(error) => Self::NoResources,
            // Self-connect and our own time-out have no errno.
            None if error.kind() == ErrorKind::ConnectionRefused => Self::Refused,
            None if error.kind() == ErrorKind::TimedOut => Self::ConnectTimeout,
            Some(_) | None => Self::Unreachable,
        }
    }
}

/// What there is to say about a session once it has ended. Its `Display` is the log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Who connected.
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
    /// It had not finished when the relay was to stop, and was reset.
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

/// What a relay did in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Totals {
    /// Sessions that have ended.
    pub sessions: u64,
    /// Bytes relayed from clients to the upstream.
    pub up: u64,
    /// Bytes relayed from the upstream to clients.
    pub down: u64,
    /// Sessions that did not finish in time when the relay was asked to stop, and were reset.
    pub cut_short: u64,
    /// Bytes, of those that came from either side, that went through a pipe instead of a buffer.
    pub spliced: u64,
}

impl Totals {
    pub(super) const fn add(&mut self, record: &Record) {
        self.sessions += 1;
        self.up += record.up;
        self.down += record.down;
        if record.cut_short {
            self.cut_short += 1;
        }
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

    #[test]
    fn errors_of_connect_become_words() {
        for (errno, word) in [
            (Errno::CONNREFUSED, "refused"),
            (Errno::TIMEDOUT, "connect-timeout"),
            (Errno::NETUNREACH, "unreachable"),
            (Errno::HOSTUNREACH, "unreachable"),
            (Errno::ACCESS, "unreachable"),
            (Errno::INVAL, "unreachable"),
            (Errno::ADDRNOTAVAIL, "no-resources"),
            (Errno::AGAIN, "no-resources"),
            (Errno::MFILE, "no-resources"),
            (Errno::NOBUFS, "no-resources"),
        ] {
            assert_eq!(Cause::of_connect(&io::Error::from(errno)).word(), word, "{errno:?}");
        }
        assert_eq!(Cause::of_connect(&ErrorKind::ConnectionRefused.into()), Cause::Refused);
        assert_eq!(Cause::of_connect(&ErrorKind::TimedOut.into()), Cause::ConnectTimeout);
        assert_eq!(Cause::of_connect(&ErrorKind::Other.into()), Cause::Unreachable);
    }

    #[test]
    fn totals_count_what_was_reset_by_the_drain_apart() {
        let mut totals = Totals::default();
        let address = "127.0.0.1:1".parse().unwrap();
        let (time, connect) = (Duration::ZERO, Duration::ZERO);
        for (end, cut_short) in [(Cause::Drain, true), (Cause::ClientReset, true), (Cause::ClientEof, false)] {
            totals.add(&Record { client: address, upstream: address, up: 3, down: 4, time, connect, end, cut_short });
        }
        assert_eq!(totals, Totals { sessions: 3, up: 9, down: 12, cut_short: 2, spliced: 0 });
    }
}
