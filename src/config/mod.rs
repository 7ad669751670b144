//! What a relay is told to do.

pub(crate) mod limits;
mod memory;
mod networks;
mod proxies;
pub(crate) mod ranges;
mod route;
mod source;
mod upstream;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::Error;
pub use networks::Networks;
pub use proxies::Proxies;
use ranges::{BUFFER_SIZES, DURATIONS, ROUTES};
pub use route::{AtLimit, ResetGrace, Route};
pub use upstream::{Balance, Host};

/// What a relay is told to do: its routes, and what they share. [`Config::new`] gives the defaults for one route.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The listeners and their upstreams: 1 to 1,024.
    pub routes: Vec<Route>,
    /// Whether log lines name the route they are about also if there is only one. With two or more they always do. It stays
    /// as it was at start, whatever a reload says. Default false.
    pub name_routes: bool,
    /// Descriptors that no session gets, beside those that the relay knows of: for what else the process opens. 0.
    pub descriptors_reserved: usize,
    /// How long the answer of a name lookup is used before the name is looked up again, if a session wants it then: 1 ms to
    /// 365 days. Default 5 s.
    pub resolve_ttl: Duration,
    /// How long sessions may take to finish after a stop request; zero resets them at once, None waits for ever.
    /// Default 15 s.
    pub drain_timeout: Option<Duration>,
    /// How long clients are still accepted after the first stop request, for load balancers that learn of it late. Nothing
    /// else happens until then. Zero, the default, is not at all.
    pub drain_delay: Duration,
    /// While draining, sessions in which nothing has moved for that long are reset, also if that was before the request. None,
    /// the default, is none of them before [`drain_timeout`](Self::drain_timeout).
    pub drain_idle_timeout: Option<Duration>,
    /// Bytes in a buffer, 4 KiB to 16 MiB. A direction has one while it holds bytes, unless they are in a pipe (see
    /// [`splice`](Self::splice)). Default 64 KiB.
    pub buffer_size: usize,
    /// Whether bytes may pass through a pipe of the kernel's instead of being copied (`splice(2)`, Linux). Default
    /// [`Splice::Auto`].
    pub splice: Splice,
    /// The most sessions at a time. None, the default, is what the limit of open descriptors allows; more than that is
    /// lowered to it.
    pub max_sessions: Option<usize>,
}

/// When bytes pass through a pipe of the kernel's instead of being copied.
///
/// It makes bulk transfers cheaper and small messages dearer. `splice(2)` has no MSG_NOSIGNAL: a process that neither
/// ignores nor handles SIGPIPE may be killed by it. Rust's `main` ignores it; without one, choose [`Off`](Self::Off).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Splice {
    /// While the reads of a direction are large.
    #[default]
    Auto,
    /// From the first byte on, if a pipe is free. It makes small messages 50 % more expensive and is meant for tests.
    On,
    /// Never.
    Off,
}

impl Config {
    /// What durations may be, where they are not off: 1 ms to 365 days.
    pub const DURATIONS: RangeInclusive<Duration> = DURATIONS;

    /// What [`buffer_size`](Self::buffer_size) may be, in bytes.
    pub const BUFFER_SIZES: RangeInclusive<usize> = BUFFER_SIZES;

    /// How many [`routes`](Self::routes) there may be.
    pub const ROUTES: RangeInclusive<usize> = ROUTES;

    /// One route: relay what connects to `from` to the first of `to` that answers.
    pub fn new(from: SocketAddr, to: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self::of([Route::new(from, to)])
    }

    /// These routes.
    pub fn of(routes: impl IntoIterator<Item = Route>) -> Self {
        Self {
            routes: routes.into_iter().collect(),
            name_routes: false,
            descriptors_reserved: 0,
            resolve_ttl: Duration::from_secs(5),
            drain_timeout: Some(Duration::from_secs(15)),
            drain_delay: Duration::ZERO,
            drain_idle_timeout: None,
            buffer_size: 64 << 10,
            splice: Splice::Auto,
            max_sessions: None,
        }
    }

    /// Is every field within its range?
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !ROUTES.contains(&self.routes.len()) {
            let (least, most) = (ROUTES.start(), ROUTES.end());
            return Err(Error::Config(format!("{} routes; {least} to {most} are possible", self.routes.len())));
        }
        self.routes.iter().try_for_each(Route::check).map_err(Error::Config)?;
        let or_zero = |time: Option<Duration>| time.filter(|time| !time.is_zero());
        route::check_duration("drain", or_zero(self.drain_timeout)).map_err(Error::Config)?;
        route::check_duration("drain-delay", or_zero(Some(self.drain_delay))).map_err(Error::Config)?;
        route::check_duration("drain-idle", self.drain_idle_timeout).map_err(Error::Config)?;
        route::check_duration("resolve-ttl", Some(self.resolve_ttl)).map_err(Error::Config)?;
        if !BUFFER_SIZES.contains(&self.buffer_size) {
            let size = self.buffer_size;
            return Err(Error::Config(format!("a buffer of {size} bytes is not between 4 KiB and 16 MiB")));
        }
        if self.max_sessions == Some(0) {
            return Err(Error::Config("max_sessions must be at least 1".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Address;

    fn config() -> Config {
        Config::new(([127, 0, 0, 1], 0).into(), [([127, 0, 0, 1], 80).into()])
    }

    fn complaint(change: impl FnOnce(&mut Config)) -> String {
        let mut config = config();
        change(&mut config);
        config.check().expect_err("this should be out of range").to_string()
    }

    fn too_many() -> Networks {
        vec!["10.0.0.1"; 1025].join(",").parse().unwrap()
    }

    #[test]
    fn the_defaults_are_in_range() {
        config().check().unwrap();
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let day = Duration::from_secs(24 * 60 * 60);
        for (complaint, word) in [
            (complaint(|c| c.routes[0].to.clear()), "0 upstream addresses"),
            (complaint(|c| c.routes[0].to = vec![c.routes[0].to[0].clone(); 257]), "257 upstream addresses"),
            (complaint(|c| c.routes[0].to = vec![Host::name("db.internal", 0)]), "port 0"),
            (complaint(|c| c.routes[0].to = vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()]), "port 0"),
            (complaint(|c| c.routes[0].max_sessions = Some(0)), "max_sessions"),
            (complaint(|c| c.resolve_ttl = Duration::ZERO), "resolve-ttl"),
            (complaint(|c| c.routes[0].connect_timeout = Duration::ZERO), "connect"),
            (complaint(|c| c.routes[0].connect_attempts = 0), "attempt"),
            (complaint(|c| c.routes[0].half_close_timeout = Some(366 * day)), "half-close"),
            (complaint(|c| c.routes[0].idle_timeout = Some(Duration::from_micros(999))), "idle"),
            (complaint(|c| c.drain_timeout = Some(366 * day)), "drain"),
            (complaint(|c| c.routes[0].reset_grace = ResetGrace::Fixed(Duration::ZERO)), "reset-grace"),
            (complaint(|c| c.routes[0].max_lifetime = Some(Duration::ZERO)), "max-lifetime"),
            (complaint(|c| c.routes[0].max_sessions_per_ip = Some(0)), "max_sessions_per_ip"),
            (complaint(|c| c.routes[0].deny = too_many()), "deny: 1025 networks"),
            (complaint(|c| c.routes[0].allow = too_many()), "allow: 1025 networks"),
            (complaint(|c| c.routes[0].accept_proxy = true), "accept_proxy needs proxy_from"),
            (complaint(|c| c.routes[0].proxy_from = "unix".parse().unwrap()), "proxy_from needs accept_proxy"),
            (complaint(|c| c.drain_delay = 366 * day), "drain-delay"),
            (complaint(|c| c.drain_idle_timeout = Some(Duration::ZERO)), "drain-idle"),
            (complaint(|c| c.routes[0].backlog = 0), "backlog"),
            (complaint(|c| c.routes[0].keepalive = Some(Duration::from_millis(1500))), "keepalive"),
            (complaint(|c| c.routes[0].keepalive = Some(Duration::ZERO)), "keepalive"),
            (complaint(|c| c.routes[0].keepalive = Some(Duration::from_secs(32_768))), "keepalive"),
            (complaint(|c| c.routes[0].tcp_user_timeout = Some(25 * day)), "tcp-user-timeout"),
            (complaint(|c| c.routes[0].tcp_user_timeout = Some(Duration::ZERO)), "tcp-user-timeout"),
            (complaint(|c| c.routes[0].source = vec![[0; 4].into()]), "0.0.0.0"),
            (complaint(|c| c.routes[0].source = vec![[0, 0, 0, 0, 0, 0, 0, 1].into()]), "127.0.0.1:80 is IPv4"),
            (complaint(|c| c.routes[0].unix_mode = 0o1000), "unix_mode 1000"),
            (complaint(|c| c.routes[0].from = Address::Unix((*b"").into())), "path of the Unix socket is missing"),
            (complaint(|c| c.routes[0].to = vec![Address::Unix([b'x'; 108].into()).into()]), "at most 107 bytes"),
            (complaint(|c| c.routes.clear()), "0 routes"),
            (complaint(|c| c.routes = vec![c.routes[0].clone(); 1025]), "1025 routes"),
            (complaint(|c| c.buffer_size = (4 << 10) - 1), "buffer"),
            (complaint(|c| c.buffer_size = (16 << 20) + 1), "buffer"),
            (complaint(|c| c.max_sessions = Some(0)), "max_sessions"),
        ] {
            assert!(complaint.contains(word), "{complaint}");
        }
    }

    #[test]
    fn the_ends_of_the_ranges_are_in_range() {
        for change in [
            |c: &mut Config| c.routes[0].to = vec![c.routes[0].to[0].clone(); 256],
            |c: &mut Config| c.drain_timeout = Some(Duration::ZERO),
            |c: &mut Config| c.drain_timeout = None,
            |c: &mut Config| c.routes[0].half_close_timeout = None,
            |c: &mut Config| c.routes[0].idle_timeout = Some(Duration::from_millis(1)),
            |c: &mut Config| c.routes[0].connect_timeout = Duration::from_secs(365 * 24 * 60 * 60),
            |c: &mut Config| c.buffer_size = 4 << 10,
            |c: &mut Config| c.buffer_size = 16 << 20,
            |c: &mut Config| c.max_sessions = Some(1),
            |c: &mut Config| c.routes[0].connect_attempts = 1,
            |c: &mut Config| c.routes[0].backlog = 1,
            |c: &mut Config| c.routes[0].keepalive = Some(Duration::from_secs(32_767)),
            |c: &mut Config| c.routes[0].keepalive = Some(Duration::from_secs(1)),
            |c: &mut Config| c.routes[0].tcp_user_timeout = Some(Duration::from_millis(2_147_483_647)),
        ] {
            let mut config = config();
            change(&mut config);
            config.check().unwrap();
        }
    }
}
