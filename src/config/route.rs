//! One listener, the upstream it leads to, and the settings of its sessions.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::networks::Networks;
use super::ranges::{DURATIONS, HOSTS};
use super::upstream::{Balance, Host};
use crate::net::Address;

/// A listener, the upstream it leads to, and the settings of its sessions. [`Route::new`] gives the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// What the log calls it. Default: `from`, as written.
    pub name: String,
    /// Where to listen. Port 0 lets the kernel choose one. `[::]` takes IPv4 clients too.
    pub from: Address,
    /// The upstream: 1 to 256 hosts, none with port 0. Of the addresses behind them, the first 256 are used.
    pub to: Vec<Host>,
    /// In which order the upstream's addresses are tried. Default [`Balance::First`].
    pub balance: Balance,
    /// The most sessions of this route at a time; more clients wait in its listener's queue. None, the default, is as many
    /// as the process may have. Sessions that its listener accepted before a reload count too.
    pub max_sessions: Option<usize>,
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
    /// The clients that may come. Empty, the default, is all. See [`deny`](Self::deny).
    pub allow: Networks,
    /// The clients that may not come: they are reset when they are accepted. The longest prefix that contains the client's
    /// address decides, whichever of the two lists it is in; of equal prefixes, this one. Where none contains it, the client
    /// is denied if [`allow`](Self::allow) is not empty. Default: none.
    pub deny: Networks,
    /// The most sessions at a time of clients with one IP address, or of IPv6 clients with the same 64 bits in front. More are
    /// reset. Sessions that began before a reload set the limit do not count. None, the default, is no such limit.
    pub max_sessions_per_ip: Option<usize>,
    /// What becomes of a client for which there is no room: see [`max_sessions`](Self::max_sessions) and
    /// [`Config::max_sessions`](crate::Config::max_sessions). Default [`AtLimit::Wait`].
    pub at_limit: AtLimit,
    /// How long a session may last, from accept. Each is reset after 90 to 100 % of it, so that many that began together do
    /// not end together. None, the default, is for ever.
    pub max_lifetime: Option<Duration>,
}

/// What becomes of a client for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtLimit {
    /// It waits in the kernel's queue.
    #[default]
    Wait,
    /// It is accepted and reset.
    Reset,
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
    /// How many hosts [`to`](Self::to) may have.
    pub const HOSTS: RangeInclusive<usize> = HOSTS;

    /// Relay what connects to `from` to the first of `to` that answers.
    pub fn new(from: impl Into<Address>, to: impl IntoIterator<Item = impl Into<Host>>) -> Self {
        let from = from.into();
        Self {
            name: from.to_string(),
            from,
            to: to.into_iter().map(Into::into).collect(),
            balance: Balance::First,
            max_sessions: None,
            connect_timeout: Duration::from_secs(5),
            connect_attempts: 1,
            half_close_timeout: Some(Duration::from_secs(300)),
            idle_timeout: None,
            reset_grace: ResetGrace::Auto,
            allow: Networks::default(),
            deny: Networks::default(),
            max_sessions_per_ip: None,
            at_limit: AtLimit::Wait,
            max_lifetime: None,
        }
    }

    /// Is every field within its range? If not, says what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        if !HOSTS.contains(&self.to.len()) {
            let (least, most) = (HOSTS.start(), HOSTS.end());
            return Err(format!("{} upstream addresses; {least} to {most} are possible", self.to.len()));
        }
        if let Some(host) = self.to.iter().find(|host| host.port() == 0) {
            return Err(format!("port 0 cannot be connected to: {host}"));
        }
        if self.max_sessions == Some(0) {
            return Err("max_sessions of a route must be at least 1".to_owned());
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
            ("max-lifetime", self.max_lifetime),
        ] {
            check_duration(name, duration)?;
        }
        if self.max_sessions_per_ip == Some(0) {
            return Err("max_sessions_per_ip must be at least 1".to_owned());
        }
        self.allow.check("allow")?;
        self.deny.check("deny")?;
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
