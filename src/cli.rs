//! The command line: what people write, and what is said when it cannot be.

use std::collections::HashSet;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgAction, Parser};
use log::LevelFilter;
use tproxy::{Config, Splice};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What the command line and RUST_LOG ask for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) from: SocketAddr,
    pub(crate) to: Target,
    pub(crate) level: LevelFilter,
    /// What is to be said once there is a log.
    pub(crate) warnings: Vec<String>,
    args: Args,
}

/// Why there are no options.
#[derive(Debug)]
pub(crate) enum Answer {
    /// That is what was asked for.
    Help(String),
    /// One line: what is wrong and what would be right.
    Usage(String),
}

/// Relays TCP connections: every client that connects to --from is connected to --to.
///
/// How a stream ends is passed on truthfully: a FIN as a FIN, after the last byte before it; everything else as a reset.
#[derive(Debug, Parser)]
#[command(name = "tproxy", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Args {
    /// Address and port to listen on; [::]:PORT takes IPv4 too, port 0 lets the system choose
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:6101", value_parser = listen_address)]
    #[arg(help_heading = "Addresses", allow_hyphen_values = true)]
    from: SocketAddr,

    /// Address or name, and port, to connect to; a name is resolved once, all its addresses are used
    #[arg(short, long, value_name = "ADDR", value_parser = target)]
    #[arg(help_heading = "Addresses", allow_hyphen_values = true)]
    to: Target,

    /// How long connecting to the upstream may take, attempts and pauses included
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    #[arg(help_heading = "Connecting", allow_hyphen_values = true)]
    connect_timeout: Duration,

    /// How often all the upstream's addresses are tried before the client is reset
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    #[arg(help_heading = "Connecting", allow_hyphen_values = true)]
    connect_attempts: u32,

    /// Reset both ends when nothing moved for so long after one of them finished; or off
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration_or_off)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    half_close_timeout: Timeout,

    /// Reset both ends when nothing moved for so long; or off
    #[arg(long, value_name = "TIME", default_value = "off", value_parser = duration_or_off)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    idle_timeout: Timeout,

    /// How long sessions may take to finish after SIGINT or SIGTERM; 0 resets them at once, off waits for ever
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = drain_timeout)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    drain_timeout: Timeout,

    /// Before a reset, how long a peer may take to acknowledge the next byte it is owed (short for a WAN)
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = duration)]
    #[arg(help_heading = "Ending", allow_hyphen_values = true)]
    reset_grace: Duration,

    /// Bytes a direction may hold, 4k to 16M; only one that holds bytes has a buffer, and one that is spliced a pipe
    #[arg(long, value_name = "SIZE", default_value = "64k", value_parser = buffer_size)]
    #[arg(help_heading = "Limits", allow_hyphen_values = true)]
    buffer_size: usize,

    /// Let bytes pass through a pipe of the kernel's instead of copying them: auto when a direction has proved to be bulk
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = splice())]
    #[arg(help_heading = "Limits", allow_hyphen_values = true)]
    splice: Splice,

    /// Sessions at a time; more wait in the kernel's queue [default: what the limit of open files allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(help_heading = "Limits", allow_hyphen_values = true)]
    max_sessions: Option<u32>,

    /// Say more: -v for debug, -vv for trace
    #[arg(short, long, action = ArgAction::Count, help_heading = "Log")]
    verbose: u8,

    /// Say less: -q for warnings and errors, -qq for errors only
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "verbose", help_heading = "Log")]
    quiet: u8,
}

const AFTER_HELP: &str = "\
TIME is 5s, 1m30s, 250ms; plain digits are seconds; 1ms to 365 days. SIZE is 4096, 64k, 1M; k is 1024.
RUST_LOG (error, warn, info, debug, trace or off) sets the log's level if neither -v nor -q does.

SIGINT and SIGTERM: no new clients, the sessions finish. A second one does not wait.
Exit codes: 0 drained, 1 failed while running, 2 usage, 3 cannot listen, 4 sessions were reset when stopping.";

/// Reads the command line and RUST_LOG.
pub(crate) fn parse() -> Result<Options, Answer> {
    let args = Args::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Answer::Help(error.to_string()),
        _ => Answer::Usage(one_line(&error.to_string())),
    })?;
    let rust_log = std::env::var_os("RUST_LOG").map(|value| value.to_string_lossy().into_owned());
    let (level, warning) = level(args.verbose, args.quiet, rust_log.as_deref());
    Ok(Options { from: args.from, to: args.to.clone(), level, warnings: warning.into_iter().collect(), args })
}

impl Options {
    /// Puts everything but the addresses into the configuration.
    pub(crate) fn apply(&self, config: &mut Config) {
        config.connect_timeout = self.args.connect_timeout;
        config.connect_attempts = self.args.connect_attempts;
        config.half_close_timeout = self.args.half_close_timeout.0;
        config.idle_timeout = self.args.idle_timeout.0;
        config.drain_timeout = self.args.drain_timeout.0;
        config.reset_grace = self.args.reset_grace;
        config.buffer_size = self.args.buffer_size;
        config.splice = self.args.splice;
        config.max_sessions = self.args.max_sessions.map(|sessions| sessions as usize);
    }
}

/// clap's message without its usage and its pointer to --help, on one line.
fn one_line(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let said = message.split("\n\n").filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
    let said: Vec<_> = said.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    format!("{} (see --help)", said.join("; "))
}

/// Flags win over RUST_LOG, which is one level; anything else is a warning.
fn level(verbose: u8, quiet: u8, rust_log: Option<&str>) -> (LevelFilter, Option<String>) {
    let flags = match (verbose, quiet) {
        (0, 0) => None,
        (0, 1) => Some(LevelFilter::Warn),
        (0, _) => Some(LevelFilter::Error),
        (1, _) => Some(LevelFilter::Debug),
        (_, _) => Some(LevelFilter::Trace),
    };
    let default = flags.unwrap_or(LevelFilter::Info);
    match rust_log.filter(|text| !text.is_empty()).map(|text| (text, text.parse())) {
        None => (default, None),
        Some((_, Ok(level))) => (flags.unwrap_or(level), None),
        Some((text, Err(_))) => {
            let levels = "error, warn, info, debug, trace or off";
            (default, Some(format!("RUST_LOG={text:?} is not a level; write {levels}")))
        }
    }
}

/// Where to connect to, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Address(SocketAddr),
    Name(String, u16),
}

impl Target {
    /// All the addresses behind it, each once. Asks the system's resolver, and takes as long as that does.
    pub(crate) fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let (name, port) = match self {
            Self::Address(address) => return Ok(vec![*address]),
            Self::Name(name, port) => (name.as_str(), *port),
        };
        let mut seen = HashSet::new();
        let found = (name, port).to_socket_addrs().map(|found| found.filter(|address| seen.insert(*address)).collect());
        match found {
            Ok(addresses) if !Vec::is_empty(&addresses) => Ok(addresses),
            Ok(_) => Err(format!("--to {name}:{port}: the name has no address")),
            Err(error) => Err(format!("--to {name}:{port}: the name does not resolve: {error}")),
        }
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    Err(match text.rsplit_once(':') {
        _ if text.parse::<Ipv6Addr>().is_ok() => {
            format!("an IPv6 address goes in brackets, with a port: [{text}]:6101")
        }
        Some((_, port)) if port_number(port).is_none() => {
            format!("{port:?} is not a port; write 0 to 65535")
        }
        Some(("", port)) => {
            format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} or [::]:{port} for every interface")
        }
        Some((name, port)) => {
            format!("{name:?} is not an address of this machine; write one, such as 127.0.0.1:{port} or [::]:{port}")
        }
        None => format!("the port is missing; write an address and a port, such as {}", with_port(text, "6101")),
    })
}

fn target(text: &str) -> Result<Target, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err("nobody can be reached at port 0; write 1 to 65535".to_owned()),
            _ => Ok(Target::Address(address)),
        };
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or(rest);
        return Err(format!("{scheme}:// is not part of it; write {rest}"));
    }
    let (name, port) = match text.rsplit_once(':') {
        _ if text.parse::<Ipv6Addr>().is_ok() => {
            return Err(format!("an IPv6 address goes in brackets, with a port: [{text}]:8888"));
        }
        None => {
            return Err(format!("the port is missing; write {}", with_port(text, "8888")));
        }
        Some(parts) => parts,
    };
    match port_number(port) {
        None => Err(format!("{port:?} is not a port; write 1 to 65535")),
        Some(0) => Err("nobody can be reached at port 0; write 1 to 65535".to_owned()),
        Some(port) if name.is_empty() => Err(format!("the address is missing; write 127.0.0.1:{port} or a name")),
        Some(port) if name.contains(|c: char| c.is_control() || c.is_whitespace() || ":[]/@".contains(c)) => Err(
            format!("{name:?} is neither an address nor a name; write one, such as localhost:{port} or [::1]:{port}"),
        ),
        Some(port) => Ok(Target::Name(name.to_owned(), port)),
    }
}

/// A port is digits: no sign, no name of a service.
fn port_number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The example in a complaint, with what was written if that makes sense.
fn with_port(text: &str, port: &str) -> String {
    let host = if text.is_empty() || text.parse::<u16>().is_ok() { "127.0.0.1" } else { text };
    let port = if text.parse::<u16>().is_ok() { text } else { port };
    format!("{host}:{port}")
}

/// A time, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timeout(Option<Duration>);

fn duration(text: &str) -> Result<Duration, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = if digits { text.parse().ok().map(Duration::from_secs) } else { humantime::parse_duration(text).ok() };
    match parsed {
        Some(duration) if (Duration::from_millis(1)..=YEAR).contains(&duration) => Ok(duration),
        Some(_) | None => {
            Err("write a time between 1ms and 365 days, such as 5s, 1m30s or 250ms (plain digits are seconds)"
                .to_owned())
        }
    }
}

fn duration_or_off(text: &str) -> Result<Timeout, String> {
    match text {
        "off" => Ok(Timeout(None)),
        _ => duration(text).map(|time| Timeout(Some(time))).map_err(|error| format!("{error}, or off")),
    }
}

fn drain_timeout(text: &str) -> Result<Timeout, String> {
    match text {
        "0" | "0s" | "0ms" => Ok(Timeout(Some(Duration::ZERO))),
        _ => duration_or_off(text).map_err(|error| format!("{error}, or 0")),
    }
}

/// When to splice. The words are listed in the help and in the complaint about any other.
fn splice() -> impl TypedValueParser<Value = Splice> {
    PossibleValuesParser::new(["auto", "on", "off"]).map(|word| match word.as_str() {
        "on" => Splice::On,
        "off" => Splice::Off,
        _ => Splice::Auto,
    })
}

/// Bytes, with k and M for 1024 and 1024².
fn buffer_size(text: &str) -> Result<usize, String> {
    let count = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[count.len()..] {
        "" | "B" => Some(1),
        "k" | "K" | "KiB" => Some(1 << 10),
        "m" | "M" | "MiB" => Some(1 << 20),
        _ => None,
    };
    let digits = count.bytes().all(|byte| byte.is_ascii_digit());
    match (count.parse::<usize>().ok().filter(|_| digits), unit) {
        (Some(count), Some(unit)) if (4 << 10..=16 << 20).contains(&count.saturating_mul(unit)) => Ok(count * unit),
        (Some(_), Some(_)) => Err("a buffer has 4k to 16M".to_owned()),
        (None, _) | (_, None) => Err("not a size; write 4096, 64k or 1M (4k to 16M)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let args = Args::try_parse_from(["tproxy", "-t", "127.0.0.1:80"]).unwrap();
        let options =
            Options { from: args.from, to: args.to.clone(), level: LevelFilter::Info, warnings: Vec::new(), args };
        let defaults = Config::new("127.0.0.1:6101".parse().unwrap(), options.to.resolve().unwrap());
        let mut config = defaults.clone();
        // Something else everywhere, so that what is not set shows.
        config.connect_timeout = Duration::ZERO;
        config.connect_attempts = 0;
        config.half_close_timeout = None;
        config.idle_timeout = Some(Duration::ZERO);
        config.drain_timeout = None;
        config.reset_grace = Duration::ZERO;
        config.buffer_size = 0;
        config.splice = Splice::Off;
        config.max_sessions = Some(0);
        options.apply(&mut config);
        assert_eq!(config, defaults);
        assert_eq!(options.from, defaults.from);
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, millis) in [
            ("5s", 5000),
            ("5", 5000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("250ms", 250),
            ("1ms", 1),
            ("365days", 365 * 86_400_000),
            ("31536000", 365 * 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "0", "0s", "-5s", "-5", "999us", "366d", "31536001", "99999999999999999999", "5 parsecs", "off"]
        {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn some_times_can_be_off_and_the_drain_can_be_zero() {
        assert_eq!(duration_or_off("off"), Ok(Timeout(None)));
        assert_eq!(duration_or_off("1s"), Ok(Timeout(Some(Duration::from_secs(1)))));
        assert!(duration_or_off("0").unwrap_err().ends_with("or off"));
        for text in ["0", "0s", "0ms"] {
            assert_eq!(drain_timeout(text), Ok(Timeout(Some(Duration::ZERO))));
        }
        assert_eq!(drain_timeout("off"), Ok(Timeout(None)));
        assert_eq!(drain_timeout("2s"), Ok(Timeout(Some(Duration::from_secs(2)))));
        assert!(drain_timeout("-1s").is_err());
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [("4k", 4096), ("4096", 4096), ("64k", 65536), ("64K", 65536), ("64KiB", 65536)] {
            assert_eq!(buffer_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(buffer_size("16M"), Ok(16 << 20));
        for text in
            ["0", "4095", "3k", "17M", "16777217", "", "k", "64kb", "-64k", "+64k", "6.4k", "99999999999999999999M"]
        {
            assert!(buffer_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_to_listen_on_is_literal() {
        for text in ["127.0.0.1:6101", "0.0.0.0:0", "[::]:80", "[::1]:65535"] {
            assert_eq!(listen_address(text).unwrap().to_string(), text);
        }
        for (text, advice) in [
            (":8080", "0.0.0.0:8080"),
            (":8080", "[::]:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("127.0.0.1", "127.0.0.1:6101"),
            ("8080", "127.0.0.1:8080"),
            ("::1", "[::1]:6101"),
            ("127.0.0.1:http", "0 to 65535"),
            ("127.0.0.1:+80", "0 to 65535"),
            ("127.0.0.1:65536", "0 to 65535"),
            ("127.0.0.1:", "0 to 65535"),
            ("", "127.0.0.1:6101"),
        ] {
            let complaint = listen_address(text).unwrap_err();
            assert!(complaint.contains(advice), "{text}: {complaint}");
        }
    }

    #[test]
    fn a_target_is_an_address_or_a_name_with_a_port() {
        assert_eq!(target("127.0.0.1:80"), Ok(Target::Address("127.0.0.1:80".parse().unwrap())));
        assert_eq!(target("[::1]:80"), Ok(Target::Address("[::1]:80".parse().unwrap())));
        assert_eq!(target("db.example:5432"), Ok(Target::Name("db.example".into(), 5432)));
        for (text, advice) in [
            ("127.0.0.1:0", "1 to 65535"),
            ("localhost:0", "1 to 65535"),
            ("localhost", "localhost:8888"),
            ("8888", "127.0.0.1:8888"),
            (":8888", "127.0.0.1:8888"),
            ("::1", "[::1]:8888"),
            ("localhost:http", "1 to 65535"),
            ("localhost:99999", "1 to 65535"),
            ("http://localhost:80/index.html", "write localhost:80"),
            ("127.0.0.1:+80", "1 to 65535"),
            ("a\nb:80", "localhost:80"),
            ("[::1:80", "[::1]:80"),
            ("", "127.0.0.1:8888"),
        ] {
            let complaint = target(text).unwrap_err();
            assert!(complaint.contains(advice), "{text}: {complaint}");
        }
    }

    #[test]
    fn an_address_resolves_to_itself_and_a_name_to_each_address_once() {
        assert_eq!(target("127.0.0.1:80").unwrap().resolve().unwrap().len(), 1);
        let found = target("localhost:80").unwrap().resolve().unwrap();
        let distinct: HashSet<_> = found.iter().collect();
        assert!(!found.is_empty() && distinct.len() == found.len(), "{found:?}");
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
        let complaint = target("no-such-name.invalid:80").unwrap().resolve().unwrap_err();
        assert!(complaint.contains("--to no-such-name.invalid:80"), "{complaint}");
    }

    #[test]
    fn flags_win_over_rust_log_and_nonsense_is_a_warning() {
        use LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
        for (verbose, quiet, rust_log, expected) in [
            (0, 0, None, Info),
            (1, 0, None, Debug),
            (2, 0, None, Trace),
            (9, 0, None, Trace),
            (0, 1, None, Warn),
            (0, 2, None, Error),
            (0, 0, Some("debug"), Debug),
            (0, 0, Some("OFF"), Off),
            (0, 0, Some(""), Info),
            (1, 0, Some("error"), Debug),
            (0, 1, Some("trace"), Warn),
        ] {
            assert_eq!(level(verbose, quiet, rust_log), (expected, None));
        }
        let (fallback, warning) = level(0, 0, Some("tproxy=debug"));
        assert_eq!(fallback, Info);
        assert!(warning.unwrap().contains("tproxy=debug"));
    }

    #[test]
    fn a_complaint_is_one_line_that_names_the_argument() {
        for (line, words) in [
            (vec!["tproxy"], vec!["--to <ADDR>"]),
            (vec!["tproxy", "-t", "a:1", "--buffer-size", "0"], vec!["--buffer-size", "4k to 16M"]),
            (vec!["tproxy", "-t", "a:1", "--idle-timeout", "-5s"], vec!["--idle-timeout", "-5s"]),
            (vec!["tproxy", "-t", "a:1", "--max-sessions", "0"], vec!["--max-sessions", "0"]),
            (vec!["tproxy", "-t", "a:1", "--connect-attempts", "-1"], vec!["--connect-attempts", "-1"]),
            (vec!["tproxy", "-t", "a:1", "--nonsense"], vec!["--nonsense"]),
        ] {
            let complaint = one_line(&Args::try_parse_from(line).unwrap_err().to_string());
            assert!(!complaint.contains('\n'), "{complaint}");
            words.iter().for_each(|word| assert!(complaint.contains(word), "{complaint}"));
        }
    }
}

#[cfg(test)]
mod properties {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    /// Reads a text in every way there is.
    fn read(text: &str) {
        let _ = (listen_address(text), target(text), duration(text), duration_or_off(text), drain_timeout(text));
        let _ = (buffer_size(text), level(0, 0, Some(text)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>()) {
            read(&text);
        }

        #[test]
        fn no_text_that_looks_right_makes_a_parser_panic(text in "[0-9a-zA-Zµ.:+/\\[\\] -]{0,24}") {
            read(&text);
        }

        #[test]
        fn an_address_that_was_printed_is_read_back(ip in any::<IpAddr>(), port in 1_u16..) {
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(listen_address(&address.to_string()), Ok(address));
            prop_assert_eq!(target(&address.to_string()), Ok(Target::Address(address)));
        }

        #[test]
        fn a_name_that_was_printed_is_read_back(name in "[a-z][a-z0-9.-]{0,40}", port in 1_u16..) {
            prop_assert_eq!(target(&format!("{name}:{port}")), Ok(Target::Name(name, port)));
        }

        #[test]
        fn a_time_that_was_printed_is_read_back(millis in 1_u64..=365 * 24 * 3600 * 1000) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(duration(&humantime::format_duration(time).to_string()), Ok(time));
            prop_assert_eq!(duration_or_off(&format!("{millis}ms")), Ok(Timeout(Some(time))));
        }

        #[test]
        fn a_size_that_was_printed_is_read_back(bytes in 4096_usize..=16 << 20, kib in 4_usize..=16 << 10) {
            prop_assert_eq!(buffer_size(&bytes.to_string()), Ok(bytes));
            prop_assert_eq!(buffer_size(&format!("{kib}k")), Ok(kib << 10));
        }
    }
}
