//! One listener, the upstream it leads to, and the settings of its sessions.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::networks::Networks;
use super::proxies::Proxies;
use super::ranges::{DURATIONS, HOSTS, KEEPALIVES, USER_TIMEOUTS};
use super::source::{check_sources, source_misses};
use super::upstream::{Balance, Host};
use crate::net::{Address, KEEPALIVE, LISTEN_BACKLOG, ListenOptions, UNIX_MODE};
use crate::relay::proxy::ProxyVersion;

/// A listener, the upstream it leads to, and the settings of its sessions. [`Route::new`] gives the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// What the log calls it. Default: `from`, as written.
    pub name: String,
    /// Where to listen: an IP address and a port, or a Unix socket. Port 0 lets the kernel choose one. `[::]` takes IPv4
    /// clients too.
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
    /// Clients that may wait in the kernel's queue, at least 1. The kernel lowers it to `net.core.somaxconn`. Default 4096.
    pub backlog: u16,
    /// Idle time after which the kernel asks a peer whether it is still there (SO_KEEPALIVE); after 6 probes, 10 s apart and
    /// all unanswered, it is taken for dead. Whole seconds, 1 s to 32,767 s. None is never. Default 60 s.
    pub keepalive: Option<Duration>,
    /// How long a peer may acknowledge nothing of what it is owed, or keep its window closed, before the kernel gives it up
    /// (TCP_USER_TIMEOUT): at most 2^31 - 1 ms. It takes the place of the probes of [`keepalive`](Self::keepalive) too. None,
    /// the default, is the kernel's own limit, about 15 minutes, and a reader may stall for ever.
    pub tcp_user_timeout: Option<Duration>,
    /// Addresses of this machine that connections to the upstream come from, in turn, one for each connection: those of the
    /// family of the address that is connected to. Addresses of a family without one are not connected to. None, the
    /// default: the kernel chooses.
    pub source: Vec<IpAddr>,
    /// Whether sessions that reached their upstream and moved no byte are in the log. If not, they are counted only
    /// ([`Totals::empty`](crate::Totals::empty)). Default true.
    pub log_empty: bool,
    /// Whether a line of the log says that a session begins to relay. Default false.
    pub log_open: bool,
    /// The version of the PROXY protocol's header that the upstream is sent first. It says where the client connected from,
    /// and where to. None, the default, is none.
    pub send_proxy: Option<ProxyVersion>,
    /// Whether a header of the PROXY protocol, of either version, is to come before a client's bytes. The client that it
    /// announces is the one in the log, in [`allow`](Self::allow) and [`deny`](Self::deny), per address and in
    /// [`Balance::Source`]. Default false.
    pub accept_proxy: bool,
    /// The proxies that are believed: others are reset. Not empty if and only if [`accept_proxy`](Self::accept_proxy) is
    /// set.
    pub proxy_from: Proxies,
    /// The permissions of the listener's file, if it is a Unix socket with one: 0 to 0o777. Default 0o660.
    pub unix_mode: u16,
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

    /// What [`keepalive`](Self::keepalive) may be, in whole seconds.
    pub const KEEPALIVES: RangeInclusive<Duration> = KEEPALIVES;

    /// What [`tcp_user_timeout`](Self::tcp_user_timeout) may be.
    pub const USER_TIMEOUTS: RangeInclusive<Duration> = USER_TIMEOUTS;

    /// Are these possible as [`source`](Self::source)? If not, says what is wrong and what to write.
    ///
    /// # Errors
    /// When one of them is no address of a machine, or is there twice, or there are more than 256.
    pub fn check_sources(sources: &[IpAddr]) -> Result<(), String> {
        check_sources(sources)
    }

    /// Are there few enough networks in each list? If not, says in which, by the name of its option, and what is wrong.
    ///
    /// # Errors
    /// When [`allow`](Self::allow), [`deny`](Self::deny) or [`proxy_from`](Self::proxy_from) has more than 1,024.
    pub fn check_networks(&self) -> Result<(), (&'static str, String)> {
        let lists = [("allow", self.allow.check()), ("deny", self.deny.check())];
        let mut lists = lists.into_iter().chain([("proxy-from", self.proxy_from.check())]);
        lists.try_for_each(|(name, checked)| checked.map_err(|text| (name, text)))
    }

    /// Why nothing can be connected to this address from [`source`](Self::source), if that is so: none is of its family.
    pub fn source_misses(&self, to: SocketAddr) -> Option<String> {
        source_misses(&self.source, to)
    }

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
            backlog: LISTEN_BACKLOG,
            keepalive: Some(KEEPALIVE),
            tcp_user_timeout: None,
            source: Vec::new(),
            log_empty: true,
            log_open: false,
            send_proxy: None,
            accept_proxy: false,
            proxy_from: Proxies::default(),
            unix_mode: UNIX_MODE,
        }
    }

    /// How to listen for its clients.
    pub(crate) fn listen_options(&self) -> ListenOptions {
        ListenOptions {
            backlog: self.backlog,
            keepalive: self.keepalive,
            user_timeout: self.tcp_user_timeout,
            unix_mode: self.unix_mode,
        }
    }

    /// Is every field within its range? If not, says what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        if !HOSTS.contains(&self.to.len()) {
            let (least, most) = (HOSTS.start(), HOSTS.end());
            return Err(format!("{} upstream addresses; {least} to {most} are possible", self.to.len()));
        }
        if let Some(host) = self.to.iter().find(|host| host.port() == Some(0)) {
            return Err(format!("port 0 cannot be connected to: {host}"));
        }
        let hosts = self.to.iter().filter_map(|host| match host {
            Host::Address(address) => Some(address),
            Host::Name { .. } => None,
        });
        hosts.chain([&self.from]).try_for_each(Address::check).map_err(|error| error.to_string())?;
        if self.unix_mode > 0o777 {
            return Err(format!("unix_mode {:o} is not between 0 and 777", self.unix_mode));
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
        self.check_networks().map_err(|(list, text)| format!("{list}: {text}"))?;
        match (self.accept_proxy, self.proxy_from.is_empty()) {
            (true, true) => return Err("accept_proxy needs proxy_from: the proxies that are believed".to_owned()),
            (false, false) => return Err("proxy_from needs accept_proxy".to_owned()),
            (true, false) | (false, true) => {}
        }
        if self.connect_attempts == 0 {
            return Err("at least one attempt to connect is needed".to_owned());
        }
        self.check_sockets()
    }

    fn check_sockets(&self) -> Result<(), String> {
        if self.backlog == 0 {
            return Err("a backlog must be 1 to 65535".to_owned());
        }
        if let Some(idle) = self.keepalive
            && (!KEEPALIVES.contains(&idle) || idle.subsec_nanos() != 0)
        {
            return Err(format!("the keepalive time of {idle:?} is not of whole seconds, 1 s to 32767 s"));
        }
        if let Some(timeout) = self.tcp_user_timeout.filter(|timeout| !USER_TIMEOUTS.contains(timeout)) {
            return Err(format!("the tcp-user-timeout of {timeout:?} is not between 1ms and 2147483647ms"));
        }
        check_sources(&self.source)?;
        let unfit = self.to.iter().find_map(|host| match host {
            Host::Address(Address::Inet(to)) => source_misses(&self.source, *to),
            Host::Address(Address::Unix(_)) | Host::Name { .. } => None,
        });
        unfit.map_or(Ok(()), Err)
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
