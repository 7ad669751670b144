//! Every option that a file may have too, once: its name, its help, and where it goes in the configuration.
//!
//! The library has the defaults. An option that is not written changes nothing, so settings can be laid over each other:
//! a route's over those for all routes, the command line's over the file's.

use std::sync::LazyLock;

use clap::CommandFactory as _;
use serde::{Deserialize, Deserializer};
use tproxy::net::Address;
use tproxy::{AtLimit, Balance, Config, Networks, Proxies, ProxyVersion, Route, Splice};

use super::address::{Listeners, Upstream, one_address};
use super::mode::Mode;
use super::quantity::{Attempts, Delay, DrainTimeout, Grace, Sessions, Size, Time, Timeout, Times};
use super::routes::RouteName;
use super::socket::{Backlog, Keepalive, Sources, UserTimeout};
use super::switch::Switch;
use super::value::{Word, one_or_several, value, words};
use crate::logging::LogFormat;

value! {
    /// A list of networks.
    Clients(Networks) = str::parse, "a network, such as \"10.0.0.0/8\""
}

value! {
    /// Where --admin and --metrics listen.
    Inside(Address) = one_address, "an address, such as \"127.0.0.1:9000\""
}

value! {
    /// A list of proxies that are believed.
    Believed(Proxies) = str::parse, "a network, such as \"10.0.0.0/8\", or \"unix\""
}

/// The options that a file may have too. Its keys are their long names.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// The route's name in the log. Only a file can give one.
    #[arg(skip)]
    pub(super) name: Option<RouteName>,

    /// Address and port to listen on, or several, separated by commas. :PORT is every address of this machine, port 0 lets
    /// the system choose, a range such as :7000-7009 is a listener for each port, and a name is looked up once, at start.
    /// unix:/run/app.sock is a Unix socket, unix:@name one with an abstract name. fd:3 is the listening socket with that number
    /// that was inherited, systemd:NAME those with that name. One that is bound to an address here is taken in any case.
    /// May be repeated: each --to then belongs to the last --from before it [default: 127.0.0.1:6101]
    #[arg(short, long, value_name = "ADDR", allow_hyphen_values = true, help_heading = ADDRESSES)]
    #[serde(deserialize_with = "one_or_several")]
    pub(super) from: Vec<Listeners>,

    /// Address or name, and port, or a Unix socket, to connect to, or several, separated by commas, or repeated: the
    /// upstream's hosts in their order. A range belongs to a range of --from, port by port. echo: is a built-in server that
    /// sends back what it gets
    #[arg(short, long, value_name = "ADDR", allow_hyphen_values = true, help_heading = ADDRESSES)]
    #[serde(deserialize_with = "one_or_several")]
    pub(super) to: Vec<Upstream>,

    /// Which of the upstream's addresses a session tries first. first: in the order as written, the others are spares;
    /// round-robin: each session begins with the next; least-sessions: the one with the fewest; source: by the client's IP
    /// address. One that could not be connected to lately comes last [default: first]
    #[arg(long, value_name = "POLICY", value_parser = words::<Balance>(), help_heading = CONNECTING)]
    balance: Option<Word<Balance>>,

    /// How long connecting to the upstream may take, attempts and pauses included. The remaining time is divided equally
    /// among the addresses still to be tried, so one dead address cannot use it all up [default: 5s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = CONNECTING)]
    connect_timeout: Option<Time>,

    /// How often all the upstream's addresses are tried before the client is reset, 1 to 1000. Between two attempts there is
    /// a pause of about 100 ms, doubling to at most 1 s [default: 1]
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = CONNECTING)]
    connect_attempts: Option<Attempts>,

    /// After the first FIN, reset both ends when no byte has moved in either direction for this long; or off [default: 5m]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = ENDING)]
    half_close_timeout: Option<Timeout>,

    /// Reset both ends when no byte has moved in either direction for this long; or off [default: off]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = ENDING)]
    idle_timeout: Option<Timeout>,

    /// Before resetting a peer, wait this long for it to acknowledge more of the pending data. Every acknowledgement
    /// restarts the wait. auto: three times the connection's own retransmission time-out, at least 300ms and at most 5s
    /// [default: auto]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = ENDING)]
    reset_grace: Option<Grace>,

    /// Reset a session that lasts this long, however busy it is; or off. Each ends after 90 to 100 % of it, so that sessions
    /// that began together do not end together [default: off]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = ENDING)]
    max_lifetime: Option<Timeout>,

    /// The clients that may come: networks, separated by commas, or repeated. The longest prefix that contains the client's
    /// address decides, in --allow and --deny together; of equal ones, --deny. Without a match: if there is an --allow, the
    /// client is denied. A denied client is reset when it is accepted [default: all]
    #[arg(long, value_name = "CIDR", allow_hyphen_values = true, help_heading = CLIENTS)]
    #[serde(deserialize_with = "one_or_several")]
    allow: Vec<Clients>,

    /// The clients that may not come: see --allow [default: none]
    #[arg(long, value_name = "CIDR", allow_hyphen_values = true, help_heading = CLIENTS)]
    #[serde(deserialize_with = "one_or_several")]
    deny: Vec<Clients>,

    /// Sessions at a time of clients with one IP address (IPv6: with the same 64 bits in front). More of them are reset
    /// [default: no such limit]
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = CLIENTS)]
    max_sessions_per_ip: Option<Sessions>,

    /// What becomes of clients when there are --max-sessions. wait: they wait in the kernel's queue; reset: they are accepted
    /// and reset [default: wait]
    #[arg(long, value_name = "WHAT", value_parser = words::<AtLimit>(), help_heading = CLIENTS)]
    at_limit: Option<Word<AtLimit>>,

    /// Clients that may wait in the kernel's queue before they are accepted, 1 to 65535. The kernel lowers it to
    /// net.core.somaxconn [default: 4096]
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = SOCKETS)]
    backlog: Option<Backlog>,

    /// The kernel asks a silent peer after this long whether it is still there; when 6 probes, 10 s apart, are not answered,
    /// the session ends. Whole seconds, 1s to 32767s, on both sides; or off [default: 60s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = SOCKETS)]
    keepalive: Option<Keepalive>,

    /// A peer that does not acknowledge what it was sent for this long is given up, on both sides; or off: after about 15
    /// minutes. It also ends a reader that stalls for so long, and takes the place of the probes of --keepalive
    /// [default: off]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = SOCKETS)]
    tcp_user_timeout: Option<UserTimeout>,

    /// Address of this machine to connect from, or several, separated by commas, or repeated: each connection comes from the
    /// next of those that are of its upstream's family, IPv4 or IPv6, and one without a free port is passed over. Upstream
    /// addresses of a family that is not among them are not connected to [default: the system chooses]
    #[arg(long, value_name = "IP", allow_hyphen_values = true, help_heading = SOCKETS)]
    #[serde(deserialize_with = "one_or_several")]
    source: Vec<Sources>,

    /// Do not log a session that reached its upstream and moved no byte, as those of health checks and port scans. It is
    /// counted: empty= in the last line [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true)]
    #[arg(help_heading = SESSIONS)]
    no_log_empty: Option<Switch>,

    /// Log a line when a session begins to relay, too [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true)]
    #[arg(help_heading = SESSIONS)]
    log_open: Option<Switch>,

    /// The permissions of a listening Unix socket's file. They say who may connect: an abstract name has none
    /// [default: 660]
    #[arg(long, value_name = "MODE", allow_hyphen_values = true, help_heading = CLIENTS)]
    unix_mode: Option<Mode>,

    /// Send the upstream a header of the PROXY protocol first. It says where the client connected from, and where to.
    /// HAProxy refuses v2 for a client that came by a Unix socket; v1 says UNKNOWN for it, which all take [default: off]
    #[arg(long, value_name = "VERSION", value_parser = words::<Option<ProxyVersion>>(), help_heading = CONNECTING)]
    send_proxy: Option<Word<Option<ProxyVersion>>>,

    /// Expect a header of the PROXY protocol (v1 or v2) before a client's bytes, within 5s, and take the client that it
    /// announces for the client: in the log, in --allow, --deny and --max-sessions-per-ip, and in --balance source. It needs
    /// --proxy-from [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide_possible_values = true)]
    #[arg(help_heading = CLIENTS)]
    accept_proxy: Option<Switch>,

    /// The proxies whose headers are believed: networks, separated by commas, or repeated; unix is clients of Unix sockets.
    /// Others are reset before a byte of theirs is read
    #[arg(long, value_name = "CIDR", allow_hyphen_values = true, help_heading = CLIENTS)]
    #[serde(deserialize_with = "one_or_several")]
    proxy_from: Vec<Believed>,

    /// How long sessions may take to finish after SIGINT or SIGTERM; 0 resets them at once, off waits for ever
    /// [default: 15s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = PROCESS)]
    drain_timeout: Option<DrainTimeout>,

    /// After the first SIGINT or SIGTERM, go on accepting clients for this long before the drain begins, for load balancers
    /// that learn of it late [default: 0]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = PROCESS)]
    drain_delay: Option<Delay>,

    /// While draining, reset a session in which no byte has moved for this long, also before the signal; or off. So idle
    /// sessions do not use up the whole of --drain-timeout [default: off]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = PROCESS)]
    drain_idle_timeout: Option<Timeout>,

    /// How long the answer of a name lookup is used before a session that wants the name has it looked up again
    /// [default: 5s]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = PROCESS)]
    resolve_ttl: Option<Time>,

    /// Bytes in a buffer, 4k to 16M. A direction has one only while it holds bytes [default: 64k]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = PROCESS)]
    buffer_size: Option<Size>,

    /// Move bulk through a pipe in the kernel instead of copying it. auto: while the reads of a direction are large.
    /// At most 32 pipes are used; without a free pipe, bytes are copied. on makes small messages 50 % more expensive
    /// [default: auto]
    #[arg(long, value_name = "WHEN", value_parser = words::<Splice>(), help_heading = PROCESS)]
    splice: Option<Word<Splice>>,

    /// Sessions at a time. More clients wait in the kernel's queue. In a [[route]] of a file: the sessions of that route
    /// [default: what the limit of open files allows]
    #[arg(long, value_name = "N", allow_hyphen_values = true, help_heading = PROCESS)]
    max_sessions: Option<Sessions>,

    /// Write the addresses it listens on to this file, one on each line, once it listens. - is stdout
    #[arg(long, value_name = "PATH", help_heading = PROCESS)]
    pub(super) port_file: Option<String>,

    /// Write the process ID to this file. After SIGUSR2 it is that of the new process
    #[arg(long, value_name = "PATH", help_heading = PROCESS)]
    pub(super) pid_file: Option<String>,

    /// Show what is going on inside, over HTTP, at this address of the loopback or unix:/path: a page for people at /, the
    /// sessions and routes as JSON, and what --metrics has. Everyone who can connect there sees the clients' addresses
    #[arg(long, value_name = "ADDR", help_heading = PROCESS)]
    pub(super) admin: Option<Inside>,

    /// Serve /metrics (Prometheus), /healthz and /readyz over HTTP at this address. They name no client
    #[arg(long, value_name = "ADDR", help_heading = PROCESS)]
    pub(super) metrics: Option<Inside>,

    /// How a log line is written. json: an object with ts, level, and message, or event with the fields of a session's line;
    /// times in seconds. text goes to the journal with a priority and no time, if stderr leads there [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = words::<LogFormat>(), help_heading = LOG)]
    pub(super) log_format: Option<Word<LogFormat>>,

    /// Log more: -v for debug, -vv for trace. In a file: 1 or 2
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = LOG)]
    #[serde(deserialize_with = "how_often")]
    pub(super) verbose: u8,

    /// Log less: -q for warnings and errors, -qq for errors only. In a file: 1 or 2
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "verbose", help_heading = LOG)]
    #[serde(deserialize_with = "how_often")]
    pub(super) quiet: u8,
}

const ADDRESSES: &str = "Addresses (of a route)";
const CONNECTING: &str = "Connecting (of each route)";
const ENDING: &str = "Ending (of each route)";
const CLIENTS: &str = "Clients (of each route)";
const SOCKETS: &str = "Sockets (of each route)";
const SESSIONS: &str = "Sessions in the log (of each route)";
const PROCESS: &str = "Process-wide";
const LOG: &str = "Log (process-wide)";

/// Where a setting may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// It is one for the process.
    Process,
    /// It is a route's; for all routes it may be written once.
    EachRoute,
    /// It is one route's own.
    OneRoute,
}

impl Settings {
    /// The scope of each option and key, by its long name.
    pub(super) fn scopes() -> &'static [(String, Scope)] {
        static SCOPES: LazyLock<Vec<(String, Scope)>> = LazyLock::new(Settings::list_scopes);
        &SCOPES
    }

    fn list_scopes() -> Vec<(String, Scope)> {
        let command = Alone::command();
        let scope = |option: &clap::Arg| {
            let scope = match option.get_help_heading() {
                Some(ADDRESSES) => Scope::OneRoute,
                Some(PROCESS | LOG) => Scope::Process,
                _ => Scope::EachRoute,
            };
            Some((option.get_long()?.to_owned(), scope))
        };
        let options = command.get_arguments().filter(|option| option.get_id() != "help").filter_map(scope);
        options.chain([("name".to_owned(), Scope::OneRoute)]).collect()
    }

    /// Changes what is one for the process.
    pub(super) fn change_process(&self, config: &mut Config) {
        set(&mut config.drain_timeout, self.drain_timeout.as_ref().map(|time| time.0));
        set(&mut config.drain_delay, self.drain_delay.as_ref().map(|time| time.0));
        set(&mut config.drain_idle_timeout, self.drain_idle_timeout.as_ref().map(|time| time.0));
        set(&mut config.resolve_ttl, self.resolve_ttl.as_ref().map(|time| time.0));
        set(&mut config.buffer_size, self.buffer_size.as_ref().map(|size| size.0));
        set(&mut config.splice, self.splice.map(|word| word.0));
        set(&mut config.max_sessions, self.max_sessions.as_ref().map(|sessions| Some(sessions.0)));
    }

    /// Changes what each route has for itself. They may be those for all routes, or this route's own.
    pub(super) fn change_route(&self, route: &mut Route) {
        set(&mut route.balance, self.balance.map(|word| word.0));
        set(&mut route.connect_timeout, self.connect_timeout.as_ref().map(|time| time.0));
        set(&mut route.connect_attempts, self.connect_attempts.as_ref().map(|attempts| attempts.0));
        set(&mut route.half_close_timeout, self.half_close_timeout.as_ref().map(|time| time.0));
        set(&mut route.idle_timeout, self.idle_timeout.as_ref().map(|time| time.0));
        set(&mut route.reset_grace, self.reset_grace.as_ref().map(|grace| grace.0));
        set(&mut route.max_lifetime, self.max_lifetime.as_ref().map(|time| time.0));
        set(&mut route.allow, networks(&self.allow));
        set(&mut route.deny, networks(&self.deny));
        set(&mut route.max_sessions_per_ip, self.max_sessions_per_ip.as_ref().map(|sessions| Some(sessions.0)));
        set(&mut route.at_limit, self.at_limit.map(|word| word.0));
        set(&mut route.backlog, self.backlog.as_ref().map(|backlog| backlog.0));
        set(&mut route.keepalive, self.keepalive.as_ref().map(|time| time.0));
        set(&mut route.tcp_user_timeout, self.tcp_user_timeout.as_ref().map(|time| time.0));
        let sources: Vec<_> = self.source.iter().flat_map(|list| list.0.iter().copied()).collect();
        set(&mut route.source, Some(sources).filter(|sources| !sources.is_empty()));
        set(&mut route.log_empty, self.no_log_empty.as_ref().map(|switch| !switch.0));
        set(&mut route.log_open, self.log_open.as_ref().map(|switch| switch.0));
        set(&mut route.send_proxy, self.send_proxy.map(|word| word.0));
        set(&mut route.accept_proxy, self.accept_proxy.as_ref().map(|switch| switch.0));
        set(&mut route.proxy_from, proxies(&self.proxy_from));
        set(&mut route.unix_mode, self.unix_mode.as_ref().map(|mode| mode.0));
    }

    /// The most sessions of the route in whose table these settings are.
    pub(super) fn limit_route(&self, route: &mut Route) {
        set(&mut route.max_sessions, self.max_sessions.as_ref().map(|sessions| Some(sessions.0)));
    }
}

/// The settings as a command line of their own.
#[derive(Debug, clap::Parser)]
pub(super) struct Alone {
    #[command(flatten)]
    pub(super) settings: Settings,
}

/// All that were written, if any was.
fn networks(lists: &[Clients]) -> Option<Networks> {
    (!lists.is_empty()).then(|| Networks::all(lists.iter().map(|list| list.0.clone())))
}

fn proxies(lists: &[Believed]) -> Option<Proxies> {
    (!lists.is_empty()).then(|| Proxies::all(lists.iter().map(|list| list.0.clone())))
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn how_often<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    Times::deserialize(deserializer).map(|times| times.0)
}
