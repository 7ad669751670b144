//! Where a route leads: its hosts, and in which order their addresses are tried.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::net::Address;

/// A place that `--to` names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Host {
    /// An address or a Unix socket. A port is not 0.
    Address(Address),
    /// A name, looked up by the system's resolver (getaddrinfo(3)) whenever a session wants it and the last answer is
    /// older than [`Config::resolve_ttl`](crate::Config::resolve_ttl).
    Name {
        /// The name, as every other program of this machine would write it.
        name: Arc<str>,
        /// The port, not 0.
        port: u16,
    },
}

impl Host {
    /// A name with a port.
    pub fn name(name: &str, port: u16) -> Self {
        Self::Name { name: name.into(), port }
    }

    /// The port. A Unix socket has none.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Address(address) => address.inet().map(|address| address.port()),
            Self::Name { port, .. } => Some(*port),
        }
    }
}

impl From<Address> for Host {
    fn from(address: Address) -> Self {
        Self::Address(address)
    }
}

impl From<SocketAddr> for Host {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address.into())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// In which order the addresses of an upstream are tried. One that is down comes after those that are not, whatever the
/// policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// As written: the others are spares of the first.
    #[default]
    First,
    /// Each session begins with the address behind that of the session before.
    RoundRobin,
    /// The address with the fewest sessions first.
    LeastSessions,
    /// By the client's IP address, or the user of a client that came by a Unix socket: a client comes to the same upstream again, also by way of another relay with the same
    /// list. An address that joins or leaves moves only the clients that come to it or came to it (rendezvous hashing).
    Source,
}
