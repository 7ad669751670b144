//! How a session ended: a closed vocabulary, the same in the log and in the library.

use std::io;

use crate::net::errno::{ConnectError, on_connect};
use crate::net::{Address, Peer};
use crate::relay::input::Fault;

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
    /// The client hung up while it was still owed bytes (EPIPE).
    ClientClosed,
    /// The upstream hung up while it was still owed bytes (EPIPE).
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
    /// The client reset its connection before the upstream was connected.
    ClientGone,
    /// The drain deadline, or a stop request that does not wait.
    Drain,
    /// No descriptor or memory was left.
    NoResources,
    /// No source port to the upstream was left.
    NoPorts,
    /// The upstream's name could not be looked up, or has no address.
    Unresolved,
    /// The client may not come by this route.
    Denied,
    /// Its address has as many sessions as it may have, or there is no room and clients do not wait.
    Limit,
    /// It has lasted as long as a session may.
    Lifetime,
    /// While draining, no byte moved for the idle timeout of the drain.
    DrainIdle,
    /// A proxy was to announce the client, and what came first is no header, or ended before it was whole.
    BadHeader,
    /// A proxy was to announce the client, and its header did not come in time.
    HeaderTimeout,
    /// Nothing explains the end. That is a fault of the relay, and no session of the simulation may end like this.
    Unknown,
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
            Self::NoPorts => "no-ports",
            Self::Unresolved => "unresolved",
            Self::Denied => "denied",
            Self::Limit => "limit",
            Self::Lifetime => "lifetime",
            Self::DrainIdle => "drain-idle",
            Self::BadHeader => "bad-header",
            Self::HeaderTimeout => "header-timeout",
            Self::Unknown => "unknown",
        }
    }

    /// Was the client not served?
    pub(super) const fn is_refusal(self) -> bool {
        matches!(self, Self::Denied | Self::Limit)
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

    /// connect(2) to this address gave this error.
    pub(super) fn of_connect(error: &io::Error, to: &Address) -> Self {
        match on_connect(error, to) {
            ConnectError::Refused => Self::Refused,
            // A backlog that stays full is a connection that takes too long.
            ConnectError::Timeout | ConnectError::Full => Self::ConnectTimeout,
            ConnectError::Shortage => Self::NoResources,
            ConnectError::NoPorts | ConnectError::NoSource => Self::NoPorts,
            ConnectError::Unreachable | ConnectError::WasEstablished => Self::Unreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::SocketAddr;

    use crate::net::errno::is_shortage;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn no_resources_is_said_for_shortages_and_for_nothing_else() {
        let to = SocketAddr::from(([127, 0, 0, 1], 1)).into();
        for number in 1..=133 {
            let error = io::Error::from_raw_os_error(number);
            let ports = on_connect(&error, &to) == ConnectError::NoPorts;
            let said = Cause::of_connect(&error, &to) == Cause::NoResources;
            assert_eq!(said, is_shortage(&error) && !ports, "{error:?}");
        }
        for peer in Peer::BOTH {
            for fault in [Fault::Reset, Fault::Closed, Fault::Timeout, Fault::Resources] {
                let said = Cause::of_fault(peer, fault) == Cause::NoResources;
                assert_eq!(said, fault == Fault::Resources, "{peer:?} {fault:?}");
            }
        }
    }

    #[test]
    fn errors_of_connect_become_words() {
        let to = SocketAddr::from(([127, 0, 0, 1], 1)).into();
        for (errno, word) in [
            (Errno::CONNREFUSED, "refused"),
            (Errno::TIMEDOUT, "connect-timeout"),
            (Errno::NETUNREACH, "unreachable"),
            (Errno::HOSTUNREACH, "unreachable"),
            (Errno::ACCESS, "unreachable"),
            (Errno::INVAL, "unreachable"),
            (Errno::ADDRNOTAVAIL, "no-ports"),
            (Errno::AGAIN, "no-ports"),
            (Errno::MFILE, "no-resources"),
            (Errno::NOBUFS, "no-resources"),
        ] {
            assert_eq!(Cause::of_connect(&io::Error::from(errno), &to).word(), word, "{errno:?}");
        }
        let of_kind = |kind: ErrorKind| Cause::of_connect(&kind.into(), &to);
        assert_eq!(of_kind(ErrorKind::ConnectionRefused), Cause::Refused);
        assert_eq!(of_kind(ErrorKind::TimedOut), Cause::ConnectTimeout);
        assert_eq!(of_kind(ErrorKind::Other), Cause::Unreachable);
        // A backlog that stays full.
        let unix = "unix:/run/app".parse().unwrap();
        assert_eq!(Cause::of_connect(&Errno::AGAIN.into(), &unix), Cause::ConnectTimeout);
    }
}
