//! Why a relay cannot start, or cannot go on.

use std::fmt;
use std::io;
use std::net::IpAddr;

use rustix::io::Errno;

use crate::net::Address;

/// Why a relay cannot start, or cannot go on. The trouble of a single session is never one of these.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A field of the configuration is out of its range.
    Config(String),
    /// An upstream is the relay itself, perhaps under another name.
    Loop {
        /// Where the relay listens.
        listening: Address,
        /// The upstream address that leads back there.
        upstream: Address,
    },
    /// An address cannot be listened on.
    Listen {
        /// The address.
        address: Address,
        /// What the kernel said.
        error: io::Error,
    },
    /// An address of a reload cannot be listened on while a listener of this relay is open.
    Overlap {
        /// The address.
        address: Address,
        /// Where the relay listens.
        open: Address,
        /// Does the reload remove that listener?
        is_removed: bool,
    },
    /// A source address is none that connections can come from.
    Source {
        /// The address.
        address: IpAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// A relay that was asked to stop is not reloaded.
    Draining,
    /// The relay has ended.
    Ended,
    /// The limit of open descriptors leaves no room for one session.
    Descriptors {
        /// The limit, RLIMIT_NOFILE.
        limit: u64,
    },
    /// Something the relay needs to start is missing: memory, descriptors, an event queue.
    Start(io::Error),
    /// The event queue failed.
    Wait(io::Error),
    /// A listener is dead.
    Accept(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => f.write_str(what),
            Self::Loop { listening, upstream } => {
                write!(
                    f,
                    "the upstream {upstream} is this relay itself, which listens on {listening}; choose another address or port"
                )
            }
            Self::Listen { address, error } => {
                write!(f, "cannot listen on {address}: {error}{}", advice(error, address))
            }
            Self::Overlap { address, open, is_removed: true } => write!(
                f,
                "cannot listen on {address} while {open}, which is to be removed, is open (restart, or reload twice: \
                 first without either)"
            ),
            Self::Overlap { address, open, is_removed: false } => {
                write!(f, "cannot listen on {address}: the listener on {open} has its clients (leave one of them out)")
            }
            Self::Source { address, error } => {
                let advice = match error.kind() {
                    io::ErrorKind::AddrNotAvailable => {
                        " (this machine does not have that address; write one of its own)"
                    }
                    _ => "",
                };
                write!(f, "cannot connect from {address}: {error}{advice}")
            }
            Self::Draining => f.write_str("the relay is draining"),
            Self::Ended => f.write_str("the relay has ended"),
            Self::Descriptors { limit } => {
                write!(f, "the limit of {limit} open files leaves no room for a session (raise `ulimit -n`)")
            }
            Self::Start(error) => write!(f, "cannot start: {error}"),
            Self::Wait(error) => write!(f, "cannot wait for events: {error}"),
            Self::Accept(error) => write!(f, "cannot accept clients any more: {error}"),
        }
    }
}

/// What to do about an address that cannot be listened on.
fn advice(error: &io::Error, address: &Address) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if address.is_unix() => match Errno::from_io_error(error) {
            // rename(2): the folder is sticky.
            Some(Errno::PERM) => " (another user's file is there; choose another path, or remove it)",
            _ => " (its folder must be writable)",
        },
        io::ErrorKind::AddrInUse if address.is_unix() && error.raw_os_error().is_none() => {
            " (choose another path, or remove it if nobody listens there)"
        }
        io::ErrorKind::AddrInUse if address.is_unix() => {
            " (another process listens there; choose another path, or stop it)"
        }
        io::ErrorKind::NotFound if address.is_unix() => " (its folder is not there)",
        io::ErrorKind::AlreadyExists if address.is_unix() => " (choose another path, or remove it)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrInUse => " (another process listens there; choose another port, or stop it)",
        io::ErrorKind::AddrNotAvailable => " (this machine does not have that address)",
        _ => "",
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_)
            | Self::Loop { .. }
            | Self::Overlap { .. }
            | Self::Draining
            | Self::Ended
            | Self::Descriptors { .. } => None,
            Self::Listen { error, .. }
            | Self::Source { error, .. }
            | Self::Start(error)
            | Self::Wait(error)
            | Self::Accept(error) => Some(error),
        }
    }
}
