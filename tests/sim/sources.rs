//! Source addresses on the simulated kernel: each has ports of its own, and may be missing for a while.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use rustix::io::Errno;
use tproxy::net::Time;

use crate::plan::Plan;
use crate::world::World;

/// Stands for what bind(2) says of an address that this machine does not have. No call of the seam gives this number.
pub(crate) const NO_SOURCE: Errno = Errno::NODEV;

/// As the seam says it.
pub(crate) fn connect_error(error: Errno) -> io::Error {
    match error {
        NO_SOURCE => io::Error::new(ErrorKind::AddrNotAvailable, "no address of ours"),
        error => error.into(),
    }
}

/// The source address with this number.
pub(crate) fn source(number: u8) -> IpAddr {
    [10, 7, 0, number].into()
}

/// From one moment to another, this machine does not have this address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lack {
    pub(crate) source: IpAddr,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

impl Plan {
    /// Is this address missing now?
    fn lacks(&self, source: IpAddr, now: Time) -> bool {
        let lasts =
            |lack: &Lack| lack.source == source && (Time::START + lack.from..Time::START + lack.until).contains(&now);
        self.lacks.iter().any(lasts)
    }
}

impl World {
    /// Can a socket be bound to this address in this turn? At start nothing is missing.
    pub(crate) fn is_missing(&self, source: IpAddr) -> bool {
        let now = self.kernel.turn.unwrap_or(self.kernel.now);
        self.shadow.turn > 0 && self.plan.lacks(source, now)
    }

    /// The relay asks whether it can connect from there.
    pub(crate) fn check_source(&mut self, source: IpAddr) -> io::Result<()> {
        let is_missing = self.is_missing(source);
        self.trace.note(self.kernel.now, || format!("may connect from {source}: {}", !is_missing));
        self.shadow.source_asked(source, is_missing);
        if is_missing { Err(Errno::ADDRNOTAVAIL.into()) } else { Ok(()) }
    }
}
