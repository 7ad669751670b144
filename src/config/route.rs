//! One listener, the upstream it leads to, and the settings of its sessions.

use std::time::Duration;

use super::ranges::{ADDRESSES, DURATIONS};
use crate::net::Address;

/// A listener, the upstream it leads to, and the settings of its sessions. [`Route::new`] gives the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// Where to listen. Port 0 lets the kernel choose one. `[::]` takes IPv4 clients too.
    pub from: Address,
    /// Where to connect to, tried in this order: 1 to 256 addresses, none with port 0.
    pub to: Vec<Address>,
    /// Bounds the whole of connecting to the upstream, attempts and pauses included. Default 5 s.
    pub connect_timeout: Duration,
    /// How often all the upstream's addresses are tried, at least once. Default 1.
    pub connect_attempts: u32,
    /// After the first FIN, inactivity in both directions after which both ends are reset. None is never. Default 5 min.
    /// It also bounds how long bytes are thrown away after the side they are for has hung up.
    pub half_close_timeout: Option<Duration>,
    /// Inactivity in both directions after which both ends are reset. None is never, and the default.
    pub idle_timeout: Option<Duration>,
    /// Before a reset, how long a peer may take to acknowledge more of what it is owed. Default [`ResetGrace::Auto`].
    pub reset_grace: ResetGrace,
}

/// How long a peer may take to acknowledge more of what it is owed, before it is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetGrace {
    /// Three times the connection's own retransmission time-out, at least 300 ms and at most 5 s. It follows the path:
    /// 300 ms to 1 s on a LAN, and time for several losses in a row where the round trip is long.
    #[default]
    Auto,
    /// This long.
    Fixed(Duration),
}

impl Route {
    /// Relay what connects to `from` to the first of `to` that answers.
    pub fn new(from: Address, to: impl IntoIterator<Item = Address>) -> Self {
        Self {
            from,
            to: to.into_iter().collect(),
            connect_timeout: Duration::from_secs(5),
            connect_attempts: 1,
            half_close_timeout: Some(Duration::from_secs(300)),
            idle_timeout: None,
            reset_grace: ResetGrace::Auto,
        }
    }

    /// Is every field within its range? If not, says what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        if !ADDRESSES.contains(&self.to.len()) {
            let (least, most) = (ADDRESSES.start(), ADDRESSES.end());
            return Err(format!("{} upstream addresses; {least} to {most} are possible", self.to.len()));
        }
        for upstream in &self.to {
            let Address::Inet(address) = upstream;
            if address.port() == 0 {
                return Err(format!("port 0 cannot be connected to: {upstream}"));
            }
        }
        let reset_grace = match self.reset_grace {
            ResetGrace::Auto => None,
            ResetGrace::Fixed(grace) => Some(grace),
        };
        for (name, duration) in [
            ("connect", Some(self.connect_timeout)),
            ("half-close", self.half_close_timeout),
            ("idle", self.idle_timeout),
            ("reset-grace", reset_grace),
        ] {
            check_duration(name, duration)?;
        }
        if self.connect_attempts == 0 {
            return Err("at least one attempt to connect is needed".to_owned());
        }
        Ok(())
    }
}

/// Is this time off or within its range?
pub(super) fn check_duration(name: &str, duration: Option<Duration>) -> Result<(), String> {
    match duration {
        Some(duration) if !DURATIONS.contains(&duration) => {
            Err(format!("the {name} time of {duration:?} is not between 1ms and 365 days"))
        }
        Some(_) | None => Ok(()),
    }
}
